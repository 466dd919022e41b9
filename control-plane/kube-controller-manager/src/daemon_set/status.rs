//! The status of a DaemonSet, from where its pods are and how.

use controller::object;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, DaemonSetStatus},
    core::v1::Pod,
};
use serde_json::{Value, json};

use super::{plan::Observed, pod::Fit};
use crate::pods;

pub(super) fn status(observed: &Observed) -> DaemonSetStatus {
    let mut status = DaemonSetStatus::default();
    let (mut ready, mut available, mut updated) = (0, 0, 0);
    for place in observed.places.values() {
        let pod = leading(place.pods.iter().map(|it| &**it));
        if place.fit != Fit::Runs {
            status.number_misscheduled += i32::from(pod.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = pod else { continue };
        status.current_number_scheduled += 1;
        ready += i32::from(pods::is_ready(pod));
        available += i32::from(observed.is_available(pod));
        updated += i32::from(observed.is_updated(pod));
    }
    let wanted = status.desired_number_scheduled;
    let set: &DaemonSet = observed.set;
    DaemonSetStatus {
        number_ready: ready,
        number_available: nonzero(available),
        number_unavailable: nonzero(wanted - available),
        updated_number_scheduled: nonzero(updated),
        observed_generation: set.metadata.generation,
        collision_count: set.status.as_ref().and_then(|it| it.collision_count),
        conditions: set.status.as_ref().and_then(|it| it.conditions.clone()),
        ..status
    }
}

/// The pod that stands for its node: the oldest that stays, ready ones first.
fn leading<'a>(pods: impl Iterator<Item = &'a Pod>) -> Option<&'a Pod> {
    let active = pods.filter(|it| !pods::is_over(it));
    active.min_by_key(|it| {
        (object::is_terminating(*it), !pods::is_ready(it), object::created_at(*it))
    })
}

fn nonzero(count: i32) -> Option<i32> {
    Some(count).filter(|it| *it != 0)
}

/// As a merge patch: what is left out of the status is taken away.
pub(super) fn patch(status: &DaemonSetStatus) -> Value {
    let mut patch = json!(status);
    for field in ["numberAvailable", "numberUnavailable", "updatedNumberScheduled"] {
        if patch.get(field).is_none() {
            patch[field] = Value::Null;
        }
    }
    patch
}
