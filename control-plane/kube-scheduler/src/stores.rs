//! What the scheduler watches, with all that it never reads cut away.

use controller::{Store, StoreSpec, reflect};
use k8s_openapi::api::{
    core::v1::{
        Container, Namespace, Node, NodeStatus, PersistentVolume, PersistentVolumeClaim, Pod,
        PodSpec, PodStatus, Service,
    },
    policy::v1::PodDisruptionBudget,
    resource::v1::{DeviceClass, ResourceClaim, ResourceSlice},
    storage::v1::StorageClass,
};
use kube::Client;
use lifecycle::Scope;

/// See the module.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) pods: Store<Pod>,
    pub(crate) nodes: Store<Node>,
    pub(crate) namespaces: Store<Namespace>,
    pub(crate) services: Store<Service>,
    pub(crate) claims: Store<PersistentVolumeClaim>,
    pub(crate) volumes: Store<PersistentVolume>,
    pub(crate) classes: Store<StorageClass>,
    pub(crate) budgets: Store<PodDisruptionBudget>,
    pub(crate) resource_claims: Store<ResourceClaim>,
    pub(crate) resource_slices: Store<ResourceSlice>,
    pub(crate) device_classes: Store<DeviceClass>,
}

impl Stores {
    pub(crate) fn new(client: &Client, scope: &Scope) -> Self {
        let pods = StoreSpec::default().trim(trim_pod);
        Self {
            pods: reflect(client.clone(), pods, scope),
            nodes: reflect(client.clone(), StoreSpec::default().trim(trim_node), scope),
            namespaces: reflect(client.clone(), StoreSpec::default(), scope),
            services: reflect(client.clone(), StoreSpec::default(), scope),
            claims: reflect(client.clone(), StoreSpec::default(), scope),
            volumes: reflect(client.clone(), StoreSpec::default(), scope),
            classes: reflect(client.clone(), StoreSpec::default(), scope),
            budgets: reflect(client.clone(), StoreSpec::default(), scope),
            resource_claims: reflect(client.clone(), StoreSpec::default(), scope),
            resource_slices: reflect(client.clone(), StoreSpec::default(), scope),
            device_classes: reflect(client.clone(), StoreSpec::default(), scope),
        }
    }

    pub(crate) async fn synced(&self) {
        tokio::join!(
            self.pods.synced(),
            self.nodes.synced(),
            self.namespaces.synced(),
            self.services.synced(),
            self.claims.synced(),
            self.volumes.synced(),
            self.classes.synced(),
            self.budgets.synced(),
            self.resource_claims.synced(),
            self.resource_slices.synced(),
            self.device_classes.synced(),
        );
    }
}

fn trim_pod(pod: &mut Pod) {
    pod.metadata.annotations = None;
    if let Some(spec) = &mut pod.spec {
        trim_spec(spec);
    }
    if let Some(status) = &mut pod.status {
        *status = PodStatus {
            conditions: status.conditions.take(),
            nominated_node_name: status.nominated_node_name.take(),
            phase: status.phase.take(),
            resource_claim_statuses: status.resource_claim_statuses.take(),
            start_time: status.start_time.take(),
            ..PodStatus::default()
        };
    }
}

fn trim_spec(spec: &mut PodSpec) {
    let containers = spec.containers.iter_mut();
    for container in containers.chain(spec.init_containers.iter_mut().flatten()) {
        *container = Container {
            name: std::mem::take(&mut container.name),
            ports: container.ports.take(),
            resources: container.resources.take(),
            restart_policy: container.restart_policy.take(),
            ..Container::default()
        };
    }
    if let Some(volumes) = &mut spec.volumes {
        volumes.retain(|it| it.persistent_volume_claim.is_some() || it.ephemeral.is_some());
    }
    let is_placed = spec.node_name.as_ref().is_some_and(|it| !it.is_empty());
    if is_placed {
        trim_placed(spec);
    }
}

/// A pod that has its node takes room there and attracts or repels others; where else it might have
/// gone is of no interest any more.
fn trim_placed(spec: &mut PodSpec) {
    *spec = PodSpec {
        affinity: spec.affinity.take(),
        containers: std::mem::take(&mut spec.containers),
        init_containers: spec.init_containers.take(),
        node_name: spec.node_name.take(),
        overhead: spec.overhead.take(),
        priority: spec.priority.take(),
        resources: spec.resources.take(),
        scheduler_name: spec.scheduler_name.take(),
        ..PodSpec::default()
    };
    if let Some(affinity) = &mut spec.affinity {
        affinity.node_affinity = None;
    }
}

/// The kubelet rewrites the conditions' heartbeat and the list of images all the time.
fn trim_node(node: &mut Node) {
    node.metadata.annotations = None;
    if let Some(status) = &mut node.status {
        *status = NodeStatus {
            allocatable: status.allocatable.take(),
            capacity: status.capacity.take(),
            ..NodeStatus::default()
        };
    }
}
