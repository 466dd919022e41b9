//! Access entries: which IAM principals may use a cluster, and as whom.
//!
//! Upstream: EKS user guide, "Grant IAM users access to Kubernetes with EKS access entries".

mod policies;

use std::sync::Arc;

use aws_eks::{
    CreateAccessEntry, CreateAccessEntryRequest, CreateAccessEntryResponse, DeleteAccessEntry,
    DeleteAccessEntryRequest, DeleteAccessEntryResponse, DescribeAccessEntry,
    DescribeAccessEntryRequest, DescribeAccessEntryResponse, ListAccessEntries,
    ListAccessEntriesRequest, ListAccessEntriesResponse, UpdateAccessEntry,
    UpdateAccessEntryRequest, UpdateAccessEntryResponse,
};
use aws_wire::Fault;
use region_gateway::{Caller, Handle, Target};
use region_store::Transaction;

use crate::{
    Eks, faults,
    records::{AccessEntry, Asked, AssociatedPolicy},
    tags,
    targets::{self, WithSome},
};

pub(crate) use self::policies::CLUSTER_ADMIN;

/// What the authenticator learns about a principal.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    /// May hold `{{EC2PrivateDNSName}}`, `{{SessionName}}`.
    pub username: String,
    pub groups: Vec<String>,
    pub kind: String,
    pub policies: Vec<AssociatedPolicy>,
    /// Whom the entry was made for, where that is known: the ARN alone may be of a successor.
    pub principal_id: Option<String>,
}

/// Types whose principals are nodes.
const NODE_TYPES: [&str; 5] = ["EC2_LINUX", "EC2_WINDOWS", "FARGATE_LINUX", "HYBRID_LINUX", "EC2"];
/// Prefixes that EKS keeps for itself.
const RESERVED: [&str; 5] = ["system:", "eks:", "aws:", "amazon:", "iam:"];

impl Eks {
    /// Who the principal is in the cluster; `None` when it has no entry. An entry's ARN may have a
    /// path, and what STS says of a role's session has none: it matches without it too, which names
    /// the same role, as names are unique in an account.
    pub fn mapping(&self, cluster: &str, principal_arn: &str) -> Option<Mapping> {
        let exact = self.0.entries.get(&key_of(cluster, principal_arn));
        let is_it = |it: &AccessEntry| without_path(&it.principal_arn) == principal_arn;
        let by_name = || {
            let all = self.0.entries.under(&format!("{cluster}/"));
            all.into_iter().map(|(_, it)| it).find(|it| is_it(it))
        };
        let entry = exact.or_else(by_name)?;
        let mut groups = entry.groups.clone();
        if NODE_TYPES.contains(&entry.kind.as_str()) {
            groups.extend(["system:bootstrappers", "system:nodes"].map(str::to_owned));
        }
        Some(Mapping {
            username: entry.username.clone(),
            groups,
            kind: entry.kind.clone(),
            policies: entry.policies.clone(),
            principal_id: entry.principal_id.clone(),
        })
    }

    /// What of the cluster's mode counts for the authenticator. In the mode of the ConfigMap alone
    /// there is one entry, which nobody sees: the creator's.
    pub fn reads_config_map(&self, cluster: &str) -> bool {
        self.cluster(cluster).is_some_and(|it| it.authentication_mode != "API")
    }

    /// The entries that node groups have without asking, when a cluster begins to use entries.
    pub(crate) fn put_node_entries(&self, transaction: &mut Transaction, cluster: &str) {
        for (_, group) in self.0.nodegroups.under(&format!("{cluster}/")) {
            self.put_node_entry(transaction, cluster, &group.node_role);
        }
    }

    /// Makes sure that the node role has an entry of type EC2_LINUX.
    pub(crate) fn ensure_node_entry(&self, cluster: &str, role_arn: &str) -> Result<(), Fault> {
        self.0.store.transaction(|transaction| {
            self.known(transaction, cluster)?;
            self.put_node_entry(transaction, cluster, role_arn);
            Ok(())
        })
    }

    fn put_node_entry(&self, transaction: &mut Transaction, cluster: &str, role_arn: &str) {
        let entry = self.entry(cluster, role_arn, "EC2_LINUX");
        if transaction.get(&self.0.entries, &key(&entry)).is_none() {
            transaction.put(&self.0.entries, key(&entry), entry);
        }
    }

    pub(crate) fn delete_entry(&self, cluster: &str, principal_arn: &str) -> Result<(), Fault> {
        self.0.store.transaction(|transaction| {
            transaction.delete(&self.0.entries, &key_of(cluster, principal_arn));
            Ok(())
        })
    }

