//! The pod's link, routes and rules.
//!
//! In the pod: `eth0` with its address as a /32, a default route via 169.254.1.1 and a permanent
//! neighbour entry that says the gateway is the host's end. On the node: a route to the address and
//! a rule that makes everybody use it (512), and for an address of a secondary interface a rule
//! that sends what the pod sends through that interface's table (1536).
//!
//! In an IPv6 cluster the gateway is fe80::1, and a second link (`v4if0`) of an address that means
//! something on this node alone leads to what is IPv4 only.
//!
//! Deviation: the node is told the hardware address of an IPv6 pod, so that nobody waits for the
//! detection of duplicate addresses.
//!
//! **Invariant:** names and priorities are upstream's; Calico and the network policy agent rely on
//! the links', and people's runbooks on the rules'.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

use api_cni::backend::Assignment;
use linux_netlink::{
    AwaitLinkError, Mac, Netlink, OpenError, RequestError, Route, Rule, Scope, TABLE_MAIN, Veth,
    VethEnd,
};
use sha1::{Digest, Sha1};

/// What pods have as their gateway: nobody's address, answered for by the host's end of the pair.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The way to what is IPv4 only, as the pod sees it, and what the node's end of it is named after.
pub(crate) const EGRESS: &str = "v4if0";
const EGRESS_PREFIX: &str = "veth";
const TO_POD: u32 = 512;
const FROM_POD: u32 = 1536;

