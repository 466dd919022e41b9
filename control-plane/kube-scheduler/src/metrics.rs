//! What the scheduler counts, by upstream's names.
//!
//! Upstream: `pkg/scheduler/metrics`. Deviation: of extension points `Filter` has what `PreFilter` takes in
//! it, `Score` what `PreScore` does, and the others that are not measured take no time here; single plug-ins
//! are not measured, nor is the Go runtime.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use controller::metrics::{Family, Kind, Metrics as Registry};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::state::State;

const SHORT: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];

/// From 10 ms to an hour and a half.
const LONG: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
    327.68, 655.36, 1310.72, 2621.44, 5242.88,
];
/// From 100 µs to 200 ms.
const POINTS: &[f64] = &[
    0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1024, 0.2048,
];

pub(crate) const SUCCESS: &str = "Success";
pub(crate) const UNSCHEDULABLE: &str = "Unschedulable";
pub(crate) const ERROR: &str = "Error";

/// So many tries and more are told as one.
const MANY: u32 = 15;

const ATTEMPTS: &str = "scheduler_schedule_attempts_total";
const ATTEMPT: &str = "scheduler_scheduling_attempt_duration_seconds";
const ALGORITHM: &str = "scheduler_scheduling_algorithm_duration_seconds";
const TRIES: &str = "scheduler_pod_scheduling_attempts";
const PREEMPTIONS: &str = "scheduler_preemption_attempts_total";
const VICTIMS: &str = "scheduler_preemption_victims";
const PENDING: &str = "scheduler_pending_pods";
const INCOMING: &str = "scheduler_queue_incoming_pods_total";
const SLI: &str = "scheduler_pod_scheduling_sli_duration_seconds";
const POINT: &str = "scheduler_framework_extension_point_duration_seconds";
const CACHE: &str = "scheduler_cache_size";
const LEADER: &str = "leader_election_master_status";

const FAMILIES: &[Family] = &[
    Family(LEADER, Kind::Gauge, "Whether this process is the leader of a Lease."),
    Family(POINT, Kind::Histogram(POINTS), "What all plug-ins of an extension point took."),
    Family(PENDING, Kind::Gauge, "Pending pods by queue: active, backoff, unschedulable, gated."),
    Family(TRIES, Kind::Histogram(&[1.0, 2.0, 4.0, 8.0, 16.0]), "Tries until a pod was scheduled."),
    Family(SLI, Kind::Histogram(LONG), "From the first try until a pod was scheduled, by tries."),
    Family(PREEMPTIONS, Kind::Counter, "Preemptions so far."),
    Family(
        VICTIMS,
        Kind::Histogram(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]),
        "Victims of a preemption.",
    ),
    Family(INCOMING, Kind::Counter, "Pods that came into a queue, by queue and event."),
    Family(ATTEMPTS, Kind::Counter, "Attempts to schedule a pod, by result and profile."),
    Family(CACHE, Kind::Gauge, "Nodes, pods, and pods whose binding was not seen yet."),
    Family(ALGORITHM, Kind::Histogram(SHORT), "What a decision took."),
    Family(ATTEMPT, Kind::Histogram(SHORT), "What an attempt took, its writes included."),
];

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Scheduled,
    Unschedulable,
    Error,
}

impl Outcome {
    fn text(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Unschedulable => "unschedulable",
            Self::Error => "error",
        }
    }
}

/// Where plug-ins are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Filter,
    PostFilter,
    Score,
    PreBind,
    Bind,
}

impl Point {
    fn text(self) -> &'static str {
        match self {
            Self::Filter => "Filter",
            Self::PostFilter => "PostFilter",
            Self::Score => "Score",
            Self::PreBind => "PreBind",
            Self::Bind => "Bind",
        }
    }
}

/// Measures the work of one profile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch<'a> {
    pub(crate) metrics: &'a Metrics,
    pub(crate) profile: &'a str,
}

impl Watch<'_> {
    pub(crate) fn ran(self, point: Point, status: &str, began: Instant) {
        let labels =
            [("extension_point", point.text()), ("profile", self.profile), ("status", status)];
        self.metrics.registry.observe(POINT, &labels, began.elapsed().as_secs_f64());
    }
}

/// See the module.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// That of the scheduler that runs, if one does.
    state: OnceLock<Weak<Mutex<State>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { registry: Registry::new(FAMILIES), state: OnceLock::new() }
    }
}

