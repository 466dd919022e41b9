//! The status of a Deployment, from its ReplicaSets and from what the pass did.

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use serde_json::{Value, json};

use super::{
    plan::{Observed, Plan, actual, available, bounds, replicas, size},
    progress::{self, COMPLETE, PROGRESSING, TIMED_OUT},
};

/// What a status is computed from.
pub(super) struct Report<'a> {
    pub(super) observed: &'a Observed,
    pub(super) plan: &'a Plan,
    /// Why the step failed.
    pub(super) failure: Option<String>,
    /// The name of the new ReplicaSet was taken.
    pub(super) collision: bool,
}

impl Report<'_> {
    pub(super) fn status(&self, now: Timestamp) -> DeploymentStatus {
        let deployment = &*self.observed.deployment;
        let old = deployment.status.clone().unwrap_or_default();
        let mut status = self.counts(&old);
        status.conditions = old.conditions.clone();
        self.set_available(&mut status, now);
        self.set_progressing(&old, &mut status, now);
        self.set_failure(&mut status, now);
        status.conditions = status.conditions.filter(|it| !it.is_empty());
        status
    }

    fn counts(&self, old: &DeploymentStatus) -> DeploymentStatus {
        let sum = |of: fn(&k8s_openapi::api::apps::v1::ReplicaSet) -> i32| {
            self.observed.all().map(|it| of(it)).sum::<i32>()
        };
        let total = sum(size);
        let serving = sum(available);
        let collisions = old.collision_count;
        DeploymentStatus {
            available_replicas: nonzero(serving),
            collision_count: if self.collision {
                Some(collisions.unwrap_or(0) + 1)
            } else {
                collisions
            },
            conditions: None,
            observed_generation: self.observed.deployment.metadata.generation,
            ready_replicas: nonzero(sum(ready)),
            replicas: nonzero(sum(actual)),
            terminating_replicas: Some(sum(terminating)),
            unavailable_replicas: nonzero((total - serving).max(0)),
            updated_replicas: nonzero(self.observed.new.as_ref().map_or(0, |it| actual(it))),
        }
    }

    fn set_available(&self, status: &mut DeploymentStatus, now: Timestamp) {
        let deployment = &*self.observed.deployment;
        let minimum = replicas(deployment) - unavailable_bound(deployment);
        let (value, reason, message) = if status.available_replicas.unwrap_or(0) >= minimum {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            (
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        };
        set(status, condition("Available", value, reason, message.into()), now);
    }

    fn set_progressing(
        &self,
        old: &DeploymentStatus,
        status: &mut DeploymentStatus,
        now: Timestamp,
    ) {
        let deployment = &*self.observed.deployment;
        let last = progress::condition(old, PROGRESSING).cloned();
        if deployment.spec.as_ref().and_then(|it| it.paused) == Some(true) {
            let is_noted = last.is_some_and(|it| it.reason.as_deref() == Some("DeploymentPaused"));
            if !is_noted {
                let paused = condition(
                    PROGRESSING,
                    "Unknown",
                    "DeploymentPaused",
                    "Deployment is paused".into(),
                );
                set(status, paused, now);
            }
            return;
        }
        if progress::deadline(deployment).is_none() {
            return remove(status, PROGRESSING);
        }
        let last_reason = last.as_ref().and_then(|it| it.reason.clone());
        if last_reason.as_deref() == Some("DeploymentPaused") {
            let resumed = condition(
                PROGRESSING,
                "Unknown",
                "DeploymentResumed",
                "Deployment is resumed".into(),
            );
            return set(status, resumed, now);
        }
        let name = self.name();
        // A finished rollout stays finished, whatever happens to its pods later.
        let was_done = last_reason.as_deref() == Some(COMPLETE);
        let is_new = matches!(self.plan, Plan::Create(_)) && self.failure.is_none();
        if is_new && !self.collision {
            let message = format!("Created new replica set \"{name}\"");
            return set(
                status,
                condition(PROGRESSING, "True", "NewReplicaSetCreated", message),
                now,
            );
        }
        if progress::is_done(deployment, status) && self.observed.new.is_some() {
            let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
            return set(status, condition(PROGRESSING, "True", COMPLETE, message), now);
        }
        let is_rolling = status.updated_replicas != status.replicas || !was_done;
        if was_done && !is_rolling {
            return;
        }
        if last.is_none() || was_done || progress::is_progressing(old, status) {
            let message = format!("ReplicaSet \"{name}\" is progressing.");
            let mut moved = condition(PROGRESSING, "True", "ReplicaSetUpdated", message);
            moved.last_update_time = Some(object::time(now));
            remove_unless_status(status, &moved);
            return set(status, moved, now);
        }
        if progress::has_timed_out(deployment, last.as_ref(), now) {
            let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
            set(status, condition(PROGRESSING, "False", TIMED_OUT, message), now);
        }
    }

    fn set_failure(&self, status: &mut DeploymentStatus, now: Timestamp) {
        const KIND: &str = "ReplicaFailure";
        let sets = self.observed.new.iter().chain(&self.observed.old);
        let failed = sets.filter_map(|it| {
            let conditions = it.status.as_ref()?.conditions.as_ref()?;
            conditions.iter().find(|it| it.type_ == KIND && it.status == "True").cloned()
        });
        if let Some(it) = failed.into_iter().next() {
            let reason = it.reason.unwrap_or_default();
            return set(
                status,
                condition(KIND, "True", &reason, it.message.unwrap_or_default()),
                now,
            );
        }
        match (&self.failure, self.plan) {
            (Some(message), Plan::Create(_)) => {
                let failed = condition(KIND, "True", "FailedCreate", message.clone());
                set(status, failed, now);
            }
            _ => remove(status, KIND),
        }
    }

    fn name(&self) -> String {
        let planned = match self.plan {
            Plan::Create(set) => set.metadata.name.clone(),
            _ => None,
        };
        let existing = self.observed.new.as_ref().and_then(|it| it.metadata.name.clone());
        planned.or(existing).unwrap_or_default()
    }
}

