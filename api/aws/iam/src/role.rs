//! Roles.
//!
//! API reference: AWS Identity and Access Management, version 2010-05-08.

use aws_wire::operations;

use crate::types::{AttachedPolicy, Role, Tag};

operations! {
    service "iam", case "PascalCase";

    /// Makes a role.
    CreateRole(CreateRoleRequest {
        pub role_name: String,
        pub path: Option<String>,
        pub assume_role_policy_document: String,
        pub description: Option<String>,
        pub max_session_duration: Option<i64>,
        pub permissions_boundary: Option<String>,
        #[serde(default)]
        pub tags: Vec<Tag>,
    }) -> CreateRoleResponse { pub role: Role }

    /// Reads a role.
    GetRole(GetRoleRequest { pub role_name: String }) -> GetRoleResponse { pub role: Role }

    /// Removes a role that nothing is attached to.
    DeleteRole(DeleteRoleRequest { pub role_name: String }) -> DeleteRoleResponse {}

    /// Changes description and session length.
    UpdateRole(UpdateRoleRequest {
        pub role_name: String,
        pub description: Option<String>,
        pub max_session_duration: Option<i64>,
    }) -> UpdateRoleResponse {}

    /// Changes the description.
    UpdateRoleDescription(UpdateRoleDescriptionRequest {
        pub role_name: String,
        pub description: String,
    }) -> UpdateRoleDescriptionResponse { pub role: Role }

    /// Replaces the trust policy.
    UpdateAssumeRolePolicy(UpdateAssumeRolePolicyRequest {
        pub role_name: String,
        pub policy_document: String,
    }) -> UpdateAssumeRolePolicyResponse {}

    /// Sets the boundary.
    PutRolePermissionsBoundary(PutRolePermissionsBoundaryRequest {
        pub role_name: String,
        pub permissions_boundary: String,
    }) -> PutRolePermissionsBoundaryResponse {}

    /// Removes the boundary.
    DeleteRolePermissionsBoundary(DeleteRolePermissionsBoundaryRequest { pub role_name: String })
        -> DeleteRolePermissionsBoundaryResponse {}

    /// Makes a role that belongs to an AWS service.
    CreateServiceLinkedRole(CreateServiceLinkedRoleRequest {
        #[serde(rename = "AWSServiceName")]
        pub aws_service_name: String,
        pub description: Option<String>,
        pub custom_suffix: Option<String>,
    }) -> CreateServiceLinkedRoleResponse { pub role: Role }

    /// Removes a role that belongs to an AWS service.
    DeleteServiceLinkedRole(DeleteServiceLinkedRoleRequest { pub role_name: String })
        -> DeleteServiceLinkedRoleResponse { pub deletion_task_id: String }

    /// Says how far the removal is.
    GetServiceLinkedRoleDeletionStatus(GetServiceLinkedRoleDeletionStatusRequest {
        pub deletion_task_id: String,
    }) -> GetServiceLinkedRoleDeletionStatusResponse { pub status: String }

    /// Lists them by path and name.
    ListRoles(ListRolesRequest {
        pub path_prefix: Option<String>,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListRolesResponse {
        #[serde(default)]
        pub roles: Vec<Role>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Sets tags.
    TagRole(TagRoleRequest { pub role_name: String, #[serde(default)] pub tags: Vec<Tag> })
        -> TagRoleResponse {}

    /// Removes tags.
    UntagRole(UntagRoleRequest {
        pub role_name: String,
        #[serde(default)]
        pub tag_keys: Vec<String>,
    }) -> UntagRoleResponse {}

    /// Lists tags.
    ListRoleTags(ListRoleTagsRequest {
        pub role_name: String,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListRoleTagsResponse {
        #[serde(default)]
        pub tags: Vec<Tag>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Writes an inline policy.
    PutRolePolicy(PutRolePolicyRequest {
        pub role_name: String,
        pub policy_name: String,
        pub policy_document: String,
    }) -> PutRolePolicyResponse {}

    /// Reads an inline policy.
    GetRolePolicy(GetRolePolicyRequest { pub role_name: String, pub policy_name: String })
        -> GetRolePolicyResponse {
        pub role_name: String,
        pub policy_name: String,
        /// Percent-encoded.
        pub policy_document: String,
    }

    /// Removes an inline policy.
    DeleteRolePolicy(DeleteRolePolicyRequest { pub role_name: String, pub policy_name: String })
        -> DeleteRolePolicyResponse {}

    /// Names the inline policies.
    ListRolePolicies(ListRolePoliciesRequest {
        pub role_name: String,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListRolePoliciesResponse {
        #[serde(default)]
        pub policy_names: Vec<String>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Attaches a managed policy.
    AttachRolePolicy(AttachRolePolicyRequest { pub role_name: String, pub policy_arn: String })
        -> AttachRolePolicyResponse {}

    /// Detaches a managed policy.
    DetachRolePolicy(DetachRolePolicyRequest { pub role_name: String, pub policy_arn: String })
        -> DetachRolePolicyResponse {}

    /// Lists the attached managed policies.
    ListAttachedRolePolicies(ListAttachedRolePoliciesRequest {
        pub role_name: String,
        pub path_prefix: Option<String>,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListAttachedRolePoliciesResponse {
        #[serde(default)]
        pub attached_policies: Vec<AttachedPolicy>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }
}
