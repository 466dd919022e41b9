//! Instance refreshes: a group's instances replaced, some at a time.
//!
//! API reference: Amazon EC2 Auto Scaling, version 2011-01-01.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::group::{LaunchTemplateSpecification, MixedInstancesPolicy};

/// `StartInstanceRefresh`.
#[derive(Debug)]
pub enum StartInstanceRefresh {}

impl Operation for StartInstanceRefresh {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "StartInstanceRefresh";
    type Request = StartInstanceRefreshRequest;
    type Response = InstanceRefreshId;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StartInstanceRefreshRequest {
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_configuration: Option<DesiredConfiguration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferences: Option<RefreshPreferences>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DesiredConfiguration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template: Option<LaunchTemplateSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixed_instances_policy: Option<MixedInstancesPolicy>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RefreshPreferences {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_healthy_percentage: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_healthy_percentage: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_warmup: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoint_percentages: Vec<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_delay: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_matching: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_rollback: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_in_protected_instances: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby_instances: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake_time: Option<i64>,
}

/// What a call about one refresh answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InstanceRefreshId {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_refresh_id: Option<String>,
}

/// `CancelInstanceRefresh`.
#[derive(Debug)]
pub enum CancelInstanceRefresh {}

impl Operation for CancelInstanceRefresh {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "CancelInstanceRefresh";
    type Request = OfGroup;
    type Response = InstanceRefreshId;
}

/// `RollbackInstanceRefresh`.
#[derive(Debug)]
pub enum RollbackInstanceRefresh {}

impl Operation for RollbackInstanceRefresh {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "RollbackInstanceRefresh";
    type Request = OfGroup;
    type Response = InstanceRefreshId;
}

/// The group whose refresh is meant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct OfGroup {
    pub auto_scaling_group_name: String,
}

/// `DescribeInstanceRefreshes`.
#[derive(Debug)]
pub enum DescribeInstanceRefreshes {}

impl Operation for DescribeInstanceRefreshes {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeInstanceRefreshes";
    type Request = DescribeInstanceRefreshesRequest;
    type Response = DescribeInstanceRefreshesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInstanceRefreshesRequest {
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance_refresh_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_records: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInstanceRefreshesResponse {
    #[serde(default)]
    pub instance_refreshes: Vec<InstanceRefresh>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InstanceRefresh {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_refresh_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_scaling_group_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage_complete: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances_to_update: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferences: Option<RefreshPreferences>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_configuration: Option<DesiredConfiguration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
}
