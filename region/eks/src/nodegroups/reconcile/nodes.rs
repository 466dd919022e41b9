//! The nodes of a group: which are Ready, and the labels and taints that the group wants on them.

use std::collections::{BTreeMap, BTreeSet};

use aws_eks::NodeRepairConfig;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::watcher::Event,
};
use serde_json::{Map, Value, json};

use super::{
    super::{
        drain::is_ready,
        records::{Nodegroup, State},
        user_data::effect,
    },
    plan::{NodeFacts, Observed},
    repair::{self, Unhealthy},
};

const GROUP_LABEL: &str = "eks.amazonaws.com/nodegroup";
/// Takes a node out of load balancers.
pub(crate) const RETIRED_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A node of the group.
#[derive(Clone, Debug)]
pub(crate) struct GroupNode {
    pub(crate) instance: String,
    pub(crate) is_ready: bool,
    node: Node,
}

impl GroupNode {
    pub(crate) fn name(&self) -> String {
        self.node.name_any()
    }

    pub(crate) fn facts(&self) -> NodeFacts {
        let is_cordoned = self.node.spec.as_ref().and_then(|it| it.unschedulable).unwrap_or(false);
        let is_excluded = self.node.labels().contains_key(RETIRED_LABEL);
        NodeFacts { name: self.name(), is_retired: is_cordoned && is_excluded }
    }

    /// Conditions that EKS repairs nodes for and that are not `True`.
    pub(crate) fn unhealthy(&self, config: Option<&NodeRepairConfig>) -> Vec<Unhealthy> {
        let all = conditions(&self.node);
        let ill = all.filter(|it| it.status != "True" && repair::is_watched(&it.type_, config));
        let found = ill.map(|it| Unhealthy {
            condition: it.type_.clone(),
            reason: it.reason.clone().unwrap_or_default(),
            since: it.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |it| it.0),
        });
        found.collect()
    }

    fn is_labelled(&self, group: &str) -> bool {
        self.node.labels().get(GROUP_LABEL).is_some_and(|it| it == group)
    }
}

/// The nodes that carry the group's label, and those of its `instances`: what starts from an image
/// of the customer's may have come without.
pub(crate) async fn of_group(
    client: &Client,
    name: &str,
    instances: &BTreeSet<String>,
) -> Result<Vec<GroupNode>, kube::Error> {
    let list = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let nodes = list.items.into_iter().filter_map(group_node);
    Ok(nodes.filter(|it| it.is_labelled(name) || instances.contains(&it.instance)).collect())
}

fn group_node(node: Node) -> Option<GroupNode> {
    let provider_id = node.spec.as_ref()?.provider_id.as_deref()?;
    let instance = provider_id.rsplit('/').next()?.to_owned();
    Some(GroupNode { instance, is_ready: is_ready(&node), node })
}

fn conditions(node: &Node) -> impl Iterator<Item = &NodeCondition> {
    node.status.iter().flat_map(|it| it.conditions.iter().flatten())
}

/// By which two states of a node's health are told apart.
pub(crate) type Health = Vec<(String, String, Option<String>)>;

/// Whether an event changes what a pass would see: nodes that come, go or whose conditions change.
/// Heartbeats are no news.
pub(crate) fn is_news(event: Event<Node>, known: &mut BTreeMap<String, Health>) -> bool {
    match event {
        Event::Init | Event::InitDone => true,
        Event::Delete(node) => known.remove(&node.name_any()).is_some(),
        Event::Apply(node) | Event::InitApply(node) => {
            let health: Health = conditions(&node)
                .map(|it| (it.type_.clone(), it.status.clone(), it.reason.clone()))
                .collect();
            known.insert(node.name_any(), health.clone()) != Some(health)
        }
    }
}

/// Puts changed labels and taints on the group's nodes. New nodes bring theirs along, unless they
/// start from an image of the customer's: those are given all that EKS's user data would have said.
///
/// Taints that a user removed by hand stay removed: only an update under way writes them.
pub(crate) async fn label_and_taint(
    client: &Client,
    group: &Nodegroup,
    nodes: &[GroupNode],
    observed: &Observed,
) -> Result<(), kube::Error> {
    let api = Api::<Node>::all(client.clone());
    let rollout = group.rollout.as_deref();
    let target = rollout.map(|it| it.target.applied_to(group));
    let of_target = rollout.and_then(|it| it.template_version).map(|it| it.to_string());
    for node in nodes {
        let is_new = !node.is_labelled(&group.name);
        let is_changing = group.state == State::Updating && rollout.is_none();
        if !is_changing && !is_new {
            continue;
        }
        let mut wanted = labels(group);
        if is_new {
            let version = observed.origins.get(&node.instance).map(|it| &it.version);
            let is_of_target = version.is_some() && version == of_target.as_ref();
            let group = target.as_ref().filter(|_| is_of_target).unwrap_or(group);
            let own = group.node_labels(&group.image_id).into_iter();
            wanted.extend(own.map(|(key, value)| (key, value.into())));
        }
        let patch = json!({
            "metadata": {"labels": wanted},
            "spec": {"taints": taints(group, &node.node)},
        });
        api.patch(&node.node.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    Ok(())
}

fn labels(group: &Nodegroup) -> Map<String, Value> {
    let removed = group.removed_labels.iter().map(|key| (key.clone(), Value::Null));
    let wanted = group.labels.iter().map(|(key, value)| (key.clone(), value.clone().into()));
    removed.chain(wanted).collect()
}

fn taints(group: &Nodegroup, node: &Node) -> Vec<Taint> {
    let present = node.spec.as_ref().and_then(|it| it.taints.clone()).unwrap_or_default();
    let is_touched = |taint: &Taint| {
        let touched = group.taints.iter().chain(&group.removed_taints);
        touched.into_iter().any(|it| {
            it.key.as_deref() == Some(taint.key.as_str())
                && effect(it.effect.as_deref().unwrap_or_default()) == taint.effect
        })
    };
    let mut wanted: Vec<Taint> = present.into_iter().filter(|it| !is_touched(it)).collect();
    wanted.extend(group.taints.iter().map(|it| Taint {
        key: it.key.clone().unwrap_or_default(),
        value: it.value.clone(),
        effect: effect(it.effect.as_deref().unwrap_or_default()).to_owned(),
        time_added: None,
    }));
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_not_true_and_can_be_repaired_makes_a_node_unhealthy() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "spec": {"providerID": "aws:///us-east-1a/i-1"},
            "status": {"conditions": [
                {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
                 "lastTransitionTime": "2026-11-29T08:00:00Z"},
                {"type": "KernelReady", "status": "True"},
                {"type": "DiskPressure", "status": "True", "reason": "KubeletHasDiskPressure"},
            ]},
        }))
        .unwrap();
        let found = group_node(node).unwrap().unhealthy(None);
        let wanted = Unhealthy {
            condition: "Ready".to_owned(),
            reason: "NodeStatusUnknown".to_owned(),
            since: "2026-11-29T08:00:00Z".parse().unwrap(),
        };
        assert_eq!(found, [wanted]);
    }

    #[test]
    fn heartbeats_are_no_news() {
        let mut known = BTreeMap::new();
        assert!(is_news(Event::Apply(node("a", "False")), &mut known));
        assert!(!is_news(Event::Apply(node("a", "False")), &mut known));
        assert!(is_news(Event::Apply(node("a", "True")), &mut known));
        assert!(is_news(Event::Delete(node("a", "True")), &mut known));
        assert!(!is_news(Event::Delete(node("a", "True")), &mut known));
    }
}
