//! The well-known policies, with their truth tables written by hand.

use network_policy::Protocol::{self, Sctp, Tcp, Udp};
use serde_json::json;

use crate::world::{At, Cluster, PORTS, policy};

/// Compares all cells with `truth`; pods always reach themselves.
fn check(policies: &[(&str, serde_json::Value)], truth: impl Fn(At, At, Protocol, u16) -> bool) {
    let cluster = Cluster::new();
    let policies: Vec<_> = policies.iter().map(|(ns, spec)| policy(ns, spec.clone())).collect();
    for chunk in [1, 2, 200] {
        let enforced = cluster.resolve(&policies, chunk);
        for from in At::all() {
            for to in At::all() {
                for protocol in Protocol::ALL {
                    for port in PORTS {
                        let wanted = from == to || truth(from, to, protocol, port);
                        let got = enforced.allows(from, to, protocol, port);
                        assert_eq!(got, wanted, "{from:?} {to:?} {protocol:?} {port} ({chunk})");
                    }
                }
            }
        }
    }
}

#[test]
fn without_a_policy_everything_passes() {
    check(&[], |_, _, _, _| true);
}

#[test]
fn default_deny_of_ingress_closes_a_namespace_and_nothing_else() {
    check(&[("x", json!({"podSelector": {}, "policyTypes": ["Ingress"]}))], |_, to, _, _| {
        to.ns != "x"
    });
    // What the type is when it is not given.
    check(&[("x", json!({"podSelector": {}}))], |_, to, _, _| to.ns != "x");
}

#[test]
fn default_deny_of_egress_shuts_a_namespace_in() {
    check(&[("x", json!({"podSelector": {}, "policyTypes": ["Egress"]}))], |from, _, _, _| {
        from.ns != "x"
    });
}

#[test]
fn default_deny_of_both() {
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    check(&[("y", spec)], |from, to, _, _| from.ns != "y" && to.ns != "y");
}

#[test]
fn an_empty_rule_allows_all() {
    check(&[("x", json!({"podSelector": {}, "ingress": [{}]}))], |_, _, _, _| true);
    let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]});
    check(&[("x", spec)], |_, _, _, _| true);
}

#[test]
fn egress_rules_without_types_isolate_in_both_directions() {
    let spec = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "egress": [{}]});
    check(&[("x", spec)], |_, to, _, _| !(to.ns == "x" && to.pod == "a"));
}

#[test]
fn a_pod_selector_alone_is_of_the_policys_namespace() {
    let from = json!([{"podSelector": {"matchLabels": {"pod": "b"}}}]);
    let spec = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": from}]});
    check(&[("x", spec)], |from, to, _, _| {
        !(to.ns == "x" && to.pod == "a") || (from.ns == "x" && from.pod == "b")
    });
}

#[test]
fn a_namespace_selector_alone_is_all_its_pods() {
    let from = json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}}}]);
    let spec = json!({"podSelector": {}, "ingress": [{"from": from}]});
    check(&[("x", spec)], |from, to, _, _| to.ns != "x" || from.ns == "y");
}

#[test]
fn both_selectors_of_a_peer_have_to_match_and_of_two_peers_one() {
    let both = json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}},
        "podSelector": {"matchLabels": {"pod": "b"}}}]);
    let spec = json!({"podSelector": {}, "ingress": [{"from": both}]});
    check(&[("x", spec)], |from, to, _, _| to.ns != "x" || (from.ns == "y" && from.pod == "b"));
    let either = json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}}},
        {"podSelector": {"matchLabels": {"pod": "b"}}}]);
    let spec = json!({"podSelector": {}, "ingress": [{"from": either}]});
    check(&[("x", spec)], |from, to, _, _| {
        to.ns != "x" || from.ns == "y" || (from.ns == "x" && from.pod == "b")
    });
}

#[test]
fn expressions_select_as_labels_do() {
    let from = json!([{"namespaceSelector":
        {"matchExpressions": [{"key": "ns", "operator": "NotIn", "values": ["x"]}]}}]);
    let spec = json!({"podSelector": {"matchExpressions":
        [{"key": "pod", "operator": "In", "values": ["a", "b"]}]}, "ingress": [{"from": from}]});
    check(&[("x", spec)], |from, to, _, _| to.ns != "x" || to.pod == "c" || from.ns != "x");
}

#[test]
fn a_port_opens_that_port_of_that_protocol() {
    let spec = |ports| json!({"podSelector": {}, "ingress": [{"ports": ports}]});
    check(&[("x", spec(json!([{"port": 80}])))], |_, to, protocol, port| {
        to.ns != "x" || (protocol, port) == (Tcp, 80)
    });
    check(&[("x", spec(json!([{"protocol": "UDP", "port": 81}])))], |_, to, protocol, port| {
        to.ns != "x" || (protocol, port) == (Udp, 81)
    });
    check(&[("x", spec(json!([{"protocol": "SCTP"}])))], |_, to, protocol, _| {
        to.ns != "x" || protocol == Sctp
    });
    let range = json!([{"protocol": "UDP", "port": 79, "endPort": 80}]);
    check(&[("x", spec(range))], |_, to, protocol, port| {
        to.ns != "x" || (protocol, port) == (Udp, 80)
    });
}

