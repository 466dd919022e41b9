//! Security groups: stateful, allowing only, the union over an ENI's groups.

use std::{fmt, net::IpAddr, ops::RangeInclusive};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::version::Version;

/// A security group. Without a rule nothing goes in that direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    pub id: String,
    pub ingress: Vec<Rule>,
    pub egress: Vec<Rule>,
}

/// One rule. `peer` is the source of ingress and the destination of egress.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    pub traffic: Traffic,
    pub peer: Peer,
}

/// The other side of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Cidr(IpNet),
    /// The private addresses of all ENIs in that group.
    Group(String),
    /// The networks of that prefix list.
    PrefixList(String),
}

/// What a rule lets through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    All,
    Tcp { from: u16, to: u16 },
    Udp { from: u16, to: u16 },
    Icmp { kind: Option<u8>, code: Option<u8> },
    Icmpv6 { kind: Option<u8>, code: Option<u8> },
    Protocol(u8),
}

/// An `IpPermission` that says nothing sensible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrafficError {
    #[error("`{protocol}` is not an IP protocol")]
    Protocol { protocol: String },
    #[error("{from:?} to {to:?} is not a range for protocol `{protocol}`")]
    Range { protocol: String, from: Option<i64>, to: Option<i64> },
}

impl SecurityGroup {
    /// A group without rules.
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), ingress: Vec::new(), egress: Vec::new() }
    }
}

impl Rule {
    pub fn new(traffic: Traffic, peer: Peer) -> Self {
        Self { traffic, peer }
    }

    /// What EC2 puts into the egress of a new group.
    pub fn everything_to_anywhere() -> Self {
        Self::new(Traffic::All, Peer::Cidr(Ipv4Net::default().into()))
    }

    /// And what it puts there for IPv6.
    pub fn everything_to_anywhere_by_ipv6() -> Self {
        Self::new(Traffic::All, Peer::Cidr(Ipv6Net::default().into()))
    }
}

impl Traffic {
    pub fn tcp(from: u16, to: u16) -> Self {
        Self::Tcp { from, to }
    }

    pub fn udp(from: u16, to: u16) -> Self {
        Self::Udp { from, to }
    }

    /// Reads EC2's form: a protocol's name or number (`-1`: all), and a range of ports, or the type
    /// and code of ICMP (`-1`: all).
    pub fn from_ec2(
        protocol: &str,
        from: Option<i64>,
        to: Option<i64>,
    ) -> Result<Self, TrafficError> {
        let wrong = || TrafficError::Range { protocol: protocol.to_owned(), from, to };
        let ports = || -> Result<RangeInclusive<u16>, TrafficError> {
            match (from, to) {
                (None | Some(-1), None | Some(-1)) => Ok(0..=u16::MAX),
                (Some(from), Some(to)) if from <= to => {
                    let port = |it: i64| u16::try_from(it).map_err(|_| wrong());
                    Ok(port(from)?..=port(to)?)
                }
                _ => Err(wrong()),
            }
        };
        let number = |it: Option<i64>| match it {
            None | Some(-1) => Ok(None),
            Some(it) => u8::try_from(it).map(Some).map_err(|_| wrong()),
        };
        Ok(match protocol.to_ascii_lowercase().as_str() {
            "-1" | "all" => Self::All,
            "tcp" | "6" => ports().map(|it| Self::tcp(*it.start(), *it.end()))?,
            "udp" | "17" => ports().map(|it| Self::udp(*it.start(), *it.end()))?,
            "icmp" | "1" => Self::Icmp { kind: number(from)?, code: number(to)? },
            "icmpv6" | "58" => Self::Icmpv6 { kind: number(from)?, code: number(to)? },
            other => {
                let number = other.parse();
                let unknown = |_| TrafficError::Protocol { protocol: protocol.to_owned() };
                Self::Protocol(number.map_err(unknown)?)
            }
        })
    }

