//! Access entries and access policies.
//!
//! API reference: Amazon EKS, version 2017-11-01.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Lets an IAM principal into the cluster.
#[derive(Debug)]
pub enum CreateAccessEntry {}

operation!(
    CreateAccessEntry,
    "POST",
    "/clusters/{name}/access-entries",
    CreateAccessEntryRequest,
    CreateAccessEntryResponse
);

/// What [`CreateAccessEntry`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateAccessEntryRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub principal_arn: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kubernetes_groups: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// What [`CreateAccessEntry`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateAccessEntryResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_entry: Option<AccessEntry>,
}

/// One entry.
#[derive(Debug)]
pub enum DescribeAccessEntry {}

operation!(
    DescribeAccessEntry,
    "GET",
    "/clusters/{name}/access-entries/{principalArn}",
    DescribeAccessEntryRequest,
    DescribeAccessEntryResponse
);

/// What [`DescribeAccessEntry`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAccessEntryRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub principal_arn: String,
}

/// What [`DescribeAccessEntry`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAccessEntryResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_entry: Option<AccessEntry>,
}

/// The principals that have entries.
#[derive(Debug)]
pub enum ListAccessEntries {}

operation!(
    ListAccessEntries,
    "GET",
    "/clusters/{name}/access-entries",
    ListAccessEntriesRequest,
    ListAccessEntriesResponse
);

/// What [`ListAccessEntries`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListAccessEntriesRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub associated_policy_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// What [`ListAccessEntries`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListAccessEntriesResponse {
    #[serde(default)]
    pub access_entries: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Changes groups or user name.
#[derive(Debug)]
pub enum UpdateAccessEntry {}

operation!(
    UpdateAccessEntry,
    "POST",
    "/clusters/{name}/access-entries/{principalArn}",
    UpdateAccessEntryRequest,
    UpdateAccessEntryResponse
);

/// What [`UpdateAccessEntry`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateAccessEntryRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub principal_arn: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_groups: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

/// What [`UpdateAccessEntry`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateAccessEntryResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_entry: Option<AccessEntry>,
}

/// Shuts a principal out.
#[derive(Debug)]
pub enum DeleteAccessEntry {}

operation!(
    DeleteAccessEntry,
    "DELETE",
    "/clusters/{name}/access-entries/{principalArn}",
    DeleteAccessEntryRequest,
    DeleteAccessEntryResponse
);

/// What [`DeleteAccessEntry`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteAccessEntryRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub principal_arn: String,
}

/// What [`DeleteAccessEntry`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteAccessEntryResponse {}

/// Gives an entry the rights of a policy.
#[derive(Debug)]
pub enum AssociateAccessPolicy {}

operation!(
    AssociateAccessPolicy,
    "POST",
    "/clusters/{name}/access-entries/{principalArn}/access-policies",
    AssociateAccessPolicyRequest,
    AssociateAccessPolicyResponse
);

/// What [`AssociateAccessPolicy`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssociateAccessPolicyRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub principal_arn: String,
    pub policy_arn: String,
    pub access_scope: AccessScope,
}

/// What [`AssociateAccessPolicy`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssociateAccessPolicyResponse {
    pub cluster_name: String,
    pub principal_arn: String,
    pub associated_access_policy: AssociatedAccessPolicy,
}

/// Takes them away.
#[derive(Debug)]
pub enum DisassociateAccessPolicy {}

operation!(
    DisassociateAccessPolicy,
    "DELETE",
    "/clusters/{name}/access-entries/{principalArn}/access-policies/{policyArn}",
    DisassociateAccessPolicyRequest,
    DisassociateAccessPolicyResponse
);

/// What [`DisassociateAccessPolicy`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DisassociateAccessPolicyRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub principal_arn: String,
    pub policy_arn: String,
}

/// What [`DisassociateAccessPolicy`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DisassociateAccessPolicyResponse {}

/// The policies of an entry.
#[derive(Debug)]
pub enum ListAssociatedAccessPolicies {}

operation!(
    ListAssociatedAccessPolicies,
    "GET",
    "/clusters/{name}/access-entries/{principalArn}/access-policies",
    ListAssociatedAccessPoliciesRequest,
    ListAssociatedAccessPoliciesResponse
);

/// What [`ListAssociatedAccessPolicies`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListAssociatedAccessPoliciesRequest {
    #[serde(rename = "name")]
    pub cluster_name: String,
    pub principal_arn: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// What [`ListAssociatedAccessPolicies`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListAssociatedAccessPoliciesResponse {
    pub cluster_name: String,
    pub principal_arn: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default)]
    pub associated_access_policies: Vec<AssociatedAccessPolicy>,
}

/// All policies that there are.
#[derive(Debug)]
pub enum ListAccessPolicies {}

operation!(
    ListAccessPolicies,
    "GET",
    "/access-policies",
    ListAccessPoliciesRequest,
    ListAccessPoliciesResponse
);

/// What [`ListAccessPolicies`] is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListAccessPoliciesRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// What [`ListAccessPolicies`] answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListAccessPoliciesResponse {
    #[serde(default)]
    pub access_policies: Vec<AccessPolicy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// An entry as described.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessEntry {
    pub cluster_name: String,
    pub principal_arn: String,
    #[serde(default)]
    pub kubernetes_groups: Vec<String>,
    pub access_entry_arn: String,
    pub created_at: f64,
    pub modified_at: f64,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    pub username: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// The whole cluster, or some namespaces.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessScope {
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default)]
    pub namespaces: Vec<String>,
}

/// A policy and where it holds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssociatedAccessPolicy {
    pub policy_arn: String,
    pub access_scope: AccessScope,
    pub associated_at: f64,
    pub modified_at: f64,
}

/// A policy that can be associated.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicy {
    pub name: String,
    pub arn: String,
}
