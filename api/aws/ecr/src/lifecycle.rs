//! Lifecycle policies, by which images expire.
//!
//! API reference: Amazon ECR, version 2015-09-21.

use serde::{Deserialize, Serialize};

use crate::operation;

operation! {
    /// Sets a repository's policy.
    PutLifecyclePolicy: PutLifecyclePolicyRequest => LifecyclePolicyResponse
}

operation! {
    /// Reads it.
    GetLifecyclePolicy: LifecyclePolicyRequest => LifecyclePolicyResponse
}

operation! {
    /// Takes it away.
    DeleteLifecyclePolicy: LifecyclePolicyRequest => LifecyclePolicyResponse
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PutLifecyclePolicyRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    pub repository_name: String,
    pub lifecycle_policy_text: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LifecyclePolicyRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    pub repository_name: String,
}

/// What all three answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LifecyclePolicyResponse {
    pub registry_id: String,
    pub repository_name: String,
    pub lifecycle_policy_text: String,
    /// When it was applied last; not told by the one that sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_evaluated_at: Option<f64>,
}
