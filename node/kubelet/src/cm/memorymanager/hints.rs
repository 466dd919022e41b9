//! From which sets of NUMA nodes a request could be served.
//!
//! A node serves either requests that fit on it alone or requests of one fixed group of nodes, never
//! both: otherwise what is promised could not be kept by the kernel's cpusets.
//!
//! Upstream: `calculateHints` in `pkg/kubelet/cm/memorymanager/policy_static.go`.

use std::collections::BTreeMap;

use super::state::{Nodes, Table};
use crate::cm::topologymanager::hint::{Hint, NumaMask, prefer};

/// Bytes by kind of memory.
pub(super) type Amounts = BTreeMap<String, u64>;

pub(super) fn sum(nodes: &Nodes, mask: NumaMask, kind: &str, of: fn(&Table) -> u64) -> u64 {
    let inside = nodes.iter().filter(|(id, _)| mask.contains(**id));
    inside.filter_map(|(_, it)| it.memory_map.get(kind)).map(of).sum()
}

/// `reusable` says what init containers of the pod have there.
pub(super) fn hints(
    nodes: &Nodes,
    wanted: &Amounts,
    reusable: impl Fn(NumaMask, &str) -> u64,
) -> Vec<Hint> {
    let ids: Vec<u32> = nodes.keys().copied().collect();
    let could = |mask: &NumaMask| {
        wanted.iter().all(|(kind, size)| sum(nodes, *mask, kind, |it| it.allocatable) >= *size)
    };
    let possible: Vec<_> = NumaMask::all_of(&ids).into_iter().filter(could).collect();
    let most = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let least = possible.iter().map(|it| NumaMask::count(*it)).min().unwrap_or(most);
    let fits = |mask: &NumaMask| {
        !is_against_groups(nodes, *mask)
            && wanted.iter().all(|(kind, size)| {
                sum(nodes, *mask, kind, |it| it.free) + reusable(*mask, kind) >= *size
            })
    };
    prefer(possible.into_iter().filter(fits).collect(), least)
}

fn is_against_groups(nodes: &Nodes, mask: NumaMask) -> bool {
    if mask.count() == 1 {
        return mask.nodes().iter().any(|it| nodes[it].cells.len() > 1);
    }
    violates_assignments(nodes, mask)
}

/// A group of nodes of which one is used alone or in another group.
pub(super) fn violates_assignments(nodes: &Nodes, mask: NumaMask) -> bool {
    mask.count() > 1
        && mask.nodes().iter().filter_map(|it| nodes.get(it)).any(|node| {
            let group = NumaMask::of(node.cells.iter().copied());
            node.number_of_assignments > 0 && (group.count() == 1 || group != mask)
        })
}

/// The best of the hints that hold all of `within`.
pub(super) fn best(hints: Vec<Hint>, within: NumaMask) -> Option<Hint> {
    let mask = |it: &Hint| it.affinity.unwrap_or_default();
    let mut best: Option<Hint> = None;
    for hint in hints.into_iter().filter(|it| within.is_subset(mask(it))) {
        let wins = best.is_none_or(|known| {
            (hint.is_preferred && !known.is_preferred)
                || (hint.is_preferred == known.is_preferred
                    && mask(&hint).is_narrower_than(mask(&known)))
        });
        if wins {
            best = Some(hint);
        }
    }
    best
}
