//! What every part of the kubelet works with.

use std::sync::Arc;

use clock::Clock;
use kube::Client;
use lifecycle::Scope;
use tokio::sync::watch;

use crate::{
    allocation::Allocations,
    cgroups::Cgroups,
    cm::ContainerManager,
    cri::Runtime,
    dns::ClusterDns,
    downward::Facts,
    events::Recorder,
    heartbeat::Heartbeat,
    images::Images,
    metrics::Metrics,
    node::{Pressure, capacity::Machine},
    node_object::NodeObject,
    objects::Objects,
    pace::Pace,
    paths::Paths,
    pod_starts::PodStarts,
    probes::Probes,
    runtime_features::Handlers,
    services::Services,
    settings::Settings,
    status::manager::Statuses,
    timeline::Timelines,
    turns::Turns,
    userns::UserNamespaces,
    volumes::Volumes,
};

pub(crate) struct Context {
    pub settings: Settings,
    pub clock: Clock,
    pub pace: Pace,
    pub scope: Scope,
    pub client: Client,
    pub runtime: Runtime,
    pub recorder: Recorder,
    pub objects: Arc<Objects>,
    pub services: Arc<Services>,
    pub volumes: Volumes,
    pub images: Arc<Images>,
    pub cgroups: Cgroups,
    pub cm: Arc<ContainerManager>,
    pub statuses: Arc<Statuses>,
    pub timelines: Timelines,
    pub probes: Arc<Probes>,
    pub starts: Arc<PodStarts>,
    /// Of those who make sandboxes.
    pub turns: Turns,
    pub heartbeat: Arc<Heartbeat>,
    pub paths: Paths,
    pub machine: Machine,
    pub network: watch::Sender<Network>,
    /// What the runtime's handlers can do; `None` until it has been asked.
    pub handlers: watch::Sender<Option<Handlers>>,
    pub user_namespaces: UserNamespaces,
    /// What the node is short of.
    pub pressure: watch::Sender<Pressure>,
    pub is_shutting_down: watch::Sender<bool>,
    /// Whether the pods of `staticPodURL`, where there is one, are known.
    pub knows_url_pods: watch::Sender<bool>,
    pub metrics: Arc<Metrics>,
    pub node_object: Arc<NodeObject>,
    pub allocations: Allocations,
    pub node_ips: Vec<std::net::IpAddr>,
}

/// What is known of the runtime and its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// The runtime has not been asked yet.
    Unknown,
    Ready,
    NotReady(String),
}

impl Context {
    pub(crate) fn cluster_dns(&self) -> ClusterDns {
        ClusterDns {
            servers: self.settings.config.cluster_dns.clone(),
            domain: self.settings.config.cluster_domain.clone(),
        }
    }

    /// What the downward API tells of this node, and of a pod with these addresses.
    pub(crate) fn facts(&self, pod_ips: &[std::net::IpAddr]) -> Facts {
        let allocatable = self.machine.allocatable(&self.settings.config);
        Facts {
            pod_ips: pod_ips.to_vec(),
            host_ips: self.node_ips.clone(),
            allocatable_cpu_milli: allocatable.cpu_milli,
            allocatable_memory: allocatable.memory,
            allocatable_storage: allocatable.storage,
        }
    }
}
