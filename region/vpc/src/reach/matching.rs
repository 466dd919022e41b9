//! What a rule of a security group matches, and what a network ACL sees of a packet.

use std::{net::IpAddr, ops::RangeInclusive};

use super::Packet;
use crate::{Eni, Peer, Rule, Traffic, VpcSpec, network_acl::Seen};

#[derive(Clone, Copy)]
pub(super) enum Direction {
    Egress,
    Ingress,
}

/// The group and the rule that allow `packet`.
pub(super) fn find(
    spec: &VpcSpec,
    eni: &Eni,
    direction: Direction,
    peer: IpAddr,
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

fn matches(spec: &VpcSpec, rule: &Rule, peer: IpAddr, packet: Packet) -> bool {
    let is_peer = match &rule.peer {
        Peer::Cidr(cidr) => cidr.contains(&peer),
        Peer::PrefixList(id) => {
            spec.prefix_lists.get(id).is_some_and(|it| it.iter().any(|net| net.contains(&peer)))
        }
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
        (Traffic::Icmpv6 { kind, code }, Packet::Icmpv6 { kind: k, code: c }) => {
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
        Packet::Icmpv6 { .. } => 58,
        Packet::Protocol(number) => number,
    }
}

pub(super) fn seen(packet: Packet) -> Seen {
    match packet {
        Packet::Tcp { port } => Seen::Ports(6, port..=port),
        Packet::Udp { port } => Seen::Ports(17, port..=port),
        Packet::Icmp { kind, code } => Seen::Icmp(kind, code),
        Packet::Icmpv6 { kind, code } => Seen::Icmpv6(kind, code),
        Packet::Protocol(number) => Seen::Protocol(number),
    }
}

/// What answers a packet: `None` for an ICMP message that nobody answers.
pub(super) fn reply_of(packet: Packet, source_ports: &RangeInclusive<u16>) -> Option<Seen> {
    const ECHO: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const ECHO_V6: u8 = 128;
    const ECHO_REPLY_V6: u8 = 129;
    match packet {
        Packet::Tcp { .. } => Some(Seen::Ports(6, source_ports.clone())),
        Packet::Udp { .. } => Some(Seen::Ports(17, source_ports.clone())),
        Packet::Icmp { kind: ECHO, .. } => Some(Seen::Icmp(ECHO_REPLY, 0)),
        Packet::Icmpv6 { kind: ECHO_V6, .. } => Some(Seen::Icmpv6(ECHO_REPLY_V6, 0)),
        Packet::Icmp { .. } | Packet::Icmpv6 { .. } => None,
        Packet::Protocol(number) => Some(Seen::Protocol(number)),
    }
}
