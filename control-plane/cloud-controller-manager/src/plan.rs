//! What a Node needs: a function of the Node and of its instance.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeAddress, Taint};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::instance::{Facts, Found};

/// Set by kubelets that run with `--cloud-provider=external`.
pub(crate) const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
pub(crate) const SHUTDOWN: &str = "node.cloudprovider.kubernetes.io/shutdown";
const ZONE_ID: &str = "topology.k8s.aws/zone-id";

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Plan {
    Keep,
    Delete {
        message: String,
    },
    /// Merge patches: of the status, then of the rest.
    Update {
        status: Option<Value>,
        object: Option<Value>,
    },
}

pub(crate) fn plan(node: &Node, found: &Found, region: &str) -> Plan {
    let facts = match found {
        Found::Gone if is_ready(node) => return Plan::Keep,
        Found::Gone => {
            let name = node.name_any();
            let message =
                format!("Deleting node {name} because it does not exist in the cloud provider");
            return Plan::Delete { message };
        }
        Found::There(facts) => facts,
    };
    let addresses = addresses(node, facts);
    let known = node.status.as_ref().and_then(|it| it.addresses.clone()).unwrap_or_default();
    let status = (addresses != known).then(|| json!({ "status": { "addresses": addresses } }));
    match (status, object(node, facts, region)) {
        (None, None) => Plan::Keep,
        (status, object) => Plan::Update { status, object },
    }
}

/// Whether the Node belongs to another provider (a hybrid node, for example).
pub(crate) fn is_foreign(node: &Node) -> bool {
    let provider_id = node.spec.as_ref().and_then(|it| it.provider_id.as_deref());
    provider_id.is_some_and(|it| !it.is_empty() && !it.starts_with("aws://"))
}

/// Where a kubelet says by which address it wants to be known.
const PROVIDED_IP: &str = "alpha.kubernetes.io/provided-node-ip";

/// Whether the Node waits to be told what it is.
pub(crate) fn is_new(node: &Node) -> bool {
    taints(node).iter().any(|it| it.key == UNINITIALIZED)
}

pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|it| it.conditions.as_deref());
    let ready = conditions.unwrap_or_default().iter().find(|it| it.type_ == "Ready");
    ready.is_some_and(|it| it.status == "True")
}

fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|it| it.taints.as_deref()).unwrap_or_default()
}

/// In upstream's order: what comes first of its kind is used first.
fn addresses(node: &Node, facts: &Facts) -> Vec<NodeAddress> {
    let hostname = facts.private_name.clone().unwrap_or_else(|| node.name_any());
    [
        ("InternalIP", internal_address(node, facts)),
        ("ExternalIP", facts.public_address.clone()),
        ("InternalDNS", facts.private_name.clone()),
        ("Hostname", Some(hostname)),
        ("ExternalDNS", facts.public_name.clone()),
    ]
    .into_iter()
    .filter_map(|(type_, address)| Some(NodeAddress { type_: type_.to_owned(), address: address? }))
    .collect()
}

/// The one that the kubelet has chosen, where it is the instance's own: that of an IPv6 cluster is
/// known by IPv6 alone.
fn internal_address(node: &Node, facts: &Facts) -> Option<String> {
    let annotations = node.metadata.annotations.as_ref();
    let chosen = annotations.and_then(|it| it.get(PROVIDED_IP));
    let ipv6 = facts.ipv6_address.clone().filter(|it| Some(it) == chosen);
    ipv6.or_else(|| facts.private_address.clone())
}

/// Labels, provider ID and taints, if any of them is to change.
fn object(node: &Node, facts: &Facts, region: &str) -> Option<Value> {
    let wanted = wanted_taints(node, facts);
    let mut patch = json!({});
    if is_new(node) {
        let labels = missing_labels(node, facts, region);
        if !labels.is_empty() {
            patch["metadata"]["labels"] = json!(labels);
        }
        let provider_id = node.spec.as_ref().and_then(|it| it.provider_id.as_deref());
        if provider_id.unwrap_or_default().is_empty() {
            patch["spec"]["providerID"] = json!(facts.provider_id());
        }
    }
    if wanted != taints(node) {
        patch["spec"]["taints"] = json!(wanted);
        // Taints are a list: replacing it must not undo what another controller just wrote.
        patch["metadata"]["resourceVersion"] = json!(node.metadata.resource_version);
    }
    (patch != json!({})).then_some(patch)
}

fn wanted_taints(node: &Node, facts: &Facts) -> Vec<Taint> {
    let others = taints(node).iter().filter(|it| it.key != UNINITIALIZED && it.key != SHUTDOWN);
    let mut wanted: Vec<Taint> = others.cloned().collect();
    // A Ready node runs, whatever EC2 says it will be.
    if facts.is_stopped && !is_ready(node) {
        let known = taints(node).iter().find(|it| it.key == SHUTDOWN).cloned();
        wanted.push(known.unwrap_or_else(|| Taint {
            key: SHUTDOWN.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        }));
    }
    wanted
}

