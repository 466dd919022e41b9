//! What IAM's own operations are decided on: who is delegated a part of them, such as roles with one
//! boundary or tag, must be held to that part.
//!
//! Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS Identity
//! and Access Management".

use aws_iam::Tag;
use region_gateway::{Caller, CallerKind, Target};

use crate::{
    Iam,
    records::{Entity, Tags},
};

impl Iam {
    pub(crate) fn target(&self, kind: &str, name: &str) -> Target {
        Target::resource(self.arn(kind, name))
    }

    pub(crate) fn group_target(&self, name: &str) -> Target {
        self.target("group", name)
    }

    /// An existing role's own ARN, with its path and tags.
    pub(crate) fn role_target(&self, name: &str) -> Target {
        match self.roles.get(name) {
            Some(role) => tagged(&role.entity),
            None => self.target("role", name),
        }
    }

    /// A role whose permissions change: its boundary has a say in who may.
    pub(crate) fn bounded_role(&self, name: &str) -> Target {
        let boundary = self.roles.get(name).and_then(|it| it.grants.boundary.clone());
        self.role_target(name).with_boundary(boundary.as_deref())
    }

    pub(crate) fn bounded_user(&self, name: &str) -> Target {
        let boundary = self.users.get(name).and_then(|it| it.grants.boundary.clone());
        self.user_target(name).with_boundary(boundary.as_deref())
    }

    pub(crate) fn policy_target(&self, arn: &str) -> Target {
        match self.policies.get(arn) {
            Some(policy) => tagged(&policy.entity),
            None => Target::resource(arn),
        }
    }

    pub(crate) fn oidc_target(&self, arn: &str) -> Target {
        let tags = self.providers.get(arn).map(|it| it.entity.tags.clone()).unwrap_or_default();
        Target::resource(arn).with_tags("aws:ResourceTag", pairs(&tags))
    }

    pub(crate) fn user_target(&self, name: &str) -> Target {
        match self.users.get(name) {
            Some(user) => tagged(&user.entity),
            None => self.target("user", name),
        }
    }

    /// Sessions of roles are no user, which the operation itself says.
    pub(crate) fn own_target(&self, caller: &Caller, name: Option<&str>) -> Target {
        match (name, &caller.kind) {
            (Some(name), _) => self.user_target(name),
            (None, CallerKind::User { name }) => self.user_target(name),
            (None, CallerKind::Root) => Target::resource(&*caller.arn),
            (None, _) => self.user_target("*"),
        }
    }

    pub(crate) fn profile_target(&self, name: &str) -> Target {
        match self.profiles.get(name) {
            Some(profile) => tagged(&profile.entity),
            None => self.target("instance-profile", name),
        }
    }

    /// Something that is about to be made.
    pub(crate) fn new_target(
        &self,
        kind: &str,
        path: Option<&str>,
        name: &str,
        tags: &[Tag],
    ) -> Target {
        let path = path.filter(|it| it.starts_with('/')).unwrap_or("/");
        Target::resource(format!("arn:aws:iam::{}:{kind}{path}{name}", self.account)).tagging(tags)
    }
}

/// What is made with tags asks for the right to tag it, too. It counts as having them then: policies
/// such as Karpenter's allow to tag what has some tags already.
pub(crate) fn with_tagging(operation: &str, target: Target) -> Vec<Target> {
    let action = match operation {
        "CreateRole" => "iam:TagRole",
        "CreateUser" => "iam:TagUser",
        "CreatePolicy" => "iam:TagPolicy",
        "CreateInstanceProfile" => "iam:TagInstanceProfile",
        "CreateOpenIDConnectProvider" => "iam:TagOpenIDConnectProvider",
        _ => return vec![target],
    };
    let tagging = target.right_to_tag(action, &*target.resource).map(|mut it| {
        let asked = it.context.iter();
        let asked = asked.filter_map(|(key, it)| Some((key.strip_prefix("aws:RequestTag/")?, it)));
        let has: Vec<_> =
            asked.map(|(key, it)| (format!("aws:ResourceTag/{key}"), it.clone())).collect();
        it.context.extend(has);
        it
    });
    [target].into_iter().chain(tagging).collect()
}

fn pairs(tags: &Tags) -> impl Iterator<Item = (&str, &str)> {
    tags.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

fn tagged(entity: &Entity) -> Target {
    Target::resource(&*entity.arn)
        .with_tags("aws:ResourceTag", pairs(&entity.tags))
        .with_tags("iam:ResourceTag", pairs(&entity.tags))
}

/// What a request asks for.
pub(crate) trait On {
    fn with_boundary(self, arn: Option<&str>) -> Self;
    fn tagging(self, tags: &[Tag]) -> Self;
    fn untagging(self, keys: &[String]) -> Self;
}

impl On for Target {
    fn with_boundary(self, arn: Option<&str>) -> Self {
        match arn {
            Some(arn) => self.with("iam:PermissionsBoundary", [arn.to_owned()]),
            None => self,
        }
    }

    fn tagging(self, tags: &[Tag]) -> Self {
        let tags = tags.iter().map(|it| (it.key.as_str(), it.value.as_str()));
        self.with_tags("aws:RequestTag", tags)
    }

    fn untagging(self, keys: &[String]) -> Self {
        self.with("aws:TagKeys", keys.iter().cloned())
    }
}
