//! The pods that wait: ready to be tried, backing off, or until something changes.
//!
//! Ready pods are taken by priority, then by age. A pod that fits nowhere is parked with the
//! plug-ins that refused it; an event that could change their minds brings it back, not before its
//! back-off is over, unless nobody else is ready. Who backs off from an error waits in any case.
//!
//! Upstream: `backend/queue/scheduling_queue.go`.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use controller::Key;
use scheduling::Plugin;
use tokio::time::Instant;

/// Parked pods are tried again after this time whatever happens (`unschedulableQ` flush).
const PARKED_FOR: Duration = Duration::from_secs(5 * 60);

/// Something that could make room for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    NodeAdded,
    NodeChanged,
    /// A pod left its node.
    PodRemoved,
    /// A pod was placed, or its labels changed.
    PodPlaced,
    VolumesChanged,
    /// A claim of devices or a slice of them.
    DevicesChanged,
    /// A class of devices: it may stand for an extended resource.
    DeviceClassesChanged,
    /// A volume was detached, or a node may have more of them.
    AttachmentsChanged,
}

impl Event {
    /// As metrics call it.
    fn text(self) -> &'static str {
        match self {
            Self::NodeAdded => "NodeAdd",
            Self::NodeChanged => "NodeUpdate",
            Self::PodRemoved => "AssignedPodDelete",
            Self::PodPlaced => "AssignedPodAdd",
            Self::VolumesChanged => "PersistentVolumeClaimUpdate",
            Self::DevicesChanged => "ResourceClaimUpdate",
            Self::DeviceClassesChanged => "DeviceClassUpdate",
            Self::AttachmentsChanged => "CSINodeUpdate",
        }
    }

    /// Whether a pod that `plugin` refused might now be let through.
    fn may_help(self, plugin: Plugin) -> bool {
        use Plugin as P;
        match self {
            // An extender does not say what could change its mind.
            _ if plugin == P::Extender => true,
            Self::NodeAdded => true,
            Self::NodeChanged => plugin != P::NodePorts,
            Self::PodRemoved => matches!(
                plugin,
                P::NodePorts
                    | P::NodeResourcesFit
                    | P::VolumeRestrictions
                    | P::NodeVolumeLimits
                    | P::PodTopologySpread
                    | P::InterPodAffinity
            ),
            Self::PodPlaced => matches!(plugin, P::PodTopologySpread | P::InterPodAffinity),
            Self::DevicesChanged => plugin == P::DynamicResources,
            Self::DeviceClassesChanged => {
                matches!(plugin, P::DynamicResources | P::NodeResourcesFit)
            }
            Self::VolumesChanged => matches!(
                plugin,
                P::VolumeBinding | P::VolumeZone | P::VolumeRestrictions | P::NodeVolumeLimits
            ),
            Self::AttachmentsChanged => plugin == P::NodeVolumeLimits,
        }
    }
}

const ACTIVE: &str = "active";
const BACKOFF: &str = "backoff";
const UNSCHEDULABLE: &str = "unschedulable";
const GATED: &str = "gated";
/// Upstream's names of what brings a pod into a queue that is no change in the cluster.
const ADDED: &str = "UnschedulablePodAdd";
const UPDATED: &str = "UnschedulablePodUpdate";
const FAILED: &str = "ScheduleAttemptFailure";
const BACKED_OFF: &str = "BackoffComplete";
const TIMED_OUT: &str = "UnschedulableTimeout";
const PREEMPTED: &str = "AssignedPodDelete";

/// How many pods came into a queue by an event.
pub(crate) type Incoming = BTreeMap<(&'static str, &'static str), u64>;

type Rank = (Reverse<i32>, u64);

