//! Routes of any table.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    Netlink, RequestError,
    codec::{AF_INET, AF_INET6, AF_UNSPEC, Message, Request, attributes, family_of, ip_of, u32_at},
    link::gone_is_fine,
    socket::{CHANGE, DUMP, NLM_F_CREATE, NLM_F_REPLACE},
};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const RTMSG_LEN: usize = 12;
const RTNH_F_ONLINK: u32 = 4;

/// `RTPROT_STATIC`: what an administrator sets.
const PROTOCOL_STATIC: u8 = 4;

pub const TABLE_MAIN: u32 = 254;
pub const TABLE_LOCAL: u32 = 255;

/// How far a destination is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    #[default]
    Universe,
    Link,
    Host,
}

/// What happens to a packet that meets a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    #[default]
    Unicast,
    Local,
    Blackhole,
    Unreachable,
    Prohibit,
    /// One that the kernel made for its own ends (broadcast, multicast, …).
    Other(u8),
}

/// A route; begin with [`Route::to`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    pub destination: IpNet,
    pub gateway: Option<IpAddr>,
    /// The outgoing link's index.
    pub device: Option<u32>,
    pub table: u32,
    pub scope: Scope,
    pub kind: RouteKind,
    /// The source address of packets that this machine begins.
    pub source: Option<IpAddr>,
    /// The gateway is on the link, whatever other routes say.
    pub is_onlink: bool,
    pub metric: Option<u32>,
}

impl Route {
    /// A unicast route in the main table.
    pub fn to(destination: IpNet) -> Self {
        Self {
            destination: destination.trunc(),
            gateway: None,
            device: None,
            table: TABLE_MAIN,
            scope: Scope::Universe,
            kind: RouteKind::Unicast,
            source: None,
            is_onlink: false,
            metric: None,
        }
    }

    /// A route to one address.
    pub fn to_host(address: IpAddr) -> Self {
        Self::to(address.into())
    }

    /// `0.0.0.0/0` or `::/0`, via `gateway`.
    pub fn default_via(gateway: IpAddr) -> Self {
        let any = if gateway.is_ipv4() {
            IpNet::V4(Default::default())
        } else {
            IpNet::V6(Default::default())
        };
        Self::to(any).via(gateway)
    }

    pub fn via(mut self, gateway: IpAddr) -> Self {
        self.gateway = Some(gateway);
        self
    }

    pub fn device(mut self, index: u32) -> Self {
        self.device = Some(index);
        self
    }

    pub fn table(mut self, table: u32) -> Self {
        self.table = table;
        self
    }

    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    pub fn kind(mut self, kind: RouteKind) -> Self {
        self.kind = kind;
        self
    }

    pub fn source(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    pub fn onlink(mut self) -> Self {
        self.is_onlink = true;
        self
    }

    pub fn metric(mut self, metric: u32) -> Self {
        self.metric = Some(metric);
        self
    }
}

impl Netlink {
    /// The routes of all tables and both families.
    pub fn routes(&self) -> Result<Vec<Route>, RequestError> {
        let mut fixed = [0; RTMSG_LEN];
        fixed[0] = AF_UNSPEC;
        let request = Request::new(RTM_GETROUTE, DUMP, &fixed);
        let mut found = Vec::new();
        self.query("list routes", request, |message| found.extend(parse(message)))?;
        Ok(found)
    }

    /// Adds a route, or replaces the one to the same destination in the same table.
    pub fn add_route(&self, route: &Route) -> Result<(), RequestError> {
        let flags = CHANGE | NLM_F_CREATE | NLM_F_REPLACE;
        self.change(&format!("add route {}", describe(route)), message(RTM_NEWROUTE, flags, route))
    }

