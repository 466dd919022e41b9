//! One probe of one container.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::time::{Instant, MissedTickBehavior};

use super::{
    ProbeKind, Probes,
    attempt::{self, Answer},
    thresholds::Thresholds,
};
use crate::{
    context::Context,
    pod::{PodExt, PodUid},
    pod_workers::PodWorkers,
};

pub(super) struct Task {
    pub probes: Arc<Probes>,
    pub workers: Arc<PodWorkers>,
    pub context: Arc<Context>,
    pub uid: PodUid,
    pub container: Arc<Container>,
    pub id: String,
    pub started: Timestamp,
    pub kind: ProbeKind,
}

/// Upstream's `maxProbeRetries`.
const TRIES: usize = 3;

impl Task {
    pub(super) async fn run(self) {
        let Some(probe) = self.kind.of(&self.container) else { return };
        let seconds = |it: Option<i32>, default: u64| {
            let it = it.and_then(|it| u64::try_from(it).ok()).filter(|it| *it > 0);
            Duration::from_secs(it.unwrap_or(default))
        };
        let period = seconds(probe.period_seconds, 10);
        let limit = seconds(probe.timeout_seconds, 1);
        let delay = Duration::from_secs(
            probe.initial_delay_seconds.and_then(|it| u64::try_from(it).ok()).unwrap_or(0),
        );
        // A date that was set back since the start makes it no longer.
        let left = self.context.clock.until(self.started + delay).min(delay);
        tokio::time::sleep(left).await;
        if self.kind != ProbeKind::Startup {
            self.probes.until_started(&self.id).await;
        }
        let mut thresholds = Thresholds::new(probe.success_threshold, probe.failure_threshold);
        let mut ticks = tokio::time::interval_at(Instant::now(), period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(pod) = self.workers.pod(&self.uid) else { return };
            // Whether a pod that is being ended lives or has started is nobody's question any more.
            if pod.is_terminating() && self.kind != ProbeKind::Readiness {
                return;
            }
            let asked = Instant::now();
            let answer = self.ask(&pod, probe, limit).await;
            self.count(&pod, &answer, asked.elapsed());
            self.tell(&pod, &answer);
            let Some(is_good) = answer.is_good() else { continue };
            let Some(verdict) = thresholds.add(is_good) else { continue };
            if self.probes.note(&self.id, self.kind, verdict, probe) {
                self.workers.notify(&self.uid);
            }
            match (self.kind, verdict) {
                // It has done its work; or the container is replaced, and its successor has probes of
                // its own.
                (ProbeKind::Startup, _) | (ProbeKind::Liveness, false) => return,
                _ => {}
            }
        }
    }

    /// A probe that did not work is tried again at once.
    async fn ask(&self, pod: &Pod, probe: &Probe, limit: Duration) -> Answer {
        let ask = || Box::pin(attempt::attempt(&self.context, pod, self, probe, limit));
        let mut answer = ask().await;
        for _ in 1..TRIES {
            if !matches!(answer, Answer::Failed(_) | Answer::Unread(_)) {
                break;
            }
            answer = ask().await;
        }
        answer
    }

    /// What found nothing out is not counted, and how long a failure took is not measured, as upstream has
    /// it.
    fn count(&self, pod: &Pod, answer: &Answer, took: Duration) {
        let Some(is_good) = answer.is_good() else { return };
        let labels = [
            ("probe_type", self.kind.title()),
            ("container", self.container.name.as_str()),
            ("pod", pod.name()),
            ("namespace", pod.namespace()),
        ];
        let metrics = &self.context.metrics;
        if is_good {
            metrics.observe("prober_probe_duration_seconds", &labels, took);
        }
        let result = if is_good { "successful" } else { "failed" };
        let total = [&labels[..], &[("pod_uid", self.uid.0.as_str()), ("result", result)]].concat();
        metrics.add("prober_probe_total", &total, 1.0);
    }

    fn tell(&self, pod: &Pod, answer: &Answer) {
        let title = self.kind.title();
        let (reason, text) = match answer {
            Answer::Good => return,
            Answer::Warned(output) => ("ProbeWarning", format!("{title} probe warning: {output}")),
            Answer::Bad(output) => ("Unhealthy", format!("{title} probe failed: {output}")),
            Answer::Failed(error) => (
                "Unhealthy",
                format!("{title} probe errored and resulted in unknown state: {error}"),
            ),
            Answer::Unread(error) => (
                "Unhealthy",
                format!("{title} probe errored and resulted in failure state: {error}"),
            ),
        };
        self.context.recorder.container_warning(pod, &self.container.name, reason, text);
    }
}
