//! The taints that follow from a node's conditions.

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};

use super::health::{ready, status_of};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Condition, status, taint.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

/// Whether pods may be driven from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evicting {
    Now,
    /// What is there stays, nothing is added: others of the zone are first.
    Later,
    /// Nothing is healthy: the fault may be ours, so nobody is driven away.
    Never,
}

/// Whether a `NoExecute` taint is missing.
pub(super) fn needs_eviction(node: &Node) -> bool {
    let wanted = wanted_execute(node);
    wanted.is_some_and(|key| !taints(node).iter().any(|it| is(it, key, "NoExecute")))
}

/// The whole list of taints, or `None` when it is as it should be.
pub(super) fn plan(node: &Node, evicting: Evicting, now: Timestamp) -> Option<Vec<Taint>> {
    let before = taints(node);
    let mut after: Vec<_> = before
        .iter()
        .filter(|it| !is_ours(it, "NoSchedule") || is_wanted(node, it))
        .filter(|it| !is_ours(it, "NoExecute") || keeps_execute(node, it, evicting))
        .cloned()
        .collect();
    let mut add = |key: &str, effect: &str| {
        if !after.iter().any(|it| is(it, key, effect)) {
            after.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(object::time(now)),
                value: None,
            });
        }
    };
    for (condition, status, key) in BY_CONDITION {
        if status_of(node, condition) == Some(status) {
            add(key, "NoSchedule");
        }
    }
    if is_unschedulable(node) {
        add(UNSCHEDULABLE, "NoSchedule");
    }
    if evicting == Evicting::Now
        && let Some(key) = wanted_execute(node)
    {
        add(key, "NoExecute");
    }
    (after != before).then_some(after)
}

fn taints(node: &Node) -> Vec<Taint> {
    node.spec.as_ref().and_then(|it| it.taints.clone()).unwrap_or_default()
}

fn is(taint: &Taint, key: &str, effect: &str) -> bool {
    taint.key == key && taint.effect == effect
}

fn is_ours(taint: &Taint, effect: &str) -> bool {
    let by_condition = BY_CONDITION.iter().any(|(_, _, key)| *key == taint.key);
    let keys = match effect {
        "NoExecute" => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => by_condition || taint.key == UNSCHEDULABLE,
    };
    taint.effect == effect && keys
}

fn is_wanted(node: &Node, taint: &Taint) -> bool {
    let by_condition = BY_CONDITION
        .iter()
        .any(|(kind, status, key)| *key == taint.key && status_of(node, kind) == Some(status));
    by_condition || (taint.key == UNSCHEDULABLE && is_unschedulable(node))
}

fn keeps_execute(node: &Node, taint: &Taint, evicting: Evicting) -> bool {
    evicting != Evicting::Never && wanted_execute(node) == Some(taint.key.as_str())
}

fn wanted_execute(node: &Node) -> Option<&'static str> {
    match ready(node) {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    }
}

fn is_unschedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|it| it.unschedulable) == Some(true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(ready: &str, taints: Value, extra: Value) -> Node {
        let mut conditions = vec![json!({ "type": "Ready", "status": ready })];
        conditions.extend(extra.as_array().cloned().unwrap_or_default());
        serde_json::from_value(json!({ "spec": { "taints": taints },
            "status": { "conditions": conditions } }))
        .unwrap()
    }

    fn after(node: &Node, evicting: Evicting) -> Option<Vec<String>> {
        let taints = plan(node, evicting, Timestamp::UNIX_EPOCH)?;
        Some(taints.iter().map(|it| format!("{}:{}", it.key, it.effect)).collect())
    }

    fn list(items: &[&str]) -> Option<Vec<String>> {
        Some(items.iter().map(|it| (*it).to_owned()).collect())
    }

    #[test]
    fn taints_come_and_go_with_the_conditions() {
        let silent = node("Unknown", json!([]), json!([]));
        let both = [
            "node.kubernetes.io/unreachable:NoSchedule",
            "node.kubernetes.io/unreachable:NoExecute",
        ];
        assert_eq!(after(&silent, Evicting::Now), list(&both));
        assert_eq!(after(&silent, Evicting::Later), list(&both[..1]));
        let tainted = json!([
            { "key": UNREACHABLE, "effect": "NoSchedule" },
            { "key": UNREACHABLE, "effect": "NoExecute" },
            { "key": "mine", "effect": "NoSchedule" },
        ]);
        assert_eq!(
            after(&node("True", tainted.clone(), json!([])), Evicting::Now),
            list(&["mine:NoSchedule"])
        );
        let silent = node("Unknown", tainted.clone(), json!([]));
        assert_eq!(after(&silent, Evicting::Now), None);
        assert_eq!(after(&silent, Evicting::Later), None);
        let kept = ["node.kubernetes.io/unreachable:NoSchedule", "mine:NoSchedule"];
        assert_eq!(after(&silent, Evicting::Never), list(&kept));
    }

    #[test]
    fn pressure_and_cordons_only_keep_new_pods_away() {
        let pressed = json!([{ "type": "DiskPressure", "status": "True" }]);
        let mut node = node("True", json!([]), pressed);
        node.spec.as_mut().unwrap().unschedulable = Some(true);
        let expected = [
            "node.kubernetes.io/disk-pressure:NoSchedule",
            "node.kubernetes.io/unschedulable:NoSchedule",
        ];
        assert_eq!(after(&node, Evicting::Now), list(&expected));
        assert!(!needs_eviction(&node));
    }
}
