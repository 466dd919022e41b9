//! Managed policies and their versions.

use std::sync::Arc;

use aws_iam::*;
use aws_wire::Fault;
use iam_policy::Kind;
use region_gateway::Caller;

use crate::{
    Iam, IamError, checked_name,
    records::{Entity, Grants, ManagedPolicy, Version},
    view,
};

/// Quotas of IAM.
const MOST_VERSIONS: usize = 5;
const LONGEST_DOCUMENT: usize = 6144;

impl Iam {
    fn check_document(&self, document: &str) -> Result<(), IamError> {
        if crate::size(document) > LONGEST_DOCUMENT {
            return Err(IamError::Quota { what: "PolicySize", limit: LONGEST_DOCUMENT });
        }
        self.parse(document, Kind::Identity).map(drop)
    }

    fn known_policy(&self, arn: &str) -> Result<Arc<ManagedPolicy>, IamError> {
        self.policy(arn).ok_or_else(|| IamError::PolicyNotFound { arn: arn.to_owned() })
    }

    /// Changes a policy of this account. AWS's own cannot be changed.
    fn check_customer_managed(&self, arn: &str) -> Result<(), Fault> {
        if !self.managed.contains_key(arn) {
            return Ok(());
        }
        let message = format!("Policy {arn} is managed by AWS and cannot be modified.");
        Err(Fault::new("AccessDenied", message).with_status(aws_wire::StatusCode::FORBIDDEN))
    }

    pub(crate) fn change_policy<R>(
        &self,
        arn: &str,
        change: impl FnOnce(&mut ManagedPolicy) -> Result<R, IamError>,
    ) -> Result<R, Fault> {
        self.check_customer_managed(arn)?;
        self.change(|tx| {
            let found = tx.get(&self.policies, arn);
            let found = found.ok_or_else(|| IamError::PolicyNotFound { arn: arn.to_owned() })?;
            let mut policy = ManagedPolicy::clone(&found);
            let result = change(&mut policy)?;
            policy.updated = self.clock.now();
            tx.put(&self.policies, arn, policy);
            Ok(result)
        })
    }

    pub(crate) fn create_policy(
        &self,
        _: &Caller,
        request: CreatePolicyRequest,
    ) -> Result<CreatePolicyResponse, Fault> {
        let name = request.policy_name;
        checked_name("policyName", &name, 128)?;
        self.check_document(&request.policy_document)?;
        let entity = self.entity("policy", "ANPA", &name, request.path, request.tags)?;
        let created = entity.created;
        let document = request.policy_document;
        let policy = ManagedPolicy {
            versions: vec![Version { id: "v1".to_owned(), document, created }],
            default_version: "v1".to_owned(),
            last_version: 1,
            description: request.description,
            updated: created,
            entity,
        };
        let shown = self.show_policy(&policy);
        self.change(|tx| {
            if tx.list(&self.policies).iter().any(|it| it.entity.name == name) {
                return Err(IamError::PolicyExists { name: name.clone() }.into());
            }
            tx.put(&self.policies, policy.entity.arn.clone(), policy);
            Ok(())
        })?;
        Ok(CreatePolicyResponse { policy: shown })
    }

    pub(crate) fn get_policy(
        &self,
        _: &Caller,
        request: GetPolicyRequest,
    ) -> Result<GetPolicyResponse, Fault> {
        let policy = self.known_policy(&request.policy_arn)?;
        Ok(GetPolicyResponse { policy: self.show_policy(&policy) })
    }

    pub(crate) fn list_policies(
        &self,
        _: &Caller,
        request: ListPoliciesRequest,
    ) -> Result<ListPoliciesResponse, Fault> {
        let scope = request.scope.as_deref().unwrap_or("All");
        let mut found: Vec<Arc<ManagedPolicy>> = Vec::new();
        if scope != "Local" {
            found.extend(self.managed.values().cloned());
        }
        if scope != "AWS" {
            found.extend(self.policies.list());
        }
        let prefix = request.path_prefix.unwrap_or_default();
        found.retain(|it| {
            it.entity.path.starts_with(&prefix)
                && (!request.only_attached || self.uses(&it.entity.arn).0 > 0)
        });
        found.sort_by(|a, b| a.entity.arn.cmp(&b.entity.arn));
        let key = |it: &Arc<ManagedPolicy>| it.entity.arn.clone();
        let page = crate::serve::page(found, request.max_items, request.marker, key)?;
        let shown = page.items.iter().map(|it| Policy {
            tags: vec![],
            description: None,
            ..self.show_policy(it)
        });
        Ok(ListPoliciesResponse {
            policies: shown.collect(),
            is_truncated: page.next.is_some(),
            marker: page.next,
        })
    }

