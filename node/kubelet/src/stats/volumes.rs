//! How large the volumes of pods are, measured at most once per period.
//!
//! Measuring blocks, so a thread does it, one per pod. Who asks waits for it for a moment; where it takes
//! longer, what was measured before is the answer.
//!
//! A volume on a file system of its own is as large as that; one on the node's disk is walked over.
//! Volumes of CSI drivers are not measured here: their drivers do that.
//!
//! Upstream: `pkg/kubelet/server/stats/volume_stat_calculator.go`, every `volumeStatsAggPeriod`.

use std::{
    collections::HashMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use parking_lot::Mutex;

use super::{
    disk,
    model::{FsStats, VolumeStats},
};
use crate::{
    paths::Paths,
    pod::{PodExt, PodUid},
};

/// How long a summary waits for the volumes of a pod.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) struct VolumeSizes {
    period: Duration,
    known: Arc<Mutex<HashMap<PodUid, Known>>>,
}

#[derive(Default)]
struct Known {
    stats: Vec<VolumeStats>,
    /// `None` before the first measurement.
    at: Option<Timestamp>,
    is_being_measured: bool,
}

impl VolumeSizes {
    /// A period of zero measures nothing.
    pub(super) fn new(period: Duration) -> Self {
        Self { period, known: Arc::default() }
    }

    /// What is known, measured now if it is too old.
    pub(super) async fn of(&self, pod: &Pod, paths: &Paths, now: Timestamp) -> Vec<VolumeStats> {
        if self.period.is_zero() {
            return Vec::new();
        }
        let uid = pod.uid();
        if self.is_due(&uid, now) {
            let (wanted, known, of) = (wanted(pod, paths), self.known.clone(), uid.clone());
            let measuring = tokio::task::spawn_blocking(move || {
                let stats = wanted.into_iter().filter_map(|it| it.measure(now)).collect();
                // Of a pod that is gone nobody wants to know.
                if let Some(known) = known.lock().get_mut(&of) {
                    *known = Known { stats, at: Some(now), is_being_measured: false };
                }
            });
            drop(tokio::time::timeout(LIMIT, measuring).await);
        }
        self.known.lock().get(&uid).map(|it| it.stats.clone()).unwrap_or_default()
    }

    /// Says whether the caller is to measure.
    fn is_due(&self, uid: &PodUid, now: Timestamp) -> bool {
        let mut all = self.known.lock();
        let known = all.entry(uid.clone()).or_default();
        let is_fresh = known.at.is_some_and(|at| now < at + self.period);
        let is_due = !is_fresh && !known.is_being_measured;
        known.is_being_measured |= is_due;
        is_due
    }

    pub(super) fn retain(&self, is_there: impl Fn(&PodUid) -> bool) {
        self.known.lock().retain(|uid, _| is_there(uid));
    }
}

/// A volume to be measured.
struct Wanted {
    name: String,
    folder: PathBuf,
    parent: PathBuf,
}

impl Wanted {
    fn measure(self, now: Timestamp) -> Option<VolumeStats> {
        let device = |path: &Path| std::fs::metadata(path).ok().map(|it| it.dev());
        let fs = disk::file_system(&self.folder, now)?;
        let is_local = device(&self.folder) == device(&self.parent);
        let fs = if is_local {
            let used = disk::usage(&self.folder);
            FsStats { used_bytes: Some(used.bytes), inodes_used: Some(used.inodes), ..fs }
        } else {
            fs
        };
        Some(VolumeStats {
            fs,
            name: self.name,
            pvc_ref: None,
            volume_health_stats: None,
            is_local,
        })
    }
}

fn wanted(pod: &Pod, paths: &Paths) -> Vec<Wanted> {
    let folders = paths.pod(&pod.uid()).join("volumes");
    let spec = PodExt::spec(pod);
    let volumes = spec.volumes.iter().flatten();
    let found = volumes.filter_map(|it| {
        let parent = folders.join(format!("kubernetes.io~{}", plugin(it)?));
        Some(Wanted { name: it.name.clone(), folder: parent.join(&it.name), parent })
    });
    found.collect()
}

/// The volumes that live and die with their pod.
fn plugin(volume: &Volume) -> Option<&'static str> {
    let kinds = [
        (volume.empty_dir.is_some(), "empty-dir"),
        (volume.config_map.is_some(), "configmap"),
        (volume.secret.is_some(), "secret"),
        (volume.projected.is_some(), "projected"),
        (volume.downward_api.is_some(), "downward-api"),
    ];
    kinds.into_iter().find(|(is_it, _)| *is_it).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PodSpec};

    use super::*;

    #[tokio::test]
    async fn an_empty_dir_is_walked_over_once_per_period() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().to_str().unwrap(), "/var/log/pods");
        let volume = Volume {
            name: "v".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        };
        let spec = PodSpec { volumes: Some(vec![volume]), ..PodSpec::default() };
        let mut pod = Pod { spec: Some(spec), ..Pod::default() };
        pod.metadata.uid = Some("u".to_owned());
        let at = folder.path().join("pods/u/volumes/kubernetes.io~empty-dir/v");
        std::fs::create_dir_all(&at).unwrap();
        std::fs::write(at.join("f"), vec![1; 1 << 20]).unwrap();
        let sizes = VolumeSizes::new(Duration::from_secs(60));
        let now = Timestamp::UNIX_EPOCH;
        let measured = sizes.of(&pod, &paths, now).await;
        assert!(measured[0].is_local);
        let used = measured[0].fs.used_bytes.unwrap();
        assert!((1 << 20..2 << 20).contains(&used), "{used}");
        std::fs::remove_file(at.join("f")).unwrap();
        assert_eq!(sizes.of(&pod, &paths, now).await[0].fs.used_bytes, Some(used));
        let later = sizes.of(&pod, &paths, now + Duration::from_secs(61)).await;
        assert!(later[0].fs.used_bytes.unwrap() < 1 << 20);
    }
}
