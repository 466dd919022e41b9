//! Shows that the kernel forwards as policies say, with real packets between pods in throw-away
//! namespaces: the cases of Kubernetes' policy suites (`suite`), and here what they do not ask, with
//! a node and three pods.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod logged;
mod packets;
mod probes;
mod suite;
mod world;

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddrV6},
};

use network_policy::Protocol::{Tcp, Udp};
use network_policy_agent::ruleset::Mode;
use serde_json::{Value, json};

use crate::{
    packets::{Serving, probe, tcp},
    world::{A, B, C, HOST, POD_IDENTITY, PODS, SECONDARY, World},
};

const PORTS: [u16; 2] = [80, 81];

/// Sends packets from each pod to each and compares with the evaluator; gives how many got through.
fn compare(world: &World, policies: &[(&str, Value)]) -> usize {
    let rules = world.enforce(policies, Mode::Standard);
    let mut probes = Vec::new();
    for from in PODS {
        for to in PODS.into_iter().filter(|it| *it != from) {
            for protocol in [Tcp, Udp] {
                for port in PORTS {
                    let wanted = rules.allows(from, to, protocol, port);
                    let place = world.pod(from).try_clone().unwrap();
                    let thread = std::thread::spawn(move || {
                        probe(&place, (to.address(), port).into(), protocol)
                    });
                    probes.push(((from, to, protocol, port), wanted, thread));
                }
            }
        }
    }
    let mut passed = 0;
    for (cell, wanted, thread) in probes {
        let got = thread.join().unwrap();
        assert_eq!(got, wanted, "{cell:?} under {policies:#?}\n{}", world.listing());
        passed += usize::from(got);
    }
    passed
}

#[test]
fn the_kernel_and_the_evaluator_agree_on_every_packet() {
    let Some(world) = World::new("m") else { return };
    let _serving = Serving::everywhere(&world, &PORTS);
    let cells = 6 * 2 * PORTS.len();
    assert_eq!(compare(&world, &[]), cells);
    // a and b are in x, c is in y; each pod has 4 cells towards each other pod.
    let deny = json!({"podSelector": {}});
    assert_eq!(compare(&world, &[("x", deny.clone())]), 8);
    let shut_in = json!({"podSelector": {}, "policyTypes": ["Egress"]});
    assert_eq!(compare(&world, &[("x", shut_in)]), 8);
    let from_b = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{
        "from": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}]});
    assert_eq!(compare(&world, &[("x", from_b.clone())]), cells - 4);
    assert_eq!(compare(&world, &[("x", deny.clone()), ("x", from_b)]), 8 + 4);
    let from_y = json!({"podSelector": {}, "ingress": [{
        "from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}],
        "ports": [{"port": 80}, {"protocol": "UDP", "port": 81}]}]});
    assert_eq!(compare(&world, &[("x", from_y)]), 8 + 2 * 2);
    let range = json!({"podSelector": {}, "ingress": [{
        "ports": [{"port": 80, "endPort": 81}, {"protocol": "SCTP"}]}]});
    assert_eq!(compare(&world, &[("x", range)]), 8 + 4 * 2);
    let named = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{
        "to": [{"podSelector": {}}], "ports": [{"port": "web"}]}]});
    assert_eq!(compare(&world, &[("x", named)]), 8 + 2);
    let block = json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {
        "cidr": "10.0.0.0/8", "except": [format!("{}/32", C.address())]}}]}]});
    assert_eq!(compare(&world, &[("x", block)]), 8 + 4 * 2);
    // And open again, in one transaction.
    assert_eq!(compare(&world, &[]), cells);
}

#[test]
fn a_connection_that_is_established_outlives_the_policy_that_forbids_it() {
    let Some(world) = World::new("e") else { return };
    let _serving = Serving::everywhere(&world, &[80]);
    // On a node kube-proxy's rules have the kernel track connections from the start.
    world.enforce(&[], Mode::Standard);
    let to_b = (B.address(), 80).into();
    let mut open = tcp(&world.pod(A), to_b).unwrap();
    let say = |open: &mut std::net::TcpStream| {
        let mut answer = [0; 4];
        open.write_all(b"ping").and_then(|()| open.read_exact(&mut answer)).map(|()| answer)
    };
    assert_eq!(say(&mut open).unwrap(), *b"ping");
    let both = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    world.enforce(&[("x", both)], Mode::Standard);
    assert!(tcp(&world.pod(A), to_b).is_err());
    assert_eq!(say(&mut open).unwrap(), *b"ping");
    // Its replies are none of the peer's policies' business either.
    world.enforce(&[("y", json!({"podSelector": {}}))], Mode::Standard);
    assert!(probe(&world.pod(C), to_b, Tcp));
}

