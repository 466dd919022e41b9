//! Removes what no pod needs: dead containers and sandboxes, their logs, and images.
//!
//! Upstream: `pkg/kubelet/kuberuntime/kuberuntime_gc.go`, `pkg/kubelet/images/image_gc_manager.go`.
//!
//! **Invariant:** the newest containers of a name stay, as many as configured (the newest is the pod's
//! state, the one before it its last state and log); what runs, what a volume shows, and what is pinned,
//! always stays.

mod containers;
mod logs;
mod sandboxes;
mod shims;

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use api_cri::v1;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tracing::{debug, info};

use self::{containers::Policy, shims::Shims};
use crate::{
    context::Context,
    cri::{self, CriError},
    images::{
        self,
        gc::{self, Disk, Thresholds, Use},
    },
    pod::{PodExt, PodUid},
    pod_workers::PodWorkers,
};

pub(crate) struct Garbage {
    context: Arc<Context>,
    workers: Arc<PodWorkers>,
    uses: Mutex<HashMap<String, Use>>,
    /// One sweep at a time.
    sweeping: tokio::sync::Mutex<()>,
    /// Whether the last look at images failed.
    images_failed: AtomicBool,
    shims: Shims,
}

/// The images, and the names and ids that containers use.
struct Images {
    all: Vec<v1::Image>,
    used: HashSet<String>,
}

impl Images {
    fn is_used(&self, image: &v1::Image) -> bool {
        let mut names = image.repo_digests.iter().chain(&image.repo_tags);
        self.used.contains(&image.id) || names.any(|it| self.used.contains(it))
    }
}

impl Garbage {
    pub(crate) fn new(context: Arc<Context>, workers: Arc<PodWorkers>) -> Self {
        let sweeping = tokio::sync::Mutex::new(());
        let images_failed = AtomicBool::default();
        let (uses, shims) = (Mutex::default(), Shims::default());
        Self { context, workers, uses, sweeping, images_failed, shims }
    }

    /// What the policy does not keep.
    pub(crate) async fn collect_containers(&self) {
        if let Err(error) = self.sweep_containers(|_| false).await {
            self.context.recorder.node_warning("ContainerGCFailed", error.to_string());
        }
    }

    /// That, and all containers of pods that have ended.
    pub(crate) async fn delete_unused_containers(&self) {
        let context = self.context.clone();
        let is_over = move |uid: &str| {
            let status = context.statuses.get(&PodUid(uid.to_owned())).unwrap_or_default();
            matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
        };
        if let Err(error) = self.sweep_containers(is_over).await {
            debug!(%error, "dead containers were not removed");
        }
    }