    fn entry(&self, cluster: &str, principal_arn: &str, kind: &str) -> AccessEntry {
        let now = self.now();
        AccessEntry {
            cluster: cluster.to_owned(),
            principal_arn: principal_arn.to_owned(),
            principal_id: self.0.config.roles.principal_id(principal_arn),
            kind: kind.to_owned(),
            username: default_username(principal_arn, kind),
            groups: Vec::new(),
            id: entropy::uuid(),
            created_at: now,
            modified_at: now,
            tags: Default::default(),
            policies: Vec::new(),
            asked: None,
        }
    }

    pub(crate) fn find_entry(&self, cluster: &str, arn: &str) -> Result<AccessEntry, Fault> {
        self.find(cluster)?;
        let found = self.0.entries.get(&key_of(cluster, arn));
        found.map(|it| (*it).clone()).ok_or_else(|| no_entry(arn))
    }

    fn entry_target(&self, cluster: &str, principal: &str) -> Vec<Target> {
        let known = self.0.entries.get(&key_of(cluster, principal));
        match known {
            Some(entry) => vec![self.target_of(&entry)],
            None => self.cluster_target(cluster),
        }
    }

    /// An entry, with what conditions ask of it.
    pub(crate) fn target_of(&self, entry: &AccessEntry) -> Target {
        targets::tagged(arn(self, entry), &entry.tags)
            .with("eks:principalArn", [entry.principal_arn.clone()])
            .with("eks:accessEntryType", [entry.kind.clone()])
            .with("eks:username", [entry.username.clone()])
            .with_all("eks:kubernetesGroups", &entry.groups)
    }

    /// Changes an entry as it is at this moment: one that was deleted does not come back by it.
    pub(crate) fn change_entry<T>(
        &self,
        cluster: &str,
        arn: &str,
        change: impl FnOnce(&mut AccessEntry) -> Result<T, Fault>,
    ) -> Result<(AccessEntry, T), Fault> {
        self.find(cluster)?;
        self.0.store.transaction(|transaction| {
            let found = transaction.get(&self.0.entries, &key_of(cluster, arn));
            let mut entry = AccessEntry::clone(&*found.ok_or_else(|| no_entry(arn))?);
            let result = change(&mut entry)?;
            transaction.put(&self.0.entries, key(&entry), entry.clone());
            Ok((entry, result))
        })
    }

    /// The API is there only in the modes that use it.
    pub(crate) fn ensure_api_mode(&self, cluster: &str) -> Result<(), Fault> {
        if self.find(cluster)?.authentication_mode == "CONFIG_MAP" {
            return Err(faults::invalid_request(
                "The cluster's authentication mode must be set to one of [API, \
                 API_AND_CONFIG_MAP] to perform this operation.",
            ));
        }
        Ok(())
    }
}

/// The entry of a cluster's creator, with the rights of an administrator.
pub(crate) fn creator(eks: &Eks, cluster: &str, caller: &Caller) -> AccessEntry {
    let mut entry = eks.entry(cluster, caller.principal_arn(), "STANDARD");
    entry.policies.push(AssociatedPolicy {
        arn: CLUSTER_ADMIN.to_owned(),
        namespaces: Vec::new(),
        associated_at: entry.created_at,
        modified_at: entry.created_at,
    });
    entry
}

/// `arn:aws:iam::ACCOUNT:role/PATH/NAME` as `arn:aws:iam::ACCOUNT:role/NAME`.
pub(crate) fn without_path(arn: &str) -> String {
    match arn.split_once(":role/") {
        Some((account, path)) => {
            let name = path.rsplit('/').next().unwrap_or(path);
            format!("{account}:role/{name}")
        }
        None => arn.to_owned(),
    }
}

fn default_username(principal_arn: &str, kind: &str) -> String {
    if kind == "FARGATE_LINUX" || kind == "HYBRID_LINUX" {
        return "system:node:{{SessionName}}".to_owned();
    }
    if NODE_TYPES.contains(&kind) {
        return "system:node:{{EC2PrivateDNSName}}".to_owned();
    }
    let parts: Vec<&str> = principal_arn.splitn(6, ':').collect();
    match (parts.get(4), parts.get(5).and_then(|it| it.strip_prefix("role/"))) {
        (Some(account), Some(path)) => {
            let name = path.rsplit('/').next().unwrap_or(path);
            format!("arn:aws:sts::{account}:assumed-role/{name}/{{{{SessionName}}}}")
        }
        _ => principal_arn.to_owned(),
    }
}

pub(crate) fn key(entry: &AccessEntry) -> String {
    key_of(&entry.cluster, &entry.principal_arn)
}

fn key_of(cluster: &str, principal_arn: &str) -> String {
    format!("{cluster}/{principal_arn}")
}

/// `access-entry/CLUSTER/role/ACCOUNT/NAME/UUID`.
pub(crate) fn arn(eks: &Eks, entry: &AccessEntry) -> String {
    let of = below(&entry.principal_arn, &entry.id);
    eks.arn(&format!("access-entry/{}/{of}", entry.cluster))
}

