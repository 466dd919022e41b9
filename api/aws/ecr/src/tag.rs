//! Tags of repositories.
//!
//! API reference: Amazon ECR, version 2015-09-21.

use serde::{Deserialize, Serialize};

use crate::operation;

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tag {
    #[serde(rename = "Key")]
    pub key: String,
    #[serde(rename = "Value")]
    pub value: String,
}

operation! {
    /// The tags of a repository.
    ListTagsForResource: ListTagsForResourceRequest => ListTagsForResourceResponse
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListTagsForResourceRequest {
    pub resource_arn: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListTagsForResourceResponse {
    pub tags: Vec<Tag>,
}

operation! {
    /// Adds tags.
    TagResource: TagResourceRequest => TagResourceResponse
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagResourceRequest {
    pub resource_arn: String,
    pub tags: Vec<Tag>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagResourceResponse {}

operation! {
    /// Removes tags.
    UntagResource: UntagResourceRequest => UntagResourceResponse
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UntagResourceRequest {
    pub resource_arn: String,
    pub tag_keys: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UntagResourceResponse {}
