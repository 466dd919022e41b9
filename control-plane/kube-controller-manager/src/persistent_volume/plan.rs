//! What a claim and a volume need next.
//!
//! Upstream: `pv_controller.go` (`syncUnboundClaim`, `syncBoundClaim`, `syncVolume`, `bind`).

use std::sync::Arc;

use controller::{EventType, object};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use scheduling::volume::matching::{best_volume, check_volume, class_of_claim, is_promised};
use serde_json::{Value, json};

pub(super) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const PROVISIONERS: [&str; 2] =
    ["volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"];

/// What to do about a claim.
#[derive(Debug, PartialEq)]
pub(super) enum ClaimPlan {
    Nothing,
    /// It gets the default class.
    Class(String),
    Bind(Arc<PersistentVolume>),
    Lost {
        reason: &'static str,
        message: &'static str,
    },
    /// It stays pending, and says why.
    Wait {
        kind: EventType,
        reason: &'static str,
        message: String,
    },
    /// Somebody else makes a volume.
    Provision {
        provisioner: String,
        message: String,
    },
}

/// What to do about a volume.
#[derive(Debug, PartialEq)]
pub(super) enum VolumePlan {
    Nothing,
    Phase(&'static str),
    /// Its claim is gone for good.
    Release,
    /// The claim took another one.
    Unbind,
    Fail(&'static str),
}

pub(super) fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|it| it.phase.as_deref()).unwrap_or_default()
}

pub(super) fn volume_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|it| it.phase.as_deref()).unwrap_or_default()
}

fn name<K: kube::Resource>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|it| it.volume_name.as_deref()).unwrap_or_default()
}

/// Whether both sides have once named each other.
pub(super) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    object::annotation(claim, BIND_COMPLETED).is_some()
}

/// All volumes and classes there are.
pub(super) struct Claims<'a> {
    pub(super) volumes: &'a [Arc<PersistentVolume>],
    pub(super) classes: &'a [Arc<StorageClass>],
}

