//! `local` volumes: a folder of this host, or a disk, which is mounted once and shown to each pod from there.
//!
//! Whose the mount of a disk is, the folders of pods tell: it stays for as long as one has the volume's.
//!
//! Upstream: `pkg/volume/local/local.go`.

mod disk;

use std::{
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{LocalVolumeSource, Pod};
use tracing::warn;

use self::disk::Disk;
use super::{
    MountVolumeError, Volumes, create_dir, in_time, io_error, mounts, ownership::Group, progress,
    spec::Spec, threads::Begun,
};
use crate::{
    paths::Paths,
    pod::{PodExt, PodUid},
};

const PLUGIN: &str = "local-volume";
const DEFAULT_TYPE: &str = "ext4";

/// Where the volume is for the pod, and what its owner should know of it.
pub(super) type Shown = (PathBuf, Option<(&'static str, String)>);

/// Upstream's name of the step, and why.
pub(super) type Failed = (&'static str, MountVolumeError);

fn text(message: String) -> MountVolumeError {
    MountVolumeError::Text(message)
}

fn disks(paths: &Paths) -> PathBuf {
    paths.root().join("plugins/kubernetes.io").join(PLUGIN).join("mounts")
}

impl Volumes {
    pub(super) async fn local(
        &self,
        pod: &Pod,
        source: &LocalVolumeSource,
        spec: &Spec,
    ) -> Result<Shown, Failed> {
        if spec.is_block {
            let device = device_of(source).map_err(|it| ("MapVolume.MapPodDevice", it))?;
            return Ok((device, None));
        }
        check(source).map_err(|it| ("MountVolume.NewMounter initialization", it))?;
        let uid = pod.uid();
        let from = self.source(&uid, source, spec).await;
        let from = from.map_err(|it| ("MountVolume.MountDevice", it))?;
        let target = self.paths.volume(&uid, PLUGIN, &spec.name);
        let begun = Arc::new(self.threads.begin(&uid).await);
        let shown = self.given_and_shown(pod, spec, (from, target), begun).await;
        shown.map_err(|it| ("MountVolume.SetUp", it))
    }

    /// What is mounted is the group's already: whoever is killed before begins anew.
    async fn given_and_shown(
        &self,
        pod: &Pod,
        spec: &Spec,
        (from, target): (PathBuf, PathBuf),
        begun: Arc<Begun>,
    ) -> Result<Shown, MountVolumeError> {
        let (read_only, group) = (spec.read_only, Group::of(pod));
        let is_shared = self.users(&spec.name).any(|it| it != pod.uid());
        let (name, held) = (spec.name.clone(), begun.clone());
        let (source, place) = (from.clone(), target.clone());
        let whose = in_time(move || {
            let _held = held;
            whose(&source, &place, read_only, (group, is_shared), &name)
        });
        let whose = whose.await?;
        if let Some(group) = whose.group {
            let owner = (pod, &self.recorder);
            let given = progress::apply(group, &whose.folder, &target, owner, begun.clone()).await;
            given.map_err(io_error("set the group of", &target))?;
        }
        in_time(move || {
            let _held = begun;
            show(&from, &target, read_only)?;
            Ok((target, whose.told))
        })
        .await
    }

    /// The volume's folder, or where its disk is mounted.
    async fn source(
        &self,
        uid: &PodUid,
        source: &LocalVolumeSource,
        spec: &Spec,
    ) -> Result<PathBuf, MountVolumeError> {
        let path = PathBuf::from(&source.path);
        if !path.metadata().is_ok_and(|it| it.file_type().is_block_device()) {
            return Ok(path);
        }
        let _lock = self.disks.lock().await;
        // The pod's folder comes first: it keeps the mount from then on.
        create_dir(&self.paths.volume(uid, PLUGIN, &spec.name))?;
        let place = disks(&self.paths).join(&spec.name);
        if mounts::is_mounted(&place) {
            return Ok(place);
        }
        create_dir(&place)?;
        let disk = Disk {
            device: &source.path,
            file_system: source.fs_type.as_deref().unwrap_or(DEFAULT_TYPE),
            read_only: spec.read_only,
            options: &spec.mount_options,
        };
        disk.mount(&place).await.map_err(|error| {
            let (at, Disk { device, file_system, .. }) = (place.display(), disk);
            text(format!(
                "local: failed to mount device {device} at {at} (fstype: {file_system}), error {error}"
            ))
        })?;
        Ok(place)
    }

    /// Unmounts the disks that no pod has any more. Formatting takes long; nobody waits for it here, and
    /// the next pod that ends, or the housekeeping, looks again.
    pub(super) fn release_disks(&self) {
        let Ok(_lock) = self.disks.try_lock() else { return };
        for entry in std::fs::read_dir(disks(&self.paths)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if self.users(&name).next().is_some() {
                continue;
            }
            let path = entry.path();
            let left = mounts::unmount_below(&path).and_then(|()| std::fs::remove_dir(&path));
            if let Err(error) = left {
                warn!(volume = name, %error, "the disk of a local volume stays mounted");
            }
        }
    }

    /// The pods that have the volume's folder.
    fn users(&self, name: &str) -> impl Iterator<Item = PodUid> {
        let pods = std::fs::read_dir(self.paths.pods()).into_iter().flatten().flatten();
        let uids = pods.map(|it| PodUid(it.file_name().to_string_lossy().into_owned()));
        uids.filter(move |uid| self.paths.volume(uid, PLUGIN, name).exists())
    }
}

/// Checks what can be checked before anything is done.
fn check(source: &LocalVolumeSource) -> Result<(), MountVolumeError> {
    let path = &source.path;
    if Path::new(path).components().any(|it| it.as_os_str() == "..") {
        return Err(text(format!("invalid path: {path} must not contain '..'")));
    }
    if !Path::new(path).exists() {
        return Err(text(format!("path \"{path}\" does not exist")));
    }
    Ok(())
}

/// What is to be done before a folder is shown.
#[derive(Debug)]
struct Whose {
    /// Without links.
    folder: PathBuf,
    group: Option<Group>,
    told: Option<(&'static str, String)>,
}

/// Whose the files are, the first pod says; the next ones are told if they want it otherwise.
fn whose(
    from: &Path,
    target: &Path,
    read_only: bool,
    (group, is_shared): (Option<Group>, bool),
    name: &str,
) -> Result<Whose, MountVolumeError> {
    let found = from.metadata().map_err(io_error("look at", from))?;
    if !found.is_dir() {
        return Err(text(format!("`{}` is not a directory", from.display())));
    }
    // The pod has the volume from here on.
    create_dir(target)?;
    let folder = from.canonicalize().map_err(io_error("look at", from))?;
    let group = group.filter(|_| !mounts::is_mounted(target));
    let told = group.filter(|it| is_shared && it.id != found.gid()).map(|it| {
        let (wanted, has) = (it.id, found.gid());
        let message = format!(
            "The requested fsGroup is {wanted}, but the volume {name} has GID {has}. The volume may not be shareable."
        );
        ("AlreadyMountedVolume", message)
    });
    Ok(Whose { folder, group: group.filter(|_| !read_only && !is_shared), told })
}

fn show(from: &Path, target: &Path, read_only: bool) -> Result<(), MountVolumeError> {
    if !mounts::is_mounted(target) {
        mounts::bind_one(from, target).map_err(io_error("mount", target))?;
    }
    if read_only {
        mounts::make_read_only(target).map_err(io_error("make read-only", target))?;
    }
    Ok(())
}

/// The device of a volume in block mode.
fn device_of(source: &LocalVolumeSource) -> Result<PathBuf, MountVolumeError> {
    let path = PathBuf::from(&source.path).canonicalize();
    let path = path.map_err(io_error("resolve", Path::new(&source.path)))?;
    let is_device = path.metadata().is_ok_and(|it| it.file_type().is_block_device());
    if is_device { Ok(path) } else { Err(text(format!("{} is not a block device", source.path))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_path_has_to_be_there_and_stay_where_it_is() {
        let of = |path: &str| LocalVolumeSource { path: path.to_owned(), fs_type: None };
        let error = check(&of("/nst/none")).unwrap_err().to_string();
        assert_eq!(error, "path \"/nst/none\" does not exist");
        assert!(check(&of("/tmp/../etc")).is_err());
        assert!(check(&of("/")).is_ok());
        assert_eq!(device_of(&of("/")).unwrap_err().to_string(), "/ is not a block device");
    }

    #[test]
    fn the_files_are_the_first_pods_groups_and_others_are_told() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        std::fs::create_dir(at("v")).unwrap();
        let show = |name: &str, id, is_shared| {
            let group = Some(Group { id, read_only: false, on_root_mismatch: false });
            let whose = whose(&at("v"), &at(name), false, (group, is_shared), "pv").unwrap();
            if let Some(group) = whose.group {
                group.apply(&whose.folder, &Default::default()).unwrap();
            }
            show(&at("v"), &at(name), false).unwrap();
            whose.told
        };
        let gid = || at("v").metadata().unwrap().gid();
        assert_eq!((show("one", 1234, false), gid()), (None, 1234));
        assert_eq!(show("same", 1234, true), None);
        let (reason, message) = show("other", 4321, true).unwrap();
        assert_eq!(reason, "AlreadyMountedVolume");
        assert!(
            message.starts_with("The requested fsGroup is 4321, but the volume pv has GID 1234.")
        );
        assert_eq!((gid(), show("other", 4321, true)), (1234, None), "told once");
        mounts::unmount_below(base.path()).unwrap();
    }
}
