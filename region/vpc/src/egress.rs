//! The way out: what stands behind the VPC's internet and NAT gateways when `--egress` is given.
//!
//! A veth pair leads from the router to the machine. The router hides the VPC's addresses behind
//! its own end, the machine hides that end behind its own address. Who may go is decided as for the
//! AWS endpoints: by the subnet's route and the ENI's public address, then by the egress rules.
//!
//! Deviation: nothing reaches an instance from outside by its public address.

mod machine;

use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};
use linux_netlink::{Link, Netlink, Route, RouteKind, Veth, VethEnd};
use linux_nftables::{Chain, ChainKind, Hook, HookPoint, Table, priority, quote};

use self::machine::Machine;
pub use self::machine::remove_egress;
use crate::{ApplyError, VpcSpec, rules};

/// The router's end.
const INSIDE: &str = "outside";
/// Addresses that no host of the outside has: without a router of their own they stay here, so
/// that nobody in the VPC reaches what the machine itself has on such an address.
const LINK_LOCAL: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(169, 254, 0, 0), 16);

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
    let hook = Hook::new(ChainKind::Nat, HookPoint::Postrouting, priority::SRCNAT);
    let mut hide = Chain::hooked(hook);
    hide.rule(format!("oifname {outside} masquerade"));
    table.chains.insert("way-out".to_owned(), hide);
}

/// Makes the link, the routes and the machine's rules. `fresh` says that the machine's rules cannot
/// be relied on to be there.
pub(crate) fn apply(
    egress: &Egress,
    router: &Netlink,
    router_path: &std::path::Path,
    cidrs: &[Ipv4Net],
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
        if is_new || fresh {
            machine.prepare(&egress.link, transfer)?;
        }
        (transfer, inside)
    };
    router.add_address(inside.index, IpNet::V4(transfer.routers())).map_err(&failed)?;
    router.set_up(inside.index).map_err(&failed)?;
    for nowhere in cidrs.iter().chain([&LINK_LOCAL]) {
        // Addresses of the VPC that nobody has are not outside.
        let route = Route::to(IpNet::V4(*nowhere)).kind(RouteKind::Unreachable);
        router.add_route(&route).map_err(&failed)?;
    }
    let default = Route::default_via(transfer.machines().addr().into()).device(inside.index);
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
