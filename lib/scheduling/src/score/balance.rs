//! How full a node would be, and how evenly.
//!
//! Resources that a node has not are left out, and extended ones that the pod does not ask for.
//!
//! Upstream: `noderesources/{resource_allocation,least_allocated,most_allocated,
//! requested_to_capacity_ratio,balanced_allocation}.go`.

use super::MAX;
use crate::{NodeInfo, PodInfo, Strategy};

/// By the profile's strategy. Pods that request nothing count a little.
pub(super) fn fit(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let fit = &pod.profile.fit;
    let (mut sum, mut weights) = (0_i64, 0_i64);
    for (name, weight) in &fit.resources {
        let Some((requested, capacity)) = nonzero(pod, node, name) else { continue };
        let mark = mark(&fit.strategy, requested, capacity);
        // Upstream leaves what has no mark out of this strategy's mean.
        if mark == 0 && matches!(fit.strategy, Strategy::RequestedToCapacityRatio(_)) {
            continue;
        }
        sum += mark * weight;
        weights += weight;
    }
    match &fit.strategy {
        _ if weights == 0 => 0,
        // Rounded, where the others cut off.
        Strategy::RequestedToCapacityRatio(_) => (2 * sum + weights) / (2 * weights),
        _ => sum / weights,
    }
}

fn mark(strategy: &Strategy, requested: i64, capacity: i64) -> i64 {
    let part = |of: i64| match of.checked_mul(MAX) {
        Some(whole) => whole / capacity.max(1),
        None => {
            let part = i128::from(of) * i128::from(MAX) / i128::from(capacity.max(1));
            i64::try_from(part).unwrap_or(MAX)
        }
    };
    match strategy {
        Strategy::LeastAllocated if requested > capacity => 0,
        Strategy::LeastAllocated => part(capacity - requested),
        Strategy::MostAllocated => part(requested.min(capacity)),
        Strategy::RequestedToCapacityRatio(shape) if requested > capacity => on(shape, 100),
        Strategy::RequestedToCapacityRatio(shape) => on(shape, part(requested)),
    }
}

/// The mark at a point of a broken line.
fn on(shape: &[(i64, i64)], at: i64) -> i64 {
    let next = shape.iter().position(|(x, _)| at <= *x);
    match next {
        None => shape.last().map_or(0, |(_, y)| *y),
        Some(0) => shape[0].1,
        Some(next) => {
            let ((x0, y0), (x1, y1)) = (shape[next - 1], shape[next]);
            y0 + (y1 - y0) * (at - x0) / (x1 - x0)
        }
    }
}

/// What would be taken and what there is; `None` where that says nothing.
fn nonzero(pod: &PodInfo, node: &NodeInfo, name: &str) -> Option<(i64, i64)> {
    let is_native = matches!(name, "cpu" | "memory");
    let (taken, new) = if is_native {
        (node.nonzero_requested.amount(name), pod.nonzero_requests.amount(name))
    } else {
        (node.requested.amount(name), pod.requests.amount(name))
    };
    pair(node, name, taken, new)
}

fn pair(node: &NodeInfo, name: &str, taken: i64, new: i64) -> Option<(i64, i64)> {
    let capacity = node.allocatable.amount(name);
    let is_asked_for = new > 0 || matches!(name, "cpu" | "memory" | "ephemeral-storage");
    (capacity > 0 && is_asked_for).then(|| (taken.saturating_add(new), capacity))
}

/// Resources equally full are better than one full and another empty.
#[expect(clippy::cast_possible_truncation, reason = "a mark between 0 and 100")]
pub(super) fn balanced(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let fraction = |name: &String| {
        let (taken, new) = (node.requested.amount(name), pod.requests.amount(name));
        let (requested, capacity) = pair(node, name, taken, new)?;
        Some((requested as f64 / capacity as f64).min(1.0))
    };
    let fractions: Vec<f64> = pod.profile.balanced_resources.iter().filter_map(fraction).collect();
    let count = fractions.len().max(1) as f64;
    let mean = fractions.iter().sum::<f64>() / count;
    let variance = fractions.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / count;
    ((1.0 - variance.sqrt()) * MAX as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_mark_how_full_a_node_would_be() {
        let ratio = Strategy::RequestedToCapacityRatio(vec![(0, 0), (50, 100), (100, 20)]);
        for (requested, least, most, shaped) in [
            (0, 100, 0, 0),
            (25, 75, 25, 50),
            (50, 50, 50, 100),
            (75, 25, 75, 60),
            (101, 0, 100, 20),
        ] {
            let marks = [&Strategy::LeastAllocated, &Strategy::MostAllocated, &ratio]
                .map(|it| mark(it, requested, 100));
            assert_eq!(marks, [least, most, shaped], "{requested}");
        }
        assert_eq!(on(&[(10, 30), (20, 40)], 5), 30);
        assert_eq!(on(&[(10, 30), (20, 40)], 90), 40);
    }
}
