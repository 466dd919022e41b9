//! Links: veth pairs, state, names, hardware addresses, moves between namespaces.

use std::{
    fmt,
    os::fd::{AsRawFd, BorrowedFd},
    str::FromStr,
};

use nix::errno::Errno;

use crate::{
    Netlink, RequestError,
    codec::{AF_UNSPEC, Message, Request, attributes, string_of, u32_at},
    socket::{CHANGE, DUMP, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST},
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;

const IFF_UP: u32 = 1;
const IFINFO_LEN: usize = 16;

/// A hardware address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// The text is not six pairs of hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a hardware address")]
pub struct ParseMacError {
    pub text: String,
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let wrong = || ParseMacError { text: text.to_owned() };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

/// A link as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub is_up: bool,
    /// The other end of a veth pair: its index in *its* namespace.
    pub peer_index: Option<u32>,
    pub master: Option<u32>,
    /// `veth`, `bridge`, `dummy`; `None` for hardware and loopback.
    pub kind: Option<String>,
}

/// What to change about a link, in one request. `None` leaves a property alone.
#[derive(Clone, Debug, Default)]
pub struct LinkChange<'a> {
    pub name: Option<&'a str>,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    pub is_up: Option<bool>,
    /// The index of a bridge; 0 releases.
    pub master: Option<u32>,
    /// The namespace to move to. Moving takes the link down.
    pub netns: Option<BorrowedFd<'a>>,
}

/// One end of a veth pair to create.
#[derive(Clone, Debug)]
pub struct VethEnd<'a> {
    pub name: &'a str,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    /// The namespace it is created in; `None` is the socket's.
    pub netns: Option<BorrowedFd<'a>>,
}

impl<'a> VethEnd<'a> {
    pub fn named(name: &'a str) -> Self {
        Self { name, mac: None, mtu: None, netns: None }
    }
}

/// A veth pair to create. Both ends can be created where they belong, without a move.
#[derive(Clone, Debug)]
pub struct Veth<'a> {
    pub end: VethEnd<'a>,
    pub peer: VethEnd<'a>,
}

impl Netlink {
    pub fn links(&self) -> Result<Vec<Link>, RequestError> {
        let request = Request::new(RTM_GETLINK, DUMP, &ifinfo(0, 0, 0));
        let mut links = Vec::new();
        self.query("list links", request, |message| links.extend(parse(message)))?;
        Ok(links)
    }

    pub fn link_by_name(&self, name: &str) -> Result<Option<Link>, RequestError> {
        let mut request = Request::new(RTM_GETLINK, CHANGE, &ifinfo(0, 0, 0));
        request.string(IFLA_IFNAME, name);
        self.one_link(&format!("find link `{name}`"), request)
    }

    pub fn link_by_index(&self, index: u32) -> Result<Option<Link>, RequestError> {
        let request = Request::new(RTM_GETLINK, CHANGE, &ifinfo(index, 0, 0));
        self.one_link(&format!("find link {index}"), request)
    }

    pub fn link_by_mac(&self, mac: Mac) -> Result<Option<Link>, RequestError> {
        Ok(self.links()?.into_iter().find(|link| link.mac == Some(mac)))
    }

