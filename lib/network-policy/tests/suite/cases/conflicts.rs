//! `conflict`: a policy that allows beside one that does not. Policies add up within a direction;
//! between the two ends both have to allow.

use serde_json::{Value, json};

use super::super::model::Case;
use super::{DIRECTIONS, pod, single};

pub(super) fn all() -> Vec<Case> {
    let (source, target) = (("x", "b"), ("y", "c"));
    let mut all = Vec::new();
    let spec = |name: &str, kind: &str, rules: Value| {
        let field = if kind == "Ingress" { "ingress" } else { "egress" };
        json!({"podSelector": pod(name), "policyTypes": [kind], field: rules})
    };
    let open = json!([{}]);
    for (out, into) in [(json!([]), open.clone()), (open.clone(), json!([]))] {
        let name = format!("out {out}, in {into}");
        let (out, into) = (spec(source.1, "Egress", out), spec(target.1, "Ingress", into));
        all.push(single("conflict", name, &[(source.0, out), (target.0, into)]));
    }
    for (kind, _, peers) in DIRECTIONS {
        let all_pods = json!([{peers: [{"namespaceSelector": {}}]}]);
        let all_addresses = json!([{peers: [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]);
        let no_pods =
            json!([{peers: [{"namespaceSelector": {"matchLabels": {"never": "there"}}}]}]);
        let no_addresses = json!([{peers: [{"ipBlock": {"cidr": "0.0.0.0/31"}}]}]);
        let pairs = [
            ("nothing and everything", vec![json!([]), open.clone()]),
            ("nothing and all pods", vec![json!([]), all_pods.clone()]),
            ("nothing and all addresses", vec![json!([]), all_addresses.clone()]),
            ("no address and all pods", vec![no_addresses.clone(), all_pods]),
            ("no pod and all addresses", vec![no_pods.clone(), all_addresses]),
            ("no address", vec![no_addresses]),
            ("no pod", vec![no_pods]),
        ];
        for (name, rules) in pairs {
            let policies: Vec<(&'static str, Value)> =
                rules.into_iter().map(|it| (source.0, spec(source.1, kind, it))).collect();
            all.push(single("conflict", format!("{kind}: {name}"), &policies));
        }
    }
    all
}
