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

/// Which flows are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowFilter {
    /// What the client sends to; `None` is any.
    pub to: Option<IpAddr>,
    pub port: u16,
    /// Who answers; `None`: whoever the client sends to, so nothing was translated.
    pub translated_to: Option<IpAddr>,
}

#[derive(Debug, Default)]
struct Tuple {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: u8,
    port: u16,
}

impl FlowFilter {
    fn matches(&self, original: &Tuple, reply: &Tuple) -> bool {
        let answered_by = reply.source;
        original.port == self.port
            && (self.to.is_none() || self.to == original.destination)
            && match self.translated_to {
                None => answered_by == original.destination,
                Some(endpoint) => answered_by == Some(endpoint),
            }
    }
}

impl Conntrack {
    /// Opens a socket in the caller's namespace.
    pub fn here() -> Result<Self, OpenError> {
        Netlink::open_here(SockProtocol::NetlinkNetFilter).map(Self)
    }

    /// Deletes the UDP flows that any of `filters` matches; says how many.
    pub fn delete_udp(&self, filters: &[FlowFilter]) -> Result<usize, RequestError> {
        let mut count = 0;
        for family in [AF_INET, AF_INET6] {
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
                if from.protocol == UDP && filters.iter().any(|it| it.matches(&from, &back)) {
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
