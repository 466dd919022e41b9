//! The veth pairs of ENIs: each end where it belongs, and what is routed to them.
//!
//! The router and each guest are listed once in a pass, however many ENIs they have. All that is in
//! the way goes before anything is made, so that two ENIs can change places.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::AsFd,
    path::Path,
};

use ipnet::{IpNet, Ipv4Net};
use linux_netlink::{
    Link, LinkChange, Mac, Netlink, Route, RouteKind, Scope, TABLE_MAIN, Veth, VethEnd,
};

use super::{Applied, ApplyError, is_ours};
use crate::{
    EniLink,
    guest::{self, Guest, Guests, MTU},
};

pub(super) fn apply(
    netlink: &Netlink,
    router: &Path,
    wanted: &BTreeMap<String, EniLink>,
) -> Result<Applied, ApplyError> {
    let mut applied = Applied::default();
    let mut guests = Guests::default();
    let mut present = ours(netlink)?;
    for link in present.values().filter(|it| !wanted.contains_key(&it.name)) {
        netlink.delete_link(link.index).map_err(ApplyError::request(&link.name))?;
        applied.detached.push(link.name.clone());
    }
    let mut missing = Vec::new();
    for (name, eni) in wanted {
        let Some(guest) = guests.at(&eni.netns)? else {
            applied.waiting.push(eni.eni.clone());
            continue;
        };
        let (near, far) = (present.get(name), guest.find(eni));
        match (near, far) {
            (Some(near), Some(far)) if is_in_place(near, far, eni) => {
                configure(guest, far, eni, &mut applied);
            }
            _ => {
                clear(netlink, near, guest, far, eni)?;
                missing.push((name, eni));
            }
        }
    }
    for (name, eni) in missing {
        let Some(guest) = guests.at(&eni.netns)? else { continue };
        if attach(netlink, router, name, eni)? {
            applied.attached.push(eni.eni.clone());
            if let Some(far) = guest.link(&eni.device)? {
                configure(guest, &far, eni, &mut applied);
            }
        } else {
            applied.waiting.push(eni.eni.clone());
        }
    }
    if applied != Applied::default() {
        present = ours(netlink)?;
    }
    routes(netlink, &present, wanted)?;
    Ok(applied)
}

/// Who is root in an instance can have its kernel refuse what DHCP would set (IPv6 may be off there).
/// That is its own harm: the VPC's other interfaces go on.
fn configure(guest: &Guest, far: &Link, eni: &EniLink, applied: &mut Applied) {
    if let Err(error) = guest::configure(guest, far, eni) {
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::debug!(eni = eni.eni, error, "its instance takes no configuration");
        applied.unconfigured.push(eni.eni.clone());
    }
}

/// The near ends, by name.
pub(super) fn ours(netlink: &Netlink) -> Result<BTreeMap<String, Link>, ApplyError> {
    let links = netlink.links().map_err(ApplyError::request("router"))?;
    Ok(links.into_iter().filter(is_ours).map(|it| (it.name.clone(), it)).collect())
}

/// A name that somebody inside has given the link is theirs to give; one of ours means that it was
/// attached as another device, or on another VLAN.
fn is_in_place(near: &Link, far: &Link, eni: &EniLink) -> bool {
    let is_other = far.name.starts_with("eth") || far.name.starts_with("vlan.eth.");
    near.peer_index == Some(far.index) && (far.name == eni.device || !is_other)
}

/// Removes what is left of the pair: the other end is elsewhere, or of a router that is gone.
fn clear(
    netlink: &Netlink,
    near: Option<&Link>,
    guest: &Guest,
    far: Option<&Link>,
    eni: &EniLink,
) -> Result<(), ApplyError> {
    let failed = ApplyError::request(&eni.eni);
    if let Some(near) = near {
        netlink.delete_link(near.index).map_err(&failed)?;
    }
    match far {
        Some(far) => guest.netlink.delete_link(far.index).map_err(&failed),
        None => Ok(()),
    }
}

