//! Work that no pod waits for: dead containers, images, log files, folders and cgroups of pods that
//! are gone, shims that serve nothing.
//!
//! Upstream: `pkg/kubelet/kubelet_pods.go` (`HandlePodCleanups`),
//! `pkg/kubelet/logs/container_log_manager.go`.
//!
//! **Invariant:** nothing of a pod that this node has is removed but what [`crate::garbage`] may.

mod logs;

use std::{path::Path, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    context::Context, garbage::Garbage, node::StatusWake, objects, pleg::Pleg, pod::PodUid,
    pod_workers::PodWorkers,
};

const PERIOD: Duration = Duration::from_secs(60);
/// Upstream's `housekeepingPeriod`. Here there is something to do so soon only after a start, when pods
/// have gone while no kubelet was there, or the runtime does not answer yet. What stays is tried later and
/// later.
const AGAIN: Duration = Duration::from_secs(2);
/// Images are looked at every five minutes, as upstream does.
const IMAGE_PERIOD: Duration = Duration::from_secs(300);

pub(crate) struct Housekeeping {
    pub context: Arc<Context>,
    pub workers: Arc<PodWorkers>,
    pub pleg: Arc<Pleg>,
    pub wake: StatusWake,
    pub garbage: Arc<Garbage>,
}

impl Housekeeping {
    /// Starts when the pods of the node are known.
    pub(crate) async fn run(self) {
        let context = self.context.clone();
        let logs = logs::run(context.clone(), self.workers.clone());
        drop(context.scope.spawn("logs", logs));
        let mut images_at: Option<Instant> = None;
        let mut pause = PERIOD;
        loop {
            self.context.heartbeat.beat("housekeeping");
            pause = next_pause(pause, self.remove_orphans().await);
            self.garbage.collect_containers().await;
            if images_at.is_none_or(|it| it.elapsed() >= IMAGE_PERIOD) {
                images_at = Some(Instant::now());
                self.garbage.end_idle_shims().await;
                if self.garbage.collect_images().await {
                    self.wake.wake();
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Says whether nothing of pods that are gone runs any more.
    async fn remove_orphans(&self) -> bool {
        let (context, workers) = (&self.context, &self.workers);
        if !*context.knows_url_pods.borrow() {
            return false;
        }
        let is_done = self.pleg.remove_orphans().await;
        context.allocations.retain(|uid| workers.is_known(uid));
        context.objects.retain(&workers.pods().iter().flat_map(objects::references).collect());
        context.volumes.remove_orphans(|uid| workers.is_known(uid)).await;
        context.user_namespaces.retain(|uid| workers.is_known(uid));
        context.cm.remove_stale(|uid| workers.is_known(uid));
        for uid in context.cgroups.pods() {
            if !workers.is_known(&uid) {
                context.cgroups.remove_pod(&uid);
            }
        }
        let is_known = |uid: &str| workers.is_known(&PodUid(uid.to_owned()));
        remove_log_folders(context.paths.all_pod_logs(), is_known);
        remove_dangling(context.paths.container_log_links());
        is_done
    }
}

fn next_pause(last: Duration, is_done: bool) -> Duration {
    match last {
        _ if is_done => PERIOD,
        PERIOD => AGAIN,
        _ => (last * 2).min(PERIOD / 2),
    }
}

/// Folders are named `NAMESPACE_NAME_UID`.
fn remove_log_folders(folder: &Path, is_known: impl Fn(&str) -> bool) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((_, uid)) = name.rsplit_once('_') else { continue };
        if !is_known(uid) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

/// Links to logs that are no more.
fn remove_dangling(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if std::fs::metadata(entry.path()).is_err() {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_looked_after_soon_and_then_less_often() {
        let mut pause = PERIOD;
        let pauses = [false, false, false, false, false, false, true, false].map(|is_done| {
            pause = next_pause(pause, is_done);
            pause.as_secs()
        });
        assert_eq!(pauses, [2, 4, 8, 16, 30, 30, 60, 2]);
    }

    #[test]
    fn logs_of_pods_that_are_gone_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ns_p_1", "ns_p_2", "something"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        remove_log_folders(folder.path(), |uid| uid == "1");
        assert!(folder.path().join("ns_p_1").exists() && !folder.path().join("ns_p_2").exists());
        assert!(folder.path().join("something").exists());
    }
}
