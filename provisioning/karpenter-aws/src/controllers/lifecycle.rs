//! A NodeClaim from its launch to a node that is ready for pods.
//!
//! [`plan`] says the next step, from the claim, its node and the time alone. Upstream:
//! `pkg/controllers/nodeclaim/lifecycle`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_kube::karpenter::{
    NodeClaim, NodeClaimStatus, TERMINATION_FINALIZER, annotations, labels, taints,
};
use controller::{Action, ApplyError, Key};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tracing::info;

use super::{
    Context, conditions,
    launch::Failed,
    merge,
    registrations::{self, Registrations},
};

/// What a claim's `Ready` depends on.
pub(super) const PARTS: [&str; 3] = ["Launched", "Registered", "Initialized"];
/// A launch has to have succeeded by then, and the node to have joined.
const LAUNCH_LIMIT: SignedDuration = SignedDuration::from_mins(5);
const REGISTRATION_LIMIT: SignedDuration = SignedDuration::from_mins(15);
const SOON: Duration = Duration::from_secs(5);
/// Characters of a failure in a condition (upstream's).
const MOST_OF_MESSAGE: usize = 300;

/// Taints that say that a node is not ready yet, and go by themselves.
const EPHEMERAL: [&str; 4] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.cloudprovider.kubernetes.io/uninitialized",
    taints::UNREGISTERED,
];

/// Taints of those who say when a node is ready for what they do.
const READINESS: &str = "readiness.k8s.io/";

/// The next step of a claim that is not being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Launch,
    Register,
    Initialize,
    /// It has taken too long.
    Delete(&'static str),
    /// Nothing yet; why.
    Wait(&'static str),
    Settled,
}

pub(super) fn plan(claim: &NodeClaim, node: Option<&core::Node>, now: Timestamp) -> Step {
    let made = claim.metadata.creation_timestamp.as_ref().map_or(now, |it| it.0);
    let age = now.duration_since(made);
    if !claim.is_true("Launched") {
        return if age > LAUNCH_LIMIT { Step::Delete("launch timed out") } else { Step::Launch };
    }
    let Some(node) = node else {
        return match (claim.is_true("Registered"), age > REGISTRATION_LIMIT) {
            (true, _) => Step::Wait("NodeNotFound"),
            (false, true) => Step::Delete("registration timed out"),
            (false, false) => Step::Wait("NodeNotFound"),
        };
    };
    if !claim.is_true("Registered") {
        return Step::Register;
    }
    if claim.is_true("Initialized") {
        return Step::Settled;
    }
    match uninitialized(claim, node) {
        Some(why) => Step::Wait(why),
        None => Step::Initialize,
    }
}

/// What the node still lacks.
fn uninitialized(claim: &NodeClaim, node: &core::Node) -> Option<&'static str> {
    let status = node.status.as_ref();
    let mut of_node = status.and_then(|it| it.conditions.as_deref()).unwrap_or_default().iter();
    if !of_node.any(|it| it.type_ == "Ready" && it.status == "True") {
        return Some("NodeNotReady");
    }
    let on_node = node.spec.as_ref().and_then(|it| it.taints.as_deref()).unwrap_or_default();
    let startup = &claim.spec.startup_taints;
    if on_node.iter().any(|it| startup.iter().any(|s| s.key == it.key && s.effect == it.effect)) {
        return Some("StartupTaintsExist");
    }
    let is_ephemeral = |key: &str| EPHEMERAL.contains(&key) || key.starts_with(READINESS);
    if on_node.iter().any(|it| is_ephemeral(&it.key)) {
        return Some("KnownEphemeralTaintsExist");
    }
    let allocatable = status.and_then(|it| it.allocatable.as_ref());
    let is_missing = claim.spec.resources.requests.iter().any(|(name, _)| {
        let is_extended = name.contains('/');
        let found = allocatable.and_then(|it| it.get(name)).map(|it| it.0.as_str());
        is_extended && found.is_none_or(|it| it == "0")
    });
    is_missing.then_some("ResourceNotRegistered")
}

