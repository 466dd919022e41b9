//! Updates of clusters, node groups and add-ons.
//!
//! API reference: Amazon EKS, version 2017-11-01.

use serde::{Deserialize, Serialize};

/// One update.
#[derive(Debug)]
pub enum DescribeUpdate {}

operation!(
    DescribeUpdate,
    "GET",
    "/clusters/{name}/updates/{updateId}",
    DescribeUpdateRequest,
    DescribeUpdateResponse
);

/// What [`DescribeUpdate`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeUpdateRequest {
    pub name: String,
    pub update_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodegroup_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addon_name: Option<String>,
}

/// What [`DescribeUpdate`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeUpdateResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
}

/// The ids of all updates.
#[derive(Debug)]
pub enum ListUpdates {}

operation!(ListUpdates, "GET", "/clusters/{name}/updates", ListUpdatesRequest, ListUpdatesResponse);

/// What [`ListUpdates`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListUpdatesRequest {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodegroup_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addon_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
}

/// What [`ListUpdates`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListUpdatesResponse {
    #[serde(default)]
    pub update_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// An update as described.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    pub id: String,
    pub status: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub params: Vec<UpdateParam>,
    pub created_at: f64,
    #[serde(default)]
    pub errors: Vec<ErrorDetail>,
}

/// What an update changes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateParam {
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
}

/// Why an update failed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorDetail {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_ids: Vec<String>,
}
