//! What the API server says, and the world that it makes.
//!
//! Pending are the pods that the scheduler has found no place for, and those of nodes that are about
//! to go. Taints that go by themselves (of a node that is not ready yet, and startup taints) do not
//! count on a node that is not initialized.
//!
//! Upstream: `pkg/controllers/state`, `pkg/utils/pod/scheduling.go` of kubernetes-sigs/karpenter.

pub(crate) mod attach;
mod volumes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api_kube::karpenter::{NodeClaim, NodePool, annotations, labels, taints};
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1 as core,
        policy::v1::PodDisruptionBudget,
        storage::v1::{CSINode, StorageClass},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use resources::{Amounts, node_allocatable, node_capacity};
use scheduling::{HostPort, PodInfo};

use self::attach::Attachments;
use crate::{
    class,
    requirement::Requirements,
    validate::faults,
    world::{InstanceType, MinValues, Node, Pool, Preferences, Used, World},
};

/// Objects of the API server, or of manifests.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub pools: Vec<NodePool>,
    pub claims: Vec<NodeClaim>,
    pub nodes: Vec<core::Node>,
    pub pods: Vec<core::Pod>,
    pub daemon_sets: Vec<DaemonSet>,
    pub namespaces: Vec<core::Namespace>,
    pub volumes: Vec<core::PersistentVolume>,
    pub volume_claims: Vec<core::PersistentVolumeClaim>,
    pub storage_classes: Vec<StorageClass>,
    pub csi_nodes: Vec<CSINode>,
    pub budgets: Vec<PodDisruptionBudget>,
    /// Nodes that pods are on their way to: they are left alone.
    pub nominated: BTreeSet<String>,
    /// What becomes of the pods' preferences.
    pub preferences: Preferences,
    /// What becomes of `minValues` that are not to be had.
    pub min_values: MinValues,
}

/// Which unbound pods are pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Those of which the scheduler says that they are unschedulable.
    Unschedulable,
    /// All: nobody has tried them yet.
    Unbound,
}

/// Taints that go by themselves.
const EPHEMERAL: [&str; 5] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.cloudprovider.kubernetes.io/uninitialized",
    taints::UNREGISTERED,
    "node.kubernetes.io/network-unavailable",
];

/// How those begin that others take away when a node is ready for them.
const READINESS: &str = "readiness.k8s.io/";

impl Snapshot {
    /// The world in which the pending pods look for a place. `types` gives a pool's instance types;
    /// a pool without (its class is not ready) takes no part, nor does a static one or one with
    /// [`faults`].
    pub fn world(
        &self,
        types: impl Fn(&NodePool) -> Option<Arc<[InstanceType]>>,
        pending: Pending,
    ) -> World {
        let pools = self.pools.iter().filter(|it| {
            let is_dynamic = it.spec.replicas.is_none();
            is_dynamic && it.metadata.deletion_timestamp.is_none() && faults(it).is_empty()
        });
        let pools = pools.filter_map(|it| Some(Pool::new(it, types(it)?, self.used(it.name()))));
        let daemons: Vec<_> = self.daemon_sets.iter().map(daemon).collect();
        let by_node = self.pods_by_node();
        let attachments = Attachments::new(self, None);
        let staying = self.nodes.iter().filter(|it| !is_going(it));
        let mut nodes: Vec<Node> =
            staying.map(|it| self.node(it, &by_node, &daemons, attachments.as_ref())).collect();
        nodes.extend(self.on_the_way().map(|it| {
            let mut node = coming(it, &daemons);
            if let Some(attachments) = &attachments {
                attachments.allow(&node.name, &[], &mut node.allocatable);
            }
            node
        }));
        World {
            pools: pools.collect(),
            nodes,
            pods: self.pending(pending).map(|it| self.info(it)).collect(),
            daemons: daemons.into_iter().map(|(_, it)| it).collect(),
            namespaces: self
                .namespaces
                .iter()
                .map(|it| {
                    let labels = it.metadata.labels.clone().unwrap_or_default();
                    (it.metadata.name.clone().unwrap_or_default(), labels)
                })
                .collect(),
            preferences: self.preferences,
            min_values: self.min_values,
        }
    }

    /// What the nodes of a pool have together.
    pub fn used(&self, pool: &str) -> Used {
        let mut used = Used::default();
        for node in self.nodes.iter().filter(|it| label(it, labels::NODE_POOL) == Some(pool)) {
            used.amounts.add(&node_capacity(node));
            used.nodes += 1;
        }
        for claim in self.on_the_way() {
            let of = claim.metadata.labels.as_ref().and_then(|it| it.get(labels::NODE_POOL));
            if of.is_some_and(|it| it == pool) {
                let capacity = claim.status.as_ref().map(|it| &it.capacity);
                used.amounts.add(&Amounts::from_list(capacity));
                used.nodes += 1;
            }
        }
        used
    }

