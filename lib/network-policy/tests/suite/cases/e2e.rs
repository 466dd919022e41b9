//! `e2e`: what Kubernetes' own NetworkPolicy tests arrange, by what they are about.

use serde_json::{Value, json};

use super::super::model::{
    Action::{self, DeletePolicy, Namespace, Pod},
    Case,
};
use super::{case, ns, one_of, pod, single};

fn ingress(subject: Value, rules: Value) -> Value {
    json!({"podSelector": subject, "policyTypes": ["Ingress"], "ingress": rules})
}

fn egress(subject: Value, rules: Value) -> Value {
    json!({"podSelector": subject, "policyTypes": ["Egress"], "egress": rules})
}

fn made(name: &'static str, spec: Value) -> Action {
    Action::Policy { ns: "x", name, spec }
}

pub(super) fn all() -> Vec<Case> {
    let mut all: Vec<Case> = denies();
    all.extend(peers());
    all.extend(ports());
    all.extend(changes());
    all.extend(two_policies());
    all
}

fn one(name: &str, spec: Value) -> Case {
    single("e2e", name, &[("x", spec)])
}

fn denies() -> Vec<Case> {
    let both = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    let mut dns = both.clone();
    dns["egress"] = json!([{"ports": [{"protocol": "UDP", "port": 53}]}]);
    vec![
        one("default deny of ingress", ingress(json!({}), json!([]))),
        one("default deny of egress", egress(json!({}), json!([]))),
        one("default deny of all", both),
        one("default deny of all but DNS", dns),
        one("allow all", ingress(json!({}), json!([{}]))),
        one("deny of one pod", ingress(pod("a"), json!([]))),
    ]
}

fn peers() -> Vec<Case> {
    let from = |peers: Value| ingress(pod("a"), json!([{"from": peers}]));
    let to = |peers: Value| egress(pod("a"), json!([{"to": peers}]));
    let not_x = json!({"matchExpressions": [{"key": "ns", "operator": "NotIn", "values": ["x"]}]});
    vec![
        one(
            "the default namespace's peers by expression",
            from(json!([{"namespaceSelector": one_of("ns", &["y"])}])),
        ),
        one(
            "two peers: a namespace or a pod here",
            from(json!([{"namespaceSelector": ns("y")}, {"podSelector": pod("b")}])),
        ),
        one(
            "one peer: a pod of a namespace",
            from(json!([{"namespaceSelector": ns("y"), "podSelector": pod("b")}])),
        ),
        one(
            "several selectors of each",
            from(json!([{"namespaceSelector": not_x, "podSelector": one_of("pod", &["b", "c"])}])),
        ),
        one(
            "egress to a server of another namespace",
            to(json!([{"namespaceSelector": ns("y"), "podSelector": pod("a")}])),
        ),
        one("egress to a block", to(json!([{"ipBlock": {"cidr": "10.0.1.16/30"}}]))),
        one(
            "egress to a block but one",
            to(json!([{"ipBlock": {"cidr": "10.0.1.0/24", "except": ["10.0.1.17/32"]}}])),
        ),
        single(
            "e2e",
            "an address that one policy's block leaves out and another's has",
            &[
                (
                    "x",
                    to(json!([{"ipBlock": {"cidr": "10.0.1.0/24", "except": ["10.0.1.17/32"]}}])),
                ),
                ("x", to(json!([{"ipBlock": {"cidr": "10.0.1.17/32"}}]))),
            ],
        ),
        one(
            "an address that one peer's block leaves out and another's has",
            to(json!([
                {"ipBlock": {"cidr": "10.0.0.0/16", "except": ["10.0.1.0/24"]}},
                {"ipBlock": {"cidr": "10.0.1.16/31"}}])),
        ),
    ]
}

