//! Records as the API shows them.

use aws_iam::{AttachedPermissionsBoundary, Tag};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    Iam,
    records::{Group, ManagedPolicy, Profile, Role, Tags, User, Version},
};

/// ISO 8601 to the second, as IAM writes it.
pub(crate) fn time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn tags(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag { key: key.clone(), value: value.clone() }).collect()
}

fn boundary(arn: Option<&String>) -> Option<AttachedPermissionsBoundary> {
    arn.map(|arn| AttachedPermissionsBoundary {
        permissions_boundary_type: "Policy".to_owned(),
        permissions_boundary_arn: arn.clone(),
    })
}

pub(crate) fn user(user: &User) -> aws_iam::User {
    aws_iam::User {
        path: user.entity.path.clone(),
        user_name: user.entity.name.clone(),
        user_id: user.entity.id.clone(),
        arn: user.entity.arn.clone(),
        create_date: time(user.entity.created),
        permissions_boundary: boundary(user.grants.boundary.as_ref()),
        tags: tags(&user.entity.tags),
    }
}

pub(crate) fn group(group: &Group) -> aws_iam::Group {
    aws_iam::Group {
        path: group.entity.path.clone(),
        group_name: group.entity.name.clone(),
        group_id: group.entity.id.clone(),
        arn: group.entity.arn.clone(),
        create_date: time(group.entity.created),
    }
}

pub(crate) fn version(version: &Version, default: &str) -> aws_iam::PolicyVersion {
    aws_iam::PolicyVersion {
        document: Some(aws_wire::percent::encode(&version.document)),
        version_id: version.id.clone(),
        is_default_version: version.id == default,
        create_date: time(version.created),
    }
}

impl Iam {
    pub(crate) fn show_role(&self, role: &Role) -> aws_iam::Role {
        aws_iam::Role {
            path: role.entity.path.clone(),
            role_name: role.entity.name.clone(),
            role_id: role.entity.id.clone(),
            arn: role.entity.arn.clone(),
            create_date: time(role.entity.created),
            assume_role_policy_document: Some(aws_wire::percent::encode(&self.shown_trust(role))),
            description: role.description.clone(),
            max_session_duration: Some(role.max_session),
            permissions_boundary: boundary(role.grants.boundary.as_ref()),
            tags: tags(&role.entity.tags),
        }
    }

    pub(crate) fn show_policy(&self, policy: &ManagedPolicy) -> aws_iam::Policy {
        let arn = &policy.entity.arn;
        let (attached, bounding) = self.uses(arn);
        let count = |it: usize| i64::try_from(it).unwrap_or(i64::MAX);
        aws_iam::Policy {
            policy_name: policy.entity.name.clone(),
            policy_id: policy.entity.id.clone(),
            arn: arn.clone(),
            path: policy.entity.path.clone(),
            default_version_id: policy.default_version.clone(),
            attachment_count: count(attached),
            permissions_boundary_usage_count: count(bounding),
            is_attachable: true,
            description: policy.description.clone(),
            create_date: time(policy.entity.created),
            update_date: time(policy.updated),
            tags: tags(&policy.entity.tags),
        }
    }

    pub(crate) fn show_profile(&self, profile: &Profile) -> aws_iam::InstanceProfile {
        let found = profile.role.as_ref().and_then(|it| self.roles.get(it));
        aws_iam::InstanceProfile {
            path: profile.entity.path.clone(),
            instance_profile_name: profile.entity.name.clone(),
            instance_profile_id: profile.entity.id.clone(),
            arn: profile.entity.arn.clone(),
            create_date: time(profile.entity.created),
            roles: found.iter().map(|it| self.show_role(it)).collect(),
            tags: tags(&profile.entity.tags),
        }
    }
}
