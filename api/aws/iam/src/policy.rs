//! Managed policies.
//!
//! API reference: AWS Identity and Access Management, version 2010-05-08.

use aws_wire::operations;

use crate::types::{Policy, PolicyGroup, PolicyRole, PolicyUser, PolicyVersion, Tag};

operations! {
    service "iam", case "PascalCase";

    /// Makes a policy with its first version.
    CreatePolicy(CreatePolicyRequest {
        pub policy_name: String,
        pub path: Option<String>,
        pub policy_document: String,
        pub description: Option<String>,
        #[serde(default)]
        pub tags: Vec<Tag>,
    }) -> CreatePolicyResponse { pub policy: Policy }

    /// Reads a policy.
    GetPolicy(GetPolicyRequest { pub policy_arn: String })
        -> GetPolicyResponse { pub policy: Policy }

    /// Removes a policy that is attached to nothing.
    DeletePolicy(DeletePolicyRequest { pub policy_arn: String }) -> DeletePolicyResponse {}

    /// Adds a version.
    CreatePolicyVersion(CreatePolicyVersionRequest {
        pub policy_arn: String,
        pub policy_document: String,
        #[serde(default)]
        pub set_as_default: bool,
    }) -> CreatePolicyVersionResponse { pub policy_version: PolicyVersion }

    /// Reads a version with its document.
    GetPolicyVersion(GetPolicyVersionRequest { pub policy_arn: String, pub version_id: String })
        -> GetPolicyVersionResponse { pub policy_version: PolicyVersion }

    /// Removes a version that is not the default.
    DeletePolicyVersion(DeletePolicyVersionRequest {
        pub policy_arn: String,
        pub version_id: String,
    }) -> DeletePolicyVersionResponse {}

    /// Lists the versions without their documents.
    ListPolicyVersions(ListPolicyVersionsRequest {
        pub policy_arn: String,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListPolicyVersionsResponse {
        #[serde(default)]
        pub versions: Vec<PolicyVersion>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Chooses the version that counts.
    SetDefaultPolicyVersion(SetDefaultPolicyVersionRequest {
        pub policy_arn: String,
        pub version_id: String,
    }) -> SetDefaultPolicyVersionResponse {}

    /// Lists them by path and name.
    ListPolicies(ListPoliciesRequest {
        pub scope: Option<String>,
        #[serde(default)]
        pub only_attached: bool,
        pub path_prefix: Option<String>,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListPoliciesResponse {
        #[serde(default)]
        pub policies: Vec<Policy>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Lists what a policy is attached to.
    ListEntitiesForPolicy(ListEntitiesForPolicyRequest {
        pub policy_arn: String,
        pub entity_filter: Option<String>,
        pub path_prefix: Option<String>,
        pub policy_usage_filter: Option<String>,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListEntitiesForPolicyResponse {
        #[serde(default)]
        pub policy_groups: Vec<PolicyGroup>,
        #[serde(default)]
        pub policy_users: Vec<PolicyUser>,
        #[serde(default)]
        pub policy_roles: Vec<PolicyRole>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Sets tags.
    TagPolicy(TagPolicyRequest { pub policy_arn: String, #[serde(default)] pub tags: Vec<Tag> })
        -> TagPolicyResponse {}

    /// Removes tags.
    UntagPolicy(UntagPolicyRequest {
        pub policy_arn: String,
        #[serde(default)]
        pub tag_keys: Vec<String>,
    }) -> UntagPolicyResponse {}

    /// Lists tags.
    ListPolicyTags(ListPolicyTagsRequest {
        pub policy_arn: String,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListPolicyTagsResponse {
        #[serde(default)]
        pub tags: Vec<Tag>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }
}
