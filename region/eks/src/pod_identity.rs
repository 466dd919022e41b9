//! Pod Identity associations: which IAM role the pods of a service account have.
//!
//! There is at most one per namespace and service account, so that is its key. EKS Auth reads them
//! through [`Eks::pod_identity_association`]; the webhook that prepares pods, through
//! [`Eks::has_pod_identity_association`].
//!
//! Upstream: EKS user guide, "Learn how EKS Pod Identity grants pods access to AWS services".
//! Deviation: an association holds at once; on EKS it may take seconds.

pub(crate) mod validate;

use aws_eks::{
    CreatePodIdentityAssociation, CreatePodIdentityAssociationRequest,
    CreatePodIdentityAssociationResponse, DeletePodIdentityAssociation,
    DeletePodIdentityAssociationRequest, DeletePodIdentityAssociationResponse,
    DescribePodIdentityAssociation, DescribePodIdentityAssociationRequest,
    DescribePodIdentityAssociationResponse, ListPodIdentityAssociations,
    ListPodIdentityAssociationsRequest, ListPodIdentityAssociationsResponse,
    PodIdentityAssociationSummary, UpdatePodIdentityAssociation,
    UpdatePodIdentityAssociationRequest, UpdatePodIdentityAssociationResponse,
};
use aws_wire::Fault;
use jiff::Timestamp;
use region_gateway::{Caller, Handle, Target};

use crate::{
    Eks, faults,
    records::{Asked, PodIdentityAssociation},
    tags,
};

/// The service that assumes the roles.
pub const SERVICE: &str = "pods.eks.amazonaws.com";

/// EKS's quota.
const MOST_PER_CLUSTER: usize = 5000;

impl Eks {
    /// The association of a service account.
    pub fn pod_identity_association(
        &self,
        cluster: &str,
        namespace: &str,
        service_account: &str,
    ) -> Option<PodIdentityAssociation> {
        let found = self.0.associations.get(&key_of(cluster, namespace, service_account))?;
        Some((*found).clone())
    }

    /// Whether pods of this service account are to ask the agent for credentials.
    pub fn has_pod_identity_association(
        &self,
        cluster: &str,
        namespace: &str,
        service_account: &str,
    ) -> bool {
        self.0.associations.contains(&key_of(cluster, namespace, service_account))
    }

    /// `podidentityassociation/CLUSTER/ID`.
    pub fn pod_identity_association_arn(&self, association: &PodIdentityAssociation) -> String {
        self.association_arn(&association.cluster, &association.id)
    }

    fn association_arn(&self, cluster: &str, id: &str) -> String {
        self.arn(&format!("podidentityassociation/{cluster}/{id}"))
    }

    fn find_association(&self, cluster: &str, id: &str) -> Result<PodIdentityAssociation, Fault> {
        self.find(cluster)?;
        let all = self.0.associations.under(&format!("{cluster}/"));
        let found = all.into_iter().map(|(_, it)| it).find(|it| it.id == id);
        found.map(|it| (*it).clone()).ok_or_else(|| no_association(id))
    }

    fn association_target(&self, cluster: &str, id: &str) -> Target {
        let known = self.find_association(cluster, id).ok();
        let tags = known.as_ref().map(|it| it.tags.iter()).into_iter().flatten();
        Target::resource(self.association_arn(cluster, id))
            .with_tags("aws:ResourceTag", tags.map(|(key, value)| (key.as_str(), value.as_str())))
    }

    /// The one that the same call made before, or the refusal to make a second one.
    fn made_before(
        known: &PodIdentityAssociation,
        asked: Option<&Asked>,
    ) -> Result<PodIdentityAssociation, Fault> {
        match Asked::made(known.asked.as_ref(), asked)? {
            true => Ok(known.clone()),
            false => Err(faults::in_use(format!("Association already exists: {}", known.id))),
        }
    }

    pub(crate) fn new_association(
        &self,
        request: CreatePodIdentityAssociationRequest,
        asked: Option<Asked>,
    ) -> PodIdentityAssociation {
        let now = self.now();
        let target_role_arn = request.target_role_arn.filter(|it| !it.is_empty());
        PodIdentityAssociation {
            cluster: request.cluster_name,
            id: format!("a-{}", entropy::name_suffix(17)),
            namespace: request.namespace,
            service_account: request.service_account,
            role_arn: request.role_arn,
            external_id: target_role_arn.as_ref().map(|_| entropy::uuid()),
            target_role_arn,
            disable_session_tags: request.disable_session_tags.unwrap_or(false),
            policy: request.policy.filter(|it| !it.is_empty()),
            tags: request.tags,
            owner_arn: None,
            created_at: now,
            modified_at: now,
            asked,
        }
    }
}

