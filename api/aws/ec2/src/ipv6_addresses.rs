//! IPv6 addresses and prefixes of a network interface.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

/// `AssignIpv6Addresses`.
#[derive(Debug)]
pub enum AssignIpv6Addresses {}

impl Operation for AssignIpv6Addresses {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "AssignIpv6Addresses";
    type Request = AssignIpv6AddressesRequest;
    type Response = AssignIpv6AddressesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AssignIpv6AddressesRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_prefix_count: Option<i64>,
    #[serde(rename = "Ipv6Prefix", default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_prefixes: Vec<String>,
    pub network_interface_id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address_count: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignIpv6AddressesResponse {
    #[serde(default)]
    pub assigned_ipv6_addresses: Vec<String>,
    #[serde(rename = "assignedIpv6PrefixSet", default)]
    pub assigned_ipv6_prefixes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface_id: Option<String>,
}

/// `UnassignIpv6Addresses`.
#[derive(Debug)]
pub enum UnassignIpv6Addresses {}

impl Operation for UnassignIpv6Addresses {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "UnassignIpv6Addresses";
    type Request = UnassignIpv6AddressesRequest;
    type Response = UnassignIpv6AddressesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UnassignIpv6AddressesRequest {
    #[serde(rename = "Ipv6Prefix", default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_prefixes: Vec<String>,
    pub network_interface_id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_addresses: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnassignIpv6AddressesResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface_id: Option<String>,
    #[serde(default)]
    pub unassigned_ipv6_addresses: Vec<String>,
    #[serde(rename = "unassignedIpv6PrefixSet", default)]
    pub unassigned_ipv6_prefixes: Vec<String>,
}
