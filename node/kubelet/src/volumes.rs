//! Makes the volumes of a pod, keeps their content fresh, and takes them away.
//!
//! [`Volumes::mount`] is idempotent: the worker calls it before containers start and again from time
//! to time, which is how a changed ConfigMap reaches a running pod, a token is replaced before it
//! expires, and a volume that was given more space grows.
//!
//! Only volumes that a container uses are made. What a pod has it keeps: content that cannot be made
//! again (the API server is away, the object is gone) stays as it is and holds no container back.
//!
//! **Invariant:** nothing is removed below a mount point, also of one that comes while its folder is
//! removed; content that a container may be reading is
//! replaced in one rename.
//!
//! Upstream: `pkg/kubelet/volumemanager`, `pkg/volume`.
//!
//! Deviation: volumes are made beside the sandbox, not before it.

mod atomic;
mod claims;
pub(crate) mod csi;
mod empty_dir;
mod errors;
mod host_mount;
mod host_path;
mod image;
mod local;
pub(crate) mod mounts;
pub(crate) mod news;
mod node_affinity;
mod operations;
mod ownership;
mod payload;
mod progress;
mod remove;
mod spec;
pub(crate) mod stats;
mod subpath;
mod threads;
pub(crate) mod tokens;
mod tools;
mod totals;
pub(crate) mod trust_bundles;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clock::Clock;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use kube::Client;
use parking_lot::Mutex;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};
use tracing::warn;

use self::{
    claims::ClaimError,
    csi::{Again, Csi, CsiVolume, Growing, Needs, PublishError},
    image::Shown,
    operations::Operations,
    ownership::Group,
    spec::{Source, Spec, SpecError, Used},
    threads::Threads,
    trust_bundles::TrustBundles,
};
pub(crate) use self::{
    errors::{MountError, MountVolumeError, UnmountError, Unmounted},
    subpath::PrepareSubpathError,
};
use crate::{
    cri::snapshots::Snapshots,
    downward::Facts,
    events::Recorder,
    images::Images,
    metrics::Metrics,
    node_object::NodeObject,
    objects::{self, Objects},
    paths::{Paths, make_private},
    pod::{PodExt, PodUid},
};

/// Where each volume of a pod is on this host.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Mounted {
    pub hosts: BTreeMap<String, Place>,
    /// Volumes that are devices.
    pub devices: BTreeMap<String, Place>,
    /// When the content should be made again.
    pub refresh_at: Option<Timestamp>,
    /// Reasons and messages of those whose content could not be made again.
    pub stale: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Empty where the runtime itself knows what to mount.
    pub path: PathBuf,
    /// The image whose files the runtime mounts.
    pub image: Option<String>,
    /// Whatever the container's mount says.
    pub read_only: bool,
}

/// Content that comes from the API is looked at no more often than this.
pub(crate) const LEAST_REFRESH: Duration = Duration::from_secs(1);

/// Upstream waits so long for volumes, too.
const DISK_LIMIT: Duration = Duration::from_secs(123);

/// What volumes are made with.
pub(crate) struct Parts {
    pub client: Client,
    pub recorder: Recorder,
    pub node_name: String,
    pub node_object: Arc<NodeObject>,
    /// The labels that the node is registered with.
    pub own_labels: BTreeMap<String, String>,
    pub objects: Arc<Objects>,
    pub paths: Paths,
    pub clock: Clock,
    pub csi: Arc<Csi>,
    pub images: Arc<Images>,
    pub snapshots: Snapshots,
    pub trust_bundles: Arc<TrustBundles>,
    pub metrics: Arc<Metrics>,
    /// How often content that comes from the API is looked at again (`syncFrequency`).
    pub refresh: Duration,
}

