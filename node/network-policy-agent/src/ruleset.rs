//! The table that enforces what [`State`](crate::state::State) holds.
//!
//! ```text
//! forward:   established → accept · a pod to itself, by its own link → accept
//!            what pods send (from-pods)
//!            destination address → chain of what may be sent to the pod
//! input:     established → accept · to the node's primary address → accept
//!            what pods send (from-pods)
//! from-pods: link and source address → chain of what the pod may send
//!            source that is not behind the link → chain of the pod that has the link's name
//! chain:     peers of a set, at these ports → return · else drop
//! ```
//!
//! What a pod sends to its own node is policed as what it sends elsewhere, but for the node's primary
//! address, which upstream lets every pod reach at all ports. What the node sends is never policed, so
//! that the kubelet's probes come through, and with them their answers.
//!
//! A set holds the peers of one PolicyEndpoint at the same ports and keeps its name while they
//! change, so that a peer that comes is an element more.
//!
//! A link's name is made of its pod's, so one that is made again under the same name has the same
//! link and another address: it is not held to the rules of the one before. Who sends from an address
//! that no route leads back to is held to them, whoever it is.

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

use crate::metrics::word_of;

/// What rules of this table log, and where to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Log {
    #[default]
    Nothing,
    Denied,
    /// Also what a policy let in or out.
    Everything,
}

/// The group of the kernel's packet log: the agent's port of metrics, for want of a registry.
pub const LOG_GROUP: u16 = 8162;
/// So much of a packet is logged: the longest IPv4 header with ports, or IPv6 with some extensions.
pub const LOG_LEN: u32 = 128;

/// How the table is made.
#[derive(Clone, Debug)]
pub struct Options {
    pub mode: Mode,
    /// How pods' links begin.
    pub prefix: String,
    /// Pods may have branch interfaces in strict mode, and then links that begin otherwise.
    pub has_strict_branches: bool,
    pub log: Log,
    /// The node's primary address, which its pods may always reach.
    pub node: Option<IpAddr>,
}

/// How the links of pods with branch interfaces begin in strict mode.
const BRANCH_PREFIX: &str = "vlan";

impl Options {
    fn prefixes(&self) -> impl Iterator<Item = &str> {
        let of_branches = self.has_strict_branches.then_some(BRANCH_PREFIX);
        std::iter::once(self.prefix.as_str()).chain(of_branches)
    }
}

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

/// The table, and what its chains drop for.
#[derive(Clone, Debug)]
pub struct Ruleset {
    pub table: Table,
    pub drops: BTreeMap<String, Dropping>,
}

/// Whose packets a chain drops.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dropping {
    pub direction: Direction,
    /// The NetworkPolicies that isolate the pods and do not allow it; none in strict mode.
    pub policies: BTreeSet<Key>,
}

/// A pod of this node and what isolates it.
#[derive(Debug, Default)]
struct Policed {
    /// The one that it has is among them.
    links: Vec<String>,
    /// None in a direction: not isolated.
    rules: BTreeMap<Direction, Isolation>,
}

#[derive(Debug, Default)]
struct Isolation {
    policies: BTreeSet<Key>,
    rules: BTreeSet<String>,
}

/// The whole table.
pub fn compile(endpoints: &BTreeMap<Key, PolicyEndpointSpec>, options: &Options) -> Ruleset {
    let mut table = Table::new(Family::Inet, TABLE);
    for (name, kind) in [
        ("egress4", "ifname . ipv4_addr"),
        ("egress6", "ifname . ipv6_addr"),
        ("forged", "ifname"),
        ("ingress4", "ipv4_addr"),
        ("ingress6", "ipv6_addr"),
    ] {
        table.set(name, Set::map(kind, "verdict"));
    }
    for (name, kind) in
        [("self4", "ifname . ipv4_addr . ipv4_addr"), ("self6", "ifname . ipv6_addr . ipv6_addr")]
    {
        table.set(name, Set::of(kind));
    }
    let mut pods: BTreeMap<IpAddr, Policed> = BTreeMap::new();
    for (key, spec) in endpoints {
        let policy = Key::new(spec.policy_ref.namespace.clone(), spec.policy_ref.name.clone());
        for direction in [Direction::Ingress, Direction::Egress] {
            let rules =
                grants(spec, direction).map(|it| rules(&mut table, key, direction, &it, options));
            for pod in &spec.pod_selector_endpoints {
                let Ok(address) = pod.pod_ip.parse::<IpAddr>() else { continue };
                let policed = pods.entry(address).or_default();
                let name = |prefix| host_link_name(prefix, &pod.namespace, &pod.name);
                policed.links = options.prefixes().map(name).collect();
                if let Some(rules) = &rules {
                    let isolation = policed.rules.entry(direction).or_default();
                    isolation.policies.insert(policy.clone());
                    isolation.rules.extend(rules.iter().cloned());
                }
            }
        }
    }
    let mut ruleset = Ruleset { table, drops: BTreeMap::new() };
    for (address, policed) in &pods {
        add_pod(&mut ruleset, *address, policed, options);
    }
    hooks(&mut ruleset, &pods, options);
    ruleset
}

