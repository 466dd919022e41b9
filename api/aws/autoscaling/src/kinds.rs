//! What there is at all: kinds of policies, processes, hooks and metrics, and the limits of the account.
//!
//! API reference: Amazon EC2 Auto Scaling, version 2011-01-01.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Nothing {}

/// `DescribeAccountLimits`.
#[derive(Debug)]
pub enum DescribeAccountLimits {}

impl Operation for DescribeAccountLimits {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeAccountLimits";
    type Request = Nothing;
    type Response = DescribeAccountLimitsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeAccountLimitsResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_number_of_auto_scaling_groups: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_number_of_launch_configurations: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_of_auto_scaling_groups: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_of_launch_configurations: Option<i64>,
}

/// `DescribeAdjustmentTypes`.
#[derive(Debug)]
pub enum DescribeAdjustmentTypes {}

impl Operation for DescribeAdjustmentTypes {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeAdjustmentTypes";
    type Request = Nothing;
    type Response = DescribeAdjustmentTypesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeAdjustmentTypesResponse {
    #[serde(default)]
    pub adjustment_types: Vec<AdjustmentType>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AdjustmentType {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjustment_type: Option<String>,
}

/// `DescribeAutoScalingNotificationTypes`.
#[derive(Debug)]
pub enum DescribeAutoScalingNotificationTypes {}

impl Operation for DescribeAutoScalingNotificationTypes {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeAutoScalingNotificationTypes";
    type Request = Nothing;
    type Response = DescribeAutoScalingNotificationTypesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeAutoScalingNotificationTypesResponse {
    #[serde(default)]
    pub auto_scaling_notification_types: Vec<String>,
}

/// `DescribeLifecycleHookTypes`.
#[derive(Debug)]
pub enum DescribeLifecycleHookTypes {}

impl Operation for DescribeLifecycleHookTypes {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeLifecycleHookTypes";
    type Request = Nothing;
    type Response = DescribeLifecycleHookTypesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeLifecycleHookTypesResponse {
    #[serde(default)]
    pub lifecycle_hook_types: Vec<String>,
}

/// `DescribeMetricCollectionTypes`.
#[derive(Debug)]
pub enum DescribeMetricCollectionTypes {}

impl Operation for DescribeMetricCollectionTypes {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeMetricCollectionTypes";
    type Request = Nothing;
    type Response = DescribeMetricCollectionTypesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeMetricCollectionTypesResponse {
    #[serde(default)]
    pub metrics: Vec<MetricCollectionType>,
    #[serde(default)]
    pub granularities: Vec<MetricGranularityType>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MetricCollectionType {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MetricGranularityType {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granularity: Option<String>,
}

/// `DescribeScalingProcessTypes`.
#[derive(Debug)]
pub enum DescribeScalingProcessTypes {}

impl Operation for DescribeScalingProcessTypes {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeScalingProcessTypes";
    type Request = Nothing;
    type Response = DescribeScalingProcessTypesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeScalingProcessTypesResponse {
    #[serde(default)]
    pub processes: Vec<ProcessType>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessType {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_name: Option<String>,
}

/// `DescribeTerminationPolicyTypes`.
#[derive(Debug)]
pub enum DescribeTerminationPolicyTypes {}

impl Operation for DescribeTerminationPolicyTypes {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeTerminationPolicyTypes";
    type Request = Nothing;
    type Response = DescribeTerminationPolicyTypesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeTerminationPolicyTypesResponse {
    #[serde(default)]
    pub termination_policy_types: Vec<String>,
}
