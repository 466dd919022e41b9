//! The arithmetic of a budget.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use controller::object;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::Pod,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};
use serde_json::{Map, Value};

use crate::{
    deployment::{Round, scaled},
    pods,
};

/// How long an eviction may take to show (upstream's `DeletionTimeout`).
const EVICTION_LIMIT: Duration = Duration::from_secs(2 * 60);

/// How many pods there should be, and how many of them must be healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) pods: i32,
    pub(super) healthy: i32,
}

/// `scale_of` tells which scale a pod belongs to, and its number.
pub(super) fn expected(
    budget: &PodDisruptionBudget,
    covered: &[Arc<Pod>],
    scale_of: impl Fn(&Pod) -> Option<(String, i32)>,
) -> Expected {
    let spec = budget.spec.clone().unwrap_or_default();
    let there = i32::try_from(covered.len()).unwrap_or(i32::MAX);
    if let Some(IntOrString::Int(minimum)) = &spec.min_available {
        return Expected { pods: there, healthy: *minimum };
    }
    let mut scales = BTreeMap::new();
    let mut single = 0;
    for pod in covered {
        match scale_of(pod) {
            Some((uid, count)) => drop(scales.insert(uid, count)),
            None => single += 1,
        }
    }
    let pods = scales.values().sum::<i32>() + single;
    let healthy = match (&spec.max_unavailable, &spec.min_available) {
        (Some(it), _) => (pods - scaled(it, pods, Round::Up)).max(0),
        (None, Some(it)) => scaled(it, pods, Round::Up),
        (None, None) => 0,
    };
    Expected { pods, healthy }
}

/// The status, and when an eviction that never came about must be forgotten.
pub(super) fn status(
    budget: &PodDisruptionBudget,
    covered: &[Arc<Pod>],
    expected: Expected,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Timestamp>) {
    let (disrupted, recheck) = disrupted(budget, covered, now);
    let is_healthy = |it: &&Arc<Pod>| {
        let name = it.metadata.name.as_deref().unwrap_or_default();
        pods::is_ready(it) && !object::is_terminating(&***it) && !disrupted.contains_key(name)
    };
    let healthy = i32::try_from(covered.iter().filter(is_healthy).count()).unwrap_or(i32::MAX);
    let allowed = if expected.pods > 0 { (healthy - expected.healthy).max(0) } else { 0 };
    let known = budget.status.clone().unwrap_or_default();
    let generation = budget.metadata.generation;
    let status = PodDisruptionBudgetStatus {
        conditions: Some(conditions(&known, allowed, generation, now)),
        current_healthy: Some(healthy),
        desired_healthy: Some(expected.healthy),
        disrupted_pods: Some(disrupted).filter(|it| !it.is_empty()),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected.pods),
        observed_generation: generation,
    };
    (status, recheck)
}

/// Evictions that were granted and have not shown yet.
fn disrupted(
    budget: &PodDisruptionBudget,
    covered: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Timestamp>) {
    let known = budget.status.as_ref().and_then(|it| it.disrupted_pods.clone()).unwrap_or_default();
    let is_there = |name: &str| {
        let pod = covered.iter().find(|it| it.metadata.name.as_deref() == Some(name));
        pod.is_some_and(|it| !object::is_terminating(&**it))
    };
    let open: BTreeMap<_, _> = known
        .into_iter()
        .filter(|(name, since)| is_there(name) && since.0 + EVICTION_LIMIT > now)
        .collect();
    let recheck = open.values().map(|it| it.0 + EVICTION_LIMIT).min();
    (open, recheck)
}

