//! Image volumes: the files of an image, read-only.
//!
//! The image is pulled as a container's is. A runtime that mounts images is told which; for others its
//! files are a snapshot in containerd that this kubelet mounts below the pod's folder. The folder is
//! made before the snapshot and removed after it, so a kubelet that is killed in between finds what it
//! has to remove.
//!
//! Upstream: `pkg/volume/image`, and the runtime, which mounts images there.
//!
//! Deviation: with containerd before 2.1, which cannot, the kubelet mounts them itself, and programs in
//! them can be executed; an image that cannot be pulled is told as the failure of the volume, not of each
//! container that uses it.

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
    runtime_features,
};

const PLUGIN: &str = "image";

fn key(uid: &PodUid, name: &str) -> String {
    format!("kubelet-volume-{uid}-{name}")
}

/// Where the files of an image are.
pub(super) enum Shown {
    /// Mounted by the kubelet.
    Folder(PathBuf),
    /// The runtime mounts the image of this identifier.
    ByRuntime(String),
}

/// Whether a runtime mounts images: containerd does since 2.1, CRI-O since 1.31.
fn mounts_images(runtime: &str, version: &str) -> bool {
    match (runtime, runtime_features::number(version)) {
        ("containerd", Some(number)) => number >= (2, 1),
        ("cri-o", Some(number)) => number >= (1, 31),
        _ => false,
    }
}

impl Volumes {
    pub(super) async fn image(
        &self,
        pod: &Pod,
        name: &str,
        source: &ImageVolumeSource,
    ) -> Result<Shown, MountVolumeError> {
        let path = self.paths.volume(&pod.uid(), PLUGIN, name);
        if mounts::is_mounted(&path) {
            return Ok(Shown::Folder(path));
        }
        let known = self.made.lock().get(&pod.uid()).and_then(|it| it.get(name)?.image.clone());
        if let Some(image) = known {
            return Ok(Shown::ByRuntime(image));
        }
        // Pulled with the pod's secrets and the volume's own policy.
        let wanted = Container {
            image: source.reference.clone(),
            image_pull_policy: source.pull_policy.clone(),
            ..Container::default()
        };
        let image = self.images.ensure(pod, &wanted, &self.objects).await;
        let image = image.map_err(|it| MountVolumeError::Text(format!("{}: {it}", it.reason)))?;
        let runtime = self.snapshots.runtime().version().await;
        let runtime = runtime.map_err(|it| MountVolumeError::Text(it.to_string()))?;
        if mounts_images(&runtime.runtime_name, &runtime.runtime_version) {
            return Ok(Shown::ByRuntime(image.id));
        }
        create_dir(&path)?;
        let key = key(&pod.uid(), name);
        let shown = self.snapshots.view(&key, &image.id, self.clock.now()).await;
        let shown = shown.map_err(|error| told(&error))?;
        let [one] = shown.as_slice() else {
            let count = shown.len();
            return Err(MountVolumeError::Text(format!("the image has {count} mounts, not one")));
        };
        mount_one(one, &path).map_err(io_error("mount an image on", &path))?;
        Ok(Shown::Folder(path))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_mounted_by_runtimes_that_can() {
        for (runtime, version, can) in [
            ("containerd", "1.6.20~ds1", false),
            ("containerd", "v2.0.5", false),
            ("containerd", "v2.1.0", true),
            ("cri-o", "1.30.2", false),
            ("cri-o", "1.33.0", true),
            ("other", "9.9.9", false),
        ] {
            assert_eq!(mounts_images(runtime, version), can, "{runtime} {version}");
        }
    }
}
