//! The pod of a DaemonSet on one node, and whether it belongs there.
//!
//! Upstream: `pkg/controller/daemon/util`.

use controller::object;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{
        Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod,
        PodSpec, Toleration,
    },
};
use scheduling::{find_untolerated, node_affinity_matches};

use crate::{pods, revisions::HASH_LABEL};

const GENERATION_LABEL: &str = "pod-template-generation";
const GENERATION: &str = "deprecated.daemonset.template.generation";

/// A daemon runs through trouble that drives other pods away.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const NETWORK_UNAVAILABLE: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// The pod to create for `node`.
pub(super) fn on_node(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let template = set.spec.as_ref().map(|it| it.template.clone()).unwrap_or_default();
    let namespace = set.metadata.namespace.clone().unwrap_or_default();
    let mut pod = pods::from_template(&template, &namespace, object::controller_reference(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    if let Some(generation) = object::annotation(set, GENERATION) {
        labels.insert(GENERATION_LABEL.to_owned(), generation.to_owned());
    }
    let spec = pod.spec.get_or_insert_default();
    tolerate(spec);
    pin(spec, node);
    pod
}

fn tolerate(spec: &mut PodSpec) {
    let on_host = spec.host_network == Some(true);
    let extra = on_host.then_some(NETWORK_UNAVAILABLE);
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.into_iter().chain(extra) {
        let wanted = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        };
        if !tolerations.contains(&wanted) {
            tolerations.push(wanted);
        }
    }
}

/// Replaces the required node affinity by the node's name.
fn pin(spec: &mut PodSpec, node: &str) {
    let term = NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".into(),
            operator: "In".into(),
            values: Some(vec![node.to_owned()]),
        }]),
        match_expressions: None,
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node that a daemon pod is on or will be bound to.
pub(super) fn node_of(pod: &Pod) -> Option<&str> {
    pods::node_of(pod).or_else(|| {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
        let field = required.node_selector_terms.first()?.match_fields.as_ref()?.first()?;
        (field.key == "metadata.name")
            .then(|| field.values.as_ref()?.first().map(String::as_str))?
    })
}

/// Whether a daemon should run on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Runs,
    /// Not a new one; but one that is there may stay.
    MayStay,
    No,
}

pub(super) fn fit(set: &DaemonSet, node: &Node) -> Fit {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let mut spec = set.spec.as_ref().and_then(|it| it.template.spec.clone()).unwrap_or_default();
    if spec.node_name.as_ref().is_some_and(|it| !it.is_empty() && it != name) {
        return Fit::No;
    }
    tolerate(&mut spec);
    let tolerations = spec.tolerations.clone().unwrap_or_default();
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let pod = Pod { spec: Some(spec), ..Pod::default() };
    if !node_affinity_matches(&pod, name, &labels) {
        return Fit::No;
    }
    let taints = node.spec.as_ref().and_then(|it| it.taints.clone()).unwrap_or_default();
    if find_untolerated(&taints, &tolerations, &["NoExecute"]).is_some() {
        return Fit::No;
    }
    match find_untolerated(&taints, &tolerations, &["NoSchedule"]) {
        Some(_) => Fit::MayStay,
        None => Fit::Runs,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(spec: serde_json::Value) -> DaemonSet {
        serde_json::from_value(json!({
            "metadata": { "name": "aws-node", "namespace": "kube-system", "uid": "u" },
            "spec": { "selector": {}, "template": { "metadata": { "labels": { "a": "b" } },
                "spec": spec } },
        }))
        .unwrap()
    }

    fn node(taints: serde_json::Value) -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": "n1", "labels": { "os": "linux" } },
            "spec": { "taints": taints },
        }))
        .unwrap()
    }

    #[test]
    fn a_daemon_is_pinned_to_its_node_and_survives_its_troubles() {
        let pod = on_node(&set(json!({ "containers": [], "hostNetwork": true })), "n1", "h");
        assert_eq!(node_of(&pod), Some("n1"));
        assert_eq!(pod.metadata.labels.as_ref().unwrap()[HASH_LABEL], "h");
        assert_eq!(pod.spec.unwrap().tolerations.unwrap().len(), 7);
    }

    #[test]
    fn taints_and_selectors_decide_where_a_daemon_belongs() {
        let plain = || set(json!({ "containers": [] }));
        let taint = |key: &str, effect: &str| json!([{ "key": key, "effect": effect }]);
        for (set, taints, expected) in [
            (plain(), json!([]), Fit::Runs),
            (plain(), taint("node.kubernetes.io/not-ready", "NoExecute"), Fit::Runs),
            (plain(), taint("node.kubernetes.io/unschedulable", "NoSchedule"), Fit::Runs),
            (plain(), taint("gpu", "NoSchedule"), Fit::MayStay),
            (plain(), taint("gpu", "NoExecute"), Fit::No),
            (
                set(json!({ "containers": [], "nodeSelector": { "os": "linux" } })),
                json!([]),
                Fit::Runs,
            ),
            (
                set(json!({ "containers": [], "nodeSelector": { "os": "windows" } })),
                json!([]),
                Fit::No,
            ),
        ] {
            assert_eq!(fit(&set, &node(taints.clone())), expected, "{taints}");
        }
    }
}
