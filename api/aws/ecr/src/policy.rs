//! Policies of repositories.
//!
//! API reference: Amazon ECR, version 2015-09-21.

use serde::{Deserialize, Serialize};

use crate::operation;

operation! {
    /// The policy of a repository.
    GetRepositoryPolicy: GetRepositoryPolicyRequest => GetRepositoryPolicyResponse
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetRepositoryPolicyRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    pub repository_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetRepositoryPolicyResponse {
    pub registry_id: String,
    pub repository_name: String,
    pub policy_text: String,
}

operation! {
    /// Replaces the policy of a repository.
    SetRepositoryPolicy: SetRepositoryPolicyRequest => SetRepositoryPolicyResponse
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SetRepositoryPolicyRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    pub repository_name: String,
    pub policy_text: String,
    pub force: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SetRepositoryPolicyResponse {
    pub registry_id: String,
    pub repository_name: String,
    pub policy_text: String,
}

operation! {
    /// Removes the policy of a repository.
    DeleteRepositoryPolicy: DeleteRepositoryPolicyRequest => DeleteRepositoryPolicyResponse
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteRepositoryPolicyRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    pub repository_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteRepositoryPolicyResponse {
    pub registry_id: String,
    pub repository_name: String,
    pub policy_text: String,
}
