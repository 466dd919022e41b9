//! Tags on queues.
//!
//! API reference: Amazon SQS, version 2012-11-05.

use std::collections::BTreeMap;

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

/// `TagQueue`.
#[derive(Debug)]
pub enum TagQueue {}

impl Operation for TagQueue {
    const SERVICE: &'static str = "sqs";
    const ACTION: &'static str = "TagQueue";
    type Request = TagQueueRequest;
    type Response = TagQueueResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TagQueueRequest {
    pub queue_url: String,
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct TagQueueResponse {}

/// `UntagQueue`.
#[derive(Debug)]
pub enum UntagQueue {}

impl Operation for UntagQueue {
    const SERVICE: &'static str = "sqs";
    const ACTION: &'static str = "UntagQueue";
    type Request = UntagQueueRequest;
    type Response = UntagQueueResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UntagQueueRequest {
    pub queue_url: String,
    pub tag_keys: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct UntagQueueResponse {}

/// `ListQueueTags`.
#[derive(Debug)]
pub enum ListQueueTags {}

impl Operation for ListQueueTags {
    const SERVICE: &'static str = "sqs";
    const ACTION: &'static str = "ListQueueTags";
    type Request = ListQueueTagsRequest;
    type Response = ListQueueTagsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListQueueTagsRequest {
    pub queue_url: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListQueueTagsResponse {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}
