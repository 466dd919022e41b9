//! The far end of an ENI, in the namespace that it is attached to.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use linux_netlink::{Address, Link, LinkChange, Netlink, Route, Rule, Scope};

use crate::{EniLink, ROUTER_V6, apply::ApplyError};

/// A maximum transmission unit as in a VPC: jumbo frames.
pub(crate) const MTU: u32 = 9001;

/// The priority of the rules for interfaces with tables of their own: before the main table's.
const RULE_PRIORITY: u32 = 32765;

/// The namespaces of guests, as a pass has found them.
#[derive(Debug, Default)]
pub(crate) struct Guests(BTreeMap<PathBuf, Guest>);

#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) netlink: Netlink,
    links: Vec<Link>,
    addresses: OnceCell<Vec<Address>>,
}

impl Guests {
    /// `None` when the namespace does not exist (yet, or any more).
    pub(crate) fn at(&mut self, path: &Path) -> Result<Option<&Guest>, ApplyError> {
        if !self.0.contains_key(path) {
            if !path.exists() {
                return Ok(None);
            }
            let netlink = Netlink::at(path).map_err(|source| ApplyError::Open { source })?;
            let failed = ApplyError::request(&path.display().to_string());
            let links = netlink.links().map_err(failed)?;
            self.0.insert(path.to_owned(), Guest { netlink, links, addresses: OnceCell::new() });
        }
        Ok(self.0.get(path))
    }
}

impl Guest {
    /// The far end, if it was here when the pass began.
    pub(crate) fn find(&self, wanted: &EniLink) -> Option<&Link> {
        let is_it = |it: &&Link| it.mac == Some(wanted.mac) && it.kind.as_deref() == Some("veth");
        self.links.iter().find(is_it)
    }

    /// The link of that name, as it is now.
    pub(crate) fn link(&self, name: &str) -> Result<Option<Link>, ApplyError> {
        self.netlink.link_by_name(name).map_err(ApplyError::request(name))
    }

    /// As they were when they were first asked for. A link that is made later has an index that none
    /// of them has.
    fn addresses(&self) -> Result<&[Address], ApplyError> {
        if let Some(known) = self.addresses.get() {
            return Ok(known);
        }
        let found = self.netlink.addresses().map_err(ApplyError::request("addresses"))?;
        Ok(self.addresses.get_or_init(|| found))
    }
}

/// Configures the far end as its setup says. What is there already is left as it is.
pub(crate) fn configure(guest: &Guest, link: &Link, wanted: &EniLink) -> Result<(), ApplyError> {
    configure_ipv4(guest, link, wanted)?;
    configure_ipv6(guest, link, wanted)
}

/// As DHCPv6 and the router's advertisements would: one address, and the way to all others.
fn configure_ipv6(guest: &Guest, link: &Link, wanted: &EniLink) -> Result<(), ApplyError> {
    let failed = ApplyError::request(&wanted.eni);
    let Some(address) = wanted.ipv6.map(|it| IpNet::V6(Ipv6Net::from(it))) else { return Ok(()) };
    let Some((is_default, table)) = wanted.setup.routes() else { return Ok(()) };
    if guest.addresses()?.iter().any(|it| it.index == link.index && it.net == address) {
        return Ok(());
    }
    let netlink = &guest.netlink;
    netlink.add_address(link.index, address).map_err(&failed)?;
    let default = Route::default_via(ROUTER_V6.into()).device(link.index).onlink();
    if is_default {
        netlink.add_route(&default).map_err(&failed)?;
    }
    let Some(table) = table else { return Ok(()) };
    netlink.add_route(&default.table(table)).map_err(&failed)?;
    netlink.add_rule(&Rule::new(RULE_PRIORITY, table).from(address)).map_err(&failed)
}

fn configure_ipv4(guest: &Guest, link: &Link, wanted: &EniLink) -> Result<(), ApplyError> {
    let failed = ApplyError::request(&wanted.eni);
    let netlink = &guest.netlink;
    let Some((is_default, table)) = wanted.setup.routes() else { return Ok(()) };
    let address = Ipv4Net::new(wanted.primary, wanted.prefix_len)
        .map(IpNet::V4)
        .expect("the prefix length is that of a network");
    let has_address =
        guest.addresses()?.iter().any(|it| it.index == link.index && it.net == address);
    if link.is_up && has_address {
        return Ok(());
    }
    if let Some(lo) = netlink.link_by_name("lo").map_err(&failed)? {
        netlink.set_up(lo.index).map_err(&failed)?;
    }
    let change = LinkChange { mtu: Some(MTU), is_up: Some(true), ..LinkChange::default() };
    netlink.change_link(link.index, &change).map_err(&failed)?;
    netlink.add_address(link.index, address).map_err(&failed)?;
    let default = Route::default_via(wanted.gateway.into()).device(link.index);
    if is_default {
        netlink.add_route(&default).map_err(&failed)?;
    }
    let Some(table) = table else { return Ok(()) };
    let gateway = Route { table, scope: Scope::Link, ..Route::to_host(wanted.gateway.into()) };
    netlink.add_route(&gateway.device(link.index)).map_err(&failed)?;
    netlink.add_route(&Route { table, is_onlink: true, ..default }).map_err(&failed)?;
    let from = Rule::new(RULE_PRIORITY, table).from(Ipv4Net::from(wanted.primary).into());
    netlink.add_rule(&from).map_err(&failed)
}