#[test]
fn the_node_reaches_its_pods_whatever_the_policies_say() {
    let Some(world) = World::new("n") else { return };
    let _serving = Serving::everywhere(&world, &[80]);
    let both = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    world.enforce(&[("x", both)], Mode::Strict);
    assert!(probe(&world.node(), (A.address(), 80).into(), Tcp));
    assert!(!probe(&world.pod(C), (A.address(), 80).into(), Tcp));
}

/// Of its own node's addresses a pod that may send nothing reaches the primary one alone.
#[test]
fn what_a_pod_sends_to_its_node_is_policed_but_for_the_nodes_primary_address() {
    let Some(world) = World::new("l") else { return };
    let serving = Serving::everywhere(&world, &[80]);
    serving.also(&world.node(), ("0.0.0.0", 80));
    let reached = |from| {
        [HOST, SECONDARY, POD_IDENTITY, "10.1.0.1"].map(|to| {
            [Tcp, Udp]
                .map(|it| probe(&world.pod(from), (to.parse::<IpAddr>().unwrap(), 80).into(), it))
        })
    };
    let (open, shut) = ([[true; 2]; 4], [[true; 2], [false; 2], [false; 2], [false; 2]]);
    world.enforce(&[], Mode::Standard);
    assert_eq!(reached(A), open);
    let shut_in = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Egress"]});
    world.enforce(&[("x", shut_in.clone())], Mode::Standard);
    assert_eq!((reached(A), reached(B)), (shut, open), "{}", world.listing());
    // The kubelet's probes, and another's address on its link.
    assert!(probe(&world.node(), (A.address(), 80).into(), Tcp));
    let identity = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{
        "to": [{"ipBlock": {"cidr": format!("{POD_IDENTITY}/32")}}], "ports": [{"port": 80}]}]});
    world.enforce(&[("x", identity)], Mode::Standard);
    assert_eq!(reached(A), [[true; 2], [false; 2], [true, false], [false; 2]]);
    // In strict mode nobody has spoken for c.
    world.enforce(&[("x", shut_in)], Mode::Strict);
    assert_eq!((reached(A), reached(C)), (shut, shut), "{}", world.listing());
    assert!(probe(&world.node(), (C.address(), 80).into(), Tcp));
}

/// Each link has addresses that no PolicyEndpoint knows.
#[test]
fn a_pod_does_not_escape_its_policy_by_the_link_local_addresses_of_its_own_link() {
    let Some(world) = World::new("k") else { return };
    let serving = Serving::everywhere(&world, &[80]);
    serving.also(&world.node(), ("::", 81));
    let by_link = |from| {
        let index = world.link_local(from);
        let to = SocketAddrV6::new("fe80::1".parse().unwrap(), 81, 0, index);
        probe(&world.pod(from), to.into(), Tcp)
    };
    let shut_in = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Egress"]});
    world.enforce(&[("x", shut_in)], Mode::Standard);
    assert!(by_link(B), "{}", world.listing());
    assert!(!by_link(A), "{}", world.listing());
    world.enforce(&[], Mode::Standard);
    // Neighbours find each other again.
    assert!(by_link(A), "{}", world.listing());
    world.enforce(&[], Mode::Strict);
    assert!(!by_link(A), "{}", world.listing());
}

