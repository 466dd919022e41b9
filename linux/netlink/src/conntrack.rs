//! Tracked connections: lists and deletes entries.
//!
//! Source: Linux `include/uapi/linux/netfilter/nfnetlink_conntrack.h`. Numbers in attributes are in
//! network order here, unlike in rtnetlink.

use std::net::IpAddr;

use nix::sys::socket::SockProtocol;

use crate::{
    Netlink, OpenError, RequestError,
    codec::{AF_INET, AF_INET6, Request, attributes, ip_of},
    link::gone_is_fine,
    socket::{CHANGE, DUMP},
};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET` and `…_DELETE`.
const CT_GET: u16 = 0x0101;
const CT_DELETE: u16 = 0x0102;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const NFGENMSG_LEN: usize = 4;
const UDP: u8 = 17;

/// A netfilter socket in one namespace.
#[derive(Debug)]
pub struct Conntrack(Netlink);

/// A tracked flow, as its first packet went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub from: IpAddr,
    /// What the client sends to.
    pub to: IpAddr,
    pub port: u16,
    /// Who answers: the one that the client sends to, unless its address was translated.
    pub answered_by: IpAddr,
}

#[derive(Debug, Default)]
struct Tuple {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: u8,
    port: u16,
}

impl Flow {
    fn of(original: &Tuple, reply: &Tuple) -> Option<Self> {
        Some(Self {
            from: original.source?,
            to: original.destination?,
            port: original.port,
            answered_by: reply.source?,
        })
    }
}

impl Conntrack {
    /// Opens a socket in the caller's namespace.
    pub fn here() -> Result<Self, OpenError> {
        Netlink::open_here(SockProtocol::NetlinkNetFilter).map(Self)
    }

    /// Deletes the UDP flows of IPv4 or IPv6 that `is_stale` picks; says how many.
    pub fn delete_udp(
        &self,
        is_ipv4: bool,
        is_stale: impl Fn(&Flow) -> bool,
    ) -> Result<usize, RequestError> {
        let mut count = 0;
        let family = if is_ipv4 { AF_INET } else { AF_INET6 };
        let mut found = Vec::new();
        let request = Request::new(CT_GET, DUMP, &[family, 0, 0, 0]);
        self.0.query("list connections", request, |message| {
            let Some(body) = message.payload.get(NFGENMSG_LEN..) else { return };
            let tuple = |kind| attributes(body).find(|(it, _)| *it == kind);
            let (Some((_, original)), Some((_, reply))) =
                (tuple(CTA_TUPLE_ORIG), tuple(CTA_TUPLE_REPLY))
            else {
                return;
            };
            let (from, back) = (parse(original), parse(reply));
            let is_udp = from.protocol == UDP;
            if is_udp && Flow::of(&from, &back).is_some_and(|flow| is_stale(&flow)) {
                found.push(original.to_vec());
            }
        })?;
        for original in found {
            let mut request = Request::new(CT_DELETE, CHANGE, &[family, 0, 0, 0]);
            let nest = request.nest(CTA_TUPLE_ORIG);
            request.raw(&original);
            request.end(nest);
            gone_is_fine(self.0.change("delete a connection", request))?;
            count += 1;
        }
        Ok(count)
    }
}

fn parse(tuple: &[u8]) -> Tuple {
    let mut parsed = Tuple::default();
    for (kind, value) in attributes(tuple) {
        for (inner, value) in attributes(value) {
            match (kind, inner) {
                (CTA_TUPLE_IP, CTA_IP_V4_SRC | CTA_IP_V6_SRC) => parsed.source = ip_of(value),
                (CTA_TUPLE_IP, CTA_IP_V4_DST | CTA_IP_V6_DST) => parsed.destination = ip_of(value),
                (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => {
                    parsed.protocol = value.first().copied().unwrap_or(0);
                }
                (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => {
                    let bytes = value.try_into().unwrap_or([0; 2]);
                    parsed.port = u16::from_be_bytes(bytes);
                }
                _ => {}
            }
        }
    }
    parsed
}
