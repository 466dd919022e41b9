//! The node's side of the pod network: interfaces, policy routing, SNAT.
//!
//! Compiled, not edited: [`table`] gives the whole nftables table for what is known now, and
//! [`rules`] the policy rules; both are put in place again whenever IMDS says something new.
//!
//! - What a pod sends to an address outside of the VPC leaves by the primary interface with its
//!   address (SNAT), whatever interface the pod's address belongs to: it is marked, and the rule
//!   at 1024 sends what is marked to the main table.
//! - What came to a node port by the primary interface goes back by it: the connection is marked
//!   when it comes in and the mark restored on the pod's answers.
//!
//! **Invariant:** priorities, mark and names are upstream's. Upstream: `pkg/networkutils`.
//! Deviation: no iptables rules; the table is `ip aws-cni` on every host.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use linux_netlink::{
    LinkChange, Mac, Netlink, OpenError, ParseMacError, RequestError, Route, Rule, Scope,
    TABLE_LOCAL, TABLE_MAIN,
};
use linux_nftables::{Chain, ChainKind, Family, Hook, HookPoint, Set, Table, priority, quote};

use crate::{datastore::AttachedEni, ipamd::ipv6::EGRESS};

/// On connections and packets that have to use the primary interface.
pub const MARK: u32 = 0x80;
pub const TABLE: &str = "aws-cni";
/// After kube-proxy's DNAT: a Service's address is not a destination.
const AFTER_DNAT: i32 = priority::DSTNAT + 10;

const TO_POD: u32 = 512;
const MARKED: u32 = 1024;
const EXTERNAL_SERVICES: u32 = 1535;
const FROM_POD: u32 = 1536;
const FROM_ENI: u32 = 32765;
/// Where the kernel has the rule of local addresses, and where it is for branches' sake.
const LOCAL: u32 = 0;
const LOCAL_AFTER_BRANCHES: u32 = 20;
const NEAR: Ipv6Net = Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
/// What a branch's router answers to its link is for the link, and no packet of the pod's.
const LINK_LOCAL: u32 = 5;
/// Tables of branches: 100 and the VLAN's id.
const BRANCH_TABLES: std::ops::RangeInclusive<u32> = 101..=220;

/// What the node's rules depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNetwork {
    /// The primary interface's link.
    pub primary_link: String,
    pub primary_address: Ipv4Addr,
    pub vpc_cidrs: Vec<Ipv4Net>,
    pub exclude_snat_cidrs: Vec<Ipv4Net>,
    pub external_service_cidrs: Vec<Ipv4Net>,
    pub is_external_snat: bool,
    /// `prng`, `hashrandom`, `none`
    pub randomize_snat: String,
    pub veth_prefix: String,
    /// Pods have IPv6 addresses, and IPv4 ones for this node alone.
    pub is_ipv6: bool,
    /// Pods may have branches that see all of their packets.
    pub has_strict_branches: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("failed to reach the kernel")]
    Open {
        #[source]
        source: OpenError,
    },
    #[error("the kernel refused a change of the node's network")]
    Request {
        #[source]
        source: RequestError,
    },
    #[error("interface `{eni}` has a hardware address that cannot be read")]
    Mac {
        eni: String,
        #[source]
        source: ParseMacError,
    },
    #[error("the link of `{eni}` (`{mac}`) did not appear")]
    NoLink { eni: String, mac: String },
}

impl From<OpenError> for NetworkError {
    fn from(source: OpenError) -> Self {
        Self::Open { source }
    }
}

fn refused(source: RequestError) -> NetworkError {
    NetworkError::Request { source }
}

/// The rules of the node itself.
pub fn rules(node: &NodeNetwork) -> Vec<Rule> {
    let mut rules = vec![Rule::new(MARKED, TABLE_MAIN).mark(MARK, MARK)];
    let services = node.external_service_cidrs.iter();
    rules.extend(services.map(|cidr| Rule::new(EXTERNAL_SERVICES, TABLE_MAIN).to((*cidr).into())));
    rules
}

/// The rules that a pod's address needs.
pub fn pod_rules(address: IpAddr, table: u32) -> Vec<Rule> {
    let ip = address.into();
    let mut rules = vec![Rule::new(TO_POD, TABLE_MAIN).to(ip)];
    if table != TABLE_MAIN {
        rules.push(Rule::new(FROM_POD, table).from(ip));
    }
    rules
}

