//! Neighbours: which hardware address an IP address has on a link.

use std::net::IpAddr;

use crate::{
    Mac, Netlink, RequestError,
    codec::{AF_UNSPEC, Message, Request, attributes, family_of, ip_of, u16_at, u32_at},
    link::gone_is_fine,
    socket::{CHANGE, DUMP, NLM_F_CREATE, NLM_F_REPLACE},
};

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDMSG_LEN: usize = 12;
const NUD_PERMANENT: u16 = 0x80;

/// An entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub index: u32,
    pub address: IpAddr,
    pub mac: Option<Mac>,
    pub is_permanent: bool,
}

impl Netlink {
    pub fn neighbours(&self) -> Result<Vec<Neighbour>, RequestError> {
        let mut fixed = [0; NDMSG_LEN];
        fixed[0] = AF_UNSPEC;
        let request = Request::new(RTM_GETNEIGH, DUMP, &fixed);
        let mut found = Vec::new();
        self.query("list neighbours", request, |message| found.extend(parse(message)))?;
        Ok(found)
    }

    /// Says for good that `address` is at `mac`.
    pub fn add_neighbour(&self, index: u32, address: IpAddr, mac: Mac) -> Result<(), RequestError> {
        let flags = CHANGE | NLM_F_CREATE | NLM_F_REPLACE;
        let mut request = message(RTM_NEWNEIGH, flags, index, address);
        request.attribute(NDA_LLADDR, &mac.0);
        self.change(&format!("add neighbour `{address}` at `{mac}` on link {index}"), request)
    }

    pub fn delete_neighbour(&self, index: u32, address: IpAddr) -> Result<(), RequestError> {
        let request = message(RTM_DELNEIGH, CHANGE, index, address);
        gone_is_fine(self.change(&format!("delete neighbour `{address}` on link {index}"), request))
    }
}

fn message(kind: u16, flags: u16, index: u32, address: IpAddr) -> Request {
    let mut fixed = [0; NDMSG_LEN];
    fixed[0] = family_of(address);
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    let mut request = Request::new(kind, flags, &fixed);
    request.ip(NDA_DST, address);
    request
}

fn parse(message: Message<'_>) -> Option<Neighbour> {
    if message.kind != RTM_NEWNEIGH {
        return None;
    }
    let index = u32_at(message.payload, 4)?;
    let is_permanent = u16_at(message.payload, 8)? & NUD_PERMANENT != 0;
    let (mut address, mut mac) = (None, None);
    for (kind, value) in attributes(message.payload.get(NDMSG_LEN..)?) {
        match kind {
            NDA_DST => address = ip_of(value),
            NDA_LLADDR => mac = value.try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some(Neighbour { index, address: address?, mac, is_permanent })
}