impl Metrics {
    pub(crate) fn watch(&self, state: &Arc<Mutex<State>>) {
        // Of several schedulers that share it, the first is told of.
        self.state.get_or_init(|| Arc::downgrade(state));
    }

    /// Says whether this process holds a Lease.
    pub fn leads(&self, lease: &str, is_leader: bool) {
        self.registry.set(LEADER, &[("name", lease)], f64::from(u8::from(is_leader)));
    }

    pub(crate) fn decided(&self, took: Duration) {
        self.registry.observe(ALGORITHM, &[], took.as_secs_f64());
    }

    pub(crate) fn ended(&self, profile: &str, outcome: Outcome, took: Duration) {
        let labels = [("profile", profile), ("result", outcome.text())];
        self.registry.add(ATTEMPTS, &labels, 1.0);
        self.registry.observe(ATTEMPT, &labels, took.as_secs_f64());
    }

    /// A pod was scheduled, so long after its first try.
    pub(crate) fn tried(&self, times: u32, took: Duration) {
        self.registry.observe(TRIES, &[], f64::from(times));
        let attempts = if times >= MANY { format!("{MANY}+") } else { times.to_string() };
        self.registry.observe(SLI, &[("attempts", &attempts)], took.as_secs_f64());
    }

    pub(crate) fn preempted(&self, victims: usize) {
        self.registry.add(PREEMPTIONS, &[], 1.0);
        self.registry.observe(VICTIMS, &[], f64::from(u32::try_from(victims).unwrap_or(u32::MAX)));
    }

    /// The page, as things are now.
    pub fn render(&self) -> String {
        if let Some(state) = self.state.get().and_then(Weak::upgrade) {
            let state = state.lock();
            for (queue, count) in state.queue.counts() {
                self.registry.set(PENDING, &[("queue", queue)], count as f64);
            }
            for ((queue, event), count) in state.queue.incoming() {
                self.registry.set(INCOMING, &[("event", event), ("queue", queue)], *count as f64);
            }
            let nodes = state.cluster.nodes();
            let pods: usize = nodes.iter().map(|it| it.pods().count()).sum();
            let sizes =
                [("assumed_pods", state.assumed.len()), ("nodes", nodes.len()), ("pods", pods)];
            for (kind, size) in sizes {
                self.registry.set(CACHE, &[("type", kind)], size as f64);
            }
        }
        self.registry.render()
    }
}

#[cfg(test)]
mod tests {
    use controller::Key;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn attempts_are_counted_and_pods_that_wait_are_told_by_their_queue() {
        let (metrics, state) = (Metrics::default(), Arc::new(Mutex::new(State::default())));
        metrics.watch(&state);
        let key = |name: &str| Key::new("default", name);
        for name in ["a", "b", "c"] {
            state.lock().queue.add(key(name), 0);
        }
        let first = state.lock().queue.pop(Instant::now()).unwrap();
        state.lock().queue.park(&first, [].into(), Instant::now());
        let second = state.lock().queue.pop(Instant::now()).unwrap();
        state.lock().queue.back_off(&second, Instant::now());
        state.lock().queue.hold(&key("d"));
        metrics.tried(2, Duration::from_secs(2));
        metrics.tried(20, Duration::from_secs(200));
        let watch = Watch { metrics: &metrics, profile: "default-scheduler" };
        watch.ran(Point::Filter, SUCCESS, Instant::now());
        metrics.ended("default-scheduler", Outcome::Unschedulable, Duration::from_millis(3));
        let page = metrics.render();
        for line in [
            "scheduler_pending_pods{queue=\"active\"} 1",
            "scheduler_pending_pods{queue=\"gated\"} 1",
            "scheduler_queue_incoming_pods_total{event=\"UnschedulablePodAdd\",queue=\"active\"} 3",
            "scheduler_cache_size{type=\"nodes\"} 0",
            "scheduler_pod_scheduling_sli_duration_seconds_bucket{attempts=\"2\",le=\"1.28\"} 0",
            "scheduler_pod_scheduling_sli_duration_seconds_bucket{attempts=\"2\",le=\"2.56\"} 1",
            "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"15+\"} 1",
            "scheduler_pod_scheduling_attempts_bucket{le=\"2\"} 1",
            "scheduler_framework_extension_point_duration_seconds_count{extension_point=\"Filter\",\
             profile=\"default-scheduler\",status=\"Success\"} 1",
            "scheduler_pending_pods{queue=\"backoff\"} 1",
            "scheduler_pending_pods{queue=\"unschedulable\"} 1",
            "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"unschedulable\"} 1",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
