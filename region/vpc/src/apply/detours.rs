//! Routing tables of packets that a route sends to an interface: one for each such interface.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use linux_netlink::{Netlink, Route, RouteKind, Rule, TABLE_LOCAL};

use super::{ApplyError, LAST};
use crate::Detour;

/// The priority of the rules: before [`LOCAL`], so that an interface may stand before AWS's
/// endpoints too.
const PRIORITY: u32 = 10;
/// Where the rule of the router's own addresses goes, which is the first one in a new namespace.
const LOCAL: u32 = 100;

pub(super) fn apply(netlink: &Netlink, wanted: &BTreeMap<u32, Detour>) -> Result<(), ApplyError> {
    let failed = ApplyError::request("routes to interfaces");
    let rules = netlink.rules().map_err(&failed)?;
    let present: Vec<&Rule> =
        rules.iter().filter(|it| it.priority == PRIORITY && !it.is_ipv6).collect();
    if wanted.is_empty() && present.is_empty() {
        return Ok(());
    }
    for gone in present.iter().filter(|it| !wanted.contains_key(&it.table)) {
        netlink.delete_rule(gone).map_err(&failed)?;
        for route in netlink.routes().map_err(&failed)?.iter().filter(|it| it.table == gone.table) {
            netlink.delete_route(route).map_err(&failed)?;
        }
    }
    if !wanted.is_empty() {
        netlink.add_rule(&Rule::new(LOCAL, TABLE_LOCAL)).map_err(&failed)?;
        netlink.delete_rule(&Rule::new(0, TABLE_LOCAL)).map_err(&failed)?;
    }
    for (mark, detour) in wanted {
        lead(netlink, *mark, detour)?;
        if !present.iter().any(|it| it.table == *mark) {
            let rule = Rule::new(PRIORITY, *mark).mark(*mark, u32::MAX);
            netlink.add_rule(&rule).map_err(&failed)?;
        }
    }
    Ok(())
}

fn lead(netlink: &Netlink, table: u32, detour: &Detour) -> Result<(), ApplyError> {
    let failed = ApplyError::request(&detour.link);
    let everywhere = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
    // Without the interface nothing gets past it.
    let nowhere = Route::to(everywhere).kind(RouteKind::Blackhole).table(table).metric(LAST);
    netlink.add_route(&nowhere).map_err(&failed)?;
    let Some(link) = netlink.link_by_name(&detour.link).map_err(&failed)? else { return Ok(()) };
    let through = Route::to(everywhere).via(detour.primary.into()).device(link.index);
    netlink.add_route(&through.table(table).onlink()).map_err(&failed)
}
