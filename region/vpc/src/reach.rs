//! "Can a reach b, and which rule says so?", from the same value that the kernel's rules come from.

mod matching;
mod text;

#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
};

use ipnet::Ipv4Net;

use self::matching::{Direction, find, reply_of, seen};
use crate::{
    ENDPOINTS_V6, Eni, IMDS, IMDS_V6, Location, RESOLVER, RESOLVER_V6, Route, Rule, SERVICES,
    Target, VpcSpec, egress, network_acl,
};

/// The ports that Linux draws from for a connection (`ip_local_port_range`).
const EPHEMERAL: RangeInclusive<u16> = 32768..=60999;

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    Tcp { port: u16 },
    Udp { port: u16 },
    Icmp { kind: u8, code: u8 },
    Icmpv6 { kind: u8, code: u8 },
    Protocol(u8),
}

/// A connection that somebody would begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub from: IpAddr,
    pub to: IpAddr,
    pub packet: Packet,
    /// The port that replies go to, or those of which it is drawn.
    pub source_ports: RangeInclusive<u16>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The packet arrives, and so does what is replied to it.
    pub is_allowed: bool,
    /// The packet arrives.
    pub arrives: bool,
    pub reason: Reason,
    /// What looked at the packet, in order; the last one decided.
    pub steps: Vec<Step>,
}

/// One look at the packet or its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The interface owns the address that it sends from, or nobody asks.
    SourceCheck { eni: String, is_checked: bool },
    /// A route of the sender's subnet takes it; `None` where there is none.
    Route { subnet: String, table: String, route: Option<Route> },
    /// A rule of the groups of `eni` lets it out, or none does.
    Egress { eni: String, rule: Option<(String, Rule)> },
    /// A rule of the groups of `eni` lets it in, or none does.
    Ingress { eni: String, rule: Option<(String, Rule)> },
    /// The network ACL at the border of a subnet; `denied_by` is the entry that stops it.
    Acl { acl: String, subnet: String, is_egress: bool, is_reply: bool, denied_by: Option<u16> },
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody in this VPC owns the sender's address: the source check drops it.
    NoSuchSource { address: IpAddr },
    /// The destination is owned by nobody.
    NoRoute { address: IpAddr },
    /// The interface is in no instance.
    NotAttached { eni: String },
    /// The subnet of `eni` has no way to the AWS endpoints.
    NoRouteToEndpoints { eni: String, subnet: String },
    /// The address is outside of the VPC, and behind the region's gateways is AWS alone.
    NoWayOut { address: IpAddr },
    /// The VPC has a way out, but the subnet of `eni` has no route to it.
    NoRouteOut { eni: String, subnet: String },
    /// The route leads to what is gone.
    Blackhole { subnet: String, route: Route },
    /// The route leads back to the interface that sends.
    LeadsBack { eni: String },
    /// It arrives, but what answers it takes another way, by a route of the receiver's subnet.
    ReplyRoute { subnet: String, route: Route },
    /// The route leads to an interface that takes only what is addressed to it.
    DestinationCheck { eni: String },
    /// The public endpoint's access list has no `outside`, which is `eni`'s address there.
    NotLetIn { eni: String, outside: Ipv4Addr },
    /// No egress rule of the sender's groups allows it.
    Egress { eni: String, groups: Vec<String> },
    /// No ingress rule of the receiver's groups allows it.
    Ingress { eni: String, groups: Vec<String> },
    /// An entry of a network ACL denies it, or the reply to it.
    Acl { acl: String, subnet: String, is_egress: bool, is_reply: bool, entry: u16 },
    /// IMDS and the VPC's resolver are never filtered.
    Service,
    /// The router has no such service.
    NoService { address: IpAddr },
    /// These rules allow it; `ingress` is `None` for the AWS endpoints and the outside.
    Allowed { egress: Box<(String, Rule)>, ingress: Option<Box<(String, Rule)>> },
    /// It gets to `eni`, by a route: what becomes of it is decided there.
    HandedTo { eni: String },
}