#[test]
fn a_service_is_policed_by_the_endpoint_behind_it() {
    let Some(world) = World::new("s") else { return };
    let _serving = Serving::everywhere(&world, &[80]);
    // Port 8000 of the Service is b's 80, 9000 is a's own.
    world.translate("10.99.0.1", &[(8000, B, 80), (9000, A, 80)]);
    let service = |port| ("10.99.0.1".parse::<IpAddr>().unwrap(), port).into();
    world.enforce(&[], Mode::Standard);
    assert!(probe(&world.pod(A), service(8000), Tcp));
    let only_80 = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": 80}]}], "egress": [{"ports": [{"port": 80}]}]});
    world.enforce(&[("x", only_80)], Mode::Standard);
    assert!(probe(&world.pod(A), service(8000), Tcp));
    let none = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    world.enforce(&[("x", none)], Mode::Standard);
    assert!(!probe(&world.pod(A), service(8000), Tcp));
    // Nothing keeps a pod from itself.
    assert!(probe(&world.pod(A), service(9000), Tcp));
}

#[test]
fn in_strict_mode_a_pod_without_a_policy_is_shut_in() {
    let Some(world) = World::new("t") else { return };
    let _serving = Serving::everywhere(&world, &[80]);
    world.enforce(&[], Mode::Strict);
    assert!(!probe(&world.pod(A), (B.address(), 80).into(), Tcp));
    let allow = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{}], "egress": [{}]});
    world.enforce(&[("x", allow)], Mode::Strict);
    assert!(probe(&world.pod(A), (B.address(), 80).into(), Tcp));
    assert!(!probe(&world.pod(A), (C.address(), 80).into(), Tcp));
    assert!(!probe(&world.pod(C), (A.address(), 80).into(), Udp));
}

#[test]
fn a_pod_cannot_take_anothers_address_to_escape_its_policy() {
    let Some(world) = World::new("f") else { return };
    let _serving = Serving::everywhere(&world, &[80]);
    let shut_in = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Egress"]});
    world.enforce(&[("x", shut_in)], Mode::Standard);
    // c's address, on a's link.
    let seen = packets::forged(&world, A, C.address(), B);
    assert!(!seen, "{}", world.listing());
    world.enforce(&[], Mode::Standard);
    assert!(packets::forged(&world, A, C.address(), B), "the packet itself would pass");
}

/// Nothing keeps a pod from itself, and others are not it: not even who sends with its address.
#[test]
fn a_pod_is_not_reached_by_who_says_that_it_is_the_pod_itself() {
    let Some(world) = World::new("o") else { return };
    world.enforce(&[("x", json!({"podSelector": {}}))], Mode::Standard);
    let IpAddr::V4(victim) = A.address() else { panic!("pods have IPv4 addresses here") };
    packets::send_raw(&world, C, victim, victim);
    let dropped: u64 = world.counts().values().map(|it| it.packets).sum();
    assert_eq!(dropped, 1, "{}", world.listing());
}

#[test]
fn a_pod_that_is_made_again_under_a_name_is_not_held_to_the_rules_of_the_one_before() {
    let Some(world) = World::new("i") else { return };
    let _serving = Serving::everywhere(&world, &[80]);
    let shut_in = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Egress"]});
    world.enforce(&[("x", shut_in)], Mode::Standard);
    let to_b = (B.address(), 80).into();
    assert!(!probe(&world.pod(A), to_b, Tcp));
    // Its PolicyEndpoint still names the address that the first one had.
    world.readdress(A, "10.1.0.9");
    assert!(probe(&world.pod(A), to_b, Tcp), "{}", world.listing());
    // In strict mode nobody has spoken for it yet.
    let shut_in = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Egress"]});
    world.enforce(
        &[("x", shut_in), ("x", json!({"podSelector": {}, "ingress": [{}]}))],
        Mode::Strict,
    );
    assert!(!probe(&world.pod(A), to_b, Tcp));
}

#[test]
fn the_kernel_counts_what_each_chain_dropped() {
    let Some(world) = World::new("c") else { return };
    let _serving = Serving::everywhere(&world, &[80]);
    world.enforce(&[("x", json!({"podSelector": {}}))], Mode::Standard);
    let sum = || {
        world
            .counts()
            .values()
            .map(|it| (it.packets, it.bytes))
            .fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
    };
    assert_eq!(sum(), (0, 0));
    assert!(!probe(&world.pod(C), (A.address(), 80).into(), Udp));
    // A header, eight octets of UDP and the word that was sent.
    assert_eq!(sum(), (1, 20 + 8 + 4));
    assert!(probe(&world.pod(C), (C.address(), 80).into(), Tcp));
    assert_eq!(sum().0, 1);
}
