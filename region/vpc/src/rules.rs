//! The router's ruleset: source check, routes, security groups, network ACLs, and who may reach
//! the router's services.
//!
//! A packet meets base chains in this order: the source check and the routes before it is routed;
//! then the ACLs, the sender's groups and the receiver's, each a chain of its own on the same hook,
//! because an `accept` ends one chain only and the next one still decides. Each security group is
//! one pair of chains and each ENI a pair of chains of jumps, so a changed rule costs one chain and
//! a new ENI two small ones.

mod acl;
mod routes;
mod timeouts;

use std::net::Ipv4Addr;

use ipnet::IpNet;
use linux_nftables::{Chain, ChainKind, Hook, HookPoint, Set, Table, priority, quote};

pub(crate) use self::routes::mark_of;
use crate::{
    ENDPOINTS_V6, Eni, IMDS, IMDS_V6, Location, Peer, RESOLVER, RESOLVER_V6, Rule, SERVICES,
    SecurityGroup, VpcSpec, compile::link_name, version::Version,
};

/// The name of the router's table.
pub const TABLE: &str = "vpc";

const TRACKED: &str = "ct state established,related accept";

/// Neighbour discovery, which is between an interface and the router alone; what a router would say
/// comes from no interface.
const NEIGHBOURS: &str = "ip6 daddr { fe80::/10, ff02::/16 } icmpv6 type { nd-router-solicit, \
                          nd-neighbor-solicit, nd-neighbor-advert }";

/// The whole table of `spec` for IPv4: pure.
pub fn table(spec: &VpcSpec) -> Table {
    of_version(spec, Version::V4)
}

/// The table for IPv6, where the VPC has a block of it.
pub fn ipv6_table(spec: &VpcSpec) -> Option<Table> {
    (!spec.ipv6_cidrs.is_empty()).then(|| of_version(spec, Version::V6))
}

fn of_version(spec: &VpcSpec, version: Version) -> Table {
    let mut table = Table::new(version.family(), TABLE);
    base_chains(spec, version, &mut table);
    add_interfaces(spec, version, &mut table);
    routes::add(spec, version, &mut table);
    acl::add(spec, version, &mut table);
    timeouts::add(spec, &mut table);
    for (id, networks) in &spec.prefix_lists {
        let members = networks.iter().filter(|it| Version::of(it) == version).copied();
        let members = IpNet::aggregate(&members.collect());
        table.set(prefix_list(id), interval(version, members.iter().map(network)));
    }
    let members = spec.members(version);
    for group in spec.security_groups.values() {
        let own = members.get(group.id.as_str()).map(Vec::as_slice).unwrap_or_default();
        security_group(spec, version, group, own, &mut table);
    }
    table
}

fn add_interfaces(spec: &VpcSpec, version: Version, table: &mut Table) {
    let mut sources = Set::map("ifname", "verdict");
    let mut egress = Set::map("ifname", "verdict");
    let mut ingress = Set::map("ifname", "verdict");
    let mut endpoints = Set::map("ipv4_addr", "verdict");
    for eni in &spec.enis {
        let name = link_name(&eni.id);
        let link = quote(&name);
        table.chain(format!("{name}-ingress")).rules = jumps(spec, eni, "ingress");
        if eni.location == Location::Router && version == Version::V6 {
            continue;
        }
        if eni.location == Location::Router {
            endpoints.entry(eni.primary.to_string(), format!("jump {name}-ingress"));
            continue;
        }
        if eni.source_dest_check {
            table.chain(format!("{name}-source")).rules = source_check(eni, version);
            sources.entry(&link, format!("jump {name}-source"));
        }
        table.chain(format!("{name}-egress")).rules = jumps(spec, eni, "egress");
        egress.entry(&link, format!("jump {name}-egress"));
        ingress.entry(&link, format!("jump {name}-ingress"));
    }
    table.set("sources", sources);
    table.set("egress-of", egress);
    table.set("ingress-of", ingress);
    if version == Version::V6 {
        return;
    }
    table.set("endpoints", endpoints);
    for (address, sources) in &spec.public_endpoints {
        let mut allowed = Set::of("ifname");
        for eni in spec.enis.iter().filter(|eni| spec.is_let_in(eni, *address, sources)) {
            allowed.member(quote(&link_name(&eni.id)));
        }
        table.set(public_endpoint(*address), allowed);
    }
}

