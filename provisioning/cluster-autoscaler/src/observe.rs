//! Watches and what is read off them: the Kubernetes side of a [`World`].

use controller::{Key, Store, StoreSpec, reflect};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::{
        Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
    },
    policy::v1::PodDisruptionBudget,
    storage::v1::StorageClass,
};
use kube::{Client, Resource};
use lifecycle::Scope;
use scheduling::{PodInfo, VolumeFact};

use crate::{
    options::Options,
    world::{Controllers, Group, PodFact, World, is_over},
};

/// See the module.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) nodes: Store<Node>,
    pub(crate) pods: Store<Pod>,
    namespaces: Store<Namespace>,
    budgets: Store<PodDisruptionBudget>,
    daemon_sets: Store<DaemonSet>,
    replica_sets: Store<ReplicaSet>,
    stateful_sets: Store<StatefulSet>,
    replication_controllers: Store<ReplicationController>,
    jobs: Store<Job>,
    claims: Store<PersistentVolumeClaim>,
    volumes: Store<PersistentVolume>,
    classes: Store<StorageClass>,
}

impl Stores {
    pub(crate) fn new(client: &Client, scope: &Scope) -> Self {
        Self {
            nodes: reflect(client.clone(), StoreSpec::default(), scope),
            pods: reflect(client.clone(), StoreSpec::default(), scope),
            namespaces: reflect(client.clone(), StoreSpec::default(), scope),
            budgets: reflect(client.clone(), StoreSpec::default(), scope),
            daemon_sets: reflect(client.clone(), StoreSpec::default(), scope),
            replica_sets: reflect(client.clone(), StoreSpec::default(), scope),
            stateful_sets: reflect(client.clone(), StoreSpec::default(), scope),
            replication_controllers: reflect(client.clone(), StoreSpec::default(), scope),
            jobs: reflect(client.clone(), StoreSpec::default(), scope),
            claims: reflect(client.clone(), StoreSpec::default(), scope),
            volumes: reflect(client.clone(), StoreSpec::default(), scope),
            classes: reflect(client.clone(), StoreSpec::default(), scope),
        }
    }

    pub(crate) async fn synced(&self) {
        tokio::join!(
            self.nodes.synced(),
            self.pods.synced(),
            self.namespaces.synced(),
            self.budgets.synced(),
            self.daemon_sets.synced(),
            self.replica_sets.synced(),
            self.stateful_sets.synced(),
            self.replication_controllers.synced(),
            self.jobs.synced(),
            self.claims.synced(),
            self.volumes.synced(),
            self.classes.synced(),
        );
    }

    pub(crate) fn world(&self, groups: Vec<Group>, options: &Options) -> World {
        let mut world = World {
            nodes: self.nodes.all(),
            groups,
            budgets: self.budgets.all(),
            daemon_sets: self.daemon_sets.all(),
            controllers: Some(self.controllers()),
            ..World::default()
        };
        for namespace in self.namespaces.all() {
            let labels = namespace.metadata.labels.clone().unwrap_or_default();
            world.namespaces.insert(namespace.metadata.name.clone().unwrap_or_default(), labels);
        }
        for pod in self.pods.all() {
            if is_over(&pod) {
                continue;
            }
            let mut info = PodInfo::new(&pod);
            info.volumes = self.volume_facts(&pod);
            let fact = PodFact { pod, info: info.into() };
            if fact.node().is_some() {
                world.placed.push(fact);
            } else if is_unschedulable(&fact.pod, options) && !fact.is_of_daemon_set() {
                world.pending.push(fact);
            }
        }
        world
    }

    fn controllers(&self) -> Controllers {
        let mut all = Controllers::new();
        note(&mut all, "DaemonSet", &self.daemon_sets, |_| None);
        note(&mut all, "Job", &self.jobs, |_| None);
        note(&mut all, "ReplicaSet", &self.replica_sets, |it| it.spec.as_ref()?.replicas);
        note(&mut all, "StatefulSet", &self.stateful_sets, |it| it.spec.as_ref()?.replicas);
        note(&mut all, "ReplicationController", &self.replication_controllers, |it| {
            it.spec.as_ref()?.replicas
        });
        all
    }

    /// As the scheduler knows them.
    fn volume_facts(&self, pod: &Pod) -> Vec<VolumeFact> {
        let volumes = pod.spec.iter().flat_map(|it| it.volumes.iter().flatten());
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let claims = volumes.filter_map(|volume| {
            let claim = volume.persistent_volume_claim.as_ref().map(|it| it.claim_name.clone());
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            claim.or_else(|| volume.ephemeral.as_ref().map(|_| format!("{pod}-{}", volume.name)))
        });
        claims.map(|claim| self.volume_fact(namespace, claim)).collect()
    }

    fn volume_fact(&self, namespace: &str, claim: String) -> VolumeFact {
        let Some(found) = self.claims.get(&Key::new(namespace, &claim)) else {
            return VolumeFact::Missing { claim };
        };
        if found.metadata.deletion_timestamp.is_some() {
            return VolumeFact::Terminating { claim };
        }
        let spec = found.spec.as_ref();
        let volume = spec.and_then(|it| it.volume_name.clone()).filter(|it| !it.is_empty());
        let Some(volume) = volume else {
            let class = spec.and_then(|it| it.storage_class_name.clone());
            let class = class.and_then(|it| self.classes.get(&Key::cluster(it)));
            let waits = |it: &StorageClass| {
                it.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
            };
            return match class.filter(|it| waits(it)) {
                Some(it) if it.provisioner == "kubernetes.io/no-provisioner" => {
                    VolumeFact::Unbindable
                }
                Some(_) => VolumeFact::Provisionable { claim },
                None => VolumeFact::UnboundImmediate,
            };
        };
        let Some(volume) = self.volumes.get(&Key::cluster(volume.clone())) else {
            return VolumeFact::Lost { claim, volume };
        };
        let affinity = volume.spec.as_ref().and_then(|it| it.node_affinity.clone());
        let terms = affinity.and_then(|it| it.required).map(|it| it.node_selector_terms);
        VolumeFact::Bound { terms, labels: volume.metadata.labels.clone().unwrap_or_default() }
    }
}

fn note<K: Resource>(
    all: &mut Controllers,
    kind: &'static str,
    store: &Store<K>,
    replicas: impl Fn(&K) -> Option<i32>,
) {
    for it in store.all() {
        let part = |it: &Option<String>| it.clone().unwrap_or_default();
        let meta = it.meta();
        all.insert((kind, part(&meta.namespace), part(&meta.name)), replicas(&it));
    }
}

/// The scheduler has looked and found no node; or nobody is waited for, where that was asked for.
pub(crate) fn is_unschedulable(pod: &Pod, options: &Options) -> bool {
    let spec = pod.spec.as_ref();
    let is_placed = spec.and_then(|it| it.node_name.as_deref()).is_some_and(|it| !it.is_empty());
    if pod.metadata.deletion_timestamp.is_some() || is_placed || is_over(pod) {
        return false;
    }
    let scheduler = spec.and_then(|it| it.scheduler_name.as_deref()).unwrap_or_default();
    if options.ignored_schedulers.iter().any(|it| it == scheduler) {
        return true;
    }
    let conditions = pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
    conditions.into_iter().any(|it| {
        it.type_ == "PodScheduled"
            && it.status == "False"
            && it.reason.as_deref() == Some("Unschedulable")
    })
}
