//! The whole wanted state of a router's kernel, from a [`VpcSpec`]: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnet::{Ipv4Net, Ipv6Net};
use linux_netlink::Mac;
use linux_nftables::Table;

use crate::{
    ENDPOINTS_V6, Eni, IMDS, IMDS_V6, Location, RESOLVER, RESOLVER_V6, SERVICES, Setup, Target,
    VpcSpec, egress, rules::mark_of,
};

/// See the module. Two equal states are the same kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelState {
    /// The addresses of the router's own services, on its loopback link.
    pub services: BTreeSet<IpAddr>,
    /// The near ends of the ENIs, by the names that they have in the router.
    pub links: BTreeMap<String, EniLink>,
    /// What takes packets to interfaces that forward them, by mark.
    pub detours: BTreeMap<u32, Detour>,
    pub table: Table,
    /// `None` where the VPC has no IPv6.
    pub ipv6_table: Option<Table>,
}

/// Where a route to an interface leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detour {
    pub link: String,
    pub primary: Ipv4Addr,
}

/// One ENI as a veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniLink {
    pub eni: String,
    pub mac: Mac,
    /// The near end's address: the subnet's router.
    pub gateway: Ipv4Addr,
    pub primary: Ipv4Addr,
    /// The length of the subnet's prefix, which the far end's address has.
    pub prefix_len: u8,
    /// What is routed to it, beside the primary address.
    pub routed: BTreeSet<Ipv4Net>,
    /// What the far end calls its own of IPv6.
    pub ipv6: Option<Ipv6Addr>,
    pub routed_ipv6: BTreeSet<Ipv6Net>,
    pub netns: PathBuf,
    pub device: String,
    pub setup: Setup,
}

/// The near end's name: `eni` and as much of the id's end as fits into the 15 bytes of a name.
pub fn link_name(eni: &str) -> String {
    let digits: String = eni.chars().filter(char::is_ascii_alphanumeric).collect();
    let tail = digits.get(digits.len().saturating_sub(12)..).unwrap_or_default();
    format!("eni{tail}")
}

/// See the module.
pub fn compile(spec: &VpcSpec) -> KernelState {
    let fixed = [IMDS, RESOLVER].into_iter().chain(SERVICES).chain(spec.resolver());
    let public = spec.public_endpoints.keys().copied();
    let endpoints = spec.endpoints().map(|it| it.primary);
    let ipv4 = fixed.chain(public).chain(endpoints).map(IpAddr::V4);
    let ipv6 = [IMDS_V6, RESOLVER_V6, ENDPOINTS_V6].map(IpAddr::V6);
    let services = ipv4.chain(ipv6.into_iter().filter(|_| !spec.ipv6_cidrs.is_empty())).collect();
    let links = spec.enis.iter().filter_map(|eni| Some((link_name(&eni.id), link(spec, eni)?)));
    let (links, detours) = (links.collect(), detours(spec));
    let (table, ipv6_table) = (egress::table(spec), egress::ipv6_table(spec));
    KernelState { services, links, detours, table, ipv6_table }
}

fn detours(spec: &VpcSpec) -> BTreeMap<u32, Detour> {
    let routes = spec.route_tables.values().flat_map(|it| &it.routes);
    let targets = routes.filter_map(|it| match &it.target {
        Target::Interface(id) if spec.forwards(id) => spec.eni(id),
        _ => None,
    });
    let detour = |it: &Eni| Detour { link: link_name(&it.id), primary: it.primary };
    targets.map(|it| (mark_of(&it.id), detour(it))).collect()
}

fn link(spec: &VpcSpec, eni: &Eni) -> Option<EniLink> {
    let Location::Netns { path, device, setup } = &eni.location else { return None };
    let subnet = spec.subnets.get(&eni.subnet)?;
    let has_ipv6 = !spec.ipv6_cidrs.is_empty();
    Some(EniLink {
        eni: eni.id.clone(),
        mac: eni.mac,
        gateway: subnet.gateway(),
        primary: eni.primary,
        prefix_len: subnet.cidr.prefix_len(),
        routed: eni.networks().filter(|it| *it != Ipv4Net::from(eni.primary)).collect(),
        ipv6: eni.ipv6_addresses.first().copied().filter(|_| has_ipv6),
        routed_ipv6: eni.ipv6_networks().filter(|_| has_ipv6).collect(),
        netns: path.clone(),
        device: device.clone(),
        setup: *setup,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::samples;

    #[test]
    fn only_attached_interfaces_are_in_the_kernel() {
        let mut spec = samples::vpc();
        assert!(compile(&spec).links.is_empty());
        spec.enis[0].location = Location::Netns {
            path: "/run/netns/x".into(),
            device: "eth1".to_owned(),
            setup: Setup::Bare,
        };
        spec.enis[0].secondary.insert(Ipv4Addr::new(192, 168, 0, 99));
        spec.enis[0].prefixes.insert("192.168.1.16/28".parse().unwrap());
        let state = compile(&spec);
        let link = &state.links["eni000000000001"];
        assert_eq!(link.gateway, Ipv4Addr::new(192, 168, 0, 1));
        assert_eq!(link.routed.len(), 2);
        assert!(!link.routed.contains(&Ipv4Net::from(link.primary)));
        assert!(state.services.contains(&Ipv4Addr::new(192, 168, 0, 2).into()));
        assert!(state.services.iter().all(IpAddr::is_ipv4), "the VPC has no IPv6");
        spec.ipv6_cidrs = vec!["2001:db8:0:100::/56".parse().unwrap()];
        assert!(compile(&spec).services.contains(&IMDS_V6.into()));
    }

    #[test]
    fn two_interfaces_have_two_names_that_the_kernel_takes() {
        let (one, other) = (link_name("eni-0123456789abcdef0"), link_name("eni-0123456789abcdef1"));
        assert_ne!(one, other);
        assert_eq!(one.len(), 15);
    }
}
