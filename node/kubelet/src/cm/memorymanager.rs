//! Promises the memory and huge pages of Guaranteed pods on certain NUMA nodes (policy `Static`).
//!
//! The promise is kept by `cpuset.mems` of the container. Everything here is a computation on
//! [`State`]; the file is written after each change.
//!
//! Upstream: `pkg/kubelet/cm/memorymanager`.
//!
//! **Invariant:** on no node more is promised than what is allocatable there.

mod hints;
mod machine;
pub(crate) mod state;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Pod};
use tracing::error;

pub(crate) use self::machine::Reserved;
use self::{
    hints::Amounts,
    machine::{MachineError, give, take},
    state::{Block, FILE, State},
};
use super::{
    checkpoint::{self, CheckpointError},
    requests,
    topology::Topology,
    topologymanager::hint::{Hint, NumaMask, Wish},
};
use crate::pod::{Kind, PodExt, init_kind};

pub(crate) struct MemoryManager {
    is_static: bool,
    pub state: State,
    file: PathBuf,
    reusable: Reusable,
}

/// What ended init containers of the pod being admitted had, by nodes and kind.
#[derive(Default)]
struct Reusable {
    pod: String,
    amounts: BTreeMap<(NumaMask, String), u64>,
}

/// Why the manager cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewMemoryManagerError {
    #[error("unknown policy: \"{0}\"")]
    Policy(String),
    #[error("[memorymanager] you should specify the system reserved memory")]
    NothingReserved,
    #[error(
        "the total amount \"{configured}\" of type \"{kind}\" is not equal to the value \"{determined}\" determined by Node Allocatable feature"
    )]
    Reserved { kind: String, configured: u64, determined: u64 },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// Why a container does not get its memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AllocateMemoryError {
    #[error(
        "[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available"
    )]
    NoNodes,
    #[error("[memorymanager] failed to find the default preferred hint")]
    NoDefault,
    #[error("[memorymanager] failed to find NUMA nodes to extend the current topology hint")]
    NoExtension,
    #[error("[memorymanager] failed to find the extended preferred hint")]
    NoPreferredExtension,
    #[error("[memorymanager] preferred hint violates NUMA node allocation")]
    Violation,
}

impl MemoryManager {
    /// `reserved` by node; `determined` is what Node Allocatable keeps back of each kind.
    pub(crate) fn new(
        policy: &str,
        reserved: &Reserved,
        determined: &Amounts,
        topology: &Topology,
        root: &Path,
    ) -> Result<Self, NewMemoryManagerError> {
        let is_static = match policy {
            "" | "None" => false,
            "Static" => true,
            other => return Err(NewMemoryManagerError::Policy(other.to_owned())),
        };
        let file = root.join(FILE);
        let mut state = State::load(&file, name(is_static))?.unwrap_or_default();
        if is_static {
            machine::check_reserved(reserved, determined)?;
            machine::validate(&mut state, topology, reserved)?;
        }
        let manager = Self { is_static, state, file, reusable: Reusable::default() };
        manager.save();
        Ok(manager)
    }

    fn save(&self) {
        let text = self.state.encode(name(self.is_static));
        if let Err(error) = checkpoint::write(&self.file, &text) {
            error!(file = %self.file.display(), %error, "the memory manager's state was not written");
        }
    }

