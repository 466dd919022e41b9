//! How full a node would be, and how evenly.
//!
//! Upstream: `noderesources/{least_allocated,balanced_allocation}.go`, over CPU and memory.

use super::MAX;
use crate::{NodeInfo, PodInfo};

/// More room left is better. Pods that request nothing count a little.
pub(super) fn least_allocated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let (taken, new, all) = (&node.nonzero_requested, &pod.nonzero_requests, &node.allocatable);
    let mark = |requested: i64, capacity: i64| {
        if capacity == 0 || requested > capacity {
            return 0;
        }
        let free = i128::from(capacity - requested) * i128::from(MAX) / i128::from(capacity);
        i64::try_from(free).unwrap_or(MAX)
    };
    let cpu = mark(taken.cpu_millis + new.cpu_millis, all.cpu_millis);
    let memory = mark(taken.memory.saturating_add(new.memory), all.memory);
    (cpu + memory) / 2
}

/// CPU and memory equally full are better than one full and the other empty.
#[expect(clippy::cast_possible_truncation, reason = "a mark between 0 and 100")]
pub(super) fn balanced(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let (taken, new, all) = (&node.requested, &pod.requests, &node.allocatable);
    let fraction = |requested: i64, capacity: i64| {
        if capacity == 0 { 1.0 } else { (requested as f64 / capacity as f64).min(1.0) }
    };
    let cpu = fraction(taken.cpu_millis + new.cpu_millis, all.cpu_millis);
    let memory = fraction(taken.memory.saturating_add(new.memory), all.memory);
    // The standard deviation of two values is half of their difference.
    ((1.0 - (cpu - memory).abs() / 2.0) * MAX as f64) as i64
}