fn no_association(id: &str) -> Fault {
    faults::not_found(format!("The specified association ID could not be found: {id}"))
}

pub(crate) fn key(association: &PodIdentityAssociation) -> String {
    key_of(&association.cluster, &association.namespace, &association.service_account)
}

fn key_of(cluster: &str, namespace: &str, service_account: &str) -> String {
    format!("{cluster}/{namespace}/{service_account}")
}

fn describe(eks: &Eks, association: &PodIdentityAssociation) -> aws_eks::PodIdentityAssociation {
    let it = association.clone();
    aws_eks::PodIdentityAssociation {
        association_arn: eks.pod_identity_association_arn(association),
        cluster_name: it.cluster,
        namespace: it.namespace,
        service_account: it.service_account,
        role_arn: it.role_arn,
        association_id: it.id,
        tags: it.tags,
        created_at: Eks::seconds(it.created_at),
        modified_at: Eks::seconds(it.modified_at),
        owner_arn: it.owner_arn,
        disable_session_tags: Some(it.disable_session_tags),
        target_role_arn: it.target_role_arn,
        external_id: it.external_id,
        policy: it.policy,
    }
}

fn summary(eks: &Eks, association: &PodIdentityAssociation) -> PodIdentityAssociationSummary {
    PodIdentityAssociationSummary {
        cluster_name: association.cluster.clone(),
        namespace: association.namespace.clone(),
        service_account: association.service_account.clone(),
        association_arn: eks.pod_identity_association_arn(association),
        association_id: association.id.clone(),
        owner_arn: association.owner_arn.clone(),
    }
}

/// Whoever hands a role to pods must be allowed to, and to look at it.
pub(crate) fn role_targets(role_arn: &str) -> [Target; 2] {
    [Target::action("iam:GetRole", role_arn), Target::pass_role(role_arn, SERVICE)]
}

impl Handle<CreatePodIdentityAssociation> for Eks {
    fn targets(&self, _: &Caller, request: &CreatePodIdentityAssociationRequest) -> Vec<Target> {
        let mut targets = self.tagging_target(
            &request.cluster_name,
            ("podidentityassociation", "*"),
            &request.tags,
        );
        targets.extend(role_targets(&request.role_arn));
        targets
    }

    async fn handle(
        &self,
        _: &Caller,
        request: CreatePodIdentityAssociationRequest,
    ) -> Result<CreatePodIdentityAssociationResponse, Fault> {
        self.find(&request.cluster_name)?;
        validate::new(self, &request)?;
        let asked = Asked::of(request.client_request_token.as_ref(), &request)?;
        let new = self.new_association(request, asked);
        let made = self.0.store.transaction(|transaction| {
            self.known(transaction, &new.cluster)?;
            if let Some(known) = transaction.get(&self.0.associations, &key(&new)) {
                return Self::made_before(&known, new.asked.as_ref());
            }
            let prefix = format!("{}/", new.cluster);
            if self.0.associations.under(&prefix).len() >= MOST_PER_CLUSTER {
                return Err(faults::limit_exceeded(format!(
                    "The limit of {MOST_PER_CLUSTER} associations per cluster is reached."
                )));
            }
            transaction.put(&self.0.associations, key(&new), new.clone());
            Ok(new)
        })?;
        Ok(CreatePodIdentityAssociationResponse { association: Some(describe(self, &made)) })
    }
}

impl Handle<DescribePodIdentityAssociation> for Eks {
    fn targets(&self, _: &Caller, request: &DescribePodIdentityAssociationRequest) -> Vec<Target> {
        vec![self.association_target(&request.cluster_name, &request.association_id)]
    }

    async fn handle(
        &self,
        _: &Caller,
        request: DescribePodIdentityAssociationRequest,
    ) -> Result<DescribePodIdentityAssociationResponse, Fault> {
        let found = self.find_association(&request.cluster_name, &request.association_id)?;
        Ok(DescribePodIdentityAssociationResponse { association: Some(describe(self, &found)) })
    }
}