impl Context {
    pub(super) async fn reconcile_claim(self: &Arc<Self>, key: &Key) -> Result<Action, ApplyError> {
        let Some(claim) = self.claims.get(key) else { return Ok(Action::Done) };
        let node = self.node_of(&claim);
        if claim.is_true("Launched") {
            let uid = claim.metadata.uid.as_deref().unwrap_or_default();
            self.launched.lock().remove(uid);
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return self.finish_claim(&claim, node.as_deref()).await;
        }
        // Whoever deletes a node means its claim.
        if node.as_ref().is_some_and(|it| it.metadata.deletion_timestamp.is_some()) {
            self.delete_claim(&claim, "its node is being deleted").await?;
            return Ok(Action::Done);
        }
        match plan(&claim, node.as_deref(), self.clock.now()) {
            Step::Launch => self.launch_claim(&claim).await,
            Step::Register => {
                if let Some(node) = &node {
                    self.register(&claim, node).await?;
                }
                Ok(Action::After(Duration::from_millis(200)))
            }
            Step::Initialize => {
                if let Some(node) = &node {
                    self.initialize(&claim, node).await?;
                }
                Ok(Action::Done)
            }
            Step::Delete(why) => {
                self.delete_claim(&claim, why).await?;
                self.note_registration(&claim, |it| it.failed(registrations::failure(&claim)));
                Ok(Action::Done)
            }
            Step::Wait(why) => {
                let kind = if claim.is_true("Registered") { "Initialized" } else { "Registered" };
                self.say(&claim, &[(kind, None, why, "")], |_| {}).await?;
                Ok(Action::After(SOON))
            }
            Step::Settled => Ok(Action::Done),
        }
    }

    pub(super) fn node_of(&self, claim: &NodeClaim) -> Option<Arc<core::Node>> {
        let provider = claim.status.as_ref()?.provider_id.as_deref()?;
        let is_it = |node: &Arc<core::Node>| {
            node.spec.as_ref().and_then(|it| it.provider_id.as_deref()) == Some(provider)
        };
        self.nodes.all().into_iter().find(is_it)
    }

    async fn launch_claim(&self, claim: &NodeClaim) -> Result<Action, ApplyError> {
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        // The store may lag behind what was said: one claim is one instance.
        let known = self.launched.lock().get(&uid).cloned();
        let launched = match known {
            Some(launched) => Ok(launched),
            None => self.launch(claim).await,
        };
        match launched {
            Ok(launched) => {
                self.launched.lock().insert(uid, launched.clone());
                info!(claim = claim.name(), instance = launched.provider_id, "launched");
                let api = Api::<NodeClaim>::all(self.client.clone());
                let profile = launched.profile.iter();
                let profile: BTreeMap<&str, &String> =
                    profile.map(|it| (annotations::INSTANCE_PROFILE, it)).collect();
                let patch = json!({ "metadata": {
                    "labels": launched.labels, "annotations": profile } });
                let patched =
                    api.patch(claim.name(), &PatchParams::default(), &Patch::Merge(&patch)).await;
                let patched = patched
                    .map_err(|error| ApplyError::new::<NodeClaim>("patch", claim.name(), error))?;
                let said = self
                    .say(&patched, &[("Launched", Some(true), "Launched", "")], |status| {
                        status.provider_id = Some(launched.provider_id.clone());
                        status.image_id = Some(launched.image_id.clone());
                        status.capacity = launched.capacity.to_list();
                        status.allocatable = launched.allocatable.to_list();
                    })
                    .await;
                said?;
                Ok(Action::After(SOON))
            }
            Err(Failed::Capacity(why)) => {
                self.events.launch_failed(claim, "InsufficientCapacityError", &why);
                self.count_failed("InsufficientCapacity");
                self.count_disrupted(claim, "insufficient_capacity");
                self.delete_claim(claim, "nothing that would do can be had").await?;
                Ok(Action::Done)
            }
            Err(Failed::Class(why)) => {
                self.events.launch_failed(claim, "NodeClassNotReady", &why);
                self.count_failed("NodeClassNotReady");
                self.delete_claim(claim, "its class is not ready").await?;
                Ok(Action::Done)
            }
            Err(Failed::NotYet) => Ok(Action::After(SOON)),
            Err(Failed::Call { reason, message }) => {
                self.count_failed(reason);
                let short = shortened(&message);
                self.say(claim, &[("Launched", None, reason, short)], |_| {}).await?;
                Err(ApplyError::other(message))
            }
        }
    }

