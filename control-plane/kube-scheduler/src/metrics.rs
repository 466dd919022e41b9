//! What the scheduler counts, by upstream's names.
//!
//! Upstream: `pkg/scheduler/metrics`. Deviation: durations of single plug-ins and extension points, and
//! what the queue is asked, are not measured; nor are the Go runtime, client-go and the work queues.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use controller::metrics::{Family, Kind, Metrics as Registry};
use parking_lot::Mutex;

use crate::state::State;

const SHORT: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];

const ATTEMPTS: &str = "scheduler_schedule_attempts_total";
const ATTEMPT: &str = "scheduler_scheduling_attempt_duration_seconds";
const ALGORITHM: &str = "scheduler_scheduling_algorithm_duration_seconds";
const TRIES: &str = "scheduler_pod_scheduling_attempts";
const PREEMPTIONS: &str = "scheduler_preemption_attempts_total";
const VICTIMS: &str = "scheduler_preemption_victims";
const PENDING: &str = "scheduler_pending_pods";
const LEADER: &str = "leader_election_master_status";

const FAMILIES: &[Family] = &[
    Family(LEADER, Kind::Gauge, "Whether this process is the leader of a Lease."),
    Family(PENDING, Kind::Gauge, "Pending pods by queue: active, backoff, unschedulable."),
    Family(TRIES, Kind::Histogram(&[1.0, 2.0, 4.0, 8.0, 16.0]), "Tries until a pod was scheduled."),
    Family(PREEMPTIONS, Kind::Counter, "Preemptions so far."),
    Family(
        VICTIMS,
        Kind::Histogram(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]),
        "Victims of a preemption.",
    ),
    Family(ATTEMPTS, Kind::Counter, "Attempts to schedule a pod, by result and profile."),
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

    pub(crate) fn tried(&self, times: u32) {
        self.registry.observe(TRIES, &[], f64::from(times));
    }

    pub(crate) fn preempted(&self, victims: usize) {
        self.registry.add(PREEMPTIONS, &[], 1.0);
        self.registry.observe(VICTIMS, &[], f64::from(u32::try_from(victims).unwrap_or(u32::MAX)));
    }

    /// The page, as things are now.
    pub fn render(&self) -> String {
        if let Some(state) = self.state.get().and_then(Weak::upgrade) {
            let counts = state.lock().queue.counts();
            for (queue, count) in counts {
                let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
                self.registry.set(PENDING, &[("queue", queue)], count);
            }
        }
        self.registry.render()
    }
}

#[cfg(test)]
mod tests {
    use controller::Key;
    use tokio::time::Instant;

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
        metrics.ended("default-scheduler", Outcome::Unschedulable, Duration::from_millis(3));
        let page = metrics.render();
        for line in [
            "scheduler_pending_pods{queue=\"active\"} 1",
            "scheduler_pending_pods{queue=\"backoff\"} 1",
            "scheduler_pending_pods{queue=\"unschedulable\"} 1",
            "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"unschedulable\"} 1",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