    /// The nodes that a container's memory comes from; empty where nothing is restricted.
    pub(crate) fn nodes(&self, pod: &str, container: &str) -> Vec<u32> {
        let blocks = self.state.blocks(pod, container).into_iter().flatten();
        let mut nodes: Vec<u32> = blocks.flat_map(|it| it.numa_affinity.clone()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// What there is for pods on each node.
    pub(crate) fn allocatable(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        for (node, state) in self.state.nodes.iter().filter(|_| self.is_static) {
            for (kind, table) in state.memory_map.iter().filter(|it| it.1.allocatable > 0) {
                let size = table.allocatable;
                blocks.push(Block { numa_affinity: vec![*node], kind: kind.clone(), size });
            }
        }
        blocks
    }

    fn reusable(&self, pod: &str, mask: NumaMask, kind: &str) -> u64 {
        if self.reusable.pod != pod {
            return 0;
        }
        self.reusable.amounts.get(&(mask, kind.to_owned())).copied().unwrap_or(0)
    }

    fn hints(&self, uid: &str, wanted: &Amounts) -> Vec<Hint> {
        hints::hints(&self.state.nodes, wanted, |mask, kind| self.reusable(uid, mask, kind))
    }

    pub(crate) fn allocate(
        &mut self,
        pod: &Pod,
        container: &Container,
        hint: Hint,
    ) -> Result<(), AllocateMemoryError> {
        let wanted = requests::pinned_memory(pod, container);
        if !self.is_static || wanted.is_empty() {
            return Ok(());
        }
        let uid = pod.uid().0;
        if let Some(blocks) = self.state.blocks(&uid, &container.name).cloned() {
            self.note_reusable(&uid, pod, container, &blocks);
            return Ok(());
        }
        let mask = self.choose(&uid, &wanted, hint)?;
        let mut blocks = Vec::new();
        for (kind, size) in wanted {
            let fresh = size.saturating_sub(self.reusable(&uid, mask, &kind));
            take(&mut self.state.nodes, mask, &kind, fresh);
            blocks.push(Block { numa_affinity: mask.nodes(), kind, size });
        }
        self.note_reusable(&uid, pod, container, &blocks);
        self.shrink_inits(&uid, pod, container, &blocks);
        let containers = self.state.assignments.entry(uid).or_default();
        containers.insert(container.name.clone(), blocks);
        self.save();
        Ok(())
    }

    fn choose(
        &self,
        uid: &str,
        wanted: &Amounts,
        hint: Hint,
    ) -> Result<NumaMask, AllocateMemoryError> {
        let mut chosen = hint;
        if hint.affinity.is_none() {
            let default = hints::best(self.hints(uid, wanted), NumaMask::default());
            let default = default.ok_or(AllocateMemoryError::NoNodes)?;
            if !default.is_preferred && hint.is_preferred {
                return Err(AllocateMemoryError::NoDefault);
            }
            chosen = default;
        }
        let mask = chosen.affinity.unwrap_or_default();
        let nodes = &self.state.nodes;
        let is_enough =
            wanted.iter().all(|(kind, size)| hints::sum(nodes, mask, kind, |it| it.free) >= *size);
        if !is_enough {
            let extended = hints::best(self.hints(uid, wanted), mask);
            let extended = extended.ok_or(AllocateMemoryError::NoExtension)?;
            if !extended.is_preferred && chosen.is_preferred {
                return Err(AllocateMemoryError::NoPreferredExtension);
            }
            chosen = extended;
        }
        let mask = chosen.affinity.unwrap_or_default();
        if hints::violates_assignments(nodes, mask) {
            return Err(AllocateMemoryError::Violation);
        }
        Ok(mask)
    }

    /// What an init container has is there again for the containers after it.
    fn note_reusable(&mut self, uid: &str, pod: &Pod, container: &Container, blocks: &[Block]) {
        if self.reusable.pod != uid {
            self.reusable = Reusable { pod: uid.to_owned(), ..Reusable::default() };
        }
        let mut inits = PodExt::spec(pod).init_containers.iter().flatten();
        let is_init = inits.any(|it| it.name == container.name && init_kind(it) == Kind::Init);
        for block in blocks {
            let key = (block.mask(), block.kind.clone());
            let known = self.reusable.amounts.entry(key).or_default();
            *known =
                if is_init { block.size.max(*known) } else { known.saturating_sub(block.size) };
        }
    }

    /// A pod's blocks add up to what it holds: what is used again is counted once.
    fn shrink_inits(&mut self, uid: &str, pod: &Pod, container: &Container, blocks: &[Block]) {
        let Some(held) = self.state.assignments.get_mut(uid) else { return };
        let inits = PodExt::spec(pod).init_containers.iter().flatten();
        let before: Vec<_> = inits.take_while(|it| it.name != container.name).collect();
        for block in blocks {
            let mut left = block.size;
            for init in before.iter().filter(|it| init_kind(it) == Kind::Init) {
                let own = held.get_mut(&init.name).into_iter().flatten();
                for own in own.filter(|it| it.kind == block.kind && it.mask() == block.mask()) {
                    let again = own.size.min(left);
                    own.size -= again;
                    left -= again;
                }
            }
        }
    }

    pub(crate) fn release(&mut self, uid: &str) {
        if self.reusable.pod == uid {
            self.reusable = Reusable::default();
        }
        let Some(containers) = self.state.assignments.remove(uid) else { return };
        for block in containers.values().flatten() {
            give(&mut self.state.nodes, block);
        }
        self.save();
    }

    pub(crate) fn wishes(&self, pod: &Pod, container: &Container) -> Vec<Wish> {
        let wanted = requests::pinned_memory(pod, container);
        let uid = pod.uid().0;
        self.wishes_for(&uid, &wanted, self.state.blocks(&uid, &container.name))
    }

    pub(crate) fn pod_wishes(&self, pod: &Pod) -> Vec<Wish> {
        let wanted = requests::pod_pinned_memory(pod);
        let uid = pod.uid().0;
        let held = self.state.assignments.get(&uid).and_then(|it| it.values().next());
        self.wishes_for(&uid, &wanted, held)
    }

    /// One wish per kind of memory.
    fn wishes_for(&self, uid: &str, wanted: &Amounts, held: Option<&Vec<Block>>) -> Vec<Wish> {
        if !self.is_static || wanted.is_empty() {
            return vec![Wish::Indifferent];
        }
        let Some(held) = held else {
            let hints = self.hints(uid, wanted);
            return wanted.keys().map(|_| Wish::OneOf(hints.clone())).collect();
        };
        let again = |block: &Block| {
            let hint = Hint { affinity: Some(block.mask()), is_preferred: true };
            Wish::OneOf(vec![hint])
        };
        let is_same = held.len() == wanted.len()
            && held.iter().all(|it| wanted.get(&it.kind) == Some(&it.size));
        // Upstream knows no topology for blocks that differ from what is asked now.
        if is_same { held.iter().map(again).collect() } else { vec![Wish::Indifferent] }
    }
}

fn name(is_static: bool) -> &'static str {
    if is_static { "Static" } else { "None" }
}

#[cfg(test)]
mod tests;
