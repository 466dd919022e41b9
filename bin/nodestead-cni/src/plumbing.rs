//! The pod's link, routes and rules.
//!
//! In the pod: `eth0` with its address as a /32, a default route via 169.254.1.1 and a permanent
//! neighbour entry that says the gateway is the host's end. On the node: a route to the address and
//! a rule that makes everybody use it (512), and for an address of a secondary interface a rule
//! that sends what the pod sends through that interface's table (1536).
//!
//! **Invariant:** names and priorities are upstream's; Calico and the network policy agent rely on
//! the links', and people's runbooks on the rules'.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use api_cni::backend::Assignment;
use linux_netlink::{
    Mac, Netlink, OpenError, RequestError, Route, Rule, Scope, TABLE_MAIN, Veth, VethEnd,
};
use sha1::{Digest, Sha1};

/// What pods have as their gateway: nobody's address, answered for by the host's end of the pair.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
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
    #[error("the kernel refused a step")]
    Request {
        #[source]
        source: RequestError,
    },
}

fn refused(source: RequestError) -> PlumbError {
    PlumbError::Request { source }
}

fn unreachable(source: OpenError) -> PlumbError {
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
pub(crate) fn set_up(pod: &Pod<'_>, address: &Assignment) -> Result<(), PlumbError> {
    let failed = |source| PlumbError::Namespace { netns: pod.netns.to_owned(), source };
    let namespace = File::open(pod.netns).map_err(failed)?;
    let host = Netlink::here().map_err(unreachable)?;
    let inside = Netlink::at(pod.netns).map_err(unreachable)?;

    let host_mac = mac(pod.container_id, "host");
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
    let ip = IpAddr::V4(address.address);
    set_up_inside(&inside, pod.ifname, ip, host_mac)?;
    set_up_host(&host, pod.host_link, ip, address.route_table)
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
    let to_gateway = Route::to_host(GATEWAY.into()).device(index).scope(Scope::Link);
    inside.add_route(&to_gateway).map_err(refused)?;
    let default = Route::default_via(GATEWAY.into()).device(index);
    inside.add_route(&default).map_err(refused)?;
    inside.add_neighbour(index, GATEWAY.into(), gateway).map_err(refused)
}

fn set_up_host(host: &Netlink, link: &str, ip: IpAddr, table: u32) -> Result<(), PlumbError> {
    let index = index_of(host, link)?;
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

fn index_of(netlink: &Netlink, name: &str) -> Result<u32, PlumbError> {
    let link = netlink.link_by_name(name).map_err(refused)?;
    link.map(|link| link.index).ok_or_else(|| PlumbError::Vanished { name: name.to_owned() })
}

/// Removes what leads to `address`. What is gone already is fine.
pub(crate) fn tear_down_host(address: Ipv4Addr) -> Result<(), PlumbError> {
    let host = Netlink::here().map_err(unreachable)?;
    let ip = IpAddr::V4(address);
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
        Ok(inside) => inside.delete_link_by_name(ifname).map_err(refused),
        // A namespace that is gone took its links along.
        Err(OpenError::Netns { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(PlumbError::Open { source }),
    }
}

/// Whether the pod's end has the address and the node a route to it.
pub(crate) fn is_set_up(netns: &Path, ifname: &str, address: Ipv4Addr) -> Result<bool, PlumbError> {
    let inside = Netlink::at(netns).map_err(unreachable)?;
    let Some(link) = inside.link_by_name(ifname).map_err(refused)? else { return Ok(false) };
    let addresses = inside.addresses().map_err(refused)?;
    let ip = IpAddr::V4(address);
    let has_address = addresses.iter().any(|it| it.index == link.index && it.net.addr() == ip);
    let host = Netlink::here().map_err(unreachable)?;
    let routes = host.routes().map_err(refused)?;
    let to_pod = routes.iter().any(|it| it.table == TABLE_MAIN && it.destination == ip.into());
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