fn ports() -> Vec<Case> {
    let at = |ports: Value| ingress(json!({}), json!([{"ports": ports}]));
    let from_y = |ports: Value| {
        ingress(pod("a"), json!([{"from": [{"namespaceSelector": ns("y")}], "ports": ports}]))
    };
    vec![
        one("a peer at a port", from_y(json!([{"port": 81}]))),
        one("a named port", at(json!([{"port": "serve-80-tcp"}]))),
        one(
            "egress at a named port",
            egress(pod("a"), json!([{"ports": [{"port": "serve-80-tcp"}]}])),
        ),
        one("a named port that nobody has", at(json!([{"port": "serve-79-tcp"}]))),
        one("any port of a protocol", at(json!([{"protocol": "UDP"}]))),
        one("SCTP only is not TCP", at(json!([{"protocol": "SCTP", "port": 80}]))),
        one("UDP only is not TCP", at(json!([{"protocol": "UDP", "port": 80}]))),
        one("several rules", {
            let rule = |name: &str, port: u16| json!({"from": [{"podSelector": pod(name)}], "ports": [{"port": port}]});
            ingress(pod("a"), json!([rule("b", 80), rule("c", 81), rule("b", 81)]))
        }),
        one("ingress and egress together", {
            json!({"podSelector": pod("a"), "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [{"podSelector": pod("b")}]}],
                "egress": [{"ports": [{"port": 80}, {"protocol": "UDP", "port": 53}]}]})
        }),
    ]
}

fn two_policies() -> Vec<Case> {
    let y_at = |port: u16| {
        let rule = json!({"from": [{"namespaceSelector": ns("y")}], "ports": [{"port": port}]});
        ingress(pod("a"), json!([rule]))
    };
    let from_xa = |name: &str| {
        let peer = json!({"namespaceSelector": ns("x"), "podSelector": pod("a")});
        ingress(pod(name), json!([{"from": [peer]}]))
    };
    let to_ya = json!([{"namespaceSelector": ns("y"), "podSelector": pod("a")}]);
    vec![
        case(
            "e2e",
            "policies are stacked",
            vec![vec![made("81", y_at(81))], vec![], vec![made("80", y_at(80))]],
        ),
        single(
            "e2e",
            "the client's side denies what the server's allows",
            &[
                ("x", egress(pod("a"), json!([{"to": to_ya}]))),
                ("y", from_xa("a")),
                ("y", from_xa("b")),
            ],
        ),
        single(
            "e2e",
            "directions are independent of each other",
            &[
                ("x", egress(pod("a"), json!([{"to": [{"podSelector": pod("b")}]}]))),
                ("x", ingress(pod("a"), json!([{"from": [{"podSelector": pod("b")}]}]))),
            ],
        ),
        single(
            "e2e",
            "a deny of a namespace with allows for some",
            &[
                ("x", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})),
                ("x", ingress(pod("a"), json!([{"from": [{"podSelector": pod("b")}]}]))),
                ("x", egress(pod("b"), json!([{"to": [{"podSelector": pod("a")}]}]))),
                ("y", json!({"podSelector": {}})),
            ],
        ),
    ]
}

fn changes() -> Vec<Case> {
    let updated = json!({"matchLabels": {"pod": "b", "pod2": "updated"}});
    let new_namespace = json!({"matchLabels": {"ns2": "updated"}});
    let deny = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    vec![
        case(
            "e2e",
            "allow all becomes deny all",
            vec![
                vec![made("p", ingress(json!({}), json!([{}])))],
                vec![made("p", ingress(json!({}), json!([])))],
            ],
        ),
        case(
            "e2e",
            "ingress from a namespace that is relabelled",
            vec![
                vec![made(
                    "p",
                    ingress(pod("a"), json!([{"from": [{"namespaceSelector": new_namespace}]}])),
                )],
                vec![Namespace("y", json!({"ns": "y", "ns2": "updated"}))],
            ],
        ),
        case(
            "e2e",
            "ingress from a pod that is relabelled",
            vec![
                vec![made("p", ingress(pod("a"), json!([{"from": [{"podSelector": updated}]}])))],
                vec![Pod("x", "b", json!({"pod": "b", "pod2": "updated"}))],
            ],
        ),
        case(
            "e2e",
            "ingress to a pod that is relabelled",
            vec![
                vec![made("p", ingress(json!({"matchLabels": {"target": "isolated"}}), json!([])))],
                vec![Pod("x", "a", json!({"target": "isolated"}))],
            ],
        ),
        case(
            "e2e",
            "policies end with their deletion",
            vec![vec![made("deny", deny)], vec![DeletePolicy("x", "deny")]],
        ),
        case(
            "e2e",
            "a named port, and pods that come and go",
            vec![
                vec![made("p", ingress(json!({}), json!([{"ports": [{"port": "serve-81-tcp"}]}])))],
                vec![Namespace("w", json!({"ns": "w"})), Pod("w", "a", json!({"pod": "a"}))],
                vec![Action::DeletePod("w", "a")],
                vec![Action::DeleteNamespace("w")],
            ],
        ),
    ]
}