/// Labels that follow from the instance, under today's and yesterday's names.
fn missing_labels(node: &Node, facts: &Facts, region: &str) -> BTreeMap<&'static str, String> {
    let labels = [
        ("topology.kubernetes.io/region", region),
        ("topology.kubernetes.io/zone", &facts.zone),
        ("node.kubernetes.io/instance-type", &facts.instance_type),
        ("failure-domain.beta.kubernetes.io/region", region),
        ("failure-domain.beta.kubernetes.io/zone", &facts.zone),
        ("beta.kubernetes.io/instance-type", &facts.instance_type),
    ];
    let is_missing =
        |(name, value): &(&str, &str)| node.labels().get(*name).map(String::as_str) != Some(*value);
    let zone_id = facts.zone_id.iter().map(|it| (ZONE_ID, it.as_str()));
    // Who has set another zone id has meant it.
    let zone_id = zone_id.filter(|(name, _)| !node.labels().contains_key(*name));
    let wanted = labels.into_iter().filter(is_missing).chain(zone_id);
    wanted.map(|(name, value)| (name, value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeCondition, NodeSpec, NodeStatus};

    use super::*;
    use crate::instance::id_of;

    fn facts() -> Facts {
        Facts {
            id: "i-0123456789abcdef0".into(),
            zone: "us-east-1a".into(),
            zone_id: Some("use1-az1".into()),
            instance_type: "m5.large".into(),
            is_stopped: false,
            private_address: Some("192.168.0.12".into()),
            ipv6_address: None,
            private_name: Some("ip-192-168-0-12.ec2.internal".into()),
            public_address: None,
            public_name: None,
        }
    }

    fn node(ready: &str, taints: &[&str]) -> Node {
        let taint = |key: &&str| Taint {
            key: (*key).to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        let condition = NodeCondition {
            type_: "Ready".to_owned(),
            status: ready.to_owned(),
            ..NodeCondition::default()
        };
        let mut node = Node {
            spec: Some(NodeSpec {
                taints: Some(taints.iter().map(taint).collect()),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus { conditions: Some(vec![condition]), ..NodeStatus::default() }),
            ..Node::default()
        };
        node.metadata.name = Some("ip-192-168-0-12.ec2.internal".to_owned());
        node.metadata.resource_version = Some("7".to_owned());
        node
    }

    fn update(plan: Plan) -> (Option<Value>, Option<Value>) {
        match plan {
            Plan::Update { status, object } => (status, object),
            other => panic!("not an update: {other:?}"),
        }
    }

    #[test]
    fn a_node_is_known_by_the_address_that_its_kubelet_has_and_ec2_confirms() {
        let facts = || Facts { ipv6_address: Some("2001:db8::7".into()), ..facts() };
        let internal = |provided: Option<&str>| {
            let mut node = node("True", &[]);
            let provided = provided.map(|it| (PROVIDED_IP.to_owned(), it.to_owned()));
            node.metadata.annotations = Some(provided.into_iter().collect());
            addresses(&node, &facts())[0].address.clone()
        };
        assert_eq!(internal(Some("2001:db8::7")), "2001:db8::7");
        assert_eq!(internal(Some("2001:db8::8")), "192.168.0.12", "not the instance's");
        assert_eq!(internal(None), "192.168.0.12");
    }

    #[test]
    fn a_new_node_learns_what_it_is_and_keeps_its_other_taints() {
        let node = node("False", &[UNINITIALIZED, "node.kubernetes.io/not-ready"]);
        let (status, object) = update(plan(&node, &Found::There(Box::new(facts())), "us-east-1"));
        let addresses = &status.unwrap()["status"]["addresses"];
        assert_eq!(addresses[0], json!({ "type": "InternalIP", "address": "192.168.0.12" }));
        assert_eq!(addresses.as_array().unwrap().len(), 3);
        let object = object.unwrap();
        assert_eq!(object["spec"]["providerID"], "aws:///us-east-1a/i-0123456789abcdef0");
        assert_eq!(object["metadata"]["labels"]["topology.kubernetes.io/zone"], "us-east-1a");
        assert_eq!(object["metadata"]["labels"]["topology.k8s.aws/zone-id"], "use1-az1");
        assert_eq!(object["metadata"]["resourceVersion"], "7");
        let taints = object["spec"]["taints"].as_array().unwrap();
        assert_eq!(taints.len(), 1);
        assert_eq!(taints[0]["key"], "node.kubernetes.io/not-ready");
    }

    #[test]
    fn an_initialized_node_is_left_alone() {
        let mut node = node("True", &[]);
        let addresses = addresses(&node, &facts());
        node.status.as_mut().unwrap().addresses = Some(addresses);
        assert_eq!(plan(&node, &Found::There(Box::new(facts())), "us-east-1"), Plan::Keep);
    }

    #[test]
    fn only_a_node_that_is_not_ready_is_deleted_with_its_instance() {
        assert_eq!(plan(&node("True", &[]), &Found::Gone, "us-east-1"), Plan::Keep);
        for ready in ["False", "Unknown"] {
            let plan = plan(&node(ready, &[]), &Found::Gone, "us-east-1");
            assert!(matches!(plan, Plan::Delete { .. }), "Ready={ready}");
        }
    }

    #[test]
    fn a_stopped_instance_taints_its_node_until_it_runs_again() {
        let stopped = Facts { is_stopped: true, ..facts() };
        let (_, object) =
            update(plan(&node("Unknown", &[]), &Found::There(Box::new(stopped)), "us-east-1"));
        assert_eq!(object.unwrap()["spec"]["taints"][0]["key"], SHUTDOWN);
        let back = plan(&node("True", &[SHUTDOWN]), &Found::There(Box::new(facts())), "us-east-1");
        let (_, object) = update(back);
        assert_eq!(object.unwrap()["spec"]["taints"], json!([]));
    }

    #[test]
    fn nodes_of_other_providers_are_foreign() {
        let mut hybrid = node("True", &[]);
        assert!(!is_foreign(&hybrid));
        hybrid.spec.as_mut().unwrap().provider_id = Some("eks-hybrid:///us-east-1/x/mi-1".into());
        assert!(is_foreign(&hybrid));
    }

    #[test]
    fn provider_ids_end_in_the_instance() {
        assert_eq!(id_of("aws:///us-east-1a/i-0abc"), Some("i-0abc"));
        assert_eq!(id_of("eks-hybrid:///us-east-1/stead/mi-1"), None);
    }
}