/// Says whether `packet` gets from `from` to `to`, and its replies back.
pub fn can_reach(
    spec: &VpcSpec,
    from: impl Into<IpAddr>,
    to: impl Into<IpAddr>,
    packet: Packet,
) -> Verdict {
    let (from, to) = (from.into(), to.into());
    trace(spec, &Flow { from, to, packet, source_ports: EPHEMERAL })
}

/// The same, for known ports.
pub fn trace(spec: &VpcSpec, flow: &Flow) -> Verdict {
    let mut way = Way { spec, flow, steps: Vec::new() };
    let (arrives, decided) = match way.forth() {
        Err(reason) => (false, Err(reason)),
        Ok((end, reason)) => (true, way.back(end).map(|()| reason)),
    };
    let (is_allowed, reason) = match decided {
        Ok(reason) => (true, reason),
        Err(reason) => (false, reason),
    };
    Verdict { is_allowed, arrives, reason, steps: way.steps }
}

/// Where a packet ends up, as far as its replies go.
enum End<'a> {
    /// Nothing filters what comes back.
    Unfiltered,
    /// The sender's subnet alone is on the way back.
    Outside,
    Interface(&'a Eni),
}

struct Way<'a> {
    spec: &'a VpcSpec,
    flow: &'a Flow,
    steps: Vec<Step>,
}

impl<'a> Way<'a> {
    fn forth(&mut self) -> Result<(End<'a>, Reason), Reason> {
        let (spec, to, packet) = (self.spec, self.flow.to, self.flow.packet);
        let source = self.source()?;
        let is_imds = to == IMDS || to == IMDS_V6;
        let is_resolver =
            to == RESOLVER || to == RESOLVER_V6 || spec.resolver().is_some_and(|it| to == it);
        if is_imds || is_resolver {
            let dns = matches!(packet, Packet::Tcp { port: 53 } | Packet::Udp { port: 53 });
            let is_there = if is_imds { packet == (Packet::Tcp { port: 80 }) } else { dns };
            let reason = if is_there { Ok(Reason::Service) } else { Err(no_service(to)) };
            return Ok((End::Unfiltered, reason?));
        }
        let route = self.route(source)?;
        if let Target::Interface(id) = &route.target {
            return self.by_interface(source, id);
        }
        let target = spec.owner(to).filter(|_| route.target == Target::Local);
        if target.is_none() {
            leads_out(spec, source, to, &route)?;
        } else if let Some(it) = target.filter(|it| it.is_out()) {
            return Err(Reason::NotAttached { eni: it.id.clone() });
        }
        let egress = Box::new(self.egress(source)?);
        self.acl(&source.subnet, true, false, target.map(|it| it.subnet.as_str()))?;
        let Some(target) = target else {
            return Ok((End::Outside, Reason::Allowed { egress, ingress: None }));
        };
        self.acl(&target.subnet, false, false, Some(&source.subnet))?;
        let ingress = Some(Box::new(self.ingress(target)?));
        Ok((End::Interface(target), Reason::Allowed { egress, ingress }))
    }

