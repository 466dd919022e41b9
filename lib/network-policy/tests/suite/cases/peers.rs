//! `peers`: each kind of peer, alone and with each other, in each direction.

use serde_json::{Value, json};

use super::super::model::Case;
use super::{DIRECTIONS, base_with, ns, one_of, pod, single};

fn kinds() -> Vec<(&'static str, Value)> {
    let peer = |namespaces: Value, pods: Value| {
        let mut peer = json!({});
        for (key, value) in [("namespaceSelector", namespaces), ("podSelector", pods)] {
            if !value.is_null() {
                peer[key] = value;
            }
        }
        peer
    };
    // z is 10.0.2.0/24, its pods are from 10.0.2.16 on.
    vec![
        ("all pods here", peer(Value::Null, json!({}))),
        ("all pods of namespaces by label", peer(ns("x"), json!({}))),
        ("all pods everywhere", peer(json!({}), json!({}))),
        ("namespaces by label alone", peer(ns("y"), Value::Null)),
        (
            "namespaces by default label",
            peer(json!({"matchLabels": {"kubernetes.io/metadata.name": "z"}}), Value::Null),
        ),
        ("pods by label here", peer(Value::Null, pod("c"))),
        ("pods by label in namespaces by label", peer(ns("x"), pod("c"))),
        ("pods by label everywhere", peer(json!({}), pod("c"))),
        (
            "pods and namespaces by expression",
            peer(one_of("ns", &["y", "z"]), one_of("pod", &["a", "b"])),
        ),
        ("a block", json!({"ipBlock": {"cidr": "10.0.2.0/24"}})),
        (
            "a block without a part of it",
            json!({"ipBlock": {"cidr": "10.0.2.0/24", "except": ["10.0.2.18/31"]}}),
        ),
        ("one address", json!({"ipBlock": {"cidr": "10.0.1.17/32"}})),
        (
            "everything but some",
            json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.1.0/24", "10.0.2.16/32"]}}),
        ),
        ("nobody", peer(Value::Null, pod("nobody"))),
    ]
}

pub(super) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    for (kind, rules, field) in DIRECTIONS {
        let mut add = |name: String, peers: Value| {
            let spec = base_with(rules, field, &peers);
            all.push(single("peers", format!("{kind}: {name}"), &[("x", spec)]));
        };
        add("none".to_owned(), json!([]));
        let kinds = kinds();
        for (number, (name, peer)) in kinds.iter().enumerate() {
            add((*name).to_owned(), json!([peer]));
            for (other, second) in &kinds[..number] {
                add(format!("{name}, {other}"), json!([peer, second]));
            }
        }
    }
    all
}
