//! "Can a reach b, and which rule says so?", from the same value that the kernel's rules come from.

use std::{fmt, net::Ipv4Addr};

use crate::{ENDPOINTS, Eni, IMDS, INTERFACE_ENDPOINTS, Peer, RESOLVER, Rule, Traffic, VpcSpec};

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    Tcp { port: u16 },
    Udp { port: u16 },
    Icmp { kind: u8, code: u8 },
    Protocol(u8),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub is_allowed: bool,
    pub reason: Reason,
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody in this VPC owns the sender's address: the source check drops it.
    NoSuchSource { address: Ipv4Addr },
    /// The destination is owned by nobody, or its ENI is not attached.
    NoRoute { address: Ipv4Addr },
    /// The subnet of `eni` has no way to the AWS endpoints.
    NoRouteToEndpoints { eni: String, subnet: String },
    /// The VPC has a way out, but the subnet of `eni` has no route to it.
    NoRouteOut { eni: String, subnet: String },
    /// The public endpoint's access list has no `outside`, which is `eni`'s address there.
    NotLetIn { eni: String, outside: Ipv4Addr },
    /// No egress rule of the sender's groups allows it.
    Egress { eni: String, groups: Vec<String> },
    /// No ingress rule of the receiver's groups allows it.
    Ingress { eni: String, groups: Vec<String> },
    /// IMDS and the VPC's resolver are never filtered.
    Service,
    /// The router has no such service.
    NoService { address: Ipv4Addr },
    /// These rules allow it; `ingress` is `None` for the AWS endpoints and the outside.
    Allowed { egress: (String, Rule), ingress: Option<(String, Rule)> },
}

/// Says whether `packet` gets from `from` to `to`.
pub fn can_reach(spec: &VpcSpec, from: Ipv4Addr, to: Ipv4Addr, packet: Packet) -> Verdict {
    match decide(spec, from, to, packet) {
        Ok(reason) => Verdict { is_allowed: true, reason },
        Err(reason) => Verdict { is_allowed: false, reason },
    }
}

fn decide(spec: &VpcSpec, from: Ipv4Addr, to: Ipv4Addr, packet: Packet) -> Result<Reason, Reason> {
    let source = spec.owner(from).ok_or(Reason::NoSuchSource { address: from })?;
    if is_service(spec, to) {
        let dns = matches!(packet, Packet::Tcp { port: 53 } | Packet::Udp { port: 53 });
        let is_there = if to == IMDS { packet == (Packet::Tcp { port: 80 }) } else { dns };
        return if is_there { Ok(Reason::Service) } else { Err(Reason::NoService { address: to }) };
    }
    let target = spec.owner(to);
    if target.is_none() {
        leads_out(spec, source, to)?;
    }
    let egress = find(spec, source, Direction::Egress, to, packet)
        .ok_or_else(|| Reason::Egress { eni: source.id.clone(), groups: groups(source) })?;
    let Some(target) = target else { return Ok(Reason::Allowed { egress, ingress: None }) };
    let ingress = find(spec, target, Direction::Ingress, from, packet)
        .ok_or_else(|| Reason::Ingress { eni: target.id.clone(), groups: groups(target) })?;
    Ok(Reason::Allowed { egress, ingress: Some(ingress) })
}

/// For a destination that no interface owns.
fn leads_out(spec: &VpcSpec, source: &Eni, to: Ipv4Addr) -> Result<(), Reason> {
    let (eni, subnet) = (source.id.clone(), source.subnet.clone());
    if let Some(sources) = spec.public_endpoints.get(&to) {
        return match spec.outside_address(source) {
            None => Err(Reason::NoRouteOut { eni, subnet }),
            Some(_) if spec.is_let_in(source, sources) => Ok(()),
            Some(outside) => Err(Reason::NotLetIn { eni, outside }),
        };
    }
    let is_outside = spec.has_way_out && !spec.is_inside(to) && !to.is_link_local();
    match to {
        INTERFACE_ENDPOINTS if spec.has_interface_endpoints => Ok(()),
        INTERFACE_ENDPOINTS => Err(Reason::NoRoute { address: to }),
        ENDPOINTS if spec.reaches_internet(source) => Ok(()),
        ENDPOINTS => Err(Reason::NoRouteToEndpoints { eni, subnet }),
        _ if !is_outside => Err(Reason::NoRoute { address: to }),
        _ if spec.reaches_internet(source) => Ok(()),
        _ => Err(Reason::NoRouteOut { eni, subnet }),
    }
}

