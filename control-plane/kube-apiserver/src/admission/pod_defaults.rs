//! DefaultTolerationSeconds, TaintNodesByCondition and PodTopologyLabels.

use serde_json::{Value, json};

use crate::authz::{Objects, items, text};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// What of its node's labels a pod is told.
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// How long a pod stays on a node that is not ready (upstream's default).
const SECONDS: i64 = 300;

/// A pod outlives its node's absence for five minutes, unless it says otherwise.
pub(super) fn add_tolerations(pod: &mut Value) {
    for key in [NOT_READY, UNREACHABLE] {
        let tolerates = |toleration: &Value| {
            let matches_key = matches!(text(toleration, "/key"), it if it == key || it.is_empty());
            matches_key && matches!(text(toleration, "/effect"), "NoExecute" | "")
        };
        if items(pod, "/spec/tolerations").iter().any(tolerates) {
            continue;
        }
        let toleration = json!({
            "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
        });
        push(pod, "tolerations", toleration);
    }
}

/// A new node takes no pods before it is known to be ready.
pub(super) fn taint_new_node(node: &mut Value) {
    let is_not_ready =
        |taint: &Value| text(taint, "/key") == NOT_READY && text(taint, "/effect") == "NoSchedule";
    if !items(node, "/spec/taints").iter().any(is_not_ready) {
        push(node, "taints", json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}

/// A pod with a node has the node's place in its labels, for its containers to read.
pub(crate) fn label_with_topology(objects: &dyn Objects, node: &str, pod: &mut Value) {
    let Some(node) = objects.get("nodes", "", node) else { return };
    for label in TOPOLOGY {
        let Some(place) = node["metadata"]["labels"][label].as_str() else { continue };
        pod["metadata"]["labels"][label] = place.into();
    }
}

/// Appends to a list of the spec, which is made if it is not there.
pub(super) fn push(object: &mut Value, list: &str, item: Value) {
    if !object["spec"].is_object() {
        object["spec"] = json!({});
    }
    let list = &mut object["spec"][list];
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}