    fn source(&mut self) -> Result<&'a Eni, Reason> {
        let address = self.flow.from;
        let eni = self.spec.owner(address).ok_or(Reason::NoSuchSource { address })?;
        let is_checked = eni.source_dest_check;
        self.steps.push(Step::SourceCheck { eni: eni.id.clone(), is_checked });
        match eni.location {
            _ if eni.is_asleep => Err(Reason::NotAttached { eni: eni.id.clone() }),
            Location::Unattached => Err(Reason::NotAttached { eni: eni.id.clone() }),
            _ => Ok(eni),
        }
    }

    fn route(&mut self, source: &Eni) -> Result<Route, Reason> {
        let (spec, to) = (self.spec, self.flow.to);
        let route = spec.route(&source.subnet, to);
        let table = spec.subnets.get(&source.subnet).map(|it| it.route_table.clone());
        self.steps.push(Step::Route {
            subnet: source.subnet.clone(),
            table: table.unwrap_or_default(),
            route: route.clone(),
        });
        let route = route.ok_or_else(|| no_route_out(spec, source, to))?;
        match &route.target {
            Target::Blackhole(_) | Target::NatGateway { address: None, .. } => {
                Err(Reason::Blackhole { subnet: source.subnet.clone(), route })
            }
            _ => Ok(route),
        }
    }

    /// The rest of the way is that of a packet to the interface, but for its address.
    fn by_interface(&mut self, source: &Eni, id: &str) -> Result<(End<'a>, Reason), Reason> {
        let eni = || id.to_owned();
        let target = self.spec.eni(id).filter(|it| !it.is_out());
        let target = target.ok_or_else(|| Reason::NotAttached { eni: eni() })?;
        if target.id == source.id {
            return Err(Reason::LeadsBack { eni: eni() });
        }
        if !self.spec.forwards(id) {
            return Err(Reason::DestinationCheck { eni: eni() });
        }
        self.egress(source)?;
        self.acl(&source.subnet, true, false, Some(&target.subnet))?;
        self.acl(&target.subnet, false, false, Some(&source.subnet))?;
        self.ingress(target)?;
        // What comes back depends on what the instance does.
        Ok((End::Unfiltered, Reason::HandedTo { eni: eni() }))
    }

    fn egress(&mut self, eni: &Eni) -> Result<(String, Rule), Reason> {
        let rule = find(self.spec, eni, Direction::Egress, self.flow.to, self.flow.packet);
        self.steps.push(Step::Egress { eni: eni.id.clone(), rule: rule.clone() });
        rule.ok_or_else(|| Reason::Egress { eni: eni.id.clone(), groups: groups(eni) })
    }

    fn ingress(&mut self, eni: &Eni) -> Result<(String, Rule), Reason> {
        let rule = find(self.spec, eni, Direction::Ingress, self.flow.from, self.flow.packet);
        self.steps.push(Step::Ingress { eni: eni.id.clone(), rule: rule.clone() });
        rule.ok_or_else(|| Reason::Ingress { eni: eni.id.clone(), groups: groups(eni) })
    }

    /// At the border of `subnet`, with what is in `other`.
    fn acl(
        &mut self,
        subnet: &str,
        is_egress: bool,
        is_reply: bool,
        other: Option<&str>,
    ) -> Result<(), Reason> {
        let Some(acl) = self.spec.acl_of(subnet).filter(|_| other != Some(subnet)) else {
            return Ok(());
        };
        let Flow { from, to, packet, source_ports } = self.flow;
        let seen = if is_reply { reply_of(*packet, source_ports) } else { Some(seen(*packet)) };
        let Some(seen) = seen else { return Ok(()) };
        let entries = if is_egress { &acl.egress } else { &acl.ingress };
        let peer = if is_egress == is_reply { *from } else { *to };
        let denied_by = network_acl::denied_by(entries, peer, &seen);
        let (id, subnet) = (self.spec.subnets[subnet].network_acl.clone(), subnet.to_owned());
        let (acl, of) = (id.clone(), subnet.clone());
        self.steps.push(Step::Acl { acl, subnet: of, is_egress, is_reply, denied_by });
        match denied_by {
            None => Ok(()),
            Some(entry) => Err(Reason::Acl { acl: id, subnet, is_egress, is_reply, entry }),
        }
    }

    /// Groups remember a connection, ACLs do not.
    fn back(&mut self, end: End<'_>) -> Result<(), Reason> {
        let subnet = match self.spec.owner(self.flow.from) {
            Some(source) => source.subnet.clone(),
            None => return Ok(()),
        };
        match end {
            End::Unfiltered => Ok(()),
            End::Outside => self.acl(&subnet, false, true, None),
            End::Interface(target) => {
                self.route_back(target)?;
                self.acl(&target.subnet, true, true, Some(&subnet))?;
                self.acl(&subnet, false, true, Some(&target.subnet))
            }
        }
    }
}