pub(crate) struct Volumes {
    parts: Parts,
    tokens: tokens::Tokens,
    /// What was made for each pod, for its statistics.
    made: Mutex<HashMap<PodUid, BTreeMap<String, Made>>>,
    host_stats: stats::HostStats,
    /// Whoever mounts or unmounts the disk of a `local` volume.
    disks: AsyncMutex<()>,
    threads: Threads,
    operations: Operations,
}

/// A volume that is there.
#[derive(Clone, Debug)]
struct Made {
    /// Boxed: it may hold a claim and its volume, and few volumes have any.
    spec: Box<Spec>,
    path: PathBuf,
    /// Shown by the runtime, without a path.
    image: Option<String>,
    refresh_at: Option<Timestamp>,
    /// Why the content is an older one, or is somebody else's.
    stale: Option<(&'static str, String)>,
}

impl std::ops::Deref for Volumes {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Volumes {
    pub(crate) fn new(parts: Parts) -> Self {
        let (tokens, host_stats) = (tokens::Tokens::default(), stats::HostStats::default());
        let (made, disks) = (Mutex::default(), AsyncMutex::default());
        let (threads, operations) = (Threads::default(), Operations::default());
        Self { parts, tokens, made, host_stats, disks, threads, operations }
    }

    /// Makes every volume, or says which ones could not be made and when that is worth another try.
    pub(crate) async fn mount(&self, pod: &Pod, facts: &Facts) -> Result<Mounted, Unmounted> {
        let (uid, used) = (pod.uid(), Used::by(pod));
        let wanted = PodExt::spec(pod).volumes.iter().flatten().filter(|it| used.has(&it.name));
        let making = wanted.map(|volume| {
            let used = &used;
            async move { (volume, self.mount_in_time(pod, volume, facts, used).await) }
        });
        let mut made = self.made.lock().get(&uid).cloned().unwrap_or_default();
        let (mut mounted, mut errors, mut is_whole) = (Mounted::default(), Vec::new(), true);
        for (volume, result) in futures::future::join_all(making).await {
            match result {
                Ok(it) => {
                    mounted.add(&volume.name, &it);
                    made.insert(volume.name.clone(), it);
                }
                Err(error) => match made.get(&volume.name) {
                    // What the pod has it keeps: its containers do not wait for another try.
                    Some(it) if !error.as_ref().is_some_and(MountError::is_final) => {
                        let refresh_at = Some(self.clock.now() + self.refresh);
                        let stale = error.map(|it| (it.reason(), it.to_string()));
                        mounted.add(&volume.name, &Made { refresh_at, stale, ..it.clone() });
                    }
                    _ => {
                        errors.extend(error);
                        is_whole = false;
                    }
                },
            }
        }
        self.made.lock().insert(uid.clone(), made);
        if is_whole {
            return Ok(mounted);
        }
        let again = self.operations.again(&uid);
        Err(Unmounted { again: again.filter(|_| errors.iter().all(MountError::is_paced)), errors })
    }

    /// Makes a volume; an error is `None` for as long as it is left alone after a failure.
    async fn mount_in_time(
        &self,
        pod: &Pod,
        volume: &Volume,
        facts: &Facts,
        used: &Used,
    ) -> Result<Made, Option<MountError>> {
        let uid = pod.uid();
        let begun = self.operations.begin(&uid, &volume.name).ok_or(None)?;
        let made = self.mount_one(pod, volume, facts, used).await;
        match &made {
            Ok(_) => self.operations.done(&uid, &volume.name),
            Err(error) if error.is_paced() => {
                self.operations.failed(&uid, &volume.name, begun);
                for (kind, name) in objects::of_volume(volume) {
                    self.objects.await_change((kind, pod.namespace().to_owned(), name));
                }
            }
            Err(_) => {}
        }
        made.map_err(Some)
    }

    /// When volumes of a pod that could not be made are tried again.
    pub(crate) fn again(&self, uid: &PodUid) -> Option<Instant> {
        self.operations.again(uid)
    }

    /// What volumes of a pod could not be made without may be there now: they are tried at once. Says
    /// whether there are any.
    pub(crate) fn try_again(&self, uid: &PodUid) -> bool {
        self.operations.try_again(uid)
    }

