//! Groups of users.
//!
//! API reference: AWS Identity and Access Management, version 2010-05-08.

use aws_wire::operations;

use crate::types::{AttachedPolicy, Group, User};

operations! {
    service "iam", case "PascalCase";

    /// Makes a group.
    CreateGroup(CreateGroupRequest { pub group_name: String, pub path: Option<String> })
        -> CreateGroupResponse { pub group: Group }

    /// Reads a group and its users.
    GetGroup(GetGroupRequest {
        pub group_name: String,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> GetGroupResponse {
        pub group: Group,
        #[serde(default)]
        pub users: Vec<User>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Removes an empty group.
    DeleteGroup(DeleteGroupRequest { pub group_name: String }) -> DeleteGroupResponse {}

    /// Adds a user.
    AddUserToGroup(AddUserToGroupRequest { pub group_name: String, pub user_name: String })
        -> AddUserToGroupResponse {}

    /// Removes a user.
    RemoveUserFromGroup(RemoveUserFromGroupRequest {
        pub group_name: String,
        pub user_name: String,
    }) -> RemoveUserFromGroupResponse {}

    /// Lists them by path and name.
    ListGroups(ListGroupsRequest {
        pub path_prefix: Option<String>,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListGroupsResponse {
        #[serde(default)]
        pub groups: Vec<Group>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Writes an inline policy.
    PutGroupPolicy(PutGroupPolicyRequest {
        pub group_name: String,
        pub policy_name: String,
        pub policy_document: String,
    }) -> PutGroupPolicyResponse {}

    /// Reads an inline policy.
    GetGroupPolicy(GetGroupPolicyRequest { pub group_name: String, pub policy_name: String })
        -> GetGroupPolicyResponse {
        pub group_name: String,
        pub policy_name: String,
        /// Percent-encoded.
        pub policy_document: String,
    }

    /// Removes an inline policy.
    DeleteGroupPolicy(DeleteGroupPolicyRequest { pub group_name: String, pub policy_name: String })
        -> DeleteGroupPolicyResponse {}

    /// Names the inline policies.
    ListGroupPolicies(ListGroupPoliciesRequest {
        pub group_name: String,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListGroupPoliciesResponse {
        #[serde(default)]
        pub policy_names: Vec<String>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Attaches a managed policy.
    AttachGroupPolicy(AttachGroupPolicyRequest { pub group_name: String, pub policy_arn: String })
        -> AttachGroupPolicyResponse {}

    /// Detaches a managed policy.
    DetachGroupPolicy(DetachGroupPolicyRequest { pub group_name: String, pub policy_arn: String })
        -> DetachGroupPolicyResponse {}

    /// Lists the attached managed policies.
    ListAttachedGroupPolicies(ListAttachedGroupPoliciesRequest {
        pub group_name: String,
        pub path_prefix: Option<String>,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListAttachedGroupPoliciesResponse {
        #[serde(default)]
        pub attached_policies: Vec<AttachedPolicy>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }
}
