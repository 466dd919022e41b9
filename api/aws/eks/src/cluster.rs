//! Clusters.
//!
//! API reference: Amazon EKS, version 2017-11-01.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::update::Update;

/// Makes a control plane.
#[derive(Debug)]
pub enum CreateCluster {}

operation!(CreateCluster, "POST", "/clusters", CreateClusterRequest, CreateClusterResponse);

/// What [`CreateCluster`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateClusterRequest {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub role_arn: String,
    pub resources_vpc_config: VpcConfigRequest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_network_config: Option<KubernetesNetworkConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_config: Option<AccessConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_self_managed_addons: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_policy: Option<UpgradePolicy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<bool>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub compute_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub control_plane_scaling_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub encryption_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub kube_api_server_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub kube_controller_manager_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub kube_scheduler_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub outpost_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub remote_network_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub storage_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub zonal_shift_config: Value,
}

/// What [`CreateCluster`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateClusterResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}

/// One cluster.
#[derive(Debug)]
pub enum DescribeCluster {}

operation!(
    DescribeCluster,
    "GET",
    "/clusters/{name}",
    DescribeClusterRequest,
    DescribeClusterResponse
);

/// What [`DescribeCluster`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeClusterRequest {
    pub name: String,
}

/// What [`DescribeCluster`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeClusterResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}

/// The names of all clusters.
#[derive(Debug)]
pub enum ListClusters {}

operation!(ListClusters, "GET", "/clusters", ListClustersRequest, ListClustersResponse);

/// What [`ListClusters`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListClustersRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
}

/// What [`ListClusters`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListClustersResponse {
    #[serde(default)]
    pub clusters: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Removes a control plane; its node groups must be gone.
#[derive(Debug)]
pub enum DeleteCluster {}

operation!(
    DeleteCluster,
    "DELETE",
    "/clusters/{name}",
    DeleteClusterRequest,
    DeleteClusterResponse
);

/// What [`DeleteCluster`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteClusterRequest {
    pub name: String,
}

/// What [`DeleteCluster`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteClusterResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}

/// Changes one facet of a cluster.
#[derive(Debug)]
pub enum UpdateClusterConfig {}

operation!(
    UpdateClusterConfig,
    "POST",
    "/clusters/{name}/update-config",
    UpdateClusterConfigRequest,
    UpdateClusterConfigResponse
);

/// What [`UpdateClusterConfig`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateClusterConfigRequest {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources_vpc_config: Option<VpcConfigRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_config: Option<AccessConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_policy: Option<UpgradePolicy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<bool>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub compute_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub control_plane_scaling_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub kube_api_server_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub kube_controller_manager_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub kube_scheduler_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub kubernetes_network_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub remote_network_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub storage_config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub zonal_shift_config: Value,
}

/// What [`UpdateClusterConfig`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateClusterConfigResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
}

/// A cluster as described.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    pub name: String,
    pub arn: String,
    pub created_at: f64,
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    pub role_arn: String,
    pub resources_vpc_config: VpcConfig,
    pub kubernetes_network_config: KubernetesNetworkConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    pub status: String,
    pub certificate_authority: Certificate,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    pub platform_version: String,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<ClusterHealth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_config: Option<AccessConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_policy: Option<UpgradePolicy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<bool>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub control_plane_scaling_config: Value,
}

/// Where a control plane shall be reached.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VpcConfigRequest {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnet_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_group_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_public_access: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_private_access: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_access_cidrs: Vec<String>,
}

/// Where a control plane is reached.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VpcConfig {
    #[serde(default)]
    pub subnet_ids: Vec<String>,
    #[serde(default)]
    pub security_group_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_security_group_id: Option<String>,
    pub vpc_id: String,
    pub endpoint_public_access: bool,
    pub endpoint_private_access: bool,
    #[serde(default)]
    pub public_access_cidrs: Vec<String>,
}

/// Addresses of Services.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesNetworkConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_ipv4_cidr: Option<String>,
    /// In answers only: EKS chooses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_ipv6_cidr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family: Option<String>,
}

/// How principals are mapped.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_cluster_creator_admin_permissions: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_mode: Option<String>,
}

/// The cluster's token issuer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<Oidc>,
}

/// An OpenID Connect issuer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Oidc {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

/// PEM in base64.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// Which control plane logs are exported.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Logging {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_logging: Vec<LogSetup>,
}

/// Some log types, on or off.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogSetup {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// STANDARD or EXTENDED.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpgradePolicy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub support_type: Option<String>,
}

/// What is wrong with a cluster.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterHealth {
    #[serde(default)]
    pub issues: Vec<ClusterIssue>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterIssue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_ids: Vec<String>,
}