    async fn mount_one(
        &self,
        pod: &Pod,
        volume: &Volume,
        facts: &Facts,
        used: &Used,
    ) -> Result<Made, MountError> {
        let bound = match claims::resolve(&self.client, pod, volume).await {
            Ok(bound) => bound,
            // What the pod has it keeps, whatever becomes of its claim.
            Err(error) => return self.made(pod, volume, error),
        };
        if let Some(bound) = &bound {
            self.check_affinity(pod, volume, bound).await?;
        }
        if let Some(problem) = tools::missing(volume, bound.as_ref()) {
            let of_claim = bound.and_then(|it| it.volume.metadata.name);
            return Err(MountError::Step {
                step: "MountVolume.WaitForAttach",
                volume: of_claim.unwrap_or_else(|| volume.name.clone()),
                source: MountVolumeError::Text(problem),
            });
        }
        let spec = spec::of(pod, volume, bound, used)
            .map_err(|error: SpecError| MountError::process(volume, error))?;
        let name = spec.name.clone();
        let at = |step| {
            let volume = name.clone();
            move |source| MountError::Step { step, volume, source }
        };
        if matches!(spec.source, Source::HostPath(_)) && !spec.mount_options.is_empty() {
            let why = MountVolumeError::Text("mount options are not supported".to_owned());
            return Err(at("MountVolume.MountOptionSupport check")(why));
        }
        const SET_UP: &str = "MountVolume.SetUp";
        let begun = Instant::now();
        let (mut image, mut told) = (None, None);
        let done = match &spec.source {
            Source::HostPath(it) => {
                let it = it.clone();
                let checked = in_time(move || host_path::check(&it)).await;
                checked.map_err(at(SET_UP)).map(|it| (it, None))
            }
            Source::EmptyDir(it) => {
                let path = self.paths.volume(&pod.uid(), "empty-dir", &volume.name);
                let ready = self.paths.volume_ready(&pod.uid(), "empty-dir", &volume.name);
                let made = empty_dir::make(pod, it, (path, &ready), facts);
                made.map_err(at(SET_UP)).map(|it| (it, None))
            }
            Source::Payload => {
                let made = Box::pin(self.payload(pod, volume, facts)).await;
                made.map_err(at(SET_UP))
            }
            Source::Local(it) => match Box::pin(self.local(pod, it, &spec)).await {
                Ok((path, warning)) => {
                    told = warning;
                    Ok((path, None))
                }
                Err((step, error)) => Err(at(step)(error)),
            },
            Source::Nfs(it) => {
                let target = self.paths.volume(&pod.uid(), "nfs", &spec.name);
                let options = &spec.mount_options;
                let mounted = host_mount::mount_nfs(it, target, spec.read_only, options).await;
                mounted.map_err(at(SET_UP)).map(|it| (it, None))
            }
            Source::Csi(it) => Box::pin(self.csi_volume(pod, &volume.name, it, &spec)).await,
            Source::Image(it) => {
                let shown = Box::pin(self.image(pod, &volume.name, it)).await;
                shown.map_err(at(SET_UP)).map(|it| match it {
                    Shown::Folder(path) => (path, None),
                    Shown::ByRuntime(id) => {
                        image = Some(id);
                        (PathBuf::new(), None)
                    }
                })
            }
        };
        let status = if done.is_ok() { "success" } else { "fail-unknown" };
        let plugin = totals::plugin(&spec.source, volume);
        let labels = [
            ("migrated", "false"),
            ("operation_name", "volume_mount"),
            ("status", status),
            ("volume_plugin", plugin.as_str()),
        ];
        self.metrics.observe("storage_operation_duration_seconds", &labels, begun.elapsed());
        match done {
            Ok((path, refresh_at)) => {
                Ok(Made { spec: Box::new(spec), path, image, refresh_at, stale: told })
            }
            Err(error) => self.earlier_content(pod, volume, spec, error),
        }
    }

