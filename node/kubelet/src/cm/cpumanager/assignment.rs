//! Picks CPUs for a container so that as little as possible is shared with others: whole sockets,
//! whole NUMA nodes, whole cores, then single threads, always from where the least is free.
//!
//! Upstream: `takeByTopologyNUMAPacked` in `pkg/kubelet/cm/cpumanager/cpu_assignment.go`.

use std::collections::BTreeMap;

use crate::cm::{
    cpuset::CpuSet,
    topology::{Cpu, Topology},
};

/// Too few CPUs for what is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TakeCpusError {
    #[error(
        "not enough cpus available to satisfy request: requested={requested}, available={available}"
    )]
    NotEnough { requested: usize, available: usize },
    #[error("failed to allocate cpus")]
    Failed,
}

/// The free CPUs, and what has been taken of them.
pub(super) struct Accumulator<'a> {
    topology: &'a Topology,
    free: CpuSet,
    pub taken: CpuSet,
    wanted: usize,
}

type Part = fn(&Cpu) -> u32;

const NUMA: Part = |it| it.numa;
const SOCKET: Part = |it| it.socket;
const CORE: Part = |it| it.core;

pub(super) fn take_packed(
    topology: &Topology,
    available: &CpuSet,
    count: usize,
) -> Result<CpuSet, TakeCpusError> {
    let mut it = Accumulator::new(topology, available, count)?;
    // What holds more comes first: a socket of several nodes, or a node of several sockets.
    let (first, second) = if it.is_numa_first() { (NUMA, SOCKET) } else { (SOCKET, NUMA) };
    for part in [first, second, CORE] {
        it.take_whole(part);
    }
    for cpu in it.in_order() {
        if it.is_satisfied() {
            break;
        }
        it.take(&CpuSet::from_iter([cpu]));
    }
    if it.is_satisfied() { Ok(it.taken) } else { Err(TakeCpusError::Failed) }
}

impl<'a> Accumulator<'a> {
    pub(super) fn new(
        topology: &'a Topology,
        available: &CpuSet,
        wanted: usize,
    ) -> Result<Self, TakeCpusError> {
        let free = available.intersection(&topology.all());
        if wanted > free.len() {
            let available = available.len();
            return Err(TakeCpusError::NotEnough { requested: wanted, available });
        }
        Ok(Self { topology, free, taken: CpuSet::default(), wanted })
    }

    pub(super) fn is_satisfied(&self) -> bool {
        self.taken.len() >= self.wanted
    }

    pub(super) fn take(&mut self, cpus: &CpuSet) {
        self.taken = self.taken.union(cpus);
        self.free = self.free.difference(cpus);
    }

    fn is_numa_first(&self) -> bool {
        self.topology.sockets() >= self.topology.numa_nodes()
    }

    /// The free CPUs of each part that has some.
    fn free_by(&self, part: Part) -> BTreeMap<u32, CpuSet> {
        let mut parts: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for cpu in self.free.iter() {
            if let Some(it) = self.topology.cpus.get(&cpu) {
                parts.entry(part(it)).or_default().push(cpu);
            }
        }
        parts.into_iter().map(|(id, cpus)| (id, cpus.into_iter().collect())).collect()
    }

    pub(super) fn free_in_node(&self, node: u32) -> CpuSet {
        self.free.intersection(&self.topology.in_nodes(|it| it == node))
    }

    /// The parts with free CPUs: those of which the least is free first, inside of the larger parts in
    /// the same order.
    fn ordered(&self, part: Part) -> Vec<u32> {
        let (outer, inner) = if self.is_numa_first() { (NUMA, SOCKET) } else { (SOCKET, NUMA) };
        let size = |of: Part| -> BTreeMap<u32, usize> {
            self.free_by(of).into_iter().map(|(id, cpus)| (id, cpus.len())).collect()
        };
        let (outer_sizes, inner_sizes, own) = (size(outer), size(inner), size(part));
        let mut keys: Vec<_> = self
            .free_by(part)
            .into_iter()
            .filter_map(|(id, cpus)| {
                let any = self.topology.cpus.get(&cpus.iter().next()?)?;
                let (out, inn) = (outer(any), inner(any));
                Some((outer_sizes[&out], out, inner_sizes[&inn], inn, own[&id], id))
            })
            .collect();
        keys.sort_unstable();
        keys.into_iter().map(|it| it.5).collect()
    }

    /// The NUMA nodes in that order.
    pub(super) fn nodes(&self) -> Vec<u32> {
        self.ordered(NUMA)
    }

    fn take_whole(&mut self, part: Part) {
        for id in self.ordered(part) {
            let whole = self.topology.select(|it| part(it) == id);
            let is_free = whole.is_subset(&self.free);
            if is_free && self.taken.len() + whole.len() <= self.wanted {
                self.take(&whole);
            }
        }
    }

    fn in_order(&self) -> Vec<u32> {
        let cores = self.free_by(CORE);
        self.ordered(CORE).iter().flat_map(|it| cores[it].iter().collect::<Vec<_>>()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cm::topology::tests::machine;

    fn take(topology: &Topology, available: &str, count: usize) -> Result<String, TakeCpusError> {
        let available = CpuSet::parse(available).unwrap();
        take_packed(topology, &available, count).map(|it| it.to_string())
    }

    #[test]
    fn whole_parts_are_taken_before_threads() {
        // Two sockets of one node with two cores: 0-3 and their siblings 4-7.
        let two = machine(2, 1, 2);
        assert_eq!(take(&two, "0-7", 1).unwrap(), "0");
        assert_eq!(take(&two, "0-7", 2).unwrap(), "0,4");
        assert_eq!(take(&two, "0-7", 4).unwrap(), "0-1,4-5");
        assert_eq!(take(&two, "1-3,5-7", 4).unwrap(), "2-3,6-7", "the socket that is free");
        assert_eq!(take(&two, "1-3,5-7", 2).unwrap(), "1,5", "the socket with less left");
        assert_eq!(take(&two, "0,2-7", 1).unwrap(), "5", "the core that is broken already");
        assert_eq!(take(&two, "1-7", 1).unwrap(), "4");
    }

    #[test]
    fn too_few_are_told_in_upstreams_words() {
        let error = take(&machine(1, 1, 2), "0-1", 3).unwrap_err();
        let text = "not enough cpus available to satisfy request: requested=3, available=2";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn a_node_of_a_large_socket_is_taken_whole() {
        // One socket, two nodes of two cores.
        let one = machine(1, 2, 2);
        assert_eq!(take(&one, "0-7", 4).unwrap(), "0-1,4-5");
        assert_eq!(take(&one, "1-7", 4).unwrap(), "2-3,6-7");
    }
}
