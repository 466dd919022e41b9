//! The way out: what stands behind the VPC's internet and NAT gateways when `--egress` is given.
//!
//! A veth pair leads from the router to the machine. The router hides the VPC's addresses behind
//! its own end, the machine hides that end behind its own address. Who may go is decided as for the
//! AWS endpoints: by the subnet's route and the ENI's public address, then by the egress rules.
//!
//! By IPv6 it is the same, where the machine forwards IPv6 already. It is not made to: a machine that
//! forwards takes no advertisements of its own router any more, and would lose its way.
//!
//! Deviation: nothing reaches an instance from outside by its public address; IPv6 addresses are hidden
//! too, since nobody outside has a way to them.

mod machine;

use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use linux_netlink::{Link, Netlink, Route, RouteKind, Veth, VethEnd};
use linux_nftables::{Chain, ChainKind, Family, Hook, HookPoint, Table, priority, quote};

use self::machine::Machine;
pub use self::machine::{forwards_ipv6, remove_egress};
use crate::{ApplyError, VpcSpec, rules};

/// The router's end.
const INSIDE: &str = "outside";
/// Addresses that no host of the outside has: without a router of their own they stay here, so
/// that nobody in the VPC reaches what the machine itself has on such an address.
const LINK_LOCAL: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(169, 254, 0, 0), 16);

/// Where AWS has what is near every instance, and nothing else is.
pub(crate) const AWS_LOCAL_V6: Ipv6Net =
    Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// The name of the machine's end, and of its table: `nst-…`.
    pub link: String,
    /// The namespace that plays the machine; `None` is this process's own.
    pub machine: Option<PathBuf>,
}

/// Adds the way out to the router's rules: pure.
pub(crate) fn add_rules(table: &mut Table) {
    let outside = quote(INSIDE);
    // The routes have dropped what has no way there.
    table.chain("ingress").rule(format!("oifname {outside} accept"));
    if table.family == Family::Ip6 {
        // Router and machine have to find each other.
        let neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept";
        table.chain("services").rule(format!("iifname {outside} {neighbours}"));
    }
    let hook = Hook::new(ChainKind::Nat, HookPoint::Postrouting, priority::SRCNAT);
    let mut hide = Chain::hooked(hook);
    hide.rule(format!("oifname {outside} masquerade"));
    table.chains.insert("way-out".to_owned(), hide);
}

/// The VPC's own blocks, whose addresses are not outside, whoever has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) ipv4: Vec<Ipv4Net>,
    /// `None`: there is no way out by IPv6.
    pub(crate) ipv6: Option<Vec<Ipv6Net>>,
}

impl Blocks {
    pub(crate) fn of(spec: &VpcSpec) -> Self {
        let has_ipv6 = spec.has_ipv6_way_out && !spec.ipv6_cidrs.is_empty();
        Self { ipv4: spec.cidrs.clone(), ipv6: has_ipv6.then(|| spec.ipv6_cidrs.clone()) }
    }
}

/// Makes the link, the routes and the machine's rules. `fresh` says that the machine's rules cannot
/// be relied on to be there.
pub(crate) fn apply(
    egress: &Egress,
    router: &Netlink,
    router_path: &std::path::Path,
    blocks: &Blocks,
    fresh: bool,
) -> Result<(), ApplyError> {
    let failed = ApplyError::request(&egress.link);
    let machine = Machine::open(egress.machine.as_deref())?;
    let (transfer, inside) = {
        // Another region must not take the same addresses, or put the switch back meanwhile.
        let _lock = machine.lock()?;
        let found = pair(egress, &machine, router)?;
        let is_new = found.is_none();
        let inside = match found {
            Some(inside) => inside,
            None => connect(egress, &machine, router, router_path)?,
        };
        let transfer = machine.transfer(&egress.link)?;
        let is_unsure = is_new || fresh;
        if is_unsure {
            machine.prepare(&egress.link, transfer)?;
        }
        if blocks.ipv6.is_some() {
            machine.prepare_ipv6(&egress.link, transfer, is_unsure)?;
        }
        (transfer, inside)
    };
    router.add_address(inside.index, IpNet::V4(transfer.routers())).map_err(&failed)?;
    router.set_up(inside.index).map_err(&failed)?;
    for nowhere in blocks.ipv4.iter().chain([&LINK_LOCAL]) {
        // Addresses of the VPC that nobody has are not outside.
        let route = Route::to(IpNet::V4(*nowhere)).kind(RouteKind::Blackhole);
        router.add_route(&route).map_err(&failed)?;
    }
    let default = Route::default_via(transfer.machines().addr().into()).device(inside.index);
    router.add_route(&default).map_err(&failed)?;
    let Some(ipv6) = &blocks.ipv6 else { return Ok(()) };
    router.add_address(inside.index, IpNet::V6(transfer.routers_ipv6())).map_err(&failed)?;
    for nowhere in ipv6.iter().chain([&AWS_LOCAL_V6]) {
        let route = Route::to(IpNet::V6(*nowhere)).kind(RouteKind::Blackhole);
        router.add_route(&route).map_err(&failed)?;
    }
    let default = Route::default_via(transfer.machines_ipv6().addr().into()).device(inside.index);
    router.add_route(&default).map_err(&failed)
}