impl Claims<'_> {
    pub(super) fn plan(&self, claim: &PersistentVolumeClaim) -> ClaimPlan {
        if is_bound(claim) {
            return self.bound(claim);
        }
        match volume_name(claim) {
            "" => self.unbound(claim),
            wanted => self.preferring(claim, wanted),
        }
    }

    fn volume(&self, wanted: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.iter().find(|it| name(&***it) == wanted)
    }

    fn class(&self, wanted: &str) -> Option<&Arc<StorageClass>> {
        self.classes.iter().find(|it| name(&***it) == wanted)
    }

    fn bound(&self, claim: &PersistentVolumeClaim) -> ClaimPlan {
        if volume_name(claim).is_empty() {
            let message =
                "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
            return ClaimPlan::Lost { reason: "ClaimLost", message };
        }
        let Some(volume) = self.volume(volume_name(claim)) else {
            let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            return ClaimPlan::Lost { reason: "ClaimLost", message };
        };
        let is_free = volume.spec.as_ref().is_some_and(|it| it.claim_ref.is_none());
        if !is_free && !is_promised(volume, claim) {
            let message = "Two claims are bound to the same volume, this one is bound incorrectly";
            return ClaimPlan::Lost { reason: "ClaimMisbound", message };
        }
        self.binding(claim, volume)
    }

    /// Both sides may still lack something.
    fn binding(&self, claim: &PersistentVolumeClaim, volume: &Arc<PersistentVolume>) -> ClaimPlan {
        let is_done = bind_volume(volume, claim).is_none()
            && volume_phase(volume) == "Bound"
            && bind_claim(claim, volume).is_none()
            && bound_status(claim, volume).is_none();
        if is_done { ClaimPlan::Nothing } else { ClaimPlan::Bind(volume.clone()) }
    }

    /// The user asks for a certain volume.
    fn preferring(&self, claim: &PersistentVolumeClaim, wanted: &str) -> ClaimPlan {
        let wait = |kind, reason, message| ClaimPlan::Wait { kind, reason, message };
        let Some(volume) = self.volume(wanted) else {
            let message = format!("volume \"{wanted}\" not found");
            return wait(EventType::Warning, "FailedBinding", message);
        };
        let is_free = volume.spec.as_ref().is_some_and(|it| it.claim_ref.is_none());
        if !is_free && !is_promised(volume, claim) {
            let message = format!("volume \"{wanted}\" already bound to a different claim.");
            return wait(EventType::Warning, "FailedBinding", message);
        }
        match check_volume(claim, volume) {
            Err(why) if is_free => {
                let message = format!("Cannot bind to requested volume \"{wanted}\": {why}");
                wait(EventType::Warning, "VolumeMismatch", message)
            }
            _ => ClaimPlan::Bind(volume.clone()),
        }
    }

    fn unbound(&self, claim: &PersistentVolumeClaim) -> ClaimPlan {
        let wait = |kind, reason, message| ClaimPlan::Wait { kind, reason, message };
        let Some(class_name) = class_of_claim(claim) else {
            return match self.default_class() {
                Some(class) => ClaimPlan::Class(name(class).to_owned()),
                None => self.without_class(claim),
            };
        };
        if class_name.is_empty() {
            return self.without_class(claim);
        }
        let class = self.class(class_name);
        let mode = class.and_then(|it| it.volume_binding_mode.as_deref());
        let is_delayed = mode == Some("WaitForFirstConsumer")
            && object::annotation(claim, SELECTED_NODE).is_none();
        if let Some(volume) = self.find(claim, is_delayed) {
            return ClaimPlan::Bind(volume.clone());
        }
        if is_delayed {
            let message = "waiting for first consumer to be created before binding".into();
            return wait(EventType::Normal, "WaitForFirstConsumer", message);
        }
        let Some(class) = class else {
            let message = format!("storageclass.storage.k8s.io \"{class_name}\" not found");
            return wait(EventType::Warning, "ProvisioningFailed", message);
        };
        let provisioner = class.provisioner.clone();
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or \
             manually by the system administrator. If volume creation is delayed, please verify that \
             the provisioner is running and correctly registered."
        );
        ClaimPlan::Provision { provisioner, message }
    }

    fn without_class(&self, claim: &PersistentVolumeClaim) -> ClaimPlan {
        match self.find(claim, false) {
            Some(volume) => ClaimPlan::Bind(volume.clone()),
            None => ClaimPlan::Wait {
                kind: EventType::Normal,
                reason: "FailedBinding",
                message:
                    "no persistent volumes available for this claim and no storage class is set"
                        .into(),
            },
        }
    }

    /// A claim that waits for its consumer is only given what it was promised.
    fn find(
        &self,
        claim: &PersistentVolumeClaim,
        is_delayed: bool,
    ) -> Option<&Arc<PersistentVolume>> {
        let all = self.volumes.iter().filter(|it| !is_delayed || is_promised(it, claim));
        best_volume(claim, all, None)
    }

    /// Of several the newest, and of equals the first by name.
    fn default_class(&self) -> Option<&StorageClass> {
        let defaults = self
            .classes
            .iter()
            .filter(|it| object::annotation(&***it, DEFAULT_CLASS) == Some("true"));
        let newest = defaults.max_by_key(|it| {
            (object::created_at(&***it), std::cmp::Reverse(it.metadata.name.clone()))
        });
        newest.map(|it| &**it)
    }
}

/// What tells a provisioner that it is asked, where the claim does not say so yet.
pub(super) fn ask(claim: &PersistentVolumeClaim, provisioner: &str) -> Option<Value> {
    let is_told = PROVISIONERS.iter().all(|it| object::annotation(claim, it) == Some(provisioner));
    let annotations = PROVISIONERS.map(|it| (it.to_owned(), json!(provisioner)));
    let annotations = Value::Object(annotations.into_iter().collect());
    (!is_told).then(|| json!({ "metadata": { "annotations": annotations } }))
}

