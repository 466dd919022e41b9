//! DHCP option sets.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::{AttributeValue, Filter, Tag, TagSpecification};

/// `DescribeDhcpOptions`.
#[derive(Debug)]
pub enum DescribeDhcpOptions {}

impl Operation for DescribeDhcpOptions {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeDhcpOptions";
    type Request = DescribeDhcpOptionsRequest;
    type Response = DescribeDhcpOptionsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeDhcpOptionsRequest {
    #[serde(rename = "DhcpOptionsId", default, skip_serializing_if = "Vec::is_empty")]
    pub dhcp_options_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeDhcpOptionsResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(rename = "dhcpOptionsSet", default)]
    pub dhcp_options: Vec<DhcpOptions>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DhcpOptions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_options_id: Option<String>,
    #[serde(rename = "dhcpConfigurationSet", default)]
    pub dhcp_configurations: Vec<DhcpConfiguration>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DhcpConfiguration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(rename = "valueSet", default)]
    pub values: Vec<AttributeValue>,
}

/// `CreateDhcpOptions`.
#[derive(Debug)]
pub enum CreateDhcpOptions {}

impl Operation for CreateDhcpOptions {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateDhcpOptions";
    type Request = CreateDhcpOptionsRequest;
    type Response = CreateDhcpOptionsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateDhcpOptionsRequest {
    #[serde(rename = "DhcpConfiguration", default, skip_serializing_if = "Vec::is_empty")]
    pub dhcp_configurations: Vec<NewDhcpConfiguration>,
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateDhcpOptionsResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_options: Option<DhcpOptions>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NewDhcpConfiguration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(rename = "Value", default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// `AssociateDhcpOptions`.
#[derive(Debug)]
pub enum AssociateDhcpOptions {}

impl Operation for AssociateDhcpOptions {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "AssociateDhcpOptions";
    type Request = AssociateDhcpOptionsRequest;
    type Response = AssociateDhcpOptionsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AssociateDhcpOptionsRequest {
    pub dhcp_options_id: String,
    pub vpc_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssociateDhcpOptionsResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#return: Option<bool>,
}

/// `DeleteDhcpOptions`.
#[derive(Debug)]
pub enum DeleteDhcpOptions {}

impl Operation for DeleteDhcpOptions {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteDhcpOptions";
    type Request = DeleteDhcpOptionsRequest;
    type Response = DeleteDhcpOptionsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteDhcpOptionsRequest {
    pub dhcp_options_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteDhcpOptionsResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#return: Option<bool>,
}
