//! A NodeClaim that is deleted: its node is emptied, its instance ended, then both objects go.
//!
//! Pods are evicted in four steps: what is not critical, then daemons, then what is critical, then
//! its daemons; a step begins when the one before is done. What tolerates the taint stays, and so does
//! what should have ended a minute ago: its kubelet is gone. With a grace period the deadline is kept
//! whatever budgets say; it is written on the claim when it is first worked out. Where the instance is
//! gone already, nothing is drained: nobody would end the pods. Volumes are waited for until they are
//! detached. Upstream: `pkg/controllers/node/termination`.

mod volumes;

use std::time::Duration;

use api_kube::karpenter::{NodeClaim, TERMINATION_FINALIZER, annotations, taints};
use aws_wire::client::CallError;
use controller::{Action, ApplyError};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api,
    api::{DeleteParams, EvictParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use tracing::{debug, info};

use self::volumes::{Volumes, drained};
use super::{Context, disruption::REASON, lifecycle::pool_of};
use crate::cloud::instance_id;

const AGAIN: Duration = Duration::from_secs(1);
/// A pod that is still there so long after its time holds its node no longer: nobody ends it.
const STUCK: SignedDuration = SignedDuration::from_mins(1);
/// The condition of a claim whose instance is being ended.
const TERMINATING: &str = "InstanceTerminating";
/// How a deadline is written.
const SECONDS: &str = "%Y-%m-%dT%H:%M:%SZ";
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

impl Context {
    pub(super) async fn finish_claim(
        &self,
        claim: &NodeClaim,
        node: Option<&core::Node>,
    ) -> Result<Action, ApplyError> {
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        let of = [("nodepool", pool_of(claim))];
        let launched = self.launched.lock().get(uid).map(|it| it.provider_id.clone());
        let provider = claim.status.as_ref().and_then(|it| it.provider_id.clone()).or(launched);
        let mut id = provider.as_deref().and_then(instance_id).map(str::to_owned);
        if id.is_none() {
            // Its launch may have been answered to nobody.
            let found = self.cloud.instance_of(claim).await.map_err(failed)?;
            id = found.and_then(|it| it.instance_id);
        }
        let id = id.as_deref();
        let now = self.clock.now();
        self.note_deadline(claim).await?;
        let mut volumes = None;
        if let Some(node) = node {
            self.retire(node).await?;
            if !self.is_gone(node, id).await? {
                let is_empty = self.empty(claim, node).await?;
                volumes = is_empty.then(|| self.volumes_of(claim, node));
                if volumes == Some(Volumes::Attached) {
                    self.events.awaiting_detachment(node, &self.attachments_of(node));
                }
                if volumes.is_none_or(|it| it == Volumes::Attached) {
                    self.note_drain(claim, volumes).await;
                    return Ok(Action::After(AGAIN));
                }
            }
        }
        if let Some(id) = id {
            let instance = self.cloud.instance(id).await.map_err(failed)?;
            let state = instance.and_then(|it| it.state).and_then(|it| it.name);
            match state.as_deref() {
                None => {}
                Some("shutting-down") => {
                    self.note_termination(claim, volumes).await?;
                    return Ok(Action::After(AGAIN));
                }
                Some(_) => {
                    self.cloud.terminate(id).await.map_err(failed)?;
                    self.metrics.add("nodes_drained_total", &of, 1.0);
                    self.note_termination(claim, volumes).await?;
                    return Ok(Action::After(AGAIN));
                }
            }
        }
        if let Some(node) = node {
            self.release_node(node).await?;
            self.metrics.add("nodes_terminated_total", &of, 1.0);
            let asked = node.metadata.deletion_timestamp.as_ref().map_or(now, |it| it.0);
            let took = now.duration_since(asked).as_secs_f64();
            self.metrics.observe("nodes_termination_duration_seconds", &of, took);
            if let Some(made) = &node.metadata.creation_timestamp {
                let age = now.duration_since(made.0).as_secs_f64();
                self.metrics.observe("nodes_lifetime_duration_seconds", &of, age);
            }
        }
        info!(claim = claim.name(), "terminated");
        self.launched.lock().remove(uid);
        let api = Api::<NodeClaim>::all(self.client.clone());
        let mut finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|it| it != TERMINATION_FINALIZER);
        let patch = json!({ "metadata": { "finalizers": finalizers } });
        match api.patch(claim.name(), &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Action::Done),
            Err(error) => Err(ApplyError::new::<NodeClaim>("patch", claim.name(), error)),
            Ok(_) => {
                let asked = claim.metadata.deletion_timestamp.as_ref().map_or(now, |it| it.0);
                let took = now.duration_since(asked).as_secs_f64();
                self.metrics.observe("nodeclaims_termination_duration_seconds", &of, took);
                self.metrics.add("nodeclaims_terminated_total", &of, 1.0);
                self.time_termination(claim, &of);
                Ok(Action::Done)
            }
        }
    }

    /// Says that the instance is being ended, and since when; `volumes`: where its node was drained.
    async fn note_termination(
        &self,
        claim: &NodeClaim,
        volumes: Option<Volumes>,
    ) -> Result<(), ApplyError> {
        if claim.is_true(TERMINATING) {
            return Ok(());
        }
        let mut all = vec![(TERMINATING, Some(true), TERMINATING, "")];
        if volumes.is_some() {
            all.extend(drained(volumes));
        }
        self.say(claim, &all, |_| {}).await
    }

    /// Takes notice of how long the instance took to go.
    fn time_termination(&self, claim: &NodeClaim, of: &[(&str, &str)]) {
        let begun = claim.condition(TERMINATING).filter(|it| it.status == "True");
        if let Some(begun) = begun {
            let took = self.clock.now().duration_since(begun.last_transition_time.0);
            let name = "nodeclaims_instance_termination_duration_seconds";
            self.metrics.observe(name, of, took.as_secs_f64());
        }
    }

    /// Whether the instance under a node is no more. Only asked where the node is not ready: one that
    /// is has its kubelet.
    async fn is_gone(&self, node: &core::Node, id: Option<&str>) -> Result<bool, ApplyError> {
        let conditions = node.status.as_ref().and_then(|it| it.conditions.as_deref());
        let mut conditions = conditions.unwrap_or_default().iter();
        if conditions.any(|it| it.type_ == "Ready" && it.status == "True") {
            return Ok(false);
        }
        let Some(id) = id else { return Ok(false) };
        let state = self.cloud.instance(id).await.map_err(failed)?;
        let state = state.and_then(|it| it.state).and_then(|it| it.name);
        Ok(state.is_none_or(|it| it == "shutting-down"))
    }

    /// Writes down when the grace period ends, for whoever looks and for a Karpenter after this one.
    async fn note_deadline(&self, claim: &NodeClaim) -> Result<(), ApplyError> {
        let marks = claim.metadata.annotations.as_ref();
        let is_noted = marks.is_some_and(|it| it.contains_key(annotations::TERMINATION_TIMESTAMP));
        let Some(deadline) = deadline(claim).filter(|_| !is_noted) else { return Ok(()) };
        let text = deadline.strftime(SECONDS).to_string();
        let patch = json!({ "metadata": { "annotations": {
            annotations::TERMINATION_TIMESTAMP: &text } } });
        let api = Api::<NodeClaim>::all(self.client.clone());
        match api.patch(claim.name(), &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(ApplyError::new::<NodeClaim>("patch", claim.name(), error)),
            Ok(_) => {
                self.events.expiring(claim, &text);
                Ok(())
            }
        }
    }

    /// Takes no more pods, and goes when its finalizer does.
    async fn retire(&self, node: &core::Node) -> Result<(), ApplyError> {
        self.taint(node).await?;
        if node.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let api = Api::<core::Node>::all(self.client.clone());
        match api.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(ApplyError::new::<core::Node>("delete", name, error)),
            Ok(_) => Ok(()),
        }
    }

    /// Whether the node has no pods left that have to go.
    async fn empty(&self, claim: &NodeClaim, node: &core::Node) -> Result<bool, ApplyError> {
        let now = self.clock.now();
        let mut leaving = self.pods_on(node.metadata.name.as_deref().unwrap_or_default());
        leaving.retain(|it| has_to_go(it, now));
        let deadline = deadline(claim);
        if let Some(deadline) = deadline {
            self.events.expiring(node, &deadline.strftime(SECONDS).to_string());
        }
        let Some(first) = leaving.iter().map(|it| tier(it)).min() else { return Ok(true) };
        for pod in &leaving {
            match deadline {
                // Whatever its turn is.
                Some(deadline) if is_due(pod, deadline, now) => {
                    self.cut_short(pod, deadline).await?;
                }
                _ if tier(pod) == first => self.evict(claim, node, pod).await?,
                _ => {}
            }
        }
        let why = format!("{} pods are waiting to be evicted", leaving.len());
        self.events.failed_draining(node, why);
        Ok(false)
    }

    pub(super) async fn taint(&self, node: &core::Node) -> Result<(), ApplyError> {
        let mut all = node.spec.clone().unwrap_or_default().taints.unwrap_or_default();
        if all.iter().any(|it| it.key == taints::DISRUPTED) {
            return Ok(());
        }
        all.push(core::Taint {
            key: taints::DISRUPTED.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..core::Taint::default()
        });
        let patch = json!({
            "metadata": { "labels": { EXCLUDE: "karpenter" },
                "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": all } });
        self.patch_node(node.metadata.name.as_deref().unwrap_or_default(), &patch).await
    }

    /// Deletes a pod so that it is gone by then, whatever budgets say.
    async fn cut_short(&self, pod: &core::Pod, deadline: Timestamp) -> Result<(), ApplyError> {
        let (api, name) = self.api_of(pod);
        let (own, now) = (grace_of(pod), self.clock.now());
        let left = deadline.duration_since(now).as_secs().clamp(1, own.max(1));
        let parameters = DeleteParams {
            grace_period_seconds: u32::try_from(left).ok(),
            preconditions: uid_of(pod),
            ..DeleteParams::default()
        };
        match api.delete(name, &parameters).await {
            // It is gone, or is another one by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(ApplyError::new::<core::Pod>("delete", name, error)),
            Ok(_) => {
                self.events.cut_short(pod, deadline, left, own);
                Ok(())
            }
        }
    }

    fn api_of<'a>(&self, pod: &'a core::Pod) -> (Api<core::Pod>, &'a str) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api = Api::namespaced(self.client.clone(), namespace);
        (api, pod.metadata.name.as_deref().unwrap_or_default())
    }

    async fn evict(
        &self,
        claim: &NodeClaim,
        node: &core::Node,
        pod: &core::Pod,
    ) -> Result<(), ApplyError> {
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let (api, name) = self.api_of(pod);
        let options = DeleteParams { preconditions: uid_of(pod), ..DeleteParams::default() };
        let parameters = EvictParams { delete_options: Some(options), ..EvictParams::default() };
        let answer = api.evict(name, &parameters).await;
        let code = match &answer {
            Ok(_) => "200".to_owned(),
            Err(kube::Error::Api(status)) => status.code.to_string(),
            Err(_) => "none".to_owned(),
        };
        self.metrics.add("pods_eviction_requests_total", &[("code", &code)], 1.0);
        match answer {
            Ok(_) => {
                let reason = eviction_reason(claim);
                self.metrics.add("pods_drained_total", &[("reason", reason)], 1.0);
                self.events.evicted(pod, reason);
                Ok(())
            }
            // A budget allows none now, or the pod is gone.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 429 | 500) => {
                debug!(pod = name, code = status.code, "not evicted now");
                let why = match status.code {
                    429 => Some("evicting pod violates a PDB"),
                    500 => Some("eviction does not support multiple PDBs"),
                    _ => None,
                };
                if let Some(why) = why {
                    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                    self.events.failed_draining(node, format!("{why} (Pod={namespace}/{name})"));
                }
                Ok(())
            }
            Err(error) => Err(ApplyError::new::<core::Pod>("evict", name, error)),
        }
    }

    async fn release_node(&self, node: &core::Node) -> Result<(), ApplyError> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let mut finalizers = node.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|it| it != TERMINATION_FINALIZER);
        match self.patch_node(name, &json!({ "metadata": { "finalizers": finalizers } })).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }
}

