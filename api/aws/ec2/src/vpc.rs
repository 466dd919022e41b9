//! VPCs: creation, attributes and additional CIDR blocks.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::{
    AttributeBooleanValue, AttributeBooleanValueInput, Filter, Tag, TagSpecification,
};

/// `CreateVpc`.
#[derive(Debug)]
pub enum CreateVpc {}

impl Operation for CreateVpc {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateVpc";
    type Request = CreateVpcRequest;
    type Response = CreateVpcResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateVpcRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_netmask_length: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_netmask_length: Option<i64>,
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_tenancy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amazon_provided_ipv6_cidr_block: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block_network_border_group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_pool: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_ipam_pool_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateVpcResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc: Option<Vpc>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Vpc {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_tenancy: Option<String>,
    #[serde(default)]
    pub ipv6_cidr_block_association_set: Vec<VpcIpv6CidrBlockAssociation>,
    #[serde(default)]
    pub cidr_block_association_set: Vec<VpcCidrBlockAssociation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_default: Option<bool>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_options_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VpcCidrBlockAssociation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_block_state: Option<VpcCidrBlockState>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VpcIpv6CidrBlockAssociation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block_state: Option<VpcCidrBlockState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_border_group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_pool: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address_attribute: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_source: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VpcCidrBlockState {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DeleteVpcResponse {}

/// `DeleteVpc`.
#[derive(Debug)]
pub enum DeleteVpc {}

impl Operation for DeleteVpc {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteVpc";
    type Request = DeleteVpcRequest;
    type Response = DeleteVpcResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteVpcRequest {
    pub vpc_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

/// `DescribeVpcs`.
#[derive(Debug)]
pub enum DescribeVpcs {}

impl Operation for DescribeVpcs {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeVpcs";
    type Request = DescribeVpcsRequest;
    type Response = DescribeVpcsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeVpcsRequest {
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(rename = "VpcId", default, skip_serializing_if = "Vec::is_empty")]
    pub vpc_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVpcsResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(rename = "vpcSet", default)]
    pub vpcs: Vec<Vpc>,
}

/// `DescribeVpcAttribute`.
#[derive(Debug)]
pub enum DescribeVpcAttribute {}

impl Operation for DescribeVpcAttribute {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeVpcAttribute";
    type Request = DescribeVpcAttributeRequest;
    type Response = DescribeVpcAttributeResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeVpcAttributeRequest {
    pub attribute: String,
    pub vpc_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVpcAttributeResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_dns_hostnames: Option<AttributeBooleanValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_dns_support: Option<AttributeBooleanValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_network_address_usage_metrics: Option<AttributeBooleanValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ModifyVpcAttributeResponse {}

/// `ModifyVpcAttribute`.
#[derive(Debug)]
pub enum ModifyVpcAttribute {}

impl Operation for ModifyVpcAttribute {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ModifyVpcAttribute";
    type Request = ModifyVpcAttributeRequest;
    type Response = ModifyVpcAttributeResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifyVpcAttributeRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_dns_hostnames: Option<AttributeBooleanValueInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_dns_support: Option<AttributeBooleanValueInput>,
    pub vpc_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_network_address_usage_metrics: Option<AttributeBooleanValueInput>,
}

/// `AssociateVpcCidrBlock`.
#[derive(Debug)]
pub enum AssociateVpcCidrBlock {}

impl Operation for AssociateVpcCidrBlock {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "AssociateVpcCidrBlock";
    type Request = AssociateVpcCidrBlockRequest;
    type Response = AssociateVpcCidrBlockResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AssociateVpcCidrBlockRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_netmask_length: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_netmask_length: Option<i64>,
    pub vpc_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amazon_provided_ipv6_cidr_block: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block_network_border_group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_pool: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_ipam_pool_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssociateVpcCidrBlockResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block_association: Option<VpcIpv6CidrBlockAssociation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_block_association: Option<VpcCidrBlockAssociation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
}

/// `DisassociateVpcCidrBlock`.
#[derive(Debug)]
pub enum DisassociateVpcCidrBlock {}

impl Operation for DisassociateVpcCidrBlock {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DisassociateVpcCidrBlock";
    type Request = DisassociateVpcCidrBlockRequest;
    type Response = DisassociateVpcCidrBlockResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DisassociateVpcCidrBlockRequest {
    pub association_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DisassociateVpcCidrBlockResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block_association: Option<VpcIpv6CidrBlockAssociation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_block_association: Option<VpcCidrBlockAssociation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
}