fn base_chains(spec: &VpcSpec, version: Version, table: &mut Table) {
    let hook = |point, priority| Hook::new(ChainKind::Filter, point, priority);
    let filter = priority::FILTER;
    let mut add = |name: &str, hook: Hook, rules: Vec<String>| {
        let mut chain = Chain::hooked(hook);
        chain.rules = rules;
        table.chains.insert(name.to_owned(), chain);
    };
    let texts = |rules: &[&str]| -> Vec<String> { rules.iter().map(|&it| it.to_owned()).collect() };
    add(
        "source-check",
        hook(HookPoint::Prerouting, priority::RAW),
        asleep(spec, "iifname")
            .into_iter()
            .chain(match version {
                Version::V4 => texts(&["iifname vmap @sources"]),
                Version::V6 => texts(&[&format!("{NEIGHBOURS} return"), "iifname vmap @sources"]),
            })
            .collect(),
    );
    add(
        "egress",
        hook(HookPoint::Forward, filter).dropping(),
        texts(&[TRACKED, "iifname vmap @egress-of"]),
    );
    add(
        "ingress",
        hook(HookPoint::Forward, filter + 10).dropping(),
        asleep(spec, "oifname")
            .into_iter()
            .chain(texts(&[TRACKED, "oifname vmap @ingress-of"]))
            .collect(),
    );
    let to_services = hook(HookPoint::Input, filter).dropping();
    if version == Version::V6 {
        return add("services", to_services, ipv6_services());
    }
    add("services", to_services, services(spec));
    // After the sender's egress rules, those of the interface endpoint that it comes to.
    add("to-endpoints", hook(HookPoint::Input, filter + 10), to_endpoints(spec));
}

/// Of an instance that hibernates nothing is heard and nothing gets there, whatever was begun before.
fn asleep(spec: &VpcSpec, side: &str) -> Option<String> {
    let asleep = spec.enis.iter().filter(|it| it.is_asleep);
    let names: Vec<String> = asleep.map(|it| quote(&link_name(&it.id))).collect();
    (!names.is_empty()).then(|| format!("{side} {{ {} }} drop", names.join(", ")))
}

/// What security groups and network ACLs never filter.
pub(crate) fn unfiltered(spec: &VpcSpec) -> impl Iterator<Item = Ipv4Addr> {
    [IMDS, RESOLVER].into_iter().chain(spec.resolver())
}

/// The same for IPv6, with what is for a link itself, as sets of nft.
pub(crate) fn unfiltered_v6() -> String {
    format!("fe80::/10, ff02::/16, {RESOLVER_V6}, {IMDS_V6}")
}

fn ipv6_services() -> Vec<String> {
    vec![
        "iifname \"lo\" accept".to_owned(),
        TRACKED.to_owned(),
        format!("{NEIGHBOURS} accept"),
        format!("ip6 daddr {IMDS_V6} tcp dport 80 accept"),
        format!("ip6 daddr {RESOLVER_V6} udp dport 53 accept"),
        format!("ip6 daddr {RESOLVER_V6} tcp dport 53 accept"),
        format!("ip6 daddr {ENDPOINTS_V6} iifname vmap @egress-of"),
    ]
}

/// AWS's endpoints take a route and a rule.
fn services(spec: &VpcSpec) -> Vec<String> {
    let mut rules = vec![
        "iifname \"lo\" accept".to_owned(),
        TRACKED.to_owned(),
        format!("ip daddr {IMDS} tcp dport 80 accept"),
    ];
    for resolver in [Some(RESOLVER), spec.resolver()].into_iter().flatten() {
        rules.push(format!("ip daddr {resolver} udp dport 53 accept"));
        rules.push(format!("ip daddr {resolver} tcp dport 53 accept"));
    }
    rules.push(format!("ip daddr {{ {} }} iifname vmap @egress-of", list(SERVICES)));
    if let Some(endpoints) = endpoints(spec) {
        rules.push(format!("ip daddr {{ {endpoints} }} iifname vmap @egress-of"));
    }
    for address in spec.public_endpoints.keys() {
        let set = public_endpoint(*address);
        rules.push(format!("ip daddr {address} iifname @{set} iifname vmap @egress-of"));
    }
    rules
}

