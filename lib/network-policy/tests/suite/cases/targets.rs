//! `target` and `rules`: whom a policy selects, and how many rules of which direction it has.

use serde_json::{Value, json};

use super::super::model::Case;
use super::{DIRECTIONS, base, one_of, pod, single};

pub(super) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    for ns in ["x", "y", "z"] {
        all.push(single("target", format!("namespace {ns}"), &[(ns, base())]));
    }
    let selectors = [
        ("all pods", json!({})),
        ("a label", pod("a")),
        ("an expression", one_of("pod", &["a", "b"])),
        (
            "not those",
            json!({"matchExpressions": [{"key": "pod", "operator": "NotIn", "values": ["a"]}]}),
        ),
        ("a key", json!({"matchExpressions": [{"key": "pod", "operator": "Exists"}]})),
        (
            "a key that nobody has",
            json!({"matchExpressions": [{"key": "no", "operator": "DoesNotExist"}]}),
        ),
        ("nobody", pod("nobody")),
    ];
    for (name, selector) in selectors {
        let mut spec = base();
        spec["podSelector"] = selector;
        all.push(single("target", name, &[("x", spec)]));
    }
    all.extend(rules());
    all
}

fn rules() -> Vec<Case> {
    let mut all = Vec::new();
    for (kind, rules, peers) in DIRECTIONS {
        let mut add = |name: &str, list: Value, types: Option<&[&str]>| {
            let mut spec = json!({"podSelector": pod("a"), rules: list});
            if let Some(types) = types {
                spec["policyTypes"] = json!(types);
            }
            all.push(single("rules", format!("{kind}: {name}"), &[("x", spec)]));
        };
        let two = json!([
            {peers: [{"podSelector": pod("b")}], "ports": [{"port": 80}]},
            {peers: [{"podSelector": pod("c")}], "ports": [{"protocol": "UDP", "port": 81}]},
        ]);
        let one_type: &[&str] = &[kind];
        let both: &[&str] = &["Ingress", "Egress"];
        for (types, how) in [(None, "types left out"), (Some(one_type), ""), (Some(both), "both")] {
            add(&format!("no rule {how}"), json!([]), types);
            add(&format!("an empty rule {how}"), json!([{}]), types);
            add(&format!("two rules {how}"), two.clone(), types);
        }
        add("an empty rule beside one", json!([{}, {peers: [{"podSelector": pod("b")}]}]), None);
    }
    let mut other = base();
    other["policyTypes"] = json!(["Egress"]);
    all.push(single("rules", "rules of a direction that is not named", &[("x", other)]));
    all
}
