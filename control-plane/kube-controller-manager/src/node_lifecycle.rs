//! Notices nodes that fall silent, taints them, and evicts the pods that do not tolerate it.
//!
//! A kubelet renews its Lease and its status; what counts is when *this* process saw a change, so
//! that clocks need not agree. After the grace period the node's conditions become Unknown, its
//! pods are no longer ready, and taints follow from the conditions: `NoSchedule` at once,
//! `NoExecute` at the pace that the zone allows. Pods go when their toleration ends.
//!
//! Upstream: `pkg/controller/nodelifecycle`, `pkg/controller/tainteviction`.

mod eviction;
mod health;
mod pace;
mod taints;
mod zones;

use std::{collections::HashMap, sync::Arc, time::Duration};

use controller::{Action, ApplyError, Change, Key, Queue, Recorder, apply, object};
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod, PodCondition},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::json;
use tracing::info;

use self::{eviction::Sightings, health::Heartbeat, pace::Pace, zones::Zones};
use crate::{Context, caches::BY_NODE, pods};

/// Where kubelets keep their leases.
const LEASES: &str = "kube-node-lease";
/// Upstream's `--node-monitor-period`.
const MONITOR: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    nodes: Queue<String>,
    pods: Queue<Key>,
    heartbeats: Arc<Mutex<HashMap<String, Heartbeat>>>,
    pace: Arc<Mutex<Pace>>,
    zones: Arc<Mutex<Zones>>,
    taints_seen: Arc<Mutex<Sightings>>,
    /// Pods that are to leave at a moment yet to come, with their UIDs.
    leaving: Arc<Mutex<HashMap<Key, String>>>,
}

pub(crate) async fn run(context: Context) {
    let it = Controller {
        recorder: context.recorder("node-controller"),
        nodes: Queue::new(),
        pods: Queue::new(),
        heartbeats: Arc::default(),
        pace: Arc::default(),
        zones: Arc::default(),
        taints_seen: Arc::default(),
        leaving: Arc::default(),
        context,
    };
    it.subscribe();
    let (nodes, pods) = (it.nodes.clone(), it.pods.clone());
    let lifecycle = controller::run("node-lifecycle", nodes, 10, |name| it.reconcile(name));
    let eviction = controller::run("taint-eviction", pods, 10, |key| it.evict(key));
    tokio::join!(
        it.context.when_on("node-lifecycle-controller", lifecycle),
        it.context.when_on("taint-eviction-controller", eviction),
    );
}

impl Controller {
    fn subscribe(&self) {
        let caches = &self.context.caches;
        let this = self.clone();
        caches.nodes.subscribe(move |change| {
            let name = change.key.name.clone();
            this.announce(change);
            this.zones.lock().change(change.old.as_deref(), change.new.as_deref());
            match &change.new {
                None => drop(this.heartbeats.lock().remove(&name)),
                Some(node) => this.seen(&name, |it, now| it.see_node(node, now)),
            }
            let now = this.context.clock.now();
            this.taints_seen.lock().see(&name, change.new.as_deref(), now);
            let taints = |node: &Node| node.spec.as_ref().and_then(|it| it.taints.clone());
            if change.old.as_deref().and_then(taints) != change.new.as_deref().and_then(taints) {
                for pod in this.context.caches.pods.indexed(BY_NODE, &name) {
                    this.pods.add(Key::of(&*pod));
                }
            }
            this.nodes.add(name);
        });
        let this = self.clone();
        caches.leases.subscribe(move |change| this.lease_seen(change.new.as_deref()));
        let this = self.clone();
        caches.pods.subscribe(move |change| {
            let node = |pod: &Option<Arc<Pod>>| {
                pod.as_ref().and_then(|it| pods::node_of(it).map(str::to_owned))
            };
            // One that is gone is no longer waited for.
            if change.new.is_none() || node(&change.old) != node(&change.new) {
                this.pods.add(change.key.clone());
            }
        });
    }

    fn announce(&self, change: &Change<Node>) {
        let name = &change.key.name;
        match (&change.old, &change.new) {
            (None, Some(node)) => {
                let message = format!("Node {name} event: Registered Node {name} in Controller");
                self.recorder.normal(&**node, "RegisteredNode", message);
            }
            (Some(node), None) => {
                let message = format!("Node {name} event: Removing Node {name} from Controller");
                self.recorder.normal(&**node, "RemovingNode", message);
            }
            _ => {}
        }
    }

    fn lease_seen(&self, lease: Option<&Lease>) {
        let Some(lease) = lease.filter(|it| it.metadata.namespace.as_deref() == Some(LEASES))
        else {
            return;
        };
        let name = lease.metadata.name.clone().unwrap_or_default();
        let renewed = lease.spec.as_ref().and_then(|it| it.renew_time.as_ref()).map(|it| it.0);
        let was_silent = {
            let now = self.context.clock.now();
            let mut all = self.heartbeats.lock();
            let heartbeat = all.entry(name.clone()).or_insert_with(|| Heartbeat::new(now));
            let was_silent =
                heartbeat.is_silent(now, self.context.config.node_monitor_grace_period);
            heartbeat.see_lease(renewed, now);
            was_silent
        };
        if was_silent {
            self.nodes.add(name);
        }
    }

    fn seen(&self, name: &str, see: impl FnOnce(&mut Heartbeat, Timestamp)) {
        let now = self.context.clock.now();
        let mut all = self.heartbeats.lock();
        see(all.entry(name.to_owned()).or_insert_with(|| Heartbeat::new(now)), now);
    }