    fn count_failed(&self, reason: &str) {
        let of = [("reason", reason)];
        self.metrics.add("cloudprovider_instance_launch_failures_total", &of, 1.0);
    }

    async fn register(&self, claim: &NodeClaim, node: &core::Node) -> Result<(), ApplyError> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let spec = node.spec.clone().unwrap_or_default();
        let mut all: Vec<core::Taint> = spec.taints.unwrap_or_default();
        let known = node.metadata.labels.as_ref();
        let is_registered = known.is_some_and(|it| it.contains_key(labels::REGISTERED));
        if !is_registered && !all.iter().any(|it| it.key == taints::UNREGISTERED) {
            self.events.unregistered_taint_missing(claim);
        }
        all.retain(|it| it.key != taints::UNREGISTERED);
        let is_synced = node
            .metadata
            .labels
            .as_ref()
            .is_none_or(|it| it.get(labels::DO_NOT_SYNC_TAINTS).is_none_or(|it| it != "true"));
        if is_synced {
            for taint in claim.spec.taints.iter().chain(&claim.spec.startup_taints) {
                if !all.iter().any(|it| it.key == taint.key && it.effect == taint.effect) {
                    all.push(taint.clone());
                }
            }
        }
        let mut marks = claim.metadata.labels.clone().unwrap_or_default();
        marks.insert(labels::REGISTERED.to_owned(), "true".to_owned());
        let mut finalizers = node.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|it| it == TERMINATION_FINALIZER) {
            finalizers.push(TERMINATION_FINALIZER.to_owned());
        }
        let mut owner = controller::object::controller_reference(claim);
        owner.controller = None;
        let patch = json!({
            "metadata": { "labels": marks, "finalizers": finalizers, "ownerReferences": [owner],
                "annotations": claim.metadata.annotations,
                "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": all },
        });
        self.patch_node(&name, &patch).await?;
        self.say(claim, &[("Registered", Some(true), "Registered", "")], |status| {
            status.node_name = Some(name.clone());
        })
        .await?;
        self.note_registration(claim, Registrations::joined);
        // Not before: who looks at an older claim registers it again, and is refused here.
        self.metrics.add("nodes_created_total", &[("nodepool", pool_of(claim))], 1.0);
        Ok(())
    }

    async fn initialize(&self, claim: &NodeClaim, node: &core::Node) -> Result<(), ApplyError> {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.patch_node(
            &name,
            &json!({ "metadata": { "labels": { labels::INITIALIZED: "true" } } }),
        )
        .await?;
        // Its capacity stays what was promised: the node says what it has.
        self.say(claim, &[("Initialized", Some(true), "Initialized", "")], |_| {}).await
    }

    pub(super) async fn patch_node(&self, name: &str, patch: &Value) -> Result<(), ApplyError> {
        let api = Api::<core::Node>::all(self.client.clone());
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        let patched = patched.map(drop);
        patched.map_err(|error| ApplyError::new::<core::Node>("patch", name, error))
    }

    /// Sets conditions of a claim (kind, status, reason, message) and what `with` changes of its status, where that is news.
    pub(super) async fn say(
        &self,
        claim: &NodeClaim,
        wanted: &[(&str, Option<bool>, &str, &str)],
        with: impl Fn(&mut NodeClaimStatus),
    ) -> Result<(), ApplyError> {
        let (now, generation) = (self.clock.now(), claim.metadata.generation);
        let mut status = claim.status.clone().unwrap_or_default();
        for (kind, value, reason, message) in wanted {
            let all = &mut status.conditions;
            conditions::set(all, kind, *value, reason, message, generation, now);
        }
        conditions::set_ready(&mut status.conditions, &PARTS, generation, now);
        with(&mut status);
        if claim.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let api = Api::<NodeClaim>::all(self.client.clone());
        // Of an older claim the conditions would be too: then it conflicts, and is tried again.
        let mut patch = merge::status(claim.status.as_ref(), &status);
        patch["metadata"] = json!({ "resourceVersion": claim.metadata.resource_version });
        let patched =
            api.patch_status(claim.name(), &PatchParams::default(), &Patch::Merge(&patch)).await;
        match patched {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(ApplyError::new::<NodeClaim>("patch", claim.name(), error)),
            Ok(_) => Ok(()),
        }
    }

    /// Takes a condition of a claim back.
    pub(super) async fn clear(&self, claim: &NodeClaim, kind: &str) -> Result<(), ApplyError> {
        self.say(claim, &[], |status| status.conditions.retain(|it| it.type_ != kind)).await
    }

    pub(super) async fn delete_claim(
        &self,
        claim: &NodeClaim,
        why: &str,
    ) -> Result<(), ApplyError> {
        info!(claim = claim.name(), why, "deleting");
        let api = Api::<NodeClaim>::all(self.client.clone());
        match api.delete(claim.name(), &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(ApplyError::new::<NodeClaim>("delete", claim.name(), error)),
            Ok(_) => Ok(()),
        }
    }
}

