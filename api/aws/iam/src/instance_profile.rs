//! Instance profiles: how an instance gets a role.
//!
//! API reference: AWS Identity and Access Management, version 2010-05-08.

use aws_wire::operations;

use crate::types::{InstanceProfile, Tag};

operations! {
    service "iam", case "PascalCase";

    /// Makes a profile.
    CreateInstanceProfile(CreateInstanceProfileRequest {
        pub instance_profile_name: String,
        pub path: Option<String>,
        #[serde(default)]
        pub tags: Vec<Tag>,
    }) -> CreateInstanceProfileResponse { pub instance_profile: InstanceProfile }

    /// Reads a profile with its role.
    GetInstanceProfile(GetInstanceProfileRequest { pub instance_profile_name: String })
        -> GetInstanceProfileResponse { pub instance_profile: InstanceProfile }

    /// Removes a profile without a role.
    DeleteInstanceProfile(DeleteInstanceProfileRequest { pub instance_profile_name: String })
        -> DeleteInstanceProfileResponse {}

    /// Gives a profile its role.
    AddRoleToInstanceProfile(AddRoleToInstanceProfileRequest {
        pub instance_profile_name: String,
        pub role_name: String,
    }) -> AddRoleToInstanceProfileResponse {}

    /// Takes the role away.
    RemoveRoleFromInstanceProfile(RemoveRoleFromInstanceProfileRequest {
        pub instance_profile_name: String,
        pub role_name: String,
    }) -> RemoveRoleFromInstanceProfileResponse {}

    /// Lists them by path and name.
    ListInstanceProfiles(ListInstanceProfilesRequest {
        pub path_prefix: Option<String>,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListInstanceProfilesResponse {
        #[serde(default)]
        pub instance_profiles: Vec<InstanceProfile>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Lists them by path and name.
    ListInstanceProfilesForRole(ListInstanceProfilesForRoleRequest {
        pub role_name: String,
        pub path_prefix: Option<String>,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListInstanceProfilesForRoleResponse {
        #[serde(default)]
        pub instance_profiles: Vec<InstanceProfile>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }

    /// Sets tags.
    TagInstanceProfile(TagInstanceProfileRequest { pub instance_profile_name: String, #[serde(default)] pub tags: Vec<Tag> })
        -> TagInstanceProfileResponse {}

    /// Removes tags.
    UntagInstanceProfile(UntagInstanceProfileRequest {
        pub instance_profile_name: String,
        #[serde(default)]
        pub tag_keys: Vec<String>,
    }) -> UntagInstanceProfileResponse {}

    /// Lists tags.
    ListInstanceProfileTags(ListInstanceProfileTagsRequest {
        pub instance_profile_name: String,
        pub marker: Option<String>,
        pub max_items: Option<i64>,
    }) -> ListInstanceProfileTagsResponse {
        #[serde(default)]
        pub tags: Vec<Tag>,
        #[serde(default)]
        pub is_truncated: bool,
        pub marker: Option<String>,
    }
}
