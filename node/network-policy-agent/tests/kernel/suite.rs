//! The table of lib/network-policy's `tests/suite` with real packets: each step of each case is
//! resolved, compiled, applied as the difference from the step before, and probed in all cells.

#[path = "../../../../lib/network-policy/tests/suite/cases.rs"]
mod cases;
#[path = "../../../../lib/network-policy/tests/suite/model.rs"]
mod model;
#[path = "../../../../lib/network-policy/tests/suite/reference.rs"]
mod reference;

use std::{collections::BTreeMap, collections::BTreeSet, net::IpAddr};

use api_kube::policy_endpoint::PolicyEndpoint;
use linux_nftables::Table;
use network_policy_agent::{
    ruleset::{self, Log, Mode, Options},
    state::State,
};

use self::model::{At, Family, HOST, Model, PORTS, PROTOCOLS};
use crate::{
    packets::inside,
    probes::{Cell, Endpoint, open_cells},
    world::Netns,
};

/// A node as the VPC CNI lays it out: a pod has its address alone, and a route to it is the node's.
struct Node {
    netns: Netns,
    pods: BTreeMap<IpAddr, (Netns, Endpoint)>,
    table: Option<Table>,
    round: u16,
    /// What its namespaces' names begin with.
    name: String,
}

impl Node {
    fn new(family: Family) -> Option<Self> {
        let name = format!("nst-t-nps{family:?}-{}", std::process::id());
        let netns = Netns::new(name.clone())?;
        netns.ip("link set lo up");
        inside(&netns.file(), || {
            let set =
                |name: &str, value: &str| std::fs::write(format!("/proc/sys/net/{name}"), value);
            set("ipv4/ip_forward", "1").unwrap();
            if family == Family::V6 {
                set("ipv6/conf/all/forwarding", "1").unwrap();
                without_detection();
            }
            for name in ["all", "default"] {
                set(&format!("ipv4/conf/{name}/rp_filter"), "0").unwrap();
            }
            // Each round leaves hundreds of connections behind.
            for name in [
                "udp_timeout",
                "udp_timeout_stream",
                "tcp_timeout_time_wait",
                "tcp_timeout_fin_wait",
                "tcp_timeout_close_wait",
                "tcp_timeout_syn_sent",
            ] {
                drop(set(&format!("netfilter/nf_conntrack_{name}"), "5"));
            }
        });
        Some(Self { netns, pods: BTreeMap::new(), table: None, round: 0, name })
    }

    fn ensure(&mut self, pod: &At) {
        if self.pods.contains_key(&pod.address) {
            return;
        }
        let address = pod.address;
        let name = format!("{}-{}-{}", self.name, pod.ns, pod.name);
        let netns = Netns::new(name.clone()).unwrap();
        let link = api_cni::host_link_name("eni", pod.ns, pod.name);
        if address.is_ipv6() {
            inside(&netns.file(), without_detection);
        }
        let (gateway, len) =
            if address.is_ipv4() { ("169.254.1.1/32", 32) } else { ("fe80::1/64", 128) };
        let router = gateway.split('/').next().unwrap();
        self.netns.ip(&format!("link add {link} type veth peer name eth0 netns {name}"));
        self.netns.ip(&format!("addr add {gateway} dev {link}"));
        self.netns.ip(&format!("link set {link} up"));
        self.netns.ip(&format!("route add {address}/{len} dev {link}"));
        netns.ip("link set lo up");
        netns.ip(&format!("addr add {address}/{len} dev eth0"));
        netns.ip("link set eth0 up");
        netns.ip(&format!("route add {router} dev eth0 scope link"));
        netns.ip(&format!("route add default via {router} dev eth0"));
        let endpoint = Endpoint::open(netns.file(), address, &PORTS);
        self.pods.insert(address, (netns, endpoint));
    }

    fn enforce(&mut self, model: &Model) {
        let mut state = State::new(HOST);
        for policy in model.policies() {
            for (number, spec) in network_policy::resolve(&policy, model, 3).into_iter().enumerate()
            {
                let mut endpoint = PolicyEndpoint::new(Default::default(), spec);
                endpoint.metadata.namespace = policy.metadata.namespace.clone();
                let name = policy.metadata.name.clone().unwrap();
                endpoint.metadata.name = Some(format!("{name}-{number}"));
                state.set(endpoint);
            }
        }
        let options = Options {
            mode: Mode::Standard,
            prefix: "eni".into(),
            has_strict_branches: false,
            log: Log::Nothing,
            node: HOST.parse().ok(),
        };
        let table = ruleset::compile(state.endpoints(), &options).table;
        let nft = self.netns.nft();
        match self.table.replace(table.clone()) {
            Some(old) => nft.apply(&table.changes_from(&old)).unwrap(),
            None => nft.update(None, &table).unwrap(),
        }
    }

    /// The cells that are not as they should be.
    fn wrong(&mut self, model: &Model) -> (usize, Vec<String>) {
        let pods = model.pods();
        pods.iter().for_each(|it| self.ensure(it));
        let mut wanted: BTreeSet<Cell> = BTreeSet::new();
        for from in &pods {
            for to in pods.iter().filter(|to| *to != from) {
                for protocol in PROTOCOLS {
                    let open = |port: &u16| reference::allows(model, from, to, protocol, *port);
                    let open = PORTS.into_iter().filter(open);
                    wanted.extend(open.map(|port| (from.address, to.address, protocol, port)));
                }
            }
        }
        let endpoints: Vec<&Endpoint> = pods.iter().map(|it| &self.pods[&it.address].1).collect();
        self.round += 1;
        let got = open_cells(&endpoints, &PORTS, self.round, &wanted);
        let differing = wanted.symmetric_difference(&got);
        let wrong = differing.map(|it| format!("{it:?} is open: {}", got.contains(it))).collect();
        (pods.len() * (pods.len() - 1) * PROTOCOLS.len() * PORTS.len(), wrong)
    }
}

/// Addresses are there at once: in a namespace of a test nobody else has them.
fn without_detection() {
    for name in ["all", "default"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0").unwrap();
    }
}

#[test]
fn every_cell_of_every_case_of_the_policy_suites_is_right_in_the_kernel() {
    probe_all(Family::V4);
}

#[test]
fn every_cell_of_every_case_of_the_policy_suites_is_right_in_the_kernel_by_ipv6() {
    probe_all(Family::V6);
}

fn probe_all(family: Family) {
    let Some(mut node) = Node::new(family) else { return };
    node.enforce(&Model::new(family));
    assert_eq!(node.wrong(&Model::new(family)).1, [""; 0], "without policies");
    let (mut cases, mut steps, mut cells) = (0, 0, 0);
    for case in cases::all() {
        let mut model = Model::new(family);
        cases += 1;
        for (number, step) in case.steps.iter().enumerate() {
            model.apply(step);
            node.enforce(&model);
            let (count, wrong) = node.wrong(&model);
            assert!(
                wrong.is_empty(),
                "{} / {} / step {}: {wrong:#?}\n{:#?}",
                case.family,
                case.name,
                number + 1,
                model.policies
            );
            steps += 1;
            cells += count;
        }
    }
    eprintln!("{family:?}: {cases} cases, {steps} steps, {cells} cells: all right");
}
