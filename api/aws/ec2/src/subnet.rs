//! Subnets and their attributes.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::{AttributeBooleanValueInput, Filter, Tag, TagSpecification};

/// `CreateSubnet`.
#[derive(Debug)]
pub enum CreateSubnet {}

impl Operation for CreateSubnet {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateSubnet";
    type Request = CreateSubnetRequest;
    type Response = CreateSubnetResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateSubnetRequest {
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block: Option<String>,
    pub vpc_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_native: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_netmask_length: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_netmask_length: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateSubnetResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<Subnet>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_lni_at_device_index: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assign_ipv6_address_on_creation: Option<bool>,
    #[serde(default)]
    pub ipv6_cidr_block_association_set: Vec<SubnetIpv6CidrBlockAssociation>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_dns64: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_native: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_ip_address_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_for_az: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map_public_ip_on_launch: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DeleteSubnetResponse {}

/// `DeleteSubnet`.
#[derive(Debug)]
pub enum DeleteSubnet {}

impl Operation for DeleteSubnet {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteSubnet";
    type Request = DeleteSubnetRequest;
    type Response = DeleteSubnetResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteSubnetRequest {
    pub subnet_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

/// `DescribeSubnets`.
#[derive(Debug)]
pub enum DescribeSubnets {}

impl Operation for DescribeSubnets {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeSubnets";
    type Request = DescribeSubnetsRequest;
    type Response = DescribeSubnetsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeSubnetsRequest {
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(rename = "SubnetId", default, skip_serializing_if = "Vec::is_empty")]
    pub subnet_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeSubnetsResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(rename = "subnetSet", default)]
    pub subnets: Vec<Subnet>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ModifySubnetAttributeResponse {}

/// `ModifySubnetAttribute`.
#[derive(Debug)]
pub enum ModifySubnetAttribute {}

impl Operation for ModifySubnetAttribute {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ModifySubnetAttribute";
    type Request = ModifySubnetAttributeRequest;
    type Response = ModifySubnetAttributeResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifySubnetAttributeRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assign_ipv6_address_on_creation: Option<AttributeBooleanValueInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map_public_ip_on_launch: Option<AttributeBooleanValueInput>,
    pub subnet_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_dns64: Option<AttributeBooleanValueInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_dns_hostname_type_on_launch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_resource_name_dns_a_record_on_launch: Option<AttributeBooleanValueInput>,
    #[serde(
        rename = "EnableResourceNameDnsAAAARecordOnLaunch",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub enable_resource_name_dns_aaaa_record_on_launch: Option<AttributeBooleanValueInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_lni_at_device_index: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_lni_at_device_index: Option<AttributeBooleanValueInput>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubnetIpv6CidrBlockAssociation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block_state: Option<SubnetCidrBlockState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address_attribute: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_source: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubnetCidrBlockState {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
}

/// `AssociateSubnetCidrBlock`.
#[derive(Debug)]
pub enum AssociateSubnetCidrBlock {}

impl Operation for AssociateSubnetCidrBlock {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "AssociateSubnetCidrBlock";
    type Request = AssociateSubnetCidrBlockRequest;
    type Response = AssociateSubnetCidrBlockResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AssociateSubnetCidrBlockRequest {
    pub subnet_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_ipam_pool_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_netmask_length: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssociateSubnetCidrBlockResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block_association: Option<SubnetIpv6CidrBlockAssociation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
}

/// `DisassociateSubnetCidrBlock`.
#[derive(Debug)]
pub enum DisassociateSubnetCidrBlock {}

impl Operation for DisassociateSubnetCidrBlock {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DisassociateSubnetCidrBlock";
    type Request = DisassociateSubnetCidrBlockRequest;
    type Response = DisassociateSubnetCidrBlockResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DisassociateSubnetCidrBlockRequest {
    pub association_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DisassociateSubnetCidrBlockResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block_association: Option<SubnetIpv6CidrBlockAssociation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
}