#[test]
fn a_named_port_is_the_number_that_the_target_gives_it() {
    // c's `web` is 81, everybody else's is 80.
    let web =
        |to: At, protocol, port| (protocol, port) == (Tcp, if to.pod == "c" { 81 } else { 80 });
    let spec = json!({"podSelector": {}, "ingress": [{"ports": [{"port": "web"}]}]});
    check(&[("x", spec)], |_, to, protocol, port| to.ns != "x" || web(to, protocol, port));
    let spec = json!({"podSelector": {}, "policyTypes": ["Egress"],
        "egress": [{"ports": [{"port": "web"}]}]});
    check(&[("x", spec)], |from, to, protocol, port| from.ns != "x" || web(to, protocol, port));
    let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress":
        [{"to": [{"namespaceSelector": {"matchLabels": {"ns": "z"}}}], "ports": [{"port": "web"}]}]});
    check(&[("x", spec)], |from, to, protocol, port| {
        from.ns != "x" || (to.ns == "z" && web(to, protocol, port))
    });
}

#[test]
fn a_named_port_that_is_not_there_opens_nothing() {
    let ports = |name: &str| json!({"podSelector": {}, "ingress": [{"ports": [{"port": name}]}]});
    check(&[("x", ports("nowhere"))], |_, to, _, _| to.ns != "x");
    check(&[("x", ports("only-a"))], |_, to, protocol, port| {
        to.ns != "x" || (to.pod == "a" && (protocol, port) == (Tcp, 81))
    });
    // The name is TCP's.
    let udp =
        json!({"podSelector": {}, "ingress": [{"ports": [{"protocol": "UDP", "port": "web"}]}]});
    check(&[("x", udp)], |_, to, _, _| to.ns != "x");
}

#[test]
fn a_block_is_itself_without_its_exceptions() {
    // 10.0.1.0/24 is namespace y, .11 its b.
    let block = json!([{"ipBlock": {"cidr": "10.0.1.0/24", "except": ["10.0.1.11/32"]}}]);
    let spec = json!({"podSelector": {}, "ingress": [{"from": block}]});
    check(&[("x", spec)], |from, to, _, _| to.ns != "x" || (from.ns == "y" && from.pod != "b"));
    let spec = json!({"podSelector": {}, "policyTypes": ["Egress"],
        "egress": [{"to": block}]});
    check(&[("x", spec)], |from, to, _, _| from.ns != "x" || (to.ns == "y" && to.pod != "b"));
}

#[test]
fn an_exception_of_one_rule_is_none_of_another() {
    let rules = json!([
        {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.1.0/24"]}}]},
        {"from": [{"ipBlock": {"cidr": "10.0.1.11/32"}}], "ports": [{"port": 80}]}]);
    let spec = json!({"podSelector": {}, "ingress": rules});
    check(&[("x", spec)], |from, to, protocol, port| {
        to.ns != "x" || from.ns != "y" || (from.pod == "b" && (protocol, port) == (Tcp, 80))
    });
}

#[test]
fn policies_add_up() {
    let deny = json!({"podSelector": {}});
    let from = |ns: &str, port: u16| {
        json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{
            "from": [{"namespaceSelector": {"matchLabels": {"ns": ns}}}],
            "ports": [{"port": port}]}]})
    };
    check(
        &[("x", deny), ("x", from("y", 80)), ("x", from("z", 81))],
        |from, to, protocol, port| {
            let is_allowed = protocol == Tcp && matches!((from.ns, port), ("y", 80) | ("z", 81));
            to.ns != "x" || (to.pod == "a" && is_allowed)
        },
    );
}

#[test]
fn both_ends_have_to_allow() {
    let out = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress":
        [{"to": [{"namespaceSelector": {"matchLabels": {"ns": "x"}}}]}]});
    let into = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress":
        [{"ports": [{"port": 80}]}]});
    check(&[("y", out), ("x", into)], |from, to, protocol, port| {
        let may_leave = from.ns != "y" || to.ns == "x";
        let may_enter = !(to.ns == "x" && to.pod == "a") || (protocol, port) == (Tcp, 80);
        may_leave && may_enter
    });
}

#[test]
fn a_selector_that_selects_nobody_isolates_nobody() {
    let spec = json!({"podSelector": {"matchLabels": {"pod": "none"}}});
    check(&[("x", spec)], |_, _, _, _| true);
}

#[test]
fn a_rule_whose_peers_are_nobody_still_isolates() {
    let from = json!([{"podSelector": {"matchLabels": {"pod": "none"}}}]);
    let spec = json!({"podSelector": {}, "ingress": [{"from": from}]});
    check(&[("x", spec)], |_, to, _, _| to.ns != "x");
}
