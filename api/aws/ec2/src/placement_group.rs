//! Placement groups: how instances are put on AWS's machines, together or apart.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::{Filter, Tag, TagSpecification};

/// `CreatePlacementGroup`.
#[derive(Debug)]
pub enum CreatePlacementGroup {}

impl Operation for CreatePlacementGroup {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreatePlacementGroup";
    type Request = CreatePlacementGroupRequest;
    type Response = CreatePlacementGroupResult;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreatePlacementGroupRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread_level: Option<String>,
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatePlacementGroupResult {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_group: Option<PlacementGroup>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementGroup {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread_level: Option<String>,
}

/// `DeletePlacementGroup`.
#[derive(Debug)]
pub enum DeletePlacementGroup {}

impl Operation for DeletePlacementGroup {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeletePlacementGroup";
    type Request = DeletePlacementGroupRequest;
    type Response = DeletePlacementGroupResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeletePlacementGroupRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub group_name: String,
}

/// It says nothing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DeletePlacementGroupResponse {
    #[serde(rename = "return", default, skip_serializing_if = "Option::is_none")]
    pub r#return: Option<bool>,
}

/// `DescribePlacementGroups`.
#[derive(Debug)]
pub enum DescribePlacementGroups {}

impl Operation for DescribePlacementGroups {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribePlacementGroups";
    type Request = DescribePlacementGroupsRequest;
    type Response = DescribePlacementGroupsResult;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribePlacementGroupsRequest {
    #[serde(rename = "GroupId", default, skip_serializing_if = "Vec::is_empty")]
    pub group_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(rename = "GroupName", default, skip_serializing_if = "Vec::is_empty")]
    pub group_names: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribePlacementGroupsResult {
    #[serde(rename = "placementGroupSet", default)]
    pub placement_groups: Vec<PlacementGroup>,
}
