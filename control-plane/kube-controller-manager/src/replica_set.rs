//! Keeps as many pods as a ReplicaSet, or its elder a ReplicationController, asks for.
//!
//! Both are one controller over what they have in common, as upstream's.
//!
//! Upstream: `pkg/controller/{replicaset,replication}`.
//! The burst is upstream's 500.

mod kind;
mod rank;
mod status;

use std::{marker::PhantomData, sync::Arc};

use controller::{Action, ApplyError, Change, Key, Queue, Recorder, apply, object};
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Pod, PodTemplateSpec, ReplicationController},
};
use tracing::debug;

use self::kind::Kind;

use crate::{
    Context, caches::BY_OWNER, claim, expectations::Expectations, pod_control::PodControl, pods,
};

/// At most so many creations or deletions per pass.
const BURST: usize = 500;
const PARALLEL: usize = 5;

#[derive(Clone)]
struct Controller<K> {
    kind: PhantomData<K>,
    context: Context,
    recorder: Recorder,
    queue: Queue<Key>,
    expectations: Arc<Expectations>,
}

/// What one pass does to the pods.
#[derive(Debug, PartialEq)]
enum Plan {
    Keep,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

pub(crate) async fn run(context: Context) {
    let sets = Controller::<ReplicaSet>::run(context.clone());
    let elder = context.of("replicationcontroller-controller");
    let elders = Controller::<ReplicationController>::run(elder);
    tokio::join!(
        context.when_on("replicaset-controller", sets),
        context.when_on("replicationcontroller-controller", elders)
    );
}

impl<K: Kind> Controller<K> {
    async fn run(context: Context) {
        let it = Self {
            kind: PhantomData,
            recorder: context.recorder(K::CONTROLLER),
            queue: Queue::new(),
            expectations: Arc::default(),
            context,
        };
        it.subscribe();
        let queue = it.queue.clone();
        controller::run(K::QUEUE, queue, PARALLEL, |key| it.reconcile(key)).await;
    }

