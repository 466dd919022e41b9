//! Scheduled actions: sizes that a group gets at certain times.
//!
//! API reference: Amazon EC2 Auto Scaling, version 2011-01-01.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

/// `DescribeScheduledActions`.
#[derive(Debug)]
pub enum DescribeScheduledActions {}

impl Operation for DescribeScheduledActions {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeScheduledActions";
    type Request = DescribeScheduledActionsRequest;
    type Response = DescribeScheduledActionsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeScheduledActionsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_scaling_group_name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scheduled_action_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_records: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeScheduledActionsResponse {
    #[serde(default)]
    pub scheduled_update_group_actions: Vec<ScheduledUpdateGroupAction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ScheduledUpdateGroupAction {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_scaling_group_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_action_name: Option<String>,
    #[serde(rename = "ScheduledActionARN", default, skip_serializing_if = "Option::is_none")]
    pub scheduled_action_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrence: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_capacity: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// `PutScheduledUpdateGroupAction`.
#[derive(Debug)]
pub enum PutScheduledUpdateGroupAction {}

impl Operation for PutScheduledUpdateGroupAction {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "PutScheduledUpdateGroupAction";
    type Request = PutScheduledUpdateGroupActionRequest;
    type Response = PutScheduledUpdateGroupActionResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutScheduledUpdateGroupActionRequest {
    pub auto_scaling_group_name: String,
    pub scheduled_action_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrence: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_capacity: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct PutScheduledUpdateGroupActionResponse {}

/// `DeleteScheduledAction`.
#[derive(Debug)]
pub enum DeleteScheduledAction {}

impl Operation for DeleteScheduledAction {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DeleteScheduledAction";
    type Request = DeleteScheduledActionRequest;
    type Response = DeleteScheduledActionResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteScheduledActionRequest {
    pub auto_scaling_group_name: String,
    pub scheduled_action_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DeleteScheduledActionResponse {}

/// `BatchPutScheduledUpdateGroupAction`.
#[derive(Debug)]
pub enum BatchPutScheduledUpdateGroupAction {}

impl Operation for BatchPutScheduledUpdateGroupAction {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "BatchPutScheduledUpdateGroupAction";
    type Request = BatchPutScheduledUpdateGroupActionRequest;
    type Response = BatchPutScheduledUpdateGroupActionResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BatchPutScheduledUpdateGroupActionRequest {
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scheduled_update_group_actions: Vec<ScheduledUpdateGroupActionRequest>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ScheduledUpdateGroupActionRequest {
    pub scheduled_action_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrence: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_capacity: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BatchPutScheduledUpdateGroupActionResponse {
    #[serde(default)]
    pub failed_scheduled_update_group_actions: Vec<FailedScheduledUpdateGroupActionRequest>,
}

/// `BatchDeleteScheduledAction`.
#[derive(Debug)]
pub enum BatchDeleteScheduledAction {}

impl Operation for BatchDeleteScheduledAction {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "BatchDeleteScheduledAction";
    type Request = BatchDeleteScheduledActionRequest;
    type Response = BatchDeleteScheduledActionResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BatchDeleteScheduledActionRequest {
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scheduled_action_names: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BatchDeleteScheduledActionResponse {
    #[serde(default)]
    pub failed_scheduled_actions: Vec<FailedScheduledUpdateGroupActionRequest>,
}

/// One of several that was refused.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FailedScheduledUpdateGroupActionRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_action_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}
