//! Lifecycle hooks and the actions that wait on them.
//!
//! API reference: Amazon EC2 Auto Scaling, version 2011-01-01.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LifecycleHookSpecification {
    pub lifecycle_hook_name: String,
    pub lifecycle_transition: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification_metadata: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_timeout: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_result: Option<String>,
    #[serde(rename = "NotificationTargetARN", default, skip_serializing_if = "Option::is_none")]
    pub notification_target_arn: Option<String>,
    #[serde(rename = "RoleARN", default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
}

/// `PutLifecycleHook`.
#[derive(Debug)]
pub enum PutLifecycleHook {}

impl Operation for PutLifecycleHook {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "PutLifecycleHook";
    type Request = PutLifecycleHookRequest;
    type Response = PutLifecycleHookResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutLifecycleHookRequest {
    pub lifecycle_hook_name: String,
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle_transition: Option<String>,
    #[serde(rename = "RoleARN", default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    #[serde(rename = "NotificationTargetARN", default, skip_serializing_if = "Option::is_none")]
    pub notification_target_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification_metadata: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_timeout: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_result: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct PutLifecycleHookResponse {}

/// `DeleteLifecycleHook`.
#[derive(Debug)]
pub enum DeleteLifecycleHook {}

impl Operation for DeleteLifecycleHook {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DeleteLifecycleHook";
    type Request = DeleteLifecycleHookRequest;
    type Response = DeleteLifecycleHookResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteLifecycleHookRequest {
    pub lifecycle_hook_name: String,
    pub auto_scaling_group_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DeleteLifecycleHookResponse {}

/// `DescribeLifecycleHooks`.
#[derive(Debug)]
pub enum DescribeLifecycleHooks {}

impl Operation for DescribeLifecycleHooks {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeLifecycleHooks";
    type Request = DescribeLifecycleHooksRequest;
    type Response = DescribeLifecycleHooksResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeLifecycleHooksRequest {
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lifecycle_hook_names: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeLifecycleHooksResponse {
    #[serde(default)]
    pub lifecycle_hooks: Vec<LifecycleHook>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LifecycleHook {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle_hook_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_scaling_group_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle_transition: Option<String>,
    #[serde(rename = "NotificationTargetARN", default, skip_serializing_if = "Option::is_none")]
    pub notification_target_arn: Option<String>,
    #[serde(rename = "RoleARN", default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification_metadata: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_timeout: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_timeout: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_result: Option<String>,
}

/// `CompleteLifecycleAction`.
#[derive(Debug)]
pub enum CompleteLifecycleAction {}

impl Operation for CompleteLifecycleAction {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "CompleteLifecycleAction";
    type Request = CompleteLifecycleActionRequest;
    type Response = CompleteLifecycleActionResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CompleteLifecycleActionRequest {
    pub lifecycle_hook_name: String,
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle_action_token: Option<String>,
    pub lifecycle_action_result: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct CompleteLifecycleActionResponse {}

/// `RecordLifecycleActionHeartbeat`.
#[derive(Debug)]
pub enum RecordLifecycleActionHeartbeat {}

impl Operation for RecordLifecycleActionHeartbeat {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "RecordLifecycleActionHeartbeat";
    type Request = RecordLifecycleActionHeartbeatRequest;
    type Response = RecordLifecycleActionHeartbeatResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RecordLifecycleActionHeartbeatRequest {
    pub lifecycle_hook_name: String,
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle_action_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct RecordLifecycleActionHeartbeatResponse {}
