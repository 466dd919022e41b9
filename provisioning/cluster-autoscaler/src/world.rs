//! What is observed, as values: nothing in here asks anybody.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{Node, Pod},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use scheduling::PodInfo;

use crate::options::GroupOptions;

/// The cluster and its groups at one moment.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub nodes: Vec<Arc<Node>>,
    /// Those that have a node and have not ended.
    pub placed: Vec<PodFact>,
    /// Those that the scheduler found no node for.
    pub pending: Vec<PodFact>,
    pub groups: Vec<Group>,
    pub budgets: Vec<Arc<PodDisruptionBudget>>,
    pub daemon_sets: Vec<Arc<DaemonSet>>,
    /// What controls pods; `None` where nobody looks.
    pub controllers: Option<Controllers>,
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// By kind, namespace and name: how many replicas it wants, where it wants any number of them.
pub type Controllers = BTreeMap<(&'static str, String, String), Option<i32>>;

/// Whether a pod has run to its end: nothing of it is on its node any more.
pub(crate) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A pod, and what the predicates need to know about it.
#[derive(Clone, Debug)]
pub struct PodFact {
    pub pod: Arc<Pod>,
    pub info: Arc<PodInfo>,
}

impl PodFact {
    pub fn new(pod: Pod) -> Self {
        let info = Arc::new(PodInfo::new(&pod));
        Self { pod: Arc::new(pod), info }
    }

    pub fn node(&self) -> Option<&str> {
        self.pod.spec.as_ref()?.node_name.as_deref().filter(|it| !it.is_empty())
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.info.namespace, self.info.name)
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// The kind and UID of what controls it.
    pub fn controller(&self) -> Option<(&str, &str)> {
        self.owner().map(|it| (it.kind.as_str(), it.uid.as_str()))
    }

    /// What controls it.
    pub fn owner(&self) -> Option<&OwnerReference> {
        let owners = self.pod.metadata.owner_references.iter().flatten();
        owners.into_iter().find(|it| it.controller == Some(true))
    }

    pub fn is_of_daemon_set(&self) -> bool {
        self.controller().is_some_and(|(kind, _)| kind == "DaemonSet")
            || self.annotation("cluster-autoscaler.kubernetes.io/daemonset-pod") == Some("true")
    }

    pub fn is_mirror(&self) -> bool {
        self.annotation("kubernetes.io/config.mirror").is_some()
    }
}

/// A group that is scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub name: String,
    pub min: i64,
    pub max: i64,
    /// Its desired capacity.
    pub target: i64,
    pub instances: Vec<Instance>,
    /// What a new node will be, as the cloud's facts tell; a live node knows better.
    pub blueprint: Option<Arc<Node>>,
    pub options: GroupOptions,
    /// The newest launch that failed, while the group lacks instances.
    pub failure: Option<Failure>,
}

/// An instance of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// As a Node's `spec.providerID` has it.
    pub provider_id: String,
    /// It is on its way out.
    pub is_terminating: bool,
}

/// A launch that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub at: Timestamp,
    pub message: String,
}

impl Group {
    /// Instances that are wanted and were not launched yet.
    pub fn missing(&self) -> i64 {
        let there = self.instances.iter().filter(|it| !it.is_terminating).count();
        (self.target - i64::try_from(there).unwrap_or(i64::MAX)).max(0)
    }

    pub fn has(&self, provider_id: &str) -> bool {
        self.instances.iter().any(|it| it.provider_id == provider_id)
    }
}

impl World {
    /// The group that a node's instance belongs to.
    pub fn group_of(&self, node: &Node) -> Option<&Group> {
        let id = node.spec.as_ref()?.provider_id.as_deref()?;
        self.groups.iter().find(|it| it.has(id))
    }

    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|it| it.name == name)
    }
}
