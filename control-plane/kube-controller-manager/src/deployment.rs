//! Moves a Deployment's pods from one template to the next, through ReplicaSets.
//!
//! A pass observes the Deployment and its ReplicaSets, asks [`plan`] for at most one step (make
//! the new ReplicaSet, scale some), does it and writes the status. The next change of a ReplicaSet
//! causes the next step.
//!
//! Upstream: `pkg/controller/deployment`.

mod hash;
mod plan;
mod progress;
mod revision;
mod rolling;
mod status;

use std::sync::Arc;

use controller::{Action, ApplyError, Change, Key, Queue, Recorder, apply, object};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use serde_json::json;

use self::plan::{Observed, Plan, Scale};
pub(crate) use self::{
    hash::{safe, template_hash},
    plan::{Round, scaled},
};
use crate::{Context, caches::BY_OWNER, claim, pods};

const PARALLEL: usize = 5;

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    queue: Queue<Key>,
}

pub(crate) async fn run(context: Context) {
    let it = Controller {
        recorder: context.recorder("deployment-controller"),
        queue: Queue::new(),
        context,
    };
    it.subscribe();
    let queue = it.queue.clone();
    controller::run("deployment", queue, PARALLEL, |key| it.reconcile(key)).await;
}

impl Controller {
    fn subscribe(&self) {
        let caches = &self.context.caches;
        let queue = self.queue.clone();
        caches.deployments.subscribe(move |change| queue.add(change.key.clone()));
        let this = self.clone();
        caches.replica_sets.subscribe(move |change| this.replica_set_changed(change));
        let this = self.clone();
        caches.pods.subscribe(move |change| this.pod_changed(change));
    }

    fn replica_set_changed(&self, change: &Change<ReplicaSet>) {
        for set in change.old.iter().chain(&change.new) {
            match object::controller_of(&**set) {
                Some(owner) if owner.kind == "Deployment" => {
                    self.queue.add(Key::new(&change.key.namespace, &owner.name));
                }
                Some(_) => {}
                None => self.orphan_seen(set),
            }
        }
    }

    fn orphan_seen(&self, set: &ReplicaSet) {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        for deployment in self.context.caches.deployments.in_namespace(namespace) {
            let selector = deployment.spec.as_ref().map(|it| &it.selector);
            let selector = controller::selector(selector);
            if selector.is_some_and(|it| controller::matches(&it, set.metadata.labels.as_ref())) {
                self.queue.add(Key::of(&*deployment));
            }
        }
    }

    /// A pod that is really gone may be what a `Recreate` waits for.
    fn pod_changed(&self, change: &Change<Pod>) {
        if change.new.as_ref().is_some_and(|it| !pods::is_over(it)) {
            return;
        }
        let Some(owner) = change.latest().and_then(|it| object::controller_of(&**it)) else {
            return;
        };
        let set = Key::new(&change.key.namespace, &owner.name);
        let set = self.context.caches.replica_sets.get(&set);
        if let Some(owner) = set.as_deref().and_then(object::controller_of) {
            self.queue.add(Key::new(&change.key.namespace, &owner.name));
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ApplyError> {
        let Some(deployment) = self.context.caches.deployments.get(&key) else {
            return Ok(Action::Done);
        };
        let Some(observed) = self.observe(&key, deployment).await? else {
            return Ok(Action::Done);
        };
        let now = self.context.clock.now();
        let plan = plan::plan(&observed);
        let result = self.apply(&observed, &plan, now).await;
        let collision = matches!(&result, Ok(Outcome::Collided));
        let failure = result.as_ref().err().map(ApplyError::server_message);
        let report = status::Report { observed: &observed, plan: &plan, failure, collision };
        let wanted = report.status(now);
        let due = progress::next_check(&observed.deployment, &wanted, now);
        self.write_status(&observed.deployment, &wanted).await?;
        result?;
        Ok(due.map_or(Action::Done, Action::After))
    }

    async fn observe(
        &self,
        key: &Key,
        deployment: Arc<Deployment>,
    ) -> Result<Option<Observed>, ApplyError> {
        let caches = &self.context.caches;
        let selector = deployment.spec.as_ref().map(|it| &it.selector);
        let Some(selector) = controller::selector(selector) else {
            return Err(ApplyError::other(format!("Deployment `{key}` has an invalid selector")));
        };
        if selector.selects_all() {
            let message = "This deployment is selecting all pods. \
                 A non-empty selector is required.";
            self.recorder.warn(&*deployment, "SelectingAll", message);
            return Ok(None);
        }
        let claims = claim::find(&*deployment, &selector, &caches.replica_sets);
        let sets = claims.apply(&self.context.client, &*deployment).await?;
        let is_running = |set: &Arc<ReplicaSet>| {
            let pods = caches.pods.indexed(BY_OWNER, &object::uid(&**set));
            pods.iter().any(|it| !pods::is_over(it))
        };
        let running =
            sets.iter().filter(|it| is_running(it)).map(|it| object::uid(&**it)).collect();
        Ok(Some(Observed::new(deployment, sets, running)))
    }

    async fn apply(
        &self,
        observed: &Observed,
        plan: &Plan,
        now: jiff::Timestamp,
    ) -> Result<Outcome, ApplyError> {
        let deployment = &*observed.deployment;
        match plan {
            Plan::Nothing => {}
            Plan::Create(set) => return self.create(deployment, set).await,
            Plan::Renew { set, patch } => self.patch(set, patch).await?,
            Plan::Scale(scales) => {
                for scale in scales {
                    self.scale(deployment, scale).await?;
                }
            }
            Plan::Clean(sets) => {
                for set in sets {
                    apply::delete(&self.context.client, &**set).await?;
                }
            }
        }
        self.write_revision(observed, now).await?;
        Ok(Outcome::Applied)
    }

    async fn create(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
    ) -> Result<Outcome, ApplyError> {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        match apply::create(&self.context.client, set).await {
            Ok(_) => {
                let count = set.spec.as_ref().and_then(|it| it.replicas).unwrap_or(0);
                if count > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {count}");
                    self.recorder.normal(deployment, "ScalingReplicaSet", message);
                }
                Ok(Outcome::Applied)
            }
            Err(error) if error.is_already_exists() => self.met_existing(deployment, set).await,
            Err(error) => {
                if !pods::is_namespace_terminating(&error) {
                    let message = format!(
                        "Failed to create new replica set \"{name}\": {}",
                        error.server_message()
                    );
                    self.recorder.warn(deployment, "ReplicaSetCreateError", message);
                }
                Err(error)
            }
        }
    }

    /// Ours already (a stale cache), or another template's with the same hash.
    async fn met_existing(
        &self,
        deployment: &Deployment,
        wanted: &ReplicaSet,
    ) -> Result<Outcome, ApplyError> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let name = wanted.metadata.name.as_deref().unwrap_or_default();
        let api = apply::api::<ReplicaSet>(&self.context.client, namespace);
        let found = api.get_opt(name).await;
        let found = found.map_err(|source| ApplyError::new::<ReplicaSet>("get", name, source))?;
        let is_ours = found.is_some_and(|it| {
            object::is_controlled_by(&it, &object::uid(deployment))
                && revision::has_template_of(&it, wanted)
        });
        Ok(if is_ours { Outcome::Applied } else { Outcome::Collided })
    }

