//! Structures that several operations share.

use aws_wire::structures;

structures! {
    case "PascalCase";

    Tag {
        pub key: String,
        #[serde(default)]
        pub value: String,
    }

    Role {
        pub path: String,
        pub role_name: String,
        pub role_id: String,
        pub arn: String,
        pub create_date: String,
        /// Percent-encoded.
        pub assume_role_policy_document: Option<String>,
        pub description: Option<String>,
        pub max_session_duration: Option<i64>,
        pub permissions_boundary: Option<AttachedPermissionsBoundary>,
        #[serde(default)]
        pub tags: Vec<Tag>,
    }

    AttachedPermissionsBoundary {
        pub permissions_boundary_type: String,
        pub permissions_boundary_arn: String,
    }

    User {
        pub path: String,
        pub user_name: String,
        pub user_id: String,
        pub arn: String,
        pub create_date: String,
        pub permissions_boundary: Option<AttachedPermissionsBoundary>,
        #[serde(default)]
        pub tags: Vec<Tag>,
    }

    Group {
        pub path: String,
        pub group_name: String,
        pub group_id: String,
        pub arn: String,
        pub create_date: String,
    }

    AccessKey {
        pub user_name: String,
        pub access_key_id: String,
        pub status: String,
        pub secret_access_key: String,
        pub create_date: String,
    }

    AccessKeyMetadata {
        pub user_name: String,
        pub access_key_id: String,
        pub status: String,
        pub create_date: String,
    }

    Policy {
        pub policy_name: String,
        pub policy_id: String,
        pub arn: String,
        pub path: String,
        pub default_version_id: String,
        pub attachment_count: i64,
        pub permissions_boundary_usage_count: i64,
        pub is_attachable: bool,
        pub description: Option<String>,
        pub create_date: String,
        pub update_date: String,
        #[serde(default)]
        pub tags: Vec<Tag>,
    }

    PolicyVersion {
        /// Percent-encoded.
        pub document: Option<String>,
        pub version_id: String,
        pub is_default_version: bool,
        pub create_date: String,
    }

    AttachedPolicy {
        pub policy_name: String,
        pub policy_arn: String,
    }

    InstanceProfile {
        pub path: String,
        pub instance_profile_name: String,
        pub instance_profile_id: String,
        pub arn: String,
        pub create_date: String,
        #[serde(default)]
        pub roles: Vec<Role>,
        #[serde(default)]
        pub tags: Vec<Tag>,
    }

    /// A group that a policy is attached to.
    PolicyGroup {
        pub group_name: String,
        pub group_id: String,
    }

    /// A user that a policy is attached to.
    PolicyUser {
        pub user_name: String,
        pub user_id: String,
    }

    /// A role that a policy is attached to.
    PolicyRole {
        pub role_name: String,
        pub role_id: String,
    }
}
