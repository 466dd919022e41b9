//! Launch configurations, which no new account can make any more.
//!
//! API reference: Amazon EC2 Auto Scaling, version 2011-01-01.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

/// `DescribeLaunchConfigurations`.
#[derive(Debug)]
pub enum DescribeLaunchConfigurations {}

impl Operation for DescribeLaunchConfigurations {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeLaunchConfigurations";
    type Request = DescribeLaunchConfigurationsRequest;
    type Response = DescribeLaunchConfigurationsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeLaunchConfigurationsRequest {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub launch_configuration_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_records: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeLaunchConfigurationsResponse {
    #[serde(default)]
    pub launch_configurations: Vec<LaunchConfiguration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LaunchConfiguration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_configuration_name: Option<String>,
    #[serde(rename = "LaunchConfigurationARN", default, skip_serializing_if = "Option::is_none")]
    pub launch_configuration_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    #[serde(default)]
    pub security_groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramdisk_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot_price: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_instance_profile: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebs_optimized: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub associate_public_ip_address: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_tenancy: Option<String>,
}

/// `CreateLaunchConfiguration`.
#[derive(Debug)]
pub enum CreateLaunchConfiguration {}

impl Operation for CreateLaunchConfiguration {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "CreateLaunchConfiguration";
    type Request = CreateLaunchConfigurationRequest;
    type Response = CreateLaunchConfigurationResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateLaunchConfigurationRequest {
    pub launch_configuration_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct CreateLaunchConfigurationResponse {}

/// `DeleteLaunchConfiguration`.
#[derive(Debug)]
pub enum DeleteLaunchConfiguration {}

impl Operation for DeleteLaunchConfiguration {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DeleteLaunchConfiguration";
    type Request = DeleteLaunchConfigurationRequest;
    type Response = DeleteLaunchConfigurationResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteLaunchConfigurationRequest {
    pub launch_configuration_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DeleteLaunchConfigurationResponse {}
