//! Security groups. A rule names exactly one peer; permissions, the older view, are made from them.

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{Tags, record};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct SecurityGroup {
    pub id: String,
    pub name: String,
    pub description: String,
    pub vpc_id: String,
    pub rules: Vec<Rule>,
    pub tags: Tags,
}

record!(SecurityGroup, "security-group", "sg-", "InvalidGroup", "security group");

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Rule {
    pub id: String,
    pub direction: Direction,
    /// `-1` for all, else `tcp`, `udp`, `icmp`, `icmpv6` or a protocol number.
    pub protocol: String,
    /// Ports, or ICMP type and code; -1 for all.
    pub from_port: i64,
    pub to_port: i64,
    pub peer: Peer,
    pub description: Option<String>,
    pub tags: Tags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Direction {
    Ingress,
    Egress,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Peer {
    V4(Ipv4Net),
    V6(Ipv6Net),
    /// The interfaces that carry the group.
    Group(String),
    PrefixList(String),
}

impl Rule {
    /// Whether both allow the same, whatever their descriptions.
    pub fn is_same_permission(&self, other: &Self) -> bool {
        self.direction == other.direction
            && self.protocol == other.protocol
            && self.from_port == other.from_port
            && self.to_port == other.to_port
            && self.peer == other.peer
    }
}

impl SecurityGroup {
    pub fn rules(&self, direction: Direction) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |it| it.direction == direction)
    }

    /// Whether one of its rules names the group `id`.
    pub fn references(&self, id: &str) -> bool {
        self.rules.iter().any(|it| matches!(&it.peer, Peer::Group(group) if group == id))
    }
}
