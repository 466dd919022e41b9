//! Managed node groups.
//!
//! API reference: Amazon EKS, version 2017-11-01.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::update::Update;

/// Makes a node group.
#[derive(Debug)]
pub enum CreateNodegroup {}

operation!(
    CreateNodegroup,
    "POST",
    "/clusters/{name}/node-groups",
    CreateNodegroupRequest,
    CreateNodegroupResponse
);

/// What [`CreateNodegroup`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateNodegroupRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub nodegroup_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling_config: Option<NodegroupScalingConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance_types: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ami_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_access: Option<RemoteAccessConfig>,
    pub node_role: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template: Option<LaunchTemplateSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_config: Option<NodegroupUpdateConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_repair_config: Option<NodeRepairConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_pool_config: Option<WarmPoolConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_version: Option<String>,
}

/// What [`CreateNodegroup`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateNodegroupResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodegroup: Option<Nodegroup>,
}

/// One node group.
#[derive(Debug)]
pub enum DescribeNodegroup {}

operation!(
    DescribeNodegroup,
    "GET",
    "/clusters/{name}/node-groups/{nodegroupName}",
    DescribeNodegroupRequest,
    DescribeNodegroupResponse
);

/// What [`DescribeNodegroup`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNodegroupRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub nodegroup_name: String,
}

/// What [`DescribeNodegroup`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNodegroupResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodegroup: Option<Nodegroup>,
}

/// The names of all groups.
#[derive(Debug)]
pub enum ListNodegroups {}

operation!(
    ListNodegroups,
    "GET",
    "/clusters/{name}/node-groups",
    ListNodegroupsRequest,
    ListNodegroupsResponse
);

/// What [`ListNodegroups`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListNodegroupsRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// What [`ListNodegroups`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListNodegroupsResponse {
    #[serde(default)]
    pub nodegroups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Drains and removes a group.
#[derive(Debug)]
pub enum DeleteNodegroup {}

operation!(
    DeleteNodegroup,
    "DELETE",
    "/clusters/{name}/node-groups/{nodegroupName}",
    DeleteNodegroupRequest,
    DeleteNodegroupResponse
);

/// What [`DeleteNodegroup`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteNodegroupRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub nodegroup_name: String,
}

/// What [`DeleteNodegroup`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteNodegroupResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodegroup: Option<Nodegroup>,
}

/// Changes sizes, labels, taints.
#[derive(Debug)]
pub enum UpdateNodegroupConfig {}

operation!(
    UpdateNodegroupConfig,
    "POST",
    "/clusters/{name}/node-groups/{nodegroupName}/update-config",
    UpdateNodegroupConfigRequest,
    UpdateNodegroupConfigResponse
);

/// What [`UpdateNodegroupConfig`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateNodegroupConfigRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub nodegroup_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<UpdateLabelsPayload>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taints: Option<UpdateTaintsPayload>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling_config: Option<NodegroupScalingConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_config: Option<NodegroupUpdateConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_repair_config: Option<NodeRepairConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_pool_config: Option<WarmPoolConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
}

/// What [`UpdateNodegroupConfig`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateNodegroupConfigResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
}

/// Replaces the nodes by those of another image.
#[derive(Debug)]
pub enum UpdateNodegroupVersion {}

operation!(
    UpdateNodegroupVersion,
    "POST",
    "/clusters/{name}/node-groups/{nodegroupName}/update-version",
    UpdateNodegroupVersionRequest,
    UpdateNodegroupVersionResponse
);

/// What [`UpdateNodegroupVersion`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateNodegroupVersionRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub nodegroup_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template: Option<LaunchTemplateSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
}

/// What [`UpdateNodegroupVersion`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateNodegroupVersionResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
}

/// A node group as described.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Nodegroup {
    pub nodegroup_name: String,
    pub nodegroup_arn: String,
    pub cluster_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_version: Option<String>,
    pub created_at: f64,
    pub modified_at: f64,
    pub status: String,
    pub capacity_type: String,
    pub scaling_config: NodegroupScalingConfig,
    #[serde(default)]
    pub instance_types: Vec<String>,
    #[serde(default)]
    pub subnets: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_access: Option<RemoteAccessConfig>,
    pub ami_type: String,
    pub node_role: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<NodegroupResources>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_size: Option<i64>,
    pub health: NodegroupHealth,
    pub update_config: NodegroupUpdateConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_repair_config: Option<NodeRepairConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template: Option<LaunchTemplateSpecification>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_pool_config: Option<WarmPoolConfig>,
}

/// Sizes of the Auto Scaling group.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodegroupScalingConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_size: Option<i64>,
}

/// What a group is made of.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodegroupResources {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auto_scaling_groups: Vec<AutoScalingGroup>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_access_security_group: Option<String>,
}

/// The group's Auto Scaling group.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoScalingGroup {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What is wrong with a group.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodegroupHealth {
    #[serde(default)]
    pub issues: Vec<Issue>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Issue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_ids: Vec<String>,
}

/// A taint in EKS's spelling: NO_SCHEDULE, NO_EXECUTE, PREFER_NO_SCHEDULE.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Taint {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}

/// Changes to labels.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateLabelsPayload {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add_or_update_labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_labels: Vec<String>,
}

/// Changes to taints.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateTaintsPayload {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_or_update_taints: Vec<Taint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_taints: Vec<Taint>,
}

/// How many nodes an update takes at once.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodegroupUpdateConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable_percentage: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<String>,
}

/// A launch template of the customer's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaunchTemplateSpecification {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// SSH access.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteAccessConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ec2_ssh_key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_security_groups: Vec<String>,
}

/// Automatic repair.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRepairConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Repairs stop when more nodes than these are unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unhealthy_node_threshold_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unhealthy_node_threshold_percentage: Option<i64>,
    /// So many are repaired at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel_nodes_repaired_count: Option<i64>,
    /// Of those that are unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel_nodes_repaired_percentage: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_repair_config_overrides: Vec<NodeRepairConfigOverrides>,
}

/// What is done about one condition with one reason, in place of what EKS would do.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRepairConfigOverrides {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_monitoring_condition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_unhealthy_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_repair_wait_time_mins: Option<i64>,
    /// Replace, Reboot, NoAction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair_action: Option<String>,
}

/// Instances that are started ahead of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WarmPoolConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_group_prepared_capacity: Option<i64>,
    /// STOPPED, RUNNING, HIBERNATED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse_on_scale_in: Option<bool>,
}
