//! Keeps one object from filling the API with events: a pod whose probe says something else each time
//! would write one a second for ever, and no other pod's would be written meanwhile.
//!
//! Of events that differ in their message alone the first ten of ten minutes are told as they are, and
//! the others as one that says so. Of all events of an object 25 are told at once, and then one in
//! five minutes; the others are dropped.
//!
//! Of a message its hash is kept: the output of a probe may be ten kilobytes long. The hashes are keyed, so
//! that nobody can make two messages that count as one.
//!
//! Upstream: `EventCorrelator` of `client-go/tools/record/events_cache.go` with its defaults.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::time::Instant;

const MOST_SIMILAR: usize = 10;
const SIMILAR_FOR: Duration = Duration::from_secs(600);
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);
/// How many objects, and how many kinds of their events, are remembered.
const REMEMBERED: usize = 4096;
const COMBINED: &str = "(combined from similar events): ";

/// An object, by what its events name.
type Object = (Option<String>, Option<String>, Option<String>, Option<String>);
/// Events that differ in their message alone.
type Group = (Object, bool, String);

struct Similar {
    /// Their hashes.
    messages: BTreeSet<u64>,
    last: Instant,
}

/// So many events may be told at once.
struct Bucket {
    left: u32,
    /// When the last one came into it.
    filled: Instant,
}

#[derive(Default)]
pub(super) struct Correlator {
    hasher: RandomState,
    groups: HashMap<Group, Similar>,
    buckets: HashMap<Object, Bucket>,
}

/// How an event is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub message: String,
    /// It stands for others of its kind, whatever their messages.
    pub is_combined: bool,
}

impl Correlator {
    /// `None` for an event that is dropped.
    pub(super) fn add(
        &mut self,
        object: &ObjectReference,
        (is_warning, reason): (bool, &str),
        message: String,
        now: Instant,
    ) -> Option<Told> {
        let own = || {
            let it = object.clone();
            (it.kind, it.namespace, it.name, it.uid)
        };
        let told = self.combined((own(), is_warning, reason.to_owned()), message, now);
        self.takes(own(), now).then_some(told)
    }

    fn combined(&mut self, group: Group, message: String, now: Instant) -> Told {
        if self.groups.len() >= REMEMBERED {
            self.groups.retain(|_, it| now - it.last <= SIMILAR_FOR);
        }
        if self.groups.len() >= REMEMBERED {
            self.groups.clear();
        }
        let fresh = || Similar { messages: BTreeSet::new(), last: now };
        let similar = self.groups.entry(group).or_insert_with(fresh);
        if now - similar.last > SIMILAR_FOR {
            *similar = fresh();
        }
        similar.last = now;
        let hash = self.hasher.hash_one(&message);
        let is_known = similar.messages.contains(&hash);
        if similar.messages.len() + usize::from(!is_known) < MOST_SIMILAR {
            similar.messages.insert(hash);
            return Told { message, is_combined: false };
        }
        Told { message: format!("{COMBINED}{message}"), is_combined: true }
    }

    fn takes(&mut self, object: Object, now: Instant) -> bool {
        if self.buckets.len() >= REMEMBERED {
            // Those that are full again say as much as none.
            self.buckets.retain(|_, it| now - it.filled < REFILL * (BURST - it.left));
        }
        if self.buckets.len() >= REMEMBERED {
            self.buckets.clear();
        }
        let full = || Bucket { left: BURST, filled: now };
        let bucket = self.buckets.entry(object).or_insert_with(full);
        let passed = u32::try_from((now - bucket.filled).as_secs() / REFILL.as_secs());
        let came = passed.unwrap_or(u32::MAX).min(BURST);
        bucket.left = (bucket.left + came).min(BURST);
        bucket.filled = if bucket.left == BURST { now } else { bucket.filled + REFILL * came };
        let takes = bucket.left > 0;
        bucket.left = bucket.left.saturating_sub(1);
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> ObjectReference {
        ObjectReference { name: Some(name.to_owned()), ..ObjectReference::default() }
    }

    #[test]
    fn messages_beyond_the_tenth_of_a_kind_are_told_together_until_it_is_quiet() {
        let (mut events, start) = (Correlator::default(), Instant::now());
        let mut add = |reason: &str, number: usize, after: u64| {
            let now = start + Duration::from_secs(after);
            events.add(&pod("p"), (true, reason), format!("{number}"), now).unwrap()
        };
        for number in 0..9 {
            assert_eq!(add("Unhealthy", number, 0).message, number.to_string());
        }
        let tenth = add("Unhealthy", 9, 0);
        assert_eq!(tenth.message, "(combined from similar events): 9");
        assert!(tenth.is_combined);
        assert!(!add("Unhealthy", 3, 0).is_combined, "what was told is counted");
        assert!(!add("Killing", 9, 0).is_combined, "another kind");
        assert!(add("Unhealthy", 10, 600).is_combined);
        assert!(!add("Unhealthy", 11, 1201).is_combined);
    }

    #[test]
    fn an_object_tells_25_events_at_once_and_then_one_in_five_minutes() {
        let (mut events, start) = (Correlator::default(), Instant::now());
        let mut told = |name: &str, count: usize, after: u64| {
            let now = start + Duration::from_secs(after);
            let add = |_| events.add(&pod(name), (true, "r"), "m".to_owned(), now);
            (0..count).filter_map(add).count()
        };
        assert_eq!(told("noisy", 40, 0), 25);
        assert_eq!(told("quiet", 1, 0), 1, "another object");
        assert_eq!(told("noisy", 5, 299), 0);
        assert_eq!(told("noisy", 5, 300), 1);
        assert_eq!(told("noisy", 5, 599), 0);
        assert_eq!(told("noisy", 5, 1200), 3);
        assert_eq!(told("noisy", 40, 100_000), 25);
    }

    #[test]
    fn however_many_objects_there_are_so_many_are_remembered() {
        let (mut events, now) = (Correlator::default(), Instant::now());
        for number in 0..3 * REMEMBERED {
            let name = number.to_string();
            assert!(events.add(&pod(&name), (false, "r"), String::new(), now).is_some());
        }
        assert!(events.groups.len() <= REMEMBERED && events.buckets.len() <= REMEMBERED);
    }
}
