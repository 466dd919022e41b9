//! Network ACLs.

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{Tags, record};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct NetworkAcl {
    pub id: String,
    pub vpc_id: String,
    /// The one that the VPC was born with. Older regions knew no other.
    #[serde(default = "yes")]
    pub is_default: bool,
    /// Without the last one, which denies all and cannot be removed.
    #[serde(default = "NetworkAclEntry::open")]
    pub entries: Vec<NetworkAclEntry>,
    /// Subnets that were given to it; those that were given to none are with the default one.
    #[serde(default)]
    pub associations: Vec<NetworkAclAssociation>,
    pub tags: Tags,
}

record!(NetworkAcl, "network-acl", "acl-", "InvalidNetworkAclID", "networkAcl");

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct NetworkAclEntry {
    pub number: u16,
    pub is_egress: bool,
    pub is_allowed: bool,
    /// A number, `-1` for all.
    pub protocol: String,
    pub peer: AclPeer,
    /// Ports, of TCP and UDP.
    pub ports: Option<(u16, u16)>,
    /// Type and code of ICMP, -1 for all.
    pub icmp: Option<(i64, i64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum AclPeer {
    V4(Ipv4Net),
    V6(Ipv6Net),
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct NetworkAclAssociation {
    pub id: String,
    pub subnet_id: String,
}

fn yes() -> bool {
    true
}

impl NetworkAclEntry {
    /// What a default ACL has.
    pub fn open() -> Vec<Self> {
        let entry = |is_egress| Self {
            number: 100,
            is_egress,
            is_allowed: true,
            protocol: "-1".to_owned(),
            peer: AclPeer::V4(Ipv4Net::default()),
            ports: None,
            icmp: None,
        };
        vec![entry(true), entry(false)]
    }
}

impl NetworkAcl {
    pub fn default_of(vpc_id: &str) -> Self {
        Self {
            id: entropy::aws_id("acl"),
            vpc_id: vpc_id.to_owned(),
            is_default: true,
            entries: NetworkAclEntry::open(),
            associations: Vec::new(),
            tags: Tags::new(),
        }
    }
}
