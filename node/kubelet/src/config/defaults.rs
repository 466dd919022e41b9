//! Upstream's defaults, and its rule that a zero is no value.
//!
//! Upstream: `SetDefaults_KubeletConfiguration`, `pkg/kubelet/eviction/defaults_linux.go`.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{
    API_VERSION, Authentication, Authorization, CrashLoopBackOff, KIND, KubeletConfiguration,
    MemorySwap, UserNamespaces,
};
use crate::duration::GoDuration;

/// Fields where a zero, or nothing in quotes, means the default.
const ZERO_IS_UNSET: &[&str] = &[
    "syncFrequency",
    "fileCheckFrequency",
    "httpCheckFrequency",
    "address",
    "port",
    "authentication.webhook.cacheTTL",
    "authorization.mode",
    "authorization.webhook.cacheAuthorizedTTL",
    "authorization.webhook.cacheUnauthorizedTTL",
    "registryBurst",
    "eventBurst",
    "healthzBindAddress",
    "streamingConnectionIdleTimeout",
    "nodeStatusReportFrequency",
    "nodeStatusUpdateFrequency",
    "nodeLeaseDurationSeconds",
    "imageMinimumGCAge",
    "volumeStatsAggPeriod",
    "cgroupDriver",
    "cpuManagerPolicy",
    "cpuManagerReconcilePeriod",
    "draManagerReconcilePeriod",
    "memoryManagerPolicy",
    "memoryReservationPolicy",
    "topologyManagerPolicy",
    "topologyManagerScope",
    "runtimeRequestTimeout",
    "hairpinMode",
    "maxPods",
    "maxOpenFiles",
    "contentType",
    "kubeAPIBurst",
    "evictionPressureTransitionPeriod",
    "containerLogMaxSize",
    "configMapAndSecretChangeDetectionStrategy",
    "volumePluginDir",
    "containerRuntimeEndpoint",
    "podLogsDir",
    "tlsCertFile",
    "tlsPrivateKeyFile",
];

impl Default for KubeletConfiguration {
    fn default() -> Self {
        let seconds = GoDuration::seconds;
        let none = BTreeMap::<String, String>::new;
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            enable_server: true,
            static_pod_path: String::new(),
            pod_logs_dir: "/var/log/pods".to_owned(),
            sync_frequency: seconds(60),
            file_check_frequency: seconds(20),
            http_check_frequency: seconds(20),
            static_pod_url: String::new(),
            static_pod_url_header: BTreeMap::new(),
            address: "0.0.0.0".to_owned(),
            port: 10250,
            read_only_port: 0,
            tls_cert_file: None,
            tls_private_key_file: None,
            tls_cipher_suites: Vec::new(),
            tls_curve_preferences: Vec::new(),
            tls_min_version: String::new(),
            rotate_certificates: false,
            server_tls_bootstrap: false,
            authentication: Authentication::default(),
            authorization: Authorization::default(),
            registry_pull_qps: 5,
            registry_burst: 10,
            image_pull_credentials_verification_policy: "NeverVerifyPreloadedImages".to_owned(),
            preloaded_images_verification_allowlist: Vec::new(),
            event_record_qps: 50,
            event_burst: 100,
            enable_debugging_handlers: true,
            enable_contention_profiling: false,
            healthz_port: 10248,
            healthz_bind_address: "127.0.0.1".to_owned(),
            oom_score_adj: -999,
            cluster_domain: String::new(),
            cluster_dns: Vec::new(),
            streaming_connection_idle_timeout: seconds(4 * 3600),
            node_status_update_frequency: seconds(10),
            node_status_report_frequency: seconds(300),
            node_lease_duration_seconds: 40,
            image_minimum_gc_age: seconds(120),
            image_maximum_gc_age: seconds(0),
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            volume_stats_agg_period: seconds(60),
            kubelet_cgroups: String::new(),
            system_cgroups: String::new(),
            cgroup_root: String::new(),
            cgroups_per_qos: true,
            cgroup_driver: "cgroupfs".to_owned(),
            cpu_manager_policy: "none".to_owned(),
            single_process_oom_kill: None,
            cpu_manager_policy_options: none(),
            cpu_manager_reconcile_period: seconds(10),
            dra_manager_reconcile_period: seconds(60),
            memory_manager_policy: "None".to_owned(),
            topology_manager_policy: "none".to_owned(),
            topology_manager_scope: "container".to_owned(),
            topology_manager_policy_options: none(),
            qos_reserved: none(),
            runtime_request_timeout: seconds(120),
            hairpin_mode: "promiscuous-bridge".to_owned(),
            max_pods: 110,
            pod_cidr: String::new(),
            pod_pids_limit: -1,
            resolv_conf: "/etc/resolv.conf".to_owned(),
            run_once: false,
            cpu_cfs_quota: true,
            cpu_cfs_quota_period: GoDuration(Duration::from_millis(100)),
            node_status_max_images: 50,
            max_open_files: 1_000_000,
            content_type: "application/vnd.kubernetes.protobuf".to_owned(),
            kube_api_qps: 50,
            kube_api_burst: 100,
            serialize_image_pulls: true,
            max_parallel_image_pulls: None,
            eviction_hard: eviction_hard(),
            eviction_soft: none(),
            eviction_soft_grace_period: none(),
            eviction_pressure_transition_period: seconds(300),
            eviction_max_pod_grace_period: 0,
            eviction_minimum_reclaim: none(),
            merge_default_eviction_settings: false,
            pods_per_core: 0,
            enable_controller_attach_detach: true,
            protect_kernel_defaults: false,
            make_iptables_util_chains: true,
            iptables_masquerade_bit: 14,
            iptables_drop_bit: 15,
            feature_gates: BTreeMap::new(),
            fail_swap_on: true,
            memory_swap: MemorySwap::default(),
            container_log_max_size: "10Mi".to_owned(),
            container_log_max_files: 5,
            container_log_max_workers: 1,
            container_log_monitor_interval: seconds(10),
            config_map_and_secret_change_detection_strategy: "Watch".to_owned(),
            system_reserved: none(),
            kube_reserved: none(),
            reserved_system_cpus: String::new(),
            show_hidden_metrics_for_version: String::new(),
            system_reserved_cgroup: String::new(),
            kube_reserved_cgroup: String::new(),
            enforce_node_allocatable: vec!["pods".to_owned()],
            allowed_unsafe_sysctls: Vec::new(),
            volume_plugin_dir: "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/".to_owned(),
            provider_id: String::new(),
            kernel_memcg_notification: false,
            logging: json!({ "format": "text", "flushFrequency": "5s", "verbosity": 0 }),
            enable_system_log_handler: true,
            enable_system_log_query: false,
            shutdown_grace_period: seconds(0),
            shutdown_grace_period_critical_pods: seconds(0),
            shutdown_grace_period_by_pod_priority: Vec::new(),
            crash_loop_back_off: CrashLoopBackOff::default(),
            reserved_memory: Vec::new(),
            enable_profiling_handler: true,
            enable_debug_flags_handler: true,
            seccomp_default: false,
            memory_throttling_factor: 0.9,
            memory_reservation_policy: "None".to_owned(),
            register_with_taints: Vec::new(),
            register_node: true,
            tracing: Value::Null,
            local_storage_capacity_isolation: true,
            container_runtime_endpoint: "unix:///run/containerd/containerd.sock".to_owned(),
            image_service_endpoint: String::new(),
            fail_cgroup_v1: false,
            user_namespaces: UserNamespaces::default(),
            allocatable_ignores_eviction: false,
        }
    }
}

