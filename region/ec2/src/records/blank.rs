//! Rows without content, for types whose fields have no default of their own.
//!
//! They stand in for a resource when a filter's name is looked at, which must be right even when
//! there is nothing to filter.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::{ElasticIp, NatGateway, NetworkInterface, Subnet, Tags};

impl Default for Subnet {
    fn default() -> Self {
        Self {
            id: String::new(),
            vpc_id: String::new(),
            zone: String::new(),
            zone_id: String::new(),
            // The smallest block that EC2 knows.
            cidr: Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 28),
            ipv6_cidr: None,
            assign_ipv6_address_on_creation: false,
            map_public_ip_on_launch: false,
            is_default_for_zone: false,
            enable_dns64: false,
            resource_name_dns_a_record: false,
            hostname_type: String::new(),
            cursor: 0,
            reservations: Vec::new(),
            tags: Tags::new(),
        }
    }
}

impl Default for NetworkInterface {
    fn default() -> Self {
        Self {
            id: String::new(),
            vpc_id: String::new(),
            subnet_id: String::new(),
            zone: String::new(),
            mac: String::new(),
            description: String::new(),
            interface_type: String::new(),
            primary_address: Ipv4Addr::UNSPECIFIED,
            secondary_addresses: BTreeSet::new(),
            prefixes: BTreeSet::new(),
            ipv6_addresses: Vec::new(),
            ipv6_prefixes: BTreeSet::new(),
            security_groups: BTreeSet::new(),
            source_dest_check: false,
            tracking: None,
            public_addresses: Vec::new(),
            attachment: None,
            requester: None,
            trunk: None,
            permissions: Vec::new(),
            tags: Tags::new(),
        }
    }
}

impl Default for NatGateway {
    fn default() -> Self {
        Self {
            id: String::new(),
            vpc_id: String::new(),
            subnet_id: String::new(),
            is_public: false,
            allocation_id: None,
            public_address: None,
            network_interface_id: String::new(),
            private_address: Ipv4Addr::UNSPECIFIED,
            created_at: Timestamp::UNIX_EPOCH,
            deleted_at: None,
            tags: Tags::new(),
        }
    }
}

impl Default for ElasticIp {
    fn default() -> Self {
        Self {
            id: String::new(),
            public_address: Ipv4Addr::UNSPECIFIED,
            association: None,
            tags: Tags::new(),
        }
    }
}
