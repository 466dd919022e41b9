//! The families that the kubelet counts itself: upstream's names and kinds, our helps.

/// What a family holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram(&'static [f64]),
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

pub(super) struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    /// Without labels: it is there before anything was counted.
    pub is_bare: bool,
}

/// Prometheus's default buckets.
const DEFAULT: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// From 5 ms, each 2.5 times the one before.
const OPERATIONS: &[f64] = &[
    0.005,
    0.0125,
    0.03125,
    0.078125,
    0.1953125,
    0.48828125,
    1.220703125,
    3.0517578125,
    7.62939453125,
    19.073486328125,
    47.6837158203125,
    119.20928955078125,
    298.0232238769531,
    745.0580596923828,
];
/// From 100 ms, ten linear steps.
const DRA: &[f64] = &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
const STARTS: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0,
    300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help, is_bare: false }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, is_bare: false }
}

const fn histogram(name: &'static str, buckets: &'static [f64], help: &'static str) -> Family {
    Family { name, kind: Kind::Histogram(buckets), help, is_bare: false }
}

const fn bare(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help, is_bare: true }
}

/// Of work on volumes, in seconds.
const STORAGE: &[f64] =
    &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];
const PULLS: &[f64] =
    &[1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 180.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0];
const REQUESTS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// In milliseconds, each twice the one before.
const ADMISSIONS: &[f64] =
    &[0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6, 819.2];

pub(super) const FAMILIES: &[Family] = &[
    counter(
        "kubelet_certificate_manager_client_expiration_renew_errors",
        "Renewals of the client certificate that failed.",
    ),
    gauge(
        "kubelet_certificate_manager_client_ttl_seconds",
        "Time until the client certificate expires; negative when it has.",
    ),
    gauge(
        "kubelet_certificate_manager_server_ttl_seconds",
        "Time until the serving certificate expires; negative when it has.",
    ),
    counter(
        "kubelet_server_expiration_renew_errors",
        "Renewals of the serving certificate that failed.",
    ),
    histogram(
        "dra_operations_duration_seconds",
        DRA,
        "How long the preparation of a pod's claims, and its end, took.",
    ),
    histogram(
        "dra_grpc_operations_duration_seconds",
        DRA,
        "How long calls to drivers of dynamic resources took.",
    ),
    gauge("dra_resource_claims_in_use", "The claims of pods on this node, by driver."),
    counter(
        "kubelet_credential_provider_plugin_errors",
        "Runs of credential provider plugins that failed.",
    ),
    histogram(
        "kubelet_credential_provider_plugin_duration",
        DEFAULT,
        "Time of a run of a credential provider plugin, in seconds.",
    ),
    gauge("kubelet_cgroup_version", "Of the host's cgroups."),
    counter("kubelet_evictions", "Pods ended for want of a resource, by signal."),
    gauge("kubelet_graceful_shutdown_start_time_seconds", "When the last graceful shutdown began."),
    gauge("kubelet_graceful_shutdown_end_time_seconds", "When the last graceful shutdown ended."),
    counter(
        "kubelet_lifecycle_handler_http_fallbacks_total",
        "Hooks that were told over HTTP where HTTPS was asked for.",
    ),
    counter("kubelet_http_requests_total", "Requests to the kubelet's server."),
    histogram(
        "kubelet_http_requests_duration_seconds",
        DEFAULT,
        "How long requests to the kubelet's server took.",
    ),
    gauge("kubelet_http_inflight_requests", "Requests that are being answered."),
    gauge("kubernetes_healthcheck", "What a health check last found: 1 for success."),
    counter("kubernetes_healthchecks_total", "What health checks have found, by status."),
    histogram("csi_operations_seconds", STORAGE, "How long calls to CSI drivers took."),
    counter("kubelet_admission_rejections_total", "Pods that were not admitted, by reason."),
    bare(
        "kubelet_cpu_manager_pinning_requests_total",
        "Containers that were to have CPUs of their own.",
    ),
    bare("kubelet_cpu_manager_pinning_errors_total", "Those of them that did not get any."),
    bare(
        "kubelet_memory_manager_pinning_requests_total",
        "Containers that were to have memory of their own.",
    ),
    bare("kubelet_memory_manager_pinning_errors_total", "Those of them that did not get any."),
    bare(
        "kubelet_topology_manager_admission_requests_total",
        "Pods that were to be given CPUs, memory and devices.",
    ),
    bare("kubelet_topology_manager_admission_errors_total", "Those of them that could not be."),
    histogram(
        "kubelet_topology_manager_admission_duration_ms",
        ADMISSIONS,
        "How long that took, in milliseconds.",
    ),
    histogram(
        "kubelet_image_pull_duration_seconds",
        PULLS,
        "How long pulls of images took, by the size of the image.",
    ),
    histogram(
        "kubelet_pleg_relist_duration_seconds",
        DEFAULT,
        "How long lists of everything took.",
    ),
    histogram("kubelet_pleg_relist_interval_seconds", DEFAULT, "The time between two of them."),
    gauge("kubelet_pleg_last_seen_seconds", "When everything was last listed."),
    histogram(
        "kubelet_pod_worker_duration_seconds",
        DEFAULT,
        "How long one round of a pod's worker took.",
    ),
    counter("kubelet_preemptions", "Pods that made room for a critical one, by what it lacked."),
    histogram(
        "kubelet_run_podsandbox_duration_seconds",
        DEFAULT,
        "How long making a sandbox took, by its handler.",
    ),
    counter("kubelet_run_podsandbox_errors_total", "Sandboxes that could not be made."),
    bare("kubelet_started_pods_total", "Pods whose sandbox was begun."),
    bare("kubelet_started_pods_errors_total", "Those of them whose sandbox could not be made."),
    counter("kubelet_started_containers_total", "Containers that were begun."),
    counter("kubelet_started_containers_errors_total", "Containers that could not be started."),
    counter("rest_client_requests_total", "Requests to the API server, by what it answered."),
    histogram(
        "rest_client_request_duration_seconds",
        REQUESTS,
        "How long requests to the API server took.",
    ),
    histogram(
        "storage_operation_duration_seconds",
        STORAGE,
        "How long work on volumes took, by plug-in.",
    ),
    counter("kubelet_image_garbage_collected_total", "Images that were removed, by reason."),
    counter("kubelet_runtime_operations_total", "Calls to the container runtime."),
    counter("kubelet_runtime_operations_errors_total", "Calls to the runtime that failed."),
    histogram(
        "kubelet_runtime_operations_duration_seconds",
        OPERATIONS,
        "How long calls to the container runtime took.",
    ),
    histogram(
        "kubelet_pod_start_duration_seconds",
        STARTS,
        "From the first sight of a pod to its first running container.",
    ),
    histogram(
        "kubelet_pod_start_total_duration_seconds",
        STARTS,
        "From the creation of a pod to the sight of all its containers running.",
    ),
    histogram(
        "kubelet_pod_start_sli_duration_seconds",
        STARTS,
        "As the total, without pulls of images and without init containers.",
    ),
    counter("prober_probe_total", "Probes of containers, by their result."),
    histogram("prober_probe_duration_seconds", DEFAULT, "How long probes took."),
];