fn to_endpoints(spec: &VpcSpec) -> Vec<String> {
    let Some(endpoints) = endpoints(spec) else { return Vec::new() };
    vec![
        TRACKED.to_owned(),
        "ip daddr vmap @endpoints".to_owned(),
        format!("ip daddr {{ {endpoints} }} drop"),
    ]
}

/// The addresses of the VPC's interface endpoints, if it has any.
fn endpoints(spec: &VpcSpec) -> Option<String> {
    let all = list(spec.endpoints().map(|it| it.primary));
    (!all.is_empty()).then_some(all)
}

pub(crate) fn list(addresses: impl IntoIterator<Item = Ipv4Addr>) -> String {
    let texts: Vec<String> = addresses.into_iter().map(|it| it.to_string()).collect();
    texts.join(", ")
}

/// The set of those whom a cluster's public endpoint lets in.
fn public_endpoint(address: Ipv4Addr) -> String {
    format!("reaches-{}", address.to_string().replace('.', "-"))
}

fn prefix_list(id: &str) -> String {
    format!("{id}-networks")
}

fn interval(version: Version, elements: impl Iterator<Item = String>) -> Set {
    let mut set = Set::of(version.address()).flag("interval");
    for element in elements {
        set.member(element);
    }
    set
}

fn source_check(eni: &Eni, version: Version) -> Vec<String> {
    let owned = IpNet::aggregate(&eni.owned(version));
    let owned: Vec<String> = owned.iter().map(network).collect();
    let header = version.header();
    let allowed = format!("{header} saddr {{ {} }} return", owned.join(", "));
    let allowed = (!owned.is_empty()).then_some(allowed);
    allowed.into_iter().chain(["drop".to_owned()]).collect()
}

fn jumps(spec: &VpcSpec, eni: &Eni, direction: &str) -> Vec<String> {
    let known = eni.security_groups.iter().filter(|id| spec.security_groups.contains_key(*id));
    known.map(|id| format!("jump {id}-{direction}")).collect()
}

fn security_group(
    spec: &VpcSpec,
    version: Version,
    group: &SecurityGroup,
    members: &[IpNet],
    table: &mut Table,
) {
    let id = &group.id;
    table.set(format!("{id}-members"), interval(version, members.iter().map(network)));
    let rules = |rules: &[Rule], side: &str| -> Vec<String> {
        let mut texts: Vec<_> =
            rules.iter().filter_map(|it| rule(spec, version, it, side)).collect();
        texts.sort();
        texts.dedup();
        texts
    };
    table.chain(format!("{id}-ingress")).rules = rules(&group.ingress, "saddr");
    table.chain(format!("{id}-egress")).rules = rules(&group.egress, "daddr");
}

/// `None` for a rule that refers to what is gone, or to the other version: nothing matches it.
fn rule(spec: &VpcSpec, version: Version, rule: &Rule, side: &str) -> Option<String> {
    if !rule.traffic.is_of(version) {
        return None;
    }
    let header = version.header();
    let peer = match &rule.peer {
        Peer::Cidr(cidr) if Version::of(cidr) != version => return None,
        Peer::Cidr(cidr) if cidr.prefix_len() == 0 => String::new(),
        Peer::Cidr(cidr) => format!("{header} {side} {} ", network(&cidr.trunc())),
        Peer::Group(id) if spec.security_groups.contains_key(id) => {
            format!("{header} {side} @{id}-members ")
        }
        Peer::PrefixList(id) if spec.prefix_lists.contains_key(id) => {
            format!("{header} {side} @{} ", prefix_list(id))
        }
        Peer::Group(_) | Peer::PrefixList(_) => return None,
    };
    Some(format!("{peer}{}accept", rule.traffic.expression()))
}