fn is_service(spec: &VpcSpec, address: Ipv4Addr) -> bool {
    address == IMDS || address == RESOLVER || spec.resolver() == Some(address)
}

fn groups(eni: &Eni) -> Vec<String> {
    eni.security_groups.iter().cloned().collect()
}

#[derive(Clone, Copy)]
enum Direction {
    Egress,
    Ingress,
}

/// The group and the rule that allow `packet`.
fn find(
    spec: &VpcSpec,
    eni: &Eni,
    direction: Direction,
    peer: Ipv4Addr,
    packet: Packet,
) -> Option<(String, Rule)> {
    eni.security_groups.iter().find_map(|id| {
        let group = spec.security_groups.get(id)?;
        let rules = match direction {
            Direction::Egress => &group.egress,
            Direction::Ingress => &group.ingress,
        };
        let rule = rules.iter().find(|it| matches(spec, it, peer, packet))?;
        Some((id.clone(), rule.clone()))
    })
}

fn matches(spec: &VpcSpec, rule: &Rule, peer: Ipv4Addr, packet: Packet) -> bool {
    let is_peer = match &rule.peer {
        Peer::Cidr(cidr) => cidr.contains(&peer),
        Peer::Group(id) => {
            spec.security_groups.contains_key(id)
                && spec.owner(peer).is_some_and(|eni| eni.security_groups.contains(id))
        }
    };
    is_peer && is_traffic(&rule.traffic, packet)
}

fn is_traffic(traffic: &Traffic, packet: Packet) -> bool {
    match (traffic, packet) {
        (Traffic::All, _) => true,
        (Traffic::Tcp { from, to }, Packet::Tcp { port }) => (*from..=*to).contains(&port),
        (Traffic::Udp { from, to }, Packet::Udp { port }) => (*from..=*to).contains(&port),
        (Traffic::Icmp { kind, code }, Packet::Icmp { kind: k, code: c }) => {
            kind.is_none_or(|kind| kind == k && code.is_none_or(|code| code == c))
        }
        (Traffic::Protocol(number), packet) => *number == number_of(packet),
        _ => false,
    }
}