    /// The files that a volume of the API's objects had, perhaps from an earlier run of this kubelet.
    fn earlier_content(
        &self,
        pod: &Pod,
        volume: &Volume,
        spec: Spec,
        error: MountError,
    ) -> Result<Made, MountError> {
        let plugin = payload::plugin(volume).unwrap_or_default();
        let path = self.paths.volume(&pod.uid(), plugin.name, &volume.name);
        if !matches!(spec.source, Source::Payload) || !atomic::has_content(&path) {
            return Err(error);
        }
        let refresh_at = Some(self.clock.now() + self.refresh);
        let stale = Some((error.reason(), error.to_string()));
        Ok(Made { spec: Box::new(spec), path, image: None, refresh_at, stale })
    }

    /// What was made of a volume before.
    fn made(&self, pod: &Pod, volume: &Volume, error: ClaimError) -> Result<Made, MountError> {
        let made = self.made.lock().get(&pod.uid()).and_then(|it| it.get(&volume.name)).cloned();
        let refresh_at = Some(self.clock.now() + self.refresh);
        let made = made.map(|it| Made { refresh_at, ..it });
        made.ok_or_else(|| MountError::process(volume, error))
    }

    async fn payload(
        &self,
        pod: &Pod,
        volume: &Volume,
        facts: &Facts,
    ) -> Result<(PathBuf, Option<Timestamp>), MountVolumeError> {
        let made = payload::Maker { volumes: self, pod, facts }.make(volume).await?;
        let plugin = payload::plugin(volume).unwrap_or_default();
        let path = self.paths.volume(&pod.uid(), plugin.name, &volume.name);
        let (files, group, is_secret) = (made.files, Group::of(pod), plugin.is_secret);
        let size = empty_dir::memory_size(pod, None, facts.allocatable_memory);
        let (begun, now) = (self.threads.begin(&pod.uid()).await, self.clock.now());
        let path = in_time(move || {
            let _begun = begun;
            create_dir(&path)?;
            // As an `emptyDir` would be.
            let is_new = !atomic::has_content(&path);
            if is_secret && !mounts::has_own_device(&path) {
                // Secrets do not reach the disk.
                let mounted = mounts::mount_tmpfs(&path, Some(size));
                mounted.map_err(io_error("mount a tmpfs on", &path))?;
            } else if !is_secret && is_new {
                let opened = ownership::open_to_all(&path, false);
                opened.map_err(io_error("set the mode of", &path))?;
            }
            let written = atomic::write(&path, &files, group, now);
            written.map_err(io_error("write the content of", &path))?;
            Ok(path)
        })
        .await?;
        let refresh = self.clock.now() + self.refresh;
        Ok((path, Some(made.refresh_at.map_or(refresh, |it| it.min(refresh)))))
    }

    async fn csi_volume(
        &self,
        pod: &Pod,
        name: &str,
        volume: &CsiVolume,
        spec: &Spec,
    ) -> Result<(PathBuf, Option<Timestamp>), MountError> {
        let now = self.clock.now();
        let needs = Needs { pod, objects: &self.objects, tokens: &self.tokens, now };
        let published = self.csi.publish(volume, &needs).await.map_err(|error| match error {
            PublishError::Step { step, source } => {
                MountError::Step { step, volume: spec.name.clone(), source }
            }
            PublishError::Unattached(message) => {
                MountError::Unattached { volume: name.to_owned(), message }
            }
            PublishError::LimitExceeded => MountError::LimitExceeded { volume: name.to_owned() },
        })?;
        if let Some(bound) = &spec.bound {
            let (path, objects) = (published.path.as_path(), &*self.objects);
            self.csi.expand(&Growing { pod, volume, bound, path, objects, now }).await;
        }
        // A claim may be given more space; some drivers want to be asked again.
        let is_followed = spec.bound.is_some() || published.again == Again::Regularly;
        let refresh_at = is_followed.then(|| now + self.refresh);
        let refresh_at = match (refresh_at, published.token_ends) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, _) => a,
        };
        Ok((published.path, refresh_at))
    }