    fn subscribe(&self) {
        let queue = self.queue.clone();
        K::store(&self.context.caches).subscribe(move |change| queue.add(change.key.clone()));
        let this = self.clone();
        self.context.caches.pods.subscribe(move |change| this.pod_changed(change));
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let Some(pod) = change.latest() else { return };
        let Some(owner) = object::controller_of(&**pod) else { return self.orphan_seen(pod) };
        // An owner before an adoption or release is stale in the other one's cache too.
        if let Some(old) = change.old.as_deref().and_then(object::controller_of)
            && old.uid != owner.uid
            && old.kind == K::KIND
        {
            self.queue.add(Key::new(&change.key.namespace, &old.name));
        }
        if owner.kind != K::KIND {
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

    fn orphan_seen(&self, pod: &Pod) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for set in K::store(&self.context.caches).in_namespace(namespace) {
            let set = K::view(&set);
            let selector =
                set.spec.as_ref().and_then(|it| controller::selector(Some(&it.selector)));
            if selector.is_some_and(|it| controller::matches(&it, pod.metadata.labels.as_ref())) {
                self.queue.add(Key::of(&*set));
            }
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ApplyError> {
        let Some(own) = K::store(&self.context.caches).get(&key) else {
            self.expectations.forget(&key);
            return Ok(Action::Done);
        };
        let set = K::view(&own);
        let Some(spec) = &set.spec else { return Ok(Action::Done) };
        let Some(selector) = controller::selector(Some(&spec.selector)) else {
            return Err(ApplyError::other(format!("{} `{key}` has an invalid selector", K::KIND)));
        };
        let are_met = self.expectations.are_met(&key);
        let claims = claim::find(&*own, &selector, &self.context.caches.pods);
        let owned = claims.apply(&self.context.client, &*own).await?;
        let plan = if are_met && !object::is_terminating(&*set) {
            self.plan(&set, &owned)
        } else {
            Plan::Keep
        };
        let result = self.apply(&key, &own, &set, plan).await;
        let failure = result.as_ref().err().map(ApplyError::server_message);
        let now = self.context.clock.now();
        let wanted = status::status(&set, &owned, failure.as_deref(), now);
        let wanted = K::status(wanted);
        if set.status.as_ref() != Some(&wanted) {
            apply::patch_status::<K, _>(
                &self.context.client,
                &key.namespace,
                &key.name,
                &status::patch(&wanted),
            )
            .await
            .map_or_else(
                |error| if error.is_not_found() { Ok(()) } else { Err(error) },
                |_| Ok(()),
            )?;
        }
        result?;
        let seconds = spec.min_ready_seconds.unwrap_or(0);
        let due = pods::until_available(owned.iter().map(|it| &**it), seconds, &self.context.clock);
        Ok(due.map_or(Action::Done, Action::After))
    }

    fn plan(&self, set: &ReplicaSet, owned: &[Arc<Pod>]) -> Plan {
        let active: Vec<_> = owned.iter().filter(|it| pods::is_active(it)).cloned().collect();
        let wanted = set.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1);
        let siblings = || self.siblings(set);
        plan(usize::try_from(wanted).unwrap_or(0), active, siblings, self.context.clock.now())
    }

    /// The active pods of all ReplicaSets of the same Deployment.
    fn siblings(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let caches = &self.context.caches;
        let sets = match object::controller_of(set) {
            Some(owner) => caches.replica_sets.indexed(BY_OWNER, &owner.uid),
            None => vec![Arc::new(set.clone())],
        };
        let pods = sets.iter().flat_map(|it| caches.pods.indexed(BY_OWNER, &object::uid(&**it)));
        pods.filter(|it| pods::is_active(it)).collect()
    }

    async fn apply(
        &self,
        key: &Key,
        own: &K,
        set: &ReplicaSet,
        plan: Plan,
    ) -> Result<(), ApplyError> {
        match plan {
            Plan::Keep => Ok(()),
            Plan::Create(count) => self.create(key, own, set, count).await,
            Plan::Delete(victims) => self.control().delete(key, own, victims).await,
        }
    }

    async fn create(
        &self,
        key: &Key,
        own: &K,
        set: &ReplicaSet,
        count: usize,
    ) -> Result<(), ApplyError> {
        let template = set.spec.as_ref().and_then(|it| it.template.clone()).unwrap_or_else(empty);
        let owner = object::controller_reference(own);
        let pod = pods::from_template(&template, &key.namespace, owner);
        debug!(kind = K::KIND, set = %key, count, "creating pods");
        self.control().create(key, own, vec![pod; count]).await
    }

    fn control(&self) -> PodControl<'_> {
        let (recorder, expectations) = (&self.recorder, &*self.expectations);
        PodControl { client: &self.context.client, recorder, expectations }
    }
}

fn empty() -> PodTemplateSpec {
    PodTemplateSpec::default()
}

fn plan(
    wanted: usize,
    active: Vec<Arc<Pod>>,
    siblings: impl FnOnce() -> Vec<Arc<Pod>>,
    now: jiff::Timestamp,
) -> Plan {
    if active.len() < wanted {
        return Plan::Create((wanted - active.len()).min(BURST));
    }
    let surplus = (active.len() - wanted).min(BURST);
    if surplus == 0 {
        return Plan::Keep;
    }
    if surplus == active.len() {
        return Plan::Delete(active);
    }
    let mut ranked = rank::by_cost(active, &siblings(), now);
    ranked.truncate(surplus);
    Plan::Delete(ranked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_makes_up_the_difference_within_the_burst() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let pods = |count| (0..count).map(|_| Arc::new(Pod::default())).collect::<Vec<_>>();
        assert_eq!(plan(3, pods(3), Vec::new, now), Plan::Keep);
        assert_eq!(plan(3, pods(1), Vec::new, now), Plan::Create(2));
        assert_eq!(plan(5000, pods(0), Vec::new, now), Plan::Create(500));
        for (wanted, there, deleted) in [(0, 2, 2), (1, 3, 2), (0, 600, 500)] {
            let Plan::Delete(victims) = plan(wanted, pods(there), Vec::new, now) else {
                panic!("{there} pods for {wanted}: nothing deleted");
            };
            assert_eq!(victims.len(), deleted);
        }
    }
}