/// The router's end, where both ends are there; a half is removed.
fn pair(egress: &Egress, machine: &Machine, router: &Netlink) -> Result<Option<Link>, ApplyError> {
    let failed = ApplyError::request(&egress.link);
    let inside = router.link_by_name(INSIDE).map_err(&failed)?;
    let outside = machine.netlink.link_by_name(&egress.link).map_err(&failed)?;
    match (inside, outside) {
        (Some(inside), Some(_)) => return Ok(Some(inside)),
        (Some(half), None) => router.delete_link(half.index).map_err(&failed)?,
        (None, Some(half)) => machine.netlink.delete_link(half.index).map_err(&failed)?,
        (None, None) => {}
    }
    Ok(None)
}

fn connect(
    egress: &Egress,
    machine: &Machine,
    router: &Netlink,
    router_path: &std::path::Path,
) -> Result<Link, ApplyError> {
    let failed = ApplyError::request(&egress.link);
    let namespace =
        linux_netns::open(router_path).map_err(|source| ApplyError::Netns { source })?;
    let far =
        VethEnd { netns: Some(std::os::fd::AsFd::as_fd(&namespace)), ..VethEnd::named(INSIDE) };
    let pair = Veth { end: VethEnd::named(&egress.link), peer: far };
    machine.netlink.create_veth(&pair).map_err(&failed)?;
    let made = router.link_by_name(INSIDE).map_err(&failed)?;
    made.ok_or_else(|| ApplyError::Vanished { link: egress.link.clone() })
}

/// Takes all of it away again.
pub(crate) fn remove(egress: &Egress) -> Result<(), ApplyError> {
    machine::remove_where(egress.machine.as_deref(), |name| name == egress.link).map(drop)
}

/// The whole ruleset of a router with a way out, for the tests of both halves.
pub(crate) fn table(spec: &VpcSpec) -> Table {
    let mut table = rules::table(spec);
    if spec.has_way_out {
        add_rules(&mut table);
    }
    table
}

/// The same for IPv6, where the VPC has a block of it.
pub(crate) fn ipv6_table(spec: &VpcSpec) -> Option<Table> {
    let mut table = rules::ipv6_table(spec)?;
    if spec.has_ipv6_way_out {
        add_rules(&mut table);
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::samples;

    #[test]
    fn only_who_has_a_route_and_an_address_may_leave() {
        let mut spec = samples::vpc();
        spec.enis[0].public_ip = Some([54, 0, 0, 1].into());
        assert!(!table(&spec).chains.contains_key("way-out"), "without --egress there is none");
        spec.has_way_out = true;
        let table = table(&spec);
        let public: Vec<_> = table.sets["public"].elements.keys().collect();
        assert_eq!(public, ["\"eni000000000001\""]);
        let routes = &table.chains["routes-rtb-public"].rules;
        assert_eq!(routes, &["ip daddr 192.168.0.0/16 accept", "goto by-internet-gateway", "drop"]);
        let last = table.chains["ingress"].rules.last().unwrap();
        assert_eq!(last, "oifname \"outside\" accept");
    }
}