/// Adds those of `wanted` that are not there.
pub fn add_pod_rules(netlink: &Netlink, wanted: &[Rule]) -> Result<(), NetworkError> {
    let there = netlink.rules().map_err(refused)?;
    let missing = wanted.iter().filter(|rule| !there.contains(rule));
    missing.into_iter().try_for_each(|rule| netlink.add_rule(rule)).map_err(refused)
}

/// Removes rules of pods that are none of `wanted`. Those of branches are nobody's here: the plug-in
/// that made them takes them away.
pub fn remove_other_pod_rules(netlink: &Netlink, wanted: &[Rule]) -> Result<(), NetworkError> {
    let rules = netlink.rules().map_err(refused)?;
    let of_branches: Vec<_> = rules
        .iter()
        .filter(|it| it.priority == FROM_POD && BRANCH_TABLES.contains(&it.table))
        .filter_map(|it| it.from)
        .collect();
    for rule in rules {
        let is_of_pod = !rule.is_ipv6 && matches!(rule.priority, TO_POD | FROM_POD);
        let is_of_branch =
            rule.from.or(rule.to).is_some_and(|address| of_branches.contains(&address));
        if is_of_pod && !is_of_branch && !wanted.contains(&rule) {
            netlink.delete_rule(&rule).map_err(refused)?;
        }
    }
    Ok(())
}

/// The whole nftables table.
pub fn table(node: &NodeNetwork) -> Table {
    let mut table = Table::new(Family::Ip, TABLE);
    if node.is_ipv6 {
        egress(node, &mut table);
        return table;
    }
    let pods = quote(&format!("{}*", node.veth_prefix));
    node_ports(node, &pods, &mut table);
    if node.is_external_snat {
        // Somebody else's NAT.
        return table;
    }
    let inside = table.set("inside", Set::of("ipv4_addr").flag("interval"));
    for cidr in merged(node.vpc_cidrs.iter().chain(&node.exclude_snat_cidrs)) {
        inside.member(cidr.to_string());
    }
    let hook = |kind, point, priority| Chain::hooked(Hook::new(kind, point, priority));
    let outside = format!(
        "iifname {pods} ct state new ip daddr != @inside fib daddr type != local \
         ct mark set ct mark or {MARK:#x}"
    );
    // Before the packet is marked by its connection.
    table.chain("snat-mark").rules.insert(0, outside);
    table.chains.insert(
        "nat-postrouting".into(),
        hook(ChainKind::Nat, HookPoint::Postrouting, priority::SRCNAT),
    );
    let random = random(&node.randomize_snat);
    table
        .chain("nat-postrouting")
        .rule("ip daddr @inside return")
        .rule("oifname \"lo\" return")
        .rule("oifname \"vlan*\" return")
        .rule(format!("fib daddr type != local snat to {}{random}", node.primary_address));
    table
}

/// What came to a node port by the primary interface goes back by it, whoever translates what pods send:
/// pods of other interfaces would answer by theirs.
fn node_ports(node: &NodeNetwork, pods: &str, table: &mut Table) {
    let hook =
        |priority| Chain::hooked(Hook::new(ChainKind::Filter, HookPoint::Prerouting, priority));
    let primary = quote(&node.primary_link);
    table.chains.insert("mangle-prerouting".into(), hook(priority::MANGLE));
    table.chain("mangle-prerouting").rule(format!(
        "iifname {primary} fib daddr . iif type local ct mark set ct mark or {MARK:#x}"
    ));
    table.chains.insert("snat-mark".into(), hook(AFTER_DNAT));
    table.chain("snat-mark").rule(format!(
        "iifname {pods} ct mark and {MARK:#x} == {MARK:#x} meta mark set meta mark or {MARK:#x}"
    ));
}

