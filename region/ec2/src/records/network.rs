//! VPCs, subnets, network interfaces, DHCP options.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Tags, record};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Vpc {
    pub id: String,
    /// The first one is the VPC's own; the others were associated later.
    pub cidrs: Vec<CidrAssociation>,
    /// Blocks of 56 bits that the region has given.
    #[serde(default)]
    pub ipv6_cidrs: Vec<Ipv6CidrAssociation>,
    pub is_default: bool,
    pub enable_dns_support: bool,
    pub enable_dns_hostnames: bool,
    pub enable_network_address_usage_metrics: bool,
    pub dhcp_options_id: String,
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct CidrAssociation {
    pub id: String,
    pub cidr: Ipv4Net,
}

/// An IPv6 block of a VPC or of a subnet.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Ipv6CidrAssociation {
    pub id: String,
    pub cidr: Ipv6Net,
}

impl Vpc {
    /// The block that the VPC was created with.
    pub fn cidr(&self) -> Ipv4Net {
        self.cidrs.first().map(|it| it.cidr).unwrap_or_default()
    }

    /// Whether `cidr` lies inside one of the VPC's blocks.
    pub fn contains(&self, cidr: &Ipv4Net) -> bool {
        self.cidrs.iter().any(|it| it.cidr.contains(cidr))
    }
}

record!(Vpc, "vpc", "vpc-", "InvalidVpcID", "vpc");

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Subnet {
    pub id: String,
    pub vpc_id: String,
    pub zone: String,
    pub zone_id: String,
    pub cidr: Ipv4Net,
    /// EC2 knows one per subnet.
    #[serde(default)]
    pub ipv6_cidr: Option<Ipv6CidrAssociation>,
    #[serde(default)]
    pub assign_ipv6_address_on_creation: bool,
    pub map_public_ip_on_launch: bool,
    pub is_default_for_zone: bool,
    pub enable_dns64: bool,
    pub resource_name_dns_a_record: bool,
    pub hostname_type: String,
    /// Where the search for the next free address begins: a released address is not given out
    /// again at once.
    pub cursor: u32,
    #[serde(default)]
    pub reservations: Vec<Reservation>,
    pub tags: Tags,
}

/// A part of a subnet from which EC2 picks no single address by itself.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Reservation {
    pub id: String,
    pub cidr: Ipv4Net,
    pub kind: ReservationType,
    pub description: Option<String>,
    pub tags: Tags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ReservationType {
    /// For `/28` blocks.
    Prefix,
    /// For what is asked for by name.
    Explicit,
}

impl ReservationType {
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Explicit => "explicit",
        }
    }
}

record!(Subnet, "subnet", "subnet-", "InvalidSubnetID", "subnet");

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct NetworkInterface {
    pub id: String,
    pub vpc_id: String,
    pub subnet_id: String,
    pub zone: String,
    pub mac: String,
    pub description: String,
    pub interface_type: String,
    pub primary_address: Ipv4Addr,
    pub secondary_addresses: BTreeSet<Ipv4Addr>,
    /// `/28` blocks.
    pub prefixes: BTreeSet<Ipv4Net>,
    /// In the order in which they came: the first one is what an instance calls its own.
    #[serde(default)]
    pub ipv6_addresses: Vec<Ipv6Addr>,
    /// `/80` blocks.
    #[serde(default)]
    pub ipv6_prefixes: BTreeSet<Ipv6Net>,
    pub security_groups: BTreeSet<String>,
    pub source_dest_check: bool,
    #[serde(default)]
    pub tracking: Option<ConnectionTracking>,
    /// Addresses of the internet side, by private address (elastic ones included).
    pub public_addresses: Vec<PublicAddress>,
    pub attachment: Option<Attachment>,
    /// The service that made it and that alone may change it.
    pub requester: Option<String>,
    /// For a branch: the trunk that it comes in by. It has no attachment then.
    #[serde(default)]
    pub trunk: Option<TrunkAssociation>,
    #[serde(default)]
    pub permissions: Vec<InterfacePermission>,
    pub tags: Tags,
}

