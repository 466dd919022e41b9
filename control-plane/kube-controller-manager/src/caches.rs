//! What the controllers watch: one store per kind, shared by all of them.
//!
//! **Invariant:** a full object from a cache is never written back, because parts of it were cut
//! away; controllers patch what they mean to change.

use controller::{Store, StoreSpec, object, reflect};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::{CronJob, Job},
    certificates::v1::CertificateSigningRequest,
    coordination::v1::Lease,
    core::v1::{
        ConfigMap, Container, ContainerStatus, Endpoints, Namespace, Node, PersistentVolume,
        PersistentVolumeClaim, Pod, PodSpec, PodStatus, ReplicationController, ResourceQuota,
        Secret, Service, ServiceAccount,
    },
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
    rbac::v1::ClusterRole,
    resource::v1::{ResourceClaim, ResourceClaimTemplate},
    storage::v1::{CSIDriver, StorageClass, VolumeAttachment, VolumeAttributesClass},
};
use kube::{Client, Resource};
use lifecycle::Scope;

/// The index of objects by the UID of their controller, or by [`orphans_of`] a namespace.
pub(crate) const BY_OWNER: &str = "owner";
/// The index of pods and attachments by the node that they are on.
pub(crate) const BY_NODE: &str = "node";
/// The index of attachments by the persistent volume.
pub(crate) const BY_VOLUME: &str = "volume";
/// The index of endpoint slices by their Service.
pub(crate) const BY_SERVICE: &str = "service";

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const ROOT_CA: &str = "kube-root-ca.crt";

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Caches {
    pub(crate) pods: Store<Pod>,
    pub(crate) nodes: Store<Node>,
    pub(crate) leases: Store<Lease>,
    pub(crate) namespaces: Store<Namespace>,
    pub(crate) services: Store<Service>,
    pub(crate) service_accounts: Store<ServiceAccount>,
    /// Those that hold tokens of service accounts, and no others.
    pub(crate) token_secrets: Store<Secret>,
    pub(crate) root_cas: Store<ConfigMap>,
    pub(crate) endpoints: Store<Endpoints>,
    pub(crate) endpoint_slices: Store<EndpointSlice>,
    pub(crate) deployments: Store<Deployment>,
    pub(crate) replica_sets: Store<ReplicaSet>,
    pub(crate) replication_controllers: Store<ReplicationController>,
    pub(crate) daemon_sets: Store<DaemonSet>,
    pub(crate) stateful_sets: Store<StatefulSet>,
    pub(crate) revisions: Store<ControllerRevision>,
    pub(crate) autoscalers: Store<HorizontalPodAutoscaler>,
    pub(crate) jobs: Store<Job>,
    pub(crate) cron_jobs: Store<CronJob>,
    pub(crate) claims: Store<PersistentVolumeClaim>,
    pub(crate) volumes: Store<PersistentVolume>,
    pub(crate) storage_classes: Store<StorageClass>,
    pub(crate) attributes_classes: Store<VolumeAttributesClass>,
    pub(crate) csi_drivers: Store<CSIDriver>,
    pub(crate) attachments: Store<VolumeAttachment>,
    pub(crate) quotas: Store<ResourceQuota>,
    pub(crate) budgets: Store<PodDisruptionBudget>,
    pub(crate) requests: Store<CertificateSigningRequest>,
    pub(crate) cluster_roles: Store<ClusterRole>,
    pub(crate) resource_claims: Store<ResourceClaim>,
    pub(crate) resource_claim_templates: Store<ResourceClaimTemplate>,
}

impl Caches {
    /// Starts the watches.
    pub(crate) fn new(client: &Client, scope: &Scope) -> Self {
        let client = || client.clone();
        let by_node: fn(&Pod) -> Vec<String> =
            |pod| pod.spec.iter().filter_map(|it| it.node_name.clone()).collect();
        let by_service: fn(&EndpointSlice) -> Vec<String> = |slice| {
            let service = object::label(slice, SERVICE_NAME);
            let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
            service.map(|it| format!("{namespace}/{it}")).into_iter().collect()
        };
        let pods = owned::<Pod>().index(BY_NODE, by_node).trim(trim_pod);
        let attachments = StoreSpec::default()
            .index(BY_NODE, |it: &VolumeAttachment| vec![it.spec.node_name.clone()])
            .index(BY_VOLUME, |it| it.spec.source.persistent_volume_name.iter().cloned().collect());
        let slices = StoreSpec::default().index(BY_SERVICE, by_service);
        let token_secrets = StoreSpec::default().fields("type=kubernetes.io/service-account-token");
        let root_cas = StoreSpec::default().fields(&format!("metadata.name={ROOT_CA}"));
        Self {
            pods: reflect(client(), pods, scope),
            nodes: reflect(client(), StoreSpec::default().trim(trim_node), scope),
            leases: reflect(client(), StoreSpec::default(), scope),
            namespaces: reflect(client(), StoreSpec::default(), scope),
            services: reflect(client(), StoreSpec::default(), scope),
            service_accounts: reflect(client(), StoreSpec::default(), scope),
            token_secrets: reflect(client(), token_secrets, scope),
            root_cas: reflect(client(), root_cas, scope),
            endpoints: reflect(client(), StoreSpec::default(), scope),
            endpoint_slices: reflect(client(), slices, scope),
            deployments: reflect(client(), StoreSpec::default(), scope),
            replica_sets: reflect(client(), owned(), scope),
            replication_controllers: reflect(client(), StoreSpec::default(), scope),
            daemon_sets: reflect(client(), StoreSpec::default(), scope),
            stateful_sets: reflect(client(), StoreSpec::default(), scope),
            revisions: reflect(client(), owned(), scope),
            autoscalers: reflect(client(), StoreSpec::default(), scope),
            jobs: reflect(client(), owned(), scope),
            cron_jobs: reflect(client(), StoreSpec::default(), scope),
            claims: reflect(client(), StoreSpec::default(), scope),
            volumes: reflect(client(), StoreSpec::default(), scope),
            storage_classes: reflect(client(), StoreSpec::default(), scope),
            attributes_classes: reflect(client(), StoreSpec::default(), scope),
            csi_drivers: reflect(client(), StoreSpec::default(), scope),
            attachments: reflect(client(), attachments, scope),
            quotas: reflect(client(), StoreSpec::default(), scope),
            budgets: reflect(client(), StoreSpec::default(), scope),
            requests: reflect(client(), StoreSpec::default(), scope),
            cluster_roles: reflect(client(), StoreSpec::default(), scope),
            resource_claims: reflect(client(), owned(), scope),
            resource_claim_templates: reflect(client(), StoreSpec::default(), scope),
        }
    }

