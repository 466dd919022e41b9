//! Network ACLs as chains, for subnets whose ACL filters at all.
//!
//! What stays inside of a subnet is known by the links on both sides; where one side is the router
//! itself (its services, interface endpoints) by the address.

use linux_nftables::{Chain, ChainKind, Hook, HookPoint, Set, Table, priority, quote};

use super::{list, unfiltered, unfiltered_v6};
use crate::{Eni, Location, VpcSpec, compile::link_name, network_acl, version::Version};

/// Before the security groups, though nothing depends on the order.
const PRIORITY: i32 = priority::FILTER - 20;

/// The maps that lead packets to the chains of subnets.
struct Maps {
    /// By the link that it comes from: forwarded, and to the router.
    out: Set,
    out_to_router: Set,
    /// By the link that it goes to: forwarded, and from the router.
    into: Set,
    into_from_router: Set,
    /// By the address of an interface endpoint.
    endpoint_into: Set,
    endpoint_out: Set,
}

/// Adds the chains, and the maps that lead packets to them.
pub(super) fn add(spec: &VpcSpec, version: Version, table: &mut Table) {
    let by_link = || Set::map("ifname", "verdict");
    let by_address = || Set::map(version.address(), "verdict");
    let mut maps = Maps {
        out: by_link(),
        out_to_router: by_link(),
        into: by_link(),
        into_from_router: by_link(),
        endpoint_into: by_address(),
        endpoint_out: by_address(),
    };
    for subnet in spec.subnets.keys() {
        add_subnet(spec, version, subnet, table, &mut maps);
    }
    base_chains(spec, version, table);
    table.set("acl-out", maps.out);
    table.set("acl-out-to-router", maps.out_to_router);
    table.set("acl-into", maps.into);
    table.set("acl-into-from-router", maps.into_from_router);
    if version == Version::V6 {
        return;
    }
    table.set("acl-endpoint-into", maps.endpoint_into);
    table.set("acl-endpoint-out", maps.endpoint_out);
}

/// Interface endpoints are IPv4's.
fn base_chains(spec: &VpcSpec, version: Version, table: &mut Table) {
    let (header, never) = match version {
        Version::V4 => ("ip", list(unfiltered(spec))),
        Version::V6 => ("ip6", unfiltered_v6()),
    };
    let mut add = |name: &str, point, rules: [&str; 3]| {
        let mut chain = Chain::hooked(Hook::new(ChainKind::Filter, point, PRIORITY));
        let rules = rules.into_iter().filter(|it| !it.is_empty());
        chain.rules = rules.map(str::to_owned).collect();
        table.chains.insert(name.to_owned(), chain);
    };
    let of_endpoints = |rule| if version == Version::V4 { rule } else { "" };
    let forward = ["iifname vmap @acl-out", "oifname vmap @acl-into", ""];
    add("acl-forward", HookPoint::Forward, forward);
    let to_router = [
        &*format!("{header} daddr {{ {never} }} accept"),
        "iifname vmap @acl-out-to-router",
        of_endpoints("ip daddr vmap @acl-endpoint-into"),
    ];
    add("acl-input", HookPoint::Input, to_router);
    let from_router = [
        &*format!("{header} saddr {{ {never} }} accept"),
        of_endpoints("ip saddr vmap @acl-endpoint-out"),
        "oifname vmap @acl-into-from-router",
    ];
    add("acl-output", HookPoint::Output, from_router);
}

fn add_subnet(spec: &VpcSpec, version: Version, subnet: &str, table: &mut Table, maps: &mut Maps) {
    let Some((facts, acl)) = spec.subnets.get(subnet).zip(spec.acl_of(subnet)) else { return };
    let filters_out = !network_acl::is_open(&acl.egress, version);
    let filters_in = !network_acl::is_open(&acl.ingress, version);
    if !filters_out && !filters_in {
        return;
    }
    let own: Vec<&Eni> = spec.enis.iter().filter(|it| it.subnet == subnet).collect();
    let mut links = Set::of("ifname");
    for eni in own.iter().filter(|it| it.location != Location::Router) {
        links.member(quote(&link_name(&eni.id)));
    }
    let cidr = facts.cidr;
    let id = &facts.network_acl;
    if filters_out {
        table.chain(format!("{id}-egress")).rules =
            network_acl::chain(&acl.egress, "daddr", version);
        let name = |what: &str| format!("{subnet}-acl-out{what}");
        let decide = format!("goto {id}-egress");
        table.chain(name("")).rule(format!("oifname @{subnet}-links return")).rule(&decide);
        let to_router = table.chain(name("-to-router"));
        if version == Version::V4 {
            to_router.rule(format!("ip daddr {cidr} return"));
        }
        to_router.rule(&decide);
        fill(&own, &name, ["", "-to-router"], &mut maps.out, &mut maps.out_to_router);
        if version == Version::V4 {
            fill_endpoints(&own, &name(""), &mut maps.endpoint_out);
        }
    }
    if filters_in {
        table.chain(format!("{id}-ingress")).rules =
            network_acl::chain(&acl.ingress, "saddr", version);
        let name = |what: &str| format!("{subnet}-acl-into{what}");
        let decide = format!("goto {id}-ingress");
        table.chain(name("")).rule(format!("iifname @{subnet}-links return")).rule(&decide);
        let from_router = table.chain(name("-from-router"));
        if version == Version::V4 {
            from_router.rule(format!("ip saddr {cidr} return"));
        }
        from_router.rule(&decide);
        fill(&own, &name, ["", "-from-router"], &mut maps.into, &mut maps.into_from_router);
        if version == Version::V4 {
            fill_endpoints(&own, &name(""), &mut maps.endpoint_into);
        }
    }
    table.set(format!("{subnet}-links"), links);
}

/// The links of the subnet, to its chain for what is forwarded and to that for the router's own.
fn fill(
    own: &[&Eni],
    chain: &impl Fn(&str) -> String,
    [forwarded, routers]: [&str; 2],
    by_link: &mut Set,
    with_router: &mut Set,
) {
    for eni in own.iter().filter(|it| it.location != Location::Router) {
        let link = quote(&link_name(&eni.id));
        by_link.entry(&link, format!("jump {}", chain(forwarded)));
        with_router.entry(link, format!("jump {}", chain(routers)));
    }
}

fn fill_endpoints(own: &[&Eni], chain: &str, by_address: &mut Set) {
    for eni in own.iter().filter(|it| it.location == Location::Router) {
        by_address.entry(eni.primary.to_string(), format!("jump {chain}"));
    }
}
