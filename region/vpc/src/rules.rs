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

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use linux_nftables::{Chain, ChainKind, Family, Hook, HookPoint, Set, Table, priority, quote};

pub(crate) use self::routes::mark_of;
use crate::{
    Eni, IMDS, Location, Peer, RESOLVER, Rule, SERVICES, SecurityGroup, VpcSpec, compile::link_name,
};

/// The name of the router's table.
pub const TABLE: &str = "vpc";

const TRACKED: &str = "ct state established,related accept";

/// The whole table of `spec`: pure.
pub fn table(spec: &VpcSpec) -> Table {
    let mut table = Table::new(Family::Ip, TABLE);
    base_chains(spec, &mut table);
    let mut sources = Set::map("ifname", "verdict");
    let mut egress = Set::map("ifname", "verdict");
    let mut ingress = Set::map("ifname", "verdict");
    let mut endpoints = Set::map("ipv4_addr", "verdict");
    for eni in &spec.enis {
        let name = link_name(&eni.id);
        let link = quote(&name);
        table.chain(format!("{name}-ingress")).rules = jumps(spec, eni, "ingress");
        if eni.location == Location::Router {
            endpoints.entry(eni.primary.to_string(), format!("jump {name}-ingress"));
            continue;
        }
        if eni.source_dest_check {
            table.chain(format!("{name}-source")).rules = source_check(eni);
            sources.entry(&link, format!("jump {name}-source"));
        }
        table.chain(format!("{name}-egress")).rules = jumps(spec, eni, "egress");
        egress.entry(&link, format!("jump {name}-egress"));
        ingress.entry(&link, format!("jump {name}-ingress"));
    }
    table.set("sources", sources);
    table.set("egress-of", egress);
    table.set("ingress-of", ingress);
    table.set("endpoints", endpoints);
    for (address, sources) in &spec.public_endpoints {
        let mut allowed = Set::of("ifname");
        for eni in spec.enis.iter().filter(|eni| spec.is_let_in(eni, *address, sources)) {
            allowed.member(quote(&link_name(&eni.id)));
        }
        table.set(public_endpoint(*address), allowed);
    }
    routes::add(spec, &mut table);
    acl::add(spec, &mut table);
    for (id, networks) in &spec.prefix_lists {
        let members = Ipv4Net::aggregate(networks);
        table.set(prefix_list(id), interval(members.iter().map(network)));
    }
    let members = spec.members();
    for group in spec.security_groups.values() {
        let own = members.get(group.id.as_str()).map(Vec::as_slice).unwrap_or_default();
        security_group(spec, group, own, &mut table);
    }
    table
}

fn base_chains(spec: &VpcSpec, table: &mut Table) {
    let hook = |point, priority| Hook::new(ChainKind::Filter, point, priority);
    let filter = priority::FILTER;
    let mut add = |name: &str, hook: Hook, rules: Vec<String>| {
        let mut chain = Chain::hooked(hook);
        chain.rules = rules;
        table.chains.insert(name.to_owned(), chain);
    };
    let texts = |rules: &[&str]| rules.iter().map(|&it| it.to_owned()).collect();
    add(
        "source-check",
        hook(HookPoint::Prerouting, priority::RAW),
        texts(&["iifname vmap @sources"]),
    );
    add(
        "egress",
        hook(HookPoint::Forward, filter).dropping(),
        texts(&[TRACKED, "iifname vmap @egress-of"]),
    );
    add(
        "ingress",
        hook(HookPoint::Forward, filter + 10).dropping(),
        texts(&[TRACKED, "oifname vmap @ingress-of"]),
    );
    add("services", hook(HookPoint::Input, filter).dropping(), services(spec));
    // After the sender's egress rules, those of the interface endpoint that it comes to.
    add("to-endpoints", hook(HookPoint::Input, filter + 10), to_endpoints(spec));
}

/// What security groups and network ACLs never filter.
pub(crate) fn unfiltered(spec: &VpcSpec) -> impl Iterator<Item = Ipv4Addr> {
    [IMDS, RESOLVER].into_iter().chain(spec.resolver())
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

fn interval(elements: impl Iterator<Item = String>) -> Set {
    let mut set = Set::of("ipv4_addr").flag("interval");
    for element in elements {
        set.member(element);
    }
    set
}

fn source_check(eni: &Eni) -> Vec<String> {
    let owned: Vec<Ipv4Net> = eni.networks().collect();
    let owned: Vec<String> = Ipv4Net::aggregate(&owned).iter().map(network).collect();
    vec![format!("ip saddr {{ {} }} return", owned.join(", ")), "drop".to_owned()]
}

fn jumps(spec: &VpcSpec, eni: &Eni, direction: &str) -> Vec<String> {
    let known = eni.security_groups.iter().filter(|id| spec.security_groups.contains_key(*id));
    known.map(|id| format!("jump {id}-{direction}")).collect()
}

fn security_group(spec: &VpcSpec, group: &SecurityGroup, members: &[Ipv4Net], table: &mut Table) {
    let id = &group.id;
    table.set(format!("{id}-members"), interval(members.iter().map(network)));
    let rules = |rules: &[Rule], side: &str| -> Vec<String> {
        let mut texts: Vec<_> = rules.iter().filter_map(|it| rule(spec, it, side)).collect();
        texts.sort();
        texts.dedup();
        texts
    };
    table.chain(format!("{id}-ingress")).rules = rules(&group.ingress, "saddr");
    table.chain(format!("{id}-egress")).rules = rules(&group.egress, "daddr");
}

/// `None` for a rule that refers to what is gone: nothing matches it.
fn rule(spec: &VpcSpec, rule: &Rule, side: &str) -> Option<String> {
    let peer = match &rule.peer {
        Peer::Cidr(cidr) if cidr.prefix_len() == 0 => String::new(),
        Peer::Cidr(cidr) => format!("ip {side} {} ", network(&cidr.trunc())),
        Peer::Group(id) if spec.security_groups.contains_key(id) => {
            format!("ip {side} @{id}-members ")
        }
        Peer::PrefixList(id) if spec.prefix_lists.contains_key(id) => {
            format!("ip {side} @{} ", prefix_list(id))
        }
        Peer::Group(_) | Peer::PrefixList(_) => return None,
    };
    Some(format!("{peer}{}accept", rule.traffic.expression()))
}

/// nft prints and compares a single address without its prefix length.
pub(crate) fn network(network: &Ipv4Net) -> String {
    if network.prefix_len() == 32 { network.addr().to_string() } else { network.to_string() }
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