fn of_family(address: &IpAddr, name: &str) -> String {
    format!("{name}{}", if address.is_ipv4() { '4' } else { '6' })
}

fn add_pod(ruleset: &mut Ruleset, address: IpAddr, policed: &Policed, options: &Options) {
    let table = &mut ruleset.table;
    let own = of_family(&address, "self");
    for link in policed.links.iter().map(|it| quote(it)) {
        entry(table, &own, format!("{link} . {address} . {address}"), "");
    }
    for (direction, isolation) in &policed.rules {
        let text: String = isolation.rules.iter().map(|it| format!("{it}\n")).collect();
        let name = digest(&format!("{:?} {text}", isolation.policies));
        let chain = match direction {
            Direction::Ingress => format!("to-{name}"),
            Direction::Egress => format!("from-{name}"),
        };
        if !table.chains.contains_key(&chain) {
            let made = table.chain(chain.as_str());
            made.rules.extend(isolation.rules.iter().cloned());
            made.rule(drop_rule(*direction, BY_POLICY, options));
            let policies = isolation.policies.clone();
            ruleset.drops.insert(chain.clone(), Dropping { direction: *direction, policies });
        }
        let jump = format!("jump {chain}");
        match direction {
            Direction::Ingress => {
                entry(table, &of_family(&address, "ingress"), address.to_string(), &jump);
            }
            Direction::Egress => {
                let own = of_family(&address, "egress");
                for link in policed.links.iter().map(|it| quote(it)) {
                    entry(table, &own, format!("{link} . {address}"), &jump);
                    entry(table, "forged", link, &jump);
                }
            }
        }
    }
}

fn entry(table: &mut Table, set: &str, key: String, value: &str) {
    if let Some(set) = table.sets.get_mut(set) {
        set.entry(key, value);
    }
}

fn drop_rule(direction: Direction, tier: &str, options: &Options) -> String {
    match options.log {
        Log::Nothing => "counter drop".to_owned(),
        Log::Denied | Log::Everything => {
            format!("log prefix {} {LOG_TO} counter drop", prefix("DENY", direction, tier))
        }
    }
}

const LOG_TO: &str = "group 8162 snaplen 128";
/// Upstream's tiers.
const BY_POLICY: &str = "NETWORK_POLICY";
const BY_DEFAULT: &str = "DEFAULT";

/// What a logged packet says of itself.
fn prefix(verdict: &str, direction: Direction, tier: &str) -> String {
    quote(&format!("{verdict} {} {tier}", word_of(direction)))
}

fn hooks(ruleset: &mut Ruleset, pods: &BTreeMap<IpAddr, Policed>, options: &Options) {
    let hooked = |point| {
        let mut chain = Chain::hooked(Hook::new(ChainKind::Filter, point, priority::FILTER));
        chain.rule("ct state established,related accept");
        chain
    };
    let mut sent = Chain::default();
    sent.rule("iifname . ip saddr vmap @egress4")
        .rule("iifname . ip6 saddr vmap @egress6")
        .rule("fib saddr . iif oif missing iifname vmap @forged");
    let mut forward = hooked(HookPoint::Forward);
    forward
        .rule("iifname . ip saddr . ip daddr @self4 accept")
        .rule("iifname . ip6 saddr . ip6 daddr @self6 accept")
        .rule(format!("jump {FROM_PODS}"))
        .rule("ip daddr vmap @ingress4")
        .rule("ip6 daddr vmap @ingress6");
    let mut input = hooked(HookPoint::Input);
    if let Some(node) = options.node {
        input.rule(format!("{} daddr {node} accept", if node.is_ipv4() { "ip" } else { "ip6" }));
    }
    // Without them nobody finds anybody.
    input.rule(format!("icmpv6 type {{ {NEIGHBOURS} }} accept"));
    input.rule(format!("jump {FROM_PODS}"));
    // An address that any pod gives itself, and that is behind its link.
    input.rule("ip6 saddr fe80::/10 iifname vmap @forged");
    if options.mode == Mode::Strict {
        shut_in(ruleset, (&mut sent, &mut forward), pods, options);
    }
    let chains = &mut ruleset.table.chains;
    for (name, chain) in [(FROM_PODS, sent), ("forward", forward), ("input", input)] {
        chains.insert(name.to_owned(), chain);
    }
}