    async fn reconcile(&self, name: String) -> Result<Action, ApplyError> {
        let Some(node) = self.context.caches.nodes.get(&Key::cluster(&name)) else {
            return Ok(Action::Done);
        };
        let now = self.context.clock.now();
        let grace = self.context.config.node_monitor_grace_period;
        let is_silent = {
            let mut all = self.heartbeats.lock();
            let heartbeat = all.entry(name.clone()).or_insert_with(|| Heartbeat::new(now));
            heartbeat.is_silent(now, grace)
        };
        if is_silent && let Some(conditions) = health::unknown(&node, now) {
            info!(node = name, "no news from the node");
            // On what was seen: a kubelet that has spoken up in between is not talked over.
            let patch = json!({
                "metadata": { "resourceVersion": node.metadata.resource_version },
                "status": { "conditions": conditions },
            });
            let api = Api::<Node>::all(self.context.client.clone());
            let parameters = PatchParams::default();
            let patched = api.patch_status(&name, &parameters, &Patch::Merge(&patch)).await;
            patched.map_err(|it| ApplyError::new::<Node>("patch the status of", &name, it))?;
            self.recorder.normal(
                &*node,
                "NodeNotReady",
                format!("Node {name} status is now: NodeNotReady"),
            );
            // The cache shows it in a moment, and the rest follows from it.
            return Ok(Action::After(Duration::from_millis(100)));
        }
        if health::ready(&node) != Some("True") {
            self.unready_pods(&name, now).await?;
        }
        let wait = self.taint(&node, now).await?;
        Ok(Action::After(wait.unwrap_or(MONITOR).min(MONITOR)))
    }

    /// Pods on a node that is not ready do not serve, whatever they last said.
    async fn unready_pods(&self, node: &str, now: Timestamp) -> Result<(), ApplyError> {
        for pod in self.context.caches.pods.indexed(BY_NODE, node) {
            let Some(conditions) = not_ready(&pod, now) else { continue };
            let key = Key::of(&*pod);
            let patch = json!({
                "metadata": { "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version },
                "status": { "conditions": conditions },
            });
            let api = apply::api::<Pod>(&self.context.client, &key.namespace);
            match api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await
            {
                Ok(_) => self.recorder.warn(&*pod, "NodeNotReady", "Node is not ready"),
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(source) => {
                    return Err(ApplyError::new::<Pod>("patch the status of", &key.name, source));
                }
            }
        }
        Ok(())
    }

    /// Writes the taints that follow from the conditions. Returns when to come back for the rest.
    async fn taint(&self, node: &Node, now: Timestamp) -> Result<Option<Duration>, ApplyError> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let mut wait = None;
        let may_evict = if self.zones.lock().are_all_lost() {
            taints::Evicting::Never
        } else if taints::needs_eviction(node) {
            let zone = zones::zone_of(node);
            let pace = &self.context.config.eviction_pace;
            let interval = self.zones.lock().interval(&zone, pace);
            let turn = match interval {
                None => Err(MONITOR),
                Some(interval) => self.pace.lock().take(&zone, interval, now),
            };
            match turn {
                Ok(()) => taints::Evicting::Now,
                Err(due) => {
                    wait = Some(due);
                    taints::Evicting::Later
                }
            }
        } else {
            taints::Evicting::Now
        };
        if let Some(wanted) = taints::plan(node, may_evict, now) {
            let patch = json!({
                "metadata": { "resourceVersion": node.metadata.resource_version },
                "spec": { "taints": wanted },
            });
            let api = Api::<Node>::all(self.context.client.clone());
            let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            patched.map_err(|source| ApplyError::new::<Node>("taint", &name, source))?;
        }
        Ok(wait)
    }

    /// Deletes a pod when no toleration keeps it on its node any longer.
    async fn evict(&self, key: Key) -> Result<Action, ApplyError> {
        let leaving = self.leaving.lock().remove(&key);
        let Some(pod) = self.context.caches.pods.get(&key) else { return Ok(Action::Done) };
        let node =
            pods::node_of(&pod).and_then(|it| self.context.caches.nodes.get(&Key::cluster(it)));
        let Some(node) = node.filter(|_| !object::is_terminating(&*pod)) else {
            return Ok(Action::Done);
        };
        let now = self.context.clock.now();
        let plan = eviction::plan(&pod, &node, &self.taints_seen.lock(), now);
        match plan {
            eviction::Plan::Stay => {
                if leaving == Some(object::uid(&*pod)) {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.recorder.normal(&*pod, "TaintManagerEviction", message);
                }
                Ok(Action::Done)
            }
            eviction::Plan::LeaveAt(at) if at > now => {
                self.leaving.lock().insert(key, object::uid(&*pod));
                Ok(Action::After(self.context.clock.until(at) + Duration::from_millis(1)))
            }
            eviction::Plan::LeaveAt(_) | eviction::Plan::LeaveNow => {
                self.delete(&pod, now).await?;
                Ok(Action::Done)
            }
        }
    }

    async fn delete(&self, pod: &Pod, now: Timestamp) -> Result<(), ApplyError> {
        let key = Key::of(pod);
        self.recorder.normal(
            pod,
            "TaintManagerEviction",
            format!("Marking for deletion Pod {key}"),
        );
        let why = "Taint manager: deleting due to NoExecute taint";
        pods::disrupt(&self.context.client, pod, "DeletionByTaintManager", why, now).await
    }
}

/// The pod's conditions with `Ready` false, or `None` when they say so already.
fn not_ready(pod: &Pod, now: Timestamp) -> Option<Vec<PodCondition>> {
    let mut conditions = pod.status.as_ref()?.conditions.clone()?;
    let ready = conditions.iter_mut().find(|it| it.type_ == "Ready" && it.status == "True")?;
    ready.status = "False".into();
    ready.last_transition_time = Some(object::time(now));
    Some(conditions)
}
