//! Threads that make the volumes of a pod. They go on when nobody waits for them any more, and what they
//! make after the pod's folder is gone would stay: whoever takes it away waits for them first.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use crate::pod::PodUid;

/// Held by a thread for as long as it works.
pub(super) type Begun = OwnedRwLockReadGuard<()>;

/// Each thread holds the lock of its pod for reading.
#[derive(Default)]
pub(super) struct Threads(Mutex<HashMap<PodUid, Arc<RwLock<()>>>>);

impl Threads {
    pub(super) async fn begin(&self, uid: &PodUid) -> Begun {
        let lock = self.0.lock().entry(uid.clone()).or_default().clone();
        lock.read_owned().await
    }

    /// Returns when none of the pod is at work; those that do not come back are given up.
    pub(super) async fn ended(&self, uid: &PodUid, limit: Duration) {
        let Some(lock) = self.0.lock().remove(uid) else { return };
        drop(tokio::time::timeout(limit, lock.write()).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_volumes_away_waits_for_those_who_make_them_but_not_for_ever() {
        let (threads, uid) = (Threads::default(), PodUid("u".to_owned()));
        let limit = Duration::from_secs(60);
        let begun = threads.begin(&uid).await;
        let other = threads.begin(&PodUid("other".to_owned())).await;
        {
            let mut ended = std::pin::pin!(threads.ended(&uid, limit));
            assert!(futures::poll!(&mut ended).is_pending());
            drop(begun);
            assert!(futures::poll!(&mut ended).is_ready());
        }
        let begun = tokio::time::Instant::now();
        threads.ended(&PodUid("other".to_owned()), limit).await;
        assert_eq!(begun.elapsed(), limit, "it does not come back");
        drop(other);
    }
}
