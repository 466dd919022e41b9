//! Ends pods before the node runs out of memory, disk, inodes or process ids.
//!
//! The node is measured every ten seconds, and at once when the kernel says that memory is short.
//! What is below a threshold becomes a condition of the node; what stays below it for its grace period
//! is reclaimed: first dead containers and unused images, then one pod per round, ranked as upstream
//! ranks them. The condition stays for the transition period after the pressure has gone.
//!
//! Upstream: `pkg/kubelet/eviction`.
//!
//! What containers write is on the file system of the node or on that of images, whose thresholds count;
//! those of `containerfs` are upstream's copies of these, and are accepted without meaning anything.
//!
//! Deviation: the kernel's notifications are used wherever it has them, not only with
//! `kernelMemcgNotification`.
//!
//! Deviation: above 85 % of a disk the node gets the condition `DiskFillingUp` and an event, before
//! eviction begins; upstream has neither.

mod filling;
pub(crate) mod local_storage;
mod manager;
mod message;
pub(crate) mod notifier;
mod observe;
mod rank;
mod signal;
mod threshold;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tracing::{info, warn};

use self::{
    filling::Filling,
    manager::{Manager, Step},
    observe::Observations,
    signal::Resource,
    threshold::Threshold,
};
use crate::{
    config::KubeletConfiguration,
    context::Context,
    garbage::Garbage,
    node::{Pressure, StatusWake},
    pod::{PodExt, PodUid},
    pod_workers::PodWorkers,
    stats::Stats,
    status::{Phase, Verdict},
};

const PERIOD: Duration = Duration::from_secs(10);
const REASON: &str = "Evicted";
/// How long a round waits for the pod that the last one ended.
const CLEANUP_LIMIT: Duration = Duration::from_secs(30);
/// What a pod gets to end when there is no time.
const IMMEDIATE: i64 = 1;

/// The thresholds of a configuration, or what upstream says against them.
pub(crate) fn thresholds(config: &KubeletConfiguration) -> Result<Vec<Threshold>, String> {
    threshold::parse_all(config)
}

pub(crate) struct Eviction {
    pub context: Arc<Context>,
    pub workers: Arc<PodWorkers>,
    pub stats: Stats,
    pub garbage: Arc<Garbage>,
    pub wake: StatusWake,
}

impl Eviction {
    pub(crate) async fn run(self) {
        let config = &self.context.settings.config;
        // They were validated when the configuration was loaded.
        let thresholds = thresholds(config).unwrap_or_default();
        let transition = config.eviction_pressure_transition_period.0;
        let mut manager = Manager::new(thresholds, transition);
        let mut filling = Filling::default();
        let (events, mut told) = mpsc::channel(1);
        notifier::start(&self.context, manager.thresholds(), events);
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Some(()) = told.recv() => info!("the kernel says that memory is short"),
            }
            while let Some(evicted) = self.synchronize(&mut manager, &mut filling).await {
                self.until_cleaned_up(&evicted).await;
            }
        }
    }

    /// One round. Returns the pod that it ended.
    async fn synchronize(&self, manager: &mut Manager, filling: &mut Filling) -> Option<PodUid> {
        let is_quiet = manager.is_quiet();
        let observed = observe::node(&self.stats).await;
        let step = manager.step(&observed, Instant::now());
        self.tell(&step, filling, &observed);
        if step.reclaim.is_empty() {
            return None;
        }
        if is_quiet {
            info!(thresholds = step.reclaim.len(), "eviction thresholds are met");
        }
        self.reclaim(manager, &step.reclaim, &observed).await
    }

    /// The conditions of the node, for its status and for admission.
    fn tell(&self, step: &Step, filling: &mut Filling, observed: &Observations) {
        if let Some(message) = filling.step(observed) {
            self.context.recorder.node_warning("DiskFillingUp", message);
        }
        let pressure = Pressure { filling: filling.is_on(), ..step.pressure };
        let is_new = self
            .context
            .pressure
            .send_if_modified(|known| std::mem::replace(known, pressure) != pressure);
        if is_new {
            self.wake.wake();
        }
    }

    async fn reclaim(
        &self,
        manager: &Manager,
        met: &[Threshold],
        observed: &Observations,
    ) -> Option<PodUid> {
        let first = met.first()?;
        let resource = first.signal.resource();
        let text = format!("Attempting to reclaim {}", resource.name());
        self.context.recorder.node_warning("EvictionThresholdMet", text);
        if self.reclaim_node_level(manager, first, observed).await {
            info!(resource = resource.name(), "pressure is reduced without ending pods");
            return None;
        }
        let summary = self.stats.summary(resource.needs_disks()).await;
        let pods = self.active();
        let mut candidates = rank::candidates(&pods, &summary, first.signal, observed.disks);
        rank::rank(&mut candidates, resource);
        for candidate in candidates {
            let pod = &pods[candidate.index];
            if pod.is_critical() {
                warn!(pod = pod.full_name(), "a critical pod is not evicted");
                continue;
            }
            let use_of = summary.pods.iter().find(|it| it.pod_ref.uid == pod.uid().0);
            let text = message::eviction(pod, use_of, first, observed);
            let grace = if first.grace.is_zero() {
                IMMEDIATE
            } else {
                i64::from(self.context.settings.config.eviction_max_pod_grace_period)
            };
            self.evict(pod, text, grace);
            self.count(first.signal.name());
            return Some(pod.uid());
        }
        warn!(resource = resource.name(), "no pod can be evicted");
        None
    }

    /// Dead containers and unused images first. Says whether that was enough.
    async fn reclaim_node_level(
        &self,
        manager: &Manager,
        first: &Threshold,
        observed: &Observations,
    ) -> bool {
        let swept = first.signal.garbage(observed.disks);
        if !swept.containers && !swept.images {
            return false;
        }
        if swept.containers {
            self.garbage.delete_unused_containers().await;
        }
        if swept.images {
            self.garbage.delete_unused_images().await;
        }
        let now = observe::node(&self.stats).await;
        manager.is_satisfied(&now)
    }

    /// The pods that run or may run.
    fn active(&self) -> Vec<Pod> {
        let mut pods = self.workers.pods();
        pods.retain(|it| {
            let phase = it.status.as_ref().and_then(|it| it.phase.as_deref());
            !matches!(phase, Some("Succeeded" | "Failed")) && !self.workers.is_ending(&it.uid())
        });
        pods
    }

    fn evict(&self, pod: &Pod, message: String, grace: i64) {
        self.context.recorder.warning(pod, REASON, message.clone());
        let verdict = Verdict { reason: REASON.to_owned(), message };
        // A negative grace leaves the pod its own.
        self.workers.evict(&pod.uid(), verdict, (grace >= 0).then_some(grace));
    }

    fn count(&self, signal: &str) {
        self.context.metrics.add("kubelet_evictions", &[("eviction_signal", signal)], 1.0);
    }

    async fn until_cleaned_up(&self, uid: &PodUid) {
        let is_clean = || {
            let status = self.context.statuses.get(uid);
            let has_failed =
                status.is_none_or(|it| it.phase.as_deref() == Some(Phase::Failed.name()));
            has_failed && self.workers.is_cleared(uid)
        };
        drop(tokio::time::timeout(CLEANUP_LIMIT, self.workers.until(is_clean)).await);
    }
}

impl Resource {
    fn needs_disks(self) -> bool {
        matches!(self, Self::Disk | Self::Inodes)
    }
}
