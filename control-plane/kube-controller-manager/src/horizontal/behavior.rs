//! How fast the number may change: windows over which the most careful of the recommendations holds,
//! and policies of so many pods or percent in so many seconds.
//!
//! Upstream: `horizontal.go` (`stabilizeRecommendationWithBehaviors`,
//! `convertDesiredReplicasWithBehaviorRate`; `convertDesiredReplicasWithRules` where an autoscaler has no
//! behavior of its own).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior,
};

/// Nothing that is older counts: a day is more than any period or window may be.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// To so many it may grow at once, however few there are.
const FIRST_STEP: i32 = 4;

/// What was recommended and done for one autoscaler.
#[derive(Debug, Default)]
pub(super) struct Memory {
    recommended: Vec<(Timestamp, i32)>,
    /// Changes of the number.
    changed: Vec<(Timestamp, i32)>,
}

/// A number within the limits, and what `ScalingLimited` and `AbleToScale` say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) replicas: i32,
    pub(super) is_stabilized: bool,
    pub(super) is_limited: bool,
    pub(super) reason: &'static str,
    pub(super) message: &'static str,
}

const IN_RANGE: (bool, &str, &str) =
    (false, "DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_MANY: (bool, &str, &str) =
    (true, "TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (bool, &str, &str) =
    (true, "TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_FAST_UP: (bool, &str, &str) = (
    true,
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const TOO_FAST_DOWN: (bool, &str, &str) = (
    true,
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);

impl Memory {
    /// Of an autoscaler that is seen for the first time, or again after a restart: the number that there
    /// is counts as recommended, so that nothing shrinks before its window is over.
    pub(super) fn new(current: i32, now: Timestamp) -> Self {
        Self { recommended: vec![(now, current)], changed: Vec::new() }
    }

    pub(super) fn note_change(&mut self, by: i32, now: Timestamp) {
        self.changed.push((now, by));
    }

    /// What a recommendation comes to now.
    pub(super) fn limit(
        &mut self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        (current, desired): (i32, i32),
        (min, max): (i32, i32),
        (now, down_window): (Timestamp, Duration),
    ) -> Limited {
        let none = HPAScalingRules::default();
        let up = behavior.and_then(|it| it.scale_up.as_ref()).unwrap_or(&none);
        let down = behavior.and_then(|it| it.scale_down.as_ref()).unwrap_or(&none);
        let windows = (window(up).unwrap_or_default(), window(down).unwrap_or(down_window));
        let stable = self.stabilize(windows, (current, desired), now);
        let (replicas, why) = if stable > current {
            let fastest = match behavior {
                None => current.saturating_mul(2).max(FIRST_STEP),
                Some(_) => self.fastest_up(up, current, now).max(current),
            };
            let bound = max.min(fastest);
            let why = if max > fastest { TOO_FAST_UP } else { TOO_MANY };
            if stable > bound { (bound, why) } else { (stable, IN_RANGE) }
        } else if stable < current {
            let fastest = self.fastest_down(down, current, now).min(current);
            let bound = min.max(fastest);
            let why = if min < fastest { TOO_FAST_DOWN } else { TOO_FEW };
            if stable < bound { (bound, why) } else { (stable, IN_RANGE) }
        } else {
            (stable, IN_RANGE)
        };
        let clamped = replicas.clamp(min.min(max), max);
        let why = match clamped.cmp(&replicas) {
            std::cmp::Ordering::Less => TOO_MANY,
            std::cmp::Ordering::Greater => TOO_FEW,
            std::cmp::Ordering::Equal => why,
        };
        let (is_limited, reason, message) = why;
        Limited { replicas: clamped, is_stabilized: stable != desired, is_limited, reason, message }
    }

    /// To grow, all of the window must want it; to shrink too.
    fn stabilize(
        &mut self,
        (up, down): (Duration, Duration),
        (current, desired): (i32, i32),
        now: Timestamp,
    ) -> i32 {
        self.recommended.retain(|(at, _)| *at + REMEMBERED > now);
        self.changed.retain(|(at, _)| *at + REMEMBERED > now);
        let within = |window: Duration| {
            self.recommended.iter().filter(move |(at, _)| *at + window > now).map(|(_, it)| *it)
        };
        let least = within(up).fold(desired, i32::min);
        let most = within(down).fold(desired, i32::max);
        self.recommended.push((now, desired));
        current.max(least).min(most)
    }

    /// By how much the number changed within a period: upwards, and downwards.
    fn changes(&self, period: i32, now: Timestamp) -> (i32, i32) {
        let recent = self.changed.iter().filter(|(at, _)| *at + seconds(period) > now);
        recent.fold((0, 0), |(up, down), (_, by)| (up + by.max(&0), down - by.min(&0)))
    }

    fn fastest_up(&self, rules: &HPAScalingRules, current: i32, now: Timestamp) -> i32 {
        let policies = policies(rules, &[("Pods", 4), ("Percent", 100)]);
        let bounds = policies.iter().map(|it| {
            let (added, removed) = self.changes(it.period_seconds, now);
            let start = current - added + removed;
            match it.type_.as_str() {
                "Pods" => start.saturating_add(it.value),
                _ => percent(start, 100_i64.saturating_add(it.value.into()), true),
            }
        });
        match rules.select_policy.as_deref() {
            Some("Disabled") => current,
            Some("Min") => bounds.min().unwrap_or(current),
            _ => bounds.max().unwrap_or(current),
        }
    }

    fn fastest_down(&self, rules: &HPAScalingRules, current: i32, now: Timestamp) -> i32 {
        let policies = policies(rules, &[("Percent", 100)]);
        let bounds = policies.iter().map(|it| {
            let (added, removed) = self.changes(it.period_seconds, now);
            let start = current - added + removed;
            match it.type_.as_str() {
                "Pods" => start.saturating_sub(it.value),
                _ => percent(start, (100 - i64::from(it.value)).max(0), false),
            }
        });
        match rules.select_policy.as_deref() {
            Some("Disabled") => current,
            Some("Min") => bounds.max().unwrap_or(current),
            _ => bounds.min().unwrap_or(current),
        }
    }
}

fn window(rules: &HPAScalingRules) -> Option<Duration> {
    rules.stabilization_window_seconds.map(seconds)
}

fn policies(rules: &HPAScalingRules, default: &[(&str, i32)]) -> Vec<HPAScalingPolicy> {
    match &rules.policies {
        Some(policies) if !policies.is_empty() => policies.clone(),
        _ => {
            let policy = |(kind, value): &(&str, i32)| HPAScalingPolicy {
                type_: (*kind).to_owned(),
                value: *value,
                period_seconds: 15,
            };
            default.iter().map(policy).collect()
        }
    }
}

fn percent(of: i32, percent: i64, rounds_up: bool) -> i32 {
    let product = i64::from(of) * percent;
    let result = if rounds_up { (product + 99) / 100 } else { product / 100 };
    i32::try_from(result).unwrap_or(i32::MAX)
}

fn seconds(it: i32) -> Duration {
    Duration::from_secs(u64::try_from(it).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn by(seconds: i64) -> (Timestamp, Duration) {
        (at(seconds), Duration::from_secs(300))
    }

    fn behavior(value: Value) -> HorizontalPodAutoscalerBehavior {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn by_default_it_grows_at_once_by_double_or_four_and_shrinks_after_five_minutes() {
        let mut memory = Memory::default();
        let mut limit = |current, desired, now| {
            let it = memory.limit(None, (current, desired), (1, 100), by(now));
            (it.replicas, it.reason)
        };
        assert_eq!(limit(1, 50, 0), (4, "ScaleUpLimit"));
        assert_eq!(limit(10, 50, 15), (20, "ScaleUpLimit"));
        assert_eq!(limit(20, 5, 30).0, 20, "a moment ago more was wanted");
        assert_eq!(limit(20, 5, 314).0, 20);
        assert_eq!(limit(20, 5, 316).0, 5);
    }

    #[test]
    fn after_a_restart_nothing_shrinks_before_the_window_is_over() {
        let mut memory = Memory::new(20, at(0));
        let mut limit = |now| memory.limit(None, (20, 5), (1, 100), by(now)).replicas;
        assert_eq!([limit(0), limit(299), limit(301)], [20, 20, 5]);
    }

    #[test]
    fn the_range_of_the_autoscaler_always_holds() {
        let mut memory = Memory::default();
        let limited = memory.limit(None, (3, 10), (2, 4), by(0));
        assert_eq!((limited.replicas, limited.reason), (4, "TooManyReplicas"));
        let limited = Memory::default().limit(None, (3, 1), (2, 4), by(0));
        assert_eq!((limited.replicas, limited.reason), (2, "TooFewReplicas"));
        let limited = Memory::default().limit(None, (9, 9), (2, 4), by(0));
        assert_eq!((limited.replicas, limited.is_limited), (4, true));
    }

    #[test]
    fn a_behavior_that_says_nothing_lets_it_grow_by_four_or_double_in_fifteen_seconds() {
        let empty = behavior(json!({}));
        let mut memory = Memory::default();
        assert_eq!(memory.limit(Some(&empty), (1, 50), (1, 100), by(0)).replicas, 5);
        memory.note_change(4, at(0));
        assert_eq!(memory.limit(Some(&empty), (5, 50), (1, 100), by(10)).replicas, 5);
        assert_eq!(memory.limit(Some(&empty), (5, 50), (1, 100), by(16)).replicas, 10);
    }

    #[test]
    fn policies_bound_what_changes_within_their_period() {
        let slow = behavior(json!({
            "scaleUp": { "policies": [{ "type": "Pods", "value": 2, "periodSeconds": 60 }] },
            "scaleDown": { "stabilizationWindowSeconds": 0,
                "policies": [{ "type": "Percent", "value": 50, "periodSeconds": 60 }] },
        }));
        let mut memory = Memory::default();
        assert_eq!(memory.limit(Some(&slow), (4, 10), (1, 20), by(0)).replicas, 6);
        memory.note_change(2, at(0));
        assert_eq!(memory.limit(Some(&slow), (6, 10), (1, 20), by(30)).replicas, 6);
        assert_eq!(memory.limit(Some(&slow), (6, 10), (1, 20), by(61)).replicas, 8);
        let down = memory.limit(Some(&slow), (8, 1), (1, 20), by(200));
        assert_eq!((down.replicas, down.reason), (4, "ScaleDownLimit"));
        let never = behavior(json!({ "scaleDown": { "stabilizationWindowSeconds": 0,
            "selectPolicy": "Disabled" } }));
        assert_eq!(Memory::default().limit(Some(&never), (8, 1), (1, 20), by(0)).replicas, 8);
    }
}
