//! Evicts pods from devices with a `NoExecute` taint that their claim does not tolerate.
//!
//! A driver taints a device in its ResourceSlice. A pod that is placed, and for which a claim with such a
//! device is reserved, goes when the shortest toleration of its claims ends.
//!
//! Upstream: `pkg/controller/devicetainteviction`. Deviation: taints of DeviceTaintRules, which upstream's
//! servers have not by default, are not known; a toleration without an effect holds for eviction too, as
//! the API says.

mod plan;

use std::{collections::HashMap, sync::Arc, time::Duration};

use controller::{
    Action, ApplyError, Change, Key, Queue, Recorder, Store, StoreSpec, object, reflect,
};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{ResourceClaim, ResourceSlice},
};
use parking_lot::Mutex;
use scheduling::resourceclaim::{self, is_reserved_for};

use self::plan::{BY_POOL, Leave, pool_key};
use crate::{Context, pods};

const EVENT: &str = "DeviceTaintManagerEviction";

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    slices: Store<ResourceSlice>,
    queue: Queue<Key>,
    /// Pods that are to leave at a moment yet to come, with their UIDs.
    leaving: Arc<Mutex<HashMap<Key, String>>>,
}

pub(crate) async fn run(context: Context) {
    let spec = StoreSpec::default().index(BY_POOL, |it| vec![plan::pool_of(it)]).trim(plan::trim);
    let it = Controller {
        recorder: context.recorder("device-taint-eviction-controller"),
        slices: reflect(context.client.clone(), spec, &context.scope),
        queue: Queue::new(),
        leaving: Arc::default(),
        context,
    };
    it.slices.synced().await;
    it.subscribe();
    let queue = it.queue.clone();
    controller::run("device-taint-eviction", queue, 10, |key| it.reconcile(key)).await;
}

impl Controller {
    fn subscribe(&self) {
        let this = self.clone();
        self.slices.subscribe(move |change| this.slice_changed(change));
        let this = self.clone();
        self.context.caches.resource_claims.subscribe(move |change| {
            let claims = [&change.old, &change.new];
            claims.into_iter().flatten().for_each(|it| this.add_consumers(it));
        });
        let this = self.clone();
        self.context.caches.pods.subscribe(move |change| {
            let seen = |pod: &Option<Arc<Pod>>| {
                let pod = pod.as_ref()?;
                let claims: Vec<_> = resourceclaim::known(pod).map(|it| it.name).collect();
                Some((pods::node_of(pod).map(str::to_owned), claims))
            };
            // One that is gone is no longer waited for.
            if change.new.is_none() || seen(&change.old) != seen(&change.new) {
                this.queue.add(change.key.clone());
            }
        });
    }

    /// Looks at those who use the pool's devices, unless its taints stayed as they were.
    fn slice_changed(&self, change: &Change<ResourceSlice>) {
        let taints = |it: &Option<Arc<ResourceSlice>>| it.as_deref().map(plan::taints);
        let is_same = match (&change.old, &change.new) {
            (Some(old), Some(new)) => old.spec.pool == new.spec.pool,
            (None, Some(only)) | (Some(only), None) => plan::taints(only).is_empty(),
            (None, None) => true,
        };
        if is_same
            && taints(&change.old).unwrap_or_default() == taints(&change.new).unwrap_or_default()
        {
            return;
        }
        let Some(slice) = change.latest() else { return };
        let pool = plan::pool_of(slice);
        for claim in self.context.caches.resource_claims.all() {
            let mut results = plan::results(&claim);
            if results.any(|it| pool_key(&it.driver, &it.pool) == pool) {
                self.add_consumers(&claim);
            }
        }
    }

    fn add_consumers(&self, claim: &ResourceClaim) {
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let consumers = claim.status.iter().flat_map(|it| it.reserved_for.iter().flatten());
        for it in consumers.filter(|it| it.resource == "pods") {
            self.queue.add(Key::new(namespace, it.name.clone()));
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ApplyError> {
        let was_leaving = self.leaving.lock().remove(&key);
        let Some(pod) = self.context.caches.pods.get(&key) else { return Ok(Action::Done) };
        if object::is_terminating(&*pod) || pods::is_over(&pod) || pods::node_of(&pod).is_none() {
            return Ok(Action::Done);
        }
        let now = self.context.clock.now();
        match self.leave(&key, &pod, now) {
            None => {
                if was_leaving == Some(object::uid(&*pod)) {
                    self.recorder.normal(&*pod, EVENT, "Cancelling deletion");
                }
                Ok(Action::Done)
            }
            Some(at) if at > now => {
                self.leaving.lock().insert(key, object::uid(&*pod));
                Ok(Action::After(self.context.clock.until(at) + Duration::from_millis(1)))
            }
            Some(_) => self.evict(&pod, now).await.map(|()| Action::Done),
        }
    }

    /// When the first of the pod's claims is no longer tolerable.
    fn leave(&self, key: &Key, pod: &Pod, now: Timestamp) -> Leave {
        let claims = resourceclaim::known(pod).filter_map(|it| {
            let claim =
                self.context.caches.resource_claims.get(&Key::new(&key.namespace, it.name))?;
            let is_its = !it.is_owned || resourceclaim::check_owner(pod, &claim).is_ok();
            (is_its && is_reserved_for(pod, &claim)).then_some(claim)
        });
        claims.filter_map(|it| plan::leave(&self.slices, &it, now)).min()
    }

    async fn evict(&self, pod: &Pod, now: Timestamp) -> Result<(), ApplyError> {
        self.recorder.normal(pod, EVENT, "Marking for deletion");
        let why = "Device Taint manager: deleting due to NoExecute taint";
        pods::disrupt(&self.context.client, pod, "DeletionByDeviceTaintManager", why, now).await
    }
}
