//! What the scheduler watches, with all that it never reads cut away.

use std::fmt::Debug;

use controller::{Store, StoreSpec, reflect};
use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetSpec, StatefulSet, StatefulSetSpec},
    core::v1::{
        Container, ContainerStatus, EphemeralVolumeSource, Namespace, Node, NodeStatus,
        PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, PodStatus, ReplicationController,
        ReplicationControllerSpec, Service,
    },
    policy::v1::PodDisruptionBudget,
    resource::v1::{DeviceClass, ResourceClaim, ResourceSlice},
    storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment},
};
use kube::{
    Api, Client, Resource,
    api::{ListParams, ObjectMeta},
};
use lifecycle::Scope;
use serde::de::DeserializeOwned;

/// See the module.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) pods: Store<Pod>,
    pub(crate) nodes: Store<Node>,
    pub(crate) namespaces: Store<Namespace>,
    pub(crate) services: Store<Service>,
    pub(crate) replica_sets: Store<ReplicaSet>,
    pub(crate) stateful_sets: Store<StatefulSet>,
    pub(crate) replication_controllers: Store<ReplicationController>,
    pub(crate) claims: Store<PersistentVolumeClaim>,
    pub(crate) volumes: Store<PersistentVolume>,
    pub(crate) classes: Store<StorageClass>,
    pub(crate) csi_nodes: Store<CSINode>,
    pub(crate) csi_drivers: Store<CSIDriver>,
    pub(crate) capacities: Store<CSIStorageCapacity>,
    pub(crate) attachments: Store<VolumeAttachment>,
    pub(crate) budgets: Store<PodDisruptionBudget>,
    pub(crate) resource_claims: Store<ResourceClaim>,
    pub(crate) resource_slices: Store<ResourceSlice>,
    pub(crate) device_classes: Store<DeviceClass>,
}

impl Stores {
    pub(crate) fn new(client: &Client, scope: &Scope) -> Self {
        let pods = StoreSpec::default().trim(trim_pod);
        let replica_sets = StoreSpec::default().trim(trim_replica_set);
        let stateful_sets = StoreSpec::default().trim(trim_stateful_set);
        let replication_controllers = StoreSpec::default().trim(trim_replication_controller);
        Self {
            pods: reflect(client.clone(), pods, scope),
            nodes: reflect(client.clone(), StoreSpec::default().trim(trim_node), scope),
            namespaces: reflect(client.clone(), StoreSpec::default(), scope),
            services: reflect(client.clone(), StoreSpec::default(), scope),
            replica_sets: reflect(client.clone(), replica_sets, scope),
            stateful_sets: reflect(client.clone(), stateful_sets, scope),
            replication_controllers: reflect(client.clone(), replication_controllers, scope),
            claims: reflect(client.clone(), StoreSpec::default(), scope),
            volumes: reflect(client.clone(), StoreSpec::default(), scope),
            classes: reflect(client.clone(), StoreSpec::default(), scope),
            csi_nodes: reflect(client.clone(), StoreSpec::default(), scope),
            csi_drivers: reflect(client.clone(), StoreSpec::default(), scope),
            capacities: reflect(client.clone(), StoreSpec::default(), scope),
            attachments: reflect(client.clone(), StoreSpec::default(), scope),
            budgets: reflect(client.clone(), StoreSpec::default(), scope),
            resource_claims: reflect(client.clone(), StoreSpec::default(), scope),
            resource_slices: reflect(client.clone(), StoreSpec::default(), scope),
            device_classes: reflect(client.clone(), StoreSpec::default(), scope),
        }
    }

    /// As the cluster is now, without a watch, and without those that only say how pods are spread: no
    /// node is refused for that.
    pub(crate) async fn listed(client: &Client) -> Result<Self, kube::Error> {
        Ok(Self {
            pods: list(client, StoreSpec::default().trim(trim_pod)).await?,
            nodes: list(client, StoreSpec::default().trim(trim_node)).await?,
            namespaces: list(client, StoreSpec::default()).await?,
            services: list(client, StoreSpec::default()).await?,
            replica_sets: Store::fixed(StoreSpec::default(), []),
            stateful_sets: Store::fixed(StoreSpec::default(), []),
            replication_controllers: Store::fixed(StoreSpec::default(), []),
            claims: list(client, StoreSpec::default()).await?,
            volumes: list(client, StoreSpec::default()).await?,
            classes: list(client, StoreSpec::default()).await?,
            csi_nodes: list(client, StoreSpec::default()).await?,
            csi_drivers: list(client, StoreSpec::default()).await?,
            capacities: list(client, StoreSpec::default()).await?,
            attachments: list(client, StoreSpec::default()).await?,
            budgets: list(client, StoreSpec::default()).await?,
            resource_claims: list(client, StoreSpec::default()).await?,
            resource_slices: list(client, StoreSpec::default()).await?,
            device_classes: list(client, StoreSpec::default()).await?,
        })
    }

    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        Self {
            pods: Store::fixed(StoreSpec::default(), []),
            nodes: Store::fixed(StoreSpec::default(), []),
            namespaces: Store::fixed(StoreSpec::default(), []),
            services: Store::fixed(StoreSpec::default(), []),
            replica_sets: Store::fixed(StoreSpec::default(), []),
            stateful_sets: Store::fixed(StoreSpec::default(), []),
            replication_controllers: Store::fixed(StoreSpec::default(), []),
            claims: Store::fixed(StoreSpec::default(), []),
            volumes: Store::fixed(StoreSpec::default(), []),
            classes: Store::fixed(StoreSpec::default(), []),
            csi_nodes: Store::fixed(StoreSpec::default(), []),
            csi_drivers: Store::fixed(StoreSpec::default(), []),
            capacities: Store::fixed(StoreSpec::default(), []),
            attachments: Store::fixed(StoreSpec::default(), []),
            budgets: Store::fixed(StoreSpec::default(), []),
            resource_claims: Store::fixed(StoreSpec::default(), []),
            resource_slices: Store::fixed(StoreSpec::default(), []),
            device_classes: Store::fixed(StoreSpec::default(), []),
        }
    }

    pub(crate) async fn synced(&self) {
        tokio::join!(
            self.pods.synced(),
            self.nodes.synced(),
            self.namespaces.synced(),
            self.services.synced(),
            self.replica_sets.synced(),
            self.stateful_sets.synced(),
            self.replication_controllers.synced(),
            self.claims.synced(),
            self.volumes.synced(),
            self.classes.synced(),
            self.csi_nodes.synced(),
            self.csi_drivers.synced(),
            self.capacities.synced(),
            self.attachments.synced(),
            self.budgets.synced(),
            self.resource_claims.synced(),
            self.resource_slices.synced(),
            self.device_classes.synced(),
        );
    }
}

