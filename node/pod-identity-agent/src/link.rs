//! The link that the agent's addresses are on: `pod-id-link0`, in the node's own namespace.
//!
//! Packets of pods go through the node, which finds the address to be its own: no rule is needed.
//!
//! Upstream makes a dummy link.
//! Deviation: where the kernel has none, it is a bridge without ports, which holds addresses alike.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use linux_netlink::{Netlink, OpenError, RequestError, VethEnd};
use nix::errno::Errno;

pub const NAME: &str = "pod-id-link0";
pub const IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 23);
pub const IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23);

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("failed to set up `{NAME}`")]
    Request(#[from] RequestError),
    #[error("`{NAME}` vanished")]
    Gone,
}

/// Makes sure of the link and its addresses. Says why there is no IPv6, where there is none.
pub fn ensure(netlink: &Netlink) -> Result<Option<RequestError>, LinkError> {
    if netlink.link_by_name(NAME)?.is_none() {
        create(netlink)?;
    }
    let index = netlink.link_by_name(NAME)?.ok_or(LinkError::Gone)?.index;
    netlink.add_address(index, IpNet::from(std::net::IpAddr::from(IPV4)))?;
    netlink.set_up(index)?;
    Ok(netlink.add_address(index, IpNet::from(std::net::IpAddr::from(IPV6))).err())
}

fn create(netlink: &Netlink) -> Result<(), RequestError> {
    let end = VethEnd::named(NAME);
    match netlink.create_link("dummy", &end) {
        Err(error) if error.source == Errno::EOPNOTSUPP => netlink.create_link("bridge", &end),
        done => done,
    }
}
