//! Image volumes: the files of an image, read-only.
//!
//! The image is pulled as a container's is; its files are a snapshot in containerd that this kubelet
//! mounts below the pod's folder. The folder is made before the snapshot and removed after it, so a
//! kubelet that is killed in between finds what it has to remove.
//!
//! Upstream: `pkg/volume/image`, and the runtime, which mounts images there.
//!
//! Deviation: the kubelet
//! mounts them (containerd before 2.1 cannot), and programs in them can be executed; an image that cannot be pulled is told as the failure of
//! the volume, not of each container that uses it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use api_cri::snapshots::Mount;
use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod};
use nix::mount::{MsFlags, mount};

use super::{MountVolumeError, Volumes, create_dir, io_error, mounts};
use crate::{
    cri::snapshots::SnapshotError,
    pod::{PodExt, PodUid},
};

const PLUGIN: &str = "image";

fn key(uid: &PodUid, name: &str) -> String {
    format!("kubelet-volume-{uid}-{name}")
}

impl Volumes {
    pub(super) async fn image(
        &self,
        pod: &Pod,
        name: &str,
        source: &ImageVolumeSource,
    ) -> Result<PathBuf, MountVolumeError> {
        let path = self.paths.volume(&pod.uid(), PLUGIN, name);
        if mounts::is_mounted(&path) {
            return Ok(path);
        }
        // Pulled with the pod's secrets and the volume's own policy.
        let wanted = Container {
            image: source.reference.clone(),
            image_pull_policy: source.pull_policy.clone(),
            ..Container::default()
        };
        let image = self.images.ensure(pod, &wanted, &self.objects).await;
        let image = image.map_err(|it| MountVolumeError::Text(format!("{}: {it}", it.reason)))?;
        create_dir(&path)?;
        let key = key(&pod.uid(), name);
        let shown = self.snapshots.view(&key, &image.id, self.clock.now()).await;
        let shown = shown.map_err(|error| told(&error))?;
        let [one] = shown.as_slice() else {
            let count = shown.len();
            return Err(MountVolumeError::Text(format!("the image has {count} mounts, not one")));
        };
        mount_one(one, &path).map_err(io_error("mount an image on", &path))?;
        Ok(path)
    }

    /// Takes the image volumes of a pod away.
    pub(super) async fn remove_images(&self, uid: &PodUid) -> io::Result<()> {
        let parent = self.paths.volume(uid, PLUGIN, "");
        for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
            let path = entry.path();
            mounts::unmount_below(&path)?;
            let key = key(uid, &entry.file_name().to_string_lossy());
            self.snapshots.remove(&key).await.map_err(io::Error::other)?;
            fs::remove_dir(&path)?;
        }
        Ok(())
    }
}

fn told(error: &SnapshotError) -> MountVolumeError {
    MountVolumeError::Text(if error.is_unsupported() {
        "image volumes are not supported by this container runtime".to_owned()
    } else {
        format!("failed to look at the image: {error}")
    })
}

/// Mounts what containerd names, never to be written.
fn mount_one(it: &Mount, target: &Path) -> io::Result<()> {
    let is_bind = it.options.iter().any(|it| matches!(it.as_str(), "bind" | "rbind"));
    if is_bind || it.r#type == "bind" {
        mounts::bind_one(Path::new(&it.source), target)?;
    } else {
        let data: Vec<&str> =
            it.options.iter().map(String::as_str).filter(|it| *it != "ro").collect();
        let (kind, data) = (it.r#type.as_str(), data.join(","));
        let flags = MsFlags::MS_RDONLY;
        mount(Some(it.source.as_str()), target, Some(kind), flags, Some(data.as_str()))?;
    }
    let locked = mounts::make_read_only(target);
    if locked.is_err() {
        // Nothing that can be written is left behind.
        drop(mounts::unmount_below(target));
    }
    locked
}
