//! A pod whose address is a branch interface's: security groups of its own.
//!
//! A branch comes into the node by a link named after its VLAN; its routes have a table of their own
//! (100 and the VLAN's id). In strict mode all that comes in by that link or by the pod's goes by
//! that table, before the table of local addresses (the rule at 10; ipamd moves the local table's to
//! 20), so that what the pod says to its own node leaves by the branch, too, and meets its groups. In
//! standard mode routing goes by the pod's address, as for other pods: who is on the same node is
//! reached directly.
//!
//! Upstream: `SetupBranchENIPodNetwork`, `pkg/sgpp`.
//! Deviation: the link is the region's, which makes it for each branch that is associated with the
//! node's trunk (a kernel need not have 802.1q); this plug-in waits for it and takes it down again
//! instead of making and deleting a VLAN device.

use std::{net::IpAddr, time::Duration};

use api_cni::{CniError, ErrorCode, Interface, Invocation, backend::Branch, host_link_name};
use linux_netlink::{LinkChange, Mac, Netlink, Route, Rule, Scope};

use crate::plumbing::{self, PlumbError, Pod, index_of, refused, unreachable};

/// The priority of the rules by link.
const BY_LINK: u32 = 10;
/// How long a branch's link may take: EC2 has associated it already.
const LINK_LIMIT: Duration = Duration::from_secs(10);
/// Prefixes of the pod's link in strict mode, and of what remembers the VLAN's id.
const STRICT_PREFIX: &str = "vlan";
const MEMENTO_PREFIX: &str = "dummy";

/// `POD_SECURITY_GROUP_ENFORCING_MODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Strict,
    Standard,
}

impl Mode {
    pub(crate) fn of(text: &str) -> Result<Self, CniError> {
        match text {
            "strict" => Ok(Self::Strict),
            "standard" => Ok(Self::Standard),
            other => {
                let msg = format!("add cmd: unknown podSGEnforcingMode \"{other}\"");
                Err(CniError::new(ErrorCode::InvalidNetworkConfig, msg))
            }
        }
    }

    /// How the node's end of a branch's pod is named: what is named `vlan…` nobody else routes.
    pub(crate) fn prefix(self, usual: &str) -> &str {
        match self {
            Self::Strict => STRICT_PREFIX,
            Self::Standard => usual,
        }
    }
}

pub(crate) fn set_up(
    pod: &Pod<'_>,
    address: IpAddr,
    branch: &Branch,
    mode: Mode,
) -> Result<(), PlumbError> {
    let vlan = meet(branch)?;
    let host = plumbing::set_up_pair(pod, address)?;
    // Of an earlier pod of this name, on another branch.
    let is_stale =
        |rule: &Rule| rule.priority == BY_LINK && rule.input.as_deref() == Some(pod.host_link);
    for stale in host.rules().map_err(refused)?.iter().filter(|it| is_stale(it)) {
        host.delete_rule(stale).map_err(refused)?;
    }
    let change = LinkChange { is_up: Some(true), mtu: Some(pod.mtu), ..LinkChange::default() };
    host.change_link(vlan, &change).map_err(refused)?;
    let table = Branch::table(branch.vlan_id);
    let gateway = branch.gateway;
    let to_gateway = Route::to_host(gateway).device(vlan).scope(Scope::Link).table(table);
    host.add_route(&to_gateway).map_err(refused)?;
    host.add_route(&Route::default_via(gateway).device(vlan).table(table)).map_err(refused)?;
    match mode {
        Mode::Standard => plumbing::set_up_host(&host, pod.host_link, address, table)?,
        Mode::Strict => by_link(&host, pod.host_link, address, branch.vlan_id)?,
    }
    plumbing::introduce(&host, pod, address)
}

/// Waits for the branch's link: the one with its hardware address, since an earlier branch may have
/// had the VLAN.
fn meet(branch: &Branch) -> Result<u32, PlumbError> {
    let name = Branch::link_name(branch.vlan_id);
    let mac: Option<Mac> = branch.mac.parse().ok();
    let is_it = |link: &linux_netlink::Link| mac.is_none() || link.mac == mac;
    let found = Netlink::await_link_here(&name, is_it, LINK_LIMIT);
    let found = found.map_err(|source| PlumbError::Await { name: name.clone(), source })?;
    let link = found.ok_or_else(|| PlumbError::NoBranch {
        name: name.clone(),
        mac: branch.mac.clone(),
        limit: LINK_LIMIT,
    })?;
    Ok(link.index)
}

fn by_link(host: &Netlink, link: &str, ip: IpAddr, vlan_id: u32) -> Result<(), PlumbError> {
    let index = index_of(host, link)?;
    plumbing::heed_nobody(link)?;
    host.set_up(index).map_err(refused)?;
    let table = Branch::table(vlan_id);
    let to_pod = Route::to_host(ip).device(index).scope(Scope::Link).table(table);
    host.add_route(&to_pod).map_err(refused)?;
    for input in [Branch::link_name(vlan_id), link.to_owned()] {
        let rule = Rule::new(BY_LINK, table).input(input);
        host.add_rule(&Rule { is_ipv6: ip.is_ipv6(), ..rule }).map_err(refused)?;
    }
    Ok(())
}

/// Removes what leads to and from the branch, in either mode. What is gone is fine.
pub(crate) fn tear_down(vlan_id: u32) -> Result<(), PlumbError> {
    let host = Netlink::here().map_err(unreachable)?;
    let table = Branch::table(vlan_id);
    for rule in host.rules().map_err(refused)? {
        if rule.priority == BY_LINK && rule.table == table {
            host.delete_rule(&rule).map_err(refused)?;
        }
    }
    // With the link its routes go.
    let name = Branch::link_name(vlan_id);
    if let Some(link) = host.link_by_name(&name).map_err(refused)? {
        let down = LinkChange { is_up: Some(false), ..LinkChange::default() };
        match host.change_link(link.index, &down) {
            Err(error) if !error.is_not_found() => return Err(refused(error)),
            _ => {}
        }
    }
    Ok(())
}

/// What DEL finds in the previous result: an interface that there is not, whose hardware address is
/// the VLAN's id.
pub(crate) fn memento(namespace: &str, pod: &str, vlan_id: u32) -> Interface {
    let name = host_link_name(MEMENTO_PREFIX, namespace, pod);
    Interface { name, mac: vlan_id.to_string(), sandbox: String::new() }
}

/// The VLAN of the branch that ADD has set up.
pub(crate) fn of_result(invocation: &Invocation) -> Option<u32> {
    let result = invocation.config.previous()?;
    let name = memento(&invocation.pod.namespace, &invocation.pod.name, 0).name;
    let found = result.interfaces.into_iter().find(|it| it.name == name)?;
    found.mac.parse().ok().filter(|it| *it != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strict_mode_has_links_that_nobody_else_routes() {
        assert_eq!(Mode::of("strict").unwrap().prefix("eni"), "vlan");
        assert_eq!(Mode::of("standard").unwrap().prefix("eni"), "eni");
        assert!(Mode::of("lenient").is_err());
    }

    #[test]
    fn the_vlan_is_remembered_under_upstreams_name() {
        let it = memento("default", "web-0", 7);
        assert_eq!((it.name.as_str(), it.mac.as_str()), ("dummy0d7763386da", "7"));
    }
}
