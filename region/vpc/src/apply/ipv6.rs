//! IPv6 at the near ends: the router's address on each, and what is routed there.
//!
//! A VPC knows where its addresses are and asks nobody: everything of an interface goes by one
//! neighbour, whose hardware address is the interface's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use ipnet::{IpNet, Ipv6Net};
use linux_netlink::{Netlink, Route, RouteKind, TABLE_MAIN};

use super::{ApplyError, links};
use crate::{EniLink, ROUTER_V6};

/// The far end, as the router alone calls it.
const FAR_END: Ipv6Addr = Ipv6Addr::new(0xfe80, 0xec2, 0, 0, 0, 0, 0, 2);

pub(super) fn apply(
    netlink: &Netlink,
    wanted: &BTreeMap<String, EniLink>,
) -> Result<(), ApplyError> {
    let failed = ApplyError::request("IPv6 routes");
    let present = links::ours(netlink)?;
    let mut by_device: BTreeMap<u32, Vec<Route>> = BTreeMap::new();
    for route in netlink.routes().map_err(&failed)? {
        // Those of the links themselves are the kernel's.
        let is_meant = route.table == TABLE_MAIN
            && route.kind == RouteKind::Unicast
            && matches!(route.destination, IpNet::V6(net) if !net.addr().is_unicast_link_local());
        if let Some(device) = route.device.filter(|_| is_meant) {
            by_device.entry(device).or_default().push(route);
        }
    }
    let links = present.values().filter_map(|it| Some((it, wanted.get(&it.name)?)));
    let addresses = netlink.addresses().map_err(&failed)?;
    let has_router: BTreeSet<u32> = addresses
        .iter()
        .filter(|it| it.net.addr() == std::net::IpAddr::V6(ROUTER_V6))
        .map(|it| it.index)
        .collect();
    for (link, eni) in links {
        let its = by_device.get(&link.index).map(Vec::as_slice).unwrap_or_default();
        if !eni.routed_ipv6.is_empty() && !has_router.contains(&link.index) {
            let router = Ipv6Net::new_assert(ROUTER_V6, 64);
            // The address last: by it the next pass sees that both are there.
            netlink.add_neighbour(link.index, FAR_END.into(), eni.mac).map_err(&failed)?;
            netlink.add_address(link.index, router.into()).map_err(&failed)?;
        }
        let targets: BTreeSet<IpNet> = eni.routed_ipv6.iter().map(|it| IpNet::V6(*it)).collect();
        let old: BTreeSet<IpNet> = its.iter().map(|it| it.destination).collect();
        for gone in its.iter().filter(|it| !targets.contains(&it.destination)) {
            netlink.delete_route(gone).map_err(&failed)?;
        }
        for target in targets.difference(&old) {
            let through = Route::to(*target).via(FAR_END.into()).device(link.index);
            netlink.add_route(&through.onlink()).map_err(&failed)?;
        }
    }
    Ok(())
}
