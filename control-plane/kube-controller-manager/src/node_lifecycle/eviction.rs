//! When a pod must leave a tainted node.
//!
//! It stays as long as every `NoExecute` taint is tolerated; of tolerations with a time limit, the
//! shortest counts, from the moment that the taint was added, or that the pod came if that was later.
//! Taints that users add do not say when; then it counts from the moment that this was seen.
//!
//! Upstream: `taint_eviction.go`.

use std::time::Duration;

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use scheduling::tolerates;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Stay,
    LeaveAt(Timestamp),
    LeaveNow,
}

pub(super) fn plan(pod: &Pod, node: &Node, seen: Timestamp) -> Plan {
    let taints = node.spec.iter().flat_map(|it| it.taints.iter().flatten());
    let tolerations = pod.spec.as_ref().and_then(|it| it.tolerations.clone()).unwrap_or_default();
    let mut earliest: Option<Timestamp> = None;
    for taint in taints.into_iter().filter(|it| it.effect == "NoExecute") {
        let matching: Vec<_> = tolerations.iter().filter(|it| tolerates(it, taint)).collect();
        if matching.is_empty() {
            return Plan::LeaveNow;
        }
        let limits = matching.iter().filter_map(|it| it.toleration_seconds);
        let Some(limit) = limits.min() else { continue };
        let Ok(limit) = u64::try_from(limit) else { return Plan::LeaveNow };
        if limit == 0 {
            return Plan::LeaveNow;
        }
        let added = taint.time_added.as_ref().map_or(seen, |it| it.0);
        let since = added.max(object::created_at(pod));
        let leave = clock::later(since, Duration::from_secs(limit));
        earliest = Some(earliest.map_or(leave, |it| it.min(leave)));
    }
    earliest.map_or(Plan::Stay, Plan::LeaveAt)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(tolerations: Value) -> Pod {
        let spec = json!({ "containers": [], "tolerations": tolerations });
        serde_json::from_value(json!({ "spec": spec })).unwrap()
    }

    #[test]
    fn a_pod_leaves_when_its_shortest_toleration_ends() {
        let node: Node = serde_json::from_value(json!({ "spec": { "taints": [
            { "key": "unreachable", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z" },
            { "key": "soft", "effect": "NoSchedule" } ] } }))
        .unwrap();
        let tolerating = |seconds: Value| json!([{ "key": "unreachable", "operator": "Exists", "tolerationSeconds": seconds }]);
        let five_minutes: Timestamp = "2026-01-01T00:05:00Z".parse().unwrap();
        for (tolerations, expected) in [
            (json!([]), Plan::LeaveNow),
            (tolerating(Value::Null), Plan::Stay),
            (tolerating(json!(300)), Plan::LeaveAt(five_minutes)),
            (tolerating(json!(i64::MAX)), Plan::LeaveAt(Timestamp::MAX)),
            (tolerating(json!(0)), Plan::LeaveNow),
            (json!([{ "operator": "Exists" }]), Plan::Stay),
        ] {
            let found = plan(&pod(tolerations.clone()), &node, Timestamp::MAX);
            assert_eq!(found, expected, "{tolerations}");
        }
        let clean = Node::default();
        assert_eq!(plan(&pod(json!([])), &clean, Timestamp::MAX), Plan::Stay);
    }

    #[test]
    fn a_taint_without_a_date_counts_from_when_it_was_seen_and_an_old_one_from_when_the_pod_came() {
        let node = |added: Value| -> Node {
            let taint = json!({ "key": "k", "effect": "NoExecute", "timeAdded": added });
            serde_json::from_value(json!({ "spec": { "taints": [taint] } })).unwrap()
        };
        let mut pod = pod(json!([{ "operator": "Exists", "tolerationSeconds": 60 }]));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let seen = at("2026-01-01T02:00:00Z");
        let one_minute_later = Plan::LeaveAt(at("2026-01-01T02:01:00Z"));
        assert_eq!(plan(&pod, &node(Value::Null), seen), one_minute_later);
        pod.metadata.creation_timestamp = Some(object::time(seen));
        assert_eq!(plan(&pod, &node(json!("2026-01-01T00:00:00Z")), seen), one_minute_later);
    }
}
