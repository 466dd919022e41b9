//! Runs one pod of a DaemonSet on each node that it is for.
//!
//! The pods name their node by affinity, and the scheduler binds them. A rolling update replaces
//! pods of an old template within `maxUnavailable` and `maxSurge`.
//!
//! Upstream: `pkg/controller/daemon`. Deviation: a pod that failed is replaced with the queue's
//! back-off instead of one per node; of several revisions of one template upstream gives all pods of
//! the set the newest one's label, here those of the others do.

mod plan;
mod pod;
mod status;

use std::{sync::Arc, time::Duration};

use controller::{Action, ApplyError, Change, Key, Queue, Recorder, apply, object};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    core::v1::{Node, Pod},
};

use self::plan::Plan;
use crate::{
    Context, claim, expectations::Expectations, handover, pod_control::PodControl, pods, revisions,
};

const PARALLEL: usize = 2;
/// At most so many creations or deletions per pass, as upstream.
const BURST: usize = 250;
/// Until the caches show what was written.
const SOON: Duration = Duration::from_millis(100);
/// Upstream's `revisionHistoryLimit`, where the API server has not set it.
const HISTORY_LIMIT: i32 = 10;

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    queue: Queue<Key>,
    expectations: Arc<Expectations>,
}

pub(crate) async fn run(context: Context) {
    let it = Controller {
        recorder: context.recorder("daemonset-controller"),
        queue: Queue::new(),
        expectations: Arc::default(),
        context,
    };
    it.subscribe();
    let queue = it.queue.clone();
    controller::run("daemonset", queue, PARALLEL, |key| it.reconcile(key)).await;
}

impl Controller {
    fn subscribe(&self) {
        let caches = &self.context.caches;
        let queue = self.queue.clone();
        caches.daemon_sets.subscribe(move |change| queue.add(change.key.clone()));
        let this = self.clone();
        caches.pods.subscribe(move |change| this.pod_changed(change));
        let this = self.clone();
        caches.nodes.subscribe(move |change| {
            if matters(change) {
                this.context
                    .caches
                    .daemon_sets
                    .keys()
                    .into_iter()
                    .for_each(|it| this.queue.add(it));
            }
        });
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let selector = |it: &DaemonSet| controller::selector(Some(&it.spec.as_ref()?.selector));
        let others =
            handover::others(change, "DaemonSet", &self.context.caches.daemon_sets, selector);
        others.into_iter().for_each(|it| self.queue.add(it));
        let Some(pod) = change.latest() else { return };
        let Some(owner) = object::controller_of(&**pod).filter(|it| it.kind == "DaemonSet") else {
            return;
        };
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
        let Some(set) = caches.daemon_sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(Action::Done);
        };
        let Some(spec) = &set.spec else { return Ok(Action::Done) };
        let Some(selector) = controller::selector(Some(&spec.selector)) else {
            return Err(ApplyError::other(format!("DaemonSet `{key}` has an invalid selector")));
        };
        if object::is_terminating(&*set) {
            return Ok(Action::Done);
        }
        let client = &self.context.client;
        let are_met = self.expectations.are_met(&key);
        let known = claim::find(&*set, &selector, &caches.revisions).apply(client, &*set).await?;
        let collisions = set.status.as_ref().and_then(|it| it.collision_count);
        let history = revisions::sync(client, &*set, &spec.template, collisions, known).await?;
        let owned = claim::find(&*set, &selector, &caches.pods).apply(client, &*set).await?;
        if self.merge_duplicates(&history, &owned).await? {
            return Ok(Action::After(SOON));
        }
        let now = self.context.clock.now();
        let nodes = caches.nodes.all();
        let observed = plan::Observed::new(&set, &nodes, &owned, &history.hash, now);
        let result = if are_met {
            self.apply(&key, &set, observed.plan(), &history.hash).await
        } else {
            Ok(())
        };
        self.write_status(&key, &set, &status::status(&observed)).await?;
        result?;
        let in_use = |revision: &ControllerRevision| {
            let hash = Some(revisions::hash_of(revision));
            owned.iter().any(|it| object::label(&**it, revisions::HASH_LABEL) == hash)
        };
        let limit = spec.revision_history_limit.unwrap_or(HISTORY_LIMIT);
        revisions::clean(client, &history, in_use, usize::try_from(limit).unwrap_or(0)).await?;
        let seconds = spec.min_ready_seconds.unwrap_or(0);
        let due = pods::until_available(owned.iter().map(|it| &**it), seconds, &self.context.clock);
        Ok(due.map_or(Action::Done, Action::After))
    }

    /// Of several revisions of one template the newest stays. Pods of the others count as its own, and
    /// nothing else is done before the caches show that. Returns whether pods were given another label.
    async fn merge_duplicates(
        &self,
        history: &revisions::History,
        pods: &[Arc<Pod>],
    ) -> Result<bool, ApplyError> {
        let client = &self.context.client;
        let mut is_changed = false;
        for duplicate in history.duplicates() {
            let hash = Some(revisions::hash_of(duplicate));
            if hash == Some(&*history.hash) {
                continue;
            }
            let its = pods.iter().filter(|it| object::label(&***it, revisions::HASH_LABEL) == hash);
            let mut is_used = false;
            for pod in its {
                is_used = true;
                let key = Key::of(&**pod);
                let patch = serde_json::json!({ "metadata": { "uid": pod.metadata.uid,
                    "labels": { revisions::HASH_LABEL: history.hash } } });
                match apply::patch::<Pod>(client, &key.namespace, &key.name, &patch).await {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
            is_changed |= is_used;
            if !is_used {
                apply::delete(client, &**duplicate).await?;
            }
        }
        Ok(is_changed)
    }

    async fn apply(
        &self,
        key: &Key,
        set: &DaemonSet,
        plan: Plan,
        hash: &str,
    ) -> Result<(), ApplyError> {
        for (pod, message) in &plan.failed {
            self.recorder.warn(set, "FailedDaemonPod", message.clone());
            let _ = pod;
        }
        let (mut victims, mut nodes) = (plan.delete, plan.create);
        victims.truncate(BURST);
        nodes.truncate(BURST);
        let wanted = nodes.iter().map(|node| pod::on_node(set, node, hash)).collect();
        let deleted = self.control().delete(key, set, victims).await;
        let created = self.control().create(key, set, wanted).await;
        deleted.and(created)
    }

    fn control(&self) -> PodControl<'_> {
        let (recorder, expectations) = (&self.recorder, &*self.expectations);
        PodControl { client: &self.context.client, recorder, expectations }
    }

    async fn write_status(
        &self,
        key: &Key,
        set: &DaemonSet,
        wanted: &k8s_openapi::api::apps::v1::DaemonSetStatus,
    ) -> Result<(), ApplyError> {
        if set.status.as_ref() == Some(wanted) {
            return Ok(());
        }
        let patch = status::patch(wanted);
        let client = &self.context.client;
        let patched =
            apply::patch_status::<DaemonSet, _>(client, &key.namespace, &key.name, &patch).await;
        match patched {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether a change of a node can change where daemons belong.
fn matters(change: &Change<Node>) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            old.metadata.labels != new.metadata.labels || old.spec != new.spec
        }
        _ => true,
    }
}
