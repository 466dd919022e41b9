//! Keys to work on: each at most once in the queue, and by one worker at a time.
//!
//! A key that is added while it is being worked on is queued again when that pass ends, so no
//! change is missed and no two passes of one key overlap. Failures come back later and later.
//!
//! Upstream: `client-go/util/workqueue`. The queue is bounded by the number of distinct keys.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::measures::{self, Measured, QueueCounts};

/// Client-go's base delay of an item that fails.
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// Deviation: client-go goes up to 1000 s, which is longer than anybody waits here.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// See the module. Clones share the queue.
pub struct Queue<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    ready: VecDeque<T>,
    /// In `ready`, or to be queued again after the pass that is under way; since when.
    dirty: HashMap<T, Instant>,
    /// Since when.
    working: HashMap<T, Instant>,
    /// By due time; the number keeps equal times apart.
    later: BTreeMap<(Instant, u64), T>,
    due: HashMap<T, (Instant, u64)>,
    failures: HashMap<T, u32>,
    sequence: u64,
    counts: QueueCounts,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T> std::fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("Queue")
            .field("ready", &state.ready.len())
            .field("later", &state.later.len())
            .finish_non_exhaustive()
    }
}

impl<T: Clone + Eq + Hash> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Eq + Hash> Queue<T> {
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashMap::new(),
            working: HashMap::new(),
            later: BTreeMap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            sequence: 0,
            counts: QueueCounts::default(),
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }) }
    }

    /// Queues a key, unless it is queued already.
    pub fn add(&self, key: T) {
        self.shared.state.lock().add(key);
        self.shared.changed.notify_one();
    }

    /// Queues a key after `delay`. Of several delays the earliest counts.
    pub fn add_after(&self, key: T, delay: Duration) {
        self.shared.state.lock().counts.retries += 1;
        if delay.is_zero() {
            return self.add(key);
        }
        self.shared.state.lock().add_at(key, Instant::now() + delay);
        self.shared.changed.notify_one();
    }

    /// Queues a key after a delay that doubles with each failure.
    pub fn retry(&self, key: T) {
        let delay = self.shared.state.lock().next_delay(&key);
        self.add_after(key, delay);
    }

    /// The next key; [`Queue::done`] must follow.
    pub async fn next(&self) -> T {
        loop {
            let changed = self.shared.changed.notified();
            let (ready, wake) = self.shared.state.lock().take(Instant::now());
            if let Some(key) = ready {
                return key;
            }
            match wake {
                None => changed.await,
                Some(at) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
            }
        }
    }

    /// Ends the pass over a key. `succeeded` forgets its failures.
    pub fn done(&self, key: &T, succeeded: bool) {
        let mut state = self.shared.state.lock();
        if let Some(since) = state.working.remove(key) {
            state.counts.worked(since.elapsed());
        }
        if succeeded {
            state.failures.remove(key);
        }
        if state.dirty.contains_key(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.shared.changed.notify_one();
        }
    }

    /// How many keys wait to be worked on now.
    pub fn len(&self) -> usize {
        self.shared.state.lock().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shows what the queue counts in the metrics of the process.
    pub(crate) fn show(&self, name: &str)
    where
        T: Send + 'static,
    {
        let shared = Arc::downgrade(&self.shared);
        measures::show_queue(name, shared as Weak<dyn Measured>);
    }
}

