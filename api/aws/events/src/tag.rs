//! Tags on rules.
//!
//! API reference: Amazon EventBridge, version 2015-10-07.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

/// `TagResource`.
#[derive(Debug)]
pub enum TagResource {}

impl Operation for TagResource {
    const SERVICE: &'static str = "events";
    const ACTION: &'static str = "TagResource";
    type Request = TagResourceRequest;
    type Response = TagResourceResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TagResourceRequest {
    #[serde(rename = "ResourceARN")]
    pub resource_arn: String,
    pub tags: Vec<Tag>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tag {
    pub key: String,
    pub value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct TagResourceResponse {}

/// `UntagResource`.
#[derive(Debug)]
pub enum UntagResource {}

impl Operation for UntagResource {
    const SERVICE: &'static str = "events";
    const ACTION: &'static str = "UntagResource";
    type Request = UntagResourceRequest;
    type Response = UntagResourceResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UntagResourceRequest {
    #[serde(rename = "ResourceARN")]
    pub resource_arn: String,
    pub tag_keys: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct UntagResourceResponse {}

/// `ListTagsForResource`.
#[derive(Debug)]
pub enum ListTagsForResource {}

impl Operation for ListTagsForResource {
    const SERVICE: &'static str = "events";
    const ACTION: &'static str = "ListTagsForResource";
    type Request = ListTagsForResourceRequest;
    type Response = ListTagsForResourceResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListTagsForResourceRequest {
    #[serde(rename = "ResourceARN")]
    pub resource_arn: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListTagsForResourceResponse {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}
