//! Addresses of links.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    Netlink, RequestError,
    codec::{AF_UNSPEC, Message, Request, attributes, family_of, ip_of, u32_at},
    link::gone_is_fine,
    socket::{CHANGE, DUMP, NLM_F_CREATE, NLM_F_REPLACE},
};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFADDR_LEN: usize = 8;
/// Do not wait for duplicate address detection (IPv6).
const IFA_F_NODAD: u32 = 0x02;

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub index: u32,
    /// The address with its prefix length (not the network's base).
    pub net: IpNet,
}

impl Netlink {
    /// All addresses, of all links.
    pub fn addresses(&self) -> Result<Vec<Address>, RequestError> {
        let request = Request::new(RTM_GETADDR, DUMP, &[AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0]);
        let mut found = Vec::new();
        self.query("list addresses", request, |message| found.extend(parse(message)))?;
        Ok(found)
    }

    pub fn add_address(&self, index: u32, net: IpNet) -> Result<(), RequestError> {
        let request = address(RTM_NEWADDR, CHANGE | NLM_F_CREATE | NLM_F_REPLACE, index, net);
        self.change(&format!("add address `{net}` to link {index}"), request)
    }

    pub fn delete_address(&self, index: u32, net: IpNet) -> Result<(), RequestError> {
        let request = address(RTM_DELADDR, CHANGE, index, net);
        gone_is_fine(self.change(&format!("delete address `{net}` of link {index}"), request))
    }
}

fn address(kind: u16, flags: u16, index: u32, net: IpNet) -> Request {
    let ip = net.addr();
    let mut fixed = [0; IFADDR_LEN];
    fixed[0] = family_of(ip);
    fixed[1] = net.prefix_len();
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut request = Request::new(kind, flags, &fixed);
    request.ip(IFA_LOCAL, ip);
    request.ip(IFA_ADDRESS, ip);
    if ip.is_ipv6() {
        request.u32(IFA_FLAGS, IFA_F_NODAD);
    }
    request
}

fn parse(message: Message<'_>) -> Option<Address> {
    if message.kind != RTM_NEWADDR {
        return None;
    }
    let prefix = *message.payload.get(1)?;
    let index = u32_at(message.payload, 4)?;
    let (mut local, mut peer): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    for (kind, value) in attributes(message.payload.get(IFADDR_LEN..)?) {
        match kind {
            IFA_LOCAL => local = ip_of(value),
            IFA_ADDRESS => peer = ip_of(value),
            _ => {}
        }
    }
    Some(Address { index, net: IpNet::new(local.or(peer)?, prefix).ok()? })
}
