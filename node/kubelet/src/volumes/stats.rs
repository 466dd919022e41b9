//! What the volumes of pods hold: for `/stats/summary`, and for the limits of local storage.
//!
//! A server's share (NFS) is not asked how full it is: it may never answer.
//!
//! Upstream: `pkg/volume/metrics_*.go`, `pkg/kubelet/server/stats/volume_stat_calculator.go`.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{Source, Volumes, csi::VolumeStats};
use crate::{pod::PodExt, stats::disk};

impl Volumes {
    /// The disk folders of a pod's volumes that count as its local storage.
    pub(crate) fn local_paths(&self, pod: &Pod) -> Vec<(String, PathBuf)> {
        let made = self.made.lock();
        let of_pod = made.get(&pod.uid()).into_iter().flatten();
        let local = of_pod
            .filter(|(_, it)| matches!(it.spec.source, Source::EmptyDir(_) | Source::Payload));
        local.map(|(name, it)| (name.clone(), it.path.clone())).collect()
    }

    /// What the drivers of a pod's volumes say of them, and the host of those that are its own: by
    /// volume, with the claim's name.
    pub(crate) async fn of_drivers(&self, pod: &Pod) -> Vec<(String, Option<String>, VolumeStats)> {
        let made = self.made.lock().get(&pod.uid()).cloned().unwrap_or_default();
        let mut listed = Vec::new();
        for (name, it) in made {
            let stats = match &it.spec.source {
                Source::Csi(volume) => self.csi.stats(volume, &it.path).await,
                Source::Local(_) if !it.spec.is_block => of_host(&it.path),
                _ => None,
            };
            let Some(stats) = stats else { continue };
            let claim = it.spec.bound.as_ref().and_then(|it| it.claim.metadata.name.clone());
            listed.push((name, claim, stats));
        }
        listed
    }
}

/// As full as its file system is.
fn of_host(path: &Path) -> Option<VolumeStats> {
    let fs = disk::file_system(path, Timestamp::UNIX_EPOCH)?;
    let size = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
    Some(VolumeStats {
        available_bytes: size(fs.available_bytes),
        capacity_bytes: size(fs.capacity_bytes),
        used_bytes: size(fs.used_bytes.unwrap_or(0)),
        inodes: size(fs.inodes),
        inodes_free: size(fs.inodes_free),
        inodes_used: size(fs.inodes_used.unwrap_or(0)),
        abnormal: None,
    })
}
