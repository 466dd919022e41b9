//! One attribute of an image.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::{common::AttributeValue, run_instances::BlockDeviceMapping};

/// `DescribeImageAttribute`.
#[derive(Debug)]
pub enum DescribeImageAttribute {}

impl Operation for DescribeImageAttribute {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeImageAttribute";
    type Request = DescribeImageAttributeRequest;
    type Response = DescribeImageAttributeResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeImageAttributeRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub attribute: String,
    pub image_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeImageAttributeResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<AttributeValue>,
    #[serde(rename = "launchPermission", default)]
    pub launch_permissions: Vec<LaunchPermission>,
    #[serde(rename = "blockDeviceMapping", default)]
    pub block_device_mappings: Vec<BlockDeviceMapping>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sriov_net_support: Option<AttributeValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<AttributeValue>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaunchPermission {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
}
