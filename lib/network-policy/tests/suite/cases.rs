//! The table of cases. Families whose pairs are many come last.

use serde_json::{Value, json};

use super::model::{Action, Case, Step};

#[path = "cases/actions.rs"]
mod actions;
#[path = "cases/conflicts.rs"]
mod conflicts;
#[path = "cases/e2e.rs"]
mod e2e;
#[path = "cases/peers.rs"]
mod peers;
#[path = "cases/ports.rs"]
mod ports;
#[path = "cases/targets.rs"]
mod targets;

pub(crate) fn all() -> Vec<Case> {
    let mut all = targets::all();
    all.extend(actions::all());
    all.extend(conflicts::all());
    all.extend(e2e::all());
    all.extend(peers::all());
    all.extend(ports::all());
    all
}

/// A direction: the `policyType`, its list of rules, a rule's list of peers.
pub(crate) const DIRECTIONS: [(&str, &str, &str); 2] =
    [("Ingress", "ingress", "from"), ("Egress", "egress", "to")];

pub(crate) fn case(family: &'static str, name: impl Into<String>, steps: Vec<Step>) -> Case {
    Case { family, name: name.into(), steps }
}

/// A case of one step: these policies are there.
pub(crate) fn single(
    family: &'static str,
    name: impl Into<String>,
    policies: &[(&'static str, Value)],
) -> Case {
    const NAMES: [&str; 4] = ["first", "second", "third", "fourth"];
    let step = policies.iter().zip(NAMES);
    let step = step.map(|((ns, spec), name)| Action::Policy { ns, name, spec: spec.clone() });
    case(family, name, vec![step.collect()])
}

pub(crate) fn pod(name: &str) -> Value {
    json!({"matchLabels": {"pod": name}})
}

pub(crate) fn ns(name: &str) -> Value {
    json!({"matchLabels": {"ns": name}})
}

pub(crate) fn one_of(key: &str, values: &[&str]) -> Value {
    json!({"matchExpressions": [{"key": key, "operator": "In", "values": values}]})
}

/// What cases vary: x/a speaks and is spoken to by b and c of y and z, at one port.
pub(crate) fn base() -> Value {
    let peers = json!([{"namespaceSelector": one_of("ns", &["y", "z"]),
        "podSelector": one_of("pod", &["b", "c"])}]);
    let ports = json!([{"protocol": "TCP", "port": 80}]);
    json!({
        "podSelector": pod("a"), "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": peers, "ports": ports}],
        "egress": [{"to": peers, "ports": ports}],
    })
}

/// [`base`] with a field of the one rule of a direction replaced.
pub(crate) fn base_with(rules: &str, field: &str, value: &Value) -> Value {
    let mut spec = base();
    spec[rules][0][field] = value.clone();
    spec
}