    /// Waits for the first list of everything.
    pub(crate) async fn synced(&self) {
        tokio::join!(
            self.pods.synced(),
            self.nodes.synced(),
            self.leases.synced(),
            self.namespaces.synced(),
            self.services.synced(),
            self.service_accounts.synced(),
            self.token_secrets.synced(),
            self.root_cas.synced(),
            self.endpoints.synced(),
            self.endpoint_slices.synced(),
            self.deployments.synced(),
            self.replica_sets.synced(),
            self.replication_controllers.synced(),
            self.daemon_sets.synced(),
            self.stateful_sets.synced(),
            self.revisions.synced(),
            self.autoscalers.synced(),
            self.jobs.synced(),
            self.cron_jobs.synced(),
            self.claims.synced(),
            self.volumes.synced(),
            self.storage_classes.synced(),
            self.attributes_classes.synced(),
            self.csi_drivers.synced(),
            self.attachments.synced(),
            self.quotas.synced(),
            self.budgets.synced(),
            self.requests.synced(),
            self.cluster_roles.synced(),
            self.resource_claims.synced(),
            self.resource_claim_templates.synced(),
        );
    }
}

/// The value under which [`BY_OWNER`] files what has no controller.
pub(crate) fn orphans_of(namespace: &str) -> String {
    format!("orphans of {namespace}")
}

fn owned<K: Resource>() -> StoreSpec<K> {
    StoreSpec::default().index(BY_OWNER, owner_or_orphan)
}

fn owner_or_orphan<K: Resource>(it: &K) -> Vec<String> {
    match object::controller_of(it) {
        Some(owner) => vec![owner.uid.clone()],
        None => vec![orphans_of(it.meta().namespace.as_deref().unwrap_or_default())],
    }
}

/// Controllers read who a pod is, where it is and how it is, not what it runs.
fn trim_pod(pod: &mut Pod) {
    if let Some(spec) = &mut pod.spec {
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten())
        {
            *container = Container {
                name: std::mem::take(&mut container.name),
                ports: container.ports.take(),
                resources: container.resources.take(),
                restart_policy: container.restart_policy.take(),
                ..Container::default()
            };
        }
        *spec = PodSpec {
            active_deadline_seconds: spec.active_deadline_seconds,
            affinity: spec.affinity.take(),
            containers: std::mem::take(&mut spec.containers),
            hostname: spec.hostname.take(),
            init_containers: spec.init_containers.take(),
            node_name: spec.node_name.take(),
            overhead: spec.overhead.take(),
            priority_class_name: spec.priority_class_name.take(),
            resource_claims: spec.resource_claims.take(),
            resources: spec.resources.take(),
            subdomain: spec.subdomain.take(),
            tolerations: spec.tolerations.take(),
            volumes: spec.volumes.take(),
            ..PodSpec::default()
        };
        if let Some(volumes) = &mut spec.volumes {
            volumes.retain(|it| it.persistent_volume_claim.is_some() || it.ephemeral.is_some());
        }
    }
    if let Some(status) = &mut pod.status {
        *status = PodStatus {
            conditions: status.conditions.take(),
            extended_resource_claim_status: status.extended_resource_claim_status.take(),
            container_statuses: status.container_statuses.take().map(trim_statuses),
            init_container_statuses: status.init_container_statuses.take().map(trim_statuses),
            phase: status.phase.take(),
            pod_ip: status.pod_ip.take(),
            pod_ips: status.pod_ips.take(),
            resource_claim_statuses: status.resource_claim_statuses.take(),
            start_time: status.start_time.take(),
            ..PodStatus::default()
        };
    }
}

/// How often a container was restarted, when it ended and what it has.
fn trim_statuses(statuses: Vec<ContainerStatus>) -> Vec<ContainerStatus> {
    let trimmed = statuses.into_iter().map(|it| ContainerStatus {
        allocated_resources: it.allocated_resources,
        name: it.name,
        resources: it.resources,
        restart_count: it.restart_count,
        state: it.state,
        ..ContainerStatus::default()
    });
    trimmed.collect()
}

fn trim_node(node: &mut Node) {
    if let Some(status) = &mut node.status {
        status.images = None;
        status.node_info = None;
    }
}
