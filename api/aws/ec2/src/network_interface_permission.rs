//! Permissions on an interface, given to another account or to a service.
//!
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::Filter;

/// `CreateNetworkInterfacePermission`.
#[derive(Debug)]
pub enum CreateNetworkInterfacePermission {}

impl Operation for CreateNetworkInterfacePermission {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateNetworkInterfacePermission";
    type Request = CreateNetworkInterfacePermissionRequest;
    type Response = CreateNetworkInterfacePermissionResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateNetworkInterfacePermissionRequest {
    pub network_interface_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_account_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_service: Option<String>,
    pub permission: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateNetworkInterfacePermissionResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_permission: Option<NetworkInterfacePermission>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterfacePermission {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface_permission_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_account_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission_state: Option<NetworkInterfacePermissionState>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterfacePermissionState {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
}

/// `DescribeNetworkInterfacePermissions`.
#[derive(Debug)]
pub enum DescribeNetworkInterfacePermissions {}

impl Operation for DescribeNetworkInterfacePermissions {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeNetworkInterfacePermissions";
    type Request = DescribeNetworkInterfacePermissionsRequest;
    type Response = DescribeNetworkInterfacePermissionsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeNetworkInterfacePermissionsRequest {
    #[serde(
        rename = "NetworkInterfacePermissionId",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub network_interface_permission_ids: Vec<String>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNetworkInterfacePermissionsResponse {
    #[serde(default)]
    pub network_interface_permissions: Vec<NetworkInterfacePermission>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// `DeleteNetworkInterfacePermission`.
#[derive(Debug)]
pub enum DeleteNetworkInterfacePermission {}

impl Operation for DeleteNetworkInterfacePermission {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteNetworkInterfacePermission";
    type Request = DeleteNetworkInterfacePermissionRequest;
    type Response = DeleteNetworkInterfacePermissionResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteNetworkInterfacePermissionRequest {
    pub network_interface_permission_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteNetworkInterfacePermissionResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#return: Option<bool>,
}
