//! Transitions of an instance: start, stop, reboot, terminate; its status and console.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::{common::Filter, instance::InstanceState};

/// `TerminateInstances`.
#[derive(Debug)]
pub enum TerminateInstances {}

impl Operation for TerminateInstances {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "TerminateInstances";
    type Request = TerminateInstancesRequest;
    type Response = TerminateInstancesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminateInstancesRequest {
    #[serde(rename = "InstanceId", default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_os_shutdown: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminateInstancesResponse {
    #[serde(rename = "instancesSet", default)]
    pub terminating_instances: Vec<InstanceStateChange>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStateChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_state: Option<InstanceState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_state: Option<InstanceState>,
}

/// `StopInstances`.
#[derive(Debug)]
pub enum StopInstances {}

impl Operation for StopInstances {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "StopInstances";
    type Request = StopInstancesRequest;
    type Response = StopInstancesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StopInstancesRequest {
    #[serde(rename = "InstanceId", default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hibernate: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_os_shutdown: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StopInstancesResponse {
    #[serde(rename = "instancesSet", default)]
    pub stopping_instances: Vec<InstanceStateChange>,
}

/// `StartInstances`.
#[derive(Debug)]
pub enum StartInstances {}

impl Operation for StartInstances {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "StartInstances";
    type Request = StartInstancesRequest;
    type Response = StartInstancesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StartInstancesRequest {
    #[serde(rename = "InstanceId", default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_info: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StartInstancesResponse {
    #[serde(rename = "instancesSet", default)]
    pub starting_instances: Vec<InstanceStateChange>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct RebootInstancesResponse {}

/// `RebootInstances`.
#[derive(Debug)]
pub enum RebootInstances {}

impl Operation for RebootInstances {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "RebootInstances";
    type Request = RebootInstancesRequest;
    type Response = RebootInstancesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RebootInstancesRequest {
    #[serde(rename = "InstanceId", default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

/// `DescribeInstanceStatus`.
#[derive(Debug)]
pub enum DescribeInstanceStatus {}

impl Operation for DescribeInstanceStatus {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeInstanceStatus";
    type Request = DescribeInstanceStatusRequest;
    type Response = DescribeInstanceStatusResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInstanceStatusRequest {
    #[serde(rename = "InstanceId", default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_managed_resources: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_all_instances: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceStatusResponse {
    #[serde(rename = "instanceStatusSet", default)]
    pub instance_statuses: Vec<InstanceStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone_id: Option<String>,
    #[serde(rename = "eventsSet", default)]
    pub events: Vec<InstanceStatusEvent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_state: Option<InstanceState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_status: Option<InstanceStatusSummary>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_status: Option<InstanceStatusSummary>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatusEvent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_event_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_deadline: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatusSummary {
    #[serde(default)]
    pub details: Vec<InstanceStatusDetails>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatusDetails {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impaired_since: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// `GetConsoleOutput`.
#[derive(Debug)]
pub enum GetConsoleOutput {}

impl Operation for GetConsoleOutput {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "GetConsoleOutput";
    type Request = GetConsoleOutputRequest;
    type Response = GetConsoleOutputResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetConsoleOutputRequest {
    pub instance_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetConsoleOutputResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}
