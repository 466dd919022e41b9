//! What IAM tells of a principal: policies, boundary, tags. Asked through its API, as a customer asks.

use std::sync::Arc;

use anyhow::Context;
use aws_iam::*;
use aws_wire::{Client, percent};
use iam_policy::{Kind, Named, Policies, Policy};
use serde_json::Value;

/// See the module.
pub(crate) struct Iam(Client);

/// A user or role.
#[derive(Debug)]
pub(crate) struct Entity {
    pub(crate) arn: String,
    /// `AROA…`, `AIDA…`
    pub(crate) id: String,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) documents: Vec<Document>,
    pub(crate) boundary: Option<Document>,
    /// A role's trust policy.
    pub(crate) trust: Option<Document>,
}

/// A policy as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// An ARN, or the name of an inline policy.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// What a page of a list is.
struct Page<T> {
    items: Vec<T>,
    marker: Option<String>,
}

impl Document {
    pub(crate) fn named(&self, kind: Kind) -> anyhow::Result<Named> {
        let policy = Policy::parse(&self.text, kind);
        let policy = policy.with_context(|| format!("policy `{}` cannot be read", self.name))?;
        Ok(Named { name: self.name.clone(), policy: Arc::new(policy) })
    }

    /// Its statements, as JSON.
    pub(crate) fn statements(&self) -> Vec<Value> {
        let document: Value = serde_json::from_str(&self.text).unwrap_or_default();
        match &document["Statement"] {
            Value::Array(several) => several.clone(),
            Value::Null => Vec::new(),
            single => vec![single.clone()],
        }
    }
}

impl Entity {
    /// What evaluation needs of it.
    pub(crate) fn policies(&self) -> anyhow::Result<Policies> {
        let named = |it: &Document| it.named(Kind::Identity);
        Ok(Policies {
            identity: self.documents.iter().map(named).collect::<Result<_, _>>()?,
            boundary: self.boundary.as_ref().map(named).transpose()?,
            ..Policies::default()
        })
    }
}

impl Iam {
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    /// `None`: there is no such role.
    pub(crate) async fn role(&self, name: &str) -> anyhow::Result<Option<Entity>> {
        let role = match self.0.call::<GetRole>(GetRoleRequest { role_name: name.to_owned() }).await
        {
            Err(error) if error.is("NoSuchEntity") => return Ok(None),
            answer => answer.context("IAM does not tell of the role")?.role,
        };
        let names = pages(async |marker| {
            let request = ListRolePoliciesRequest {
                role_name: name.to_owned(),
                marker,
                ..Default::default()
            };
            let page = self.0.call::<ListRolePolicies>(request).await?;
            Ok(Page { items: page.policy_names, marker: page.marker.filter(|_| page.is_truncated) })
        });
        let attached = pages(async |marker| {
            let request = ListAttachedRolePoliciesRequest {
                role_name: name.to_owned(),
                marker,
                ..Default::default()
            };
            let page = self.0.call::<ListAttachedRolePolicies>(request).await?;
            let marker = page.marker.filter(|_| page.is_truncated);
            Ok(Page { items: page.attached_policies, marker })
        });
        let mut documents = self.all_managed(attached.await?).await?;
        for policy_name in names.await? {
            let role_name = name.to_owned();
            let request = GetRolePolicyRequest { role_name, policy_name };
            let found = self.0.call::<GetRolePolicy>(request).await?;
            documents.push(document(found.policy_name, &found.policy_document));
        }
        let trust = role.assume_role_policy_document.unwrap_or_default();
        Ok(Some(Entity {
            trust: Some(document(role.arn.clone(), &trust)),
            arn: role.arn,
            id: role.role_id,
            tags: pairs(role.tags),
            documents,
            boundary: self.bounding(role.permissions_boundary).await?,
        }))
    }

