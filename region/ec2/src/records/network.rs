//! VPCs, subnets, network interfaces, DHCP options.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Tags, record};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Vpc {
    pub id: String,
    /// The first one is the VPC's own; the others were associated later.
    pub cidrs: Vec<CidrAssociation>,
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
    pub map_public_ip_on_launch: bool,
    pub is_default_for_zone: bool,
    pub enable_dns64: bool,
    pub resource_name_dns_a_record: bool,
    pub hostname_type: String,
    /// Where the search for the next free address begins: a released address is not given out
    /// again at once.
    pub cursor: u32,
    pub tags: Tags,
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
    pub security_groups: BTreeSet<String>,
    pub source_dest_check: bool,
    /// Addresses of the internet side, by private address (elastic ones included).
    pub public_addresses: Vec<PublicAddress>,
    pub attachment: Option<Attachment>,
    /// The service that made it and that alone may change it.
    pub requester: Option<String>,
    pub tags: Tags,
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

    pub fn public_address(&self) -> Option<Ipv4Addr> {
        self.public_of(self.primary_address).map(|it| it.public)
    }

    pub fn public_of(&self, private: Ipv4Addr) -> Option<&PublicAddress> {
        self.public_addresses.iter().find(|it| it.private == private)
    }

    pub fn is_in_use(&self) -> bool {
        self.attachment.is_some() || self.requester.is_some()
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
