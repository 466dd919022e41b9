//! `distribute-cpus-across-numa`: where one NUMA node is too small, as many CPUs of each of several.
//!
//! Upstream: `takeByTopologyNUMADistributed` in `pkg/kubelet/cm/cpumanager/cpu_assignment.go`, KEP-2902.

use std::collections::BTreeMap;

use super::assignment::{Accumulator, TakeCpusError, take_packed};
use crate::cm::{cpuset::CpuSet, topology::Topology, topologymanager::hint::combinations};

/// How many CPUs are free on each node.
type Free = BTreeMap<u32, usize>;

/// Nodes to take from, and those that give one group more.
struct Choice {
    nodes: Vec<u32>,
    remainder: Vec<u32>,
    balance: f64,
}

/// CPUs come in groups of `group`, such as the threads of a core.
pub(super) fn take_distributed(
    topology: &Topology,
    available: &CpuSet,
    count: usize,
    group: usize,
) -> Result<CpuSet, TakeCpusError> {
    if !count.is_multiple_of(group) {
        return take_packed(topology, available, count);
    }
    let mut it = Accumulator::new(topology, available, count)?;
    if it.is_satisfied() {
        return Ok(it.taken);
    }
    let nodes = it.nodes();
    let free: Free = nodes.iter().map(|node| (*node, it.free_in_node(*node).len())).collect();
    let groups = count.div_ceil(group);
    let per_node = topology.cpus.len().div_ceil(group).div_ceil(topology.numa_nodes().max(1));
    let (least, most) = (groups.div_ceil(per_node.max(1)), groups.min(nodes.len()));
    let choices = (least..=most).filter_map(|size| best(&nodes, size, &free, count, group));
    let Some(choice) = choices.into_iter().next() else {
        return take_packed(topology, available, count);
    };
    let each = share(count, choice.nodes.len(), group);
    for node in &choice.nodes {
        let cpus = take_packed(topology, &it.free_in_node(*node), each)?;
        it.take(&cpus);
    }
    let mut left = count - each * choice.nodes.len();
    while left > 0 {
        let before = left;
        for node in &choice.remainder {
            if left > 0 && it.free_in_node(*node).len() >= group {
                let cpus = take_packed(topology, &it.free_in_node(*node), group)?;
                it.take(&cpus);
                left -= group;
            }
        }
        if before == left {
            return Err(TakeCpusError::Failed);
        }
    }
    Ok(it.taken)
}

fn share(count: usize, nodes: usize, group: usize) -> usize {
    count / nodes / group * group
}

/// The choice of `size` nodes after which the nodes are filled most evenly.
fn best(nodes: &[u32], size: usize, free: &Free, count: usize, group: usize) -> Option<Choice> {
    let mut best: Option<Choice> = None;
    for chosen in combinations(nodes, size) {
        let Some(choice) = weigh(chosen, free, count, group) else { continue };
        if best.as_ref().is_none_or(|it| choice.balance < it.balance) {
            best = Some(choice);
        }
    }
    best
}

fn weigh(nodes: Vec<u32>, free: &Free, count: usize, group: usize) -> Option<Choice> {
    let groups: usize = nodes.iter().map(|it| free[it] / group).sum();
    let each = share(count, nodes.len(), group);
    if groups * group < count || nodes.iter().any(|it| free[it] < each) {
        return None;
    }
    let mut after = free.clone();
    for node in &nodes {
        *after.entry(*node).or_default() -= each;
    }
    let left = count - each * nodes.len();
    if left == 0 {
        let balance = deviation(&after);
        return Some(Choice { nodes, remainder: Vec::new(), balance });
    }
    let candidates: Vec<u32> = nodes.iter().copied().filter(|it| after[it] >= group).collect();
    let mut best: Option<(Vec<u32>, f64)> = None;
    for size in (1..=candidates.len()).rev() {
        for subset in combinations(&candidates, size) {
            let Some(rest) = hand_out(&after, &subset, left, group) else { continue };
            let balance = deviation(&rest);
            if best.as_ref().is_none_or(|it| balance < it.1) {
                best = Some((subset, balance));
            }
        }
    }
    best.map(|(remainder, balance)| Choice { nodes, remainder, balance })
}

/// What is free when the rest has been taken from these nodes in turn.
fn hand_out(free: &Free, nodes: &[u32], mut left: usize, group: usize) -> Option<Free> {
    let mut free = free.clone();
    while left > 0 {
        let before = left;
        for node in nodes {
            let own = free.get_mut(node)?;
            if left > 0 && *own >= group {
                *own -= group;
                left -= group;
            }
        }
        if before == left {
            return None;
        }
    }
    Some(free)
}

/// The standard deviation; numbers of CPUs are small.
fn deviation(free: &Free) -> f64 {
    let values: Vec<f64> =
        free.values().map(|it| f64::from(u32::try_from(*it).unwrap_or(u32::MAX))).collect();
    let count = f64::from(u32::try_from(values.len().max(1)).unwrap_or(1));
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / count;
    // Upstream rounds to thousandths, so that equal is equal.
    (variance.sqrt() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cm::topology::tests::machine;

    fn take(topology: &Topology, available: &str, count: usize, group: usize) -> Vec<usize> {
        let available = CpuSet::parse(available).unwrap();
        let cpus = take_distributed(topology, &available, count, group).unwrap();
        assert_eq!(cpus.len(), count);
        let of = |node: u32| cpus.intersection(&topology.in_nodes(|it| it == node)).len();
        topology.node_ids().into_iter().map(of).collect()
    }

    #[test]
    fn cpus_are_spread_evenly_when_one_node_is_too_small() {
        // Two nodes with four cores of two threads.
        let two = machine(2, 1, 4);
        assert_eq!(take(&two, "0-15", 6, 1), [6, 0], "one node will do");
        assert_eq!(take(&two, "0-15", 10, 1), [5, 5]);
        assert_eq!(take(&two, "0-15", 10, 2), [6, 4], "whole cores");
        assert_eq!(take(&two, "0-15", 11, 2).iter().sum::<usize>(), 11, "no groups: packed");
    }

    #[test]
    fn uneven_room_falls_back_to_packing() {
        let two = machine(2, 1, 4);
        // Node 0 has one CPU left: six CPUs do not fit evenly, and fit on node 1 alone.
        assert_eq!(take(&two, "0,4-7,12-15", 6, 1), [0, 6]);
        assert_eq!(take(&two, "0,4-7,12-15", 9, 1), [1, 8]);
    }
}
