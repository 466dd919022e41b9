//! One node's way out: taint, wait, evict, terminate the instance.
//!
//! Upstream: `core/scaledown/actuation/actuator.go`. The Node object is left to the cloud's node
//! controller, which deletes it when the instance is gone.

use std::time::Duration;

use controller::{EventType, Key};
use k8s_openapi::api::core::v1::Pod;

use super::{
    Actor, Ended,
    evict::{DrainError, pods_on},
    priority::{self, Group},
};
use crate::{scale_down::Removal, world::PodFact};

const DELAY_DELETION: &str = "delay-deletion.cluster-autoscaler.kubernetes.io/";
const DELAY_POLL: Duration = Duration::from_secs(5);
const EVICT_DAEMON: &str = "cluster-autoscaler.kubernetes.io/enable-ds-eviction";

impl Actor {
    /// Begins the removals: all are tainted before any is drained, so that no pod moves from one to
    /// another.
    pub(crate) async fn remove(&self, removals: Vec<Removal>) {
        let mut marked = Vec::new();
        for removal in removals {
            let object = self.nodes.get(&Key::cluster(&removal.node));
            match self.mark(&removal.node).await {
                Ok(()) => {
                    if let Some(object) = object {
                        let message = "marked the node as toBeDeleted/unschedulable";
                        self.recorder.normal(&*object, "ScaleDown", message);
                    }
                    marked.push(removal);
                }
                Err(error) => {
                    let error = telemetry::chain(&error);
                    let message =
                        format!("failed to mark the node as toBeDeleted/unschedulable: {error}");
                    if let Some(object) = object {
                        self.recorder.warn(&*object, "ScaleDownFailed", message);
                    }
                    self.removals
                        .ended
                        .lock()
                        .push(Ended { group: removal.group, is_success: false });
                }
            }
        }
        for removal in marked {
            self.begin(removal);
        }
    }

    fn begin(&self, removal: Removal) {
        let node = &removal.node;
        if removal.is_drain() {
            let pods: Vec<_> = removal.pods.iter().map(|it| it.info.name.as_str()).collect();
            let message = format!(
                "Scale-down: removing node {node}, utilization: {}, pods to reschedule: {}",
                removal.utilization,
                pods.join(",")
            );
            self.tell(EventType::Normal, "ScaleDown", message);
        } else {
            let message = format!("Scale-down: removing empty node {node:?}");
            self.tell(EventType::Normal, "ScaleDownEmpty", message);
        }
        let entry = (removal.group.clone(), removal.is_drain());
        self.removals.leaving.lock().insert(node.clone(), entry);
        let actor = self.clone();
        let name = format!("removal/{node}");
        drop(self.scope.spawn(&name, async move {
            let is_success = actor.carry_out(&removal).await;
            actor.removals.leaving.lock().remove(&removal.node);
            actor.removals.ended.lock().push(Ended { group: removal.group, is_success });
        }));
    }

    async fn carry_out(&self, removal: &Removal) -> bool {
        tokio::time::sleep(self.options.scale_down.delay_after_taint).await;
        let outcome = match self.prepare(removal).await {
            Ok(()) => {
                self.wait_for_delay(&removal.node).await;
                let ended = self.cloud.terminate(&removal.provider_id).await;
                ended.map_err(|it| telemetry::chain(&it).to_string())
            }
            Err(error) => Err(telemetry::chain(&error).to_string()),
        };
        let object = self.nodes.get(&Key::cluster(&removal.node));
        match outcome {
            Ok(()) => {
                if let Some(object) = object {
                    let message = "node removed by cluster autoscaler";
                    self.recorder.normal(&*object, "ScaleDown", message);
                }
                self.metrics.add("scaled_down_nodes_total", removal.reason(), 1.0);
                true
            }
            Err(why) => {
                let what = if removal.is_drain() { "drain and delete" } else { "delete empty" };
                tracing::warn!(node = removal.node, why, "a scale-down failed");
                if let Some(object) = object {
                    let message = format!("failed to {what} node: {why}");
                    self.recorder.warn(&*object, "ScaleDownFailed", message);
                }
                if let Err(error) = self.unmark(&removal.node).await {
                    let error = telemetry::chain(&error);
                    tracing::warn!(node = removal.node, %error, "cannot take the taint off");
                }
                false
            }
        }
    }

    /// Evicts what is on the node now.
    async fn prepare(&self, removal: &Removal) -> Result<(), DrainError> {
        let (mut daemons, mut others) = (Vec::new(), Vec::new());
        for pod in pods_on(&self.client, &removal.node).await? {
            let fact = PodFact::new(pod);
            if fact.is_mirror() {
                continue;
            }
            let list = if fact.is_of_daemon_set() { &mut daemons } else { &mut others };
            list.push(fact);
        }
        if !removal.is_drain() && !others.is_empty() {
            let names: Vec<_> = others.iter().map(PodFact::key).collect();
            return Err(DrainError::NotEmpty(names.join(", ")));
        }
        let default = match removal.is_drain() {
            true => self.options.drain.evict_daemon_sets_of_occupied,
            false => self.options.drain.evict_daemon_sets_of_empty,
        };
        daemons.retain(|it| it.annotation(EVICT_DAEMON).map_or(default, |value| value == "true"));
        others.append(&mut daemons);
        for Group { grace, pods } in priority::groups(others, &self.options.drain) {
            let (mut daemons, mut others): (Vec<Pod>, Vec<Pod>) = (Vec::new(), Vec::new());
            for it in pods {
                let list = if it.is_of_daemon_set() { &mut daemons } else { &mut others };
                list.push((*it.pod).clone());
            }
            self.evict_all(&others, grace).await?;
            self.evict_some(&daemons, grace).await;
        }
        Ok(())
    }

    /// Somebody may ask for time by annotation, to take volumes or addresses off.
    async fn wait_for_delay(&self, name: &str) {
        let until = self.clock.now() + self.options.scale_down.deletion_delay_limit;
        let is_delayed = || {
            let found = self.nodes.get(&Key::cluster(name));
            let annotations = found.and_then(|it| it.metadata.annotations.clone());
            annotations.into_iter().flatten().any(|(key, _)| key.starts_with(DELAY_DELETION))
        };
        while is_delayed() && self.clock.now() < until {
            tokio::time::sleep(DELAY_POLL).await;
        }
        if is_delayed() {
            tracing::warn!(node = name, "removing a node although its deletion is to be delayed");
        }
    }
}
