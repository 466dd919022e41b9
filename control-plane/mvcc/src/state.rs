//! The store's memory: current records, history, subscriptions.
//!
//! **Invariant:** `history` holds every event with a revision above `compacted`, in order, and
//! nothing else. So the state at any revision above it can be had by undoing events.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use tokio::sync::mpsc;

use crate::{Event, Limits, Record};

/// How many events may wait for one watcher before it is cancelled.
const WATCHER_QUEUE: usize = 8192;

/// The revision is no longer (or not yet) known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {asked} has been compacted: the oldest is {oldest}")]
pub struct Compacted {
    pub asked: u64,
    pub oldest: u64,
}

/// A page of records.
#[derive(Clone, Debug)]
pub struct Range {
    pub records: Vec<Arc<Record>>,
    /// The revision at which the records were read.
    pub revision: u64,
    /// How many more records follow this page.
    pub remaining: usize,
}

#[derive(Debug)]
struct Subscriber {
    prefix: Box<str>,
    after: u64,
    events: mpsc::Sender<Arc<Event>>,
}

pub(crate) struct Subscription {
    pub(crate) backlog: VecDeque<Arc<Event>>,
    pub(crate) events: mpsc::Receiver<Arc<Event>>,
}

/// Log entries that a compaction makes useless: revision and index.
pub(crate) type Garbage = Vec<(u64, u32)>;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) revision: u64,
    pub(crate) compacted: u64,
    pub(crate) current: BTreeMap<Arc<str>, Arc<Record>>,
    history: VecDeque<Arc<Event>>,
    history_bytes: usize,
    buckets: HashMap<Box<str>, u64>,
    subscribers: HashMap<Box<str>, Vec<Subscriber>>,
}

/// The first two segments of a key, with their slashes.
fn bucket(key: &str) -> &str {
    let second = key.match_indices('/').nth(1);
    second.map_or(key, |(at, _)| &key[..=at])
}