/// What is below the cluster in an entry's ARN: `role/111122223333/NAME/ID`.
fn below(principal_arn: &str, id: &str) -> String {
    let parts: Vec<&str> = principal_arn.splitn(6, ':').collect();
    let account = parts.get(4).copied().unwrap_or_default();
    let rest = parts.get(5).copied().unwrap_or_default();
    let (kind, path) = rest.split_once('/').unwrap_or((rest, rest));
    let name = path.rsplit('/').next().unwrap_or(path);
    format!("{kind}/{account}/{name}/{id}")
}

fn no_entry(principal_arn: &str) -> Fault {
    faults::not_found(format!(
        "The specified principalArn could not be found. You can view a list of access entries \
         with ListAccessEntries: {principal_arn}"
    ))
}

fn describe(eks: &Eks, entry: &AccessEntry) -> aws_eks::AccessEntry {
    aws_eks::AccessEntry {
        cluster_name: entry.cluster.clone(),
        principal_arn: entry.principal_arn.clone(),
        kubernetes_groups: entry.groups.clone(),
        access_entry_arn: arn(eks, entry),
        created_at: Eks::seconds(entry.created_at),
        modified_at: Eks::seconds(entry.modified_at),
        tags: entry.tags.clone(),
        username: entry.username.clone(),
        kind: entry.kind.clone(),
    }
}

/// Refuses what would let a principal pose as part of the system.
fn check_identity(username: Option<&str>, groups: &[String]) -> Result<(), Fault> {
    let is_reserved = |it: &str| RESERVED.iter().any(|prefix| it.starts_with(prefix));
    if username.is_some_and(is_reserved) {
        return Err(faults::invalid_parameter(
            "The username specified for the access entry cannot start with one of the following \
             prefixes: system:, eks:, aws:, amazon:, iam:",
        ));
    }
    match groups.iter().find(|it| is_reserved(it)) {
        None => Ok(()),
        Some(group) => Err(faults::invalid_parameter(format!(
            "The kubernetes group name {group} is invalid, it cannot start with system:, eks:, \
             aws:, amazon:, or iam:"
        ))),
    }
}

impl Handle<CreateAccessEntry> for Eks {
    fn targets(&self, _: &Caller, request: &CreateAccessEntryRequest) -> Vec<Target> {
        let kind = request.kind.clone().unwrap_or_else(|| "STANDARD".to_owned());
        let made = ("access-entry", &*below(&request.principal_arn, "*"));
        let targets = self.tagging_target(&request.cluster_name, made, &request.tags).into_iter();
        let targets = targets.map(|it| {
            it.with("eks:principalArn", [request.principal_arn.clone()])
                .with("eks:accessEntryType", [kind.clone()])
                .with_some("eks:username", request.username.clone())
                .with_all("eks:kubernetesGroups", &request.kubernetes_groups)
        });
        targets.collect()
    }

    async fn handle(
        &self,
        _: &Caller,
        request: CreateAccessEntryRequest,
    ) -> Result<CreateAccessEntryResponse, Fault> {
        self.ensure_api_mode(&request.cluster_name)?;
        let kind = request.kind.as_deref().unwrap_or("STANDARD");
        let is_node = NODE_TYPES.contains(&kind);
        if !is_node && kind != "STANDARD" {
            return Err(faults::invalid_parameter(format!("The type {kind} is not valid")));
        }
        if is_node && (request.username.is_some() || !request.kubernetes_groups.is_empty()) {
            return Err(faults::invalid_parameter(format!(
                "The username and kubernetesGroups cannot be set for an access entry of type {kind}"
            )));
        }
        if !request.principal_arn.starts_with("arn:aws:iam::") {
            return Err(faults::invalid_parameter(
                "The principalArn parameter format is not valid",
            ));
        }
        check_identity(request.username.as_deref(), &request.kubernetes_groups)?;
        let asked = Asked::of(request.client_request_token.as_ref(), &request)?;
        let mut entry = self.entry(&request.cluster_name, &request.principal_arn, kind);
        if entry.principal_id.is_none() {
            return Err(faults::invalid_parameter(
                "The specified principalArn is invalid: invalid principal.",
            ));
        }
        entry.groups = request.kubernetes_groups;
        entry.tags = request.tags;
        entry.username = request.username.unwrap_or(entry.username);
        entry.asked = asked;
        let made = self.0.store.transaction(|transaction| {
            self.known(transaction, &entry.cluster)?;
            if let Some(known) = transaction.get(&self.0.entries, &key(&entry)) {
                if Asked::made(known.asked.as_ref(), entry.asked.as_ref())? {
                    return Ok(known);
                }
                return Err(faults::in_use(
                    "The specified access entry resource is already in use on this cluster.",
                ));
            }
            transaction.put(&self.0.entries, key(&entry), entry.clone());
            Ok(Arc::new(entry))
        })?;
        Ok(CreateAccessEntryResponse { access_entry: Some(describe(self, &made)) })
    }
}

