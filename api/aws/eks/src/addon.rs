//! Add-ons.
//!
//! API reference: Amazon EKS, version 2017-11-01.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::update::Update;

/// Installs an add-on.
#[derive(Debug)]
pub enum CreateAddon {}

operation!(CreateAddon, "POST", "/clusters/{name}/addons", CreateAddonRequest, CreateAddonResponse);

/// What [`CreateAddon`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateAddonRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub addon_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addon_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_role_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve_conflicts: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_values: Option<String>,
    /// The roles of the add-on's service accounts; `None`: as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_identity_associations: Option<Vec<AddonPodIdentityAssociations>>,
}

/// What [`CreateAddon`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateAddonResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addon: Option<Addon>,
}

/// One add-on.
#[derive(Debug)]
pub enum DescribeAddon {}

operation!(
    DescribeAddon,
    "GET",
    "/clusters/{name}/addons/{addonName}",
    DescribeAddonRequest,
    DescribeAddonResponse
);

/// What [`DescribeAddon`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAddonRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub addon_name: String,
}

/// What [`DescribeAddon`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAddonResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addon: Option<Addon>,
}

/// The names of the installed ones.
#[derive(Debug)]
pub enum ListAddons {}

operation!(ListAddons, "GET", "/clusters/{name}/addons", ListAddonsRequest, ListAddonsResponse);

/// What [`ListAddons`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListAddonsRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// What [`ListAddons`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListAddonsResponse {
    #[serde(default)]
    pub addons: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Removes an add-on, or only lets go of it.
#[derive(Debug)]
pub enum DeleteAddon {}

operation!(
    DeleteAddon,
    "DELETE",
    "/clusters/{name}/addons/{addonName}",
    DeleteAddonRequest,
    DeleteAddonResponse
);

/// What [`DeleteAddon`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteAddonRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub addon_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserve: Option<bool>,
}

/// What [`DeleteAddon`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteAddonResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addon: Option<Addon>,
}

/// Changes version or configuration.
#[derive(Debug)]
pub enum UpdateAddon {}

operation!(
    UpdateAddon,
    "POST",
    "/clusters/{name}/addons/{addonName}/update",
    UpdateAddonRequest,
    UpdateAddonResponse
);

/// What [`UpdateAddon`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateAddonRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub addon_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addon_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_role_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve_conflicts: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_values: Option<String>,
    /// The roles of the add-on's service accounts; `None`: as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_identity_associations: Option<Vec<AddonPodIdentityAssociations>>,
}

/// What [`UpdateAddon`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateAddonResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
}

/// What can be installed.
#[derive(Debug)]
pub enum DescribeAddonVersions {}

operation!(
    DescribeAddonVersions,
    "GET",
    "/addons/supported-versions",
    DescribeAddonVersionsRequest,
    DescribeAddonVersionsResponse
);

/// What [`DescribeAddonVersions`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAddonVersionsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addon_name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publishers: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
}

/// What [`DescribeAddonVersions`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAddonVersionsResponse {
    #[serde(default)]
    pub addons: Vec<AddonInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// An add-on as described.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Addon {
    pub addon_name: String,
    pub cluster_name: String,
    pub status: String,
    pub addon_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<AddonHealth>,
    pub addon_arn: String,
    pub created_at: f64,
    pub modified_at: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_role_arn: Option<String>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_values: Option<String>,
    /// ARNs of the associations that were made for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_identity_associations: Vec<String>,
}

/// The role of one of an add-on's service accounts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AddonPodIdentityAssociations {
    pub service_account: String,
    pub role_arn: String,
}

/// What is wrong with an add-on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AddonHealth {
    #[serde(default)]
    pub issues: Vec<AddonIssue>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AddonIssue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_ids: Vec<String>,
}

/// An add-on that can be installed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AddonInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addon_name: Option<String>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addon_versions: Vec<AddonVersionInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_namespace: Option<String>,
}

/// One version of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AddonVersionInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addon_version: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architecture: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compute_types: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compatibilities: Vec<Compatibility>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires_configuration: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires_iam_permissions: Option<bool>,
}

/// Which clusters a version fits.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Compatibility {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_version: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platform_versions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_version: Option<bool>,
}
