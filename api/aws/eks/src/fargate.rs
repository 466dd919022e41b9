//! Fargate profiles.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lookup::ListOfClusterRequest;

/// Makes a Fargate profile.
#[derive(Debug)]
pub enum CreateFargateProfile {}

operation!(
    CreateFargateProfile,
    "POST",
    "/clusters/{name}/fargate-profiles",
    CreateFargateProfileRequest,
    CreateFargateProfileResponse
);

/// What [`CreateFargateProfile`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateFargateProfileRequest {
    pub fargate_profile_name: String,
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub pod_execution_role_arn: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selectors: Vec<FargateProfileSelector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// Which pods a profile is for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FargateProfileSelector {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What [`CreateFargateProfile`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateFargateProfileResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fargate_profile: Option<FargateProfile>,
}

/// A Fargate profile.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FargateProfile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fargate_profile_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fargate_profile_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_execution_role_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selectors: Vec<FargateProfileSelector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<FargateProfileHealth>,
}

/// What is wrong with a profile.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FargateProfileHealth {
    #[serde(default)]
    pub issues: Vec<FargateProfileIssue>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FargateProfileIssue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_ids: Vec<String>,
}

/// Describes a Fargate profile.
#[derive(Debug)]
pub enum DescribeFargateProfile {}

operation!(
    DescribeFargateProfile,
    "GET",
    "/clusters/{name}/fargate-profiles/{fargateProfileName}",
    DescribeFargateProfileRequest,
    DescribeFargateProfileResponse
);

/// What [`DescribeFargateProfile`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeFargateProfileRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub fargate_profile_name: String,
}

/// What [`DescribeFargateProfile`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeFargateProfileResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fargate_profile: Option<FargateProfile>,
}

/// Lists a cluster's Fargate profiles.
#[derive(Debug)]
pub enum ListFargateProfiles {}

operation!(
    ListFargateProfiles,
    "GET",
    "/clusters/{name}/fargate-profiles",
    ListOfClusterRequest,
    ListFargateProfilesResponse
);

/// What [`ListFargateProfiles`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListFargateProfilesResponse {
    #[serde(default)]
    pub fargate_profile_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Deletes a Fargate profile.
#[derive(Debug)]
pub enum DeleteFargateProfile {}

operation!(
    DeleteFargateProfile,
    "DELETE",
    "/clusters/{name}/fargate-profiles/{fargateProfileName}",
    DeleteFargateProfileRequest,
    DeleteFargateProfileResponse
);

/// What [`DeleteFargateProfile`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteFargateProfileRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub fargate_profile_name: String,
}

/// What [`DeleteFargateProfile`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteFargateProfileResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fargate_profile: Option<FargateProfile>,
}