fn conditions(
    known: &PodDisruptionBudgetStatus,
    allowed: i32,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    const KIND: &str = "DisruptionAllowed";
    let (status, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let old = known.conditions.iter().flatten().find(|it| it.type_ == KIND);
    let since = old.filter(|it| it.status == status).map(|it| it.last_transition_time.clone());
    let mut conditions: Vec<_> =
        known.conditions.iter().flatten().filter(|it| it.type_ != KIND).cloned().collect();
    conditions.push(Condition {
        type_: KIND.into(),
        status: status.into(),
        reason: reason.into(),
        message: String::new(),
        observed_generation: generation,
        last_transition_time: since.unwrap_or_else(|| object::time(now)),
    });
    conditions
}

/// As part of a merge patch: names that are gone are set to null.
pub(super) fn patch_disrupted(
    budget: &PodDisruptionBudget,
    status: &PodDisruptionBudgetStatus,
) -> Value {
    let known = budget.status.as_ref().and_then(|it| it.disrupted_pods.as_ref());
    let kept = status.disrupted_pods.as_ref();
    let gone = known
        .into_iter()
        .flat_map(|it| it.keys())
        .filter(|it| kept.is_none_or(|kept| !kept.contains_key(*it)));
    Value::Object(gone.map(|it| (it.clone(), Value::Null)).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn budget(spec: Value, disrupted: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({ "metadata": { "generation": 2 }, "spec": spec,
            "status": { "disruptedPods": disrupted, "currentHealthy": 0, "desiredHealthy": 0,
                "disruptionsAllowed": 0, "expectedPods": 0 } }))
        .unwrap()
    }

    fn pods(ready: usize, broken: usize) -> Vec<Arc<Pod>> {
        let pod = |number: usize| {
            let status = if number < ready { "True" } else { "False" };
            Arc::new(
                serde_json::from_value(json!({ "metadata": { "name": format!("p{number}") },
                "status": { "phase": "Running",
                    "conditions": [{ "type": "Ready", "status": status }] } }))
                .unwrap(),
            )
        };
        (0..ready + broken).map(pod).collect()
    }

    fn allowed(budget: &PodDisruptionBudget, covered: &[Arc<Pod>], scale: i32) -> i32 {
        let expected = expected(budget, covered, |_| Some(("set".into(), scale)));
        status(budget, covered, expected, Timestamp::UNIX_EPOCH).0.disruptions_allowed.unwrap()
    }

    #[test]
    fn a_budget_allows_what_leaves_enough_healthy() {
        for (what, spec, ready, broken, scale, expected) in [
            ("minimum", json!({ "minAvailable": 2 }), 3, 0, 3, 1),
            ("minimum reached", json!({ "minAvailable": 2 }), 2, 1, 3, 0),
            ("percentage", json!({ "minAvailable": "50%" }), 5, 0, 5, 2),
            ("maximum", json!({ "maxUnavailable": 1 }), 5, 0, 5, 1),
            ("maximum used up", json!({ "maxUnavailable": 1 }), 4, 1, 5, 0),
            ("maximum counts what is missing", json!({ "maxUnavailable": 1 }), 4, 0, 5, 0),
            ("nothing may go", json!({ "maxUnavailable": 0 }), 5, 0, 5, 0),
            ("no pods", json!({ "maxUnavailable": 1 }), 0, 0, 0, 0),
        ] {
            let budget = budget(spec, json!({}));
            assert_eq!(allowed(&budget, &pods(ready, broken), scale), expected, "{what}");
        }
    }

    #[test]
    fn an_eviction_that_was_granted_counts_until_it_shows_or_times_out() {
        let granted = json!({ "p0": "1970-01-01T00:00:00Z", "gone": "1970-01-01T00:00:00Z" });
        let budget = budget(json!({ "maxUnavailable": 1 }), granted);
        let covered = pods(3, 0);
        let expected = expected(&budget, &covered, |_| Some(("set".into(), 3)));
        let (now, recheck) = status(&budget, &covered, expected, Timestamp::UNIX_EPOCH);
        assert_eq!((now.disruptions_allowed, now.current_healthy), (Some(0), Some(2)));
        assert_eq!(now.disrupted_pods.as_ref().unwrap().len(), 1);
        assert_eq!(recheck, Some(Timestamp::UNIX_EPOCH + EVICTION_LIMIT));
        assert_eq!(patch_disrupted(&budget, &now), json!({ "gone": null }));
        let (later, _) =
            status(&budget, &covered, expected, Timestamp::UNIX_EPOCH + EVICTION_LIMIT);
        assert_eq!(later.disruptions_allowed, Some(1));
    }
}
