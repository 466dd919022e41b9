//! Network access control lists, their entries and their associations.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::{Filter, Tag, TagSpecification};

/// `DescribeNetworkAcls`.
#[derive(Debug)]
pub enum DescribeNetworkAcls {}

impl Operation for DescribeNetworkAcls {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeNetworkAcls";
    type Request = DescribeNetworkAclsRequest;
    type Response = DescribeNetworkAclsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeNetworkAclsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "NetworkAclId", default, skip_serializing_if = "Vec::is_empty")]
    pub network_acl_ids: Vec<String>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNetworkAclsResponse {
    #[serde(rename = "networkAclSet", default)]
    pub network_acls: Vec<NetworkAcl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkAcl {
    #[serde(rename = "associationSet", default)]
    pub associations: Vec<NetworkAclAssociation>,
    #[serde(rename = "entrySet", default)]
    pub entries: Vec<NetworkAclEntry>,
    #[serde(rename = "default", default, skip_serializing_if = "Option::is_none")]
    pub is_default: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_acl_id: Option<String>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkAclAssociation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_acl_association_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_acl_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkAclEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_type_code: Option<IcmpTypeCode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_range: Option<PortRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_action: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_number: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IcmpTypeCode {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortRange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
}

/// `CreateNetworkAcl`.
#[derive(Debug)]
pub enum CreateNetworkAcl {}

impl Operation for CreateNetworkAcl {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateNetworkAcl";
    type Request = CreateNetworkAclRequest;
    type Response = CreateNetworkAclResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateNetworkAclRequest {
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub vpc_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateNetworkAclResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_acl: Option<NetworkAcl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
}

/// `DeleteNetworkAcl`.
#[derive(Debug)]
pub enum DeleteNetworkAcl {}

impl Operation for DeleteNetworkAcl {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteNetworkAcl";
    type Request = DeleteNetworkAclRequest;
    type Response = DeleteNetworkAclResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteNetworkAclRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub network_acl_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DeleteNetworkAclResponse {}

/// `CreateNetworkAclEntry`.
#[derive(Debug)]
pub enum CreateNetworkAclEntry {}

impl Operation for CreateNetworkAclEntry {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateNetworkAclEntry";
    type Request = CreateNetworkAclEntryRequest;
    type Response = CreateNetworkAclEntryResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateNetworkAclEntryRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub network_acl_id: String,
    pub rule_number: i64,
    pub protocol: String,
    pub rule_action: String,
    pub egress: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block: Option<String>,
    #[serde(rename = "Icmp", default, skip_serializing_if = "Option::is_none")]
    pub icmp_type_code: Option<IcmpTypeCodeInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_range: Option<PortRangeInput>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct CreateNetworkAclEntryResponse {}

/// `ReplaceNetworkAclEntry`.
#[derive(Debug)]
pub enum ReplaceNetworkAclEntry {}

impl Operation for ReplaceNetworkAclEntry {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ReplaceNetworkAclEntry";
    type Request = ReplaceNetworkAclEntryRequest;
    type Response = ReplaceNetworkAclEntryResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReplaceNetworkAclEntryRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub network_acl_id: String,
    pub rule_number: i64,
    pub protocol: String,
    pub rule_action: String,
    pub egress: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_block: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block: Option<String>,
    #[serde(rename = "Icmp", default, skip_serializing_if = "Option::is_none")]
    pub icmp_type_code: Option<IcmpTypeCodeInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_range: Option<PortRangeInput>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ReplaceNetworkAclEntryResponse {}

/// `DeleteNetworkAclEntry`.
#[derive(Debug)]
pub enum DeleteNetworkAclEntry {}

impl Operation for DeleteNetworkAclEntry {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteNetworkAclEntry";
    type Request = DeleteNetworkAclEntryRequest;
    type Response = DeleteNetworkAclEntryResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteNetworkAclEntryRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub network_acl_id: String,
    pub rule_number: i64,
    pub egress: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DeleteNetworkAclEntryResponse {}

/// `ReplaceNetworkAclAssociation`.
#[derive(Debug)]
pub enum ReplaceNetworkAclAssociation {}

impl Operation for ReplaceNetworkAclAssociation {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ReplaceNetworkAclAssociation";
    type Request = ReplaceNetworkAclAssociationRequest;
    type Response = ReplaceNetworkAclAssociationResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReplaceNetworkAclAssociationRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub association_id: String,
    pub network_acl_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplaceNetworkAclAssociationResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_association_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct IcmpTypeCodeInput {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortRangeInput {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
}
