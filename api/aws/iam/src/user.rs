//! Users and their access keys.
//!
//! API reference: AWS Identity and Access Management, version 2010-05-08.

use aws_wire::operations;

use crate::types::{AccessKey, AccessKeyMetadata, AttachedPolicy, Group, Tag, User};

operations! {
    service "iam", case "PascalCase";

    /// Makes a user.
    CreateUser(CreateUserRequest {
        pub user_name: String,
        pub path: Option<String>,
        pub permissions_boundary: Option<String>,
        #[serde(default)]
        pub tags: Vec<Tag>,
    }) -> CreateUserResponse { pub user: User }

    /// Reads a user; the caller, when no name is given.
    GetUser(GetUserRequest { pub user_name: Option<String> }) -> GetUserResponse { pub user: User }

    /// Removes a user that nothing is attached to.
    DeleteUser(DeleteUserRequest { pub user_name: String }) -> DeleteUserResponse {}

    /// Sets the boundary.
    PutUserPermissionsBoundary(PutUserPermissionsBoundaryRequest {
        pub user_name: String,
        pub permissions_boundary: String,
    }) -> PutUserPermissionsBoundaryResponse {}

    /// Removes the boundary.
    DeleteUserPermissionsBoundary(DeleteUserPermissionsBoundaryRequest { pub user_name: String })
        -> DeleteUserPermissionsBoundaryResponse {}

    /// Makes an access key; the only time that its secret is shown.
    CreateAccessKey(CreateAccessKeyRequest { pub user_name: Option<String> })
        -> CreateAccessKeyResponse { pub access_key: AccessKey }

    /// Removes an access key.
    DeleteAccessKey(DeleteAccessKeyRequest {
        pub user_name: Option<String>,
        pub access_key_id: String,
    }) -> DeleteAccessKeyResponse {}

    /// Makes an access key `Active` or `Inactive`.
    UpdateAccessKey(UpdateAccessKeyRequest {
        pub user_name: Option<String>,
        pub access_key_id: String,
        pub status: String,
    }) -> UpdateAccessKeyResponse {}

    /// Lists access keys.
    ListAccessKeys(ListAccessKeysRequest {
        pub user_name: Option<String>,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListAccessKeysResponse {
        #[serde(default)]
        pub access_key_metadata: Vec<AccessKeyMetadata>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Lists the groups of a user.
    ListGroupsForUser(ListGroupsForUserRequest {
        pub user_name: String,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListGroupsForUserResponse {
        #[serde(default)]
        pub groups: Vec<Group>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Lists them by path and name.
    ListUsers(ListUsersRequest {
        pub path_prefix: Option<String>,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListUsersResponse {
        #[serde(default)]
        pub users: Vec<User>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Sets tags.
    TagUser(TagUserRequest { pub user_name: String, #[serde(default)] pub tags: Vec<Tag> })
        -> TagUserResponse {}

    /// Removes tags.
    UntagUser(UntagUserRequest {
        pub user_name: String,
        #[serde(default)]
        pub tag_keys: Vec<String>,
    }) -> UntagUserResponse {}

    /// Lists tags.
    ListUserTags(ListUserTagsRequest {
        pub user_name: String,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListUserTagsResponse {
        #[serde(default)]
        pub tags: Vec<Tag>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Writes an inline policy.
    PutUserPolicy(PutUserPolicyRequest {
        pub user_name: String,
        pub policy_name: String,
        pub policy_document: String,
    }) -> PutUserPolicyResponse {}

    /// Reads an inline policy.
    GetUserPolicy(GetUserPolicyRequest { pub user_name: String, pub policy_name: String })
        -> GetUserPolicyResponse {
        pub user_name: String,
        pub policy_name: String,
        /// Percent-encoded.
        pub policy_document: String,
    }

    /// Removes an inline policy.
    DeleteUserPolicy(DeleteUserPolicyRequest { pub user_name: String, pub policy_name: String })
        -> DeleteUserPolicyResponse {}

    /// Names the inline policies.
    ListUserPolicies(ListUserPoliciesRequest {
        pub user_name: String,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListUserPoliciesResponse {
        #[serde(default)]
        pub policy_names: Vec<String>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Attaches a managed policy.
    AttachUserPolicy(AttachUserPolicyRequest { pub user_name: String, pub policy_arn: String })
        -> AttachUserPolicyResponse {}

    /// Detaches a managed policy.
    DetachUserPolicy(DetachUserPolicyRequest { pub user_name: String, pub policy_arn: String })
        -> DetachUserPolicyResponse {}

    /// Lists the attached managed policies.
    ListAttachedUserPolicies(ListAttachedUserPoliciesRequest {
        pub user_name: String,
        pub path_prefix: Option<String>,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListAttachedUserPoliciesResponse {
        #[serde(default)]
        pub attached_policies: Vec<AttachedPolicy>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }
}
