//! What a new node of a group will be: a live node of it made anonymous, or the cloud's blueprint;
//! and the pods that will be on it from the start.

use std::sync::Arc;

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, Pod, Toleration},
};
use resources::{Amounts, node_allocatable, node_capacity};
use scheduling::{Cluster, PodInfo, Reason, Verdict, filter_node};

use crate::{
    node,
    options::Options,
    world::{Group, World},
};

const HOSTNAME: &str = "kubernetes.io/hostname";

/// See the module.
#[derive(Clone, Debug)]
pub struct Template {
    pub node: Node,
    pub pods: Vec<Arc<PodInfo>>,
    pub allocatable: Amounts,
    pub capacity: Amounts,
}

impl Template {
    /// None for a group without a usable node whose instance type nobody knows.
    pub fn of(world: &World, group: &Group, options: &Options) -> Option<Self> {
        let live = world.nodes.iter().filter(|it| {
            node::provider_id(it).is_some_and(|id| group.has(id))
                && node::is_ready(it, &options.startup_taints)
                && !node::has_taint(it, node::TO_BE_DELETED)
        });
        // Any will do; always the same one, so that a pass is repeatable.
        let live = live.min_by_key(|it| node::name(it));
        match (live, &group.blueprint) {
            (Some(live), _) => Some(Self::of_live(world, group, live, options)),
            (None, Some(blueprint)) => {
                let node = anonymous(blueprint, group, options);
                let pods = daemons(world, &node, &[]);
                Some(Self::new(node, pods))
            }
            (None, None) => None,
        }
    }

    fn of_live(world: &World, group: &Group, live: &Node, options: &Options) -> Self {
        let name = node::name(live);
        let on_it = world.placed.iter().filter(|it| it.node() == Some(name));
        let stays = on_it.filter(|it| it.is_of_daemon_set() || it.is_mirror());
        let stays: Vec<_> = stays.filter(|it| !it.info.is_terminating).collect();
        let node = anonymous(live, group, options);
        let mut pods: Vec<_> = stays.iter().map(|it| rename(&it.info, None)).collect();
        if options.force_daemon_sets {
            let owners: Vec<_> = stays.iter().filter_map(|it| it.controller()).collect();
            let owners: Vec<_> = owners.iter().map(|(_, uid)| *uid).collect();
            pods.extend(daemons(world, &node, &owners));
        }
        Self::new(node, pods)
    }

    fn new(node: Node, pods: Vec<Arc<PodInfo>>) -> Self {
        let (allocatable, capacity) = (node_allocatable(&node), node_capacity(&node));
        Self { node, pods, allocatable, capacity }
    }

    /// Puts one more node like this into a cluster.
    pub fn add_to(&self, cluster: &mut Cluster, name: &str) {
        let mut node = self.node.clone();
        node.metadata.name = Some(name.to_owned());
        let labels = node.metadata.labels.get_or_insert_default();
        labels.insert(HOSTNAME.to_owned(), name.to_owned());
        cluster.set_node(&node);
        for (index, pod) in self.pods.iter().enumerate() {
            cluster.set_pod(name, rename(pod, Some(&format!("{name}/{index}"))));
        }
    }
}

/// Another pod just like it, on no node in particular.
fn rename(pod: &PodInfo, uid: Option<&str>) -> Arc<PodInfo> {
    let mut renamed = pod.clone();
    renamed.node_name = None;
    if let Some(uid) = uid {
        uid.clone_into(&mut renamed.uid);
    }
    Arc::new(renamed)
}

fn anonymous(node: &Node, group: &Group, options: &Options) -> Node {
    let mut made = node.clone();
    let name = format!("template-node-for-{}", group.name);
    made.metadata.labels.get_or_insert_default().insert(HOSTNAME.to_owned(), name.clone());
    made.metadata.name = Some(name);
    made.metadata.uid = None;
    let spec = made.spec.get_or_insert_default();
    spec.provider_id = None;
    spec.unschedulable = None;
    spec.taints = Some(node::lasting_taints(node, &options.startup_taints, &options.status_taints));
    made
}

/// The pods that DaemonSets will put on it, but for those whose UIDs are given.
fn daemons(world: &World, node: &Node, without: &[&str]) -> Vec<Arc<PodInfo>> {
    let mut cluster = Cluster::default();
    cluster.set_node(node);
    let sets = world.daemon_sets.iter();
    let wanted =
        sets.filter(|it| it.metadata.uid.as_deref().is_none_or(|uid| !without.contains(&uid)));
    let pods = wanted.filter_map(|set| {
        let pod = daemon(set)?;
        let verdict = filter_node(&cluster, &pod, node::name(node))?;
        // That it is too big for the node does not keep the controller from making it.
        let is_size = |it: &Reason| matches!(it, Reason::Insufficient { .. } | Reason::TooManyPods);
        let belongs = verdict == Verdict::Fits || verdict.reasons().iter().all(is_size);
        belongs.then(|| Arc::new(pod))
    });
    pods.collect()
}

fn daemon(set: &DaemonSet) -> Option<PodInfo> {
    let template = &set.spec.as_ref()?.template;
    let mut pod =
        Pod { metadata: template.metadata.clone()?, spec: template.spec.clone(), status: None };
    pod.metadata.namespace.clone_from(&set.metadata.namespace);
    pod.metadata.name.clone_from(&set.metadata.name);
    let tolerations = pod.spec.as_mut()?.tolerations.get_or_insert_default();
    // As the DaemonSet controller adds them.
    for key in ["not-ready", "unreachable", "disk-pressure", "memory-pressure", "unschedulable"] {
        tolerations.push(Toleration {
            key: Some(format!("node.kubernetes.io/{key}")),
            operator: Some("Exists".to_owned()),
            ..Toleration::default()
        });
    }
    Some(PodInfo::new(&pod))
}
