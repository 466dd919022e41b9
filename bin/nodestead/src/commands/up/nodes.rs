//! What `up` does about the node group, and which nodes it counts: values only.

use aws_eks::{Nodegroup, NodegroupScalingConfig};
use k8s_openapi::api::core::v1::Node;

/// The node group that `up` makes and looks after.
pub(super) const NODEGROUP: &str = "default";
const NODEGROUP_LABEL: &str = "eks.amazonaws.com/nodegroup";
/// Room to scale by hand without another call.
const MOST_NODES: i64 = 10;

/// What is to be done about the node group.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Create(NodegroupScalingConfig),
    Resize(NodegroupScalingConfig),
    /// It is as it was asked for, or as somebody has made it since.
    Leave,
}

/// A group that is there is resized only if a number was asked for now (`asked`): how large it was
/// once brought up (`first`) says nothing about what its owner has made of it since.
pub(super) fn step(group: Option<&Nodegroup>, asked: Option<u32>, first: u32) -> Step {
    let Some(group) = group else {
        let wanted = i64::from(asked.unwrap_or(first));
        return Step::Create(NodegroupScalingConfig {
            min_size: Some(0),
            max_size: Some(wanted.max(MOST_NODES)),
            desired_size: Some(wanted),
        });
    };
    let now = &group.scaling_config;
    match asked.map(i64::from) {
        Some(wanted) if now.desired_size != Some(wanted) => Step::Resize(NodegroupScalingConfig {
            min_size: now.min_size.map(|it| it.min(wanted)),
            max_size: now.max_size.map(|it| it.max(wanted)),
            desired_size: Some(wanted),
        }),
        _ => Step::Leave,
    }
}

/// How many nodes of the group are Ready. A node whose instance does not run says so only after a
/// while, and one that is being drained is no node to work with.
pub(super) fn ready(nodes: &[Node], running: &[String]) -> usize {
    let is_ours = |node: &&Node| {
        let labels = node.metadata.labels.as_ref();
        labels.and_then(|it| it.get(NODEGROUP_LABEL)).is_some_and(|it| it == NODEGROUP)
    };
    let is_ready = |node: &&Node| {
        let conditions = node.status.as_ref().and_then(|it| it.conditions.as_ref());
        conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
    };
    let is_running = |node: &&Node| {
        let name = node.metadata.name.as_ref();
        name.is_some_and(|it| running.contains(it))
    };
    let is_drained =
        |node: &Node| node.spec.as_ref().and_then(|it| it.unschedulable).unwrap_or_default();
    let nodes = nodes.iter().filter(is_ours).filter(is_ready).filter(is_running);
    nodes.filter(|it| !is_drained(it)).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sizes(min: i64, max: i64, desired: i64) -> NodegroupScalingConfig {
        NodegroupScalingConfig {
            min_size: Some(min),
            max_size: Some(max),
            desired_size: Some(desired),
        }
    }

    fn group(scaling_config: NodegroupScalingConfig) -> Nodegroup {
        Nodegroup { scaling_config, ..Nodegroup::default() }
    }

    #[test]
    fn a_second_up_leaves_a_group_as_its_owner_has_scaled_it() {
        let scaled = group(sizes(2, 6, 4));
        assert_eq!(step(Some(&scaled), None, 3), Step::Leave);
        assert_eq!(step(Some(&scaled), Some(4), 3), Step::Leave);
        assert_eq!(step(None, None, 3), Step::Create(sizes(0, 10, 3)));
    }

    #[test]
    fn a_number_that_is_asked_for_moves_the_limits_only_as_far_as_it_must() {
        let scaled = group(sizes(2, 6, 4));
        assert_eq!(step(Some(&scaled), Some(3), 3), Step::Resize(sizes(2, 6, 3)));
        assert_eq!(step(Some(&scaled), Some(1), 3), Step::Resize(sizes(1, 6, 1)));
        assert_eq!(step(Some(&scaled), Some(9), 3), Step::Resize(sizes(2, 9, 9)));
    }

    #[test]
    fn nodes_of_other_groups_do_not_count() {
        let nodes = [
            node("a", "default", "True"),
            node("b", "default", "Unknown"),
            node("c", "gpu", "True"),
        ];
        assert_eq!(ready(&nodes, &running()), 1);
        assert_eq!(ready(&[Node::default()], &running()), 0);
    }

    #[test]
    fn nodes_that_do_not_run_any_more_or_are_drained_do_not_count() {
        let stopped = node("z", "default", "True");
        let mut drained = node("a", "default", "True");
        drained.spec.get_or_insert_default().unschedulable = Some(true);
        assert_eq!(ready(&[stopped, drained, node("b", "default", "True")], &running()), 1);
    }

    fn running() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).to_vec()
    }

    fn node(name: &str, group: &str, ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {NODEGROUP_LABEL: group}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }
}
