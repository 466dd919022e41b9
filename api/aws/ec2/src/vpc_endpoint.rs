//! VPC endpoints and the prefix lists that gateway endpoints route.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::{Filter, Tag, TagSpecification};

/// `CreateVpcEndpoint`.
#[derive(Debug)]
pub enum CreateVpcEndpoint {}

impl Operation for CreateVpcEndpoint {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateVpcEndpoint";
    type Request = CreateVpcEndpointRequest;
    type Response = CreateVpcEndpointResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateVpcEndpointRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_endpoint_type: Option<String>,
    pub vpc_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_document: Option<String>,
    #[serde(rename = "RouteTableId", default, skip_serializing_if = "Vec::is_empty")]
    pub route_table_ids: Vec<String>,
    #[serde(rename = "SubnetId", default, skip_serializing_if = "Vec::is_empty")]
    pub subnet_ids: Vec<String>,
    #[serde(rename = "SecurityGroupId", default, skip_serializing_if = "Vec::is_empty")]
    pub security_group_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_dns_enabled: Option<bool>,
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateVpcEndpointResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_endpoint: Option<VpcEndpoint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VpcEndpoint {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_endpoint_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_endpoint_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_document: Option<String>,
    #[serde(rename = "routeTableIdSet", default)]
    pub route_table_ids: Vec<String>,
    #[serde(rename = "subnetIdSet", default)]
    pub subnet_ids: Vec<String>,
    #[serde(rename = "groupSet", default)]
    pub groups: Vec<SecurityGroupIdentifier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_dns_enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester_managed: Option<bool>,
    #[serde(rename = "networkInterfaceIdSet", default)]
    pub network_interface_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroupIdentifier {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
}

/// `DeleteVpcEndpoints`.
#[derive(Debug)]
pub enum DeleteVpcEndpoints {}

impl Operation for DeleteVpcEndpoints {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteVpcEndpoints";
    type Request = DeleteVpcEndpointsRequest;
    type Response = DeleteVpcEndpointsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteVpcEndpointsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "VpcEndpointId", default, skip_serializing_if = "Vec::is_empty")]
    pub vpc_endpoint_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteVpcEndpointsResponse {
    #[serde(default)]
    pub unsuccessful: Vec<UnsuccessfulItem>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnsuccessfulItem {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<UnsuccessfulItemError>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnsuccessfulItemError {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `DescribeVpcEndpoints`.
#[derive(Debug)]
pub enum DescribeVpcEndpoints {}

impl Operation for DescribeVpcEndpoints {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeVpcEndpoints";
    type Request = DescribeVpcEndpointsRequest;
    type Response = DescribeVpcEndpointsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeVpcEndpointsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "VpcEndpointId", default, skip_serializing_if = "Vec::is_empty")]
    pub vpc_endpoint_ids: Vec<String>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVpcEndpointsResponse {
    #[serde(rename = "vpcEndpointSet", default)]
    pub vpc_endpoints: Vec<VpcEndpoint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// `ModifyVpcEndpoint`.
#[derive(Debug)]
pub enum ModifyVpcEndpoint {}

impl Operation for ModifyVpcEndpoint {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ModifyVpcEndpoint";
    type Request = ModifyVpcEndpointRequest;
    type Response = ModifyVpcEndpointResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifyVpcEndpointRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub vpc_endpoint_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_policy: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_document: Option<String>,
    #[serde(rename = "AddRouteTableId", default, skip_serializing_if = "Vec::is_empty")]
    pub add_route_table_ids: Vec<String>,
    #[serde(rename = "RemoveRouteTableId", default, skip_serializing_if = "Vec::is_empty")]
    pub remove_route_table_ids: Vec<String>,
    #[serde(rename = "AddSubnetId", default, skip_serializing_if = "Vec::is_empty")]
    pub add_subnet_ids: Vec<String>,
    #[serde(rename = "RemoveSubnetId", default, skip_serializing_if = "Vec::is_empty")]
    pub remove_subnet_ids: Vec<String>,
    #[serde(rename = "AddSecurityGroupId", default, skip_serializing_if = "Vec::is_empty")]
    pub add_security_group_ids: Vec<String>,
    #[serde(rename = "RemoveSecurityGroupId", default, skip_serializing_if = "Vec::is_empty")]
    pub remove_security_group_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_dns_enabled: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifyVpcEndpointResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#return: Option<bool>,
}

/// `DescribePrefixLists`.
#[derive(Debug)]
pub enum DescribePrefixLists {}

impl Operation for DescribePrefixLists {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribePrefixLists";
    type Request = DescribePrefixListsRequest;
    type Response = DescribePrefixListsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribePrefixListsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(rename = "PrefixListId", default, skip_serializing_if = "Vec::is_empty")]
    pub prefix_list_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribePrefixListsResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(rename = "prefixListSet", default)]
    pub prefix_lists: Vec<PrefixList>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixList {
    #[serde(rename = "cidrSet", default)]
    pub cidrs: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_list_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_list_name: Option<String>,
}
