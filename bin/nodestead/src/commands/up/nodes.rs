//! What `up` does about the node group, and which nodes it counts: values only.

use std::time::Duration;

use aws_eks::{Issue, Nodegroup, NodegroupScalingConfig};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::admin::InstanceStatus;

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

/// Why the group fails to get its instances, once it has failed for `since`: a launch that is refused
/// in one zone may succeed in another.
pub(super) fn launch_failure(group: &Nodegroup, since: Duration) -> Option<&str> {
    const PATIENCE: Duration = Duration::from_secs(15);
    let issue = not_launched(group)?;
    (since >= PATIENCE).then(|| issue.message.as_deref().unwrap_or_default())
}

pub(super) fn not_launched(group: &Nodegroup) -> Option<&Issue> {
    let is_it = |it: &&Issue| it.code.as_deref() == Some("AsgInstanceLaunchFailures");
    group.health.issues.iter().find(is_it)
}

/// What a group with too few Ready nodes waits for, instance by instance.
pub(super) fn waits_for(nodes: &[Node], instances: &[InstanceStatus]) -> Vec<String> {
    let one = |it: &InstanceStatus| {
        let id = &it.id;
        match (it.state.as_str(), it.status_check.as_str()) {
            ("terminated", _) => None,
            ("running", "ok") => {
                let running = [(it.node_name.clone(), it.boot_id.clone())];
                let name = &it.node_name;
                (ready(nodes, &running) == 0).then(|| format!("node {name} is not Ready"))
            }
            ("running", "impaired") => Some(format!("{id} does not boot")),
            ("running", _) => Some(format!("{id} boots")),
            (state, _) => Some(format!("{id} is {state}")),
        }
    };
    instances.iter().filter_map(one).collect()
}

/// A node's name and the boot of its instance that runs now, if that is known.
pub(super) type Running = (String, Option<String>);

/// How many nodes of the group are Ready. A node whose instance does not run, or has just been booted
/// again, says so only after a while; and one that is being drained is no node to work with.
pub(super) fn ready(nodes: &[Node], running: &[Running]) -> usize {
    let is_ours = |node: &&Node| {
        let labels = node.metadata.labels.as_ref();
        labels.and_then(|it| it.get(NODEGROUP_LABEL)).is_some_and(|it| it == NODEGROUP)
    };
    let is_ready = |node: &&Node| {
        let conditions = node.status.as_ref().and_then(|it| it.conditions.as_ref());
        conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
    };
    let is_running = |node: &&Node| {
        let (name, status) = (node.metadata.name.as_ref(), node.status.as_ref());
        let boot = status.and_then(|it| it.node_info.as_ref()).map(|it| &it.boot_id);
        let is_it = |(node, runs): &Running| {
            Some(node) == name && runs.as_ref().is_none_or(|it| boot == Some(it))
        };
        running.iter().any(is_it)
    };
    let is_drained =
        |node: &Node| node.spec.as_ref().and_then(|it| it.unschedulable).unwrap_or_default();
    let nodes = nodes.iter().filter(is_ours).filter(is_ready).filter(is_running);
    nodes.filter(|it| !is_drained(it)).count()
}

/// How many pods of instances that run have all their containers running since the last boot, and how
/// many there are. What a pod said before its instance was booted again does not count.
pub(super) fn pods_running(pods: &[Pod], instances: &[InstanceStatus]) -> (usize, usize) {
    let booted = |pod: &Pod| {
        let node = pod.spec.as_ref()?.node_name.as_deref()?;
        instances.iter().find(|it| it.node_name == node && it.state == "running")?.booted_at
    };
    let is_over = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some()
    };
    let bound = pods.iter().filter(|it| !is_over(it));
    let bound: Vec<_> = bound.filter_map(|it| Some((it, booted(it)?))).collect();
    let running = bound.iter().filter(|(pod, booted)| runs_since(pod, *booted)).count();
    (running, bound.len())
}

