//! Two samples of each node, and the use between them.
//!
//! **Invariant:** a rate is computed only over a counter that did not go back: a container that was
//! started again has none until it was seen twice.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

/// Upstream's `--metric-resolution`.
const RESOLUTION: Duration = Duration::from_secs(15);
/// A sample that is older than this is no beginning of a window.
const LONGEST_WINDOW: Duration = Duration::from_secs(120);

/// A container by namespace, pod and name.
pub(crate) type ContainerKey = (String, String, String);

/// A counter of CPU time and the memory at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Point {
    pub at: Timestamp,
    pub cpu_seconds: f64,
    pub memory_bytes: u64,
}

/// What a kubelet told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub node: Option<Point>,
    pub containers: HashMap<ContainerKey, Point>,
}

/// What was used over a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Use {
    pub at: Timestamp,
    pub window: Duration,
    pub cpu_nanos: u64,
    pub memory_bytes: u64,
}

/// What has to be done before a node's use is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is known.
    Nothing,
    /// One more sample.
    Once,
    /// Two samples, a moment apart.
    Twice,
}

#[derive(Debug)]
struct Pair {
    /// When the newest was taken, by our clock.
    taken: Instant,
    older: Option<Sample>,
    newest: Sample,
}

#[derive(Debug, Default)]
pub(crate) struct Samples {
    pairs: HashMap<String, Pair>,
    /// When a node last failed to tell: it is left alone as long as one that told.
    failures: HashMap<String, Instant>,
}

impl Samples {
    pub(crate) fn step(&self, node: &str, now: Instant) -> Step {
        let failed = self.failures.get(node);
        if failed.is_some_and(|at| now.saturating_duration_since(*at) < RESOLUTION) {
            return Step::Nothing;
        }
        let Some(pair) = self.pairs.get(node) else { return Step::Twice };
        let age = now.saturating_duration_since(pair.taken);
        if age > LONGEST_WINDOW {
            Step::Twice
        } else if age < RESOLUTION && pair.older.is_some() {
            Step::Nothing
        } else {
            Step::Once
        }
    }

    /// `is_first`: what was known before is too old to be compared with.
    pub(crate) fn put(&mut self, node: &str, sample: Sample, now: Instant, is_first: bool) {
        self.failures.remove(node);
        let older = self.pairs.remove(node).filter(|_| !is_first).map(|it| it.newest);
        self.pairs.insert(node.to_owned(), Pair { taken: now, older, newest: sample });
    }

    /// The node told nothing.
    pub(crate) fn fail(&mut self, node: &str, now: Instant) {
        self.failures.insert(node.to_owned(), now);
    }

    /// Forgets nodes that are gone.
    pub(crate) fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        self.failures.retain(|name, _| exists(name));
        self.pairs.retain(|name, _| exists(name));
    }

    pub(crate) fn node(&self, node: &str) -> Option<Use> {
        let pair = self.pairs.get(node)?;
        between(pair.older.as_ref()?.node.as_ref()?, pair.newest.node.as_ref()?)
    }

    pub(crate) fn container(&self, node: &str, key: &ContainerKey) -> Option<Use> {
        let pair = self.pairs.get(node)?;
        between(pair.older.as_ref()?.containers.get(key)?, pair.newest.containers.get(key)?)
    }
}

fn between(older: &Point, newest: &Point) -> Option<Use> {
    let window: Duration = newest.at.duration_since(older.at).try_into().ok()?;
    let spent = newest.cpu_seconds - older.cpu_seconds;
    if window.is_zero() || spent < 0.0 {
        return None;
    }
    let nanos = spent / window.as_secs_f64() * 1e9;
    #[expect(clippy::cast_possible_truncation, reason = "not negative, and far below the limit")]
    let cpu_nanos = nanos as u64;
    Some(Use { at: newest.at, window, cpu_nanos, memory_bytes: newest.memory_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: i64, cpu_seconds: f64) -> Sample {
        let at = Timestamp::from_second(second).unwrap();
        let point = Point { at, cpu_seconds, memory_bytes: 1024 };
        let key = ("ns".to_owned(), "p".to_owned(), "c".to_owned());
        Sample { node: Some(point), containers: HashMap::from([(key, point)]) }
    }

    #[test]
    fn a_rate_is_the_counters_way_over_the_time_between() {
        let (mut samples, now) = (Samples::default(), Instant::now());
        samples.put("n", sample(100, 5.0), now, true);
        assert_eq!(samples.node("n"), None, "one sample is no window");
        samples.put("n", sample(110, 7.5), now, false);
        let used = samples.node("n").unwrap();
        assert_eq!((used.cpu_nanos, used.memory_bytes), (250_000_000, 1024));
        assert_eq!(used.window, Duration::from_secs(10));
    }

    #[test]
    fn a_counter_that_went_back_has_no_rate() {
        let (mut samples, now) = (Samples::default(), Instant::now());
        samples.put("n", sample(100, 5.0), now, true);
        samples.put("n", sample(110, 1.0), now, false);
        assert_eq!(samples.node("n"), None);
    }

    #[test]
    fn kubelets_are_asked_as_seldom_as_the_answer_allows() {
        let (mut samples, start) = (Samples::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(samples.step("n", start), Step::Twice);
        samples.put("n", sample(0, 0.0), start, true);
        assert_eq!(samples.step("n", after(1)), Step::Once);
        samples.put("n", sample(1, 0.0), after(1), false);
        assert_eq!(samples.step("n", after(15)), Step::Nothing);
        assert_eq!(samples.step("n", after(16)), Step::Once);
        assert_eq!(samples.step("n", after(121)), Step::Once);
        assert_eq!(samples.step("n", after(122)), Step::Twice);
    }

    #[test]
    fn a_kubelet_that_was_silent_is_not_waited_for_by_everybody_who_asks() {
        let (mut samples, start) = (Samples::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        samples.fail("n", start);
        assert_eq!(samples.step("n", after(14)), Step::Nothing);
        assert_eq!(samples.step("n", after(15)), Step::Twice);
        samples.put("n", sample(0, 0.0), after(15), true);
        assert_eq!(samples.step("n", after(16)), Step::Once);
    }
}