impl Way<'_> {
    /// A reply takes the routes of the receiver's subnet, which may lead it elsewhere.
    fn route_back(&mut self, target: &Eni) -> Result<(), Reason> {
        if target.location == Location::Router {
            return Ok(());
        }
        let from = self.flow.from;
        let route = self.spec.route(&target.subnet, from);
        // One that leads to the sender's own interface is no other way.
        let is_straight = |it: &Target| match it {
            Target::Interface(id) => {
                self.spec.forwards(id) && self.spec.eni(id).is_some_and(|it| it.owns(from))
            }
            other => *other == Target::Local,
        };
        match route.filter(|it| !is_straight(&it.target)) {
            None => Ok(()),
            Some(route) => Err(Reason::ReplyRoute { subnet: target.subnet.clone(), route }),
        }
    }
}

fn no_service(address: IpAddr) -> Reason {
    Reason::NoService { address }
}

fn is_service(to: IpAddr) -> bool {
    SERVICES.iter().any(|it| to == *it) || to == ENDPOINTS_V6
}

/// Whom a cluster's public endpoint at that address lets in, if there is one.
fn admitted(spec: &VpcSpec, to: IpAddr) -> Option<(Ipv4Addr, &[Ipv4Net])> {
    let IpAddr::V4(address) = to else { return None };
    spec.public_endpoints.get(&address).map(|it| (address, it.as_slice()))
}

fn no_route_out(spec: &VpcSpec, source: &Eni, to: IpAddr) -> Reason {
    let (eni, subnet) = (source.id.clone(), source.subnet.clone());
    if is_service(to) {
        Reason::NoRouteToEndpoints { eni, subnet }
    } else if admitted(spec, to).is_some() || is_outside(spec, to) {
        Reason::NoRouteOut { eni, subnet }
    } else {
        nobody(spec, to)
    }
}

fn is_outside(spec: &VpcSpec, to: IpAddr) -> bool {
    let has_way = if to.is_ipv4() { spec.has_way_out } else { spec.has_ipv6_way_out };
    has_way && may_be_outside(spec, to)
}

/// Whether the world could have it.
fn may_be_outside(spec: &VpcSpec, to: IpAddr) -> bool {
    let is_link_local = match to {
        IpAddr::V4(to) => to.is_link_local(),
        IpAddr::V6(to) => {
            to.is_unicast_link_local() || to.is_multicast() || egress::AWS_LOCAL_V6.contains(&to)
        }
    };
    !spec.is_inside(to) && !is_link_local
}

fn nobody(spec: &VpcSpec, to: IpAddr) -> Reason {
    if may_be_outside(spec, to) && !is_outside(spec, to) {
        return Reason::NoWayOut { address: to };
    }
    Reason::NoRoute { address: to }
}

/// For a destination that no interface owns.
fn leads_out(spec: &VpcSpec, source: &Eni, to: IpAddr, route: &Route) -> Result<(), Reason> {
    let leads = match &route.target {
        Target::InternetGateway(_) => source.public_ip.is_some() || to.is_ipv6(),
        Target::EgressOnlyInternetGateway(_)
        | Target::NatGateway { .. }
        | Target::GatewayEndpoint(_) => true,
        _ => false,
    };
    if !leads {
        return Err(no_route_out(spec, source, to));
    }
    if let Some((address, sources)) = admitted(spec, to) {
        let eni = source.id.clone();
        return match spec.outside_address(source, address) {
            None => Err(no_route_out(spec, source, to)),
            Some(_) if spec.is_let_in(source, address, sources) => Ok(()),
            Some(outside) => Err(Reason::NotLetIn { eni, outside }),
        };
    }
    if is_service(to) || is_outside(spec, to) {
        return Ok(());
    }
    Err(nobody(spec, to))
}

fn groups(eni: &Eni) -> Vec<String> {
    eni.security_groups.iter().cloned().collect()
}
