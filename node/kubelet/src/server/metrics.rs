//! `/metrics` and `/metrics/probes`: what the kubelet counts, and what it knows at this moment.
//!
//! Upstream: `pkg/kubelet/metrics/metrics.go`, `pkg/kubelet/prober`.
//!
//! Deviation: families are told of what something here counts: not the Go runtime's, nor those of single
//! writes to cgroups, of pods and volumes that were cleared away as orphans, of resizes and of
//! `kubernetes_feature_enabled`. Requests to the API server are told without its `host`, work on volumes
//! without their unmounting.

use std::collections::BTreeMap;

use http::{HeaderValue, Response, header::CONTENT_TYPE};
use transport::Body;

use super::{Server, health};
use crate::{
    metrics::text::Exposition,
    observed::State,
    pod::PodExt,
    settings::VERSION,
    stats::{group, model::VolumeStats},
};

const NONE: [(&str, &str); 0] = [];

pub(super) fn answer(page: Exposition) -> Response<Body> {
    let mut response = Response::new(transport::full(page.finish()));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

type ReadVolume = fn(&VolumeStats) -> f64;

/// Upstream: `pkg/kubelet/metrics/collectors/volume_stats.go`.
const OF_VOLUMES: [(&str, &str, ReadVolume); 6] = [
    ("kubelet_volume_stats_capacity_bytes", "Capacity in bytes of the volume", |it| {
        it.fs.capacity_bytes as f64
    }),
    ("kubelet_volume_stats_available_bytes", "Number of available bytes in the volume", |it| {
        it.fs.available_bytes as f64
    }),
    ("kubelet_volume_stats_used_bytes", "Number of used bytes in the volume", |it| {
        it.fs.used_bytes.unwrap_or(0) as f64
    }),
    ("kubelet_volume_stats_inodes", "Maximum number of inodes in the volume", |it| {
        it.fs.inodes as f64
    }),
    ("kubelet_volume_stats_inodes_free", "Number of free inodes in the volume", |it| {
        it.fs.inodes_free as f64
    }),
    ("kubelet_volume_stats_inodes_used", "Number of used inodes in the volume", |it| {
        it.fs.inodes_used.unwrap_or(0) as f64
    }),
];

/// How full claimed volumes are, each told once however many pods use it.
fn of_claims(page: &mut Exposition, volumes: &[VolumeStats]) {
    let claims: BTreeMap<_, _> = volumes
        .iter()
        .filter_map(|it| {
            let claim = it.pvc_ref.as_ref()?;
            Some(((claim.namespace.as_str(), claim.name.as_str()), it))
        })
        .collect();
    if claims.is_empty() {
        return;
    }
    let labels = |(namespace, name)| [("namespace", namespace), ("persistentvolumeclaim", name)];
    for (name, help, read) in OF_VOLUMES {
        page.begin(name, "gauge", help);
        for (claim, it) in &claims {
            page.sample(name, &labels(*claim), read(it));
        }
    }
    let name = "kubelet_volume_stats_health_status_abnormal";
    let known =
        || claims.iter().filter_map(|(claim, it)| Some((claim, it.volume_health_stats.as_ref()?)));
    if known().next().is_none() {
        return;
    }
    let help = "Abnormal volume health status. The count is either 1 or 0. 1 indicates the volume is unhealthy, 0 indicates volume is healthy";
    page.begin(name, "gauge", help);
    for (claim, health) in known() {
        page.sample(name, &labels(*claim), f64::from(u8::from(health.abnormal)));
    }
}

fn is_of_probes(name: &str) -> bool {
    name.starts_with("prober_")
}

impl Server {
    pub(super) async fn metrics(&self) -> Response<Body> {
        let claims = self.stats.claims().await;
        let mut page = Exposition::default();
        of_claims(&mut page, &claims);
        self.context.metrics.write(&mut page, |it| !is_of_probes(it) && !health::is_sli(it));
        self.identity(&mut page);
        self.pods_now(&mut page);
        self.volumes_now(&mut page);
        self.process(&mut page);
        answer(page)
    }

    pub(super) fn metrics_probes(&self) -> Response<Body> {
        let mut page = Exposition::default();
        self.context.metrics.write(&mut page, is_of_probes);
        answer(page)
    }

    fn identity(&self, page: &mut Exposition) {
        let name = "kubelet_node_name";
        page.begin(name, "gauge", "The node's name. The count is always 1.");
        page.sample(name, &[("node", &self.context.settings.node_name)], 1.0);
        let name = "kubernetes_build_info";
        page.begin(name, "gauge", "The version of this kubelet.");
        let minor = VERSION.split('.').nth(1).unwrap_or_default();
        page.sample(name, &[("git_version", VERSION), ("major", "1"), ("minor", minor)], 1.0);
    }

    fn pods_now(&self, page: &mut Exposition) {
        let pods = self.workers.pods();
        let (mut running, mut states) = (0, BTreeMap::from([("created", 0), ("running", 0)]));
        let (mut statics, mut mirrored) = (0, 0);
        for pod in &pods {
            let observed = self.workers.observed(&pod.uid()).unwrap_or_default();
            running += u32::from(observed.ready_sandbox().is_some());
            for container in &observed.containers {
                let state = match container.state {
                    State::Created => "created",
                    State::Running { .. } => "running",
                    State::Exited { .. } => "exited",
                    State::Unknown => "unknown",
                };
                *states.entry(state).or_insert(0) += 1;
            }
            let is_static = pod.is_mirror_or_static();
            statics += u32::from(is_static);
            mirrored += u32::from(is_static && !self.context.settings.is_standalone);
        }
        let name = "kubelet_running_pods";
        page.begin(name, "gauge", "Pods that have a running sandbox.");
        page.sample(name, &NONE, f64::from(running));
        let name = "kubelet_running_containers";
        page.begin(name, "gauge", "Containers, by their state.");
        for (state, count) in states {
            page.sample(name, &[("container_state", state)], f64::from(count));
        }
        let all = u32::try_from(pods.len()).unwrap_or(u32::MAX);
        for (name, help) in [
            ("kubelet_desired_pods", "Pods that this kubelet is told to run."),
            ("kubelet_active_pods", "Pods that this kubelet takes care of."),
        ] {
            page.begin(name, "gauge", help);
            page.sample(name, &[("static", "")], f64::from(all - statics));
            page.sample(name, &[("static", "true")], f64::from(statics));
        }
        let name = "kubelet_mirror_pods";
        page.begin(name, "gauge", "Mirrors of static pods that this kubelet has made.");
        page.sample(name, &NONE, f64::from(mirrored));
        let name = "kubelet_working_pods";
        page.begin(name, "gauge", "Pods that have a worker.");
        page.sample(name, &NONE, f64::from(all));
    }

    fn volumes_now(&self, page: &mut Exposition) {
        let totals = self.context.volumes.totals(&self.workers.pods());
        if totals.is_empty() {
            return;
        }
        let name = "volume_manager_total_volumes";
        page.begin(name, "gauge", "Volumes that pods are to have, and have.");
        for ((plugin, state), count) in totals {
            page.sample(name, &[("plugin_name", &*plugin), ("state", state)], f64::from(count));
        }
    }

    /// What every Prometheus client tells of its process.
    fn process(&self, page: &mut Exposition) {
        let proc = &self.context.settings.proc;
        let Some(own) = group::process(proc, "self") else { return };
        let name = "process_cpu_seconds_total";
        page.begin(name, "counter", "User and system CPU time spent, in seconds.");
        page.sample(name, &NONE, own.cpu_nanos as f64 / 1e9);
        let name = "process_resident_memory_bytes";
        page.begin(name, "gauge", "Resident memory, in bytes.");
        page.sample(name, &NONE, own.rss as f64);
        let name = "process_open_fds";
        page.begin(name, "gauge", "Open file descriptors.");
        let open = std::fs::read_dir(proc.join("self/fd")).map_or(0, Iterator::count);
        page.sample(name, &NONE, open as f64);
        let name = "process_start_time_seconds";
        page.begin(name, "gauge", "When the process began, in seconds since the epoch.");
        page.sample(name, &NONE, self.started.as_second() as f64);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::stats::model::{FsStats, PvcReference, VolumeHealthStats};

    #[test]
    fn a_claimed_volume_is_told_once_with_how_full_it_is() {
        let claim = |name: &str| PvcReference { name: name.to_owned(), namespace: "n".to_owned() };
        let volume = |capacity_bytes, available_bytes, pvc_ref| VolumeStats {
            fs: FsStats {
                time: Time(Timestamp::UNIX_EPOCH),
                available_bytes,
                capacity_bytes,
                used_bytes: None,
                inodes_free: 0,
                inodes: 0,
                inodes_used: None,
            },
            name: "v".to_owned(),
            pvc_ref,
            volume_health_stats: None,
            is_local: false,
        };
        let mut full = volume(100, 3, Some(claim("full")));
        full.volume_health_stats = Some(VolumeHealthStats { abnormal: true });
        let (other, unclaimed) = (volume(0, 0, Some(claim("other"))), volume(7, 7, None));
        let mut page = Exposition::default();
        of_claims(&mut page, &[full.clone(), full, other, unclaimed]);
        let text = page.finish();
        let of = |name: &str| {
            let lines = text.lines().filter(|it| it.starts_with(&format!("{name}{{")));
            lines.map(|it| it.rsplit_once('{').unwrap().1.to_owned()).collect::<Vec<_>>()
        };
        let labels = |name: &str| format!("namespace=\"n\",persistentvolumeclaim=\"{name}\"}}");
        let both = |one: u8, two: u8| {
            vec![format!("{} {one}", labels("full")), format!("{} {two}", labels("other"))]
        };
        assert_eq!(of("kubelet_volume_stats_capacity_bytes"), both(100, 0));
        assert_eq!(of("kubelet_volume_stats_available_bytes"), both(3, 0));
        let abnormal = of("kubelet_volume_stats_health_status_abnormal");
        assert_eq!(abnormal, [format!("{} 1", labels("full"))], "who says nothing is not told");
    }
}