/// The volume's side of a binding, where it is not written yet.
pub(super) fn bind_volume(
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
) -> Option<Value> {
    let known = volume.spec.as_ref().and_then(|it| it.claim_ref.as_ref());
    if known.is_some_and(|it| it.uid == claim.metadata.uid) {
        return None;
    }
    let mut patch = json!({ "spec": { "claimRef": {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.metadata.namespace,
        "name": claim.metadata.name, "uid": claim.metadata.uid,
        "resourceVersion": claim.metadata.resource_version,
    } } });
    if known.is_none() {
        patch["metadata"] = json!({ "annotations": { BOUND_BY_CONTROLLER: "yes" } });
    }
    Some(patch)
}

/// The claim's side.
pub(super) fn bind_claim(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Option<Value> {
    let is_named = volume_name(claim) == name(volume);
    if is_named && is_bound(claim) {
        return None;
    }
    let mut annotations = json!({ BIND_COMPLETED: "yes" });
    if !is_named {
        annotations[BOUND_BY_CONTROLLER] = json!("yes");
    }
    Some(
        json!({ "spec": { "volumeName": name(volume) }, "metadata": { "annotations": annotations } }),
    )
}

/// The status of a bound claim, where it differs.
pub(super) fn bound_status(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Option<Value> {
    let spec = volume.spec.clone().unwrap_or_default();
    let known = claim.status.clone().unwrap_or_default();
    let was_bound = known.phase.as_deref() == Some("Bound");
    if was_bound && known.access_modes == spec.access_modes && known.capacity.is_some() {
        // A resizer tells the capacity of what is bound already.
        return None;
    }
    let capacity = known.capacity.filter(|_| was_bound).or(spec.capacity);
    Some(json!({ "phase": "Bound", "accessModes": spec.access_modes, "capacity": capacity }))
}

pub(super) fn volume(
    volume: &PersistentVolume,
    claim: Option<&PersistentVolumeClaim>,
) -> VolumePlan {
    let phase_of = |wanted: &'static str| {
        if volume_phase(volume) == wanted { VolumePlan::Nothing } else { VolumePlan::Phase(wanted) }
    };
    let Some(to) = volume.spec.as_ref().and_then(|it| it.claim_ref.as_ref()) else {
        return phase_of("Available");
    };
    let Some(uid) = to.uid.as_deref().filter(|it| !it.is_empty()) else {
        // Promised by a user; the claim is still to come.
        return phase_of("Available");
    };
    let Some(claim) = claim.filter(|it| it.metadata.uid.as_deref() == Some(uid)) else {
        return released(volume);
    };
    match volume_name(claim) {
        // The claim's side is still to be written.
        "" => VolumePlan::Nothing,
        it if it == name(volume) => phase_of("Bound"),
        _ if object::annotation(volume, PROVISIONED_BY).is_some() && is_deleted_after(volume) => {
            released(volume)
        }
        _ => VolumePlan::Unbind,
    }
}

fn is_deleted_after(volume: &PersistentVolume) -> bool {
    let policy = volume.spec.as_ref().and_then(|it| it.persistent_volume_reclaim_policy.as_deref());
    policy == Some("Delete")
}

fn released(volume: &PersistentVolume) -> VolumePlan {
    let policy = volume.spec.as_ref().and_then(|it| it.persistent_volume_reclaim_policy.as_deref());
    match (volume_phase(volume), policy) {
        ("Failed", _) => VolumePlan::Nothing,
        ("Released", Some("Recycle")) => {
            VolumePlan::Fail("No recycler plugin found for the volume!")
        }
        ("Released", _) => VolumePlan::Nothing,
        _ => VolumePlan::Release,
    }
}

#[cfg(test)]
mod tests;