/// What pods send, to whomever.
const FROM_PODS: &str = "from-pods";
const NEIGHBOURS: &str = "nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, \
                          mld-listener-report, mld-listener-done, mld2-listener-report";

/// Strict mode: what goes to or comes from a pod that no policy names is dropped.
fn shut_in(
    ruleset: &mut Ruleset,
    (sent, forward): (&mut Chain, &mut Chain),
    pods: &BTreeMap<IpAddr, Policed>,
    options: &Options,
) {
    for (family, is_ipv6) in [('4', false), ('6', true)] {
        let kind = if is_ipv6 { "ipv6_addr" } else { "ipv4_addr" };
        let (mut sources, mut targets) = (Set::of(&format!("ifname . {kind}")), Set::of(kind));
        for (address, policed) in pods.iter().filter(|(it, _)| it.is_ipv6() == is_ipv6) {
            for link in &policed.links {
                sources.member(format!("{} . {address}", quote(link)));
            }
            targets.member(address.to_string());
        }
        ruleset.table.set(format!("sources{family}"), sources);
        ruleset.table.set(format!("targets{family}"), targets);
    }
    for (chain, direction) in
        [("strict-from", Direction::Egress), ("strict-to", Direction::Ingress)]
    {
        ruleset.table.chain(chain).rule(drop_rule(direction, BY_DEFAULT, options));
        let dropping = Dropping { direction, policies: BTreeSet::new() };
        ruleset.drops.insert(chain.to_owned(), dropping);
    }
    for prefix in options.prefixes() {
        let pods = pods_named(prefix);
        sent.rule(format!("{pods} iifname . ip saddr != @sources4 jump strict-from"))
            .rule(format!("{pods} iifname . ip6 saddr != @sources6 jump strict-from"));
        let pods = pods.replace("iifname", "oifname");
        forward
            .rule(format!("{pods} ip daddr != @targets4 jump strict-to"))
            .rule(format!("{pods} ip6 daddr != @targets6 jump strict-to"));
    }
}

/// What comes in by pods' links; a branch's own link is named `vlan.eth.…` and is no pod's.
fn pods_named(prefix: &str) -> String {
    match prefix {
        BRANCH_PREFIX => "iifname \"vlan*\" iifname != \"vlan.eth.*\"".to_owned(),
        prefix => format!("iifname {}", quote(&format!("{prefix}*"))),
    }
}

