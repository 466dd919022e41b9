//! `action`: what changes while policies are in force.

use serde_json::{Value, json};

use super::super::model::{
    Action::{self, DeleteNamespace, DeletePod, DeletePolicy, Namespace, Pod},
    Case,
};
use super::{base, base_with, case, one_of, pod};

fn policy(spec: Value) -> Action {
    Action::Policy { ns: "x", name: "base", spec }
}

pub(super) fn all() -> Vec<Case> {
    let by_new_namespace = json!([{"namespaceSelector": {"matchLabels": {"new-ns": "qrs"}}}]);
    let by_new_label = json!([{"namespaceSelector": one_of("ns", &["y", "z"]),
        "podSelector": {"matchLabels": {"new-label": "abc"}}}]);
    let udp = json!([{"protocol": "UDP", "port": "serve-81-udp"}]);
    let mut by_target = base();
    by_target["podSelector"] = json!({"matchLabels": {"target": "isolated"}});
    vec![
        case(
            "action",
            "a policy comes and goes",
            vec![vec![policy(base())], vec![DeletePolicy("x", "base")]],
        ),
        case(
            "action",
            "a policy changes, and changes back",
            vec![
                vec![policy(base())],
                vec![policy(base_with("ingress", "ports", &udp))],
                vec![policy(base_with("egress", "ports", &udp))],
                vec![policy(base())],
            ],
        ),
        case(
            "action",
            "a namespace comes and goes",
            vec![
                vec![policy(base())],
                vec![
                    Namespace("y-2", json!({"ns": "y"})),
                    Pod("y-2", "a", json!({"pod": "a"})),
                    Pod("y-2", "b", json!({"pod": "b"})),
                ],
                vec![DeleteNamespace("y-2")],
            ],
        ),
        case(
            "action",
            "a namespace becomes a peer, and none again",
            vec![
                vec![policy(base_with("ingress", "from", &by_new_namespace))],
                vec![Namespace("y", json!({"ns": "y", "new-ns": "qrs"}))],
                vec![Namespace("y", json!({"ns": "y"}))],
            ],
        ),
        case(
            "action",
            "a pod comes and goes",
            vec![
                vec![policy(base_with("ingress", "from", &json!([{"podSelector": pod("d")}])))],
                vec![Pod("x", "d", json!({"pod": "d"}))],
                vec![DeletePod("x", "d")],
            ],
        ),
        case(
            "action",
            "a pod becomes a peer, and none again",
            vec![
                vec![policy(base_with("ingress", "from", &by_new_label))],
                vec![Pod("y", "b", json!({"pod": "b", "new-label": "abc"}))],
                vec![Pod("y", "b", json!({"pod": "b"}))],
            ],
        ),
        case(
            "action",
            "a pod becomes one that the policy selects, and none again",
            vec![
                vec![policy(by_target)],
                vec![Pod("x", "b", json!({"pod": "b", "target": "isolated"}))],
                vec![Pod("x", "b", json!({"pod": "b"}))],
            ],
        ),
        case(
            "action",
            "a pod that was selected is made again with other labels",
            vec![
                vec![policy(base())],
                vec![DeletePod("x", "a")],
                vec![Pod("x", "a", json!({"pod": "other"}))],
                vec![Pod("x", "a", json!({"pod": "a"}))],
            ],
        ),
        case(
            "action",
            "a namespace goes with its policies, and comes without them",
            vec![
                vec![Action::Policy { ns: "y", name: "deny", spec: json!({"podSelector": {}}) }],
                vec![DeleteNamespace("y")],
                vec![Namespace("y", json!({"ns": "y"})), Pod("y", "a", json!({"pod": "a"}))],
            ],
        ),
    ]
}
