//! Network ACLs: stateless, numbered, allowing and denying, at the border of a subnet.
//!
//! The first entry that matches decides; what none matches is denied. An ACL sees what leaves its
//! subnet and what comes into it, and nothing that stays inside.

use std::{fmt, net::IpAddr, ops::RangeInclusive};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{Traffic, version::Version};

/// A network ACL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkAcl {
    /// In the order of their numbers.
    pub ingress: Vec<AclEntry>,
    pub egress: Vec<AclEntry>,
}

/// One entry. `cidr` is the source of ingress and the destination of egress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclEntry {
    pub number: u16,
    pub is_allowed: bool,
    pub cidr: IpNet,
    pub traffic: Traffic,
}

impl AclEntry {
    pub fn new(number: u16, is_allowed: bool, cidr: impl Into<IpNet>, traffic: Traffic) -> Self {
        Self { number, is_allowed, cidr: cidr.into(), traffic }
    }

    fn is_of(&self, version: Version) -> bool {
        Version::of(&self.cidr) == version && self.traffic.is_of(version)
    }
}

impl NetworkAcl {
    /// What every VPC is born with, and gets with its first block of IPv6.
    pub fn open() -> Self {
        let all = vec![
            AclEntry::new(100, true, Ipv4Net::default(), Traffic::All),
            AclEntry::new(101, true, Ipv6Net::default(), Traffic::All),
        ];
        Self { ingress: all.clone(), egress: all }
    }
}

/// Says whether `entries` let everything pass, whatever it is: such a direction costs nothing.
pub(crate) fn is_open(entries: &[AclEntry], version: Version) -> bool {
    entries
        .iter()
        .find(|it| it.is_of(version))
        .is_some_and(|it| it.is_allowed && it.cidr.prefix_len() == 0 && it.traffic == Traffic::All)
}

/// `entries` as a chain that returns what they allow and drops all else.
pub(crate) fn chain(entries: &[AclEntry], side: &str, version: Version) -> Vec<String> {
    let rule = |it: &AclEntry| {
        let peer = match it.cidr.prefix_len() {
            0 => String::new(),
            _ => {
                let header = version.header();
                format!("{header} {side} {} ", crate::rules::network(&it.cidr.trunc()))
            }
        };
        let verdict = if it.is_allowed { "return" } else { "drop" };
        format!("{peer}{}{verdict}", it.traffic.expression())
    };
    let meant = entries.iter().filter(|it| it.is_of(version));
    meant.map(rule).chain(["drop".to_owned()]).collect()
}

/// What an ACL looks at beside the addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Protocol 6 or 17, to any of these ports: one port, or those of which one is drawn.
    Ports(u8, RangeInclusive<u16>),
    Icmp(u8, u8),
    Icmpv6(u8, u8),
    Protocol(u8),
}

/// The number of the entry that denies some of what is `seen`, with the peer's address; 32767 is
/// the last one, which denies all. `None` where all of it passes.
pub(crate) fn denied_by(entries: &[AclEntry], peer: IpAddr, seen: &Seen) -> Option<u16> {
    let Seen::Ports(protocol, ports) = seen else {
        let entry = entries.iter().find(|it| it.cidr.contains(&peer) && is_traffic(it, seen));
        return entry.map_or(Some(DENY_ALL), |it| (!it.is_allowed).then_some(it.number));
    };
    // Ports that no entry has decided on, in order: an entry takes its own out.
    let mut open = vec![ports.clone()];
    for entry in entries.iter().filter(|it| it.cidr.contains(&peer)) {
        let Some(own) = ports_of(&entry.traffic, *protocol) else { continue };
        let rest: Vec<_> = open.iter().flat_map(|it| without(it, &own)).collect();
        if rest != open && !entry.is_allowed {
            return Some(entry.number);
        }
        open = rest;
    }
    (!open.is_empty()).then_some(DENY_ALL)
}

/// The number that EC2 shows for the entry that cannot be removed.
pub(crate) const DENY_ALL: u16 = 32767;

fn ports_of(traffic: &Traffic, protocol: u8) -> Option<RangeInclusive<u16>> {
    match (traffic, protocol) {
        (Traffic::All, _) => Some(0..=u16::MAX),
        (Traffic::Tcp { from, to }, 6) | (Traffic::Udp { from, to }, 17) => Some(*from..=*to),
        (Traffic::Protocol(number), _) if *number == protocol => Some(0..=u16::MAX),
        _ => None,
    }
}

