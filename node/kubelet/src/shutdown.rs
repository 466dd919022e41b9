//! The end of the node: pods are ended in the order of their priorities, each group within its time,
//! and the node says that it is going.
//!
//! Upstream: `pkg/kubelet/nodeshutdown`, which is told of a shutdown by systemd's logind.
//!
//! **Invariant:** while the node shuts down no pod is admitted, and no pod that was ended starts again.

mod groups;
mod logind;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tracing::{info, warn};

use self::{
    groups::{Group, groups},
    logind::{Logind, LogindError},
};
use crate::{
    context::Context,
    node::StatusWake,
    pod::{PodExt, PodUid},
    pod_workers::PodWorkers,
    status::Verdict,
};

const REASON: &str = "Terminated";
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
/// Upstream's file, which survives the shutdown.
const STATE: &str = "graceful_node_shutdown_state";
/// Between two attempts to reach the bus.
const RECONNECT: Duration = Duration::from_secs(1);
/// How long the last statuses may take to reach the API server.
const FAREWELL: Duration = Duration::from_secs(2);

/// What node's condition says meanwhile.
pub(crate) const PROBLEM: &str = "node is shutting down";

/// Begins the shutdown of a kubelet that runs.
#[derive(Clone)]
pub struct Shutdown {
    context: Arc<Context>,
    workers: Arc<PodWorkers>,
    wake: StatusWake,
    told: watch::Receiver<Option<String>>,
}

impl Shutdown {
    pub(crate) fn new(
        context: Arc<Context>,
        workers: Arc<PodWorkers>,
        wake: StatusWake,
        told: watch::Receiver<Option<String>>,
    ) -> Self {
        Self { context, workers, wake, told }
    }

    /// Ends all pods as configured. Without a configured time it does nothing, as upstream.
    pub async fn begin(&self) {
        let groups = groups(&self.context.settings.config);
        if groups.is_empty() {
            info!("no graceful shutdown is configured: it is immediate");
            return;
        }
        let started = self.context.clock.now();
        let text = "Shutdown manager detected shutdown event";
        self.context.recorder.node_normal("NodeShutdown", text);
        self.note(started, None);
        self.context.is_shutting_down.send_replace(true);
        self.wake.wake();
        for group in groups::by_priority(&groups, self.running()) {
            if !group.pods.is_empty() {
                self.end(group).await;
            }
        }
        self.note(started, Some(self.context.clock.now()));
        self.say_farewell().await;
        info!("the pods have ended, the node may go");
    }

    /// The machine stays after all.
    fn cancel(&self) {
        let text = "Shutdown manager detected shutdown cancellation";
        self.context.recorder.node_normal("NodeShutdown", text);
        self.context.is_shutting_down.send_replace(false);
        self.wake.wake();
    }

    /// Ends all pods whenever logind says that the machine is going, and keeps it until they have ended.
    /// Without a bus nobody says so, which is told once.
    pub(crate) async fn follow_logind(self) {
        let groups = groups(&self.context.settings.config);
        let seconds: i64 = groups.iter().map(|it| it.seconds).sum();
        let period = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        if period.is_zero() {
            return;
        }
        let mut has_begun = false;
        loop {
            match self.follow_logind_once(period, &mut has_begun).await {
                Err(error) if !has_begun => {
                    return warn!(%error, "Failed to start node shutdown manager");
                }
                Err(error) => warn!(%error, "Unable to watch the node for shutdown events"),
                Ok(never) => match never {},
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    async fn follow_logind_once(
        &self,
        period: Duration,
        has_begun: &mut bool,
    ) -> Result<std::convert::Infallible, LogindError> {
        let etc = &self.context.settings.etc;
        let mut logind = Logind::start(&crate::dbus::system(), etc, period).await?;
        *has_begun = true;
        loop {
            if logind.news().await? {
                self.begin().await;
                logind.release();
            } else {
                self.cancel();
                logind.inhibit().await?;
            }
        }
    }

    /// The pods, with their priorities and graces.
    fn running(&self) -> Vec<groups::Pod> {
        let pods = self.workers.pods();
        let live = pods.iter().filter(|it| {
            let phase = it.status.as_ref().and_then(|it| it.phase.as_deref());
            !matches!(phase, Some("Succeeded" | "Failed"))
        });
        live.map(|it| groups::Pod {
            uid: it.uid(),
            priority: PodExt::spec(it).priority.unwrap_or(0),
            grace: it.grace_seconds(),
        })
        .collect()
    }

    async fn end(&self, group: Group) {
        let limit = Duration::from_secs(u64::try_from(group.seconds).unwrap_or(0));
        info!(priority = group.priority, pods = group.pods.len(), ?limit, "ending pods");
        for pod in &group.pods {
            let verdict = Verdict { reason: REASON.to_owned(), message: MESSAGE.to_owned() };
            self.workers.evict(&pod.uid, verdict, Some(pod.grace.min(group.seconds)));
        }
        let has_ended = |uid: &PodUid| {
            let observed = self.workers.observed(uid);
            let phase = self.context.statuses.get(uid).and_then(|it| it.phase);
            observed.is_none_or(|it| !it.has_live_parts())
                && phase.is_none_or(|it| it == "Failed" || it == "Succeeded")
        };
        let all = self.workers.until(|| group.pods.iter().all(|it| has_ended(&it.uid)));
        if tokio::time::timeout(limit, all).await.is_err() {
            warn!(priority = group.priority, "pods have not ended in time");
        }
    }

    /// Lets the last words reach the API server.
    async fn say_farewell(&self) {
        if self.context.settings.is_standalone {
            return;
        }
        let mut told = self.told.clone();
        let all = async {
            let is_it = |it: &Option<String>| it.as_deref().is_some_and(|it| it.contains(PROBLEM));
            drop(told.wait_for(is_it).await);
            self.context.statuses.until_idle().await;
        };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            warn!("not all statuses reached the API server");
        }
    }

    fn note(&self, started: Timestamp, ended: Option<Timestamp>) {
        let seconds = |it: Timestamp| it.as_second() as f64;
        let end = ended.map_or(0.0, seconds);
        let metrics = &self.context.metrics;
        metrics.set("kubelet_graceful_shutdown_start_time_seconds", &[], seconds(started));
        metrics.set("kubelet_graceful_shutdown_end_time_seconds", &[], end);
        let state = json!({ "startTime": started, "endTime": ended });
        let path = self.context.paths.root().join(STATE);
        if let Err(error) = std::fs::write(&path, state.to_string()) {
            warn!(path = %path.display(), %error, "the state of the shutdown was not kept");
        }
    }
}

/// What the last shutdown left for the metrics of the next life.
pub(crate) fn tell_last(context: &Context) {
    let path = context.paths.root().join(STATE);
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let state: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    for (field, name) in [
        ("startTime", "kubelet_graceful_shutdown_start_time_seconds"),
        ("endTime", "kubelet_graceful_shutdown_end_time_seconds"),
    ] {
        let time = state[field].as_str().and_then(|it| it.parse::<Timestamp>().ok());
        if let Some(time) = time {
            context.metrics.set(name, &[], time.as_second() as f64);
        }
    }
}
