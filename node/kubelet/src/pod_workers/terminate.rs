//! The end of a pod: its containers, its status, and what it leaves on the node.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use tracing::{debug, warn};

use super::{
    inbox::News,
    kill,
    worker::{Next, Worker},
};
use crate::{cri::CriError, observed::RuntimePod, pod::PodExt, timeline::Phase};

/// How often an end that did not work is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How long the end of a pod is kept back for its volumes.
const TELLS_AFTER: Duration = Duration::from_millis(100);
/// A killed process leaves its cgroup when the kernel has cleared it away.
const CGROUP_PAUSE: Duration = Duration::from_millis(5);
const CGROUP_LIMIT: Duration = Duration::from_secs(1);

impl Worker {
    /// All containers of a pod that is not restarted have ended by themselves.
    pub(super) async fn end_complete(
        &mut self,
        news: &News,
        observed: RuntimePod,
    ) -> Result<Next, CriError> {
        if observed.has_live_parts() {
            let grace = Duration::from_secs(u64::try_from(news.grace()).unwrap_or(30));
            kill::pod(&self.context, &news.pod, &observed, grace).await?;
        }
        let observed = self.observe().await?;
        if !observed.has_live_parts() && !self.unprepare(&news.pod).await {
            return Ok(Next::Wait(Some(self.context.clock.now() + RETRY)));
        }
        self.publish(&news.pod, &observed, &BTreeMap::new(), !observed.has_live_parts());
        Ok(Next::Again)
    }

    /// The pod must end, or has ended earlier.
    pub(super) async fn end(&mut self, news: News) -> Result<Next, CriError> {
        if !self.is_cleared {
            self.failures.clear();
            let observed = self.observe().await?;
            if observed.has_live_parts() {
                self.publish(&news.pod, &observed, &BTreeMap::new(), false);
                if let Some(until) = self.lags_until().filter(|_| !news.must_end()) {
                    return Ok(Next::Wait(Some(until)));
                }
                // What has ended by itself has no hook any more.
                let ahead = self.early_exits.clone();
                self.kill_all(&news, &ahead.applied_to(&observed)).await;
                let observed = self.observe().await?;
                if observed.has_live_parts() {
                    return Ok(Next::Wait(Some(self.context.clock.now() + RETRY)));
                }
            }
            let observed = self.observe().await?;
            if !self.unprepare(&news.pod).await {
                return Ok(Next::Wait(Some(self.context.clock.now() + RETRY)));
            }
            if !self.tell_over_and_clear(&news.pod, &observed).await {
                return Ok(Next::Wait(Some(self.context.clock.now() + RETRY)));
            }
            self.is_cleared = true;
            self.inbox.set_cleared();
            self.workers.note_progress();
        }
        if news.is_removed {
            self.forget(&news.pod).await;
            return Ok(Next::Done);
        }
        if news.pod.is_terminating() {
            self.context.statuses.finish(&news.pod.uid());
        }
        Ok(Next::Wait(None))
    }

    /// Kills with the grace that the pod has, and again when it is given less. What changes meanwhile
    /// (a container that ends, one that is no longer ready) is told.
    async fn kill_all(&mut self, news: &News, observed: &RuntimePod) {
        let context = self.context.clone();
        let (inbox, mut grace) = (self.inbox.clone(), news.grace());
        loop {
            let limit = Duration::from_secs(u64::try_from(grace).unwrap_or(30));
            let mut killing = pin!(kill::pod(&context, &news.pod, observed, limit));
            loop {
                tokio::select! {
                    result = &mut killing => {
                        if let Err(error) = result {
                            let message = format!("error killing pod: {error}");
                            context.recorder.warning(&news.pod, "FailedKillPod", message);
                        }
                        return;
                    }
                    () = inbox.woken() => {}
                }
                let now = inbox.news().grace();
                if now < grace {
                    grace = now;
                    break;
                }
                if let Ok(observed) = self.observe().await {
                    self.publish(&news.pod, &observed, &BTreeMap::new(), false);
                }
            }
        }
    }

    /// Says that the pod is over, and takes away volumes and cgroups. Who hears of its end finds no
    /// volume of it on the node any more, unless they take longer to go. Says whether it worked.
    async fn tell_over_and_clear(&mut self, pod: &Arc<Pod>, observed: &RuntimePod) -> bool {
        let (uid, context) = (pod.uid(), self.context.clone());
        let begun = context.timelines.begin();
        let mut unmounting = pin!(context.volumes.unmount(&uid));
        let early = tokio::time::timeout(TELLS_AFTER, &mut unmounting).await;
        self.publish(pod, observed, &BTreeMap::new(), true);
        context.probes.forget(&uid);
        self.inbox.set_admitted(false);
        self.workers.notify_waiting();
        self.mounted = None;
        let unmounted = match early {
            Ok(unmounted) => unmounted,
            Err(_) => unmounting.await,
        };
        let call = "UnmountVolume.TearDown";
        let step = begun.ended(Phase::Cleared).result(call, &unmounted);
        self.context.timelines.add(&uid, step);
        if let Err(error) = unmounted {
            warn!(%uid, %error, "failed to take a pod's volumes away");
            let message = format!("UnmountVolume.TearDown failed: {error}");
            self.context.recorder.warning(pod, "FailedUnMount", message);
            return false;
        }
        self.context.user_namespaces.release(&uid);
        self.context.cm.release(&uid);
        self.workers.update_qos();
        self.remove_cgroups().await;
        true
    }

    /// What cannot be removed now is left to the sweep.
    async fn remove_cgroups(&self) {
        let (uid, mut pause) = (self.inbox.uid(), CGROUP_PAUSE);
        while !self.context.cgroups.remove_pod(&uid) && pause < CGROUP_LIMIT {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Removes what was kept for `kubectl logs`, and the record of the pod.
    async fn forget(&mut self, pod: &Arc<Pod>) {
        let runtime = &self.context.runtime;
        let observed = self.inbox.observed();
        for container in &observed.containers {
            let link = self.context.paths.container_log_link(pod, &container.name, &container.id);
            drop(std::fs::remove_file(link));
            if let Err(error) = runtime.remove_container(&container.id).await {
                debug!(id = container.id, %error, "a container was not removed");
            }
        }
        for sandbox in &observed.sandboxes {
            if let Err(error) = runtime.remove_sandbox(&sandbox.id).await {
                debug!(id = sandbox.id, %error, "a sandbox was not removed");
            }
        }
        self.remove_cgroups().await;
        self.context.allocations.forget(&pod.uid());
        self.context.images.forget(&pod.uid());
        if let Err(error) = std::fs::remove_dir_all(self.context.paths.pod_logs(pod))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            debug!(%error, "the logs of a pod were not removed");
        }
        for name in ["prober_probe_total", "prober_probe_duration_seconds"] {
            self.context.metrics.forget(name, pod);
        }
        self.context.statuses.forget(&pod.uid());
    }
}