fn without(all: &RangeInclusive<u16>, gone: &RangeInclusive<u16>) -> Vec<RangeInclusive<u16>> {
    if gone.end() < all.start() || gone.start() > all.end() {
        return vec![all.clone()];
    }
    let below = (gone.start() > all.start()).then(|| *all.start()..=gone.start() - 1);
    let above = (gone.end() < all.end()).then(|| gone.end() + 1..=*all.end());
    below.into_iter().chain(above).collect()
}

fn is_traffic(entry: &AclEntry, seen: &Seen) -> bool {
    match (&entry.traffic, seen) {
        (Traffic::All, _) => true,
        (Traffic::Icmp { kind, code }, Seen::Icmp(k, c)) => {
            kind.is_none_or(|kind| kind == *k && code.is_none_or(|code| code == *c))
        }
        (Traffic::Icmpv6 { kind, code }, Seen::Icmpv6(k, c)) => {
            kind.is_none_or(|kind| kind == *k && code.is_none_or(|code| code == *c))
        }
        (Traffic::Protocol(number), Seen::Protocol(seen)) => number == seen,
        (Traffic::Protocol(number), Seen::Icmp(..)) => *number == 1,
        _ => false,
    }
}

impl fmt::Display for AclEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_allowed { "allows" } else { "denies" };
        write!(f, "entry {} {verdict} {} with {}", self.number, self.traffic, self.cidr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn entry(number: u16, is_allowed: bool, traffic: Traffic) -> AclEntry {
        AclEntry::new(number, is_allowed, Ipv4Net::default(), traffic)
    }

    #[test]
    fn the_first_entry_that_matches_decides_and_the_last_one_denies() {
        let entries = [
            entry(90, false, Traffic::tcp(22, 22)),
            entry(100, true, Traffic::tcp(0, 1023)),
            AclEntry::new(110, true, net("10.1.0.0/16"), Traffic::All),
        ];
        let tcp = |port| Seen::Ports(6, port..=port);
        assert_eq!(denied_by(&entries, PEER, &tcp(80)), None);
        assert_eq!(denied_by(&entries, PEER, &tcp(22)), Some(90));
        assert_eq!(denied_by(&entries, PEER, &tcp(8080)), Some(DENY_ALL));
        assert_eq!(denied_by(&entries, IpAddr::from([10, 1, 0, 1]), &tcp(8080)), None);
        assert_eq!(denied_by(&entries, PEER, &Seen::Icmp(8, 0)), Some(DENY_ALL));
    }

    #[test]
    fn a_range_passes_only_if_all_of_it_does() {
        let entries = [
            entry(100, true, Traffic::udp(1024, 40000)),
            entry(110, false, Traffic::udp(50000, 50001)),
            entry(120, true, Traffic::udp(40001, 65535)),
        ];
        let udp = |ports| Seen::Ports(17, ports);
        assert_eq!(denied_by(&entries, PEER, &udp(1024..=49999)), None);
        assert_eq!(denied_by(&entries, PEER, &udp(1024..=65535)), Some(110));
        assert_eq!(denied_by(&entries, PEER, &udp(1000..=2000)), Some(DENY_ALL));
    }

    #[test]
    fn a_chain_ends_with_the_denial_of_all() {
        let entries = [
            entry(100, true, Traffic::Icmp { kind: Some(8), code: None }),
            AclEntry::new(110, false, net("10.1.0.0/16"), Traffic::All),
        ];
        assert_eq!(
            chain(&entries, "saddr", Version::V4),
            ["icmp type 8 return", "ip saddr 10.1.0.0/16 drop", "drop"]
        );
        let open = NetworkAcl::open().ingress;
        assert!(is_open(&open, Version::V4) && is_open(&open, Version::V6));
        assert!(!is_open(&entries, Version::V4));
    }

    #[test]
    fn an_entry_of_one_version_says_nothing_about_the_other() {
        let entries = [
            AclEntry::new(90, false, net("2001:db8:1::/64"), Traffic::tcp(22, 22)),
            AclEntry::new(100, true, Ipv4Net::default(), Traffic::All),
            AclEntry::new(
                110,
                true,
                Ipv6Net::default(),
                Traffic::Icmpv6 { kind: None, code: None },
            ),
        ];
        assert_eq!(chain(&entries, "daddr", Version::V4), ["return", "drop"]);
        assert_eq!(
            chain(&entries, "daddr", Version::V6),
            [
                "ip6 daddr 2001:db8:1::/64 tcp dport 22 drop",
                "meta l4proto ipv6-icmp return",
                "drop"
            ]
        );
        let peer = "2001:db8:2::1".parse().unwrap();
        assert_eq!(denied_by(&entries, peer, &Seen::Icmpv6(128, 0)), None);
        assert_eq!(denied_by(&entries, peer, &Seen::Ports(6, 80..=80)), Some(DENY_ALL));
    }
}