    /// The condition in nft's words, with the blank behind it.
    pub(crate) fn expression(&self) -> String {
        let ports = |protocol: &str, from: u16, to: u16| match (from, to) {
            (0, u16::MAX) => format!("meta l4proto {protocol} "),
            (from, to) if from == to => format!("{protocol} dport {from} "),
            (from, to) => format!("{protocol} dport {from}-{to} "),
        };
        match *self {
            Self::All => String::new(),
            Self::Tcp { from, to } => ports("tcp", from, to),
            Self::Udp { from, to } => ports("udp", from, to),
            Self::Icmp { kind: None, .. } => "meta l4proto icmp ".to_owned(),
            Self::Icmp { kind: Some(kind), code: None } => format!("icmp type {kind} "),
            Self::Icmp { kind: Some(kind), code: Some(code) } => {
                format!("icmp type {kind} icmp code {code} ")
            }
            Self::Icmpv6 { kind: None, .. } => "meta l4proto ipv6-icmp ".to_owned(),
            Self::Icmpv6 { kind: Some(kind), code: None } => format!("icmpv6 type {kind} "),
            Self::Icmpv6 { kind: Some(kind), code: Some(code) } => {
                format!("icmpv6 type {kind} icmpv6 code {code} ")
            }
            Self::Protocol(number) => format!("meta l4proto {number} "),
        }
    }

    /// Whether packets of that version can be meant: each has its own ICMP.
    pub(crate) fn is_of(&self, version: Version) -> bool {
        match self {
            Self::Icmp { .. } => version == Version::V4,
            Self::Icmpv6 { .. } => version == Version::V6,
            _ => true,
        }
    }
}

impl Peer {
    pub fn cidr(address: impl Into<IpAddr>) -> Self {
        Self::Cidr(address.into().into())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Peer::Cidr(cidr) => write!(f, "{} with {cidr}", self.traffic),
            Peer::Group(id) | Peer::PrefixList(id) => write!(f, "{} with {id}", self.traffic),
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = |f: &mut fmt::Formatter<'_>, protocol: &str, from: u16, to: u16| {
            if from == to {
                write!(f, "{protocol} {from}")
            } else {
                write!(f, "{protocol} {from}-{to}")
            }
        };
        match *self {
            Self::All => f.write_str("all traffic"),
            Self::Tcp { from, to } => ports(f, "tcp", from, to),
            Self::Udp { from, to } => ports(f, "udp", from, to),
            Self::Icmp { kind: None, .. } => f.write_str("icmp"),
            Self::Icmp { kind: Some(kind), .. } => write!(f, "icmp type {kind}"),
            Self::Icmpv6 { kind: None, .. } => f.write_str("icmpv6"),
            Self::Icmpv6 { kind: Some(kind), .. } => write!(f, "icmpv6 type {kind}"),
            Self::Protocol(number) => write!(f, "protocol {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ec2s_forms_are_understood() {
        for (protocol, from, to, wanted) in [
            ("-1", None, None, Traffic::All),
            ("tcp", Some(443), Some(443), Traffic::tcp(443, 443)),
            ("6", Some(-1), Some(-1), Traffic::tcp(0, 65535)),
            ("icmp", Some(8), Some(-1), Traffic::Icmp { kind: Some(8), code: None }),
            ("58", Some(128), Some(-1), Traffic::Icmpv6 { kind: Some(128), code: None }),
            ("icmpv6", None, None, Traffic::Icmpv6 { kind: None, code: None }),
            ("50", None, None, Traffic::Protocol(50)),
        ] {
            assert_eq!(Traffic::from_ec2(protocol, from, to).unwrap(), wanted, "{protocol}");
        }
        for (protocol, from, to) in [
            ("tcp", Some(2), Some(1)),
            ("udp", Some(1), Some(70000)),
            ("x", None, None),
            ("tcp", Some(1), None),
        ] {
            assert!(Traffic::from_ec2(protocol, from, to).is_err(), "{protocol} {from:?} {to:?}");
        }
    }
}