    fn one_link(&self, what: &str, request: Request) -> Result<Option<Link>, RequestError> {
        let mut found = None;
        match self.query(what, request, |message| found = parse(message)) {
            Ok(()) => Ok(found),
            Err(error) if error.source == Errno::ENODEV => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates both ends. Fails with `EEXIST` where a name is taken.
    pub fn create_veth(&self, veth: &Veth<'_>) -> Result<(), RequestError> {
        let mut request = new_link(&veth.end);
        let info = request.nest(IFLA_LINKINFO);
        request.string(IFLA_INFO_KIND, "veth");
        let data = request.nest(IFLA_INFO_DATA);
        let peer = request.nest(VETH_INFO_PEER);
        request.raw(&ifinfo(0, 0, 0));
        put_end(&mut request, &veth.peer);
        request.end(peer);
        request.end(data);
        request.end(info);
        let what = format!("create veth pair `{}`, `{}`", veth.end.name, veth.peer.name);
        self.change(&what, request)
    }

    /// Creates a link that needs no more than its kind: `dummy`, `bridge`.
    pub fn create_link(&self, kind: &str, end: &VethEnd<'_>) -> Result<(), RequestError> {
        let mut request = new_link(end);
        let info = request.nest(IFLA_LINKINFO);
        request.string(IFLA_INFO_KIND, kind);
        request.end(info);
        self.change(&format!("create {kind} `{}`", end.name), request)
    }

    pub fn change_link(&self, index: u32, change: &LinkChange<'_>) -> Result<(), RequestError> {
        let (flags, mask) = match change.is_up {
            None => (0, 0),
            Some(true) => (IFF_UP, IFF_UP),
            Some(false) => (0, IFF_UP),
        };
        let mut request = Request::new(RTM_NEWLINK, CHANGE, &ifinfo(index, flags, mask));
        if let Some(name) = change.name {
            request.string(IFLA_IFNAME, name);
        }
        put_properties(&mut request, change.mac, change.mtu, change.netns);
        if let Some(master) = change.master {
            request.u32(IFLA_MASTER, master);
        }
        self.change(&format!("change link {index}"), request)
    }

    pub fn set_up(&self, index: u32) -> Result<(), RequestError> {
        self.change_link(index, &LinkChange { is_up: Some(true), ..LinkChange::default() })
    }

    pub fn move_link(&self, index: u32, netns: BorrowedFd<'_>) -> Result<(), RequestError> {
        self.change_link(index, &LinkChange { netns: Some(netns), ..LinkChange::default() })
    }

    /// Deletes a link; a veth's other end goes with it.
    pub fn delete_link(&self, index: u32) -> Result<(), RequestError> {
        let request = Request::new(RTM_DELLINK, CHANGE, &ifinfo(index, 0, 0));
        gone_is_fine(self.change(&format!("delete link {index}"), request))
    }

    /// Deletes the link of that name, if there is one.
    pub fn delete_link_by_name(&self, name: &str) -> Result<(), RequestError> {
        let mut request = Request::new(RTM_DELLINK, CHANGE, &ifinfo(0, 0, 0));
        request.string(IFLA_IFNAME, name);
        gone_is_fine(self.change(&format!("delete link `{name}`"), request))
    }
}

pub(crate) fn gone_is_fine(result: Result<(), RequestError>) -> Result<(), RequestError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

fn new_link(end: &VethEnd<'_>) -> Request {
    let flags = CHANGE | NLM_F_CREATE | NLM_F_EXCL | NLM_F_REQUEST;
    let mut request = Request::new(RTM_NEWLINK, flags, &ifinfo(0, 0, 0));
    put_end(&mut request, end);
    request
}

fn put_end(request: &mut Request, end: &VethEnd<'_>) {
    request.string(IFLA_IFNAME, end.name);
    put_properties(request, end.mac, end.mtu, end.netns);
}

fn put_properties(
    request: &mut Request,
    mac: Option<Mac>,
    mtu: Option<u32>,
    netns: Option<BorrowedFd<'_>>,
) {
    if let Some(Mac(bytes)) = mac {
        request.attribute(IFLA_ADDRESS, &bytes);
    }
    if let Some(mtu) = mtu {
        request.u32(IFLA_MTU, mtu);
    }
    if let Some(netns) = netns {
        request.attribute(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
    }
}

/// `struct ifinfomsg`.
fn ifinfo(index: u32, flags: u32, mask: u32) -> [u8; IFINFO_LEN] {
    let mut bytes = [0; IFINFO_LEN];
    bytes[0] = AF_UNSPEC;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&mask.to_ne_bytes());
    bytes
}

fn parse(message: Message<'_>) -> Option<Link> {
    if message.kind != RTM_NEWLINK {
        return None;
    }
    let mut link = Link {
        index: u32_at(message.payload, 4)?,
        name: String::new(),
        mac: None,
        mtu: 0,
        is_up: u32_at(message.payload, 8)? & IFF_UP != 0,
        peer_index: None,
        master: None,
        kind: None,
    };
    for (kind, value) in attributes(message.payload.get(IFINFO_LEN..)?) {
        match kind {
            IFLA_IFNAME => link.name = string_of(value),
            IFLA_ADDRESS => link.mac = value.try_into().ok().map(Mac),
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_LINK => link.peer_index = u32_at(value, 0),
            IFLA_MASTER => link.master = u32_at(value, 0),
            IFLA_LINKINFO => {
                let kind = attributes(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = kind.map(|(_, value)| string_of(value));
            }
            _ => {}
        }
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read_as_they_are_printed() {
        let mac: Mac = "02:0a:ff:00:10:9e".parse().unwrap();
        assert_eq!(mac.to_string(), "02:0a:ff:00:10:9e");
        for wrong in
            ["", "02:0a:ff:00:10", "02:0a:ff:00:10:9e:01", "2:a:ff:0:10:9e", "x2:0a:ff:00:10:9e"]
        {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }
}
