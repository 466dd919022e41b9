//! Secondary private addresses and prefixes of a network interface.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::network_interface::Ipv4PrefixSpecification;

/// `AssignPrivateIpAddresses`.
#[derive(Debug)]
pub enum AssignPrivateIpAddresses {}

impl Operation for AssignPrivateIpAddresses {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "AssignPrivateIpAddresses";
    type Request = AssignPrivateIpAddressesRequest;
    type Response = AssignPrivateIpAddressesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AssignPrivateIpAddressesRequest {
    #[serde(rename = "Ipv4Prefix", default, skip_serializing_if = "Vec::is_empty")]
    pub ipv4_prefixes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_prefix_count: Option<i64>,
    pub network_interface_id: String,
    #[serde(rename = "PrivateIpAddress", default, skip_serializing_if = "Vec::is_empty")]
    pub private_ip_addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary_private_ip_address_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_reassignment: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignPrivateIpAddressesResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface_id: Option<String>,
    #[serde(rename = "assignedPrivateIpAddressesSet", default)]
    pub assigned_private_ip_addresses: Vec<AssignedPrivateIpAddress>,
    #[serde(rename = "assignedIpv4PrefixSet", default)]
    pub assigned_ipv4_prefixes: Vec<Ipv4PrefixSpecification>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignedPrivateIpAddress {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip_address: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct UnassignPrivateIpAddressesResponse {}

/// `UnassignPrivateIpAddresses`.
#[derive(Debug)]
pub enum UnassignPrivateIpAddresses {}

impl Operation for UnassignPrivateIpAddresses {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "UnassignPrivateIpAddresses";
    type Request = UnassignPrivateIpAddressesRequest;
    type Response = UnassignPrivateIpAddressesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UnassignPrivateIpAddressesRequest {
    #[serde(rename = "Ipv4Prefix", default, skip_serializing_if = "Vec::is_empty")]
    pub ipv4_prefixes: Vec<String>,
    pub network_interface_id: String,
    #[serde(rename = "PrivateIpAddress", default, skip_serializing_if = "Vec::is_empty")]
    pub private_ip_addresses: Vec<String>,
}