pub(super) fn pool_of(claim: &NodeClaim) -> &str {
    let marks = claim.metadata.labels.as_ref();
    marks.and_then(|it| it.get(labels::NODE_POOL)).map_or("", String::as_str)
}

/// As much of a message as a condition shows.
fn shortened(message: &str) -> &str {
    message.char_indices().nth(MOST_OF_MESSAGE).map_or(message, |(at, _)| &message[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(conditions: &[&str]) -> NodeClaim {
        let all: Vec<Value> = conditions
            .iter()
            .map(|it| {
                json!({ "type": it, "status": "True", "reason": "", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z" })
            })
            .collect();
        serde_json::from_value(json!({
            "metadata": { "name": "a", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "startupTaints": [{ "key": "agent", "effect": "NoSchedule" }] },
            "status": { "conditions": all } }))
        .unwrap()
    }

    fn node(is_ready: bool, taints: &[&str]) -> core::Node {
        let taints: Vec<Value> =
            taints.iter().map(|it| json!({ "key": it, "effect": "NoSchedule" })).collect();
        let status = if is_ready { "True" } else { "False" };
        serde_json::from_value(json!({ "metadata": { "name": "n" }, "spec": { "taints": taints },
            "status": { "conditions": [{ "type": "Ready", "status": status }] } }))
        .unwrap()
    }

    #[test]
    fn a_claim_is_launched_registered_and_initialized_in_turn() {
        let at = |minutes: i64| {
            let made: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            made + SignedDuration::from_mins(minutes)
        };
        let launched = ["Launched"];
        let registered = ["Launched", "Registered"];
        let all = ["Launched", "Registered", "Initialized"];
        for (conditions, node, minutes, expected) in [
            (&[][..], None, 0, Step::Launch),
            (&[][..], None, 6, Step::Delete("launch timed out")),
            (&launched[..], None, 14, Step::Wait("NodeNotFound")),
            (&launched[..], None, 16, Step::Delete("registration timed out")),
            (&launched[..], Some(node(false, &[])), 1, Step::Register),
            (&registered[..], Some(node(false, &[])), 1, Step::Wait("NodeNotReady")),
            (&registered[..], Some(node(true, &["agent"])), 1, Step::Wait("StartupTaintsExist")),
            (
                &registered[..],
                Some(node(true, &["node.kubernetes.io/not-ready"])),
                1,
                Step::Wait("KnownEphemeralTaintsExist"),
            ),
            (
                &registered[..],
                Some(node(true, &["readiness.k8s.io/network"])),
                1,
                Step::Wait("KnownEphemeralTaintsExist"),
            ),
            (&registered[..], Some(node(true, &[])), 100, Step::Initialize),
            (&all[..], Some(node(true, &[])), 100, Step::Settled),
        ] {
            assert_eq!(plan(&claim(conditions), node.as_ref(), at(minutes)), expected);
        }
    }
}