    /// Claims with an instance that has not joined yet.
    fn on_the_way(&self) -> impl Iterator<Item = &NodeClaim> {
        self.claims.iter().filter(|claim| {
            let provider = claim.status.as_ref().and_then(|it| it.provider_id.as_deref());
            let has_joined = self.nodes.iter().any(|node| {
                node.spec.as_ref().and_then(|it| it.provider_id.as_deref()) == provider
            });
            claim.metadata.deletion_timestamp.is_none() && provider.is_some() && !has_joined
        })
    }

    pub(crate) fn pods_by_node(&self) -> BTreeMap<&str, Vec<&core::Pod>> {
        let mut by_node: BTreeMap<&str, Vec<&core::Pod>> = BTreeMap::new();
        for pod in self.pods.iter().filter(|it| !is_over(it)) {
            let name = pod.spec.as_ref().and_then(|it| it.node_name.as_deref());
            if let Some(name) = name.filter(|it| !it.is_empty()) {
                by_node.entry(name).or_default().push(pod);
            }
        }
        by_node
    }

    /// The pods that look for a place.
    pub fn pending(&self, pending: Pending) -> impl Iterator<Item = &core::Pod> {
        let going: Vec<&str> = self
            .nodes
            .iter()
            .filter(|it| is_going(it))
            .filter_map(|it| it.metadata.name.as_deref())
            .collect();
        self.pods.iter().filter(move |pod| {
            let node = pod.spec.as_ref().and_then(|it| it.node_name.as_deref());
            match node.filter(|it| !it.is_empty()) {
                None => is_pending(pod, pending),
                Some(node) => going.contains(&node) && is_reschedulable(pod),
            }
        })
    }

    /// The pod with what is known of its volumes.
    pub fn info(&self, pod: &core::Pod) -> Arc<PodInfo> {
        let mut info = PodInfo::new(pod);
        info.volumes = volumes::facts(self, pod);
        let attachments = (!info.claims.is_empty()).then(|| Attachments::new(self, Some(pod)));
        if let Some(attachments) = attachments.flatten() {
            attachments.request(pod, &mut info.requests);
        }
        Arc::new(info)
    }

    fn node(
        &self,
        node: &core::Node,
        by_node: &BTreeMap<&str, Vec<&core::Pod>>,
        daemons: &[(String, Arc<PodInfo>)],
        attachments: Option<&Attachments<'_>>,
    ) -> Node {
        let name = node.metadata.name.clone().unwrap_or_default();
        let mut labels = node.metadata.labels.clone().unwrap_or_default();
        let is_initialized = is_initialized(node);
        // What the claim says is on the node before long.
        let claim = self.claims.iter().find(|it| {
            let known = it.status.as_ref().and_then(|it| it.provider_id.as_deref());
            known.is_some() && known == node.spec.as_ref().and_then(|it| it.provider_id.as_deref())
        });
        for (key, value) in claim.and_then(|it| it.metadata.labels.as_ref()).into_iter().flatten() {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        let pods: Vec<&core::Pod> = by_node.get(name.as_str()).cloned().unwrap_or_default();
        let taints = self.lasting_taints(node, is_initialized);
        let (reserved, ports) = reserved(&labels, &taints, &pods, daemons);
        let mut allocatable = node_allocatable(node);
        let with_volumes = |pod: &&core::Pod| {
            let mut info = PodInfo::new(pod);
            if let Some(attachments) = attachments {
                attachments.request(pod, &mut info.requests);
            }
            Arc::new(info)
        };
        if let Some(attachments) = attachments {
            attachments.allow(&name, &pods, &mut allocatable);
        }
        Node {
            taints,
            allocatable,
            pods: pods.iter().map(with_volumes).collect(),
            reserved,
            ports,
            is_initialized,
            name,
            labels,
        }
    }

    /// Without those that go by themselves.
    fn lasting_taints(&self, node: &core::Node, is_initialized: bool) -> Vec<core::Taint> {
        let all = node.spec.as_ref().and_then(|it| it.taints.clone()).unwrap_or_default();
        if is_initialized {
            return all;
        }
        let pool = self.pools.iter().find(|it| label(node, labels::NODE_POOL) == Some(it.name()));
        let startup = pool.map_or(&[][..], |it| &it.spec.template.spec.startup_taints);
        let goes = |taint: &core::Taint| {
            EPHEMERAL.contains(&taint.key.as_str())
                || taint.key.starts_with(READINESS)
                || startup.iter().any(|it| it.key == taint.key && it.effect == taint.effect)
        };
        all.into_iter().filter(|it| !goes(it)).collect()
    }
}

/// The node that a claim will be.
fn coming(claim: &NodeClaim, daemons: &[(String, Arc<PodInfo>)]) -> Node {
    let name = claim.name().to_owned();
    let mut all = claim.metadata.labels.clone().unwrap_or_default();
    all.insert(labels::HOSTNAME.to_owned(), name.clone());
    let taints = claim.spec.taints.clone();
    let allocatable = claim.status.as_ref().map(|it| &it.allocatable);
    let (reserved, ports) = reserved(&all, &taints, &[], daemons);
    Node {
        reserved,
        ports,
        allocatable: Amounts::from_list(allocatable),
        labels: all,
        name,
        taints,
        pods: Vec::new(),
        is_initialized: false,
    }
}

pub(crate) fn label<'a>(node: &'a core::Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// Whether a node is ready for pods: nobody else's needs Karpenter's label for that.
pub(crate) fn is_initialized(node: &core::Node) -> bool {
    match label(node, labels::NODE_POOL) {
        Some(_) => label(node, labels::INITIALIZED) == Some("true"),
        None => true,
    }
}

/// Whether a node is about to go.
pub(crate) fn is_going(node: &core::Node) -> bool {
    let taints = node.spec.as_ref().and_then(|it| it.taints.as_deref()).unwrap_or_default();
    node.metadata.deletion_timestamp.is_some()
        || taints.iter().any(|it| it.key == taints::DISRUPTED)
}

/// Whether it has ended.
pub(crate) fn is_over(pod: &core::Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn owner<'a>(pod: &'a core::Pod, kind: &str) -> Option<&'a OwnerReference> {
    pod.metadata.owner_references.as_ref()?.iter().find(|it| it.kind == kind)
}