    /// Groups, then roles, then users: one page may hold some of each.
    pub(crate) fn list_entities_for_policy(
        &self,
        _: &Caller,
        request: ListEntitiesForPolicyRequest,
    ) -> Result<ListEntitiesForPolicyResponse, Fault> {
        let arn = self.known_policy(&request.policy_arn)?.entity.arn.clone();
        let is_kind = |kind: &str| request.entity_filter.as_deref().is_none_or(|it| it == kind);
        let boundary = request.policy_usage_filter.as_deref() == Some("PermissionsBoundary");
        let uses = |it: &Grants| match boundary {
            true => it.boundary.as_deref() == Some(arn.as_str()),
            false => it.attached.contains(&arn),
        };
        let mut found = Vec::new();
        let mut add = |kind: &'static str, entity: &Entity, grants: &Grants| {
            let prefix = request.path_prefix.as_deref().unwrap_or_default();
            if is_kind(kind) && uses(grants) && entity.path.starts_with(prefix) {
                found.push((kind, entity.name.clone(), entity.id.clone()));
            }
        };
        self.groups.list().iter().for_each(|it| add("Group", &it.entity, &it.grants));
        self.roles.list().iter().for_each(|it| add("Role", &it.entity, &it.grants));
        self.users.list().iter().for_each(|it| add("User", &it.entity, &it.grants));
        found.sort();
        let key = |it: &(&str, String, String)| format!("{}/{}", it.0, it.1);
        let page = crate::serve::page(found, request.max_items, request.marker, key)?;
        let mut response = ListEntitiesForPolicyResponse {
            is_truncated: page.next.is_some(),
            marker: page.next,
            ..Default::default()
        };
        for (kind, name, id) in page.items {
            match kind {
                "Group" => {
                    response.policy_groups.push(PolicyGroup { group_name: name, group_id: id });
                }
                "Role" => response.policy_roles.push(PolicyRole { role_name: name, role_id: id }),
                _ => response.policy_users.push(PolicyUser { user_name: name, user_id: id }),
            }
        }
        Ok(response)
    }

    pub(crate) fn delete_policy(
        &self,
        _: &Caller,
        request: DeletePolicyRequest,
    ) -> Result<DeletePolicyResponse, Fault> {
        let arn = request.policy_arn;
        self.check_customer_managed(&arn)?;
        self.change(|tx| {
            let policy = tx.get(&self.policies, &arn);
            let policy = policy.ok_or_else(|| IamError::PolicyNotFound { arn: arn.clone() })?;
            if self.uses(&arn) != (0, 0) {
                return Err(IamError::PolicyInUse.into());
            }
            if policy.versions.len() != 1 {
                return Err(IamError::InUse { what: "delete all non-default versions" }.into());
            }
            tx.delete(&self.policies, &arn);
            Ok(())
        })?;
        Ok(DeletePolicyResponse {})
    }

    pub(crate) fn create_policy_version(
        &self,
        _: &Caller,
        request: CreatePolicyVersionRequest,
    ) -> Result<CreatePolicyVersionResponse, Fault> {
        self.check_document(&request.policy_document)?;
        let created = self.clock.now();
        let policy_version = self.change_policy(&request.policy_arn, |policy| {
            if policy.versions.len() >= MOST_VERSIONS {
                return Err(IamError::TooManyVersions);
            }
            policy.last_version += 1;
            let id = format!("v{}", policy.last_version);
            if request.set_as_default {
                policy.default_version.clone_from(&id);
            }
            let version = Version { id, document: request.policy_document, created };
            let shown = view::version(&version, &policy.default_version);
            policy.versions.push(version);
            Ok(PolicyVersion { document: None, ..shown })
        })?;
        Ok(CreatePolicyVersionResponse { policy_version })
    }

    pub(crate) fn get_policy_version(
        &self,
        _: &Caller,
        request: GetPolicyVersionRequest,
    ) -> Result<GetPolicyVersionResponse, Fault> {
        let policy = self.known_policy(&request.policy_arn)?;
        let version = policy.version(&request.version_id);
        let version = version.ok_or_else(|| IamError::VersionNotFound {
            arn: request.policy_arn.clone(),
            version: request.version_id.clone(),
        })?;
        let policy_version = view::version(version, &policy.default_version);
        Ok(GetPolicyVersionResponse { policy_version })
    }

    pub(crate) fn delete_policy_version(
        &self,
        _: &Caller,
        request: DeletePolicyVersionRequest,
    ) -> Result<DeletePolicyVersionResponse, Fault> {
        let (arn, version) = (request.policy_arn, request.version_id);
        self.change_policy(&arn, |policy| {
            if policy.default_version == version {
                return Err(IamError::DefaultVersion);
            }
            if policy.version(&version).is_none() {
                return Err(IamError::VersionNotFound { arn: arn.clone(), version });
            }
            policy.versions.retain(|it| it.id != version);
            Ok(())
        })?;
        Ok(DeletePolicyVersionResponse {})
    }

    pub(crate) fn list_policy_versions(
        &self,
        _: &Caller,
        request: ListPolicyVersionsRequest,
    ) -> Result<ListPolicyVersionsResponse, Fault> {
        let policy = self.known_policy(&request.policy_arn)?;
        let versions = policy.versions.iter().rev().map(|it| PolicyVersion {
            document: None,
            ..view::version(it, &policy.default_version)
        });
        // The newest first: the greatest number.
        let key = |it: &PolicyVersion| {
            let number = it.version_id.trim_start_matches('v').parse::<u32>().unwrap_or(0);
            format!("{:010}", u32::MAX - number)
        };
        let versions = versions.collect();
        let page = crate::serve::page(versions, request.max_items, request.marker, key)?;
        Ok(ListPolicyVersionsResponse {
            versions: page.items,
            is_truncated: page.next.is_some(),
            marker: page.next,
        })
    }

    pub(crate) fn set_default_policy_version(
        &self,
        _: &Caller,
        request: SetDefaultPolicyVersionRequest,
    ) -> Result<SetDefaultPolicyVersionResponse, Fault> {
        let (arn, version) = (request.policy_arn, request.version_id);
        self.change_policy(&arn, |policy| {
            if policy.version(&version).is_none() {
                return Err(IamError::VersionNotFound { arn: arn.clone(), version });
            }
            policy.default_version = version;
            Ok(())
        })?;
        Ok(SetDefaultPolicyVersionResponse {})
    }
}
