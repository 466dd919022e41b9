//! The service itself: its buckets, and what it asks of others.

use std::{collections::BTreeMap, sync::Arc};

use aws_wire::{Client, Fault};
use clock::Clock;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use region_gateway::Caller;
use region_store::{Bucket, OpenStoreError, Store, Transaction};

use crate::{
    FargateEndpoint,
    fargate::FargateProfile,
    faults,
    nodegroups::Nodegroup,
    records::{AccessEntry, Addon, Cluster, PodIdentityAssociation, Update},
};

/// The Kubernetes version of every control plane here.
pub const KUBERNETES_VERSION: &str = "1.36";
pub(crate) const PLATFORM_VERSION: &str = "eks.1";

/// Starts and stops control planes: a private matter of EKS, so this is a trait and no protocol.
pub trait ControlPlanes: Send + Sync + 'static {
    /// Makes sure that the cluster's control plane runs. Running it twice changes nothing.
    fn ensure<'a>(
        &'a self,
        cluster: &'a Cluster,
    ) -> BoxFuture<'a, Result<ControlPlane, ControlPlaneError>>;

    /// Stops the control plane and deletes its state. One that does not exist is no error.
    fn remove<'a>(&'a self, cluster: &'a Cluster) -> BoxFuture<'a, Result<(), ControlPlaneError>>;
}

/// A control plane that runs.
#[derive(Clone)]
pub struct ControlPlane {
    pub certificate_authority_pem: String,
    /// `https://127.0.0.1:6443`.
    pub host_endpoint: String,
    /// EKS's own way in, as an administrator.
    pub client: kube::Client,
    /// Where its API server finds [`FargateWebhook`](crate::FargateWebhook).
    pub fargate: Option<FargateEndpoint>,
}

#[derive(Debug, thiserror::Error)]
#[error("the control plane of `{cluster}` failed: {reason}")]
pub struct ControlPlaneError {
    pub cluster: String,
    pub reason: String,
}

/// What EKS asks IAM about principals.
pub trait Roles: Send + Sync + 'static {
    /// Whether the role exists and `service` may assume it.
    fn can_be_assumed(&self, role_arn: &str, service: &str) -> bool;

    /// Whether the role's trust policy names `service`, whatever its conditions are.
    fn trust(&self, role_arn: &str, service: &str) -> Trust;
    /// The same for one resource of the account (`aws:SourceArn`): a role may trust a service for
    /// some alone, against a confused deputy.
    fn can_be_assumed_for(&self, role_arn: &str, service: &str, source_arn: &str) -> bool {
        let _ = source_arn;
        self.can_be_assumed(role_arn, service)
    }

    /// The unique id of the user or role with this ARN, or of the account for its root; `None` when
    /// there is no such principal.
    fn principal_id(&self, arn: &str) -> Option<String>;
}

/// Whom a role's trust policy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    NoRole,
    /// Others than the service in question.
    Other,
    Named,
}

/// What the service is made of.
pub struct Config {
    pub account: String,
    pub region: String,
    pub clock: Clock,
    /// Calls other services as `eks.amazonaws.com`.
    pub client: Client,
    pub roles: Arc<dyn Roles>,
    /// How long new instances may take to become nodes.
    pub join_limit: std::time::Duration,
    /// How long clusters and node groups take.
    pub latency: latency::Latency,
}

/// See the module. Clones share the state.
#[derive(Clone)]
pub struct Eks(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) clusters: Bucket<Cluster>,
    pub(crate) entries: Bucket<AccessEntry>,
    pub(crate) addons: Bucket<Addon>,
    pub(crate) updates: Bucket<Update>,
    pub(crate) nodegroups: Bucket<Nodegroup>,
    pub(crate) profiles: Bucket<FargateProfile>,
    pub(crate) associations: Bucket<PodIdentityAssociation>,
    /// EKS's own clients of the clusters whose control plane runs, by name.
    pub(crate) planes: Mutex<BTreeMap<String, kube::Client>>,
}

impl Eks {
    pub fn open(store: &Store, config: Config) -> Result<Self, OpenStoreError> {
        Ok(Self(Arc::new(Inner {
            config,
            store: store.clone(),
            clusters: store.bucket("eks/clusters")?,
            entries: store.bucket("eks/access-entries")?,
            addons: store.bucket("eks/addons")?,
            updates: store.bucket("eks/updates")?,
            nodegroups: store.bucket("eks/nodegroups")?,
            profiles: store.bucket("eks/fargate-profiles")?,
            associations: store.bucket("eks/pod-identity-associations")?,
            planes: Mutex::default(),
        })))
    }

    /// Marked with each change of the region's store, of whatever service.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.store.subscribe()
    }

    /// All clusters, by name.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.0.clusters.list()
    }

    pub fn cluster(&self, name: &str) -> Option<Arc<Cluster>> {
        self.0.clusters.get(name)
    }

    /// EKS's own client of a cluster whose control plane runs.
    pub fn kubernetes(&self, cluster: &str) -> Option<kube::Client> {
        self.0.planes.lock().get(cluster).cloned()
    }

    /// The cluster, or EKS's answer that there is none.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Cluster>, Fault> {
        self.cluster(name).ok_or_else(|| faults::no_cluster(name))
    }

    pub(crate) fn arn(&self, rest: &str) -> String {
        let Config { account, region, .. } = &self.0.config;
        format!("arn:aws:eks:{region}:{account}:{rest}")
    }

    /// Seconds since 1970, as rest-json wants dates.
    pub(crate) fn seconds(at: jiff::Timestamp) -> f64 {
        at.as_duration().as_secs_f64()
    }

    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.0.config.clock.now()
    }

    /// The cluster, for what is made a part of it: one that is gone in the meantime, and made anew,
    /// must not find things in itself that were meant for the old one.
    pub(crate) fn known(
        &self,
        transaction: &Transaction,
        name: &str,
    ) -> Result<Arc<Cluster>, Fault> {
        transaction.get(&self.0.clusters, name).ok_or_else(|| faults::no_cluster(name))
    }
}

/// Whether the caller came in from a VPC: it is given the endpoint's name there.
pub(crate) fn is_in_vpc(caller: &Caller) -> bool {
    matches!(caller.source, region_gateway::Source::Vpc { .. } | region_gateway::Source::Internal)
}
