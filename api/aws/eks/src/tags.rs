//! Tags of EKS resources.
//!
//! API reference: Amazon EKS, version 2017-11-01.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Sets tags.
#[derive(Debug)]
pub enum TagResource {}

operation!(TagResource, "POST", "/tags/{resourceArn}", TagResourceRequest, TagResourceResponse);

/// What [`TagResource`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TagResourceRequest {
    pub resource_arn: String,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// What [`TagResource`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TagResourceResponse {}

/// Removes tags.
#[derive(Debug)]
pub enum UntagResource {}

operation!(
    UntagResource,
    "DELETE",
    "/tags/{resourceArn}",
    UntagResourceRequest,
    UntagResourceResponse
);

/// What [`UntagResource`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UntagResourceRequest {
    pub resource_arn: String,
    #[serde(default)]
    pub tag_keys: Vec<String>,
}

/// What [`UntagResource`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UntagResourceResponse {}

/// The tags of a resource.
#[derive(Debug)]
pub enum ListTagsForResource {}

operation!(
    ListTagsForResource,
    "GET",
    "/tags/{resourceArn}",
    ListTagsForResourceRequest,
    ListTagsForResourceResponse
);

/// What [`ListTagsForResource`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListTagsForResourceRequest {
    pub resource_arn: String,
}

/// What [`ListTagsForResource`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListTagsForResourceResponse {
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}