/// What pods of an IPv6 node send to IPv4 leaves with the node's address, and nobody begins anything
/// with them by IPv4.
fn egress(node: &NodeNetwork, table: &mut Table) {
    let hook = |kind, point, priority| Chain::hooked(Hook::new(kind, point, priority));
    let nat = hook(ChainKind::Nat, HookPoint::Postrouting, priority::SRCNAT);
    table.chains.insert("nat-postrouting".into(), nat);
    let (primary, address) = (quote(&node.primary_link), node.primary_address);
    let random = random(&node.randomize_snat);
    table.chain("nat-postrouting").rule(format!(
        "ip saddr {EGRESS} ip daddr != 224.0.0.0/4 oifname {primary} snat to {address}{random}"
    ));
    let forward = hook(ChainKind::Filter, HookPoint::Forward, priority::FILTER);
    table.chains.insert("forward".into(), forward);
    table.chain("forward").rule(format!("ct state new ip daddr {EGRESS} reject"));
}

fn random(how: &str) -> &'static str {
    match how {
        "none" => "",
        "hashrandom" => " random",
        _ => " fully-random",
    }
}

/// Networks without those that another one contains: nft refuses overlapping intervals.
fn merged<'a>(cidrs: impl Iterator<Item = &'a Ipv4Net>) -> Vec<Ipv4Net> {
    Ipv4Net::aggregate(&cidrs.map(Ipv4Net::trunc).collect())
}

/// Puts the node's rules in place and removes earlier ones of the same priorities.
pub fn ensure_rules(netlink: &Netlink, node: &NodeNetwork) -> Result<(), NetworkError> {
    place_local_rule(netlink, node.has_strict_branches, false)?;
    if node.is_ipv6 {
        place_local_rule(netlink, node.has_strict_branches, true)?;
    }
    let wanted = rules(node);
    for stale in netlink.rules().map_err(refused)? {
        let is_ours = !stale.is_ipv6 && matches!(stale.priority, MARKED | EXTERNAL_SERVICES);
        if is_ours && !wanted.contains(&stale) {
            netlink.delete_rule(&stale).map_err(refused)?;
        }
    }
    wanted.iter().try_for_each(|rule| netlink.add_rule(rule).map_err(refused))
}

/// What comes in by a branch's link or its pod's is routed before the node's own addresses are looked
/// at, where branches see everything: the rule of local addresses goes behind theirs.
fn place_local_rule(
    netlink: &Netlink,
    is_after_branches: bool,
    is_ipv6: bool,
) -> Result<(), NetworkError> {
    let (wanted, other) = match is_after_branches {
        true => (LOCAL_AFTER_BRANCHES, LOCAL),
        false => (LOCAL, LOCAL_AFTER_BRANCHES),
    };
    let there = netlink.rules().map_err(refused)?;
    if is_ipv6 {
        let near = Rule::new(LINK_LOCAL, TABLE_LOCAL).to(IpNet::V6(NEAR));
        match is_after_branches {
            true => netlink.add_rule(&near).map_err(refused)?,
            false => netlink.delete_rule(&near).map_err(refused)?,
        }
    }
    let at = |priority: u32| Rule { is_ipv6, ..Rule::new(priority, TABLE_LOCAL) };
    if !there.contains(&at(wanted)) {
        netlink.add_rule(&at(wanted)).map_err(refused)?;
    }
    // The kernel takes priority 0 for any: it is asked for what is there only.
    if there.contains(&at(other)) {
        netlink.delete_rule(&at(other)).map_err(refused)?;
    }
    Ok(())
}

/// The link with this hardware address.
pub fn link_of(netlink: &Netlink, eni: &str, mac: &str) -> Result<(u32, String), NetworkError> {
    let parsed: Mac =
        mac.parse().map_err(|source| NetworkError::Mac { eni: eni.to_owned(), source })?;
    let link = netlink.link_by_mac(parsed).map_err(refused)?;
    let link =
        link.ok_or_else(|| NetworkError::NoLink { eni: eni.to_owned(), mac: mac.to_owned() })?;
    Ok((link.index, link.name))
}

