//! The size of a group, and the health and protection of its members.
//!
//! API reference: Amazon EC2 Auto Scaling, version 2011-01-01.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::activity::ActivityType;

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct SetDesiredCapacityResponse {}

/// `SetDesiredCapacity`.
#[derive(Debug)]
pub enum SetDesiredCapacity {}

impl Operation for SetDesiredCapacity {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "SetDesiredCapacity";
    type Request = SetDesiredCapacityRequest;
    type Response = SetDesiredCapacityResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SetDesiredCapacityRequest {
    pub auto_scaling_group_name: String,
    pub desired_capacity: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub honor_cooldown: Option<bool>,
}

/// `TerminateInstanceInAutoScalingGroup`.
#[derive(Debug)]
pub enum TerminateInstanceInAutoScalingGroup {}

impl Operation for TerminateInstanceInAutoScalingGroup {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "TerminateInstanceInAutoScalingGroup";
    type Request = TerminateInstanceInAutoScalingGroupRequest;
    type Response = ActivityType;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminateInstanceInAutoScalingGroupRequest {
    pub instance_id: String,
    pub should_decrement_desired_capacity: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct SetInstanceHealthResponse {}

/// `SetInstanceHealth`.
#[derive(Debug)]
pub enum SetInstanceHealth {}

impl Operation for SetInstanceHealth {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "SetInstanceHealth";
    type Request = SetInstanceHealthRequest;
    type Response = SetInstanceHealthResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SetInstanceHealthRequest {
    pub instance_id: String,
    pub health_status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub should_respect_grace_period: Option<bool>,
}

/// `SetInstanceProtection`.
#[derive(Debug)]
pub enum SetInstanceProtection {}

impl Operation for SetInstanceProtection {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "SetInstanceProtection";
    type Request = SetInstanceProtectionRequest;
    type Response = SetInstanceProtectionResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SetInstanceProtectionRequest {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
    pub auto_scaling_group_name: String,
    pub protected_from_scale_in: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct SetInstanceProtectionResponse {}
