//! A PolicyEndpoint's rules as ranges: what the kernel is given and the evaluator decides on.

use std::{collections::BTreeMap, net::IpAddr};

use api_kube::policy_endpoint::{EndpointInfo, PolicyEndpointSpec, Port};

use crate::Ranges;

/// As seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    /// The `policyType`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }
}

/// The protocols that policies know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// As nft and `/etc/protocols` have it.
    pub fn lower(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// Ports from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    pub protocol: Protocol,
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    fn of(port: &Port) -> Option<Self> {
        let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?;
        let Some(first) = port.port else {
            return Some(Self { protocol, first: 0, last: u16::MAX });
        };
        let first = u16::try_from(first).ok()?;
        let last = port.end_port.map_or(Ok(first), u16::try_from).ok()?;
        (first <= last).then_some(Self { protocol, first, last })
    }

    pub fn is_whole_protocol(&self) -> bool {
        (self.first, self.last) == (0, u16::MAX)
    }
}

/// These peers at these ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub peers: Ranges,
    /// In order, none overlaps another. `None`: everything, also what has no ports.
    pub ports: Option<Vec<PortRange>>,
}

impl Grant {
    pub fn allows(&self, peer: IpAddr, protocol: Protocol, port: u16) -> bool {
        let is_port =
            |it: &PortRange| it.protocol == protocol && (it.first..=it.last).contains(&port);
        self.peers.contains(peer) && self.ports.as_ref().is_none_or(|it| it.iter().any(is_port))
    }
}

/// What `spec` allows its pods in a direction: one grant for each set of ports. `None` where it does
/// not isolate them.
pub fn grants(spec: &PolicyEndpointSpec, direction: Direction) -> Option<Vec<Grant>> {
    let infos = match direction {
        Direction::Ingress => &spec.ingress,
        Direction::Egress => &spec.egress,
    };
    // A controller of upstream's may leave out what the rules imply.
    if infos.is_empty() && !spec.pod_isolation.iter().any(|it| it == direction.name()) {
        return None;
    }
    let mut by_ports: BTreeMap<Option<Vec<PortRange>>, Vec<&EndpointInfo>> = BTreeMap::new();
    for info in infos {
        let ports = match info.ports.as_slice() {
            [] => None,
            ports => Some(merged(ports.iter().filter_map(PortRange::of).collect())),
        };
        if ports.as_ref().is_none_or(|it| !it.is_empty()) {
            by_ports.entry(ports).or_default().push(info);
        }
    }
    let grant = |(ports, infos): (Option<Vec<PortRange>>, Vec<&EndpointInfo>)| Grant {
        peers: Ranges::of(infos.iter().map(|it| (it.cidr.as_str(), it.except.as_slice()))),
        ports,
    };
    Some(by_ports.into_iter().map(grant).collect())
}

fn merged(mut ports: Vec<PortRange>) -> Vec<PortRange> {
    ports.sort();
    let mut merged: Vec<PortRange> = Vec::new();
    for port in ports {
        match merged.last_mut() {
            Some(last) if last.protocol == port.protocol && port.first <= last.last => {
                last.last = last.last.max(port.last);
            }
            _ => merged.push(port),
        }
    }
    merged
}