/// Sets a secondary interface up: its address, its own table of routes and the rule that what is
/// sent from its address uses it.
pub fn set_up_eni(netlink: &Netlink, eni: &AttachedEni, mtu: u32) -> Result<(), NetworkError> {
    let (index, _) = link_of(netlink, &eni.id, &eni.mac)?;
    let change = LinkChange { mtu: Some(mtu), is_up: Some(true), ..LinkChange::default() };
    netlink.change_link(index, &change).map_err(refused)?;
    let address = IpAddr::V4(eni.primary_address);
    let net = Ipv4Net::new(eni.primary_address, eni.subnet_cidr.prefix_len())
        .unwrap_or_else(|_| eni.primary_address.into());
    let addresses = netlink.addresses().map_err(refused)?;
    for stale in addresses.iter().filter(|it| it.index == index && it.net.addr().is_ipv4()) {
        if stale.net != net.into() {
            netlink.delete_address(index, stale.net).map_err(refused)?;
        }
    }
    netlink.add_address(index, net.into()).map_err(refused)?;
    let table = eni.route_table();
    let gateway = IpAddr::V4(eni.gateway());
    let routes = [
        Route::to_host(gateway).device(index).scope(Scope::Link).table(table),
        Route::default_via(gateway).device(index).table(table),
    ];
    routes.iter().try_for_each(|route| netlink.add_route(route)).map_err(refused)?;
    // The subnet is reached by the primary interface; the kernel's own route by this one would
    // compete with it.
    let connected = Route::to(eni.subnet_cidr.into()).device(index);
    netlink.delete_route(&connected).map_err(refused)?;
    netlink.add_rule(&Rule::new(FROM_ENI, table).from(address.into())).map_err(refused)
}

/// Removes what [`set_up_eni`] made and a detached link does not take along.
pub fn tear_down_eni(netlink: &Netlink, eni: &AttachedEni) -> Result<(), NetworkError> {
    let table = eni.route_table();
    for rule in netlink.rules().map_err(refused)? {
        if matches!(rule.priority, FROM_ENI | FROM_POD) && rule.table == table {
            netlink.delete_rule(&rule).map_err(refused)?;
        }
    }
    Ok(())
}

/// How long to wait for a link after its interface was attached.
pub const LINK_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeNetwork {
        NodeNetwork {
            primary_link: "eth0".into(),
            primary_address: Ipv4Addr::new(192, 168, 0, 10),
            vpc_cidrs: vec!["192.168.0.0/16".parse().unwrap()],
            exclude_snat_cidrs: vec!["192.168.3.0/24".parse().unwrap()],
            external_service_cidrs: vec!["203.0.113.0/24".parse().unwrap()],
            is_external_snat: false,
            randomize_snat: "prng".into(),
            veth_prefix: "eni".into(),
            is_ipv6: false,
            has_strict_branches: false,
        }
    }

    #[test]
    fn a_cidr_inside_another_is_listed_once() {
        let table = table(&node());
        let members: Vec<_> = table.sets["inside"].elements.keys().collect();
        assert_eq!(members, ["192.168.0.0/16"]);
    }

    #[test]
    fn pods_of_an_ipv6_node_reach_ipv4_and_are_not_reached_by_it() {
        let table = table(&NodeNetwork { is_ipv6: true, ..node() });
        assert_eq!(
            table.chains["nat-postrouting"].rules,
            ["ip saddr 169.254.172.0/22 ip daddr != 224.0.0.0/4 oifname \"eth0\" snat to \
              192.168.0.10 fully-random"]
        );
        assert_eq!(
            table.chains["forward"].rules,
            ["ct state new ip daddr 169.254.172.0/22 reject"]
        );
    }

    #[test]
    fn external_snat_leaves_the_way_back_of_node_ports_alone() {
        let node = NodeNetwork { is_external_snat: true, ..node() };
        let table = table(&node);
        assert_eq!(table.chains.keys().collect::<Vec<_>>(), ["mangle-prerouting", "snat-mark"]);
        assert_eq!(table.chains["snat-mark"].rules.len(), 1);
        let priorities: Vec<_> = rules(&node).iter().map(|it| it.priority).collect();
        assert_eq!(priorities, [MARKED, 1535]);
    }

    #[test]
    fn only_pods_of_secondary_interfaces_get_a_rule_of_their_own_table() {
        let address = Ipv4Addr::new(192, 168, 0, 20);
        let priorities = |table| {
            pod_rules(address.into(), table)
                .into_iter()
                .map(|rule| rule.priority)
                .collect::<Vec<_>>()
        };
        assert_eq!(priorities(TABLE_MAIN), [512]);
        assert_eq!(priorities(2), [512, 1536]);
    }
}
