//! Processes that can be suspended, and group metrics.
//!
//! API reference: Amazon EC2 Auto Scaling, version 2011-01-01.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct SuspendProcessesResponse {}

/// `SuspendProcesses`.
#[derive(Debug)]
pub enum SuspendProcesses {}

impl Operation for SuspendProcesses {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "SuspendProcesses";
    type Request = SuspendProcessesRequest;
    type Response = SuspendProcessesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SuspendProcessesRequest {
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scaling_processes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ResumeProcessesResponse {}

/// `ResumeProcesses`.
#[derive(Debug)]
pub enum ResumeProcesses {}

impl Operation for ResumeProcesses {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "ResumeProcesses";
    type Request = SuspendProcessesRequest;
    type Response = ResumeProcessesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct EnableMetricsCollectionResponse {}

/// `EnableMetricsCollection`.
#[derive(Debug)]
pub enum EnableMetricsCollection {}

impl Operation for EnableMetricsCollection {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "EnableMetricsCollection";
    type Request = EnableMetricsCollectionRequest;
    type Response = EnableMetricsCollectionResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EnableMetricsCollectionRequest {
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<String>,
    pub granularity: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DisableMetricsCollectionResponse {}

/// `DisableMetricsCollection`.
#[derive(Debug)]
pub enum DisableMetricsCollection {}

impl Operation for DisableMetricsCollection {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DisableMetricsCollection";
    type Request = DisableMetricsCollectionRequest;
    type Response = DisableMetricsCollectionResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DisableMetricsCollectionRequest {
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<String>,
}