impl<T: Send> Measured for Shared<T> {
    fn counts(&self) -> QueueCounts {
        let state = self.state.lock();
        let running = || state.working.values().map(Instant::elapsed);
        let mut counts = state.counts.clone();
        counts.depth = state.dirty.len();
        counts.unfinished = running().sum();
        counts.longest = running().max().unwrap_or_default();
        counts
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    fn add(&mut self, key: T) {
        if let Some(at) = self.due.remove(&key) {
            self.later.remove(&at);
        }
        if self.dirty.contains_key(&key) {
            return;
        }
        self.dirty.insert(key.clone(), Instant::now());
        self.counts.adds += 1;
        if !self.working.contains_key(&key) {
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: T, at: Instant) {
        if self.dirty.contains_key(&key) {
            return;
        }
        if let Some(known) = self.due.get(&key).copied() {
            if known.0 <= at {
                return;
            }
            self.later.remove(&known);
        }
        self.sequence += 1;
        let slot = (at, self.sequence);
        self.due.insert(key.clone(), slot);
        self.later.insert(slot, key);
    }

    fn next_delay(&mut self, key: &T) -> Duration {
        let failures = self.failures.entry(key.clone()).or_default();
        let delay = FIRST_RETRY.saturating_mul(1 << (*failures).min(20));
        *failures += 1;
        delay.min(LAST_RETRY)
    }

    /// A key that may be worked on now, or when to look again.
    fn take(&mut self, now: Instant) -> (Option<T>, Option<Instant>) {
        while let Some((&slot, _)) = self.later.first_key_value()
            && slot.0 <= now
        {
            if let Some(key) = self.later.remove(&slot) {
                self.due.remove(&key);
                self.add(key);
            }
        }
        let next = self.ready.pop_front();
        if let Some(key) = &next {
            if let Some(since) = self.dirty.remove(key) {
                self.counts.waited(now.saturating_duration_since(since));
            }
            self.working.insert(key.clone(), now);
        }
        (next, self.later.keys().next().map(|slot| slot.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_idle(queue: &Queue<&'static str>) -> bool {
        let soon = Duration::from_millis(1);
        tokio::time::timeout(soon, queue.next()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_queued_once_and_never_worked_on_twice_at_once() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert!(is_idle(&queue).await);
        queue.done(&"a", true);
        assert_eq!(queue.next().await, "a");
        queue.done(&"a", true);
        assert!(is_idle(&queue).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_and_what_is_worked_on_is_counted_under_its_name() {
        let queue = Queue::new();
        queue.show("of-a-test");
        queue.add("a");
        queue.add("a");
        queue.add("b");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        tokio::time::sleep(Duration::from_secs(5)).await;
        let page = || {
            let page = measures::render();
            let ours = page.lines().filter(|it| it.contains("name=\"of-a-test\""));
            ours.map(str::to_owned).collect::<Vec<_>>()
        };
        let has = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let (name, more) = name.split_once(',').unwrap_or((name, ""));
            let more = if more.is_empty() { String::new() } else { format!(",{more}") };
            let line = format!("workqueue_{name}{{name=\"of-a-test\"{more}}} {value}");
            assert!(page().contains(&line), "{line}: {:#?}", page());
        };
        has("adds_total 3");
        has("depth 2");
        has("unfinished_work_seconds 5");
        has("longest_running_processor_seconds 5");
        has("queue_duration_seconds_sum 2");
        queue.done(&"a", false);
        queue.retry("a");
        has("retries_total 1");
        has("unfinished_work_seconds 0");
        has("work_duration_seconds_bucket,le=\"1\" 0");
        has("work_duration_seconds_bucket,le=\"10\" 1");
        drop(queue);
        assert!(page().is_empty(), "what is gone is no longer told of");
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_delays_the_earliest_counts() {
        let queue = Queue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(30));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed().as_secs(), 5);
        queue.done(&"a", true);
        assert!(is_idle(&queue).await);
    }

    #[tokio::test(start_paused = true)]
    async fn adding_now_replaces_a_delay() {
        let queue = Queue::new();
        queue.add_after("a", Duration::from_secs(60));
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a", true);
        tokio::time::advance(Duration::from_secs(120)).await;
        assert!(is_idle(&queue).await);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_back_later_and_later_until_one_succeeds() {
        let queue = Queue::new();
        let mut waits = Vec::new();
        for round in 0..4 {
            let start = Instant::now();
            queue.retry("a");
            assert_eq!(queue.next().await, "a");
            waits.push(start.elapsed().as_millis());
            queue.done(&"a", round == 2);
        }
        assert_eq!(waits, [5, 10, 20, 5]);
    }
}