#[derive(Debug)]
struct Entry {
    /// Pods of equal priority are served in the order in which they came.
    rank: Rank,
    attempts: u32,
    /// When it was tried first.
    first: Option<Instant>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Ready,
    BackingOff {
        until: Instant,
    },
    Parked {
        until: Instant,
        plugins: BTreeSet<Plugin>,
        backoff: Instant,
    },
    /// Taken by [`SchedulingQueue::pop`].
    Out,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SchedulingQueue {
    entries: HashMap<Key, Entry>,
    ready: BTreeMap<Rank, Key>,
    timed: BTreeSet<(Instant, Key)>,
    /// Those of `timed` that may come before their time.
    impatient: BTreeSet<(Instant, Key)>,
    /// Those that are not to be tried yet.
    gated: HashSet<Key>,
    incoming: Incoming,
    sequence: u64,
    /// How long a pod waits after its first try, and at most.
    backoff: (Duration, Duration),
}

impl Default for SchedulingQueue {
    fn default() -> Self {
        Self::new((Duration::from_secs(1), Duration::from_secs(10)))
    }
}

impl SchedulingQueue {
    pub(crate) fn new(backoff: (Duration, Duration)) -> Self {
        Self {
            entries: HashMap::new(),
            ready: BTreeMap::new(),
            timed: BTreeSet::new(),
            impatient: BTreeSet::new(),
            gated: HashSet::new(),
            incoming: Incoming::new(),
            sequence: 0,
            backoff,
        }
    }

    /// A pod that is new, or that changed so much that it deserves a try at once.
    pub(crate) fn add(&mut self, key: Key, priority: i32) {
        let event = if self.contains(&key) || self.gated.contains(&key) { UPDATED } else { ADDED };
        self.put(key, priority);
        self.came(ACTIVE, event);
    }

    fn put(&mut self, key: Key, priority: i32) {
        let known = self.take(&key);
        self.sequence += 1;
        let age = known.as_ref().map_or(self.sequence, |it| it.rank.1);
        let rank = (Reverse(priority), age);
        self.ready.insert(rank, key.clone());
        let first = known.and_then(|it| it.first);
        self.entries.insert(key, Entry { rank, attempts: 0, first, place: Place::Ready });
    }

    /// A pod that is not to be tried until it says so itself.
    pub(crate) fn hold(&mut self, key: &Key) {
        let is_new = !self.gated.contains(key);
        drop(self.take(key));
        self.gated.insert(key.clone());
        if is_new {
            self.came(GATED, ADDED);
        }
    }

    fn came(&mut self, queue: &'static str, event: &'static str) {
        *self.incoming.entry((queue, event)).or_default() += 1;
    }

    /// How many pods came into each queue so far, by event.
    pub(crate) fn incoming(&self) -> &Incoming {
        &self.incoming
    }

    /// How often a pod was tried, and when first.
    pub(crate) fn tries(&self, key: &Key) -> Option<(u32, Instant)> {
        let entry = self.entries.get(key)?;
        Some((entry.attempts, entry.first?))
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    /// How many pods wait in each of upstream's queues.
    pub(crate) fn counts(&self) -> [(&'static str, usize); 4] {
        let count =
            |is: fn(&Place) -> bool| self.entries.values().filter(|it| is(&it.place)).count();
        [
            (ACTIVE, count(|it| matches!(it, Place::Ready | Place::Out))),
            (BACKOFF, count(|it| matches!(it, Place::BackingOff { .. }))),
            (UNSCHEDULABLE, count(|it| matches!(it, Place::Parked { .. }))),
            (GATED, self.gated.len()),
        ]
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        drop(self.take(key));
    }

    /// The next pod to try. It stays known until it is removed or comes back.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Key> {
        self.wake(now);
        let key = match self.ready.pop_first() {
            Some((_, key)) => key,
            None => {
                let (at, key) = self.impatient.pop_first()?;
                self.timed.remove(&(at, key.clone()));
                key
            }
        };
        let entry = self.entries.get_mut(&key)?;
        entry.place = Place::Out;
        entry.attempts += 1;
        entry.first.get_or_insert(now);
        Some(key)
    }

    /// When the next waiting pod is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.timed.first().map(|(at, _)| *at)
    }

    /// The pod fits nowhere for now.
    pub(crate) fn park(&mut self, key: &Key, plugins: BTreeSet<Plugin>, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let backoff = now + backoff(self.backoff, entry.attempts);
        let until = now + PARKED_FOR;
        entry.place = Place::Parked { until, plugins, backoff };
        self.timed.insert((until, key.clone()));
        self.came(UNSCHEDULABLE, FAILED);
    }

