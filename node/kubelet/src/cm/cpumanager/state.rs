//! Who holds which CPUs, kept in `cpu_manager_state`.
//!
//! Upstream: `pkg/kubelet/cm/cpumanager/state` (the checkpoint's second version, which later ones read).

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::cm::{
    checkpoint::{self, CheckpointError, checksum, spew_map},
    cpuset::CpuSet,
};

pub(crate) const FILE: &str = "cpu_manager_state";

/// CPUs by pod UID and container name.
pub(crate) type Assignments = BTreeMap<String, BTreeMap<String, CpuSet>>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The CPUs of everybody who has none of their own.
    pub default: CpuSet,
    pub assignments: Assignments,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Checkpoint {
    policy_name: String,
    // Upstream reads field names whatever their case.
    #[serde(alias = "defaultCPUSet")]
    default_cpu_set: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    entries: BTreeMap<String, BTreeMap<String, String>>,
    checksum: u32,
}

impl Checkpoint {
    fn own_checksum(&self) -> u32 {
        let entries = spew_map(&self.entries, |pod, containers| {
            let containers = spew_map(containers, |name, cpus| format!("{name}:{cpus}"));
            format!("{pod}:{containers}")
        });
        checksum(&format!(
            "(*state.CPUManagerCheckpoint){{PolicyName:(string){} DefaultCPUSet:(string){} Entries:(map[string]map[string]string){entries} Checksum:(checksum.Checksum)0}}",
            self.policy_name, self.default_cpu_set
        ))
    }
}

impl State {
    pub(crate) fn cpus(&self, pod: &str, container: &str) -> Option<&CpuSet> {
        self.assignments.get(pod)?.get(container)
    }

    pub(super) fn encode(&self, policy: &str) -> String {
        let texts = |containers: &BTreeMap<String, CpuSet>| {
            containers.iter().map(|(name, cpus)| (name.clone(), cpus.to_string())).collect()
        };
        let entries = self.assignments.iter().map(|(pod, it)| (pod.clone(), texts(it))).collect();
        let mut checkpoint = Checkpoint {
            policy_name: policy.to_owned(),
            default_cpu_set: self.default.to_string(),
            entries,
            checksum: 0,
        };
        checkpoint.checksum = checkpoint.own_checksum();
        serde_json::to_string(&checkpoint).unwrap_or_default()
    }

    pub(super) fn decode(text: &str, policy: &str) -> Result<Self, CheckpointError> {
        let refused = |message: String| CheckpointError::Refused(message);
        let checkpoint: Checkpoint =
            serde_json::from_str(text).map_err(|_| CheckpointError::Corrupt)?;
        if checkpoint.checksum != 0 && checkpoint.checksum != checkpoint.own_checksum() {
            return Err(CheckpointError::Corrupt);
        }
        if checkpoint.policy_name != policy {
            return Err(refused(format!(
                "configured policy \"{policy}\" differs from state checkpoint policy \"{}\"",
                checkpoint.policy_name
            )));
        }
        let default = CpuSet::parse(&checkpoint.default_cpu_set).map_err(|error| {
            refused(format!(
                "could not parse default cpu set \"{}\": {error}",
                checkpoint.default_cpu_set
            ))
        })?;
        let mut assignments = Assignments::new();
        for (pod, containers) in checkpoint.entries {
            for (container, text) in containers {
                let cpus = CpuSet::parse(&text).map_err(|error| {
                    refused(format!(
                        "could not parse cpuset \"{text}\" for container \"{container}\" in pod \"{pod}\": {error}"
                    ))
                })?;
                assignments.entry(pod.clone()).or_default().insert(container, cpus);
            }
        }
        Ok(Self { default, assignments })
    }

    /// `None` where there is no file yet.
    pub(super) fn load(path: &Path, policy: &str) -> Result<Option<Self>, CheckpointError> {
        let text = checkpoint::read(path)?;
        let state = text.map(|it| Self::decode(&it, policy)).transpose();
        state.map_err(|error| {
            CheckpointError::Refused(format!(
                "could not restore state from checkpoint: {error}, please drain this node and delete the CPU manager checkpoint file \"{}\" before restarting Kubelet",
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
        let empty =
            r#"{"policyName":"none","defaultCPUSet":"4-6","entries":{},"checksum":354655845}"#;
        let state = State::decode(empty, "none").unwrap();
        assert_eq!(state.default.to_string(), "4-6");
        let text = r#"{"policyName":"none","defaultCpuSet":"1-3","entries":{"pod":{"container1":"4-6","container2":"1-3"}},"checksum":3610638499}"#;
        let state = State::decode(text, "none").unwrap();
        assert_eq!(state.cpus("pod", "container1").unwrap().to_string(), "4-6");
        assert_eq!(state.encode("none"), text);
    }

    #[test]
    fn a_changed_file_and_another_policy_are_refused() {
        let state = State { default: CpuSet::from_iter([0, 1]), ..State::default() };
        let text = state.encode("static");
        assert_eq!(State::decode(&text, "static").unwrap(), state);
        let changed = text.replace("0-1", "0-2");
        assert_eq!(
            State::decode(&changed, "static").unwrap_err().to_string(),
            "checkpoint is corrupted"
        );
        assert_eq!(
            State::decode(&text, "none").unwrap_err().to_string(),
            "configured policy \"none\" differs from state checkpoint policy \"static\""
        );
    }
}
