//! Services that a VPC endpoint can lead to.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::{Filter, Tag};

/// `DescribeVpcEndpointServices`.
#[derive(Debug)]
pub enum DescribeVpcEndpointServices {}

impl Operation for DescribeVpcEndpointServices {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeVpcEndpointServices";
    type Request = DescribeVpcEndpointServicesRequest;
    type Response = DescribeVpcEndpointServicesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeVpcEndpointServicesRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "ServiceName", default, skip_serializing_if = "Vec::is_empty")]
    pub service_names: Vec<String>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVpcEndpointServicesResponse {
    #[serde(rename = "serviceNameSet", default)]
    pub service_names: Vec<String>,
    #[serde(rename = "serviceDetailSet", default)]
    pub service_details: Vec<ServiceDetail>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceDetail {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
    #[serde(default)]
    pub service_type: Vec<ServiceTypeDetail>,
    #[serde(rename = "availabilityZoneSet", default)]
    pub availability_zones: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(rename = "baseEndpointDnsNameSet", default)]
    pub base_endpoint_dns_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_dns_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_endpoint_policy_supported: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceptance_required: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manages_vpc_endpoints: Option<bool>,
    #[serde(rename = "supportedIpAddressTypeSet", default)]
    pub supported_ip_address_types: Vec<String>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTypeDetail {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
}