    /// Something went wrong that has nothing to do with room.
    pub(crate) fn back_off(&mut self, key: &Key, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let until = now + backoff(self.backoff, entry.attempts);
        entry.place = Place::BackingOff { until };
        self.timed.insert((until, key.clone()));
        self.came(BACKOFF, FAILED);
    }

    /// A pod that was placed, but whose placement could not be written.
    pub(crate) fn add_failed(&mut self, key: Key, priority: i32, now: Instant) {
        self.put(key.clone(), priority);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.attempts = 1;
            self.ready.remove(&entry.rank);
        }
        self.back_off(&key, now);
    }

    /// Brings back the parked pods that an event may help.
    pub(crate) fn happened(&mut self, event: Event, now: Instant) {
        let helped: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| match &entry.place {
                Place::Parked { plugins, .. } => {
                    plugins.is_empty() || plugins.iter().any(|it| event.may_help(*it))
                }
                _ => false,
            })
            .map(|(key, _)| key.clone())
            .collect();
        // Pods are placed all the time, and seldom help.
        let is_likely = event != Event::PodPlaced;
        for key in helped {
            self.bring_back(&key, event.text(), is_likely, now);
        }
    }

    /// Brings a parked pod back after its back-off, or when nobody else waits.
    pub(crate) fn unpark(&mut self, key: &Key, now: Instant) {
        self.bring_back(key, PREEMPTED, true, now);
    }

    fn bring_back(&mut self, key: &Key, event: &'static str, is_likely: bool, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Place::Parked { until, backoff, .. } = entry.place else { return };
        self.timed.remove(&(until, key.clone()));
        if backoff <= now {
            entry.place = Place::Ready;
            self.ready.insert(entry.rank, key.clone());
            self.came(ACTIVE, event);
        } else {
            entry.place = Place::BackingOff { until: backoff };
            self.timed.insert((backoff, key.clone()));
            self.came(BACKOFF, event);
            if is_likely {
                self.impatient.insert((backoff, key.clone()));
            }
        }
    }

    /// Brings a parked pod back after its back-off, since something went wrong meanwhile.
    pub(crate) fn failed(&mut self, key: &Key, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Place::Parked { until, backoff, .. } = entry.place else { return };
        self.timed.remove(&(until, key.clone()));
        let until = backoff.max(now);
        entry.place = Place::BackingOff { until };
        self.timed.insert((until, key.clone()));
        self.came(BACKOFF, FAILED);
    }

    /// Makes ready what has waited long enough.
    fn wake(&mut self, now: Instant) {
        while let Some((at, _)) = self.timed.first()
            && *at <= now
        {
            let Some((at, key)) = self.timed.pop_first() else { break };
            self.impatient.remove(&(at, key.clone()));
            if let Some(entry) = self.entries.get_mut(&key) {
                let was_parked = matches!(entry.place, Place::Parked { .. });
                entry.place = Place::Ready;
                self.ready.insert(entry.rank, key);
                self.came(ACTIVE, if was_parked { TIMED_OUT } else { BACKED_OFF });
            }
        }
    }

    fn take(&mut self, key: &Key) -> Option<Entry> {
        self.gated.remove(key);
        let entry = self.entries.remove(key)?;
        match &entry.place {
            Place::Ready => drop(self.ready.remove(&entry.rank)),
            Place::BackingOff { until, .. } | Place::Parked { until, .. } => {
                let timed = (*until, key.clone());
                self.timed.remove(&timed);
                self.impatient.remove(&timed);
            }
            Place::Out => {}
        }
        Some(entry)
    }
}

