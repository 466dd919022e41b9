//! When a pod must leave a tainted node.
//!
//! It stays as long as every `NoExecute` taint is tolerated; of tolerations with a time limit, the
//! shortest counts, from the moment that the taint was added, or that the pod came if that was later: by
//! the taint's own date, or as it was first seen where it has none (`kubectl taint` writes none).
//!
//! Upstream: `taint_eviction.go`.

use std::{collections::HashMap, time::Duration};

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use scheduling::tolerates;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Stay,
    LeaveAt(Timestamp),
    LeaveNow,
}

/// When taints without a date were first seen, by node.
#[derive(Debug, Default)]
pub(super) struct Sightings(HashMap<String, Vec<(Taint, Timestamp)>>);

impl Sightings {
    /// What is on the node now; what is there no more is forgotten.
    pub(super) fn see(&mut self, name: &str, node: Option<&Node>, now: Timestamp) {
        let taints = node.into_iter().flat_map(taints);
        let undated = taints.filter(|it| it.time_added.is_none());
        let before = self.0.remove(name).unwrap_or_default();
        let since = |taint: &Taint| before.iter().find(|it| it.0 == *taint).map_or(now, |it| it.1);
        let seen: Vec<_> = undated.map(|it| (it.clone(), since(it))).collect();
        if !seen.is_empty() {
            self.0.insert(name.to_owned(), seen);
        }
    }

    fn since(&self, node: &Node, taint: &Taint, now: Timestamp) -> Timestamp {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let seen = self.0.get(name).into_iter().flatten().find(|it| it.0 == *taint);
        taint.time_added.as_ref().map(|it| it.0).or(seen.map(|it| it.1)).unwrap_or(now)
    }
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.iter().flat_map(|it| it.taints.iter().flatten());
    taints.filter(|it| it.effect == "NoExecute")
}

pub(super) fn plan(pod: &Pod, node: &Node, seen: &Sightings, now: Timestamp) -> Plan {
    let tolerations = pod.spec.as_ref().and_then(|it| it.tolerations.clone()).unwrap_or_default();
    let mut earliest: Option<Timestamp> = None;
    for taint in taints(node) {
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
        let since = seen.since(node, taint, now).max(object::created_at(pod));
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
            let (pod, seen) = (pod(tolerations.clone()), Sightings::default());
            assert_eq!(plan(&pod, &node, &seen, Timestamp::UNIX_EPOCH), expected, "{tolerations}");
        }
        let (clean, seen) = (Node::default(), Sightings::default());
        assert_eq!(plan(&pod(json!([])), &clean, &seen, Timestamp::UNIX_EPOCH), Plan::Stay);
    }

    #[test]
    fn a_taint_without_a_date_counts_from_when_it_was_first_seen() {
        let node: Node = serde_json::from_value(json!({ "metadata": { "name": "n" },
            "spec": { "taints": [{ "key": "k", "value": "v", "effect": "NoExecute" }] } }))
        .unwrap();
        let pod = pod(json!([{ "key": "k", "operator": "Exists", "tolerationSeconds": 60 }]));
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut seen = Sightings::default();
        seen.see("n", Some(&node), at(100));
        seen.see("n", Some(&node), at(130));
        assert_eq!(plan(&pod, &node, &seen, at(130)), Plan::LeaveAt(at(160)));
        seen.see("n", Some(&Node::default()), at(140));
        seen.see("n", Some(&node), at(150));
        assert_eq!(plan(&pod, &node, &seen, at(150)), Plan::LeaveAt(at(210)));
    }

    #[test]
    fn an_old_taint_counts_from_when_the_pod_came() {
        let node: Node = serde_json::from_value(json!({ "spec": { "taints": [
            { "key": "k", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z" }] } }))
        .unwrap();
        let mut pod = pod(json!([{ "operator": "Exists", "tolerationSeconds": 60 }]));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        pod.metadata.creation_timestamp = Some(object::time(at("2026-01-01T02:00:00Z")));
        let (seen, now) = (Sightings::default(), at("2026-01-01T02:00:30Z"));
        assert_eq!(plan(&pod, &node, &seen, now), Plan::LeaveAt(at("2026-01-01T02:01:00Z")));
    }
}
