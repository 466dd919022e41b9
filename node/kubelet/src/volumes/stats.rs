//! What the volumes of pods hold: for `/stats/summary`, and for the limits of local storage.
//!
//! Upstream: `pkg/volume/metrics_*.go`, `pkg/kubelet/server/stats/volume_stat_calculator.go`.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::{Value, json};

use super::{Made, Source, Volumes, csi::VolumeStats};
use crate::pod::PodExt;

/// A server that does not answer does not hold up the others' statistics.
const LIMIT: Duration = Duration::from_secs(5);

impl Volumes {
    /// The disk folders of a pod's volumes that count as its local storage.
    pub(crate) fn local_paths(&self, pod: &Pod) -> Vec<(String, PathBuf)> {
        let made = self.made.lock();
        let of_pod = made.get(&pod.uid()).into_iter().flatten();
        let local = of_pod
            .filter(|(_, it)| matches!(it.spec.source, Source::EmptyDir(_) | Source::Payload));
        local.map(|(name, it)| (name.clone(), it.path.clone())).collect()
    }

    /// The part of a pod's summary that tells of its volumes.
    pub(crate) async fn summary(&self, pod: &Pod, now: Timestamp) -> Value {
        let made = self.made.lock().get(&pod.uid()).cloned().unwrap_or_default();
        let mut listed = Vec::new();
        for (name, it) in made {
            let Some(stats) = self.stats_of(&it).await else { continue };
            let mut value = json!({
                "time": Time(now),
                "availableBytes": stats.available_bytes,
                "capacityBytes": stats.capacity_bytes,
                "usedBytes": stats.used_bytes,
                "inodesFree": stats.inodes_free,
                "inodes": stats.inodes,
                "inodesUsed": stats.inodes_used,
                "name": name,
            });
            if let Some(bound) = &it.spec.bound {
                let claim = bound.claim.metadata.name.clone();
                value["pvcRef"] = json!({ "name": claim, "namespace": pod.namespace() });
            }
            if let Some(abnormal) = stats.abnormal {
                value["volumeHealthStats"] = json!({ "abnormal": abnormal });
            }
            listed.push(value);
        }
        Value::Array(listed)
    }

    async fn stats_of(&self, made: &Made) -> Option<VolumeStats> {
        match &made.spec.source {
            Source::Csi(volume) => self.csi.stats(volume, &made.path).await,
            Source::EmptyDir(it) if it.medium.as_deref().unwrap_or_default().is_empty() => {
                with_usage(&made.path).await
            }
            Source::Payload => with_usage(&made.path).await,
            Source::EmptyDir(_) | Source::Local(_) | Source::Nfs(_) if !made.spec.is_block => {
                file_system(&made.path).await
            }
            _ => None,
        }
    }
}

/// A folder on a disk that it shares with others.
async fn with_usage(path: &Path) -> Option<VolumeStats> {
    let shared = file_system(path).await?;
    let (used_bytes, inodes_used) = folder_usage(path.to_owned()).await;
    Some(VolumeStats { used_bytes, inodes_used, ..shared })
}

/// A file system of its own.
async fn file_system(path: &Path) -> Option<VolumeStats> {
    let path = path.to_owned();
    let asked = tokio::task::spawn_blocking(move || nix::sys::statvfs::statvfs(&path));
    let it = tokio::time::timeout(LIMIT, asked).await.ok()?.ok()?.ok()?;
    let size = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let unit = it.fragment_size();
    Some(VolumeStats {
        available_bytes: size(it.blocks_available() * unit),
        capacity_bytes: size(it.blocks() * unit),
        used_bytes: size((it.blocks() - it.blocks_free()) * unit),
        inodes: size(it.files()),
        inodes_free: size(it.files_free()),
        inodes_used: size(it.files() - it.files_free()),
        abnormal: None,
    })
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