fn number_of(packet: Packet) -> u8 {
    match packet {
        Packet::Tcp { .. } => 6,
        Packet::Udp { .. } => 17,
        Packet::Icmp { .. } => 1,
        Packet::Protocol(number) => number,
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |groups: &[String]| groups.join(", ");
        match self {
            Self::NoSuchSource { address } => {
                write!(f, "no interface owns {address}: the source check drops it")
            }
            Self::NoRoute { address } => write!(f, "no interface owns {address}"),
            Self::NoRouteToEndpoints { eni, subnet } => write!(
                f,
                "{subnet} gives {eni} no way to AWS: it takes an internet gateway and a public \
                 address, a NAT gateway or a VPC endpoint"
            ),
            Self::NoRouteOut { eni, subnet } => write!(
                f,
                "{subnet} gives {eni} no way out: it takes an internet gateway and a public \
                 address, or a NAT gateway"
            ),
            Self::NotLetIn { eni, outside } => {
                write!(
                    f,
                    "the endpoint's public access list has no {outside}, by which {eni} comes"
                )
            }
            Self::Egress { eni, groups } => {
                write!(f, "no egress rule of {} ({eni}) allows it", list(groups))
            }
            Self::Ingress { eni, groups } => {
                write!(f, "no ingress rule of {} ({eni}) allows it", list(groups))
            }
            Self::Service => f.write_str("security groups do not filter IMDS and the resolver"),
            Self::NoService { address } => write!(f, "{address} has no such service"),
            Self::Allowed { egress: (out, rule), ingress: None } => {
                write!(f, "{out} allows {rule} to leave")
            }
            Self::Allowed { egress: (out, sent), ingress: Some((into, taken)) } => {
                write!(f, "{out} allows {sent} to leave and {into} allows {taken} to enter")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InternetRoute, spec::samples};

    const WEB: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 11);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 13);
    const HTTP: Packet = Packet::Tcp { port: 80 };

    #[test]
    fn a_reference_to_a_group_lets_its_members_in_and_nobody_else() {
        let spec = samples::vpc();
        let verdict = can_reach(&spec, CLIENT, WEB, HTTP);
        assert!(verdict.is_allowed, "{}", verdict.reason);
        let other = can_reach(&spec, Ipv4Addr::new(192, 168, 0, 12), WEB, HTTP);
        assert!(matches!(other.reason, Reason::Ingress { .. }));
        let port = can_reach(&spec, CLIENT, WEB, Packet::Tcp { port: 81 });
        assert_eq!(
            port.reason.to_string(),
            "no ingress rule of sg-web (eni-00000000000000001) allows it"
        );
        assert!(!can_reach(&spec, WEB, CLIENT, HTTP).is_allowed);
    }

    #[test]
    fn endpoints_take_a_public_address_behind_an_internet_gateway() {
        let mut spec = samples::vpc();
        let https = Packet::Tcp { port: 443 };
        let verdict = can_reach(&spec, WEB, ENDPOINTS, https);
        assert!(matches!(verdict.reason, Reason::NoRouteToEndpoints { .. }));
        spec.enis[0].public_ip = Some(Ipv4Addr::new(54, 0, 0, 1));
        assert!(can_reach(&spec, WEB, ENDPOINTS, https).is_allowed);
        spec.enis[0].public_ip = None;
        spec.subnets.get_mut("subnet-a").unwrap().internet =
            InternetRoute::NatGateway(Ipv4Addr::new(203, 0, 113, 9));
        assert!(can_reach(&spec, WEB, ENDPOINTS, https).is_allowed);
        spec.security_groups.get_mut("sg-web").unwrap().egress.clear();
        let verdict = can_reach(&spec, WEB, ENDPOINTS, https);
        assert!(matches!(verdict.reason, Reason::Egress { .. }));
    }

    #[test]
    fn a_public_endpoint_knows_who_comes_by_the_address_outside() {
        let mut spec = samples::vpc();
        let https = Packet::Tcp { port: 443 };
        let (cluster, nat) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(203, 0, 113, 9));
        let reason = |spec: &VpcSpec| can_reach(spec, WEB, cluster, https).reason;
        assert!(matches!(reason(&spec), Reason::NoRoute { .. }), "there is none");
        let sources = vec!["203.0.113.9/32".parse().unwrap()];
        spec.public_endpoints.insert(cluster, sources);
        assert!(matches!(reason(&spec), Reason::NoRouteOut { .. }));
        spec.enis[0].public_ip = Some(Ipv4Addr::new(203, 0, 113, 7));
        assert!(matches!(reason(&spec), Reason::NotLetIn { .. }));
        spec.subnets.get_mut("subnet-a").unwrap().internet = InternetRoute::NatGateway(nat);
        assert!(can_reach(&spec, WEB, cluster, https).is_allowed);
    }

    #[test]
    fn an_interface_endpoint_takes_no_route() {
        let mut spec = samples::vpc();
        let https = Packet::Tcp { port: 443 };
        assert!(!can_reach(&spec, WEB, INTERFACE_ENDPOINTS, https).is_allowed);
        spec.has_interface_endpoints = true;
        assert!(can_reach(&spec, WEB, INTERFACE_ENDPOINTS, https).is_allowed);
        assert!(!can_reach(&spec, WEB, ENDPOINTS, https).is_allowed, "other services");
    }

    #[test]
    fn the_outside_is_there_with_a_way_out_and_for_who_has_a_route() {
        let mut spec = samples::vpc();
        let outside = Ipv4Addr::new(198, 51, 100, 1);
        let reason = |spec: &VpcSpec, to| can_reach(spec, WEB, to, HTTP).reason;
        assert!(matches!(reason(&spec, outside), Reason::NoRoute { .. }));
        spec.has_way_out = true;
        assert!(matches!(reason(&spec, outside), Reason::NoRouteOut { .. }));
        spec.enis[0].public_ip = Some(Ipv4Addr::new(54, 0, 0, 1));
        assert!(can_reach(&spec, WEB, outside, HTTP).is_allowed);
        for never in [[192, 168, 9, 9], [169, 254, 170, 2]] {
            assert!(matches!(reason(&spec, never.into()), Reason::NoRoute { .. }));
        }
    }

    #[test]
    fn groups_do_not_filter_metadata_and_names() {
        let mut spec = samples::vpc();
        spec.security_groups.clear();
        assert!(can_reach(&spec, WEB, IMDS, HTTP).is_allowed);
        let dns = Packet::Udp { port: 53 };
        assert!(can_reach(&spec, WEB, Ipv4Addr::new(192, 168, 0, 2), dns).is_allowed);
        assert!(!can_reach(&spec, WEB, IMDS, Packet::Tcp { port: 22 }).is_allowed);
        let stranger = can_reach(&spec, Ipv4Addr::new(10, 0, 0, 1), IMDS, HTTP);
        assert!(matches!(stranger.reason, Reason::NoSuchSource { .. }));
    }
}
