//! Instances that rest: in the group, and out of service.
//!
//! API reference: Amazon EC2 Auto Scaling, version 2011-01-01.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::activity::Activity;

/// `EnterStandby`.
#[derive(Debug)]
pub enum EnterStandby {}

impl Operation for EnterStandby {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "EnterStandby";
    type Request = EnterStandbyRequest;
    type Response = StandbyResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EnterStandbyRequest {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
    pub auto_scaling_group_name: String,
    pub should_decrement_desired_capacity: bool,
}

/// `ExitStandby`.
#[derive(Debug)]
pub enum ExitStandby {}

impl Operation for ExitStandby {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "ExitStandby";
    type Request = ExitStandbyRequest;
    type Response = StandbyResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExitStandbyRequest {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
    pub auto_scaling_group_name: String,
}

/// What both answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StandbyResponse {
    #[serde(default)]
    pub activities: Vec<Activity>,
}
