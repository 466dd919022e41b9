//! Fargate profiles: made, described, listed, deleted.
//!
//! A profile says which new pods Fargate is to run. Fargate itself is not built: such a pod is handed to
//! `fargate-scheduler` as on EKS ([`admission`]), nobody runs it, and an event on it says so
//! ([`pending`]); the profile's health says the same.
//!
//! Upstream: EKS user guide, "Define which Pods use AWS Fargate when launched".
//! Deviation: no pods run on Fargate. A pod is not given a priority class and no annotation about
//! logging, and no access entry is made for the execution role, as no node would use them.

pub(crate) mod admission;
pub(crate) mod pending;
pub(crate) mod reconcile;
pub(crate) mod selector;
mod validate;

use std::{collections::BTreeMap, sync::Arc};

use aws_eks::{
    CreateFargateProfile, CreateFargateProfileRequest, CreateFargateProfileResponse,
    DeleteFargateProfile, DeleteFargateProfileRequest, DeleteFargateProfileResponse,
    DescribeFargateProfile, DescribeFargateProfileRequest, DescribeFargateProfileResponse,
    FargateProfile as Described, FargateProfileHealth, FargateProfileIssue, FargateProfileSelector,
    ListFargateProfiles, ListFargateProfilesResponse, ListOfClusterRequest,
};
use aws_wire::Fault;
use jiff::Timestamp;
use region_gateway::{Caller, Handle, Target};
use serde::{Deserialize, Serialize};

use crate::{
    Eks, faults,
    records::{Asked, Cluster},
    tags,
};

/// Who assumes a profile's role.
const SERVICE: &str = "eks-fargate-pods.amazonaws.com";
/// EKS's quota.
const MOST_PER_CLUSTER: usize = 10;
/// What is the matter with every profile here.
const NOT_BUILT: &str = "This region runs no pods on Fargate: pods that this profile selects stay \
                         Pending. Delete the profile, and make them anew, to have nodes run them.";

/// A Fargate profile. Its key is `CLUSTER/NAME`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct FargateProfile {
    pub cluster: String,
    pub name: String,
    pub id: String,
    pub role_arn: String,
    pub subnets: Vec<String>,
    pub selectors: Vec<Selector>,
    pub state: State,
    pub created_at: Timestamp,
    pub tags: BTreeMap<String, String>,
    pub asked: Option<Asked>,
}

/// See [`selector`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Selector {
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum State {
    Creating,
    Active,
    Deleting,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Deleting => "DELETING",
        }
    }
}

fn key_of(cluster: &str, name: &str) -> String {
    format!("{cluster}/{name}")
}

pub(crate) fn key(profile: &FargateProfile) -> String {
    key_of(&profile.cluster, &profile.name)
}

pub(crate) fn arn(eks: &Eks, profile: &FargateProfile) -> String {
    eks.arn(&format!("fargateprofile/{}/{}/{}", profile.cluster, profile.name, profile.id))
}

impl Eks {
    /// By name.
    pub(crate) fn fargate_profiles(&self, cluster: &str) -> Vec<Arc<FargateProfile>> {
        let all = self.0.profiles.under(&format!("{cluster}/"));
        all.into_iter().map(|(_, it)| it).collect()
    }

    fn find_profile(&self, cluster: &str, name: &str) -> Result<Arc<FargateProfile>, Fault> {
        self.find(cluster)?;
        self.0.profiles.get(&key_of(cluster, name)).ok_or_else(|| {
            faults::not_found(format!("No Fargate Profile found with name: {name}."))
                .with_field("clusterName", cluster)
                .with_field("fargateProfileName", name)
        })
    }

    fn profile_target(&self, cluster: &str, name: &str) -> Vec<Target> {
        let known = self.find_profile(cluster, name).ok();
        let arn = known.as_ref().map_or_else(
            || self.arn(&format!("fargateprofile/{cluster}/{name}/*")),
            |it| arn(self, it),
        );
        let tags = known.iter().flat_map(|it| &it.tags);
        let tags = tags.map(|(key, value)| (key.as_str(), value.as_str()));
        vec![Target::resource(arn).with_tags("aws:ResourceTag", tags)]
    }
}

fn describe(eks: &Eks, profile: &FargateProfile) -> Described {
    let selector = |it: &Selector| FargateProfileSelector {
        namespace: Some(it.namespace.clone()),
        labels: it.labels.clone(),
    };
    let issue = FargateProfileIssue {
        code: Some("InternalFailure".to_owned()),
        message: Some(NOT_BUILT.to_owned()),
        resource_ids: Vec::new(),
    };
    Described {
        fargate_profile_name: Some(profile.name.clone()),
        fargate_profile_arn: Some(arn(eks, profile)),
        cluster_name: Some(profile.cluster.clone()),
        created_at: Some(Eks::seconds(profile.created_at)),
        pod_execution_role_arn: Some(profile.role_arn.clone()),
        subnets: profile.subnets.clone(),
        selectors: profile.selectors.iter().map(selector).collect(),
        status: Some(profile.state.name().to_owned()),
        tags: profile.tags.clone(),
        health: Some(FargateProfileHealth { issues: vec![issue] }),
    }
}

