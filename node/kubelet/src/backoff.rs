//! Upstream's back-off: 10 s, doubled to 5 min, forgotten after 10 quiet minutes.
//!
//! `crashLoopBackOff.maxContainerRestartPeriod` makes the longest wait of containers shorter, and the
//! first one too where it is below 10 s.
//!
//! Its times are those of [`Pace`](crate::pace::Pace).
//!
//! Upstream: `client-go/util/flowcontrol/backoff.go`; the times are `kubelet.go`'s
//! `initialNodeBackOff…` and `MaxCrashLoopBackOff`.
//!
//! Deviation: a date that is set back holds nothing back; upstream waits until the date of the failure
//! has come again.

use std::{collections::HashMap, hash::Hash, time::Duration};

use jiff::Timestamp;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
/// After so long without a failure the next one is a first one.
const FORGIVEN: Duration = Duration::from_secs(600);

/// What is held back, by key.
#[derive(Clone, Debug)]
pub(crate) struct Backoffs<K> {
    entries: HashMap<K, Entry>,
    longest: Duration,
}

impl<K> Default for Backoffs<K> {
    fn default() -> Self {
        Self::up_to(LONGEST)
    }
}

impl<K> Backoffs<K> {
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self { entries: HashMap::new(), longest }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: Duration,
    updated: Timestamp,
}

impl<K: Eq + Hash> Backoffs<K> {
    /// Whether an attempt for `key`, whose last failure was at `failed`, has to wait: for how long in
    /// all, and until when.
    pub(crate) fn held(
        &self,
        key: &K,
        failed: Timestamp,
        now: Timestamp,
    ) -> Option<(Duration, Timestamp)> {
        let entry = self.entries.get(key).filter(|it| !it.is_forgotten(failed))?;
        let until = failed + entry.delay;
        (now < until).then_some((entry.delay, until))
    }

    /// Notes an attempt after a failure at `failed`: the next failure waits longer.
    pub(crate) fn note(&mut self, key: K, failed: Timestamp, now: Timestamp) {
        let delay = match self.entries.get(&key) {
            Some(entry) if !entry.is_forgotten(failed) => (entry.delay * 2).min(self.longest),
            _ => FIRST.min(self.longest),
        };
        self.entries.insert(key, Entry { delay, updated: now });
    }

    pub(crate) fn retain(&mut self, is_kept: impl Fn(&K) -> bool) {
        self.entries.retain(|key, _| is_kept(key));
    }

    pub(crate) fn forget(&mut self, key: &K) {
        self.entries.remove(key);
    }
}

impl Entry {
    fn is_forgotten(&self, at: Timestamp) -> bool {
        at > self.updated + FORGIVEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_failure_is_retried_at_once_and_later_ones_wait_twice_as_long() {
        let mut backoffs = Backoffs::default();
        let mut now = 0;
        assert_eq!(backoffs.held(&"c", at(now), at(now)), None);
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            backoffs.note("c", at(now), at(now));
            let (delay, until) = backoffs.held(&"c", at(now), at(now)).unwrap();
            assert_eq!(delay, Duration::from_secs(expected));
            assert_eq!(backoffs.held(&"c", at(now), until), None, "ends on time");
            now += expected;
        }
    }

    #[test]
    fn a_shorter_longest_wait_is_kept_to() {
        let mut backoffs = Backoffs::up_to(Duration::from_secs(4));
        for _ in 0..3 {
            backoffs.note("c", at(0), at(0));
            assert_eq!(backoffs.held(&"c", at(0), at(0)).unwrap().0, Duration::from_secs(4));
        }
    }

    #[test]
    fn ten_quiet_minutes_are_forgiven() {
        let mut backoffs = Backoffs::default();
        backoffs.note("c", at(0), at(0));
        backoffs.note("c", at(10), at(10));
        assert_eq!(backoffs.held(&"c", at(611), at(611)), None);
        backoffs.note("c", at(611), at(611));
        assert_eq!(backoffs.held(&"c", at(611), at(611)).unwrap().0, FIRST);
    }
}
