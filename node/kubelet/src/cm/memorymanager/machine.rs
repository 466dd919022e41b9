//! The memory of the NUMA nodes, and what is taken and given back.
//!
//! Upstream: `pkg/kubelet/cm/memorymanager/policy_static.go` (`getDefaultMachineState`,
//! `validateState`, `updateMachineState`).

use std::collections::BTreeMap;

use super::{
    NewMemoryManagerError,
    hints::Amounts,
    state::{Block, NodeState, Nodes, State, Table},
};
use crate::cm::{
    requests::{HUGEPAGES, MEMORY},
    topology::Topology,
    topologymanager::hint::NumaMask,
};

/// Bytes kept back by node and kind (`reservedMemory`).
pub(crate) type Reserved = BTreeMap<u32, BTreeMap<String, u64>>;

/// A state that does not fit the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MachineError {
    #[error("[memorymanager] machine state can not be empty when it has memory assignments")]
    Empty,
    #[error(
        "[memorymanager] (pod: {pod}, container: {container}) the memory assignment uses the NUMA that does not exist"
    )]
    NoNode { pod: String, container: String },
    #[error(
        "[memorymanager] (pod: {pod}, container: {container}) the memory assignment uses memory resource that does not exist"
    )]
    NoMemory { pod: String, container: String },
    #[error("[memorymanager] the expected machine state is different from the real one")]
    Different,
}

/// What is reserved by node must be what is reserved in all.
pub(super) fn check_reserved(
    reserved: &Reserved,
    determined: &Amounts,
) -> Result<(), NewMemoryManagerError> {
    let mut configured = Amounts::new();
    for (kind, bytes) in reserved.values().flatten() {
        *configured.entry(kind.clone()).or_default() += bytes;
    }
    for kind in configured.keys().chain(determined.keys()) {
        let of = |list: &Amounts| list.get(kind).copied().unwrap_or(0);
        let (configured, determined) = (of(&configured), of(determined));
        if configured != determined {
            let kind = kind.clone();
            return Err(NewMemoryManagerError::Reserved { kind, configured, determined });
        }
    }
    if configured.get(MEMORY).copied().unwrap_or(0) == 0 {
        return Err(NewMemoryManagerError::NothingReserved);
    }
    Ok(())
}

fn fresh(topology: &Topology, reserved: &Reserved) -> Nodes {
    let table = |total: u64, system_reserved: u64, used: u64| {
        let allocatable = total.saturating_sub(system_reserved).saturating_sub(used);
        Table { total, system_reserved, allocatable, reserved: 0, free: allocatable }
    };
    let node = |id: u32, it: &crate::cm::topology::NumaNode| {
        let kept = |kind: &str| reserved.get(&id).and_then(|it| it.get(kind)).copied().unwrap_or(0);
        let mut memory_map: BTreeMap<String, Table> = it
            .hugepages
            .iter()
            .map(|(size, bytes)| {
                let kind = format!("{HUGEPAGES}{size}");
                let own = table(*bytes, kept(&kind), 0);
                (kind, own)
            })
            .collect();
        let pages = it.hugepages.values().sum();
        memory_map.insert(MEMORY.to_owned(), table(it.memory, kept(MEMORY), pages));
        NodeState { number_of_assignments: 0, memory_map, cells: vec![id] }
    };
    topology.nodes.iter().map(|(id, it)| (*id, node(*id, it))).collect()
}

/// A new state is filled; one that was read must be what the assignments make of this machine.
pub(super) fn validate(
    state: &mut State,
    topology: &Topology,
    reserved: &Reserved,
) -> Result<(), MachineError> {
    let mut expected = fresh(topology, reserved);
    if state.nodes.is_empty() {
        if !state.assignments.is_empty() {
            return Err(MachineError::Empty);
        }
        state.nodes = expected;
        return Ok(());
    }
    for (pod, containers) in &state.assignments {
        for (container, blocks) in containers {
            for block in blocks {
                let (pod, container) = (pod.clone(), container.clone());
                let nodes: Option<Vec<_>> =
                    block.numa_affinity.iter().map(|it| expected.get(it)).collect();
                let Some(nodes) = nodes else {
                    return Err(MachineError::NoNode { pod, container });
                };
                if nodes.iter().any(|it| !it.memory_map.contains_key(&block.kind)) {
                    return Err(MachineError::NoMemory { pod, container });
                }
                take(&mut expected, block.mask(), &block.kind, block.size);
            }
        }
    }
    if is_same(&state.nodes, &expected) { Ok(()) } else { Err(MachineError::Different) }
}

/// Within a group of nodes it does not matter which of them gives what.
fn is_same(a: &Nodes, b: &Nodes) -> bool {
    let shape = |it: &NodeState| {
        let tables: Vec<_> = it
            .memory_map
            .iter()
            .map(|(kind, it)| (kind.clone(), it.total, it.system_reserved, it.allocatable))
            .collect();
        let cells = NumaMask::of(it.cells.iter().copied());
        (it.number_of_assignments, cells, tables)
    };
    let sums = |nodes: &Nodes, cells: &[u32], kind: &str| {
        let mask = NumaMask::of(cells.iter().copied());
        let sum = |of: fn(&Table) -> u64| super::hints::sum(nodes, mask, kind, of);
        (sum(|it| it.free), sum(|it| it.reserved))
    };
    a.len() == b.len()
        && a.iter().all(|(id, own)| {
            b.get(id).is_some_and(|other| {
                let mut kinds = own.memory_map.keys();
                shape(own) == shape(other)
                    && kinds.all(|it| sums(a, &own.cells, it) == sums(b, &own.cells, it))
            })
        })
}

/// Takes from the nodes in turn.
pub(super) fn take(nodes: &mut Nodes, mask: NumaMask, kind: &str, mut size: u64) {
    for id in mask.nodes() {
        let Some(node) = nodes.get_mut(&id) else { continue };
        node.number_of_assignments += 1;
        node.cells = mask.nodes();
        if let Some(table) = node.memory_map.get_mut(kind) {
            let part = table.free.min(size);
            table.free -= part;
            table.reserved += part;
            size -= part;
        }
    }
}

pub(super) fn give(nodes: &mut Nodes, block: &Block) {
    let mut size = block.size;
    for id in &block.numa_affinity {
        let Some(node) = nodes.get_mut(id) else { continue };
        node.number_of_assignments -= 1;
        if node.number_of_assignments == 0 {
            node.cells = vec![*id];
        }
        if let Some(table) = node.memory_map.get_mut(&block.kind) {
            let part = table.reserved.min(size);
            table.reserved -= part;
            table.free += part;
            size -= part;
        }
    }
}
