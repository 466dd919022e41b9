//! Runs pods until enough of them have succeeded.
//!
//! A pod that ends is counted exactly once, even if it is deleted or this process dies in between:
//! it is held by a finalizer, noted as ended in the Job's status, released, and then counted.
//!
//! Upstream: `pkg/controller/job`.

mod failures;
mod indexes;
mod plan;
mod pod;
mod status;

use std::sync::Arc;

use controller::{Action, ApplyError, Change, Key, Queue, Recorder, apply, object};
use futures::{StreamExt, stream};
use k8s_openapi::api::{
    batch::v1::{Job, JobStatus},
    core::v1::Pod,
};
use serde_json::json;

use self::plan::{Observed, Plan};
pub(crate) use self::status::ended_at;
use crate::{Context, claim, expectations::Expectations, handover, pod_control::PodControl};

const PARALLEL: usize = 5;
/// What `spec.managedBy` calls this controller.
const OWN_NAME: &str = "kubernetes.io/job-controller";

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    queue: Queue<Key>,
    /// Pods that are held and that no Job has.
    orphans: Queue<Key>,
    expectations: Arc<Expectations>,
}

pub(crate) async fn run(context: Context) {
    let it = Controller {
        recorder: context.recorder("job-controller"),
        queue: Queue::new(),
        orphans: Queue::new(),
        expectations: Arc::default(),
        context,
    };
    it.subscribe();
    let (queue, orphans) = (it.queue.clone(), it.orphans.clone());
    tokio::join!(
        controller::run("job", queue, PARALLEL, |key| it.reconcile(key)),
        controller::run("job-orphans", orphans, PARALLEL, |key| it.let_go(key)),
    );
}