impl Handle<DescribeAccessEntry> for Eks {
    fn targets(&self, _: &Caller, request: &DescribeAccessEntryRequest) -> Vec<Target> {
        self.entry_target(&request.cluster_name, &request.principal_arn)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: DescribeAccessEntryRequest,
    ) -> Result<DescribeAccessEntryResponse, Fault> {
        self.ensure_api_mode(&request.cluster_name)?;
        let entry = self.find_entry(&request.cluster_name, &request.principal_arn)?;
        Ok(DescribeAccessEntryResponse { access_entry: Some(describe(self, &entry)) })
    }
}

impl Handle<ListAccessEntries> for Eks {
    fn targets(&self, _: &Caller, request: &ListAccessEntriesRequest) -> Vec<Target> {
        self.cluster_target(&request.cluster_name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: ListAccessEntriesRequest,
    ) -> Result<ListAccessEntriesResponse, Fault> {
        self.ensure_api_mode(&request.cluster_name)?;
        let wanted = request.associated_policy_arn.as_deref();
        let has = |it: &AccessEntry| {
            wanted.is_none_or(|arn| it.policies.iter().any(|policy| policy.arn == arn))
        };
        let all = self.0.entries.under(&format!("{}/", request.cluster_name));
        let arns =
            all.iter().filter(|(_, it)| has(it)).map(|(_, it)| it.principal_arn.clone()).collect();
        let (access_entries, next_token) =
            tags::page(arns, request.max_results, request.next_token.as_deref())?;
        Ok(ListAccessEntriesResponse { access_entries, next_token })
    }
}

impl Handle<UpdateAccessEntry> for Eks {
    /// Decided on as what it is to become: who may not give a group may not change an entry to it.
    fn targets(&self, _: &Caller, request: &UpdateAccessEntryRequest) -> Vec<Target> {
        let with = |target: Target| {
            target.with_some("eks:username", request.username.clone()).with_all(
                "eks:kubernetesGroups",
                request.kubernetes_groups.as_deref().unwrap_or(&[]),
            )
        };
        let known = self.entry_target(&request.cluster_name, &request.principal_arn);
        known.into_iter().map(with).collect()
    }

    async fn handle(
        &self,
        _: &Caller,
        request: UpdateAccessEntryRequest,
    ) -> Result<UpdateAccessEntryResponse, Fault> {
        self.ensure_api_mode(&request.cluster_name)?;
        let now = self.now();
        let (cluster, arn) = (&request.cluster_name, &request.principal_arn);
        let (entry, ()) = self.change_entry(cluster, arn, |entry| {
            if entry.kind != "STANDARD" {
                return Err(faults::invalid_request(format!(
                    "Access entries of type {} cannot be updated",
                    entry.kind
                )));
            }
            let groups = request.kubernetes_groups.unwrap_or_else(|| entry.groups.clone());
            check_identity(request.username.as_deref(), &groups)?;
            entry.groups = groups;
            if let Some(name) = request.username {
                entry.username = name;
            }
            entry.modified_at = now;
            Ok(())
        })?;
        Ok(UpdateAccessEntryResponse { access_entry: Some(describe(self, &entry)) })
    }
}

impl Handle<DeleteAccessEntry> for Eks {
    fn targets(&self, _: &Caller, request: &DeleteAccessEntryRequest) -> Vec<Target> {
        self.entry_target(&request.cluster_name, &request.principal_arn)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: DeleteAccessEntryRequest,
    ) -> Result<DeleteAccessEntryResponse, Fault> {
        self.ensure_api_mode(&request.cluster_name)?;
        self.find_entry(&request.cluster_name, &request.principal_arn)?;
        self.delete_entry(&request.cluster_name, &request.principal_arn)?;
        Ok(DeleteAccessEntryResponse {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_follows_from_the_principal_and_the_type() {
        let role = "arn:aws:iam::1:role/path/dev";
        assert_eq!(default_username("arn:aws:iam::1:user/a", "STANDARD"), "arn:aws:iam::1:user/a");
        assert_eq!(
            default_username(role, "STANDARD"),
            "arn:aws:sts::1:assumed-role/dev/{{SessionName}}"
        );
        assert_eq!(default_username(role, "EC2_LINUX"), "system:node:{{EC2PrivateDNSName}}");
    }

    #[test]
    fn nobody_becomes_part_of_the_system_by_name() {
        assert!(check_identity(Some("system:admin"), &[]).is_err());
        assert!(check_identity(None, &["system:masters".to_owned()]).is_err());
        assert!(check_identity(Some("ann"), &["viewers".to_owned()]).is_ok());
    }
}
