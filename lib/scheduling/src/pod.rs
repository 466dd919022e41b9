//! A pod as the predicates see it: everything parsed once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{NodeSelectorTerm, Pod, PodAffinityTerm, PodSpec, Toleration},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::core::{Expression, Selector, SelectorExt};
use resources::{Amounts, pod_nonzero_requests, pod_requests};

use crate::{CsiFact, DeviceFact, Profile, VolumeFact, label_sets::LabelSet};

/// See the module.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub priority: i32,
    pub is_terminating: bool,
    /// When it started (or was made): younger pods are preempted first.
    pub started: Timestamp,
    pub requests: Amounts,
    pub nonzero_requests: Amounts,
    pub host_ports: Vec<HostPort>,
    /// Of each container, with its tag.
    pub images: Vec<String>,
    pub node_name: Option<String>,
    pub node_selector: BTreeMap<String, String>,
    /// `None`: no required node affinity. An empty list matches no node.
    pub required_nodes: Option<Vec<NodeSelectorTerm>>,
    pub preferred_nodes: Vec<(i64, NodeSelectorTerm)>,
    pub tolerations: Vec<Toleration>,
    pub affinity: Vec<Term>,
    pub anti_affinity: Vec<Term>,
    pub preferred_affinity: Vec<(i64, Term)>,
    pub preferred_anti_affinity: Vec<(i64, Term)>,
    pub spread: Vec<Spread>,
    /// Selects the siblings (its Service's, ReplicaSet's, StatefulSet's pods), for the cluster's
    /// default spreading. Given by the caller.
    pub siblings: Option<Selector>,
    /// What it is scheduled by. Given by the caller.
    pub profile: Arc<Profile>,
    /// The claims of volumes that it uses, by name.
    pub claims: Vec<String>,
    /// Those of them that one pod at a time may have (`ReadWriteOncePod`). Given by the caller.
    pub exclusive_claims: Vec<String>,
    /// What is known of its volumes. Given by the caller.
    pub volumes: Vec<VolumeFact>,
    /// How many volumes its nodes may have attached. Given by the caller where it matters.
    pub csi: Option<Arc<CsiFact>>,
    /// What is known of its claims of devices. Given by the caller.
    pub devices: Option<DeviceFact>,
    /// Extended resources that devices are claimed for where a node does not offer them. Given by the
    /// caller.
    pub device_resources: BTreeSet<String>,
    pub may_preempt: bool,
}

/// A port on the node. An empty address stands for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    pub address: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    /// Whether two pods with these ports cannot share a node.
    pub fn collides_with(&self, other: &Self) -> bool {
        let is_any = |address: &str| address.is_empty() || address == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (is_any(&self.address) || is_any(&other.address) || self.address == other.address)
    }
}

/// One term of pod affinity or anti-affinity.
#[derive(Clone, Debug)]
pub struct Term {
    pub topology_key: String,
    selector: Option<Selector>,
    namespaces: Vec<String>,
    namespace_selector: Option<Selector>,
}

/// Labels of namespaces, by name.
pub(crate) type NamespaceLabels = BTreeMap<String, BTreeMap<String, String>>;

impl Term {
    pub(crate) fn matches(&self, set: &LabelSet, namespaces: &NamespaceLabels) -> bool {
        self.selects(&set.namespace, &set.labels, namespaces)
    }

    /// Whether the term is about a pod in this namespace with these labels.
    pub fn selects(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        namespaces: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> bool {
        let Some(selector) = &self.selector else { return false };
        let is_in_namespace = self.namespaces.iter().any(|it| it == namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                static NONE: BTreeMap<String, String> = BTreeMap::new();
                selector.matches(namespaces.get(namespace).unwrap_or(&NONE))
            });
        is_in_namespace && selector.matches(labels)
    }

    fn new(term: &PodAffinityTerm, pod: &Pod) -> Self {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let mut selector = parse(term.label_selector.as_ref());
        let mut narrow = |keys: &Option<Vec<String>>, negate: bool| {
            for key in keys.iter().flatten() {
                let (Some(value), Some(selector)) = (labels.get(key), &mut selector) else {
                    continue;
                };
                let values = [value.clone()].into();
                selector.extend([if negate {
                    Expression::NotIn(key.clone(), values)
                } else {
                    Expression::In(key.clone(), values)
                }]);
            }
        };
        narrow(&term.match_label_keys, false);
        narrow(&term.mismatch_label_keys, true);
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.extend(pod.metadata.namespace.clone());
        }
        Self {
            topology_key: term.topology_key.clone(),
            selector,
            namespaces,
            namespace_selector: parse(term.namespace_selector.as_ref()),
        }
    }
}

/// One topology spread constraint.
#[derive(Clone, Debug)]
pub struct Spread {
    pub topology_key: String,
    pub max_skew: i64,
    pub min_domains: usize,
    /// `DoNotSchedule`, as opposed to `ScheduleAnyway`.
    pub is_hard: bool,
    pub selector: Selector,
    pub honors_node_affinity: bool,
    pub honors_taints: bool,
}