/// Kubernetes keeps these times in whole seconds.
fn runs_since(pod: &Pod, booted: Timestamp) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|it| it.container_statuses.as_deref()).unwrap_or_default();
    !containers.is_empty()
        && containers.iter().all(|it| {
            let running = it.state.as_ref().and_then(|it| it.running.as_ref());
            let started = running.and_then(|it| it.started_at.as_ref());
            started.is_some_and(|it| it.0.as_second() >= booted.as_second())
        })
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

    #[test]
    fn what_a_node_said_before_its_instance_was_booted_again_does_not_count() {
        let mut before = node("a", "default", "True");
        let status = before.status.get_or_insert_default();
        status.node_info.get_or_insert_default().boot_id = "1".to_owned();
        let now = |boot: &str| vec![("a".to_owned(), Some(boot.to_owned()))];
        assert_eq!(ready(&[before.clone()], &now("2")), 0);
        assert_eq!(ready(&[before], &now("1")), 1);
    }

    #[test]
    fn pods_count_as_running_once_their_containers_are_of_the_last_boot() {
        let started = |at: &str| json!({ "running": { "startedAt": at } });
        let pod = |node: &str, phase: &str, state: serde_json::Value| -> Pod {
            serde_json::from_value(json!({
                "spec": { "nodeName": node, "containers": [] },
                "status": { "phase": phase, "containerStatuses": [{
                    "name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "state": state,
                }] },
            }))
            .unwrap()
        };
        let (before, after) = ("2026-11-28T12:00:00Z", "2026-11-28T12:10:03Z");
        let pods = [
            pod("a", "Running", started(before)),
            pod("a", "Running", started(after)),
            pod("a", "Pending", json!({ "waiting": {} })),
            pod("a", "Succeeded", started(before)),
            pod("stopped", "Running", started(before)),
        ];
        let instance = |name: &str, state: &str| InstanceStatus {
            node_name: name.to_owned(),
            booted_at: "2026-11-28T12:10:00.5Z".parse().ok(),
            ..instance("i", state, "ok")
        };
        let instances = [instance("a", "running"), instance("stopped", "stopped")];
        assert_eq!(pods_running(&pods, &instances), (1, 3));
    }

    fn instance(id: &str, state: &str, check: &str) -> InstanceStatus {
        InstanceStatus {
            id: id.to_owned(),
            state: state.to_owned(),
            is_spot: false,
            status_check: check.to_owned(),
            boot_id: None,
            booted_at: None,
            instance_type: String::new(),
            zone: String::new(),
            private_ip: String::new(),
            node_name: id.to_owned(),
            netns: String::new(),
            pid: None,
            folder: std::path::PathBuf::new(),
            usd_per_hour: None,
        }
    }

    #[test]
    fn what_is_waited_for_is_named() {
        let instances = [
            instance("a", "running", "ok"),
            instance("b", "running", "ok"),
            instance("c", "running", "initializing"),
            instance("d", "stopped", "not-applicable"),
            instance("e", "terminated", "not-applicable"),
        ];
        let nodes = [node("a", "default", "True"), node("b", "default", "Unknown")];
        let expected = ["node b is not Ready", "c boots", "d is stopped"];
        assert_eq!(waits_for(&nodes, &instances), expected);
    }

    #[test]
    fn launches_that_keep_failing_are_given_up() {
        let mut failing = group(sizes(0, 1000, 1000));
        assert_eq!(launch_failure(&failing, Duration::from_secs(60)), None);
        let code = Some("AsgInstanceLaunchFailures".to_owned());
        let message = Some("no room".to_owned());
        failing.health.issues.push(Issue { code, message, resource_ids: Vec::new() });
        assert_eq!(launch_failure(&failing, Duration::from_secs(3)), None);
        assert_eq!(launch_failure(&failing, Duration::from_secs(15)), Some("no room"));
    }

    fn running() -> Vec<Running> {
        ["a", "b", "c"].map(|it| (it.to_owned(), None)).to_vec()
    }

    fn node(name: &str, group: &str, ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {NODEGROUP_LABEL: group}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }
}
