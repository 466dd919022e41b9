//! The table that enforces what [`State`](crate::state::State) holds.
//!
//! ```text
//! forward: established → accept · a pod to itself → accept
//!          iifname → chain of what the pod may send · ip daddr → chain of what may be sent to it
//! chain:   peers of a set, at these ports → return · else drop
//! ```
//!
//! A set holds the peers of one PolicyEndpoint at the same ports and keeps its name while they
//! change, so that a peer that comes is an element more.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use api_cni::host_link_name;
use api_kube::policy_endpoint::PolicyEndpointSpec;
use controller::Key;
use linux_nftables::{Chain, ChainKind, Family, Hook, HookPoint, Set, Table, priority, quote};
use network_policy::{Direction, Grant, PortRange, Protocol, TABLE, grants};
use sha1::{Digest, Sha1};

/// What becomes of a pod that no policy selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It may do everything.
    #[default]
    Standard,
    /// Nothing.
    Strict,
}

impl Mode {
    /// The value of `NETWORK_POLICY_ENFORCING_MODE`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "standard" => Some(Self::Standard),
            "strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// A pod of this node and the rules of its chains.
#[derive(Debug, Default)]
struct Policed {
    link: String,
    /// None in a direction: not isolated.
    rules: BTreeMap<Direction, BTreeSet<String>>,
}

/// The whole table. `prefix` is that of pods' links.
pub fn table(endpoints: &BTreeMap<Key, PolicyEndpointSpec>, mode: Mode, prefix: &str) -> Table {
    let mut table = Table::new(Family::Inet, TABLE);
    for (name, kind) in [("egress", "ifname"), ("ingress4", "ipv4_addr"), ("ingress6", "ipv6_addr")]
    {
        table.set(name, Set::map(kind, "verdict"));
    }
    for (name, kind) in [("self4", "ipv4_addr . ipv4_addr"), ("self6", "ipv6_addr . ipv6_addr")] {
        table.set(name, Set::of(kind));
    }
    let mut pods: BTreeMap<IpAddr, Policed> = BTreeMap::new();
    for (key, spec) in endpoints {
        for direction in [Direction::Ingress, Direction::Egress] {
            let rules = grants(spec, direction).map(|it| rules(&mut table, key, direction, &it));
            for pod in &spec.pod_selector_endpoints {
                let Ok(address) = pod.pod_ip.parse::<IpAddr>() else { continue };
                let policed = pods.entry(address).or_default();
                policed.link = host_link_name(prefix, &pod.namespace, &pod.name);
                if let Some(rules) = &rules {
                    policed.rules.entry(direction).or_default().extend(rules.iter().cloned());
                }
            }
        }
    }
    for (address, policed) in &pods {
        add_pod(&mut table, *address, policed);
    }
    forward(&mut table, &pods, mode, prefix);
    table
}

fn of_family(address: &IpAddr, name: &str) -> String {
    format!("{name}{}", if address.is_ipv4() { '4' } else { '6' })
}

fn add_pod(table: &mut Table, address: IpAddr, policed: &Policed) {
    let own = of_family(&address, "self");
    entry(table, &own, format!("{address} . {address}"), "");
    for (direction, rules) in &policed.rules {
        let text: String = rules.iter().map(|it| format!("{it}\n")).collect();
        let chain = match direction {
            Direction::Ingress => format!("to-{}", digest(&text)),
            Direction::Egress => format!("from-{}", digest(&text)),
        };
        if !table.chains.contains_key(&chain) {
            let made = table.chain(chain.as_str());
            made.rules.extend(rules.iter().cloned());
            made.rule("counter drop");
        }
        let jump = format!("jump {chain}");
        match direction {
            Direction::Ingress => {
                entry(table, &of_family(&address, "ingress"), address.to_string(), &jump);
            }
            Direction::Egress => entry(table, "egress", quote(&policed.link), &jump),
        }
    }
}

fn entry(table: &mut Table, set: &str, key: String, value: &str) {
    if let Some(set) = table.sets.get_mut(set) {
        set.entry(key, value);
    }
}

fn forward(table: &mut Table, pods: &BTreeMap<IpAddr, Policed>, mode: Mode, prefix: &str) {
    let hook = Hook::new(ChainKind::Filter, HookPoint::Forward, priority::FILTER);
    let mut forward = Chain::hooked(hook);
    forward
        .rule("ct state established,related accept")
        .rule("ip saddr . ip daddr @self4 accept")
        .rule("ip6 saddr . ip6 daddr @self6 accept")
        .rule("iifname vmap @egress")
        .rule("ip daddr vmap @ingress4")
        .rule("ip6 daddr vmap @ingress6");
    if mode == Mode::Strict {
        let mut links = Set::of("ifname");
        let mut addresses = [Set::of("ipv4_addr"), Set::of("ipv6_addr")];
        for (address, policed) in pods {
            links.member(quote(&policed.link));
            addresses[usize::from(address.is_ipv6())].member(address.to_string());
        }
        let [known4, known6] = addresses;
        table.set("known-links", links);
        table.set("known4", known4);
        table.set("known6", known6);
        let pods = quote(&format!("{prefix}*"));
        forward
            .rule(format!("iifname {pods} iifname != @known-links counter drop"))
            .rule(format!("oifname {pods} ip daddr != @known4 counter drop"))
            .rule(format!("oifname {pods} ip6 daddr != @known6 counter drop"));
    }
    table.chains.insert("forward".to_owned(), forward);
}

/// The rules of one PolicyEndpoint in a direction, and their sets.
fn rules(table: &mut Table, key: &Key, direction: Direction, grants: &[Grant]) -> Vec<String> {
    let mut rules = Vec::new();
    for grant in grants {
        let ports = ports(grant.ports.as_deref());
        let name = digest(&format!("{key} {} {}", direction.name(), ports.join(" ")));
        let side = match direction {
            Direction::Ingress => "saddr",
            Direction::Egress => "daddr",
        };
        for (is_ipv6, family, letter, kind) in
            [(false, "ip", 'a', "ipv4_addr"), (true, "ip6", 'b', "ipv6_addr")]
        {
            let mut peers = Set::of(kind).flag("interval");
            for range in grant.peers.iter().filter(|it| it.is_ipv6() == is_ipv6) {
                peers.member(range.to_string());
            }
            if peers.elements.is_empty() {
                continue;
            }
            let set = format!("{letter}-{name}");
            let rule = |ports: &String| format!("{family} {side} @{set} {ports}return");
            rules.extend(ports.iter().map(rule));
            table.set(set, peers);
        }
    }
    rules
}

/// What a rule asks of a packet's protocol and port: an alternative for each protocol.
fn ports(ports: Option<&[PortRange]>) -> Vec<String> {
    let Some(ports) = ports else { return vec![String::new()] };
    let of = |protocol: Protocol| {
        let mut mine = ports.iter().filter(|it| it.protocol == protocol).peekable();
        let name = protocol.lower();
        mine.peek()?;
        if mine.clone().any(PortRange::is_whole_protocol) {
            return Some(format!("meta l4proto {name} "));
        }
        let ranges: Vec<String> = mine
            .map(|it| match it.first == it.last {
                true => it.first.to_string(),
                false => format!("{}-{}", it.first, it.last),
            })
            .collect();
        Some(format!("{name} dport {{ {} }} ", ranges.join(", ")))
    };
    Protocol::ALL.into_iter().filter_map(of).collect()
}

fn digest(text: &str) -> String {
    let digest = Sha1::digest(text);
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use api_kube::policy_endpoint::{EndpointInfo, PodEndpoint, Port};

    use super::*;

    fn pod(name: &str, ip: &str) -> PodEndpoint {
        PodEndpoint {
            namespace: "x".into(),
            name: name.into(),
            pod_ip: ip.into(),
            host_ip: "192.168.0.5".into(),
        }
    }

    fn web_from(peers: &[&str], pods: &[PodEndpoint]) -> BTreeMap<Key, PolicyEndpointSpec> {
        let port = Port { protocol: Some("TCP".into()), port: Some(80), end_port: None };
        let peer = |cidr: &&str| EndpointInfo {
            cidr: (*cidr).into(),
            except: Vec::new(),
            ports: vec![port.clone()],
        };
        let spec = PolicyEndpointSpec {
            pod_isolation: vec!["Ingress".into()],
            pod_selector_endpoints: pods.to_vec(),
            ingress: peers.iter().map(peer).collect(),
            ..PolicyEndpointSpec::default()
        };
        [(Key::new("x", "p-1"), spec)].into()
    }

    #[test]
    fn pods_under_the_same_policies_share_a_chain() {
        let pods = [pod("a", "10.0.0.1"), pod("b", "10.0.0.2")];
        let table = table(&web_from(&["10.0.0.9"], &pods), Mode::Standard, "eni");
        assert_eq!(table.chains.len(), 2);
        let ingress = &table.sets["ingress4"].elements;
        assert_eq!(ingress["10.0.0.1"], ingress["10.0.0.2"]);
        assert!(table.sets["egress"].elements.is_empty());
    }

    #[test]
    fn a_peer_that_comes_is_an_element_more() {
        let pods = [pod("a", "10.0.0.1")];
        let old = table(&web_from(&["10.0.0.9"], &pods), Mode::Standard, "eni");
        let new = table(&web_from(&["10.0.0.9", "10.0.0.10"], &pods), Mode::Standard, "eni");
        let text = new.changes_from(&old).text().to_owned();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("add element inet aws-network-policy a-"), "{text}");
    }