/// Makes the pair with each end where it belongs, and brings the near end up. `false` where the guest
/// has something else of that name: nobody in an instance holds up the VPC's other ones.
fn attach(netlink: &Netlink, router: &Path, name: &str, eni: &EniLink) -> Result<bool, ApplyError> {
    let failed = ApplyError::request(&eni.eni);
    let guest = linux_netns::open(&eni.netns).map_err(|source| ApplyError::Netns { source })?;
    let near = VethEnd { name, mac: Some(near_mac(eni.mac)), mtu: Some(MTU), netns: None };
    let far = VethEnd {
        name: &eni.device,
        mac: Some(eni.mac),
        mtu: Some(MTU),
        netns: Some(guest.as_fd()),
    };
    tracing::debug!(eni = eni.eni, router = %router.display(), "attaching");
    match netlink.create_veth(&Veth { end: near, peer: far }) {
        Err(error) if error.is_already_there() => {
            let (eni, device) = (&eni.eni, &eni.device);
            tracing::warn!(eni, device, "its instance has another link of that name");
            return Ok(false);
        }
        made => made.map_err(&failed)?,
    }
    answer_at_once(router, name)?;
    let Some(link) = netlink.link_by_name(name).map_err(&failed)? else { return Ok(true) };
    netlink.add_address(link.index, Ipv4Net::from(eni.gateway).into()).map_err(&failed)?;
    let up = LinkChange { is_up: Some(true), ..LinkChange::default() };
    netlink.change_link(link.index, &up).map_err(&failed)?;
    // A VPC knows where its addresses are and asks nobody: a branch's are those of a pod, for which
    // the instance does not answer.
    netlink.add_neighbour(link.index, eni.primary.into(), eni.mac).map_err(&failed)?;
    Ok(true)
}

/// The kernel answers ARP for others after a random pause of up to 0.8 s, and a namespace has no
/// default for that: each link is told.
fn answer_at_once(netns: &Path, link: &str) -> Result<(), ApplyError> {
    let name = format!("net/ipv4/neigh/{link}/proxy_delay");
    linux_netns::enter(netns, move || super::sysctl(&name, "0"))
        .map_err(|source| ApplyError::Netns { source })?
}

/// The near end's hardware address: the far end's, told apart by a bit that vendors do not use.
fn near_mac(Mac(mut bytes): Mac) -> Mac {
    bytes[0] |= 0x02;
    bytes[1] ^= 0x80;
    Mac(bytes)
}

fn routes(
    netlink: &Netlink,
    present: &BTreeMap<String, Link>,
    wanted: &BTreeMap<String, EniLink>,
) -> Result<(), ApplyError> {
    let failed = ApplyError::request("routes");
    let mut by_device: BTreeMap<u32, Vec<Route>> = BTreeMap::new();
    for route in netlink.routes().map_err(&failed)? {
        let is_meant = route.table == TABLE_MAIN && route.kind == RouteKind::Unicast;
        let is_meant = is_meant && matches!(route.destination, IpNet::V4(_));
        if let Some(device) = route.device.filter(|_| is_meant) {
            by_device.entry(device).or_default().push(route);
        }
    }
    for (link, eni) in present.values().filter_map(|it| Some((it, wanted.get(&it.name)?))) {
        let primary = IpNet::V4(eni.primary.into());
        let routed = eni.routed.iter().map(|it| IpNet::V4(*it));
        let targets: BTreeSet<IpNet> = routed.chain([primary]).collect();
        let its = by_device.get(&link.index).map(Vec::as_slice).unwrap_or_default();
        let old: BTreeSet<IpNet> = its.iter().map(|it| it.destination).collect();
        for gone in its.iter().filter(|it| !targets.contains(&it.destination)) {
            netlink.delete_route(gone).map_err(&failed)?;
        }
        // The primary first: the others go through it.
        if !old.contains(&primary) {
            let direct = Route { scope: Scope::Link, ..Route::to(primary) };
            netlink.add_route(&direct.device(link.index)).map_err(&failed)?;
        }
        for target in targets.difference(&old).filter(|it| **it != primary) {
            let through = Route::to(*target).via(eni.primary.into()).device(link.index);
            netlink.add_route(&Route { is_onlink: true, ..through }).map_err(&failed)?;
        }
    }
    Ok(())
}
