//! How long pods take to start, for the metrics.
//!
//! `kubelet_pod_start_duration_seconds` runs from the first sight of a pod until its status says that it
//! runs. `…_start_total_…` and `…_start_sli_…` run from the pod's creation until the watch shows all of
//! its containers started; the latter leaves out pulls and init containers.
//!
//! Upstream: `pkg/kubelet/util/pod_startup_latency_tracker.go`, `SyncPod` in `pkg/kubelet/kubelet.go`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use clock::Clock;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    metrics::Metrics,
    pod::{Kind, PodExt, PodUid, init_kind},
};

pub(crate) struct PodStarts {
    clock: Clock,
    metrics: Arc<Metrics>,
    pods: Mutex<HashMap<PodUid, Start>>,
}

type Span = (Timestamp, Timestamp);

struct Start {
    seen: Instant,
    is_running: bool,
    pulls: Vec<Span>,
}

impl PodStarts {
    pub(crate) fn new(clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { clock, metrics, pods: Mutex::default() }
    }

    /// The kubelet hears of a pod.
    pub(crate) fn begin(&self, pod: &Pod) {
        let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
        if matches!(phase, None | Some("" | "Pending")) {
            let start = Start { seen: Instant::now(), is_running: false, pulls: Vec::new() };
            self.pods.lock().entry(pod.uid()).or_insert(start);
        }
    }

    /// An image was pulled for a pod, from then until now.
    pub(crate) fn pulled(&self, uid: &PodUid, since: Timestamp) {
        if let Some(start) = self.pods.lock().get_mut(uid) {
            start.pulls.push((since, self.clock.now()));
        }
    }

    /// The pod's status says that it runs.
    pub(crate) fn running(&self, uid: &PodUid) {
        if let Some(start) = self.pods.lock().get_mut(uid).filter(|it| !it.is_running) {
            start.is_running = true;
            let took = start.seen.elapsed();
            self.metrics.observe("kubelet_pod_start_duration_seconds", &[], took);
        }
    }

    /// The watch shows a pod.
    pub(crate) fn observed(&self, pod: &Pod) {
        if !has_started(pod) {
            return;
        }
        let Some(start) = self.pods.lock().remove(&pod.uid()) else { return };
        let Some(created) = pod.metadata.creation_timestamp.as_ref() else { return };
        let (created, now) = (created.0, self.clock.now());
        let mut left_out = start.pulls;
        left_out.extend(init_runs(pod));
        let total = between(created, now);
        let sli = total.saturating_sub(covered(left_out, created, now));
        self.metrics.observe("kubelet_pod_start_total_duration_seconds", &[], total);
        self.metrics.observe("kubelet_pod_start_sli_duration_seconds", &[], sli);
    }

    pub(crate) fn forget(&self, uid: &PodUid) {
        self.pods.lock().remove(uid);
    }
}

fn has_started(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|it| it.container_statuses.as_deref());
    let statuses = statuses.unwrap_or_default();
    let runs = |it: &k8s_openapi::api::core::v1::ContainerStatus| {
        it.state.as_ref().is_some_and(|it| it.running.is_some())
    };
    !statuses.is_empty() && statuses.iter().all(runs)
}

/// When init containers ran that had to end first.
fn init_runs(pod: &Pod) -> Vec<Span> {
    let spec = PodExt::spec(pod);
    let statuses = pod.status.as_ref().and_then(|it| it.init_container_statuses.as_deref());
    let ended = statuses.unwrap_or_default().iter().filter(|status| {
        let mut own = spec.init_containers.iter().flatten().filter(|it| it.name == status.name);
        own.any(|it| init_kind(it) == Kind::Init)
    });
    let spans = ended.filter_map(|it| {
        let run = it.state.as_ref()?.terminated.as_ref()?;
        Some((run.started_at.as_ref()?.0, run.finished_at.as_ref()?.0))
    });
    spans.collect()
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// How much of a time at least one of the spans covers.
fn covered(mut spans: Vec<Span>, from: Timestamp, to: Timestamp) -> Duration {
    spans.sort();
    let (mut covered, mut at) = (Duration::ZERO, from);
    for (begin, end) in spans {
        let (begin, end) = (begin.max(at), end.min(to));
        if begin < end {
            covered += between(begin, end);
            at = end;
        }
    }
    covered
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::metrics::text::Exposition;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn spans_that_overlap_count_once() {
        let seconds = |spans: &[(u64, u64)]| {
            let spans = spans.iter().map(|(from, to)| (at(*from), at(*to))).collect();
            covered(spans, at(10), at(20)).as_secs()
        };
        assert_eq!(seconds(&[]), 0);
        assert_eq!(seconds(&[(0, 12), (11, 13), (12, 13)]), 3);
        assert_eq!(seconds(&[(15, 17), (19, 30), (16, 16)]), 3);
        assert_eq!(seconds(&[(0, 5), (20, 30)]), 0);
    }

    fn pod(state: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "uid": "u", "creationTimestamp": "1970-01-01T00:00:00Z" },
            "spec": {
                "initContainers": [{ "name": "i" }],
                "containers": [{ "name": "c" }],
            },
            "status": {
                "initContainerStatuses": [{
                    "name": "i", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                    "state": { "terminated": {
                        "exitCode": 0,
                        "startedAt": "1970-01-01T00:00:01Z", "finishedAt": "1970-01-01T00:00:03Z",
                    } },
                }],
                "containerStatuses": [{
                    "name": "c", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                    "state": state,
                }],
            },
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn pulls_and_init_containers_do_not_count_against_the_kubelet() {
        let (clock, metrics) = (Clock::simulated(at(0)), Arc::<Metrics>::default());
        let starts = PodStarts::new(clock, metrics.clone());
        let waiting = pod(json!({ "waiting": {} }));
        starts.begin(&waiting);
        tokio::time::sleep(Duration::from_secs(7)).await;
        starts.pulled(&waiting.uid(), at(2));
        starts.observed(&waiting);
        tokio::time::sleep(Duration::from_secs(2)).await;
        starts.running(&waiting.uid());
        starts.running(&waiting.uid());
        let running = pod(json!({ "running": { "startedAt": "1970-01-01T00:00:09Z" } }));
        starts.observed(&running);
        starts.observed(&running);
        let mut out = Exposition::default();
        metrics.write(&mut out, |_| true);
        let text = out.finish();
        for (name, sum) in [("", 9), ("_total", 9), ("_sli", 3)] {
            let name = format!("kubelet_pod_start{name}_duration_seconds");
            assert!(text.contains(&format!("{name}_sum {sum}\n")), "{name}: {text}");
            assert!(text.contains(&format!("{name}_count 1\n")), "{name}: {text}");
        }
    }
}
