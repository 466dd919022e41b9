//! Members of groups.
//!
//! API reference: Amazon EC2 Auto Scaling, version 2011-01-01.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::{activity::Activity, group::LaunchTemplateSpecification};

/// `DescribeAutoScalingInstances`.
#[derive(Debug)]
pub enum DescribeAutoScalingInstances {}

impl Operation for DescribeAutoScalingInstances {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeAutoScalingInstances";
    type Request = DescribeAutoScalingInstancesRequest;
    type Response = DescribeAutoScalingInstancesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeAutoScalingInstancesRequest {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_records: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeAutoScalingInstancesResponse {
    #[serde(default)]
    pub auto_scaling_instances: Vec<AutoScalingInstanceDetails>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AutoScalingInstanceDetails {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_scaling_group_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle_state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_configuration_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template: Option<LaunchTemplateSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected_from_scale_in: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighted_capacity: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct AttachInstancesResponse {}

/// `AttachInstances`.
#[derive(Debug)]
pub enum AttachInstances {}

impl Operation for AttachInstances {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "AttachInstances";
    type Request = AttachInstancesRequest;
    type Response = AttachInstancesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AttachInstancesRequest {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
    pub auto_scaling_group_name: String,
}

/// `DetachInstances`.
#[derive(Debug)]
pub enum DetachInstances {}

impl Operation for DetachInstances {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DetachInstances";
    type Request = DetachInstancesRequest;
    type Response = DetachInstancesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DetachInstancesRequest {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
    pub auto_scaling_group_name: String,
    pub should_decrement_desired_capacity: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DetachInstancesResponse {
    #[serde(default)]
    pub activities: Vec<Activity>,
}
