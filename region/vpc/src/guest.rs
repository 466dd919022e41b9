//! The far end of an ENI, in the namespace that it is attached to.

use std::{collections::BTreeMap, path::Path};

use ipnet::{IpNet, Ipv4Net};
use linux_netlink::{Link, LinkChange, Netlink, Route, Rule, Scope};

use crate::{EniLink, Setup, apply::ApplyError};

/// A maximum transmission unit as in a VPC: jumbo frames.
pub(crate) const MTU: u32 = 9001;

/// The priority of the rules for additional interfaces: before the main table's.
const RULE_PRIORITY: u32 = 32765;

/// Sockets into the namespaces of guests, opened once per pass.
#[derive(Debug, Default)]
pub(crate) struct Guests(BTreeMap<String, Netlink>);

impl Guests {
    /// `None` when the namespace does not exist (yet, or any more).
    pub(crate) fn netlink(&mut self, path: &Path) -> Result<Option<&Netlink>, ApplyError> {
        let key = path.display().to_string();
        if !self.0.contains_key(&key) {
            if !path.exists() {
                return Ok(None);
            }
            let netlink = Netlink::at(path).map_err(|source| ApplyError::Open { source })?;
            self.0.insert(key.clone(), netlink);
        }
        Ok(self.0.get(&key))
    }
}

/// The far end, if it is where it should be.
pub(crate) fn find(netlink: &Netlink, wanted: &EniLink) -> Result<Option<Link>, ApplyError> {
    let links = netlink.links().map_err(ApplyError::request(&wanted.eni))?;
    let is_it = |link: &Link| link.mac == Some(wanted.mac) && link.kind.as_deref() == Some("veth");
    Ok(links.into_iter().find(is_it))
}

/// Configures the far end as its setup says. What is there already is left as it is.
pub(crate) fn configure(
    netlink: &Netlink,
    link: &Link,
    wanted: &EniLink,
) -> Result<(), ApplyError> {
    let failed = ApplyError::request(&wanted.eni);
    let table = match wanted.setup {
        Setup::Bare => return Ok(()),
        Setup::Primary => None,
        Setup::Additional { table } => Some(table),
    };
    let address = Ipv4Net::new(wanted.primary, wanted.prefix_len)
        .map(IpNet::V4)
        .expect("the prefix length is that of a network");
    let addresses = netlink.addresses().map_err(&failed)?;
    let has_address = addresses.iter().any(|it| it.index == link.index && it.net == address);
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
    let Some(table) = table else { return netlink.add_route(&default).map_err(&failed) };
    let gateway = Route { table, scope: Scope::Link, ..Route::to_host(wanted.gateway.into()) };
    netlink.add_route(&gateway.device(link.index)).map_err(&failed)?;
    netlink.add_route(&Route { table, is_onlink: true, ..default }).map_err(&failed)?;
    let from = Rule::new(RULE_PRIORITY, table).from(Ipv4Net::from(wanted.primary).into());
    netlink.add_rule(&from).map_err(&failed)
}
