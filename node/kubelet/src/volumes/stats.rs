//! What the volumes of pods hold: for `/stats/summary`, and for the limits of local storage.
//!
//! A server's share (NFS) is not asked how full it is: it may never answer. Nor need a driver or a file
//! system of the host: all are asked at once, and none is waited for longer than [`LIMIT`].
//!
//! Upstream: `pkg/volume/metrics_*.go`, `pkg/kubelet/server/stats/volume_stat_calculator.go`.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Made, Source, Volumes,
    csi::{FRESH, LIMIT, VolumeStats},
};
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
        let asked = made.into_iter().map(|(name, it)| async move {
            let stats = self.stats_of(&it).await?;
            let claim = it.spec.bound.as_ref().and_then(|it| it.claim.metadata.name.clone());
            Some((name, claim, stats))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn stats_of(&self, made: &Made) -> Option<VolumeStats> {
        match &made.spec.source {
            Source::Csi(volume) => self.csi.stats(volume, &made.path).await,
            Source::Local(_) if !made.spec.is_block => {
                self.host_stats.of(&made.path, of_host).await
            }
            _ => None,
        }
    }
}

/// What file systems of the host have said, by their places; asked at most once a minute.
#[derive(Default)]
pub(super) struct HostStats(Arc<Mutex<HashMap<PathBuf, Said>>>);

#[derive(Default)]
struct Said {
    stats: Option<VolumeStats>,
    /// When; `None` where an answer is still waited for.
    at: Option<Instant>,
}

impl HostStats {
    /// One that hangs keeps a thread until it answers, and gets no second one.
    async fn of(
        &self,
        path: &Path,
        ask: impl FnOnce(&Path) -> Option<VolumeStats> + Send + 'static,
    ) -> Option<VolumeStats> {
        {
            let mut known = self.0.lock();
            known.retain(|_, it| it.at.is_none_or(|at| at.elapsed() < FRESH));
            if let Some(said) = known.get(path) {
                return said.stats.clone();
            }
            known.insert(path.to_owned(), Said::default());
        }
        let (known, path) = (self.0.clone(), path.to_owned());
        let asking = tokio::task::spawn_blocking(move || {
            let stats = ask(&path);
            let said = Said { stats: stats.clone(), at: Some(Instant::now()) };
            known.lock().insert(path, said);
            stats
        });
        tokio::time::timeout(LIMIT, asking).await.ok()?.ok()?
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

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_hangs_holds_up_nobody_and_keeps_one_thread() {
        let hosts = HostStats::default();
        let path = Path::new("/hangs");
        let (answer, answered) = mpsc::channel();
        let (done, is_done) = mpsc::channel::<()>();
        let hangs = hosts.of(path, move |_| {
            let _ends_with_this = done;
            answered.recv().ok()
        });
        let later = tokio::time::advance(LIMIT + Duration::from_secs(1));
        assert_eq!(tokio::join!(hangs, later).0, None);
        tokio::time::advance(FRESH * 2).await;
        let again = hosts.of(path, |_| panic!("it is asked a second time"));
        assert_eq!(again.await, None);
        assert_eq!(
            hosts.of(Path::new("/"), of_host).await.map(|it| it.capacity_bytes > 0),
            Some(true)
        );
        let full = VolumeStats { used_bytes: 7, ..VolumeStats::default() };
        answer.send(full.clone()).unwrap();
        assert!(is_done.recv().is_err());
        let said = async || {
            loop {
                if let Some(said) = hosts.of(path, |_| panic!("it has been asked")).await {
                    return said;
                }
                std::thread::yield_now();
            }
        };
        assert_eq!(said().await, full);
        tokio::time::advance(FRESH).await;
        assert_eq!(hosts.of(path, |_| None).await, None, "asked again after a minute");
    }
}
