//! What a controller did that its caches do not show yet.
//!
//! Without them a pass over a stale cache would create the same pods again. A key whose
//! expectations are open is not managed until the watch has caught up, or until they are so old
//! that the watch must have missed something.
//!
//! Upstream: `pkg/controller/controller_utils.go` (`UIDTrackingControllerExpectations`).

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use controller::Key;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Upstream's `ExpectationsTimeout`.
const FORGET_AFTER: Duration = Duration::from_secs(5 * 60);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Expectations(Mutex<HashMap<Key, Open>>);

#[derive(Debug)]
struct Open {
    creations: usize,
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    /// Announces creations, before they are made.
    pub(crate) fn expect_creations(&self, key: &Key, count: usize) {
        self.change(key, |open| {
            open.creations += count;
            open.since = Instant::now();
        });
    }

    /// Announces a deletion, before it is made.
    pub(crate) fn expect_deletion(&self, key: &Key, uid: String) {
        self.change(key, |open| {
            open.deletions.insert(uid);
            open.since = Instant::now();
        });
    }

    /// The watch showed creations, or they failed.
    pub(crate) fn created(&self, key: &Key, count: usize) {
        if let Some(open) = self.0.lock().get_mut(key) {
            open.creations = open.creations.saturating_sub(count);
        }
    }

    /// The watch showed a deletion, or it failed.
    pub(crate) fn deleted(&self, key: &Key, uid: &str) {
        if let Some(open) = self.0.lock().get_mut(key) {
            open.deletions.remove(uid);
        }
    }

    pub(crate) fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }

    /// Whether the caches show all that was done.
    pub(crate) fn are_met(&self, key: &Key) -> bool {
        self.0.lock().get(key).is_none_or(|open| {
            let is_open = open.creations > 0 || !open.deletions.is_empty();
            !is_open || open.since.elapsed() > FORGET_AFTER
        })
    }

    fn change(&self, key: &Key, change: impl FnOnce(&mut Open)) {
        let mut all = self.0.lock();
        let open = all.entry(key.clone()).or_insert_with(|| Open {
            creations: 0,
            deletions: HashSet::new(),
            since: Instant::now(),
        });
        if open.since.elapsed() > FORGET_AFTER {
            open.creations = 0;
            open.deletions.clear();
        }
        change(open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn expectations_are_met_by_what_the_watch_shows_or_by_age() {
        let (expectations, key) = (Expectations::default(), Key::new("default", "web"));
        assert!(expectations.are_met(&key));
        expectations.expect_creations(&key, 2);
        expectations.created(&key, 1);
        assert!(!expectations.are_met(&key));
        expectations.created(&key, 1);
        expectations.expect_deletion(&key, "1".into());
        assert!(!expectations.are_met(&key));
        expectations.deleted(&key, "1");
        assert!(expectations.are_met(&key));
        expectations.expect_creations(&key, 1);
        tokio::time::advance(FORGET_AFTER + Duration::from_secs(1)).await;
        assert!(expectations.are_met(&key));
    }
}
