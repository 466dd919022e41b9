//! When a volume that could not be made is tried again: after 500 ms, 1 s, 2 s and so on up to 2 min 2 s, each
//! volume by itself, and whatever wakes its pod's worker meanwhile. To mount its device and to set it up
//! are one operation, whose failures count together.
//!
//! Upstream: `pkg/util/goroutinemap/exponentialbackoff` and `MountVolume` of
//! `pkg/volume/util/operationexecutor`.
//!
//! Deviation: a volume is tried again at once when what it is made from comes (a ConfigMap, a Secret, a
//! driver, the end of the pod that had it); upstream waits for its time, as is done here for the Secrets of
//! drivers. Of a volume that several pods of a node share each is tried at its own times.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::pod::PodUid;

/// `initialDurationBeforeRetry`, `maxDurationBeforeRetry`.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(122);

#[derive(Default)]
pub(super) struct Operations {
    pods: Mutex<HashMap<PodUid, BTreeMap<String, Failed>>>,
    /// How often something came that pods had waited for.
    news: AtomicU64,
}

struct Failed {
    pause: Duration,
    until: Instant,
}

/// What had come when a try began.
#[derive(Clone, Copy)]
pub(super) struct Begun(u64);

impl Operations {
    /// `None` for as long as the volume is left alone after a failure.
    pub(super) fn begin(&self, uid: &PodUid, volume: &str) -> Option<Begun> {
        let pods = self.pods.lock();
        let failed = pods.get(uid).and_then(|it| it.get(volume));
        let is_held = failed.is_some_and(|it| Instant::now() < it.until);
        (!is_held).then(|| Begun(self.news.load(Ordering::Relaxed)))
    }

    /// What has come since the try began may be what it lacked: then the next one is at once.
    pub(super) fn failed(&self, uid: &PodUid, volume: &str, begun: Begun) {
        let (mut pods, now) = (self.pods.lock(), Instant::now());
        let volumes = pods.entry(uid.clone()).or_default();
        let pause = volumes.get(volume).map_or(FIRST, |it| (it.pause * 2).min(LONGEST));
        let has_news = self.news.load(Ordering::Relaxed) != begun.0;
        let until = if has_news { now } else { now + pause };
        volumes.insert(volume.to_owned(), Failed { pause, until });
    }

    pub(super) fn done(&self, uid: &PodUid, volume: &str) {
        let mut pods = self.pods.lock();
        let Some(volumes) = pods.get_mut(uid) else { return };
        volumes.remove(volume);
        if volumes.is_empty() {
            pods.remove(uid);
        }
    }

    pub(super) fn forget(&self, uid: &PodUid) {
        self.pods.lock().remove(uid);
    }

    /// When there is the next try.
    pub(super) fn again(&self, uid: &PodUid) -> Option<Instant> {
        self.pods.lock().get(uid)?.values().map(|it| it.until).min()
    }

    /// What fails is tried at its next chance; how long it waits after that stays.
    pub(super) fn try_again(&self, uid: &PodUid) -> bool {
        let (mut pods, now) = (self.pods.lock(), Instant::now());
        self.news.fetch_add(1, Ordering::Relaxed);
        let Some(volumes) = pods.get_mut(uid) else { return false };
        volumes.values_mut().for_each(|it| it.until = it.until.min(now));
        !volumes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid() -> PodUid {
        PodUid("u".to_owned())
    }

    fn fail(operations: &Operations) {
        let begun = operations.begin(&uid(), "v").unwrap();
        operations.failed(&uid(), "v", begun);
    }

    #[tokio::test(start_paused = true)]
    async fn each_volume_is_tried_later_and_later_by_itself() {
        let (operations, begun) = (Operations::default(), Instant::now());
        let mut tries = Vec::new();
        for _ in 0..11 {
            tries.push(begun.elapsed().as_secs_f32());
            fail(&operations);
            let is_held = |volume: &str| operations.begin(&uid(), volume).is_none();
            assert!(is_held("v") && !is_held("other"));
            while is_held("v") {
                tokio::time::advance(Duration::from_millis(500)).await;
            }
        }
        let wanted = [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5, 127.5, 249.5, 371.5];
        assert_eq!(tries, wanted);
        fail(&operations);
        operations.done(&uid(), "v");
        assert!(operations.again(&uid()).is_none() && !operations.try_again(&uid()));
        fail(&operations);
        assert_eq!(operations.again(&uid()), Some(Instant::now() + FIRST), "a first one again");
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_had_is_tried_at_once_and_waits_longer_if_it_cannot() {
        let operations = Operations::default();
        fail(&operations);
        tokio::time::advance(FIRST).await;
        fail(&operations);
        assert!(operations.try_again(&uid()) && operations.begin(&uid(), "v").is_some());
        fail(&operations);
        assert_eq!(operations.again(&uid()), Some(Instant::now() + 4 * FIRST));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_during_a_try_is_not_missed() {
        let operations = Operations::default();
        let begun = operations.begin(&uid(), "v").unwrap();
        assert!(!operations.try_again(&uid()), "nothing has failed yet");
        operations.failed(&uid(), "v", begun);
        let begun = operations.begin(&uid(), "v").expect("another try at once");
        operations.failed(&uid(), "v", begun);
        assert!(operations.begin(&uid(), "v").is_none());
    }
}
