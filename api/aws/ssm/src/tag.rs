//! Tags on parameters.
//!
//! API reference: AWS Systems Manager, version 2014-11-06.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tag {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// `AddTagsToResource`.
#[derive(Debug)]
pub enum AddTagsToResource {}

impl Operation for AddTagsToResource {
    const SERVICE: &'static str = "ssm";
    const ACTION: &'static str = "AddTagsToResource";
    type Request = AddTagsToResourceRequest;
    type Response = AddTagsToResourceResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddTagsToResourceRequest {
    pub resource_type: String,
    pub resource_id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct AddTagsToResourceResponse {}

/// `RemoveTagsFromResource`.
#[derive(Debug)]
pub enum RemoveTagsFromResource {}

impl Operation for RemoveTagsFromResource {
    const SERVICE: &'static str = "ssm";
    const ACTION: &'static str = "RemoveTagsFromResource";
    type Request = RemoveTagsFromResourceRequest;
    type Response = RemoveTagsFromResourceResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RemoveTagsFromResourceRequest {
    pub resource_type: String,
    pub resource_id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tag_keys: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct RemoveTagsFromResourceResponse {}

/// `ListTagsForResource`.
#[derive(Debug)]
pub enum ListTagsForResource {}

impl Operation for ListTagsForResource {
    const SERVICE: &'static str = "ssm";
    const ACTION: &'static str = "ListTagsForResource";
    type Request = ListTagsForResourceRequest;
    type Response = ListTagsForResourceResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListTagsForResourceRequest {
    pub resource_type: String,
    pub resource_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListTagsForResourceResponse {
    #[serde(default)]
    pub tag_list: Vec<Tag>,
}