/// A pod's link to be made.
pub(crate) struct Pod<'a> {
    pub(crate) netns: &'a Path,
    pub(crate) ifname: &'a str,
    pub(crate) host_link: &'a str,
    pub(crate) container_id: &'a str,
    pub(crate) mtu: u32,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PlumbError {
    #[error("failed to open the pod's namespace `{}`", netns.display())]
    Namespace {
        netns: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to reach the kernel")]
    Open {
        #[source]
        source: OpenError,
    },
    #[error("link `{name}` is not there although it was just made")]
    Vanished { name: String },
    #[error("link `{name}` of branch interface `{mac}` did not come within {limit:?}")]
    NoBranch { name: String, mac: String, limit: Duration },
    #[error("failed to wait for link `{name}`")]
    Await {
        name: String,
        #[source]
        source: AwaitLinkError,
    },
    #[error("failed to set `{path}`")]
    Sysctl {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("the kernel refused a step")]
    Request {
        #[source]
        source: RequestError,
    },
}

pub(crate) fn refused(source: RequestError) -> PlumbError {
    PlumbError::Request { source }
}

pub(crate) fn unreachable(source: OpenError) -> PlumbError {
    PlumbError::Open { source }
}

/// A hardware address for one end: unicast, locally administered, the same for the same sandbox.
///
/// Set when the link is made, it also keeps systemd from giving the link another one later.
fn mac(container_id: &str, end: &str) -> Mac {
    let digest = Sha1::digest(format!("{container_id}/{end}"));
    Mac([0x02 | (digest[0] & 0xfc), digest[1], digest[2], digest[3], digest[4], digest[5]])
}

/// Makes the pair and everything that leads to it.
pub(crate) fn set_up(
    pod: &Pod<'_>,
    address: &Assignment,
    egress_link: &str,
) -> Result<(), PlumbError> {
    let ip = address.pod_address();
    let host = set_up_pair(pod, ip)?;
    set_up_host(&host, pod.host_link, ip, address.route_table)?;
    introduce(&host, pod, ip)?;
    let Some(egress) = address.egress_address() else { return Ok(()) };
    let link = Pod { ifname: EGRESS, host_link: egress_link, ..*pod };
    let host = set_up_pair(&link, egress.into())?;
    set_up_host(&host, egress_link, egress.into(), TABLE_MAIN)
}

/// Tells the node the hardware address of an IPv6 pod: it would ask for it only once its end's own
/// address is found to be unique.
pub(crate) fn introduce(host: &Netlink, pod: &Pod<'_>, ip: IpAddr) -> Result<(), PlumbError> {
    if ip.is_ipv4() {
        return Ok(());
    }
    let link = index_of(host, pod.host_link)?;
    host.add_neighbour(link, ip, mac(pod.container_id, pod.ifname)).map_err(refused)
}

/// The node's end of a pod's way to IPv4.
pub(crate) fn egress_link(namespace: &str, name: &str) -> String {
    api_cni::host_link_name(EGRESS_PREFIX, namespace, name)
}

/// Makes the pair and the pod's side of it; gives back the node.
pub(crate) fn set_up_pair(pod: &Pod<'_>, address: IpAddr) -> Result<Netlink, PlumbError> {
    let failed = |source| PlumbError::Namespace { netns: pod.netns.to_owned(), source };
    let namespace = File::open(pod.netns).map_err(failed)?;
    let host = Netlink::here().map_err(unreachable)?;
    let inside = Netlink::at(pod.netns).map_err(unreachable)?;

    let host_mac = mac(pod.container_id, &format!("host/{}", pod.ifname));
    let end = |name, mac| VethEnd { mac: Some(mac), mtu: Some(pod.mtu), ..VethEnd::named(name) };
    let veth = Veth {
        end: end(pod.host_link, host_mac),
        peer: VethEnd {
            netns: Some(namespace.as_fd()),
            ..end(pod.ifname, mac(pod.container_id, pod.ifname))
        },
    };
    // An earlier try of this sandbox, or an earlier pod of this name that is on its way out.
    if let Err(error) = host.create_veth(&veth) {
        if !error.is_already_there() {
            return Err(refused(error));
        }
        host.delete_link_by_name(pod.host_link).map_err(refused)?;
        inside.delete_link_by_name(pod.ifname).map_err(refused)?;
        host.create_veth(&veth).map_err(refused)?;
    }
    set_up_inside(&inside, pod.ifname, address, host_mac)?;
    Ok(host)
}

fn set_up_inside(
    inside: &Netlink,
    ifname: &str,
    ip: IpAddr,
    gateway: Mac,
) -> Result<(), PlumbError> {
    let index = index_of(inside, ifname)?;
    inside.set_up(index).map_err(refused)?;
    inside.add_address(index, ip.into()).map_err(refused)?;
    let router = if ip.is_ipv4() { IpAddr::V4(GATEWAY) } else { IpAddr::V6(GATEWAY_V6) };
    let to_router = Route::to_host(router).device(index).scope(Scope::Link);
    inside.add_route(&to_router).map_err(refused)?;
    let default = Route::default_via(router).device(index);
    inside.add_route(&default).map_err(refused)?;
    inside.add_neighbour(index, router, gateway).map_err(refused)
}

/// The node's side where routing goes by the pod's address.
pub(crate) fn set_up_host(
    host: &Netlink,
    link: &str,
    ip: IpAddr,
    table: u32,
) -> Result<(), PlumbError> {
    let index = index_of(host, link)?;
    heed_nobody(link)?;
    host.set_up(index).map_err(refused)?;
    let to_pod = Route::to_host(ip).device(index).scope(Scope::Link);
    host.add_route(&to_pod).map_err(refused)?;
    // What an earlier owner of the address left would send packets through its interface.
    for stale in host.rules().map_err(refused)? {
        let is_of_address = stale.priority == FROM_POD && stale.from == Some(ip.into());
        if is_of_address && stale.table != table {
            host.delete_rule(&stale).map_err(refused)?;
        }
    }
    host.add_rule(&Rule::new(TO_POD, TABLE_MAIN).to(ip.into())).map_err(refused)?;
    if table == TABLE_MAIN {
        return Ok(());
    }
    host.add_rule(&Rule::new(FROM_POD, table).from(ip.into())).map_err(refused)
}

/// A pod is nobody's router: one that says so by IPv6 would be the node's way to everywhere
/// (CVE-2020-10749). To be said before the link is up.
pub(crate) fn heed_nobody(link: &str) -> Result<(), PlumbError> {
    for setting in ["accept_ra", "accept_redirects"] {
        let path = format!("/proc/sys/net/ipv6/conf/{link}/{setting}");
        match std::fs::write(&path, "0") {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done.map_err(|source| PlumbError::Sysctl { path, source })?,
        }
    }
    Ok(())
}

pub(crate) fn index_of(netlink: &Netlink, name: &str) -> Result<u32, PlumbError> {
    let link = netlink.link_by_name(name).map_err(refused)?;
    link.map(|link| link.index).ok_or_else(|| PlumbError::Vanished { name: name.to_owned() })
}

/// Removes what leads to `address`. What is gone already is fine.
pub(crate) fn tear_down_host(ip: IpAddr) -> Result<(), PlumbError> {
    let host = Netlink::here().map_err(unreachable)?;
    for rule in host.rules().map_err(refused)? {
        let leads_to = rule.priority == TO_POD && rule.to == Some(ip.into());
        let comes_from = rule.priority == FROM_POD && rule.from == Some(ip.into());
        if leads_to || comes_from {
            host.delete_rule(&rule).map_err(refused)?;
        }
    }
    host.delete_route(&Route::to_host(ip).scope(Scope::Link)).map_err(refused)
}

/// Removes the pair by the pod's end: the host's end may by now be of a newer pod of that name.
pub(crate) fn tear_down_pod(netns: &Path, ifname: &str) -> Result<(), PlumbError> {
    match Netlink::at(netns) {
        Ok(inside) => {
            inside.delete_link_by_name(EGRESS).map_err(refused)?;
            inside.delete_link_by_name(ifname).map_err(refused)
        }
        // A namespace that is gone took its links along.
        Err(OpenError::Netns { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(PlumbError::Open { source }),
    }
}

/// Whether the pod's end has the address and the node a route to it, in its branch's table or in
/// the main one.
pub(crate) fn is_set_up(
    netns: &Path,
    ifname: &str,
    ip: IpAddr,
    branch: Option<u32>,
) -> Result<bool, PlumbError> {
    let inside = Netlink::at(netns).map_err(unreachable)?;
    let Some(link) = inside.link_by_name(ifname).map_err(refused)? else { return Ok(false) };
    let addresses = inside.addresses().map_err(refused)?;
    let has_address = addresses.iter().any(|it| it.index == link.index && it.net.addr() == ip);
    let host = Netlink::here().map_err(unreachable)?;
    let routes = host.routes().map_err(refused)?;
    let is_its_table = |table: u32| table == TABLE_MAIN || Some(table) == branch;
    let to_pod = routes.iter().any(|it| is_its_table(it.table) && it.destination == ip.into());
    Ok(link.is_up && has_address && to_pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_unicast_and_locally_administered() {
        for id in ["a", "b", "c", "d"] {
            let Mac([first, ..]) = mac(id, "host");
            assert_eq!(first & 0b11, 0b10, "{id}");
            assert_ne!(mac(id, "host"), mac(id, "eth0"));
        }
    }
}