    /// With the policies of its groups. `None`: there is no such user.
    pub(crate) async fn user(&self, name: &str) -> anyhow::Result<Option<Entity>> {
        let user_name = || name.to_owned();
        let request = GetUserRequest { user_name: Some(user_name()) };
        let user = match self.0.call::<GetUser>(request).await {
            Err(error) if error.is("NoSuchEntity") => return Ok(None),
            answer => answer.context("IAM does not tell of the user")?.user,
        };
        let request =
            ListAttachedUserPoliciesRequest { user_name: user_name(), ..Default::default() };
        let attached = self.0.call::<ListAttachedUserPolicies>(request).await?.attached_policies;
        let mut documents = self.all_managed(attached).await?;
        let request = ListUserPoliciesRequest { user_name: user_name(), ..Default::default() };
        for policy_name in self.0.call::<ListUserPolicies>(request).await?.policy_names {
            let request = GetUserPolicyRequest { user_name: user_name(), policy_name };
            let found = self.0.call::<GetUserPolicy>(request).await?;
            documents.push(document(found.policy_name, &found.policy_document));
        }
        let request = ListGroupsForUserRequest { user_name: user_name(), ..Default::default() };
        for group in self.0.call::<ListGroupsForUser>(request).await?.groups {
            documents.extend(self.of_group(&group.group_name).await?);
        }
        Ok(Some(Entity {
            arn: user.arn,
            id: user.user_id,
            tags: pairs(user.tags),
            documents,
            boundary: self.bounding(user.permissions_boundary).await?,
            trust: None,
        }))
    }

    /// The name of the role that an instance profile gives, by the profile's ARN.
    pub(crate) async fn role_of_profile(&self, arn: &str) -> anyhow::Result<Option<String>> {
        let instance_profile_name = arn.rsplit('/').next().unwrap_or(arn).to_owned();
        let request = GetInstanceProfileRequest { instance_profile_name };
        match self.0.call::<GetInstanceProfile>(request).await {
            Err(error) if error.is("NoSuchEntity") => Ok(None),
            answer => Ok(answer?.instance_profile.roles.into_iter().next().map(|it| it.role_name)),
        }
    }

    /// The audiences of the identity provider; `None`: the account has no such provider.
    pub(crate) async fn audiences(&self, provider: &str) -> anyhow::Result<Option<Vec<String>>> {
        let open_id_connect_provider_arn = provider.to_owned();
        let request = GetOpenIDConnectProviderRequest { open_id_connect_provider_arn };
        match self.0.call::<GetOpenIDConnectProvider>(request).await {
            Err(error) if error.is("NoSuchEntity") => Ok(None),
            answer => Ok(Some(answer?.client_id_list)),
        }
    }

    async fn of_group(&self, name: &str) -> anyhow::Result<Vec<Document>> {
        let group_name = || name.to_owned();
        let request =
            ListAttachedGroupPoliciesRequest { group_name: group_name(), ..Default::default() };
        let attached = self.0.call::<ListAttachedGroupPolicies>(request).await?.attached_policies;
        let mut documents = self.all_managed(attached).await?;
        let request = ListGroupPoliciesRequest { group_name: group_name(), ..Default::default() };
        for policy_name in self.0.call::<ListGroupPolicies>(request).await?.policy_names {
            let request = GetGroupPolicyRequest { group_name: group_name(), policy_name };
            let found = self.0.call::<GetGroupPolicy>(request).await?;
            documents.push(document(found.policy_name, &found.policy_document));
        }
        Ok(documents)
    }

    async fn all_managed(&self, attached: Vec<AttachedPolicy>) -> anyhow::Result<Vec<Document>> {
        let mut documents = Vec::new();
        for it in attached {
            documents.push(self.managed(&it.policy_arn).await?);
        }
        Ok(documents)
    }

    async fn bounding(
        &self,
        boundary: Option<AttachedPermissionsBoundary>,
    ) -> anyhow::Result<Option<Document>> {
        match boundary {
            Some(it) => Ok(Some(self.managed(&it.permissions_boundary_arn).await?)),
            None => Ok(None),
        }
    }

    async fn managed(&self, arn: &str) -> anyhow::Result<Document> {
        let policy_arn = arn.to_owned();
        let policy = self.0.call::<GetPolicy>(GetPolicyRequest { policy_arn }).await?.policy;
        let request = GetPolicyVersionRequest {
            policy_arn: arn.to_owned(),
            version_id: policy.default_version_id,
        };
        let version = self.0.call::<GetPolicyVersion>(request).await?.policy_version;
        Ok(document(arn.to_owned(), &version.document.unwrap_or_default()))
    }
}

/// All items of a list.
async fn pages<T>(
    ask: impl AsyncFn(Option<String>) -> anyhow::Result<Page<T>>,
) -> anyhow::Result<Vec<T>> {
    let (mut found, mut marker) = (Vec::new(), None);
    loop {
        let page = ask(marker).await?;
        found.extend(page.items);
        marker = page.marker;
        if marker.is_none() {
            return Ok(found);
        }
    }
}

fn document(name: String, encoded: &str) -> Document {
    Document { name, text: percent::decode(encoded) }
}

fn pairs(tags: Vec<Tag>) -> Vec<(String, String)> {
    tags.into_iter().map(|it| (it.key, it.value)).collect()
}