    #[test]
    fn a_pod_that_is_isolated_without_rules_has_a_chain_that_drops() {
        let table = table(&web_from(&[], &[pod("a", "10.0.0.1")]), Mode::Standard, "eni");
        let chain = table.sets["ingress4"].elements["10.0.0.1"].strip_prefix("jump ").unwrap();
        assert_eq!(table.chains[chain].rules, ["counter drop"]);
    }

    #[test]
    fn ports_are_an_alternative_for_each_protocol() {
        let range = |protocol, first, last| PortRange { protocol, first, last };
        let all = [
            range(Protocol::Tcp, 80, 80),
            range(Protocol::Tcp, 8000, 8100),
            range(Protocol::Udp, 0, u16::MAX),
        ];
        assert_eq!(ports(Some(&all)), ["tcp dport { 80, 8000-8100 } ", "meta l4proto udp "]);
        assert_eq!(ports(None), [""]);
    }

    #[test]
    fn strict_mode_drops_what_goes_over_unknown_links_of_pods() {
        let table = table(&BTreeMap::new(), Mode::Strict, "eni");
        let rules = &table.chains["forward"].rules;
        assert!(rules.iter().any(|it| it.starts_with("iifname \"eni*\" iifname != @known-links")));
        assert!(table.sets["known-links"].elements.is_empty());
    }
}
