//! The status of a StatefulSet, from its members.

use controller::object;
use k8s_openapi::api::{apps::v1::StatefulSetStatus, core::v1::Pod};
use serde_json::{Value, json};

use super::plan::Observed;
use crate::pods;

pub(super) fn status(observed: &Observed) -> StatefulSetStatus {
    let members: Vec<_> = observed.members.values().filter(|it| !pods::is_over(it)).collect();
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(members.iter().filter(|it| test(it)).count()).unwrap_or(i32::MAX)
    };
    let is_of = |pod: &Pod, revision: &str| {
        observed.revision_of(pod) == revision && !object::is_terminating(pod)
    };
    let updated = count(&|it| is_of(it, &observed.update));
    let ready = count(&|it| pods::is_ready(it));
    let wanted = observed.replicas();
    let is_done = updated == wanted && ready == wanted && count(&|_| true) == wanted;
    // When all are updated, the new revision is the current one.
    let current = if is_done { &observed.update } else { &observed.current };
    StatefulSetStatus {
        replicas: count(&|_| true),
        ready_replicas: nonzero(ready),
        available_replicas: Some(count(&|it| observed.is_available(it))),
        current_replicas: nonzero(count(&|it| is_of(it, current))),
        updated_replicas: nonzero(updated),
        current_revision: Some(current.clone()),
        update_revision: Some(observed.update.clone()),
        observed_generation: observed.set.metadata.generation,
        collision_count: observed.set.status.as_ref().and_then(|it| it.collision_count).or(Some(0)),
        conditions: observed.set.status.as_ref().and_then(|it| it.conditions.clone()),
    }
}

fn nonzero(count: i32) -> Option<i32> {
    Some(count).filter(|it| *it != 0)
}

/// As a merge patch: what is left out of the status is taken away.
pub(super) fn patch(status: &StatefulSetStatus) -> Value {
    let mut patch = json!(status);
    for field in ["readyReplicas", "currentReplicas", "updatedReplicas"] {
        if patch.get(field).is_none() {
            patch[field] = Value::Null;
        }
    }
    patch
}
