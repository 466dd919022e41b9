//! Which pods go first when there are too many.
//!
//! Those that serve least: without a node, not running, not ready; then cheap by their
//! `pod-deletion-cost`, then where several siblings share a node, then the youngest.
//!
//! Upstream: `ActivePodsWithRanks`; ages are compared by their order of magnitude, as there
//! (`LogarithmicScaleDown`).

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pods;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

type Cost<'a> = (bool, u8, bool, i64, Reverse<usize>, u32, Reverse<i32>, u32, &'a str);

/// Sorted: the first ones go first.
pub(super) fn by_cost(
    mut pods: Vec<Arc<Pod>>,
    siblings: &[Arc<Pod>],
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut per_node = HashMap::<&str, usize>::new();
    for node in siblings.iter().filter_map(|it| pods::node_of(it)) {
        *per_node.entry(node).or_default() += 1;
    }
    pods.sort_by(|a, b| cost(a, &per_node, now).cmp(&cost(b, &per_node, now)));
    pods
}

fn cost<'a>(pod: &'a Pod, per_node: &HashMap<&str, usize>, now: Timestamp) -> Cost<'a> {
    let phase = match pods::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let annotated = object::annotation(pod, DELETION_COST).and_then(|it| it.parse::<i32>().ok());
    let node = pods::node_of(pod);
    let company = node.and_then(|it| per_node.get(it)).copied().unwrap_or(0);
    (
        node.is_some(),
        phase,
        pods::is_ready(pod),
        i64::from(annotated.unwrap_or(0)),
        Reverse(company),
        pods::ready_since(pod).map_or(0, |since| magnitude(since, now)),
        Reverse(pods::restarts(pod)),
        magnitude(object::created_at(pod), now),
        pod.metadata.uid.as_deref().unwrap_or_default(),
    )
}

/// The order of magnitude of an age: pods of about the same age are alike.
fn magnitude(since: Timestamp, now: Timestamp) -> u32 {
    let age = now.duration_since(since).as_nanos();
    u128::try_from(age).map_or(0, |age| 128 - age.leading_zeros())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, extra: serde_json::Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": { "name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "containers": [], "nodeName": "n1" },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True",
                "lastTransitionTime": "2026-01-01T00:00:10Z" }] },
        });
        json_patch(&mut pod, extra);
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn json_patch(into: &mut serde_json::Value, from: serde_json::Value) {
        match (into, from) {
            (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
                for (key, value) in from {
                    json_patch(into.entry(key).or_insert(serde_json::Value::Null), value);
                }
            }
            (into, from) => *into = from,
        }
    }

    #[test]
    fn each_criterion_decides_before_those_that_follow_it() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let best = || pod("best", json!({}));
        let not_ready = json!({ "status": { "conditions": [] } });
        let cases = [
            ("no node", pod("x", json!({ "spec": { "nodeName": "" } }))),
            ("pending", pod("x", json!({ "status": { "phase": "Pending" } }))),
            ("not ready", pod("x", not_ready)),
            ("cheap", pod("x", json!({ "metadata": { "annotations": { DELETION_COST: "-5" } } }))),
            ("crowded node", pod("x", json!({ "spec": { "nodeName": "n2" } }))),
            (
                "ready since shortly",
                pod(
                    "x",
                    json!({ "status": { "conditions": [{ "type": "Ready",
                "status": "True", "lastTransitionTime": "2026-01-01T23:59:00Z" }] } }),
                ),
            ),
            (
                "restarted",
                pod(
                    "x",
                    json!({ "status": { "containerStatuses": [{ "name": "c",
                "image": "", "imageID": "", "ready": true, "restartCount": 3 }] } }),
                ),
            ),
            (
                "young",
                pod(
                    "x",
                    json!({ "metadata": {
                "creationTimestamp": "2026-01-01T23:50:00Z" } }),
                ),
            ),
        ];
        let siblings = [
            pod("s1", json!({ "spec": { "nodeName": "n2" } })),
            pod(
                "s2",
                json!({ "spec": {
                "nodeName": "n2" } }),
            ),
            best(),
        ];
        for (what, worse) in cases {
            let ranked = by_cost(vec![best(), worse], &siblings, now);
            assert_eq!(ranked[0].metadata.name.as_deref(), Some("x"), "{what}");
        }
    }
}
