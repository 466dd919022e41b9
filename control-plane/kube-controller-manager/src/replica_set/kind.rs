//! ReplicaSets and ReplicationControllers, as one.
//!
//! Upstream: `pkg/controller/replication/conversion.go`.

use std::sync::Arc;

use controller::{Store, apply::Object};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus},
        core::v1::ReplicationController,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::caches::Caches;

pub(super) trait Kind:
    Object + kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + 'static
{
    const KIND: &'static str;
    const CONTROLLER: &'static str;
    const QUEUE: &'static str;

    fn store(caches: &Caches) -> &Store<Self>;
    /// What the two have in common.
    fn view(this: &Arc<Self>) -> Arc<ReplicaSet>;
    /// As much of a status as this kind has.
    fn status(status: ReplicaSetStatus) -> ReplicaSetStatus;
}

impl Kind for ReplicaSet {
    const KIND: &'static str = "ReplicaSet";
    const CONTROLLER: &'static str = "replicaset-controller";
    const QUEUE: &'static str = "replicaset";

    fn store(caches: &Caches) -> &Store<Self> {
        &caches.replica_sets
    }

    fn view(this: &Arc<Self>) -> Arc<ReplicaSet> {
        this.clone()
    }

    fn status(status: ReplicaSetStatus) -> ReplicaSetStatus {
        status
    }
}

impl Kind for ReplicationController {
    const KIND: &'static str = "ReplicationController";
    const CONTROLLER: &'static str = "replication-controller";
    const QUEUE: &'static str = "replicationcontroller";

    fn store(caches: &Caches) -> &Store<Self> {
        &caches.replication_controllers
    }

    fn view(this: &Arc<Self>) -> Arc<ReplicaSet> {
        let spec = this.spec.clone().map(|it| ReplicaSetSpec {
            replicas: it.replicas,
            min_ready_seconds: it.min_ready_seconds,
            selector: LabelSelector { match_labels: it.selector, ..LabelSelector::default() },
            template: it.template,
        });
        let status = this.status.clone().map(|it| ReplicaSetStatus {
            replicas: it.replicas,
            fully_labeled_replicas: it.fully_labeled_replicas,
            ready_replicas: it.ready_replicas,
            available_replicas: it.available_replicas,
            observed_generation: it.observed_generation,
            conditions: it.conditions.map(|all| {
                let each = all.into_iter().map(|it| ReplicaSetCondition {
                    type_: it.type_,
                    status: it.status,
                    reason: it.reason,
                    message: it.message,
                    last_transition_time: it.last_transition_time,
                });
                each.collect()
            }),
            terminating_replicas: None,
        });
        Arc::new(ReplicaSet { metadata: this.metadata.clone(), spec, status })
    }

    fn status(status: ReplicaSetStatus) -> ReplicaSetStatus {
        ReplicaSetStatus { terminating_replicas: None, ..status }
    }
}