/// The rules of one PolicyEndpoint in a direction, and their sets.
fn rules(
    table: &mut Table,
    key: &Key,
    direction: Direction,
    grants: &[Grant],
    options: &Options,
) -> Vec<String> {
    let log = match options.log {
        Log::Everything => {
            format!("log prefix {} {LOG_TO} ", prefix("ACCEPT", direction, BY_POLICY))
        }
        Log::Nothing | Log::Denied => String::new(),
    };
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
            let rule = |ports: &String| format!("{family} {side} @{set} {ports}{log}return");
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

    fn table(endpoints: &BTreeMap<Key, PolicyEndpointSpec>) -> Table {
        compile(endpoints, &options(Mode::Standard, Log::Nothing)).table
    }

    fn options(mode: Mode, log: Log) -> Options {
        Options { mode, prefix: "eni".into(), has_strict_branches: false, log, node: None }
    }

    #[test]
    fn pods_under_the_same_policies_share_a_chain() {
        let pods = [pod("a", "10.0.0.1"), pod("b", "10.0.0.2")];
        let table = table(&web_from(&["10.0.0.9"], &pods));
        assert_eq!(table.chains.len(), 3 + 1);
        let ingress = &table.sets["ingress4"].elements;
        assert_eq!(ingress["10.0.0.1"], ingress["10.0.0.2"]);
        assert!(table.sets["egress4"].elements.is_empty());
    }

    #[test]
    fn a_peer_that_comes_is_an_element_more() {
        let pods = [pod("a", "10.0.0.1")];
        let old = table(&web_from(&["10.0.0.9"], &pods));
        let new = table(&web_from(&["10.0.0.9", "10.0.0.10"], &pods));
        let text = new.changes_from(&old).text().to_owned();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("add element inet aws-network-policy a-"), "{text}");
    }

    #[test]
    fn a_pod_that_is_isolated_without_rules_has_a_chain_that_drops() {
        let table = table(&web_from(&[], &[pod("a", "10.0.0.1")]));
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
    fn a_sender_is_known_by_its_link_and_its_address() {
        let mut endpoints = web_from(&[], &[pod("a", "10.0.0.1")]);
        endpoints.values_mut().for_each(|it| it.pod_isolation = vec!["Egress".into()]);
        endpoints.values_mut().for_each(|it| it.ingress.clear());
        let table = table(&endpoints);
        let link = host_link_name("eni", "x", "a");
        let keys: Vec<_> = table.sets["egress4"].elements.keys().collect();
        assert_eq!(keys, [&format!("\"{link}\" . 10.0.0.1")]);
        assert_eq!(table.sets["forged"].elements.len(), 1);
    }

    #[test]
    fn a_pod_that_may_have_a_branch_is_known_by_either_links_name() {
        let mut endpoints = web_from(&[], &[pod("a", "10.0.0.1")]);
        endpoints.values_mut().for_each(|it| it.pod_isolation = vec!["Egress".into()]);
        let options = Options { has_strict_branches: true, ..options(Mode::Strict, Log::Nothing) };
        let table = compile(&endpoints, &options).table;
        let names = ["eni", "vlan"].map(|prefix| host_link_name(prefix, "x", "a"));
        for name in &names {
            let key = format!("\"{name}\" . 10.0.0.1");
            for set in ["egress4", "sources4"] {
                assert!(table.sets[set].elements.contains_key(&key), "{set} {key}");
            }
        }
        let forward = table.chains["forward"].rules.join("\n");
        let shut = "oifname \"vlan*\" oifname != \"vlan.eth.*\" ip daddr != @targets4";
        assert!(forward.contains(shut), "{forward}");
    }

    #[test]
    fn pods_whose_names_begin_alike_have_rules_of_their_own() {
        let mut endpoints = web_from(&["10.0.0.9"], &[pod("job-1", "10.0.0.1")]);
        let mut second = web_from(&["10.0.0.8"], &[pod("job-11", "10.0.0.2")]);
        endpoints.insert(Key::new("x", "p-2"), second.pop_first().unwrap().1);
        endpoints.values_mut().for_each(|it| it.pod_isolation.push("Egress".into()));
        let table = table(&endpoints);
        let ingress = &table.sets["ingress4"].elements;
        assert_ne!(ingress["10.0.0.1"], ingress["10.0.0.2"]);
        assert_eq!(table.sets["egress4"].elements.len(), 2);
        assert_eq!(table.sets["forged"].elements.len(), 2);
    }

    #[test]
    fn chains_say_for_which_policies_they_drop() {
        let mut endpoints = web_from(&[], &[pod("a", "10.0.0.1"), pod("b", "10.0.0.2")]);
        let mut second = endpoints[&Key::new("x", "p-1")].clone();
        endpoints.values_mut().for_each(|it| it.policy_ref.name = "p".into());
        second.policy_ref.name = "q".into();
        second.pod_selector_endpoints.truncate(1);
        endpoints.insert(Key::new("x", "q-1"), second);
        let ruleset = compile(&endpoints, &options(Mode::Standard, Log::Nothing));
        let chain = |ip: &str| ruleset.table.sets["ingress4"].elements[ip].clone();
        let names = |ip: &str| -> Vec<String> {
            let dropping = &ruleset.drops[chain(ip).strip_prefix("jump ").unwrap()];
            assert_eq!(dropping.direction, Direction::Ingress);
            dropping.policies.iter().map(|it| it.name.clone()).collect()
        };
        assert_eq!(names("10.0.0.1"), ["p", "q"]);
        assert_eq!(names("10.0.0.2"), ["p"]);
    }

    #[test]
    fn what_is_logged_says_verdict_and_direction() {
        let rules = |log: Log| {
            let endpoints = web_from(&["10.0.0.9"], &[pod("a", "10.0.0.1")]);
            let ruleset = compile(&endpoints, &options(Mode::Standard, log));
            let (chain, _) = ruleset.drops.first_key_value().unwrap();
            ruleset.table.chains[chain].rules.join("\n")
        };
        assert!(!rules(Log::Nothing).contains("log"));
        let denied =
            "log prefix \"DENY ingress NETWORK_POLICY\" group 8162 snaplen 128 counter drop";
        assert!(rules(Log::Denied).ends_with(denied) && !rules(Log::Denied).contains("ACCEPT"));
        let accepted = "log prefix \"ACCEPT ingress NETWORK_POLICY\" group 8162 snaplen 128 return";
        assert!(rules(Log::Everything).contains(accepted), "{}", rules(Log::Everything));
        assert!(LOG_TO == format!("group {LOG_GROUP} snaplen {LOG_LEN}"));
    }

    #[test]
    fn strict_mode_drops_what_goes_over_unknown_links_of_pods() {
        let ruleset = compile(&BTreeMap::new(), &options(Mode::Strict, Log::Nothing));
        let rules = &ruleset.table.chains["from-pods"].rules;
        let wanted = "iifname \"eni*\" iifname . ip saddr != @sources4 jump strict-from";
        assert!(rules.iter().any(|it| it == wanted), "{rules:?}");
        assert!(ruleset.table.sets["sources4"].elements.is_empty());
        assert_eq!(ruleset.drops.len(), 2);
    }
}