impl Handle<ListPodIdentityAssociations> for Eks {
    fn targets(&self, _: &Caller, request: &ListPodIdentityAssociationsRequest) -> Vec<Target> {
        self.cluster_target(&request.cluster_name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: ListPodIdentityAssociationsRequest,
    ) -> Result<ListPodIdentityAssociationsResponse, Fault> {
        self.find(&request.cluster_name)?;
        let (namespace, account) = (&request.namespace, &request.service_account);
        let is_meant = |it: &PodIdentityAssociation| {
            namespace.as_ref().is_none_or(|name| *name == it.namespace)
                && account.as_ref().is_none_or(|name| *name == it.service_account)
        };
        let all = self.0.associations.under(&format!("{}/", request.cluster_name));
        let found: Vec<_> = all.into_iter().map(|(_, it)| it).filter(|it| is_meant(it)).collect();
        let ids = found.iter().map(|it| it.id.clone()).collect();
        let (page, next_token) =
            tags::page(ids, request.max_results, request.next_token.as_deref())?;
        let shown = |id: &String| found.iter().find(|it| it.id == *id).map(|it| summary(self, it));
        let associations = page.iter().filter_map(shown).collect();
        Ok(ListPodIdentityAssociationsResponse { associations, next_token })
    }
}

/// The association as an update wants it.
fn updated(
    known: &PodIdentityAssociation,
    request: UpdatePodIdentityAssociationRequest,
    now: Timestamp,
) -> Result<PodIdentityAssociation, Fault> {
    let mut association = known.clone();
    if let Some(role_arn) = request.role_arn {
        association.role_arn = role_arn;
    }
    if let Some(target) = request.target_role_arn {
        let is_none = target.is_empty();
        let known = association.external_id.take();
        association.external_id = (!is_none).then(|| known.unwrap_or_else(entropy::uuid));
        association.target_role_arn = (!is_none).then_some(target);
    }
    if let Some(is_on) = request.disable_session_tags {
        association.disable_session_tags = is_on;
    }
    if let Some(policy) = request.policy {
        association.policy = Some(policy).filter(|it| !it.is_empty());
    }
    validate::policy(association.policy.as_deref(), association.disable_session_tags)?;
    association.modified_at = now;
    Ok(association)
}

impl Handle<UpdatePodIdentityAssociation> for Eks {
    /// Also an update that names no role hands it out: what limits the role in the pods (the policy,
    /// the session tags) may be what changes.
    fn targets(&self, _: &Caller, request: &UpdatePodIdentityAssociationRequest) -> Vec<Target> {
        let (cluster, id) = (&request.cluster_name, &request.association_id);
        let mut targets = vec![self.association_target(cluster, id)];
        let known = self.find_association(cluster, id).ok().map(|it| it.role_arn);
        let role = request.role_arn.clone().or(known);
        targets.extend(role.iter().flat_map(|it| role_targets(it)));
        targets
    }

    async fn handle(
        &self,
        caller: &Caller,
        request: UpdatePodIdentityAssociationRequest,
    ) -> Result<UpdatePodIdentityAssociationResponse, Fault> {
        let (cluster, id) = (request.cluster_name.clone(), request.association_id.clone());
        if let Some(role_arn) = &request.role_arn {
            validate::role(self, role_arn)?;
        }
        if let Some(target) = &request.target_role_arn {
            validate::target_role(target)?;
        }
        self.find(&cluster)?;
        let now = self.now();
        let association = self.0.store.transaction(|transaction| {
            let all = transaction.list(&self.0.associations);
            let known = all.iter().find(|it| it.cluster == cluster && it.id == id);
            let known = known.ok_or_else(|| no_association(&id))?;
            // Who asked was decided on for the role that it had then.
            if request.role_arn.is_none() && known.modified_at > caller.at {
                return Err(faults::invalid_request(format!(
                    "The association {id} was changed at the same time. Try again."
                )));
            }
            let association = updated(known, request, now)?;
            transaction.put(&self.0.associations, key(&association), association.clone());
            Ok::<_, Fault>(association)
        })?;
        let association = Some(describe(self, &association));
        Ok(UpdatePodIdentityAssociationResponse { association })
    }
}

impl Handle<DeletePodIdentityAssociation> for Eks {
    fn targets(&self, _: &Caller, request: &DeletePodIdentityAssociationRequest) -> Vec<Target> {
        vec![self.association_target(&request.cluster_name, &request.association_id)]
    }

    async fn handle(
        &self,
        _: &Caller,
        request: DeletePodIdentityAssociationRequest,
    ) -> Result<DeletePodIdentityAssociationResponse, Fault> {
        let found = self.find_association(&request.cluster_name, &request.association_id)?;
        self.0.store.transaction(|transaction| {
            // One that was made anew in the meantime is another one.
            let known = transaction.get(&self.0.associations, &key(&found));
            if known.is_some_and(|it| it.id == found.id) {
                transaction.delete(&self.0.associations, &key(&found));
            }
            Ok::<_, Fault>(())
        })?;
        Ok(DeletePodIdentityAssociationResponse { association: Some(describe(self, &found)) })
    }
}
