//! What leads out of a subnet: route tables, gateways, elastic addresses, endpoints.

use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Tags, record};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct InternetGateway {
    pub id: String,
    pub vpc_id: Option<String>,
    pub tags: Tags,
}

record!(InternetGateway, "internet-gateway", "igw-", "InvalidInternetGatewayID", "internetGateway");

/// The way out of IPv6, by which nobody comes in.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct EgressOnlyInternetGateway {
    pub id: String,
    pub vpc_id: String,
    pub tags: Tags,
}

record!(
    EgressOnlyInternetGateway,
    "egress-only-internet-gateway",
    "eigw-",
    "InvalidGatewayID",
    "gateway"
);

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct NatGateway {
    pub id: String,
    pub vpc_id: String,
    pub subnet_id: String,
    pub is_public: bool,
    pub allocation_id: Option<String>,
    pub public_address: Option<Ipv4Addr>,
    pub network_interface_id: String,
    pub private_address: Ipv4Addr,
    pub created_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
    pub tags: Tags,
}

record!(NatGateway, "natgateway", "nat-", "NatGateway", "NatGateway");

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct RouteTable {
    pub id: String,
    pub vpc_id: String,
    /// Beside the local routes, which follow from the VPC's blocks.
    pub routes: Vec<Route>,
    pub associations: Vec<RouteTableAssociation>,
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Route {
    pub destination: Destination,
    pub target: RouteTarget,
}

/// Written as text; a prefix list's id is no network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Destination {
    Cidr(Ipv4Net),
    Ipv6Cidr(Ipv6Net),
    PrefixList(String),
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cidr(cidr) => cidr.fmt(f),
            Self::Ipv6Cidr(cidr) => cidr.fmt(f),
            Self::PrefixList(id) => f.write_str(id),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum RouteTarget {
    InternetGateway(String),
    EgressOnlyInternetGateway(String),
    NatGateway(String),
    NetworkInterface(String),
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct RouteTableAssociation {
    pub id: String,
    /// `None` for the VPC's main table.
    pub subnet_id: Option<String>,
}

impl RouteTable {
    pub fn is_main(&self) -> bool {
        self.associations.iter().any(|it| it.subnet_id.is_none())
    }
}

record!(RouteTable, "route-table", "rtb-", "InvalidRouteTableID", "routeTable");

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ElasticIp {
    /// The allocation id.
    pub id: String,
    pub public_address: Ipv4Addr,
    pub association: Option<ElasticIpAssociation>,
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ElasticIpAssociation {
    pub id: String,
    pub network_interface_id: String,
    pub private_address: Ipv4Addr,
}

record!(ElasticIp, "elastic-ip", "eipalloc-", "InvalidAllocationID", "allocation");

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct VpcEndpoint {
    pub id: String,
    pub vpc_id: String,
    pub service_name: String,
    /// `Gateway` or `Interface`.
    pub kind: String,
    pub route_table_ids: Vec<String>,
    pub subnet_ids: Vec<String>,
    pub security_groups: Vec<String>,
    pub network_interface_ids: Vec<String>,
    pub private_dns_enabled: bool,
    pub policy: String,
    pub created_at: Timestamp,
    pub tags: Tags,
}

impl VpcEndpoint {
    /// Whether `host` is one of the public names of the endpoint's service:
    /// `com.amazonaws.us-east-1.ecr.api` is `api.ecr.us-east-1.amazonaws.com`, and `ecr.dkr` is all
    /// registries.
    pub fn serves(&self, host: &str) -> bool {
        let Some(name) = self.service_name.strip_prefix("com.amazonaws.") else { return false };
        let Some((region, service)) = name.split_once('.') else { return false };
        let reversed: Vec<&str> = service.split('.').rev().collect();
        let service = reversed.join(".");
        ["amazonaws.com", "api.aws"].iter().any(|domain| {
            let own = format!("{service}.{region}.{domain}");
            host == own || host.strip_suffix(&own).is_some_and(|it| it.ends_with('.'))
        })
    }
}

record!(VpcEndpoint, "vpc-endpoint", "vpce-", "InvalidVpcEndpointId", "Vpc Endpoint");
