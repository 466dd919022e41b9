//! What clients ask about a group and what a group here never has: load balancers, notifications.
//!
//! API reference: Amazon EC2 Auto Scaling, version 2011-01-01.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

/// `DescribeTrafficSources`.
#[derive(Debug)]
pub enum DescribeTrafficSources {}

impl Operation for DescribeTrafficSources {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeTrafficSources";
    type Request = DescribeTrafficSourcesRequest;
    type Response = DescribeTrafficSourcesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeTrafficSourcesRequest {
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_source_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_records: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeTrafficSourcesResponse {
    #[serde(default)]
    pub traffic_sources: Vec<TrafficSourceState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TrafficSourceState {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
}

/// `DescribeLoadBalancers`.
#[derive(Debug)]
pub enum DescribeLoadBalancers {}

impl Operation for DescribeLoadBalancers {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeLoadBalancers";
    type Request = DescribeLoadBalancersRequest;
    type Response = DescribeLoadBalancersResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeLoadBalancersRequest {
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_records: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeLoadBalancersResponse {
    #[serde(default)]
    pub load_balancers: Vec<LoadBalancerState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LoadBalancerState {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// `DescribeLoadBalancerTargetGroups`.
#[derive(Debug)]
pub enum DescribeLoadBalancerTargetGroups {}

impl Operation for DescribeLoadBalancerTargetGroups {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeLoadBalancerTargetGroups";
    type Request = DescribeLoadBalancerTargetGroupsRequest;
    type Response = DescribeLoadBalancerTargetGroupsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeLoadBalancerTargetGroupsRequest {
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_records: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeLoadBalancerTargetGroupsResponse {
    #[serde(default)]
    pub load_balancer_target_groups: Vec<LoadBalancerTargetGroupState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LoadBalancerTargetGroupState {
    #[serde(
        rename = "LoadBalancerTargetGroupARN",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub load_balancer_target_group_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// `DescribeNotificationConfigurations`.
#[derive(Debug)]
pub enum DescribeNotificationConfigurations {}

impl Operation for DescribeNotificationConfigurations {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeNotificationConfigurations";
    type Request = DescribeNotificationConfigurationsRequest;
    type Response = DescribeNotificationConfigurationsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeNotificationConfigurationsRequest {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auto_scaling_group_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_records: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeNotificationConfigurationsResponse {
    #[serde(default)]
    pub notification_configurations: Vec<NotificationConfiguration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NotificationConfiguration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_scaling_group_name: Option<String>,
    #[serde(rename = "TopicARN", default, skip_serializing_if = "Option::is_none")]
    pub topic_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification_type: Option<String>,
}
