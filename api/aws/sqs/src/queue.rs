//! Queues.
//!
//! API reference: Amazon SQS, version 2012-11-05.

use std::collections::BTreeMap;

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

/// `CreateQueue`.
#[derive(Debug)]
pub enum CreateQueue {}

impl Operation for CreateQueue {
    const SERVICE: &'static str = "sqs";
    const ACTION: &'static str = "CreateQueue";
    type Request = CreateQueueRequest;
    type Response = CreateQueueResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateQueueRequest {
    pub queue_name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    #[serde(rename = "tags", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateQueueResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_url: Option<String>,
}

/// `GetQueueUrl`.
#[derive(Debug)]
pub enum GetQueueUrl {}

impl Operation for GetQueueUrl {
    const SERVICE: &'static str = "sqs";
    const ACTION: &'static str = "GetQueueUrl";
    type Request = GetQueueUrlRequest;
    type Response = GetQueueUrlResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetQueueUrlRequest {
    pub queue_name: String,
    #[serde(rename = "QueueOwnerAWSAccountId", default, skip_serializing_if = "Option::is_none")]
    pub queue_owner_aws_account_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetQueueUrlResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_url: Option<String>,
}

/// `GetQueueAttributes`.
#[derive(Debug)]
pub enum GetQueueAttributes {}

impl Operation for GetQueueAttributes {
    const SERVICE: &'static str = "sqs";
    const ACTION: &'static str = "GetQueueAttributes";
    type Request = GetQueueAttributesRequest;
    type Response = GetQueueAttributesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetQueueAttributesRequest {
    pub queue_url: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attribute_names: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetQueueAttributesResponse {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// `SetQueueAttributes`.
#[derive(Debug)]
pub enum SetQueueAttributes {}

impl Operation for SetQueueAttributes {
    const SERVICE: &'static str = "sqs";
    const ACTION: &'static str = "SetQueueAttributes";
    type Request = SetQueueAttributesRequest;
    type Response = SetQueueAttributesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SetQueueAttributesRequest {
    pub queue_url: String,
    pub attributes: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct SetQueueAttributesResponse {}

/// `DeleteQueue`.
#[derive(Debug)]
pub enum DeleteQueue {}

impl Operation for DeleteQueue {
    const SERVICE: &'static str = "sqs";
    const ACTION: &'static str = "DeleteQueue";
    type Request = DeleteQueueRequest;
    type Response = DeleteQueueResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteQueueRequest {
    pub queue_url: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DeleteQueueResponse {}

/// `ListQueues`.
#[derive(Debug)]
pub enum ListQueues {}

impl Operation for ListQueues {
    const SERVICE: &'static str = "sqs";
    const ACTION: &'static str = "ListQueues";
    type Request = ListQueuesRequest;
    type Response = ListQueuesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListQueuesRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_name_prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListQueuesResponse {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queue_urls: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// `ListDeadLetterSourceQueues`.
#[derive(Debug)]
pub enum ListDeadLetterSourceQueues {}

impl Operation for ListDeadLetterSourceQueues {
    const SERVICE: &'static str = "sqs";
    const ACTION: &'static str = "ListDeadLetterSourceQueues";
    type Request = ListDeadLetterSourceQueuesRequest;
    type Response = ListDeadLetterSourceQueuesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListDeadLetterSourceQueuesRequest {
    pub queue_url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListDeadLetterSourceQueuesResponse {
    #[serde(rename = "queueUrls")]
    pub queue_urls: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// `PurgeQueue`.
#[derive(Debug)]
pub enum PurgeQueue {}

impl Operation for PurgeQueue {
    const SERVICE: &'static str = "sqs";
    const ACTION: &'static str = "PurgeQueue";
    type Request = PurgeQueueRequest;
    type Response = PurgeQueueResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PurgeQueueRequest {
    pub queue_url: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct PurgeQueueResponse {}
