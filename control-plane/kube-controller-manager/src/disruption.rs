//! The status of PodDisruptionBudgets: how many more pods may be evicted now.
//!
//! Upstream: `pkg/controller/disruption`. Deviation: the expected number of pods comes from the
//! pods' controllers that this process watches (ReplicaSets with their Deployments, ReplicationControllers, StatefulSets);
//! pods of other controllers count one each.

mod plan;

use std::{sync::Arc, time::Duration};

use controller::{Action, ApplyError, Change, Key, Queue, Recorder, apply, object};
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use serde_json::json;

use crate::Context;

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    queue: Queue<Key>,
}

pub(crate) async fn run(context: Context) {
    let it = Controller {
        recorder: context.recorder("controllermanager"),
        queue: Queue::new(),
        context,
    };
    let queue = it.queue.clone();
    it.context.caches.budgets.subscribe(move |change| queue.add(change.key.clone()));
    let this = it.clone();
    it.context.caches.pods.subscribe(move |change| this.pod_changed(change));
    let queue = it.queue.clone();
    controller::run("disruption", queue, 2, |key| it.reconcile(key)).await;
}

impl Controller {
    fn pod_changed(&self, change: &Change<Pod>) {
        for budget in self.context.caches.budgets.in_namespace(&change.key.namespace) {
            let selector = budget.spec.as_ref().and_then(|it| it.selector.as_ref());
            let Some(selector) = controller::selector(selector) else { continue };
            let is_covered = |pod: &Option<Arc<Pod>>| {
                let labels = pod.as_ref().map(|it| it.metadata.labels.as_ref());
                labels.is_some_and(|it| controller::matches(&selector, it))
            };
            if is_covered(&change.old) || is_covered(&change.new) {
                self.queue.add(Key::of(&*budget));
            }
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ApplyError> {
        let Some(budget) = self.context.caches.budgets.get(&key) else { return Ok(Action::Done) };
        let now = self.context.clock.now();
        let covered = self.covered(&budget);
        if covered.is_empty() {
            self.recorder.normal(&*budget, "NoPods", "No matching pods found");
        }
        let expected = plan::expected(&budget, &covered, |pod| self.scale_of(pod));
        let (status, recheck) = plan::status(&budget, &covered, expected, now);
        if budget.status.as_ref() != Some(&status) {
            let patch = json!({
                "metadata": { "resourceVersion": budget.metadata.resource_version },
                "status": {
                    "conditions": status.conditions,
                    "currentHealthy": status.current_healthy,
                    "desiredHealthy": status.desired_healthy,
                    "disruptedPods": plan::patch_disrupted(&budget, &status),
                    "disruptionsAllowed": status.disruptions_allowed,
                    "expectedPods": status.expected_pods,
                    "observedGeneration": status.observed_generation,
                },
            });
            let api = apply::api::<PodDisruptionBudget>(&self.context.client, &key.namespace);
            let parameters = kube::api::PatchParams::default();
            let patch = kube::api::Patch::Merge(&patch);
            match api.patch_status(&key.name, &parameters, &patch).await {
                Ok(_) => {}
                Err(kube::Error::Api(it)) if it.is_not_found() => {}
                Err(source) => {
                    return Err(ApplyError::new::<PodDisruptionBudget>(
                        "update", &key.name, source,
                    ));
                }
            }
        }
        Ok(recheck.map_or(Action::Done, |at| {
            Action::After(self.context.clock.until(at) + Duration::from_millis(1))
        }))
    }

    fn covered(&self, budget: &PodDisruptionBudget) -> Vec<Arc<Pod>> {
        let selector = budget.spec.as_ref().and_then(|it| it.selector.as_ref());
        let Some(selector) = controller::selector(selector) else { return Vec::new() };
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        let pods = self.context.caches.pods.in_namespace(namespace);
        let labels = |it: &Arc<Pod>| controller::matches(&selector, it.metadata.labels.as_ref());
        pods.into_iter().filter(labels).collect()
    }

    /// The object that says how many there should be of a pod, and its number.
    fn scale_of(&self, pod: &Pod) -> Option<(String, i32)> {
        let owner = object::controller_of(pod)?;
        let caches = &self.context.caches;
        let key = Key::new(pod.metadata.namespace.clone()?, &owner.name);
        match owner.kind.as_str() {
            "ReplicaSet" => {
                let set = caches.replica_sets.get(&key)?;
                let owner = object::controller_of(&*set).filter(|it| it.kind == "Deployment");
                let deployment = owner
                    .and_then(|it| caches.deployments.get(&Key::new(&key.namespace, &it.name)));
                match deployment {
                    Some(it) => Some((object::uid(&*it), it.spec.as_ref()?.replicas.unwrap_or(1))),
                    None => Some((object::uid(&*set), set.spec.as_ref()?.replicas.unwrap_or(1))),
                }
            }
            "ReplicationController" => {
                let set = caches.replication_controllers.get(&key)?;
                Some((object::uid(&*set), set.spec.as_ref()?.replicas.unwrap_or(1)))
            }
            "StatefulSet" => {
                let set = caches.stateful_sets.get(&key)?;
                Some((object::uid(&*set), set.spec.as_ref()?.replicas.unwrap_or(1)))
            }
            _ => None,
        }
    }
}
