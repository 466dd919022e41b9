//! Lists of what a cluster may have beside node groups, and what versions there are.

use serde::{Deserialize, Serialize};

/// Lists the versions of Kubernetes.
#[derive(Debug)]
pub enum DescribeClusterVersions {}

operation!(
    DescribeClusterVersions,
    "GET",
    "/cluster-versions",
    DescribeClusterVersionsRequest,
    DescribeClusterVersionsResponse
);

/// What [`DescribeClusterVersions`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeClusterVersionsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_only: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_all: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_versions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_status: Option<String>,
}

/// What [`DescribeClusterVersions`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeClusterVersionsResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default)]
    pub cluster_versions: Vec<ClusterVersionInformation>,
}

/// A version of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterVersionInformation {
    pub cluster_version: String,
    pub cluster_type: String,
    pub default_platform_version: String,
    pub default_version: bool,
    pub version_status: String,
}

/// What an add-on can be configured with.
#[derive(Debug)]
pub enum DescribeAddonConfiguration {}

operation!(
    DescribeAddonConfiguration,
    "GET",
    "/addons/configuration-schemas",
    DescribeAddonConfigurationRequest,
    DescribeAddonConfigurationResponse
);

/// What [`DescribeAddonConfiguration`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAddonConfigurationRequest {
    pub addon_name: String,
    pub addon_version: String,
}

/// What [`DescribeAddonConfiguration`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAddonConfigurationResponse {
    pub addon_name: String,
    pub addon_version: String,
    /// A JSON schema, as text.
    pub configuration_schema: String,
}

/// Lists a cluster's OpenID Connect providers.
#[derive(Debug)]
pub enum ListIdentityProviderConfigs {}

operation!(
    ListIdentityProviderConfigs,
    "GET",
    "/clusters/{name}/identity-provider-configs",
    ListOfClusterRequest,
    ListIdentityProviderConfigsResponse
);

/// What a list of a cluster's is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListOfClusterRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// What [`ListIdentityProviderConfigs`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListIdentityProviderConfigsResponse {
    #[serde(default)]
    pub identity_provider_configs: Vec<IdentityProviderConfig>,
}

/// An OpenID Connect provider.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityProviderConfig {
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
}