fn weight(event: &Event) -> usize {
    event.previous.as_ref().map_or(0, |it| it.value.len()) + 64
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            current: BTreeMap::new(),
            history: VecDeque::new(),
            history_bytes: 0,
            buckets: HashMap::new(),
            subscribers: HashMap::new(),
        }
    }

    /// The state at `revision`, of which nothing before is known.
    pub(crate) fn loaded(records: impl Iterator<Item = Arc<Record>>, revision: u64) -> Self {
        let mut state = Self { revision, compacted: revision, ..Self::new() };
        for record in records {
            let last = state.buckets.entry(bucket(&record.key).into()).or_default();
            *last = record.mod_revision.max(*last);
            state.current.insert(record.key.clone(), record);
        }
        state
    }

    pub(crate) fn bucket_revision(&self, key: &str) -> u64 {
        self.buckets.get(bucket(key)).copied().unwrap_or_default()
    }

    /// Makes durable events visible, to readers and then to watchers.
    pub(crate) fn apply(&mut self, event: Event) {
        self.revision = event.revision;
        match &event.record {
            Some(record) => drop(self.current.insert(event.key.clone(), record.clone())),
            None => drop(self.current.remove(&event.key)),
        }
        let event = Arc::new(event);
        match self.buckets.get_mut(bucket(&event.key)) {
            Some(revision) => *revision = event.revision,
            None => drop(self.buckets.insert(bucket(&event.key).into(), event.revision)),
        }
        self.notify(&event);
        if event.revision > self.compacted {
            self.history_bytes += weight(&event);
            self.history.push_back(event);
        }
    }

    fn notify(&mut self, event: &Arc<Event>) {
        let Some(subscribers) = self.subscribers.get_mut(bucket(&event.key)) else { return };
        subscribers.retain(|it| {
            let is_wanted = event.revision > it.after && event.key.starts_with(&*it.prefix);
            // A watcher that is gone or too slow loses its channel; it resumes by revision.
            if is_wanted {
                it.events.try_send(event.clone()).is_ok()
            } else {
                !it.events.is_closed()
            }
        });
    }

    pub(crate) fn subscribe(
        &mut self,
        prefix: &str,
        after: u64,
    ) -> Result<Subscription, Compacted> {
        self.check(after)?;
        let from = self.history.partition_point(|it| it.revision <= after);
        let past = self.history.range(from..);
        let backlog = past.filter(|it| it.key.starts_with(prefix)).cloned().collect();
        let (sender, events) = mpsc::channel(WATCHER_QUEUE);
        let subscriber = Subscriber { prefix: prefix.into(), after, events: sender };
        self.subscribers.entry(bucket(prefix).into()).or_default().push(subscriber);
        Ok(Subscription { backlog, events })
    }

    fn check(&self, revision: u64) -> Result<(), Compacted> {
        if revision < self.compacted {
            return Err(Compacted { asked: revision, oldest: self.compacted });
        }
        Ok(())
    }

    fn below<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Record>)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let bounds = (from, Bound::Unbounded);
        self.current.range::<str, _>(bounds).take_while(move |(key, _)| key.starts_with(prefix))
    }

    pub(crate) fn count(&self, prefix: &str) -> usize {
        self.below(prefix, None).count()
    }

    pub(crate) fn scan(&self, prefix: &str) -> Vec<Arc<Record>> {
        self.below(prefix, None).map(|(_, record)| record.clone()).collect()
    }

    pub(crate) fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: Option<usize>,
        at: Option<u64>,
    ) -> Result<Range, Compacted> {
        let at = at.unwrap_or(self.revision);
        self.check(at)?;
        if at < self.bucket_revision(prefix) {
            return Ok(self.range_in_the_past(prefix, after, limit, at));
        }
        let mut found = self.below(prefix, after);
        let limit = limit.unwrap_or(usize::MAX);
        let records = found.by_ref().take(limit).map(|(_, it)| it.clone()).collect();
        Ok(Range { records, revision: at, remaining: found.count() })
    }

    fn range_in_the_past(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: Option<usize>,
        at: u64,
    ) -> Range {
        let mut past: BTreeMap<&str, &Arc<Record>> =
            self.below(prefix, None).map(|(key, record)| (&**key, record)).collect();
        for event in self.history.iter().rev().take_while(|it| it.revision > at) {
            if !event.key.starts_with(prefix) {
                continue;
            }
            match &event.previous {
                Some(previous) => past.insert(&event.key, previous),
                None => past.remove(&*event.key),
            };
        }
        let mut found = past.into_iter().filter(|(key, _)| after.is_none_or(|after| *key > after));
        let limit = limit.unwrap_or(usize::MAX);
        let records = found.by_ref().take(limit).map(|(_, it)| it.clone()).collect();
        Range { records, revision: at, remaining: found.count() }
    }

    /// The revision up to which history should go, if it is over its limits.
    pub(crate) fn compaction_target(&self, limits: Limits) -> Option<u64> {
        let (mut events, mut bytes) = (self.history.len(), self.history_bytes);
        if events <= limits.history_events && bytes <= limits.history_bytes {
            return None;
        }
        // A quarter at once, so that it does not happen with each commit.
        let (keep_events, keep_bytes) =
            (limits.history_events / 4 * 3, limits.history_bytes / 4 * 3);
        let mut target = None;
        for event in &self.history {
            if events <= keep_events && bytes <= keep_bytes {
                break;
            }
            events -= 1;
            bytes -= weight(event);
            target = Some(event.revision);
        }
        target
    }

    /// What a compaction up to `revision` makes useless in the log.
    pub(crate) fn garbage(&self, revision: u64) -> Garbage {
        let mut garbage = Vec::new();
        for event in self.history.iter().take_while(|it| it.revision <= revision) {
            if let Some(previous) = &event.previous {
                garbage.push((previous.mod_revision, previous.index));
            }
        }
        garbage
    }

    pub(crate) fn forget(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision.min(self.revision));
        while self.history.front().is_some_and(|it| it.revision <= self.compacted) {
            let event = self.history.pop_front().expect("the front was just seen");
            self.history_bytes -= weight(&event);
        }
    }
}
