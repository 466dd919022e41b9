//! Keeps pods with lasting names and volumes, one per ordinal.
//!
//! A pod's name is its identity, so the API server itself rules out two pods of one ordinal: a
//! stale cache makes a creation fail, never double.
//!
//! Upstream: `pkg/controller/statefulset`.

mod plan;
mod pod;
mod retention;
mod status;

use std::sync::Arc;

use controller::{Action, ApplyError, Change, Key, Queue, Recorder, apply, object};
use futures::{StreamExt, stream};
use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetStatus},
    core::v1::{PersistentVolumeClaim, Pod},
};
use serde_json::json;

use self::plan::{Observed, Plan};
use crate::{Context, claim, handover, pods, revisions};

const PARALLEL: usize = 5;
/// Upstream's `revisionHistoryLimit`, where the API server has not set it.
const HISTORY_LIMIT: i32 = 10;

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    queue: Queue<Key>,
}

pub(crate) async fn run(context: Context) {
    let it = Controller {
        recorder: context.recorder("statefulset-controller"),
        queue: Queue::new(),
        context,
    };
    it.subscribe();
    let queue = it.queue.clone();
    controller::run("statefulset", queue, PARALLEL, |key| it.reconcile(key)).await;
}

/// Whether a member that is new, or still waits, may use a claim that is there.
fn check_claim(
    claim: &PersistentVolumeClaim,
    member: &str,
    current: Option<&Pod>,
) -> Result<(), ApplyError> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    if object::is_terminating(claim) || retention::is_stale(claim, member, current) {
        return Err(ApplyError::other(format!("pvc {name} is being deleted")));
    }
    Ok(())
}

impl Controller {
    fn subscribe(&self) {
        let queue = self.queue.clone();
        self.context.caches.stateful_sets.subscribe(move |change| queue.add(change.key.clone()));
        let this = self.clone();
        self.context.caches.pods.subscribe(move |change| this.pod_changed(change));
        let this = self.clone();
        self.context.caches.claims.subscribe(move |change| {
            if change.new.is_none() {
                this.claim_gone(&change.key);
            }
        });
    }

