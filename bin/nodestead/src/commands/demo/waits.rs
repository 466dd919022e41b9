//! What pods that are not there yet wait for, in the words of whoever holds them up.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// What to do for a pod that no node takes.
const NO_ROOM: &str = "add a node (`nodestead up --nodes N`) or take away what fills those there are \
                       (`kubectl get pods -A -o wide`, `kubectl describe nodes`)";
const NOT_RUN: &str = "see `kubectl describe pods` and `kubectl get events`";

/// Why something is not there, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) why: String,
    pub(super) next: &'static str,
}

/// Of the first pod that is held up; `None` while all are on their way.
pub(super) fn of(pods: &[Pod]) -> Option<Wait> {
    let unscheduled = pods.iter().filter_map(|pod| {
        let why = format!("{} cannot be scheduled: {}", pod.name_any(), unscheduled(pod)?);
        Some(Wait { why, next: NO_ROOM })
    });
    let stuck = pods.iter().filter_map(|pod| {
        Some(Wait { why: format!("{}: {}", pod.name_any(), stuck(pod)?), next: NOT_RUN })
    });
    unscheduled.chain(stuck).next()
}

/// The scheduler's own words.
fn unscheduled(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|it| it.type_ == "PodScheduled")?;
    condition.message.clone().filter(|_| condition.status == "False")
}

/// A container that waits for something else than its turn.
fn stuck(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = [&status.init_container_statuses, &status.container_statuses];
    let waiting = all.into_iter().flatten().flatten().filter_map(|it| {
        let waiting = it.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        let message = waiting.message.as_deref().map(|it| format!(": {it}")).unwrap_or_default();
        let is_on_its_way = matches!(reason, "ContainerCreating" | "PodInitializing");
        (!is_on_its_way).then(|| format!("{} waits, {reason}{message}", it.name))
    });
    waiting.into_iter().next()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "p" }, "status": status })).unwrap()
    }

    #[test]
    fn a_pod_that_no_node_takes_says_so_in_the_schedulers_words() {
        let unscheduled = pod(json!({ "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Too many pods.",
        }] }));
        let wait = of(&[pod(json!({})), unscheduled]).unwrap();
        let expected = "p cannot be scheduled: 0/3 nodes are available: 3 Too many pods.";
        assert_eq!(wait.why, expected);
        assert!(wait.next.contains("nodestead up --nodes"));
    }

    #[test]
    fn a_container_that_is_merely_being_made_is_on_its_way() {
        let waiting = |reason: &str| {
            pod(json!({ "containerStatuses": [{
                "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": reason, "message": "no such image" } },
            }] }))
        };
        assert_eq!(of(&[waiting("ContainerCreating")]), None);
        let wait = of(&[waiting("ErrImagePull")]).unwrap();
        assert_eq!(wait.why, "p: web waits, ErrImagePull: no such image");
    }
}
