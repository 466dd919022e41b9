//! Questions about Nodes: readiness, taints, what they can hold.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};

/// Marks a node that is being removed.
pub(crate) const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
/// Marks a node that is not needed, so that the scheduler fills others first.
pub(crate) const CANDIDATE: &str = "DeletionCandidateOfClusterAutoscaler";
const STARTUP_PREFIXES: [&str; 2] = [
    "startup-taint.cluster-autoscaler.kubernetes.io/",
    "ignore-taint.cluster-autoscaler.kubernetes.io/",
];
const STATUS_PREFIX: &str = "status-taint.cluster-autoscaler.kubernetes.io/";
/// Taints that come with conditions and go with them.
const CONDITIONS: [&str; 8] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/unschedulable",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/pid-pressure",
    "node.cloudprovider.kubernetes.io/uninitialized",
];

pub(crate) fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn provider_id(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.provider_id.as_deref()
}

/// The type of a node's GPUs, and how many it has for pods.
pub(crate) fn gpus(node: &Node) -> Option<(&str, i64)> {
    let kind = node.metadata.labels.as_ref()?.get("k8s.amazonaws.com/accelerator")?;
    let count = resources::node_allocatable(node).amount("nvidia.com/gpu");
    (count > 0).then_some((kind.as_str(), count))
}

pub(crate) fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|it| it.taints.as_deref()).unwrap_or_default()
}

pub(crate) fn has_taint(node: &Node, key: &str) -> bool {
    taints(node).iter().any(|it| it.key == key)
}

pub(crate) fn created(node: &Node) -> Timestamp {
    node.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |it| it.0)
}

pub(crate) fn annotation<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    node.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Ready, and not held back by a taint that goes when the node has started.
pub(crate) fn is_ready(node: &Node, startup: &[String]) -> bool {
    let conditions = node.status.iter().flat_map(|it| it.conditions.iter().flatten());
    let is = |kind: &str, status: &str| {
        conditions.clone().any(|it| it.type_ == kind && it.status == status)
    };
    let is_held = taints(node).iter().any(|it| {
        is_startup_taint(&it.key, startup)
            || it.key == "node.kubernetes.io/not-ready"
            || it.key == "node.cloudprovider.kubernetes.io/uninitialized"
    });
    is("Ready", "True") && !is("NetworkUnavailable", "True") && !is_held
}

/// Since when its Ready condition is what it is.
pub(crate) fn ready_since(node: &Node) -> Option<Timestamp> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|it| it.type_ == "Ready")?;
    ready.last_transition_time.as_ref().map(|it| it.0)
}

pub(crate) fn is_startup_taint(key: &str, startup: &[String]) -> bool {
    STARTUP_PREFIXES.iter().any(|it| key.starts_with(it)) || startup.iter().any(|it| it == key)
}

/// How metrics call a taint: the autoscaler's own by their keys, others by what they are for.
pub(crate) fn kind_of_taint<'a>(key: &'a str, startup: &[String], status: &[String]) -> &'a str {
    match key {
        TO_BE_DELETED | CANDIDATE => key,
        _ if CONDITIONS.contains(&key) => "node-condition",
        _ if is_startup_taint(key, startup) => "startup-taint",
        _ if key.starts_with(STATUS_PREFIX) || status.iter().any(|it| it == key) => "status-taint",
        _ => "other",
    }
}

/// The taints that a new node of the same group will have, too.
pub(crate) fn lasting_taints(node: &Node, startup: &[String], status: &[String]) -> Vec<Taint> {
    let is_passing = |it: &&Taint| {
        it.key == TO_BE_DELETED
            || it.key == CANDIDATE
            || CONDITIONS.contains(&it.key.as_str())
            || it.key.starts_with(STATUS_PREFIX)
            || status.contains(&it.key)
            || is_startup_taint(&it.key, startup)
    };
    taints(node).iter().filter(|it| !is_passing(it)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_keeps_the_taints_that_the_group_gives() {
        let node: Node = serde_json::from_value(serde_json::json!({
            "spec": { "taints": [
                { "key": "team", "value": "a", "effect": "NoSchedule" },
                { "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" },
                { "key": TO_BE_DELETED, "effect": "NoSchedule" },
                { "key": "startup-taint.cluster-autoscaler.kubernetes.io/x", "effect": "NoSchedule" },
                { "key": "mine", "effect": "NoSchedule" },
                { "key": "said", "effect": "NoSchedule" },
            ] },
        }))
        .unwrap();
        let (startup, status) = (["mine".to_owned()], ["said".to_owned()]);
        let kinds: Vec<&str> =
            taints(&node).iter().map(|it| kind_of_taint(&it.key, &startup, &status)).collect();
        let expected = [
            "other",
            "node-condition",
            TO_BE_DELETED,
            "startup-taint",
            "startup-taint",
            "status-taint",
        ];
        assert_eq!(kinds, expected);
        let lasting = lasting_taints(&node, &["mine".to_owned()], &["said".to_owned()]);
        assert_eq!(lasting.iter().map(|it| it.key.as_str()).collect::<Vec<_>>(), ["team"]);
    }
}