fn eviction_hard() -> BTreeMap<String, String> {
    [
        ("memory.available", "100Mi"),
        ("nodefs.available", "10%"),
        ("nodefs.inodesFree", "5%"),
        ("imagefs.available", "15%"),
        ("imagefs.inodesFree", "5%"),
    ]
    .map(|(signal, limit)| (signal.to_owned(), limit.to_owned()))
    .into()
}

/// Takes what stands for a default out of what was written, and adds the defaults that depend on
/// other fields.
pub(super) fn apply(written: &mut Value) {
    remove_nulls(written);
    for path in ZERO_IS_UNSET {
        remove_zero(written, path);
    }
    let has = |written: &Value, name: &str| written.get(name).is_some();
    // Who sets how often the status is computed has meant how often it is sent.
    if has(written, "nodeStatusUpdateFrequency") && !has(written, "nodeStatusReportFrequency") {
        written["nodeStatusReportFrequency"] = written["nodeStatusUpdateFrequency"].clone();
    }
    if !has(written, "serializeImagePulls")
        && written["maxParallelImagePulls"].as_i64().is_some_and(|it| it >= 2)
    {
        written["serializeImagePulls"] = json!(false);
    }
    if written["podPidsLimit"].as_i64().is_some_and(|it| it < 0) {
        written["podPidsLimit"] = json!(-1);
    }
    // A negative period switches the measuring of volumes off.
    if written["volumeStatsAggPeriod"].as_str().is_some_and(|it| it.starts_with('-')) {
        written["volumeStatsAggPeriod"] = json!("0s");
    }
    if written["mergeDefaultEvictionSettings"] == json!(true) {
        let mut merged = json!(eviction_hard());
        super::load::merge(&mut merged, written["evictionHard"].clone());
        written["evictionHard"] = merged;
    }
}

fn remove_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, it| !it.is_null());
        map.values_mut().for_each(remove_nulls);
    }
}

fn remove_zero(written: &mut Value, path: &str) {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = &mut *written;
    for part in parents.split('.').filter(|it| !it.is_empty()) {
        match at.get_mut(part) {
            Some(inner) => at = inner,
            None => return,
        }
    }
    let Value::Object(map) = at else { return };
    let is_zero = |it: &Value| match it {
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => {
            text.is_empty() || crate::duration::parse(text) == Some(Duration::ZERO)
        }
        _ => false,
    };
    if map.get(last).is_some_and(is_zero) {
        map.remove(last);
    }
}
