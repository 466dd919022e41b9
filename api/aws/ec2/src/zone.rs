//! Regions, Availability Zones and account attributes.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::Filter;

/// `DescribeAvailabilityZones`.
#[derive(Debug)]
pub enum DescribeAvailabilityZones {}

impl Operation for DescribeAvailabilityZones {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeAvailabilityZones";
    type Request = DescribeAvailabilityZonesRequest;
    type Response = DescribeAvailabilityZonesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeAvailabilityZonesRequest {
    #[serde(rename = "ZoneName", default, skip_serializing_if = "Vec::is_empty")]
    pub zone_names: Vec<String>,
    #[serde(rename = "ZoneId", default, skip_serializing_if = "Vec::is_empty")]
    pub zone_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_availability_zones: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAvailabilityZonesResponse {
    #[serde(rename = "availabilityZoneInfo", default)]
    pub availability_zones: Vec<AvailabilityZone>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AvailabilityZone {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opt_in_status: Option<String>,
    #[serde(rename = "messageSet", default)]
    pub messages: Vec<AvailabilityZoneMessage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_zone_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_zone_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_long_name: Option<String>,
    #[serde(rename = "zoneState", default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AvailabilityZoneMessage {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `DescribeRegions`.
#[derive(Debug)]
pub enum DescribeRegions {}

impl Operation for DescribeRegions {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeRegions";
    type Request = DescribeRegionsRequest;
    type Response = DescribeRegionsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeRegionsRequest {
    #[serde(rename = "RegionName", default, skip_serializing_if = "Vec::is_empty")]
    pub region_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_regions: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeRegionsResponse {
    #[serde(rename = "regionInfo", default)]
    pub regions: Vec<Region>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Region {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opt_in_status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_name: Option<String>,
    #[serde(rename = "regionEndpoint", default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// `DescribeAccountAttributes`.
#[derive(Debug)]
pub enum DescribeAccountAttributes {}

impl Operation for DescribeAccountAttributes {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeAccountAttributes";
    type Request = DescribeAccountAttributesRequest;
    type Response = DescribeAccountAttributesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeAccountAttributesRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "AttributeName", default, skip_serializing_if = "Vec::is_empty")]
    pub attribute_names: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAccountAttributesResponse {
    #[serde(rename = "accountAttributeSet", default)]
    pub account_attributes: Vec<AccountAttribute>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountAttribute {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute_name: Option<String>,
    #[serde(rename = "attributeValueSet", default)]
    pub attribute_values: Vec<AccountAttributeValue>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountAttributeValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute_value: Option<String>,
}
