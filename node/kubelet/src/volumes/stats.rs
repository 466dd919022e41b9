//! What the volumes of pods hold: for `/stats/summary`, and for the limits of local storage.
//!
//! Upstream: `pkg/volume/metrics_*.go`, `pkg/kubelet/server/stats/volume_stat_calculator.go`.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Pod;

use super::{Source, Volumes, csi::VolumeStats};
use crate::pod::PodExt;

impl Volumes {
    /// The disk folders of a pod's volumes that count as its local storage.
    pub(crate) fn local_paths(&self, pod: &Pod) -> Vec<(String, PathBuf)> {
        let made = self.made.lock();
        let of_pod = made.get(&pod.uid()).into_iter().flatten();
        let local = of_pod
            .filter(|(_, it)| matches!(it.spec.source, Source::EmptyDir(_) | Source::Payload));
        local.map(|(name, it)| (name.clone(), it.path.clone())).collect()
    }

    /// What the drivers of a pod's volumes say of them: by volume, with the claim's name.
    pub(crate) async fn of_drivers(&self, pod: &Pod) -> Vec<(String, Option<String>, VolumeStats)> {
        let made = self.made.lock().get(&pod.uid()).cloned().unwrap_or_default();
        let mut listed = Vec::new();
        for (name, it) in made {
            let Source::Csi(volume) = &it.spec.source else { continue };
            let Some(stats) = self.csi.stats(volume, &it.path).await else { continue };
            let claim = it.spec.bound.as_ref().and_then(|it| it.claim.metadata.name.clone());
            listed.push((name, claim, stats));
        }
        listed
    }
}

/// The bytes and inodes that a folder takes on its own file system; nothing, if it is not there.
pub(crate) async fn folder_usage(path: PathBuf) -> (i64, i64) {
    tokio::task::spawn_blocking(move || measure(&path)).await.unwrap_or_default()
}

fn measure(root: &Path) -> (i64, i64) {
    let Ok(found) = fs::symlink_metadata(root) else { return (0, 0) };
    let (device, mut seen) = (found.dev(), HashSet::new());
    let (mut bytes, mut inodes) = (0, 0);
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(it) = fs::symlink_metadata(&path) else { continue };
        if it.dev() != device || (it.nlink() > 1 && !it.is_dir() && !seen.insert(it.ino())) {
            continue;
        }
        bytes += i64::try_from(it.blocks() * 512).unwrap_or(i64::MAX);
        inodes += 1;
        if it.is_dir() {
            left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|it| it.path()));
        }
    }
    (bytes, inodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let empty = measure(folder.path());
        fs::write(folder.path().join("a"), vec![1; 100_000]).unwrap();
        let one = measure(folder.path());
        assert!(one.0 - empty.0 >= 100_000, "{one:?}");
        fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
        assert_eq!(measure(folder.path()), one);
        assert_eq!(measure(&folder.path().join("none")), (0, 0));
    }
}