    /// What a container's mount with a `subPath` is bound from.
    pub(crate) async fn prepare_subpath(
        &self,
        pod: &Pod,
        volume: (&str, &Path),
        container: &str,
        index: usize,
        subpath: &str,
    ) -> Result<PathBuf, PrepareSubpathError> {
        let target = self.paths.subpath(&pod.uid(), volume.0, container, index);
        let (volume, subpath) = (volume.1.to_owned(), subpath.to_owned());
        let failed = |source| PrepareSubpathError::Prepare { source };
        let begun = self.threads.begin(&pod.uid()).await;
        let preparing = tokio::task::spawn_blocking(move || {
            let _begun = begun;
            subpath::prepare(&volume, &subpath, &target)
        });
        match tokio::time::timeout(DISK_LIMIT, preparing).await {
            Ok(prepared) => prepared.map_err(|it| failed(io::Error::other(it)))?,
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Takes away everything that is mounted for a pod, and its folder.
    pub(crate) async fn unmount(&self, uid: &PodUid) -> Result<(), UnmountError> {
        self.tokens.forget(uid);
        self.made.lock().remove(uid);
        self.operations.forget(uid);
        self.threads.ended(uid, DISK_LIMIT).await;
        let folder = self.paths.pod(uid);
        if !folder.exists() {
            return Ok(());
        }
        // Parts of volumes first, as they hold the volumes.
        let parts = folder.join("volume-subpaths");
        blocking(move || if parts.exists() { mounts::unmount_below(&parts) } else { Ok(()) })
            .await?;
        self.csi.unpublish_all(uid).await.map_err(UnmountError::Csi)?;
        self.remove_images(uid).await?;
        blocking(move || {
            mounts::unmount_below(&folder)?;
            remove::all_below_no_mount(&folder)
        })
        .await?;
        self.release_disks();
        Ok(())
    }

    /// The folders of pods that are not in `known`.
    pub(crate) async fn remove_orphans(&self, is_known: impl Fn(&PodUid) -> bool) {
        let Ok(entries) = std::fs::read_dir(self.paths.pods()) else { return };
        for entry in entries.flatten() {
            let uid = PodUid(entry.file_name().to_string_lossy().into_owned());
            if is_known(&uid) {
                continue;
            }
            if let Err(error) = self.unmount(&uid).await {
                warn!(%uid, %error, "failed to remove the folder of a pod that is gone");
            }
        }
        self.release_disks();
    }
}

impl Mounted {
    fn add(&mut self, name: &str, made: &Made) {
        let (path, image) = (made.path.clone(), made.image.clone());
        let place = Place { path, image, read_only: made.spec.read_only };
        let places = if made.spec.is_block { &mut self.devices } else { &mut self.hosts };
        places.insert(name.to_owned(), place);
        self.stale.extend(made.stale.clone());
        self.refresh_at = match (self.refresh_at, made.refresh_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// Work on a disk that may never answer: a server behind it is gone. The thread is given up then, and
/// nobody else waits.
async fn in_time<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MountVolumeError> + Send + 'static,
) -> Result<T, MountVolumeError> {
    match tokio::time::timeout(DISK_LIMIT, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(MountVolumeError::Text(error.to_string())),
        Err(_) => Err(MountVolumeError::Text("the file system did not answer".to_owned())),
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn create_dir(path: &Path) -> Result<(), MountVolumeError> {
    let around = path.parent().map_or(Ok(()), make_private);
    around.and_then(|()| std::fs::create_dir_all(path)).map_err(io_error("create", path))
}

fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> MountVolumeError + 'a {
    move |source| MountVolumeError::Io { action, path: path.to_owned(), source }
}