fn failed(error: CallError) -> ApplyError {
    ApplyError::other(telemetry::chain(&error).to_string())
}

/// When the claim's grace period ends: as it is written there, or as it follows from its length.
fn deadline(claim: &NodeClaim) -> Option<Timestamp> {
    let marks = claim.metadata.annotations.as_ref();
    let written = marks.and_then(|it| it.get(annotations::TERMINATION_TIMESTAMP));
    if let Some(written) = written.and_then(|it| it.parse().ok()) {
        return Some(written);
    }
    let asked = claim.metadata.deletion_timestamp.as_ref()?.0;
    let length = claim.spec.termination_grace_period?.get()?;
    asked.checked_add(SignedDuration::try_from(length).ok()?).ok()
}

/// What a claim's pods are evicted for.
fn eviction_reason(claim: &NodeClaim) -> &str {
    let known = claim.condition(REASON).filter(|it| it.status == "True");
    known.map_or("Forceful Termination", |it| it.reason.as_str())
}

fn uid_of(pod: &core::Pod) -> Option<Preconditions> {
    Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None })
}

fn grace_of(pod: &core::Pod) -> i64 {
    pod.spec.as_ref().and_then(|it| it.termination_grace_period_seconds).unwrap_or(30)
}

/// Whether a pod has to be deleted now so that it is gone by the deadline: it would take as long, or
/// takes longer already.
fn is_due(pod: &core::Pod, deadline: Timestamp, now: Timestamp) -> bool {
    let left = deadline.duration_since(now);
    match &pod.metadata.deletion_timestamp {
        None => left <= SignedDuration::from_secs(grace_of(pod)),
        // Nothing is gone in less than a second.
        Some(ends) => ends.0.duration_since(now) > left.max(SignedDuration::from_secs(1)),
    }
}