/// Seconds after which a connection on which nothing happens is forgotten; EC2's where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct ConnectionTracking {
    pub tcp_established: Option<u32>,
    /// After an answer.
    pub udp_stream: Option<u32>,
    /// Before one.
    pub udp: Option<u32>,
}

impl ConnectionTracking {
    /// What is said, and what was said `before` where nothing is.
    pub(crate) fn over(self, before: Self) -> Self {
        Self {
            tcp_established: self.tcp_established.or(before.tcp_established),
            udp_stream: self.udp_stream.or(before.udp_stream),
            udp: self.udp.or(before.udp),
        }
    }
}

/// How a branch gets into an instance.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct TrunkAssociation {
    pub id: String,
    pub trunk_interface_id: String,
    pub branch_interface_id: String,
    /// Unique on the trunk.
    pub vlan_id: u8,
    pub client_token: Option<String>,
}

/// What another account or a service may do with an interface.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct InterfacePermission {
    pub id: String,
    pub network_interface_id: String,
    pub account: Option<String>,
    pub service: Option<String>,
    pub permission: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PublicAddress {
    pub private: Ipv4Addr,
    pub public: Ipv4Addr,
    /// Set for an elastic address.
    pub allocation_id: Option<String>,
    pub association_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Attachment {
    pub id: String,
    pub instance_id: String,
    pub device_index: u32,
    pub network_card_index: u32,
    pub delete_on_termination: bool,
    pub attached_at: Timestamp,
    /// Until then it is `attaching`, and not in the instance.
    #[serde(default = "Attachment::of_old")]
    pub is_attached: bool,
    /// When it was told to go.
    #[serde(default)]
    pub detaching_since: Option<Timestamp>,
}

impl Attachment {
    /// Records of a region without this field knew no other state.
    fn of_old() -> bool {
        true
    }

    /// Whether the instance has the interface.
    pub fn is_in_place(&self) -> bool {
        self.is_attached && self.detaching_since.is_none()
    }

    pub fn status(&self) -> &'static str {
        match (self.detaching_since, self.is_attached) {
            (Some(_), _) => "detaching",
            (None, true) => "attached",
            (None, false) => "attaching",
        }
    }
}

impl NetworkInterface {
    /// All addresses, the primary one first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        std::iter::once(self.primary_address).chain(self.secondary_addresses.iter().copied())
    }

    /// What counts against the instance type's limit: a prefix takes the place of an address.
    pub fn slots(&self) -> usize {
        1 + self.secondary_addresses.len() + self.prefixes.len()
    }

    /// The same for IPv6, which is counted on its own.
    pub fn ipv6_slots(&self) -> usize {
        self.ipv6_addresses.len() + self.ipv6_prefixes.len()
    }

    pub fn public_address(&self) -> Option<Ipv4Addr> {
        self.public_of(self.primary_address).map(|it| it.public)
    }

    pub fn public_of(&self, private: Ipv4Addr) -> Option<&PublicAddress> {
        self.public_addresses.iter().find(|it| it.private == private)
    }

    pub fn is_in_use(&self) -> bool {
        self.attachment.is_some() || self.requester.is_some() || self.trunk.is_some()
    }

    pub fn is_trunk(&self) -> bool {
        self.interface_type == "trunk"
    }

    /// What it was made as, but for a plain one that has become a branch.
    pub fn shown_type(&self) -> &str {
        if self.trunk.is_some() { "branch" } else { &self.interface_type }
    }
}

record!(
    NetworkInterface,
    "network-interface",
    "eni-",
    "InvalidNetworkInterfaceID",
    "networkInterface"
);

/// The region's default set. Deviation: there are no others.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DhcpOptions {
    pub id: String,
    pub domain_name: String,
    pub tags: Tags,
}

record!(DhcpOptions, "dhcp-options", "dopt-", "InvalidDhcpOptionID", "dhcpOption");