/// A kind that the server has not (an older one has no resource claims) has no objects.
async fn list<K>(client: &Client, spec: StoreSpec<K>) -> Result<Store<K>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    match Api::<K>::all(client.clone()).list(&ListParams::default()).await {
        Ok(found) => Ok(Store::fixed(spec, found.items)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Store::fixed(spec, [])),
        Err(error) => Err(error),
    }
}

fn trim_pod(pod: &mut Pod) {
    pod.metadata.annotations = None;
    if let Some(spec) = &mut pod.spec {
        trim_spec(spec);
    }
    if let Some(status) = &mut pod.status {
        *status = PodStatus {
            allocated_resources: status.allocated_resources.take(),
            conditions: status.conditions.take(),
            container_statuses: trim_statuses(status.container_statuses.take()),
            extended_resource_claim_status: status.extended_resource_claim_status.take(),
            init_container_statuses: trim_statuses(status.init_container_statuses.take()),
            nominated_node_name: status.nominated_node_name.take(),
            phase: status.phase.take(),
            resource_claim_statuses: status.resource_claim_statuses.take(),
            resources: status.resources.take(),
            start_time: status.start_time.take(),
            ..PodStatus::default()
        };
    }
}

/// What containers have is read while it is changed.
fn trim_statuses(statuses: Option<Vec<ContainerStatus>>) -> Option<Vec<ContainerStatus>> {
    let told = statuses.into_iter().flatten().filter(|it| it.resources.is_some());
    let trimmed: Vec<_> = told
        .map(|it| ContainerStatus {
            allocated_resources: it.allocated_resources,
            name: it.name,
            resources: it.resources,
            ..ContainerStatus::default()
        })
        .collect();
    (!trimmed.is_empty()).then_some(trimmed)
}

fn trim_spec(spec: &mut PodSpec) {
    let containers = spec.containers.iter_mut();
    for container in containers.chain(spec.init_containers.iter_mut().flatten()) {
        *container = Container {
            image: container.image.take(),
            name: std::mem::take(&mut container.name),
            ports: container.ports.take(),
            resources: container.resources.take(),
            restart_policy: container.restart_policy.take(),
            ..Container::default()
        };
    }
    if let Some(volumes) = &mut spec.volumes {
        volumes.retain(|it| it.persistent_volume_claim.is_some() || it.ephemeral.is_some());
        for volume in volumes {
            // The claim's name is made of the volume's; what it is made from is of no interest.
            volume.ephemeral = volume.ephemeral.take().map(|_| EphemeralVolumeSource::default());
        }
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
        volumes: spec.volumes.take(),
        ..PodSpec::default()
    };
    if let Some(affinity) = &mut spec.affinity {
        affinity.node_affinity = None;
    }
    spec.containers.iter_mut().for_each(|it| it.image = None);
    spec.init_containers.iter_mut().flatten().for_each(|it| it.image = None);
}

fn named(meta: &mut ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: meta.name.take(),
        namespace: meta.namespace.take(),
        resource_version: meta.resource_version.take(),
        uid: meta.uid.take(),
        ..ObjectMeta::default()
    }
}

/// Of those that make pods only their selectors are read.
fn trim_replica_set(set: &mut ReplicaSet) {
    let selector = set.spec.take().map(|it| it.selector).unwrap_or_default();
    set.spec = Some(ReplicaSetSpec { selector, ..ReplicaSetSpec::default() });
    (set.metadata, set.status) = (named(&mut set.metadata), None);
}

fn trim_stateful_set(set: &mut StatefulSet) {
    let selector = set.spec.take().map(|it| it.selector).unwrap_or_default();
    set.spec = Some(StatefulSetSpec { selector, ..StatefulSetSpec::default() });
    (set.metadata, set.status) = (named(&mut set.metadata), None);
}

fn trim_replication_controller(it: &mut ReplicationController) {
    let selector = it.spec.take().and_then(|it| it.selector);
    it.spec = Some(ReplicationControllerSpec { selector, ..Default::default() });
    (it.metadata, it.status) = (named(&mut it.metadata), None);
}

/// The kubelet rewrites the conditions' heartbeat all the time.
fn trim_node(node: &mut Node) {
    node.metadata.annotations = None;
    if let Some(status) = &mut node.status {
        *status = NodeStatus {
            allocatable: status.allocatable.take(),
            capacity: status.capacity.take(),
            images: status.images.take(),
            ..NodeStatus::default()
        };
    }
}