    /// A member may have waited for an earlier one's claim to go.
    fn claim_gone(&self, key: &Key) {
        for set in self.context.caches.stateful_sets.in_namespace(&key.namespace) {
            if pod::may_have_claim(&set, &key.name) {
                self.queue.add(Key::of(&*set));
            }
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let owner = change.latest().and_then(|it| object::controller_of(&**it));
        if let Some(owner) = owner.filter(|it| it.kind == "StatefulSet") {
            self.queue.add(Key::new(&change.key.namespace, &owner.name));
        }
        let sets = &self.context.caches.stateful_sets;
        let selector = |set: &StatefulSet| controller::selector(Some(&set.spec.as_ref()?.selector));
        let others = handover::others(change, "StatefulSet", sets, selector);
        others.into_iter().for_each(|it| self.queue.add(it));
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ApplyError> {
        let caches = &self.context.caches;
        let Some(set) = caches.stateful_sets.get(&key) else { return Ok(Action::Done) };
        let Some(spec) = &set.spec else { return Ok(Action::Done) };
        let Some(selector) = controller::selector(Some(&spec.selector)) else {
            return Err(ApplyError::other(format!("StatefulSet `{key}` has an invalid selector")));
        };
        if object::is_terminating(&*set) {
            return Ok(Action::Done);
        }
        let client = &self.context.client;
        let known = claim::find(&*set, &selector, &caches.revisions).apply(client, &*set).await?;
        let collisions = set.status.as_ref().and_then(|it| it.collision_count);
        let history = revisions::sync(client, &*set, &spec.template, collisions, known).await?;
        let mut claims = claim::find(&*set, &selector, &caches.pods);
        // Only pods with one of its names can be its members.
        claims.adopt_only(|it| pod::ordinal(&set, it).is_some());
        let owned = claims.apply(client, &*set).await?;
        let observed = Observed::new(&set, &history, &owned, self.context.clock.now());
        let plan = observed.plan();
        self.keep_identities(&key, &set, &observed).await?;
        self.keep_claims(&key, &set, &observed).await?;
        let result = self.apply(&key, &set, &observed, plan).await;
        self.write_status(&key, &set, &status::status(&observed)).await?;
        result?;
        self.clean(&set, &history, &owned).await?;
        let seconds = spec.min_ready_seconds.unwrap_or(0);
        let due = pods::until_available(owned.iter().map(|it| &**it), seconds, &self.context.clock);
        Ok(due.map_or(Action::Done, Action::After))
    }

    async fn apply(
        &self,
        key: &Key,
        set: &StatefulSet,
        observed: &Observed<'_>,
        plan: Plan,
    ) -> Result<(), ApplyError> {
        let deletions: Vec<_> = stream::iter(plan.delete)
            .map(|it| self.delete(set, it))
            .buffer_unordered(16)
            .collect()
            .await;
        deletions.into_iter().collect::<Result<(), _>>()?;
        let creations: Vec<_> = stream::iter(plan.create)
            .map(|ordinal| self.create(key, set, observed, ordinal))
            .buffer_unordered(16)
            .collect()
            .await;
        creations.into_iter().collect()
    }

    async fn create(
        &self,
        key: &Key,
        set: &StatefulSet,
        observed: &Observed<'_>,
        ordinal: i32,
    ) -> Result<(), ApplyError> {
        self.ensure_claims(key, set, ordinal, None).await?;
        let (template, revision) = observed.version_of(ordinal);
        let pod = pod::new(set, &template, revision, ordinal);
        let name = pod.metadata.name.clone().unwrap_or_default();
        let of = format!("Pod {name} in StatefulSet {}", key.name);
        match apply::create(&self.context.client, &pod).await {
            Ok(_) => {
                let message = format!("create {of} successful");
                self.recorder.normal(set, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) if pods::is_namespace_terminating(&error) => Ok(()),
            Err(error) => {
                let message = format!("create {of} failed error: {}", error.server_message());
                self.recorder.warn(set, "FailedCreate", message);
                Err(error)
            }
        }
    }

    async fn ensure_claims(
        &self,
        key: &Key,
        set: &StatefulSet,
        ordinal: i32,
        current: Option<&Pod>,
    ) -> Result<(), ApplyError> {
        for mut claim in pod::claims(set, ordinal) {
            let name = claim.metadata.name.clone().unwrap_or_default();
            if let Some(known) = self.context.caches.claims.get(&Key::new(&key.namespace, &name)) {
                check_claim(&known, &pod::name(set, ordinal), current)?;
                continue;
            }
            claim.metadata.owner_references = retention::owners(set, None, true, &claim);
            let created =
                apply::create::<PersistentVolumeClaim>(&self.context.client, &claim).await;
            match created {
                Ok(_) => {
                    let message =
                        format!("create Claim {name} in StatefulSet {} success", key.name);
                    self.recorder.normal(set, "SuccessfulCreate", message);
                }
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A member has the labels that it is found by, whoever took them away or brought the pod; one that
    /// waits to be scheduled has its claims.
    async fn keep_identities(
        &self,
        key: &Key,
        set: &StatefulSet,
        observed: &Observed<'_>,
    ) -> Result<(), ApplyError> {
        let there = |(ordinal, _): &(&i32, &Arc<Pod>)| observed.has_place(**ordinal);
        for (ordinal, member) in observed.members.iter().filter(there) {
            if object::is_terminating(&**member) {
                continue;
            }
            if pods::phase(member) == "Pending" {
                self.ensure_claims(key, set, *ordinal, Some(&**member)).await?;
            }
            let Some(labels) = pod::missing_labels(set, member, *ordinal) else { continue };
            let patch = json!({ "metadata": { "uid": member.metadata.uid, "labels": labels } });
            let (client, name) = (&self.context.client, pod::name(set, *ordinal));
            match apply::patch::<Pod>(client, &key.namespace, &name, &patch).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The claims of all members get the owners that the policy gives them, before a member goes.
    async fn keep_claims(
        &self,
        key: &Key,
        set: &StatefulSet,
        observed: &Observed<'_>,
    ) -> Result<(), ApplyError> {
        for (ordinal, member) in &observed.members {
            for claim in pod::claims(set, *ordinal) {
                let name = claim.metadata.name.unwrap_or_default();
                let known = self.context.caches.claims.get(&Key::new(&key.namespace, &name));
                let Some(known) = known.filter(|it| !object::is_terminating(&**it)) else {
                    continue;
                };
                let has_place = observed.has_place(*ordinal);
                let Some(owners) = retention::owners(set, Some(&**member), has_place, &known)
                else {
                    continue;
                };
                let patch = json!({ "metadata": {
                    "uid": known.metadata.uid,
                    "resourceVersion": known.metadata.resource_version,
                    "ownerReferences": owners,
                } });
                let client = &self.context.client;
                apply::patch::<PersistentVolumeClaim>(client, &key.namespace, &name, &patch)
                    .await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, set: &StatefulSet, pod: Arc<Pod>) -> Result<(), ApplyError> {
        apply::delete(&self.context.client, &*pod).await?;
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let of = set.metadata.name.as_deref().unwrap_or_default();
        let message = format!("delete Pod {name} in StatefulSet {of} successful");
        self.recorder.normal(set, "SuccessfulDelete", message);
        Ok(())
    }

    async fn clean(
        &self,
        set: &StatefulSet,
        history: &revisions::History,
        owned: &[Arc<Pod>],
    ) -> Result<(), ApplyError> {
        let spec = set.spec.as_ref();
        let limit = spec.and_then(|it| it.revision_history_limit).unwrap_or(HISTORY_LIMIT);
        let current = set.status.as_ref().and_then(|it| it.current_revision.clone());
        let in_use = |revision: &k8s_openapi::api::apps::v1::ControllerRevision| {
            let name = revision.metadata.name.as_deref();
            current.as_deref() == name
                || owned.iter().any(|it| object::label(&**it, revisions::HASH_LABEL) == name)
        };
        let limit = usize::try_from(limit).unwrap_or(0);
        revisions::clean(&self.context.client, history, in_use, limit).await
    }

    async fn write_status(
        &self,
        key: &Key,
        set: &StatefulSet,
        wanted: &StatefulSetStatus,
    ) -> Result<(), ApplyError> {
        if set.status.as_ref() == Some(wanted) {
            return Ok(());
        }
        let patch = status::patch(wanted);
        let client = &self.context.client;
        let patched =
            apply::patch_status::<StatefulSet, _>(client, &key.namespace, &key.name, &patch).await;
        match patched {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}
