//! Which nodes are behind load balancers: pure.
//!
//! A node that is not Ready stays: the load balancer's own health checks see that, and sooner.

use std::sync::Arc;

use controller::Change;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Cluster Autoscaler's.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

pub(super) fn eligible(nodes: &[Arc<Node>]) -> Vec<Node> {
    let is_eligible = |it: &&Arc<Node>| {
        it.metadata.deletion_timestamp.is_none() && is_included(it) && !is_going(it)
    };
    let mut eligible: Vec<Node> =
        nodes.iter().filter(is_eligible).map(|it| Node::clone(it)).collect();
    eligible.sort_by_key(ResourceExt::name_any);
    eligible
}

fn is_included(node: &Node) -> bool {
    !node.labels().contains_key(EXCLUDED)
}

fn is_going(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|it| it.taints.as_deref()).unwrap_or_default();
    taints.iter().any(|it| it.key == TO_BE_DELETED)
}

/// Whether load balancers are to hear of it.
///
/// Deviation: the taint of Cluster Autoscaler is heard of at once, not with the next change of nodes.
pub(super) fn is_due(change: &Change<Node>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let provider = |it: &Node| it.spec.as_ref().and_then(|it| it.provider_id.clone());
    let is_deleted = |it: &Node| it.metadata.deletion_timestamp.is_some();
    is_included(old) != is_included(new)
        || is_going(old) != is_going(new)
        || is_deleted(old) != is_deleted(new)
        || provider(old) != provider(new)
}

#[cfg(test)]
mod tests {
    use controller::Key;
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, labels: Value, taints: Value) -> Arc<Node> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": { "name": name, "labels": labels },
                "spec": { "taints": taints, "providerID": "aws:///a/i-1" },
                "status": { "conditions": [{ "type": "Ready", "status": "False" }] },
            }))
            .unwrap(),
        )
    }

    #[test]
    fn excluded_and_leaving_nodes_get_no_connections_and_a_node_that_is_not_ready_stays() {
        let taint = json!([{ "key": TO_BE_DELETED, "effect": "NoSchedule" }]);
        let nodes = [
            node("b", json!({}), json!([])),
            node("a", json!({}), json!([{ "key": "other", "effect": "NoSchedule" }])),
            node("excluded", json!({ EXCLUDED: "" }), json!([])),
            node("leaving", json!({}), taint),
        ];
        let names: Vec<_> = eligible(&nodes).iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_heartbeat_is_no_news_and_a_label_is() {
        let change = |old: Arc<Node>, new: Arc<Node>| {
            is_due(&Change { key: Key::cluster("a"), old: Some(old), new: Some(new) })
        };
        let plain = || node("a", json!({}), json!([]));
        assert!(!change(plain(), node("a", json!({ "x": "y" }), json!([]))));
        assert!(change(plain(), node("a", json!({ EXCLUDED: "true" }), json!([]))));
        assert!(is_due(&Change { key: Key::cluster("a"), old: None, new: Some(plain()) }));
    }
}
