//! Makes the volumes of a pod, keeps their content fresh, and takes them away.
//!
//! [`Volumes::mount`] is idempotent: the worker calls it before containers start and again from time
//! to time, which is how a changed ConfigMap reaches a running pod and a token is replaced before it
//! expires.
//!
//! **Invariant:** nothing is removed below a mount point; content that a container may be reading is
//! replaced in one rename.
//!
//! Deviation: volumes that need a CSI driver, and image volumes, are refused by name.

mod atomic;
mod host_path;
mod mounts;
mod ownership;
mod payload;
mod subpath;
mod tokens;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clock::Clock;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use kube::Client;
use tracing::warn;

pub(crate) use self::{mounts::is_mount_point, subpath::PrepareSubpathError};
use crate::{
    downward::{Facts, FieldError},
    objects::{Objects, ReadObjectError},
    paths::Paths,
    pod::{PodExt, PodUid},
    qos, quantity,
};

/// Where each volume of a pod is on this host.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Mounted {
    pub hosts: BTreeMap<String, PathBuf>,
    /// When the content should be made again.
    pub refresh_at: Option<Timestamp>,
}

/// How often content that comes from the API is looked at again: upstream's sync period.
const REFRESH: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub(crate) enum MountVolumeError {
    #[error(transparent)]
    Object(ReadObjectError),
    #[error("references non-existent {kind} key: {key}")]
    NoKey { kind: &'static str, key: String },
    #[error(transparent)]
    Field(FieldError),
    #[error("failed to fetch token: {message}")]
    Token { message: String },
    #[error("hostPath type check failed: {path} {problem}")]
    HostPath { path: String, problem: &'static str },
    #[error("`{path}` is no path inside of a volume")]
    BadPath { path: String },
    #[error("volumes of type `{kind}` are not supported by this kubelet")]
    Unsupported { kind: &'static str },
    #[error("failed to {action} `{}`: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A volume that could not be made, as it is told in the pod's events.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
pub(crate) struct MountError {
    pub volume: String,
    #[source]
    pub source: MountVolumeError,
}

pub(crate) struct Volumes {
    client: Client,
    objects: Arc<Objects>,
    paths: Paths,
    clock: Clock,
    tokens: tokens::Tokens,
}

impl Volumes {
    pub(crate) fn new(client: Client, objects: Arc<Objects>, paths: Paths, clock: Clock) -> Self {
        Self { client, objects, paths, clock, tokens: tokens::Tokens::default() }
    }

    /// Makes every volume, or says which one could not be made.
    pub(crate) async fn mount(&self, pod: &Pod, facts: &Facts) -> Result<Mounted, MountError> {
        let spec = PodExt::spec(pod);
        let all = spec.volumes.iter().flatten();
        let made = all.map(|volume| async move {
            let made = self.mount_one(pod, volume, facts).await;
            made.map(|(path, refresh)| (volume.name.clone(), path, refresh))
                .map_err(|source| MountError { volume: volume.name.clone(), source })
        });
        let mut mounted = Mounted::default();
        for (name, path, refresh) in futures::future::try_join_all(made).await? {
            mounted.hosts.insert(name, path);
            mounted.refresh_at = match (mounted.refresh_at, refresh) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        Ok(mounted)
    }

    async fn mount_one(
        &self,
        pod: &Pod,
        volume: &Volume,
        facts: &Facts,
    ) -> Result<(PathBuf, Option<Timestamp>), MountVolumeError> {
        if let Some(source) = &volume.host_path {
            return host_path::check(source).map(|path| (path, None));
        }
        if let Some(source) = &volume.empty_dir {
            return self.empty_dir(pod, &volume.name, source).map(|path| (path, None));
        }
        let Some(plugin) = payload::plugin(volume) else {
            return Err(MountVolumeError::Unsupported { kind: kind_of(volume) });
        };
        let made = payload::Maker { volumes: self, pod, facts }.make(volume).await?;
        let path = self.paths.volume(&pod.uid(), plugin.name, &volume.name);
        create_dir(&path)?;
        if plugin.is_secret && !is_mount_point(&path) {
            // Secrets do not reach the disk.
            mounts::mount_tmpfs(&path, None).map_err(io_error("mount a tmpfs on", &path))?;
        }
        let group = fs_group(pod);
        atomic::write(&path, &made.files, group, made.owner)
            .map_err(io_error("write the content of", &path))?;
        let refresh = self.clock.now() + REFRESH;
        Ok((path, Some(made.refresh_at.map_or(refresh, |it| it.min(refresh)))))
    }

    fn empty_dir(
        &self,
        pod: &Pod,
        name: &str,
        source: &EmptyDirVolumeSource,
    ) -> Result<PathBuf, MountVolumeError> {
        let path = self.paths.volume(&pod.uid(), "empty-dir", name);
        let is_new = !path.is_dir();
        create_dir(&path)?;
        let is_memory = source.medium.as_deref() == Some("Memory");
        let needs_mount = is_memory && !is_mount_point(&path);
        if needs_mount {
            let limit = source.size_limit.as_ref().and_then(quantity::value);
            let (of_pod, _, all_limited) = qos::pod_limits(pod);
            let of_pod = all_limited.then_some(of_pod.memory);
            let size = match (limit.filter(|it| *it > 0), of_pod) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            mounts::mount_tmpfs(&path, size).map_err(io_error("mount a tmpfs on", &path))?;
        }
        if is_new || needs_mount {
            ownership::open_to_all(&path, fs_group(pod))
                .map_err(io_error("set the mode of", &path))?;
        }
        Ok(path)
    }

    /// What a container's mount with a `subPath` is bound from.
    pub(crate) fn prepare_subpath(
        &self,
        pod: &Pod,
        volume: (&str, &Path),
        container: &str,
        index: usize,
        subpath: &str,
    ) -> Result<PathBuf, PrepareSubpathError> {
        let target = self.paths.subpath(&pod.uid(), volume.0, container, index);
        subpath::prepare(volume.1, subpath, &target)
    }

    /// Takes away everything that is mounted for a pod, and its folder.
    pub(crate) async fn unmount(&self, uid: &PodUid) -> io::Result<()> {
        self.tokens.forget(uid);
        let folder = self.paths.pod(uid);
        if !folder.exists() {
            return Ok(());
        }
        let remove = move || {
            mounts::unmount_below(&folder)?;
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        tokio::task::spawn_blocking(remove)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
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
    }
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let group = PodExt::spec(pod).security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

fn create_dir(path: &Path) -> Result<(), MountVolumeError> {
    std::fs::create_dir_all(path).map_err(io_error("create", path))
}

fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> MountVolumeError + 'a {
    move |source| MountVolumeError::Io { action, path: path.to_owned(), source }
}

fn kind_of(volume: &Volume) -> &'static str {
    if volume.persistent_volume_claim.is_some() {
        "persistentVolumeClaim"
    } else if volume.csi.is_some() {
        "csi"
    } else if volume.image.is_some() {
        "image"
    } else if volume.ephemeral.is_some() {
        "ephemeral"
    } else if volume.nfs.is_some() {
        "nfs"
    } else {
        "this"
    }
}