    async fn sweep_containers(
        &self,
        is_over: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<(), CriError> {
        let _one = self.sweeping.lock().await;
        let runtime = &self.context.runtime;
        let (sandboxes, mut containers) =
            tokio::try_join!(runtime.list_sandboxes(None), runtime.list_containers(None))?;
        containers::sort(&mut containers, &sandboxes);
        let policy = Policy::of(&self.context.settings, self.context.clock.now());
        for id in containers::plan(&containers, &policy, &is_over) {
            if let Err(error) = self.context.runtime.remove_container(&id).await {
                debug!(id, %error, "a dead container was not removed");
            }
        }
        self.sweep_sandboxes().await;
        self.sweep_logs(is_over).await;
        Ok(())
    }

    async fn sweep_sandboxes(&self) {
        let runtime = &self.context.runtime;
        let (Ok(sandboxes), Ok(containers)) =
            tokio::join!(runtime.list_sandboxes(None), runtime.list_containers(None))
        else {
            return;
        };
        for id in sandboxes::plan(&sandboxes, &containers) {
            let removed = async {
                // It may still hold an address.
                runtime.stop_sandbox(&id).await?;
                runtime.remove_sandbox(&id).await
            };
            if let Err(error) = removed.await {
                debug!(id, %error, "a dead sandbox was not removed");
            }
        }
    }

    async fn sweep_logs(&self, is_over: impl Fn(&str) -> bool + Send + 'static) {
        let Ok(containers) = self.context.runtime.list_containers(None).await else { return };
        let (root, runs) = (self.context.paths.all_pod_logs().to_owned(), logs::runs(&containers));
        let swept = tokio::task::spawn_blocking(move || logs::sweep(&root, &runs, is_over));
        if let Err(error) = swept.await {
            debug!(%error, "logs of dead containers were not removed");
        }
    }

    /// Images beyond their age, and as many as the disk needs. Says whether any went.
    pub(crate) async fn collect_images(&self) -> bool {
        let _one = self.sweeping.lock().await;
        let thresholds = Thresholds::of(&self.context.settings.config);
        let now = self.context.clock.now();
        let images = match self.images().await {
            Ok(images) => images,
            Err(error) => {
                self.note_images(Some(error.to_string()));
                return false;
            }
        };
        let disk = self.image_disk().await;
        let (aged, spaced) = {
            let uses = self.uses.lock();
            let in_use = |it: &v1::Image| images.is_used(it);
            let aged = gc::too_old(&images.all, in_use, &uses, thresholds, now);
            let plan = |disk| gc::plan(&images.all, in_use, &uses, disk, thresholds, now);
            (aged, disk.map(plan).unwrap_or_default())
        };
        let removed = self.remove_images(&aged, "age").await
            + self.remove_images(&spaced.removed, "space").await;
        let short = spaced.is_short().then(|| {
            format!(
                "Failed to garbage collect required amount of images. Attempted to free {} bytes, but only found {} bytes eligible to free.",
                spaced.wanted, spaced.found
            )
        });
        if let Some(message) = &short {
            self.context.recorder.node_warning("FreeDiskSpaceFailed", message.clone());
        }
        self.note_images(short);
        removed > 0
    }

    /// What fails for the second time in a row is told.
    fn note_images(&self, problem: Option<String>) {
        let has_failed = self.images_failed.swap(problem.is_some(), Ordering::Relaxed);
        if let Some(message) = problem.filter(|_| has_failed) {
            self.context.recorder.node_warning("ImageGCFailed", message);
        }
    }

    /// All images that nothing uses, but those that may just have been pulled for a container.
    pub(crate) async fn delete_unused_images(&self) -> bool {
        let _one = self.sweeping.lock().await;
        let Ok(images) = self.images().await else { return false };
        let (thresholds, now) =
            (Thresholds::of(&self.context.settings.config), self.context.clock.now());
        let in_use = |it: &v1::Image| images.is_used(it);
        let unused = gc::all_unused(&images.all, in_use, &self.uses.lock(), thresholds, now);
        self.remove_images(&unused, "space").await > 0
    }

    async fn images(&self) -> Result<Images, CriError> {
        let (runtime, access) = (&self.context.runtime, &self.context.images.access);
        access.begin_sweep();
        let (all, containers) =
            tokio::try_join!(runtime.list_images(), runtime.list_containers(None))?;
        let mut used: HashSet<String> = containers
            .into_iter()
            .flat_map(|it| [it.image_ref, it.image.map(|it| it.image).unwrap_or_default()])
            .collect();
        used.extend(self.of_volumes().await?);
        let images = Images { all, used };
        access.retain(|id| images.all.iter().any(|it| it.id == id));
        self.note_uses(&images);
        Ok(images)
    }

    /// The images that volumes of pods show. The runtime is asked for each, as only it knows which image
    /// a short name means; without its answer nothing is known.
    async fn of_volumes(&self) -> Result<Vec<String>, CriError> {
        let mut used = Vec::new();
        for pod in self.workers.pods().iter().filter(|it| !is_over(it)) {
            let volumes = PodExt::spec(pod).volumes.iter().flatten();
            for name in volumes.filter_map(|it| it.image.as_ref()?.reference.as_deref()) {
                let Ok(name) = images::normalized(name) else { continue };
                let image = self.context.runtime.image_status(&name).await?;
                used.extend(image.map(|it| it.id));
            }
        }
        Ok(used)
    }

    fn note_uses(&self, images: &Images) {
        let now = self.context.clock.now();
        let mut uses = self.uses.lock();
        uses.retain(|id, _| images.all.iter().any(|it| it.id == *id));
        for image in &images.all {
            let of =
                uses.entry(image.id.clone()).or_insert(Use { first_seen: now, last_used: None });
            if images.is_used(image) {
                of.last_used = Some(now);
            }
        }
    }

    async fn remove_images(&self, ids: &[String], reason: &str) -> usize {
        let mut removed = 0;
        for id in ids {
            match self.context.runtime.remove_image(id).await {
                Ok(()) => {
                    info!(id, reason, "removed an image that nothing uses");
                    let labels = [("reason", reason)];
                    self.context.metrics.add("kubelet_image_garbage_collected_total", &labels, 1.0);
                    removed += 1;
                }
                Err(error) => debug!(id, %error, "an image was not removed"),
            }
        }
        removed
    }

    async fn image_disk(&self) -> Option<Disk> {
        let told = self.context.runtime.file_systems().await.ok()?;
        disk(cri::mountpoint(&told.images?)?)
    }
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn disk(path: &Path) -> Option<Disk> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    Some(Disk {
        capacity: stat.blocks() * stat.fragment_size(),
        available: stat.blocks_available() * stat.fragment_size(),
    })
}