impl Controller {
    fn subscribe(&self) {
        let queue = self.queue.clone();
        self.context.caches.jobs.subscribe(move |change| queue.add(change.key.clone()));
        let this = self.clone();
        self.context.caches.pods.subscribe(move |change| this.pod_changed(change));
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let selector = |it: &Job| controller::selector(it.spec.as_ref()?.selector.as_ref());
        let others = handover::others(change, "Job", &self.context.caches.jobs, selector);
        others.into_iter().for_each(|it| self.queue.add(it));
        let Some(pod) = change.latest() else { return };
        let Some(owner) = object::controller_of(&**pod) else {
            if change.new.is_some() && pod::is_held(pod) {
                self.orphans.add(change.key.clone());
            }
            return;
        };
        if owner.kind != "Job" {
            return;
        }
        let key = Key::new(&change.key.namespace, &owner.name);
        if change.old.is_none() {
            self.expectations.created(&key, 1);
        }
        if change.new.is_none() || object::is_terminating(&**pod) {
            self.expectations.deleted(&key, &object::uid(&**pod));
        }
        self.queue.add(key);
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ApplyError> {
        let caches = &self.context.caches;
        let job = caches.jobs.get(&key);
        self.release(&self.strays(&key, job.as_deref()), |_| true).await?;
        let Some(job) = job else {
            self.expectations.forget(&key);
            return Ok(Action::Done);
        };
        let manager = job.spec.as_ref().and_then(|it| it.managed_by.as_deref());
        if manager.is_some_and(|it| it != OWN_NAME) {
            return Ok(Action::Done);
        }
        let selector = job.spec.as_ref().and_then(|it| it.selector.as_ref());
        let Some(selector) = controller::selector(selector) else {
            return Err(ApplyError::other(format!("Job `{key}` has an invalid selector")));
        };
        let client = &self.context.client;
        let are_met = self.expectations.are_met(&key);
        let claims = claim::find(&*job, &selector, &caches.pods).held_by(pod::FINALIZER);
        let owned = claims.apply(client, &*job).await?;
        if object::is_terminating(&*job) {
            return self.release(&owned, |_| true).await.map(|()| Action::Done);
        }
        let observed = Observed::new(&job, &owned, self.context.clock.now());
        let outcome = observed.outcome();
        let wanted = status::status(&observed, outcome.as_ref());
        // First it is written who has ended, then they are released, then they are counted.
        if job.status.as_ref() != Some(&wanted) {
            self.write_status(&key, &job, &wanted).await?;
            self.announce(&job, &wanted);
        }
        self.release(&owned, |pod| observed.may_go(pod, outcome.as_ref())).await?;
        if are_met {
            self.apply(&key, &job, observed.plan(outcome.as_ref())).await?;
        }
        Ok(observed.next_look().map_or(Action::Done, |at| {
            Action::After(self.context.clock.until(at) + std::time::Duration::from_millis(1))
        }))
    }

    /// A pod that was left behind, or left its Job: nobody counts it any more. Who adopts it holds it again.
    async fn let_go(&self, key: Key) -> Result<Action, ApplyError> {
        let Some(pod) = self.context.caches.pods.get(&key) else { return Ok(Action::Done) };
        if object::controller_of(&*pod).is_none() {
            self.release(&[pod], |_| true).await?;
        }
        Ok(Action::Done)
    }

    async fn apply(&self, key: &Key, job: &Job, plan: Plan) -> Result<(), ApplyError> {
        let control = PodControl {
            client: &self.context.client,
            recorder: &self.recorder,
            expectations: &self.expectations,
        };
        control.delete(key, job, plan.delete).await?;
        let wanted = plan.create.into_iter().map(|slot| pod::new(job, slot)).collect();
        control.create(key, job, wanted).await
    }

    /// Pods of a Job of this name that is gone: nobody counts them any more.
    fn strays(&self, key: &Key, job: Option<&Job>) -> Vec<Arc<Pod>> {
        let uid = job.and_then(|it| it.metadata.uid.as_deref());
        let is_stray = |pod: &Arc<Pod>| {
            let owner = object::controller_of(&**pod).filter(|it| it.kind == "Job");
            owner.is_some_and(|it| it.name == key.name && Some(&*it.uid) != uid)
        };
        let pods = self.context.caches.pods.in_namespace(&key.namespace);
        pods.into_iter().filter(|it| pod::is_held(it) && is_stray(it)).collect()
    }

    /// Takes the finalizer off the pods that `may_go`.
    async fn release(
        &self,
        owned: &[Arc<Pod>],
        may_go: impl Fn(&Pod) -> bool,
    ) -> Result<(), ApplyError> {
        let held: Vec<_> =
            owned.iter().filter(|it| pod::is_held(it) && may_go(it)).cloned().collect();
        let results: Vec<_> = stream::iter(held)
            .map(|pod| async move {
                let mut finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
                finalizers.retain(|it| it != pod::FINALIZER);
                let patch = json!({ "metadata": {
                    "uid": pod.metadata.uid,
                    "resourceVersion": pod.metadata.resource_version,
                    "finalizers": claim::or_none(finalizers),
                } });
                let key = Key::of(&*pod);
                apply::patch::<Pod>(&self.context.client, &key.namespace, &key.name, &patch).await
            })
            .buffer_unordered(16)
            .collect()
            .await;
        for result in results {
            match result {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The version guards the counts: one of two passes over the same status fails.
    async fn write_status(
        &self,
        key: &Key,
        job: &Job,
        wanted: &JobStatus,
    ) -> Result<(), ApplyError> {
        let patch = json!({
            "metadata": { "resourceVersion": job.metadata.resource_version },
            "status": status::patch(wanted),
        });
        let api = apply::api::<Job>(&self.context.client, &key.namespace);
        let patch = kube::api::Patch::Merge(&patch);
        match api.patch_status(&key.name, &kube::api::PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(it)) if it.is_not_found() => Ok(()),
            Err(source) => Err(ApplyError::new::<Job>("patch the status of", &key.name, source)),
        }
    }

    fn announce(&self, job: &Job, wanted: &JobStatus) {
        let is_new = |kind: &str| {
            let has = |status: Option<&JobStatus>| {
                status
                    .and_then(|it| status::condition(it, kind))
                    .is_some_and(|it| it.status == "True")
            };
            has(Some(wanted)) && !has(job.status.as_ref())
        };
        if is_new("Complete") {
            self.recorder.normal(job, "Completed", "Job completed");
        }
        if is_new("Suspended") {
            self.recorder.normal(job, "Suspended", "Job suspended");
        }
        let was_suspended = job
            .status
            .as_ref()
            .and_then(|it| status::condition(it, "Suspended"))
            .is_some_and(|it| it.status == "True");
        let is_suspended =
            status::condition(wanted, "Suspended").is_some_and(|it| it.status == "True");
        if was_suspended && !is_suspended {
            self.recorder.normal(job, "Resumed", "Job resumed");
        }
        if is_new("Failed") {
            let failed = status::condition(wanted, "Failed");
            let message = failed.and_then(|it| it.message.clone()).unwrap_or_default();
            let reasons =
                [plan::DEADLINE, plan::POLICY, plan::FAILED_INDEXES, plan::TOO_MANY_FAILED_INDEXES];
            let reason = failed.and_then(|it| it.reason.as_deref());
            let reason = reasons.into_iter().find(|it| Some(*it) == reason);
            self.recorder.warn(job, reason.unwrap_or(plan::BACKOFF), message);
        }
    }
}
