//! Route tables as chains: what no route takes is dropped before it is routed.

use linux_nftables::{Chain, ChainKind, Hook, HookPoint, Set, Table, priority, quote};

use super::{list, network, unfiltered, unfiltered_v6};
use crate::{Location, Target, VpcSpec, compile::link_name, version::Version};

/// For those who have a public address.
const BY_INTERNET_GATEWAY: &str = "by-internet-gateway";

/// Adds the chains, and the maps that lead an interface's packets to them.
pub(super) fn add(spec: &VpcSpec, version: Version, table: &mut Table) {
    let mut base =
        Chain::hooked(Hook::new(ChainKind::Filter, HookPoint::Prerouting, priority::MANGLE));
    base.rule(match version {
        Version::V4 => format!("ip daddr {{ {} }} accept", list(unfiltered(spec))),
        // What is for the link itself is not routed either.
        Version::V6 => format!("ip6 daddr {{ {} }} accept", unfiltered_v6()),
    });
    base.rule("iifname vmap @routes-of");
    table.chains.insert("routes".to_owned(), base);
    let mut public = Set::of("ifname");
    let mut routes = Set::map("ifname", "verdict");
    for eni in spec.enis.iter().filter(|it| it.location != Location::Router) {
        let link = quote(&link_name(&eni.id));
        // Amazon's IPv6 addresses are public.
        if eni.public_ip.is_some() || version == Version::V6 {
            public.member(&link);
        }
        let chain = chain_of(spec, &eni.subnet);
        if !table.chains.contains_key(&chain) {
            table.chain(&chain).rules = rules(spec, version, &eni.subnet);
        }
        routes.entry(link, format!("goto {chain}"));
    }
    table.set("public", public);
    table.set("routes-of", routes);
    table.chain(BY_INTERNET_GATEWAY).rule("iifname @public accept").rule("drop");
}

/// Subnets without a table that is known share one chain.
fn chain_of(spec: &VpcSpec, subnet: &str) -> String {
    let table = spec.subnets.get(subnet).map(|it| &it.route_table);
    let known = table.filter(|it| spec.route_tables.contains_key(*it));
    known.map_or_else(|| "routes-local".to_owned(), |id| format!("routes-{id}"))
}

fn rules(spec: &VpcSpec, version: Version, subnet: &str) -> Vec<String> {
    let routes = spec.routes_of(subnet, version);
    let blocks = spec.blocks(version);
    let rule = |route: &crate::Route| {
        let to = match route.destination.prefix_len() {
            0 => String::new(),
            _ => {
                format!("{} daddr {} ", version.header(), network(&route.destination.trunc()))
            }
        };
        // Only interfaces may stand between parts of a VPC.
        let is_inside = blocks.iter().any(|it| it.contains(&route.destination));
        let is_wrong = is_inside && !matches!(route.target, Target::Local | Target::Interface(_));
        let action = if is_wrong { "drop".to_owned() } else { action(spec, &route.target) };
        format!("{to}{action}")
    };
    routes.iter().map(rule).chain(["drop".to_owned()]).collect()
}

fn action(spec: &VpcSpec, target: &Target) -> String {
    match target {
        Target::Local
        | Target::GatewayEndpoint(_)
        | Target::EgressOnlyInternetGateway(_)
        | Target::NatGateway { address: Some(_), .. } => "accept".to_owned(),
        Target::InternetGateway(_) => format!("goto {BY_INTERNET_GATEWAY}"),
        Target::Interface(id) if spec.forwards(id) => {
            format!("meta mark set {:#010x} accept", mark_of(id))
        }
        Target::Interface(_) | Target::Blackhole(_) | Target::NatGateway { address: None, .. } => {
            "drop".to_owned()
        }
    }
}

/// The mark of packets that a route sends to an interface, which is the number of the routing table
/// that takes them there too. It follows from the id alone, so that nothing has to be remembered,
/// and is above all tables that have names.
pub(crate) fn mark_of(eni: &str) -> u32 {
    // FNV-1a.
    let hash = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    eni.bytes().fold(0x811c_9dc5, hash) & 0x00ff_ffff | 0x0100_0000
}
