//! Every combination of subjects, peers and ports, alone and in pairs, against the reference.

use network_policy::Protocol;
use serde_json::{Value, json};

use crate::{
    reference,
    world::{At, Cluster, PORTS, policy},
};

fn subjects() -> Vec<Value> {
    vec![
        json!({}),
        json!({"matchLabels": {"pod": "a"}}),
        json!({"matchExpressions": [{"key": "pod", "operator": "NotIn", "values": ["a"]}]}),
        json!({"matchExpressions": [{"key": "pod", "operator": "Exists"}]}),
    ]
}

fn peers() -> Vec<Value> {
    vec![
        Value::Null,
        json!([]),
        json!([{"podSelector": {}}]),
        json!([{"podSelector": {"matchLabels": {"pod": "b"}}}]),
        json!([{"namespaceSelector": {}}]),
        json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}}}]),
        json!([{"namespaceSelector": {"matchExpressions":
            [{"key": "ns", "operator": "In", "values": ["x", "z"]}]}, "podSelector":
            {"matchExpressions": [{"key": "pod", "operator": "NotIn", "values": ["c"]}]}}]),
        json!([{"namespaceSelector": {"matchExpressions":
            [{"key": "missing", "operator": "DoesNotExist"}]}}]),
        json!([{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.2.0/24", "10.0.1.12/32"]}}]),
        json!([{"ipBlock": {"cidr": "10.0.1.10/31"}}, {"podSelector": {"matchLabels": {"pod": "c"}}}]),
        json!([{"ipBlock": {"cidr": "fd00::/8"}}]),
    ]
}

fn ports() -> Vec<Value> {
    vec![
        Value::Null,
        json!([]),
        json!([{"port": 80}]),
        json!([{"protocol": "UDP", "port": 81}]),
        json!([{"protocol": "SCTP"}]),
        json!([{"port": 80, "endPort": 81}, {"protocol": "UDP"}]),
        json!([{"protocol": "UDP", "port": 1, "endPort": 80}]),
        json!([{"port": "web"}]),
        json!([{"port": "web"}, {"protocol": "UDP", "port": "dns"}]),
        json!([{"port": "only-a"}, {"protocol": "SCTP", "port": 80}]),
        json!([{"port": "nowhere"}]),
    ]
}

fn rule(peers_key: &str, peers: &Value, ports: &Value) -> Value {
    let mut rule = json!({});
    for (key, value) in [(peers_key, peers), ("ports", ports)] {
        if !value.is_null() {
            rule[key] = value.clone();
        }
    }
    rule
}

fn specs() -> Vec<Value> {
    let mut specs = Vec::new();
    for (number, peer) in peers().iter().enumerate() {
        for (other, port) in ports().iter().enumerate() {
            let subject = &subjects()[(number + other) % subjects().len()];
            let ingress = json!([rule("from", peer, port)]);
            let egress = json!([rule("to", peer, port)]);
            specs.push(json!({"podSelector": subject, "ingress": ingress}));
            specs
                .push(json!({"podSelector": subject, "egress": egress, "policyTypes": ["Egress"]}));
            specs.push(json!({"podSelector": subject, "ingress": ingress, "egress": egress}));
        }
    }
    specs
}

fn compare(cluster: &Cluster, chosen: &[(&str, Value)], chunk: usize) -> usize {
    let policies: Vec<_> = chosen.iter().map(|(ns, spec)| policy(ns, spec.clone())).collect();
    let enforced = cluster.resolve(&policies, chunk);
    let mut blocked = 0;
    for from in At::all() {
        for to in At::all() {
            for protocol in Protocol::ALL {
                for port in PORTS {
                    let wanted = reference::allows(chosen, from, to, protocol, port);
                    let got = enforced.allows(from, to, protocol, port);
                    assert_eq!(
                        got, wanted,
                        "{from:?} {to:?} {protocol:?} {port} under {chosen:#?}"
                    );
                    blocked += usize::from(!got);
                }
            }
        }
    }
    blocked
}

#[test]
fn each_policy_alone_means_what_the_reference_says() {
    let cluster = Cluster::new();
    let blocked: usize =
        specs().iter().map(|spec| compare(&cluster, &[("x", spec.clone())], 2)).sum();
    // A comparison of two things that allow everything would prove nothing.
    assert!(blocked > 10_000, "{blocked}");
}

#[test]
fn policies_in_pairs_mean_what_the_reference_says() {
    let cluster = Cluster::new();
    let specs = specs();
    // Steps that share no factor with the number of policies meet other partners each time.
    for step in [1, 7, 29] {
        for (number, spec) in specs.iter().enumerate() {
            let other = &specs[(number * 5 + step) % specs.len()];
            let ns = if number % 2 == 0 { "x" } else { "y" };
            compare(&cluster, &[("x", spec.clone()), (ns, other.clone())], 200);
        }
    }
}
