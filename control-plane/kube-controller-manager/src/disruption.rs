//! The status of PodDisruptionBudgets: how many more pods may be evicted now.
//!
//! How many pods there should be is told by the pods' controllers: by those that this process watches, or
//! by the `scale` of any other kind. Where one of them cannot tell, nobody may be evicted.
//!
//! Upstream: `pkg/controller/disruption`.

mod plan;
mod scales;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use controller::{Action, ApplyError, Change, Key, Queue, Recorder, apply};
use k8s_openapi::api::{
    core::v1::Pod,
    policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::Context;

/// How soon a controller that could not tell how many pods it wants is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    queue: Queue<Key>,
    /// Pods that somebody said would go.
    marked: Queue<Key>,
}

pub(crate) async fn run(context: Context) {
    let it = Controller {
        recorder: context.recorder("controllermanager"),
        queue: Queue::new(),
        marked: Queue::new(),
        context,
    };
    let queue = it.queue.clone();
    it.context.caches.budgets.subscribe(move |change| queue.add(change.key.clone()));
    let this = it.clone();
    it.context.caches.pods.subscribe(move |change| this.pod_changed(change));
    let (queue, marked) = (it.queue.clone(), it.marked.clone());
    tokio::join!(
        controller::run("disruption", queue, 2, |key| it.reconcile(key)),
        controller::run("disruption-marks", marked, 1, |key| it.clear(key)),
    );
}

impl Controller {
    fn pod_changed(&self, change: &Change<Pod>) {
        if change.new.as_ref().is_some_and(|it| plan::stale_at(it).is_some()) {
            self.marked.add(change.key.clone());
        }
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
        let scales = match plan::needs_scales(&budget) {
            true => scales::of(&self.context, &key.namespace, &covered).await,
            false => Ok(BTreeMap::new()),
        };
        match scales {
            Ok(scales) => {
                let expected = plan::expected(&budget, &covered, &scales);
                let (status, recheck) = plan::status(&budget, &covered, expected, now);
                self.write(&key, &budget, &status).await?;
                Ok(recheck.map_or(Action::Done, |at| {
                    Action::After(self.context.clock.until(at) + Duration::from_millis(1))
                }))
            }
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                self.recorder.warn(&*budget, "CalculateExpectedPodCountFailed", message);
                self.write(&key, &budget, &plan::failed(&budget, &why, now)).await?;
                Ok(Action::After(ASK_AGAIN))
            }
        }
    }

    async fn write(
        &self,
        key: &Key,
        budget: &PodDisruptionBudget,
        status: &PodDisruptionBudgetStatus,
    ) -> Result<(), ApplyError> {
        if budget.status.as_ref() == Some(status) {
            return Ok(());
        }
        let patch = json!({
            "metadata": { "resourceVersion": budget.metadata.resource_version },
            "status": {
                "conditions": status.conditions,
                "currentHealthy": status.current_healthy.unwrap_or(0),
                "desiredHealthy": status.desired_healthy.unwrap_or(0),
                "disruptedPods": plan::patch_disrupted(budget, status),
                "disruptionsAllowed": status.disruptions_allowed.unwrap_or(0),
                "expectedPods": status.expected_pods.unwrap_or(0),
                "observedGeneration": status.observed_generation,
            },
        });
        let api = apply::api::<PodDisruptionBudget>(&self.context.client, &key.namespace);
        let patch = Patch::Merge(&patch);
        match api.patch_status(&key.name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(it)) if it.is_not_found() => Ok(()),
            Err(source) => Err(ApplyError::new::<PodDisruptionBudget>("update", &key.name, source)),
        }
    }

    fn covered(&self, budget: &PodDisruptionBudget) -> Vec<Arc<Pod>> {
        let selector = budget.spec.as_ref().and_then(|it| it.selector.as_ref());
        let Some(selector) = controller::selector(selector) else { return Vec::new() };
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        let pods = self.context.caches.pods.in_namespace(namespace);
        let labels = |it: &Arc<Pod>| controller::matches(&selector, it.metadata.labels.as_ref());
        pods.into_iter().filter(labels).collect()
    }

    /// A pod that was to be disrupted and still is there, is not to be disrupted after all.
    async fn clear(&self, key: Key) -> Result<Action, ApplyError> {
        let Some(pod) = self.context.caches.pods.get(&key) else { return Ok(Action::Done) };
        let Some(at) = plan::stale_at(&pod) else { return Ok(Action::Done) };
        let now = self.context.clock.now();
        if at > now {
            return Ok(Action::After(self.context.clock.until(at) + Duration::from_millis(1)));
        }
        let patch = json!({
            "metadata": { "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version },
            "status": { "conditions": plan::cleared(&pod, now) },
        });
        let api = apply::api::<Pod>(&self.context.client, &key.namespace);
        let patch = Patch::Merge(&patch);
        match api.patch_status(&key.name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(Action::Done),
            Err(kube::Error::Api(it)) if it.is_not_found() => Ok(Action::Done),
            Err(source) => Err(ApplyError::new::<Pod>("patch the status of", &key.name, source)),
        }
    }
}
