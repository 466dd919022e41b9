//! Work that no pod waits for: dead containers, images, log files, folders and cgroups of pods that
//! are gone.
//!
//! Upstream: `pkg/kubelet/kuberuntime/kuberuntime_gc.go`, `pkg/kubelet/logs/container_log_manager.go`,
//! `pkg/kubelet/images/image_gc_manager.go`.
//!
//! **Invariant:** nothing of a pod that this node has is removed but dead containers beyond the newest
//! two of a name (the newest is the pod's state, the one before it is its last state and log).

mod logs;

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use api_cri::v1;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, info};

use crate::{
    context::Context,
    images::{
        gc::{self, Disk, Thresholds, Use},
        normalized,
    },
    labels,
    node::StatusWake,
    pleg::Pleg,
    pod::{PodExt, PodUid},
    pod_workers::PodWorkers,
};

const PERIOD: Duration = Duration::from_secs(60);
/// Images are looked at every five minutes, as upstream does.
const IMAGE_PERIOD: Duration = Duration::from_secs(300);
/// The current container of a name and the one before it.
const KEPT: usize = 2;

pub(crate) struct Housekeeping {
    pub context: Arc<Context>,
    pub workers: Arc<PodWorkers>,
    pub pleg: Arc<Pleg>,
    pub wake: StatusWake,
    uses: HashMap<String, Use>,
    images_at: Option<Instant>,
}

impl Housekeeping {
    pub(crate) fn new(
        context: Arc<Context>,
        workers: Arc<PodWorkers>,
        pleg: Arc<Pleg>,
        wake: StatusWake,
    ) -> Self {
        Self { context, workers, pleg, wake, uses: HashMap::new(), images_at: None }
    }

    /// Starts when the pods of the node are known.
    pub(crate) async fn run(mut self) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.remove_orphans().await;
            self.remove_dead_containers().await;
            logs::rotate(&self.context).await;
            if self.images_at.is_none_or(|it| it.elapsed() >= IMAGE_PERIOD) {
                self.remove_images().await;
                self.images_at = Some(Instant::now());
            }
        }
    }

    async fn remove_orphans(&self) {
        let (context, workers) = (&self.context, &self.workers);
        self.pleg.remove_orphans().await;
        context.volumes.remove_orphans(|uid| workers.is_known(uid)).await;
        for uid in context.cgroups.pods() {
            if !workers.is_known(&uid) {
                context.cgroups.remove_pod(&uid);
            }
        }
        let is_known = |uid: &str| workers.is_known(&PodUid(uid.to_owned()));
        remove_log_folders(context.paths.all_pod_logs(), is_known);
        remove_dangling(context.paths.container_log_links());
    }

    async fn remove_dead_containers(&self) {
        let Ok(mut containers) = self.context.runtime.list_containers(None).await else { return };
        containers.sort_by_key(|it| std::cmp::Reverse(it.created_at));
        for id in dead_containers(&containers) {
            if let Err(error) = self.context.runtime.remove_container(&id).await {
                debug!(id, %error, "a dead container was not removed");
            }
        }
    }

    async fn remove_images(&mut self) {
        let runtime = self.context.runtime.clone();
        let (Ok(images), Ok(containers)) =
            tokio::join!(runtime.list_images(), runtime.list_containers(None))
        else {
            return;
        };
        let mut used: HashSet<String> = containers
            .into_iter()
            .flat_map(|it| [it.image_ref, it.image.map(|it| it.image).unwrap_or_default()])
            .collect();
        used.extend(self.workers.pods().iter().flat_map(volume_images));
        let in_use = |it: &v1::Image| {
            used.contains(&it.id)
                || it.repo_digests.iter().chain(&it.repo_tags).any(|name| used.contains(name))
        };
        self.note_uses(&images, in_use);
        let Some(disk) = self.image_disk().await else { return };
        let config = &self.context.settings.config;
        let thresholds = Thresholds {
            high_percent: config.image_gc_high_threshold_percent,
            low_percent: config.image_gc_low_threshold_percent,
            minimum_age: config.image_minimum_gc_age.0,
        };
        let now = self.context.clock.now();
        let removed = gc::plan(&images, in_use, &self.uses, disk, thresholds, now);
        let count = removed.len();
        for id in removed {
            match runtime.remove_image(&id).await {
                Ok(()) => info!(id, "removed an image that nothing uses"),
                Err(error) => debug!(id, %error, "an image was not removed"),
            }
        }
        if count > 0 {
            self.wake.wake();
        }
    }

    fn note_uses(&mut self, images: &[v1::Image], in_use: impl Fn(&v1::Image) -> bool) {
        let now = self.context.clock.now();
        self.uses.retain(|id, _| images.iter().any(|it| it.id == *id));
        for image in images {
            let of = self
                .uses
                .entry(image.id.clone())
                .or_insert(Use { first_seen: now, last_used: None });
            if in_use(image) {
                of.last_used = Some(now);
            }
        }
    }

    async fn image_disk(&self) -> Option<Disk> {
        let file_systems = self.context.runtime.image_fs().await.ok()?;
        let mount = file_systems.into_iter().next()?.fs_id?.mountpoint;
        disk(Path::new(&mount))
    }
}

/// The images that a pod's volumes show.
fn volume_images(pod: &Pod) -> Vec<String> {
    let volumes = PodExt::spec(pod).volumes.iter().flatten();
    let named = volumes.filter_map(|it| it.image.as_ref()?.reference.as_deref());
    named.map(normalized).collect()
}

pub(crate) fn disk(path: &Path) -> Option<Disk> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    Some(Disk {
        capacity: stat.blocks() * stat.fragment_size(),
        available: stat.blocks_available() * stat.fragment_size(),
    })
}

/// The ids of dead containers that are older than the newest of their name. `containers` is sorted,
/// newest first.
fn dead_containers(containers: &[v1::Container]) -> Vec<String> {
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    let mut dead = Vec::new();
    for it in containers {
        let label = |key: &str| it.labels.get(key).map(String::as_str).unwrap_or_default();
        let count =
            seen.entry((label(labels::POD_UID), label(labels::CONTAINER_NAME))).or_default();
        *count += 1;
        let is_dead = it.state == v1::ContainerState::ContainerExited as i32;
        if *count > KEPT && is_dead {
            dead.push(it.id.clone());
        }
    }
    dead
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
    fn the_newest_two_of_each_name_stay() {
        let made = |id: &str, name: &str, state: v1::ContainerState| v1::Container {
            id: id.to_owned(),
            state: state as i32,
            labels: [
                (labels::POD_UID.to_owned(), "u".to_owned()),
                (labels::CONTAINER_NAME.to_owned(), name.to_owned()),
            ]
            .into(),
            ..Default::default()
        };
        use v1::ContainerState::{ContainerExited as Exited, ContainerRunning as Running};
        let containers = [
            made("a3", "a", Running),
            made("a2", "a", Exited),
            made("a1", "a", Exited),
            made("b1", "b", Exited),
            made("a0", "a", Running),
        ];
        assert_eq!(dead_containers(&containers), ["a1"], "a running one is never removed");
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
