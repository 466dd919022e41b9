//! DHCP option sets, read only.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::{AttributeValue, Filter, Tag};

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