fn unavailable_bound(deployment: &k8s_openapi::api::apps::v1::Deployment) -> i32 {
    let strategy = deployment.spec.as_ref().and_then(|it| it.strategy.as_ref()?.type_.as_deref());
    if strategy == Some("Recreate") { 0 } else { bounds(deployment).1 }
}

fn ready(set: &k8s_openapi::api::apps::v1::ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|it| it.ready_replicas).unwrap_or(0)
}

fn terminating(set: &k8s_openapi::api::apps::v1::ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|it| it.terminating_replicas).unwrap_or(0)
}

fn nonzero(count: i32) -> Option<i32> {
    Some(count).filter(|it| *it != 0)
}

fn condition(kind: &str, status: &str, reason: &str, message: String) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: None,
        last_update_time: None,
    }
}

/// Sets a condition: its dates change only with its status and its reason.
fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter().position(|it| it.type_ == new.type_);
    let old = old.map(|at| conditions.remove(at));
    let is_same_status = old.as_ref().is_some_and(|it| it.status == new.status);
    let is_same = is_same_status
        && old.as_ref().is_some_and(|it| it.reason == new.reason && it.message == new.message);
    let at = Some(object::time(now));
    let updated = new.last_update_time.take();
    let old_update = old.as_ref().and_then(|it| it.last_update_time.clone());
    new.last_update_time = updated.or(if is_same { old_update } else { at.clone() });
    let old_transition = old.and_then(|it| it.last_transition_time);
    new.last_transition_time = if is_same_status { old_transition.or(at) } else { at };
    conditions.push(new);
    conditions.sort_by_key(|it| it.type_ != "Available");
}

/// Progress moves the date of the last update even where nothing else changes.
fn remove_unless_status(status: &mut DeploymentStatus, new: &DeploymentCondition) {
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|it| it.type_ != new.type_ || it.status == new.status);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    status.conditions.get_or_insert_default().retain(|it| it.type_ != kind);
}

/// As a merge patch: what is left out of the status is taken away.
pub(super) fn patch(status: &DeploymentStatus) -> Value {
    let mut patch = json!(status);
    let fields = [
        "availableReplicas",
        "readyReplicas",
        "replicas",
        "unavailableReplicas",
        "updatedReplicas",
        "conditions",
    ];
    for field in fields {
        if patch.get(field).is_none() {
            patch[field] = Value::Null;
        }
    }
    patch
}
