//! The status of a ReplicaSet, from its pods.

use std::sync::Arc;

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
    core::v1::Pod,
};
use serde_json::{Value, json};

use crate::pods;

const FAILURE: &str = "ReplicaFailure";

/// `failure` is why pods could not be made or deleted in this pass.
pub(super) fn status(
    set: &ReplicaSet,
    owned: &[Arc<Pod>],
    failure: Option<&str>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let spec = set.spec.as_ref();
    let seconds = spec.and_then(|it| it.min_ready_seconds).unwrap_or(0);
    let template = spec.and_then(|it| it.template.as_ref());
    let labels = template.and_then(|it| it.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let active: Vec<_> = owned.iter().filter(|it| pods::is_active(it)).collect();
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(active.iter().filter(|it| test(it)).count()).unwrap_or(i32::MAX)
    };
    let has_all_labels = |pod: &Pod| {
        let own = pod.metadata.labels.as_ref();
        labels.iter().all(|(key, value)| own.is_some_and(|it| it.get(key) == Some(value)))
    };
    let terminating =
        owned.iter().filter(|it| object::is_terminating(&***it) && !pods::is_over(it)).count();
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: nonzero(count(&has_all_labels)),
        ready_replicas: nonzero(count(&|it| pods::is_ready(it))),
        available_replicas: nonzero(count(&|it| pods::is_available(it, seconds, now))),
        terminating_replicas: i32::try_from(terminating).ok(),
        observed_generation: set.metadata.generation,
        conditions: conditions(set, active.len(), failure, now),
    }
}

/// Zero is written by leaving it out, as upstream's types do.
fn nonzero(count: i32) -> Option<i32> {
    Some(count).filter(|it| *it != 0)
}

fn conditions(
    set: &ReplicaSet,
    active: usize,
    failure: Option<&str>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let known = set.status.as_ref().and_then(|it| it.conditions.clone()).unwrap_or_default();
    let old = known.iter().find(|it| it.type_ == FAILURE).cloned();
    let mut conditions: Vec<_> = known.into_iter().filter(|it| it.type_ != FAILURE).collect();
    if let Some(message) = failure {
        let wanted = set.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1);
        let is_short = active < usize::try_from(wanted).unwrap_or(0);
        let reason = if is_short { "FailedCreate" } else { "FailedDelete" };
        let since = old.and_then(|it| it.last_transition_time);
        conditions.push(ReplicaSetCondition {
            type_: FAILURE.into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(message.to_owned()),
            last_transition_time: since.or_else(|| Some(object::time(now))),
        });
    }
    Some(conditions).filter(|it| !it.is_empty())
}

/// As a merge patch: what is left out of the status is taken away.
pub(super) fn patch(status: &ReplicaSetStatus) -> Value {
    let mut patch = json!(status);
    for field in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas", "conditions"] {
        if patch.get(field).is_none() {
            patch[field] = Value::Null;
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: Value) -> Arc<Pod> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn pods_are_counted_by_what_they_can_do() {
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": { "name": "web", "generation": 4 },
            "spec": { "replicas": 4, "minReadySeconds": 10, "selector": {},
                "template": { "metadata": { "labels": { "a": "b" } } } },
        }))
        .unwrap();
        let ready = |since: &str| {
            json!({ "phase": "Running", "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": since }] })
        };
        let pods = [
            pod(json!({ "metadata": { "labels": { "a": "b" } },
                "status": ready("2026-01-01T00:00:00Z") })),
            pod(json!({ "metadata": {}, "status": ready("2026-01-01T00:00:55Z") })),
            pod(json!({ "metadata": {}, "status": { "phase": "Pending" } })),
            pod(json!({ "metadata": {}, "status": { "phase": "Failed" } })),
            pod(json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" },
                "status": { "phase": "Running" } })),
        ];
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let status = status(&set, &pods, Some("quota"), now);
        assert_eq!(status.replicas, 3);
        assert_eq!(status.fully_labeled_replicas, Some(1));
        assert_eq!(status.ready_replicas, Some(2));
        assert_eq!(status.available_replicas, Some(1));
        assert_eq!(status.terminating_replicas, Some(1));
        assert_eq!(status.observed_generation, Some(4));
        let condition = &status.conditions.unwrap()[0];
        assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
    }
}