    /// Deletes the route that matches in all that is set.
    pub fn delete_route(&self, route: &Route) -> Result<(), RequestError> {
        let request = message(RTM_DELROUTE, CHANGE, route);
        gone_is_fine(self.change(&format!("delete route {}", describe(route)), request))
    }
}

fn describe(route: &Route) -> String {
    let mut text = format!("`{}`", route.destination);
    if let Some(gateway) = route.gateway {
        text.push_str(&format!(" via `{gateway}`"));
    }
    if let Some(device) = route.device {
        text.push_str(&format!(" on link {device}"));
    }
    text.push_str(&format!(" in table {}", route.table));
    text
}

fn message(kind: u16, flags: u16, route: &Route) -> Request {
    let mut fixed = [0; RTMSG_LEN];
    fixed[0] = family_of(route.destination.addr());
    fixed[1] = route.destination.prefix_len();
    // Tables above 255 do not fit in the header: 0 (unspecified) and an attribute.
    fixed[4] = u8::try_from(route.table).unwrap_or(0);
    fixed[5] = PROTOCOL_STATIC;
    fixed[6] = scope_code(route.scope);
    fixed[7] = kind_code(route.kind);
    if route.is_onlink {
        fixed[8..12].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
    }
    if kind == RTM_DELROUTE {
        // Any protocol and scope: the route may be one that the kernel made.
        (fixed[5], fixed[6]) = (0, 255);
    }
    let mut request = Request::new(kind, flags, &fixed);
    if route.destination.prefix_len() > 0 {
        request.ip(RTA_DST, route.destination.network());
    }
    if let Some(gateway) = route.gateway {
        request.ip(RTA_GATEWAY, gateway);
    }
    if let Some(device) = route.device {
        request.u32(RTA_OIF, device);
    }
    if let Some(source) = route.source {
        request.ip(RTA_PREFSRC, source);
    }
    if let Some(metric) = route.metric {
        request.u32(RTA_PRIORITY, metric);
    }
    request.u32(RTA_TABLE, route.table);
    request
}

fn scope_code(scope: Scope) -> u8 {
    match scope {
        Scope::Universe => 0,
        Scope::Link => 253,
        Scope::Host => 254,
    }
}

fn kind_code(kind: RouteKind) -> u8 {
    match kind {
        RouteKind::Unicast => 1,
        RouteKind::Local => 2,
        RouteKind::Blackhole => 6,
        RouteKind::Unreachable => 7,
        RouteKind::Prohibit => 8,
        RouteKind::Other(code) => code,
    }
}

fn parse(message: Message<'_>) -> Option<Route> {
    if message.kind != RTM_NEWROUTE {
        return None;
    }
    let fixed = message.payload.get(..RTMSG_LEN)?;
    let any: IpNet = match fixed[0] {
        AF_INET => IpNet::V4(Default::default()),
        AF_INET6 => IpNet::V6(Default::default()),
        _ => return None,
    };
    let mut route = Route::to(any);
    route.table = u32::from(fixed[4]);
    route.scope = match fixed[6] {
        253 => Scope::Link,
        254 => Scope::Host,
        _ => Scope::Universe,
    };
    route.kind = match fixed[7] {
        1 => RouteKind::Unicast,
        2 => RouteKind::Local,
        6 => RouteKind::Blackhole,
        7 => RouteKind::Unreachable,
        8 => RouteKind::Prohibit,
        other => RouteKind::Other(other),
    };
    route.is_onlink = u32_at(fixed, 8)? & RTNH_F_ONLINK != 0;
    for (kind, value) in attributes(message.payload.get(RTMSG_LEN..)?) {
        match kind {
            RTA_DST => route.destination = IpNet::new(ip_of(value)?, fixed[1]).ok()?,
            RTA_GATEWAY => route.gateway = ip_of(value),
            RTA_OIF => route.device = u32_at(value, 0),
            RTA_PREFSRC => route.source = ip_of(value),
            RTA_PRIORITY => route.metric = u32_at(value, 0),
            RTA_TABLE => route.table = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some(route)
}