/// nft prints and compares a single address without its prefix length.
pub(crate) fn network(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Traffic, spec::samples};

    #[test]
    fn a_group_is_a_chain_and_its_reference_a_set_of_addresses() {
        let table = table(&samples::vpc());
        assert_eq!(
            table.chains["sg-web-ingress"].rules,
            ["ip saddr @sg-client-members tcp dport 80 accept"]
        );
        assert_eq!(table.chains["sg-web-egress"].rules, ["accept"]);
        let members: Vec<_> = table.sets["sg-client-members"].elements.keys().collect();
        assert_eq!(members, ["192.168.0.13"]);
    }

    #[test]
    fn an_interface_may_send_only_from_what_it_owns() {
        let mut spec = samples::vpc();
        spec.enis[0].prefixes.insert("192.168.1.16/28".parse().unwrap());
        spec.enis[1].source_dest_check = false;
        let table = table(&spec);
        assert_eq!(
            table.chains["eni000000000001-source"].rules,
            ["ip saddr { 192.168.0.11, 192.168.1.16/28 } return", "drop"]
        );
        assert!(!table.chains.contains_key("eni000000000002-source"));
        assert_eq!(table.sets["sources"].elements.len(), 2);
    }

    #[test]
    fn ipv6_has_a_table_of_its_own_where_the_vpc_has_a_block() {
        let mut spec = samples::vpc();
        assert!(ipv6_table(&spec).is_none());
        spec.ipv6_cidrs = vec!["2001:db8:0:100::/56".parse().unwrap()];
        spec.enis[2].ipv6_addresses = vec!["2001:db8:0:100::13".parse().unwrap()];
        spec.enis[2].ipv6_prefixes.insert("2001:db8:0:100:1::/80".parse().unwrap());
        let ping = Traffic::Icmpv6 { kind: Some(128), code: None };
        let from: IpNet = "2001:db8:0:100::/64".parse().unwrap();
        let web = spec.security_groups.get_mut("sg-web").unwrap();
        web.ingress.push(Rule::new(ping, Peer::Cidr(from)));
        let table = ipv6_table(&spec).unwrap();
        assert_eq!(
            table.chains["sg-web-ingress"].rules,
            [
                "ip6 saddr 2001:db8:0:100::/64 icmpv6 type 128 accept",
                "ip6 saddr @sg-client-members tcp dport 80 accept"
            ]
        );
        assert!(table.chains["sg-web-egress"].rules.is_empty(), "0.0.0.0/0 is IPv4's");
        let members: Vec<_> = table.sets["sg-client-members"].elements.keys().collect();
        assert_eq!(members, ["2001:db8:0:100:1::/80", "2001:db8:0:100::13"]);
        assert_eq!(table.chains["eni000000000001-source"].rules, ["drop"], "it owns none");
        assert_eq!(
            table.chains["routes-rtb-public"].rules,
            ["ip6 daddr 2001:db8:0:100::/56 accept", "drop"]
        );
        assert_eq!(super::table(&spec).chains["sg-web-ingress"].rules.len(), 1, "as before");
    }

    #[test]
    fn a_reference_to_a_group_that_is_gone_matches_nothing() {
        let mut spec = samples::vpc();
        spec.security_groups.remove("sg-client");
        let table = table(&spec);
        assert!(table.chains["sg-web-ingress"].rules.is_empty());
        assert!(table.chains["eni000000000003-egress"].rules.is_empty());
    }

    #[test]
    fn a_changed_rule_is_a_change_of_its_chain_alone() {
        let before = samples::vpc();
        let mut after = before.clone();
        let web = after.security_groups.get_mut("sg-web").unwrap();
        web.ingress[0].traffic = Traffic::tcp(8080, 8081);
        let change = table(&after).changes_from(&table(&before));
        assert_eq!(
            change.text(),
            "flush chain ip vpc sg-web-ingress\nadd rule ip vpc sg-web-ingress ip saddr \
             @sg-client-members tcp dport 8080-8081 accept\n"
        );
    }
}
