//! Pod Identity associations: which role the pods of a service account have.
//!
//! API reference: Amazon EKS, version 2017-11-01.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Gives the pods of a service account a role.
#[derive(Debug)]
pub enum CreatePodIdentityAssociation {}

operation!(
    CreatePodIdentityAssociation,
    "POST",
    "/clusters/{name}/pod-identity-associations",
    CreatePodIdentityAssociationRequest,
    CreatePodIdentityAssociationResponse
);

/// What [`CreatePodIdentityAssociation`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatePodIdentityAssociationRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub namespace: String,
    pub service_account: String,
    pub role_arn: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_session_tags: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_role_arn: Option<String>,
    /// Limits what the pods may do with the role: a policy document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// What [`CreatePodIdentityAssociation`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatePodIdentityAssociationResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association: Option<PodIdentityAssociation>,
}

/// One association.
#[derive(Debug)]
pub enum DescribePodIdentityAssociation {}

operation!(
    DescribePodIdentityAssociation,
    "GET",
    "/clusters/{name}/pod-identity-associations/{associationId}",
    DescribePodIdentityAssociationRequest,
    DescribePodIdentityAssociationResponse
);

/// What [`DescribePodIdentityAssociation`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribePodIdentityAssociationRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub association_id: String,
}

/// What [`DescribePodIdentityAssociation`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribePodIdentityAssociationResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association: Option<PodIdentityAssociation>,
}

/// Lists a cluster's associations.
#[derive(Debug)]
pub enum ListPodIdentityAssociations {}

operation!(
    ListPodIdentityAssociations,
    "GET",
    "/clusters/{name}/pod-identity-associations",
    ListPodIdentityAssociationsRequest,
    ListPodIdentityAssociationsResponse
);

/// What [`ListPodIdentityAssociations`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListPodIdentityAssociationsRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// What [`ListPodIdentityAssociations`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListPodIdentityAssociationsResponse {
    #[serde(default)]
    pub associations: Vec<PodIdentityAssociationSummary>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Changes the roles, and what goes with them.
#[derive(Debug)]
pub enum UpdatePodIdentityAssociation {}

operation!(
    UpdatePodIdentityAssociation,
    "POST",
    "/clusters/{name}/pod-identity-associations/{associationId}",
    UpdatePodIdentityAssociationRequest,
    UpdatePodIdentityAssociationResponse
);

/// What [`UpdatePodIdentityAssociation`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdatePodIdentityAssociationRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub association_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_session_tags: Option<bool>,
    /// Empty: none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_role_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// What [`UpdatePodIdentityAssociation`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdatePodIdentityAssociationResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association: Option<PodIdentityAssociation>,
}

/// Takes the role from the pods.
#[derive(Debug)]
pub enum DeletePodIdentityAssociation {}

operation!(
    DeletePodIdentityAssociation,
    "DELETE",
    "/clusters/{name}/pod-identity-associations/{associationId}",
    DeletePodIdentityAssociationRequest,
    DeletePodIdentityAssociationResponse
);

/// What [`DeletePodIdentityAssociation`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletePodIdentityAssociationRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub association_id: String,
}

/// What [`DeletePodIdentityAssociation`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletePodIdentityAssociationResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association: Option<PodIdentityAssociation>,
}

/// An association.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodIdentityAssociation {
    pub cluster_name: String,
    pub namespace: String,
    pub service_account: String,
    pub role_arn: String,
    pub association_arn: String,
    pub association_id: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Seconds since 1970.
    pub created_at: f64,
    pub modified_at: f64,
    /// The add-on that it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_session_tags: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_role_arn: Option<String>,
    /// What the target role's trust policy can ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// An association in a list.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodIdentityAssociationSummary {
    pub cluster_name: String,
    pub namespace: String,
    pub service_account: String,
    pub association_arn: String,
    pub association_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_arn: Option<String>,
}
