//! Which NUMA nodes a container's CPUs, memory and devices come from together.
//!
//! Every manager says on which sets of nodes it could give what is wanted ([`hint::Wish`]); the policy
//! merges that into one hint, or refuses the pod.
//!
//! Upstream: `pkg/kubelet/cm/topologymanager`.

pub(crate) mod hint;
mod merge;
pub(crate) mod numa;

use std::collections::BTreeMap;

use self::{
    hint::{Hint, NumaMask, Wish},
    merge::Fit,
    numa::Numa,
};

/// More nodes make too many combinations.
const MAX_NODES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    None,
    BestEffort,
    Restricted,
    SingleNumaNode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Container,
    Pod,
}

#[derive(Clone, Debug)]
pub(crate) struct TopologyManager {
    pub policy: Policy,
    pub scope: Scope,
    fit: Fit,
    numa: Numa,
}

/// A policy, scope or option that there is not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewTopologyManagerError {
    #[error("unknown policy: \"{0}\"")]
    Policy(String),
    #[error("unknown scope: \"{0}\"")]
    Scope(String),
    #[error("unknown Topology Manager Policy option: \"{0}\"")]
    Option(String),
    #[error("bad value for option \"{name}\": \"{value}\"")]
    Value { name: String, value: String },
    #[error("unsupported on machines with more than {0} NUMA Nodes")]
    TooManyNodes(usize),
}

impl TopologyManager {
    pub(crate) fn new(
        policy: &str,
        scope: &str,
        options: &BTreeMap<String, String>,
        numa: Numa,
    ) -> Result<Self, NewTopologyManagerError> {
        let policy = match policy {
            "" | "none" => Policy::None,
            "best-effort" => Policy::BestEffort,
            "restricted" => Policy::Restricted,
            "single-numa-node" => Policy::SingleNumaNode,
            other => return Err(NewTopologyManagerError::Policy(other.to_owned())),
        };
        let scope = match scope {
            "" | "container" => Scope::Container,
            "pod" => Scope::Pod,
            other => return Err(NewTopologyManagerError::Scope(other.to_owned())),
        };
        let (mut fit, mut most) = (Fit::Narrowest, MAX_NODES);
        for (name, value) in options {
            let wrong =
                || NewTopologyManagerError::Value { name: name.clone(), value: value.clone() };
            match name.as_str() {
                "prefer-closest-numa-nodes" => {
                    let is_set = parse_bool(value).ok_or_else(wrong)?;
                    fit = if is_set { Fit::Closest } else { Fit::Narrowest };
                }
                "max-allowable-numa-nodes" => {
                    most = value.parse().ok().filter(|it| *it >= MAX_NODES).ok_or_else(wrong)?;
                }
                other => return Err(NewTopologyManagerError::Option(other.to_owned())),
            }
        }
        if policy != Policy::None && numa.count() > most {
            return Err(NewTopologyManagerError::TooManyNodes(most));
        }
        Ok(Self { policy, scope, fit, numa })
    }

    /// The best hint, and whether a container or pod may run with it.
    pub(crate) fn merge(&self, wishes: &[Wish]) -> (Hint, bool) {
        let lists = merge::lists(wishes);
        match self.policy {
            Policy::None => (Hint { affinity: None, is_preferred: true }, true),
            Policy::BestEffort => (merge::merge(&self.numa, &lists, self.fit), true),
            Policy::Restricted => {
                let hint = merge::merge(&self.numa, &lists, self.fit);
                (hint, hint.is_preferred)
            }
            Policy::SingleNumaNode => {
                let single: Vec<Vec<Hint>> = lists.into_iter().map(single_nodes).collect();
                let mut hint = merge::merge(&self.numa, &single, Fit::Narrowest);
                if hint.affinity == Some(self.numa.all()) {
                    hint.affinity = None;
                }
                (hint, hint.is_preferred)
            }
        }
    }
}

fn single_nodes(hints: Vec<Hint>) -> Vec<Hint> {
    let is_single = |it: &Hint| it.is_preferred && it.affinity.is_none_or(|it| it.count() == 1);
    hints.into_iter().filter(is_single).collect()
}

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The sets of these nodes for which `fits` says so, the smallest that would do on an empty machine
/// preferred.
pub(crate) fn hints(
    nodes: &[u32],
    could: impl Fn(NumaMask) -> bool,
    fits: impl Fn(NumaMask) -> bool,
) -> Vec<Hint> {
    let all = NumaMask::all_of(nodes);
    let most = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    let least = all.iter().filter(|it| could(**it)).map(|it| it.count()).min().unwrap_or(most);
    hint::prefer(all.into_iter().filter(|it| fits(*it)).collect(), least)
}

#[cfg(test)]
mod tests;