fn has_to_go(pod: &core::Pod, now: Timestamp) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let is_mirror = owners.iter().any(|it| it.kind == "Node");
    let taint = core::Taint {
        key: taints::DISRUPTED.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..core::Taint::default()
    };
    let tolerations = pod.spec.as_ref().and_then(|it| it.tolerations.as_deref());
    let stays = tolerations.unwrap_or_default().iter().any(|it| scheduling::tolerates(it, &taint));
    let ends = pod.metadata.deletion_timestamp.as_ref().map(|it| it.0);
    let is_stuck = ends.is_some_and(|it| now.duration_since(it) > STUCK);
    !matches!(phase, Some("Succeeded" | "Failed")) && !is_mirror && !stays && !is_stuck
}

/// The step in which a pod goes.
fn tier(pod: &core::Pod) -> u8 {
    let class = pod.spec.as_ref().and_then(|it| it.priority_class_name.as_deref());
    let is_critical = matches!(class, Some("system-cluster-critical" | "system-node-critical"));
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let is_daemon = owners.iter().any(|it| it.kind == "DaemonSet");
    u8::from(is_critical) * 2 + u8::from(is_daemon)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_critical_goes_last_and_what_tolerates_the_taint_stays() {
        let pod = |spec: serde_json::Value, owner: &str| -> core::Pod {
            serde_json::from_value(json!({ "metadata": { "ownerReferences": [
                { "kind": owner, "name": "o", "apiVersion": "v1", "uid": "u" }] }, "spec": spec }))
            .unwrap()
        };
        let plain = json!({ "containers": [] });
        let critical = json!({ "containers": [], "priorityClassName": "system-node-critical" });
        let tolerant = json!({ "containers": [], "tolerations": [{ "operator": "Exists" }] });
        assert_eq!(tier(&pod(plain.clone(), "ReplicaSet")), 0);
        assert_eq!(tier(&pod(plain.clone(), "DaemonSet")), 1);
        assert_eq!(tier(&pod(critical, "DaemonSet")), 3);
        let ends: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut leaving = pod(plain.clone(), "ReplicaSet");
        assert!(has_to_go(&leaving, ends));
        leaving.metadata.deletion_timestamp = Some(controller::object::time(ends));
        assert!(has_to_go(&leaving, ends + STUCK));
        assert!(!has_to_go(&leaving, ends + STUCK + SignedDuration::from_secs(1)));
        assert!(!has_to_go(&pod(tolerant, "DaemonSet"), ends));
        assert!(!has_to_go(&pod(plain, "Node"), ends));
    }
}