    async fn scale(&self, deployment: &Deployment, scale: &Scale) -> Result<(), ApplyError> {
        let patch = json!({
            "metadata": { "annotations": revision::scale_annotations(deployment) },
            "spec": { "replicas": scale.to },
        });
        self.patch(&scale.set, &patch).await?;
        if scale.from() == scale.to {
            return Ok(());
        }
        let direction = if scale.to > scale.from() { "up" } else { "down" };
        let name = scale.set.metadata.name.as_deref().unwrap_or_default();
        let message =
            format!("Scaled {direction} replica set {name} from {} to {}", scale.from(), scale.to);
        self.recorder.normal(deployment, "ScalingReplicaSet", message);
        Ok(())
    }

    /// The resource version makes it fail where the cache is stale.
    async fn patch(&self, set: &ReplicaSet, change: &serde_json::Value) -> Result<(), ApplyError> {
        let mut change = change.clone();
        change["metadata"]["resourceVersion"] = json!(set.metadata.resource_version);
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let name = set.metadata.name.as_deref().unwrap_or_default();
        apply::patch::<ReplicaSet>(&self.context.client, namespace, name, &change).await?;
        Ok(())
    }

    /// `kubectl rollout history` reads the current revision from the Deployment.
    async fn write_revision(
        &self,
        observed: &Observed,
        _now: jiff::Timestamp,
    ) -> Result<(), ApplyError> {
        let deployment = &*observed.deployment;
        let Some(new) = &observed.new else { return Ok(()) };
        let Some(revision) = object::annotation(&**new, revision::REVISION) else { return Ok(()) };
        if object::annotation(deployment, revision::REVISION) == Some(revision) {
            return Ok(());
        }
        let patch = json!({ "metadata": { "annotations": { revision::REVISION: revision } } });
        let key = Key::of(deployment);
        apply::patch::<Deployment>(&self.context.client, &key.namespace, &key.name, &patch).await?;
        Ok(())
    }

    async fn write_status(
        &self,
        deployment: &Deployment,
        wanted: &k8s_openapi::api::apps::v1::DeploymentStatus,
    ) -> Result<(), ApplyError> {
        if deployment.status.as_ref() == Some(wanted) {
            return Ok(());
        }
        let key = Key::of(deployment);
        let patch = status::patch(wanted);
        let patched = apply::patch_status::<Deployment, _>(
            &self.context.client,
            &key.namespace,
            &key.name,
            &patch,
        );
        match patched.await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

/// What came of a plan.
enum Outcome {
    Applied,
    /// The new ReplicaSet's name is taken by another template: the hash must change.
    Collided,
}