/// What keeps another profile from being made or deleted: one at a time.
fn busy(all: &[Arc<FargateProfile>], cluster: &Cluster, what: &str) -> Result<(), Fault> {
    match all.iter().find(|it| it.state != State::Active) {
        None => Ok(()),
        Some(other) => Err(faults::in_use(format!(
            "Cannot {what} because cluster {} currently has Fargate profile {} in status {}",
            cluster.name,
            other.name,
            other.state.name()
        ))
        .with_field("clusterName", cluster.name.as_str())),
    }
}

impl Handle<CreateFargateProfile> for Eks {
    fn targets(&self, _: &Caller, request: &CreateFargateProfileRequest) -> Vec<Target> {
        let role = &request.pod_execution_role_arn;
        let made = ("fargateprofile", &*format!("{}/*", request.fargate_profile_name));
        let mut targets = self.tagging_target(&request.cluster_name, made, &request.tags);
        targets.extend([Target::action("iam:GetRole", role), Target::pass_role(role, SERVICE)]);
        targets
    }

    async fn handle(
        &self,
        _: &Caller,
        request: CreateFargateProfileRequest,
    ) -> Result<CreateFargateProfileResponse, Fault> {
        let cluster = self.find(&request.cluster_name)?;
        let asked = Asked::of(request.client_request_token.as_ref(), &request)?;
        let known = self.0.profiles.get(&key_of(&cluster.name, &request.fargate_profile_name));
        if let Some(known) = &known
            && Asked::made(known.asked.as_ref(), asked.as_ref())?
        {
            return Ok(CreateFargateProfileResponse {
                fargate_profile: Some(describe(self, known)),
            });
        }
        let id = entropy::uuid();
        let (selectors, subnets) = validate::create(self, &cluster, &request, &id).await?;
        let profile = FargateProfile {
            cluster: cluster.name.clone(),
            name: request.fargate_profile_name,
            id,
            role_arn: request.pod_execution_role_arn,
            subnets,
            selectors,
            state: State::Creating,
            created_at: self.now(),
            tags: request.tags,
            asked,
        };
        let made = self.0.store.transaction(|transaction| {
            // It may have begun to go while its subnets were looked at, and the same call come again.
            let current = transaction
                .get(&self.0.clusters, &cluster.name)
                .ok_or_else(|| faults::no_cluster(&cluster.name))?;
            validate::active(&current)?;
            let all = self.fargate_profiles(&cluster.name);
            if let Some(known) = transaction.get(&self.0.profiles, &key(&profile)) {
                if Asked::made(known.asked.as_ref(), profile.asked.as_ref())? {
                    return Ok(known);
                }
                return Err(faults::in_use(
                    "A Fargate Profile already exists with this name in this cluster.",
                )
                .with_field("clusterName", cluster.name.as_str()));
            }
            busy(&all, &cluster, &format!("create Fargate Profile {}", profile.name))?;
            if all.len() >= MOST_PER_CLUSTER {
                return Err(faults::limit_exceeded(format!(
                    "The limit of {MOST_PER_CLUSTER} Fargate profiles per cluster is reached."
                )));
            }
            transaction.put(&self.0.profiles, key(&profile), profile.clone());
            Ok(Arc::new(profile))
        })?;
        Ok(CreateFargateProfileResponse { fargate_profile: Some(describe(self, &made)) })
    }
}

impl Handle<DescribeFargateProfile> for Eks {
    fn targets(&self, _: &Caller, request: &DescribeFargateProfileRequest) -> Vec<Target> {
        self.profile_target(&request.cluster_name, &request.fargate_profile_name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: DescribeFargateProfileRequest,
    ) -> Result<DescribeFargateProfileResponse, Fault> {
        let found = self.find_profile(&request.cluster_name, &request.fargate_profile_name)?;
        Ok(DescribeFargateProfileResponse { fargate_profile: Some(describe(self, &found)) })
    }
}

impl Handle<ListFargateProfiles> for Eks {
    fn targets(&self, _: &Caller, request: &ListOfClusterRequest) -> Vec<Target> {
        self.cluster_target(&request.cluster_name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: ListOfClusterRequest,
    ) -> Result<ListFargateProfilesResponse, Fault> {
        self.find(&request.cluster_name)?;
        let all = self.fargate_profiles(&request.cluster_name);
        let names = all.iter().map(|it| it.name.clone()).collect();
        let (fargate_profile_names, next_token) =
            tags::page(names, request.max_results, request.next_token.as_deref())?;
        Ok(ListFargateProfilesResponse { fargate_profile_names, next_token })
    }
}

impl Handle<DeleteFargateProfile> for Eks {
    fn targets(&self, _: &Caller, request: &DeleteFargateProfileRequest) -> Vec<Target> {
        self.profile_target(&request.cluster_name, &request.fargate_profile_name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: DeleteFargateProfileRequest,
    ) -> Result<DeleteFargateProfileResponse, Fault> {
        let cluster = self.find(&request.cluster_name)?;
        let found = self.find_profile(&request.cluster_name, &request.fargate_profile_name)?;
        self.0.store.transaction(|transaction| {
            let others: Vec<_> = self.fargate_profiles(&cluster.name);
            let others: Vec<_> = others.into_iter().filter(|it| it.name != found.name).collect();
            busy(&others, &cluster, &format!("delete Fargate Profile {}", found.name))?;
            transaction.update(&self.0.profiles, &key(&found), |it| it.state = State::Deleting);
            Ok::<_, Fault>(())
        })?;
        let leaving = FargateProfile { state: State::Deleting, ..(*found).clone() };
        Ok(DeleteFargateProfileResponse { fargate_profile: Some(describe(self, &leaving)) })
    }
}
