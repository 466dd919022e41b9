//! Which NUMA nodes' memory is promised to whom, kept in `memory_manager_state`.
//!
//! Upstream: `pkg/kubelet/cm/memorymanager/state`.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::cm::{
    checkpoint::{self, CheckpointError, checksum, spew_list, spew_map},
    topologymanager::hint::NumaMask,
};

pub(crate) const FILE: &str = "memory_manager_state";

/// Bytes of one kind of memory on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Table {
    pub total: u64,
    pub system_reserved: u64,
    pub allocatable: u64,
    pub reserved: u64,
    pub free: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeState {
    pub number_of_assignments: i64,
    pub memory_map: BTreeMap<String, Table>,
    /// The nodes that this one gives memory together with.
    pub cells: Vec<u32>,
}

/// What one container has of one kind of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Block {
    pub numa_affinity: Vec<u32>,
    #[serde(rename = "type")]
    pub kind: String,
    pub size: u64,
}

impl Block {
    pub(crate) fn mask(&self) -> NumaMask {
        NumaMask::of(self.numa_affinity.iter().copied())
    }
}

pub(crate) type Nodes = BTreeMap<u32, NodeState>;
/// Blocks by pod UID and container name.
pub(crate) type Assignments = BTreeMap<String, BTreeMap<String, Vec<Block>>>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub nodes: Nodes,
    pub assignments: Assignments,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Checkpoint {
    policy_name: String,
    machine_state: Nodes,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    entries: Assignments,
    checksum: u32,
}

impl Checkpoint {
    fn own_checksum(&self) -> u32 {
        let table = |name: &String, it: &Table| {
            format!(
                "{name}:<*>{{TotalMemSize:(uint64){} SystemReserved:(uint64){} Allocatable:(uint64){} Reserved:(uint64){} Free:(uint64){}}}",
                it.total, it.system_reserved, it.allocatable, it.reserved, it.free
            )
        };
        let nodes = spew_map(&self.machine_state, |id, it| {
            format!(
                "{id}:<*>{{NumberOfAssignments:(int){} MemoryMap:(map[v1.ResourceName]*state.MemoryTable){} Cells:([]int){}}}",
                it.number_of_assignments,
                spew_map(&it.memory_map, table),
                spew_list(&it.cells)
            )
        });
        let block = |it: &Block| {
            format!(
                "{{NUMAAffinity:([]int){} Type:(v1.ResourceName){} Size:(uint64){}}}",
                spew_list(&it.numa_affinity),
                it.kind,
                it.size
            )
        };
        let entries = spew_map(&self.entries, |pod, containers| {
            let containers = spew_map(containers, |name, blocks| {
                let blocks: Vec<_> = blocks.iter().map(block).collect();
                format!("{name}:{}", spew_list(&blocks))
            });
            format!("{pod}:{containers}")
        });
        checksum(&format!(
            "(*state.MemoryManagerCheckpoint){{PolicyName:(string){} MachineState:(state.NUMANodeMap){nodes} Entries:(state.ContainerMemoryAssignments){entries} Checksum:(checksum.Checksum)0}}",
            self.policy_name
        ))
    }
}

impl State {
    pub(crate) fn blocks(&self, pod: &str, container: &str) -> Option<&Vec<Block>> {
        self.assignments.get(pod)?.get(container)
    }

    pub(super) fn encode(&self, policy: &str) -> String {
        let mut checkpoint = Checkpoint {
            policy_name: policy.to_owned(),
            machine_state: self.nodes.clone(),
            entries: self.assignments.clone(),
            checksum: 0,
        };
        checkpoint.checksum = checkpoint.own_checksum();
        serde_json::to_string(&checkpoint).unwrap_or_default()
    }

    pub(super) fn decode(text: &str, policy: &str) -> Result<Self, CheckpointError> {
        let it: Checkpoint = serde_json::from_str(text).map_err(|_| CheckpointError::Corrupt)?;
        if it.checksum != it.own_checksum() {
            return Err(CheckpointError::Corrupt);
        }
        if it.policy_name != policy {
            return Err(CheckpointError::Refused(format!(
                "[memorymanager] configured policy \"{policy}\" differs from state checkpoint policy \"{}\"",
                it.policy_name
            )));
        }
        Ok(Self { nodes: it.machine_state, assignments: it.entries })
    }

    /// `None` where there is no file yet.
    pub(super) fn load(path: &Path, policy: &str) -> Result<Option<Self>, CheckpointError> {
        let text = checkpoint::read(path)?;
        let state = text.map(|it| Self::decode(&it, policy)).transpose();
        state.map_err(|error| {
            CheckpointError::Refused(format!(
                "could not restore state from checkpoint: {error}, please drain this node and delete the memory manager checkpoint file \"{}\" before restarting Kubelet",
                path.display()
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_of_upstreams_kubelet_are_read_and_written() {
        let text = r#"{"policyName":"static","machineState":{"0":{"numberOfAssignments":0,"memoryMap":{"memory":{"total":2048,"systemReserved":512,"allocatable":1536,"reserved":512,"free":1024}},"cells":[]}},"entries":{"pod":{"container1":[{"numaAffinity":[0],"type":"memory","size":512}]}},"checksum":4215593881}"#;
        let state = State::decode(text, "static").unwrap();
        assert_eq!(state.blocks("pod", "container1").unwrap()[0].size, 512);
        assert_eq!(state.encode("static"), text);
        let changed = text.replace("\"size\":512", "\"size\":513");
        assert!(matches!(State::decode(&changed, "static"), Err(CheckpointError::Corrupt)));
        assert!(matches!(State::decode(text, "Static"), Err(CheckpointError::Refused(_))));
    }
}