impl PodInfo {
    pub fn new(pod: &Pod) -> Self {
        let default = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&default);
        let meta = &pod.metadata;
        let started = pod.status.as_ref().and_then(|it| it.start_time.as_ref());
        let started = started.or(meta.creation_timestamp.as_ref());
        let mut info = Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or(0),
            is_terminating: meta.deletion_timestamp.is_some(),
            started: started.map_or(Timestamp::UNIX_EPOCH, |it| it.0),
            requests: pod_requests(pod),
            nonzero_requests: pod_nonzero_requests(pod),
            host_ports: host_ports(spec),
            images: images(spec),
            node_name: spec.node_name.clone().filter(|it| !it.is_empty()),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            required_nodes: None,
            preferred_nodes: Vec::new(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            affinity: Vec::new(),
            anti_affinity: Vec::new(),
            preferred_affinity: Vec::new(),
            preferred_anti_affinity: Vec::new(),
            spread: spread(pod, spec),
            siblings: None,
            profile: Profile::shared(),
            claims: claims(pod),
            exclusive_claims: Vec::new(),
            volumes: Vec::new(),
            csi: None,
            devices: None,
            device_resources: BTreeSet::new(),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
        };
        info.read_affinity(pod, spec);
        info
    }

    fn read_affinity(&mut self, pod: &Pod, spec: &PodSpec) {
        let Some(affinity) = &spec.affinity else { return };
        let terms = |list: &Option<Vec<PodAffinityTerm>>| {
            list.iter().flatten().map(|it| Term::new(it, pod)).collect::<Vec<_>>()
        };
        if let Some(node) = &affinity.node_affinity {
            let required = node.required_during_scheduling_ignored_during_execution.as_ref();
            self.required_nodes = required.map(|it| it.node_selector_terms.clone());
            let preferred = node.preferred_during_scheduling_ignored_during_execution.iter();
            self.preferred_nodes = preferred
                .flatten()
                .map(|it| (i64::from(it.weight), it.preference.clone()))
                .collect();
        }
        if let Some(it) = &affinity.pod_affinity {
            self.affinity = terms(&it.required_during_scheduling_ignored_during_execution);
            let preferred = it.preferred_during_scheduling_ignored_during_execution.iter();
            self.preferred_affinity = preferred
                .flatten()
                .map(|it| (i64::from(it.weight), Term::new(&it.pod_affinity_term, pod)))
                .collect();
        }
        if let Some(it) = &affinity.pod_anti_affinity {
            self.anti_affinity = terms(&it.required_during_scheduling_ignored_during_execution);
            let preferred = it.preferred_during_scheduling_ignored_during_execution.iter();
            self.preferred_anti_affinity = preferred
                .flatten()
                .map(|it| (i64::from(it.weight), Term::new(&it.pod_affinity_term, pod)))
                .collect();
        }
    }

    pub(crate) fn label_set(&self) -> LabelSet {
        LabelSet { namespace: self.namespace.clone(), labels: self.labels.clone() }
    }

    pub(crate) fn has_affinity(&self) -> bool {
        !(self.affinity.is_empty()
            && self.preferred_affinity.is_empty()
            && self.preferred_anti_affinity.is_empty()
            && self.anti_affinity.is_empty())
    }

    /// The info of a placed pod, for sharing between caches.
    pub fn shared(pod: &Pod) -> Arc<Self> {
        Arc::new(Self::new(pod))
    }
}

fn parse(selector: Option<&LabelSelector>) -> Option<Selector> {
    selector?.clone().try_into().ok()
}

/// The names of the claims of its volumes; that of a generic ephemeral volume is made of the pod's name
/// and the volume's.
fn claims(pod: &Pod) -> Vec<String> {
    let own = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|it| it.volumes.iter().flatten());
    let names = volumes.filter_map(|it| match &it.persistent_volume_claim {
        Some(claim) => Some(claim.claim_name.clone()),
        None => it.ephemeral.as_ref().map(|_| format!("{own}-{}", it.name)),
    });
    names.collect()
}

fn images(spec: &PodSpec) -> Vec<String> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let images = containers.filter_map(|it| it.image.as_deref());
    let named = images.map(|it| {
        let has_tag = it.rfind(':') > it.rfind('/');
        if has_tag { it.to_owned() } else { format!("{it}:latest") }
    });
    named.collect()
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let is_sidecar = |restart: &Option<String>| restart.as_deref() == Some("Always");
    let sidecars =
        spec.init_containers.iter().flatten().filter(|it| is_sidecar(&it.restart_policy));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|it| it.ports.iter().flatten());
    let ports = ports.filter_map(|it| {
        let port = it.host_port.filter(|port| *port > 0)?;
        let protocol = it.protocol.clone().unwrap_or_else(|| "TCP".into());
        Some(HostPort { address: it.host_ip.clone().unwrap_or_default(), protocol, port })
    });
    ports.collect()
}

fn spread(pod: &Pod, spec: &PodSpec) -> Vec<Spread> {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let constraints = spec.topology_spread_constraints.iter().flatten().filter_map(|it| {
        // Upstream: a missing selector selects no pods.
        let mut selector = match &it.label_selector {
            None => Selector::from_iter([Expression::In(String::new(), [].into())]),
            some => parse(some.as_ref())?,
        };
        for key in it.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector.extend([Expression::In(key.clone(), [value.clone()].into())]);
            }
        }
        Some(Spread {
            topology_key: it.topology_key.clone(),
            max_skew: i64::from(it.max_skew),
            min_domains: it.min_domains.and_then(|it| usize::try_from(it).ok()).unwrap_or(1),
            is_hard: it.when_unsatisfiable == "DoNotSchedule",
            selector,
            honors_node_affinity: it.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: it.node_taints_policy.as_deref() == Some("Honor"),
        })
    });
    constraints.collect()
}