/// Whether the pod would be made anew elsewhere when its node goes.
pub fn is_reschedulable(pod: &core::Pod) -> bool {
    let is_leaving = pod.metadata.deletion_timestamp.is_some();
    let comes_back = !is_leaving || owner(pod, "StatefulSet").is_some();
    !is_over(pod) && comes_back && !is_of_node(pod)
}

/// Whether the pod belongs to its node: a DaemonSet's, or the kubelet's own.
pub(crate) fn is_of_node(pod: &core::Pod) -> bool {
    owner(pod, "DaemonSet").is_some() || owner(pod, "Node").is_some()
}

fn is_pending(pod: &core::Pod, pending: Pending) -> bool {
    let status = pod.status.as_ref();
    let mut conditions = status.and_then(|it| it.conditions.as_deref()).unwrap_or_default().iter();
    let is_refused = conditions.any(|it| {
        it.type_ == "PodScheduled"
            && it.status == "False"
            && it.reason.as_deref() == Some("Unschedulable")
    });
    let is_nominated =
        status.and_then(|it| it.nominated_node_name.as_deref()).is_some_and(|it| !it.is_empty());
    let is_alive = !is_over(pod) && pod.metadata.deletion_timestamp.is_none();
    let is_tried = pending == Pending::Unbound || (is_refused && !is_nominated);
    is_alive && is_tried && !is_of_node(pod)
}

/// Whether its owner asks that it is left alone.
pub(crate) fn do_not_disrupt(annotations: Option<&BTreeMap<String, String>>) -> Option<&str> {
    annotations?.get(annotations::DO_NOT_DISRUPT).map(String::as_str)
}

/// A DaemonSet's name with the pod that it makes on a node.
fn daemon(set: &DaemonSet) -> (String, Arc<PodInfo>) {
    let template = set.spec.as_ref().map(|it| it.template.clone()).unwrap_or_default();
    let mut metadata = template.metadata.unwrap_or_default();
    metadata.namespace.clone_from(&set.metadata.namespace);
    metadata.name.clone_from(&set.metadata.name);
    let mut spec = template.spec.unwrap_or_default();
    // The controller's own: its pods are there before the node is ready.
    let mut tolerations = spec.tolerations.take().unwrap_or_default();
    tolerations.extend(EPHEMERAL.map(|key| core::Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        ..Default::default()
    }));
    spec.tolerations = Some(tolerations);
    let pod = core::Pod { metadata, spec: Some(spec), status: None };
    let name = set.metadata.name.clone().unwrap_or_default();
    (name, PodInfo::shared(&pod))
}

/// What daemons will take on a node that are not there yet, and which of its ports.
fn reserved(
    labels: &BTreeMap<String, String>,
    taints: &[core::Taint],
    pods: &[&core::Pod],
    daemons: &[(String, Arc<PodInfo>)],
) -> (Amounts, Vec<HostPort>) {
    let (mut reserved, mut ports) = (Amounts::default(), Vec::new());
    for (name, daemon) in daemons {
        let is_there = pods.iter().any(|it| {
            owner(it, "DaemonSet").is_some_and(|it| it.name == *name)
                && it.metadata.namespace.as_deref() == Some(daemon.namespace.as_str())
        });
        let selector = Requirements::from_labels(&daemon.node_selector);
        let terms = daemon.required_nodes.as_deref();
        let is_wanted = selector.accept(labels)
            && terms
                .is_none_or(|it| it.iter().any(|it| Requirements::from_term(it).accept(labels)))
            && class::tolerates(taints, &daemon.tolerations, true);
        if is_wanted && !is_there {
            reserved.add(&daemon.requests);
            ports.extend(daemon.host_ports.iter().cloned());
        }
    }
    (reserved, ports)
}

#[cfg(test)]
mod tests;