fn backoff((first, last): (Duration, Duration), attempts: u32) -> Duration {
    first.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("default", name)
    }

    fn fit() -> BTreeSet<Plugin> {
        [Plugin::NodeResourcesFit].into()
    }

    #[tokio::test(start_paused = true)]
    async fn what_brings_pods_into_a_queue_is_counted() {
        let (mut queue, now) = (SchedulingQueue::default(), Instant::now());
        queue.hold(&key("a"));
        queue.hold(&key("a"));
        assert_eq!(queue.counts()[3], ("gated", 1));
        queue.add(key("a"), 0);
        queue.pop(now).unwrap();
        queue.park(&key("a"), fit(), now);
        queue.happened(Event::NodeAdded, now);
        queue.pop(now + Duration::from_secs(1)).unwrap();
        queue.park(&key("a"), fit(), now);
        let later = now + Duration::from_secs(300);
        queue.pop(later).unwrap();
        assert_eq!(queue.tries(&key("a")), Some((3, now)));
        let incoming = BTreeMap::from([
            (("gated", "UnschedulablePodAdd"), 1),
            (("active", "UnschedulablePodUpdate"), 1),
            (("unschedulable", "ScheduleAttemptFailure"), 2),
            (("backoff", "NodeAdd"), 1),
            (("active", "BackoffComplete"), 1),
            (("active", "UnschedulableTimeout"), 1),
        ]);
        assert_eq!(queue.incoming(), &incoming);
        queue.remove(&key("a"));
        queue.hold(&key("a"));
        queue.remove(&key("a"));
        assert_eq!(queue.counts()[3], ("gated", 0));
    }

    #[tokio::test(start_paused = true)]
    async fn priority_comes_first_and_then_age() {
        let (mut queue, now) = (SchedulingQueue::default(), Instant::now());
        for (name, priority) in [("old", 0), ("young", 0), ("important", 100)] {
            queue.add(key(name), priority);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(now)).map(|it| it.name).collect();
        assert_eq!(order, ["important", "old", "young"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_parked_pod_returns_with_a_helpful_event_after_its_backoff_or_when_nobody_else_waits()
    {
        let (mut queue, now) = (SchedulingQueue::default(), Instant::now());
        queue.add(key("a"), 9);
        queue.pop(now).unwrap();
        queue.park(&key("a"), fit(), now);
        queue.happened(Event::PodPlaced, now);
        assert_eq!(queue.pop(now + Duration::from_secs(2)), None);
        queue.happened(Event::PodRemoved, now);
        assert_eq!(queue.next_due(), Some(now + Duration::from_secs(1)));
        queue.add(key("b"), 0);
        assert_eq!(queue.pop(now), Some(key("b")), "who is ready comes first");
        assert_eq!(queue.pop(now), Some(key("a")));
        assert_eq!((queue.pop(now), queue.next_due()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_error_the_backoff_is_waited_out() {
        let (mut queue, now) = (SchedulingQueue::default(), Instant::now());
        queue.add(key("a"), 0);
        queue.pop(now).unwrap();
        queue.back_off(&key("a"), now);
        assert_eq!(queue.pop(now), None);
        let later = now + Duration::from_secs(1);
        assert_eq!(queue.pop(later), Some(key("a")));
        queue.park(&key("a"), fit(), later);
        queue.failed(&key("a"), later);
        assert_eq!(queue.pop(later + Duration::from_secs(1)), None);
        assert_eq!(queue.pop(later + Duration::from_secs(2)), Some(key("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_parked_pod_is_tried_again_after_five_minutes_whatever_happens() {
        let (mut queue, now) = (SchedulingQueue::default(), Instant::now());
        queue.add(key("a"), 0);
        queue.pop(now).unwrap();
        queue.park(&key("a"), fit(), now);
        assert_eq!(queue.pop(now + PARKED_FOR - Duration::from_millis(1)), None);
        assert_eq!(queue.pop(now + PARKED_FOR), Some(key("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn backoff_doubles_up_to_ten_seconds_and_removal_forgets() {
        let (mut queue, now) = (SchedulingQueue::default(), Instant::now());
        let seconds = [1, 2, 3, 4, 5, 9].map(|it| backoff(queue.backoff, it).as_secs());
        assert_eq!(seconds, [1, 2, 4, 8, 10, 10]);
        queue.add(key("a"), 0);
        queue.pop(now).unwrap();
        queue.back_off(&key("a"), now);
        queue.remove(&key("a"));
        assert_eq!(queue.pop(now + queue.backoff.1), None);
        assert!(!queue.contains(&key("a")));
    }
}
