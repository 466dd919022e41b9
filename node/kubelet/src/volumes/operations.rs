//! When a volume that could not be made is tried again: after 500 ms, 1 s, 2 s and so on up to 2 min 2 s, each
//! volume by itself, and whatever wakes its pod's worker meanwhile. To mount its device and to set it up
//! are one operation, whose failures count together.
//!
//! A pod that has waited for its volumes for two minutes is told of all of them.
//!
//! Upstream: `pkg/util/goroutinemap/exponentialbackoff` and `MountVolume` of
//! `pkg/volume/util/operationexecutor`; `WaitForAttachAndMount` of `pkg/kubelet/volumemanager`.
//!
//! Deviation: a volume is tried again at once when what it is made from comes (a ConfigMap, a Secret, a
//! driver, the end of the pod that had it); upstream waits for its time. Of a volume that several pods of
//! a node share each is tried at its own times.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::MountError;
use crate::pod::PodUid;

/// `initialDurationBeforeRetry`, `maxDurationBeforeRetry`.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(122);
/// `podAttachAndMountTimeout`.
const LIMIT: Duration = Duration::from_secs(123);
/// Between the end of one such wait and the next one: `backOffPeriod` of upstream's workers.
const BETWEEN: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Operations(Mutex<HashMap<PodUid, Waiting>>);

/// A pod that has not all of its volumes.
struct Waiting {
    /// Since when, or since it was last told.
    since: Instant,
    failed: BTreeMap<String, Failed>,
}

struct Failed {
    pause: Duration,
    until: Instant,
}

impl Operations {
    pub(super) fn is_held(&self, uid: &PodUid, volume: &str) -> bool {
        let pods = self.0.lock();
        let failed = pods.get(uid).and_then(|it| it.failed.get(volume));
        failed.is_some_and(|it| Instant::now() < it.until)
    }

    pub(super) fn failed(&self, uid: &PodUid, volume: &str) {
        let (mut pods, now) = (self.0.lock(), Instant::now());
        let waiting = pods.entry(uid.clone());
        let waiting = waiting.or_insert_with(|| Waiting { since: now, failed: BTreeMap::new() });
        let last = waiting.failed.get(volume);
        let pause = last.map_or(FIRST, |it| (it.pause * 2).min(LONGEST));
        waiting.failed.insert(volume.to_owned(), Failed { pause, until: now + pause });
    }

    pub(super) fn done(&self, uid: &PodUid, volume: &str) {
        let mut pods = self.0.lock();
        let Some(waiting) = pods.get_mut(uid) else { return };
        waiting.failed.remove(volume);
        if waiting.failed.is_empty() {
            pods.remove(uid);
        }
    }

    pub(super) fn forget(&self, uid: &PodUid) {
        self.0.lock().remove(uid);
    }

    /// When there is something to do: the next try, or a word to the pod's owner.
    pub(super) fn again(&self, uid: &PodUid) -> Option<Instant> {
        let pods = self.0.lock();
        let waiting = pods.get(uid)?;
        let next = waiting.failed.values().map(|it| it.until).min()?;
        Some(next.min(waiting.since + LIMIT))
    }

    /// What fails is tried at its next chance; how long it waits after that stays.
    pub(super) fn try_again(&self, uid: &PodUid) -> bool {
        let (mut pods, now) = (self.0.lock(), Instant::now());
        let Some(waiting) = pods.get_mut(uid) else { return false };
        waiting.failed.values_mut().for_each(|it| it.until = it.until.min(now));
        !waiting.failed.is_empty()
    }

    /// What is told of volumes that the pod has waited for too long; what it has it keeps, though it cannot be
    /// made again.
    pub(super) fn time_out(&self, uid: &PodUid, volumes: Vec<String>) -> Option<MountError> {
        let (mut pods, now) = (self.0.lock(), Instant::now());
        let waiting = pods.get_mut(uid).filter(|it| now >= it.since + LIMIT)?;
        waiting.since = now + BETWEEN;
        (!volumes.is_empty()).then_some(MountError::TimedOut { volumes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid() -> PodUid {
        PodUid("u".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn each_volume_is_tried_later_and_later_by_itself() {
        let (operations, begun) = (Operations::default(), Instant::now());
        let mut tries = Vec::new();
        for _ in 0..11 {
            tries.push(begun.elapsed().as_secs_f32());
            operations.failed(&uid(), "v");
            assert!(operations.is_held(&uid(), "v") && !operations.is_held(&uid(), "other"));
            while operations.is_held(&uid(), "v") {
                tokio::time::advance(Duration::from_millis(500)).await;
            }
        }
        let wanted = [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5, 127.5, 249.5, 371.5];
        assert_eq!(tries, wanted);
        operations.failed(&uid(), "v");
        operations.done(&uid(), "v");
        assert!(operations.again(&uid()).is_none() && !operations.try_again(&uid()));
        operations.failed(&uid(), "v");
        assert_eq!(operations.again(&uid()), Some(Instant::now() + FIRST), "a first one again");
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_had_is_tried_at_once_and_waits_longer_if_it_cannot() {
        let operations = Operations::default();
        operations.failed(&uid(), "v");
        operations.failed(&uid(), "v");
        assert!(operations.try_again(&uid()) && !operations.is_held(&uid(), "v"));
        operations.failed(&uid(), "v");
        assert_eq!(operations.again(&uid()), Some(Instant::now() + 4 * FIRST));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_waits_for_two_minutes_is_told_of_all_its_volumes() {
        let operations = Operations::default();
        let told = || operations.time_out(&uid(), vec!["a".to_owned(), "b".to_owned()]);
        assert!(told().is_none(), "nobody waits");
        for _ in 0..10 {
            operations.failed(&uid(), "a");
        }
        tokio::time::advance(LIMIT - FIRST).await;
        assert!(told().is_none());
        tokio::time::advance(FIRST).await;
        let text = "Unable to attach or mount volumes: unmounted volumes=[a b], unattached volumes=[], failed to process volumes=[]: context deadline exceeded";
        assert_eq!(told().unwrap().to_string(), text);
        tokio::time::advance(LIMIT).await;
        assert!(told().is_none());
        tokio::time::advance(BETWEEN).await;
        assert!(told().is_some());
    }
}
