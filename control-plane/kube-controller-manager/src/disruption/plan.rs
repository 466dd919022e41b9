//! The arithmetic of a budget.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use controller::object;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Pod, PodCondition},
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
/// Upstream's `stalePodDisruptionTimeout`.
const STALE_AFTER: Duration = Duration::from_secs(2 * 60);
const MARK: &str = "DisruptionTarget";

/// How many pods there should be, and how many of them must be healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) pods: i32,
    pub(super) healthy: i32,
}

/// By the UID of a pod's controller: whose scale counts, and its number.
pub(super) type Scales = BTreeMap<String, (String, i32)>;

/// Whether it matters how many pods there should be.
pub(super) fn needs_scales(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    !matches!(spec.and_then(|it| it.min_available.as_ref()), Some(IntOrString::Int(_)))
}

/// Pods that nobody controls are not expected: a budget in percent, or of how many may be missing,
/// cannot say anything about them.
pub(super) fn expected(
    budget: &PodDisruptionBudget,
    covered: &[Arc<Pod>],
    scales: &Scales,
) -> Expected {
    let spec = budget.spec.clone().unwrap_or_default();
    let there = i32::try_from(covered.len()).unwrap_or(i32::MAX);
    if let Some(IntOrString::Int(minimum)) = &spec.min_available {
        return Expected { pods: there, healthy: *minimum };
    }
    let owners = covered.iter().filter_map(|it| object::controller_of(&**it));
    let counted: BTreeMap<_, _> =
        owners.filter_map(|it| scales.get(&it.uid)).map(|(uid, count)| (uid, *count)).collect();
    let pods = counted.values().sum::<i32>();
    let healthy = match (&spec.max_unavailable, &spec.min_available) {
        (Some(it), _) => (pods - scaled(it, pods, Round::Up)).max(0),
        (None, Some(it)) => scaled(it, pods, Round::Up),
        (None, None) => 0,
    };
    Expected { pods, healthy }
}

/// The status of a budget that cannot be computed: nobody may be evicted.
pub(super) fn failed(
    budget: &PodDisruptionBudget,
    why: &str,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let known = budget.status.clone().unwrap_or_default();
    let generation = known.observed_generation;
    let verdict = ("False", "SyncFailed", why);
    let conditions = conditions(&known, verdict, generation, now);
    PodDisruptionBudgetStatus {
        conditions: Some(conditions),
        disruptions_allowed: Some(0),
        ..known
    }
}

/// Until when a pod that was said to be disrupted must be on its way out. What the kubelet says of its own
/// pods takes as long as it takes.
pub(super) fn stale_at(pod: &Pod) -> Option<Timestamp> {
    let marked = pods::condition(pod, MARK).filter(|it| it.status == "True")?;
    let is_kubelets = marked.reason.as_deref() == Some("TerminationByKubelet");
    if is_kubelets || pods::is_over(pod) || object::is_terminating(pod) {
        return None;
    }
    let since = marked.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |it| it.0);
    Some(since + STALE_AFTER)
}

/// The pod's conditions with that mark taken back.
pub(super) fn cleared(pod: &Pod, now: Timestamp) -> Vec<PodCondition> {
    let mut conditions =
        pod.status.as_ref().and_then(|it| it.conditions.clone()).unwrap_or_default();
    for it in conditions.iter_mut().filter(|it| it.type_ == MARK) {
        *it = PodCondition {
            type_: MARK.into(),
            status: "False".into(),
            last_transition_time: Some(object::time(now)),
            ..PodCondition::default()
        };
    }
    conditions
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
        conditions: Some(conditions(&known, verdict(allowed), generation, now)),
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

fn verdict(allowed: i32) -> (&'static str, &'static str, &'static str) {
    match allowed > 0 {
        true => ("True", "SufficientPods", ""),
        false => ("False", "InsufficientPods", ""),
    }
}

fn conditions(
    known: &PodDisruptionBudgetStatus,
    (status, reason, message): (&str, &str, &str),
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    const KIND: &str = "DisruptionAllowed";
    let old = known.conditions.iter().flatten().find(|it| it.type_ == KIND);
    let since = old.filter(|it| it.status == status).map(|it| it.last_transition_time.clone());
    let mut conditions: Vec<_> =
        known.conditions.iter().flatten().filter(|it| it.type_ != KIND).cloned().collect();
    conditions.push(Condition {
        type_: KIND.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
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
            let owner = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "set",
                "uid": "set", "controller": true });
            let name = format!("p{number}");
            Arc::new(
                serde_json::from_value(json!({
                "metadata": { "name": name, "ownerReferences": [owner] },
                "status": { "phase": "Running",
                    "conditions": [{ "type": "Ready", "status": status }] } }))
                .unwrap(),
            )
        };
        (0..ready + broken).map(pod).collect()
    }

    fn scales(scale: i32) -> Scales {
        [("set".to_owned(), ("set".to_owned(), scale))].into()
    }

    fn allowed(budget: &PodDisruptionBudget, covered: &[Arc<Pod>], scale: i32) -> i32 {
        let expected = expected(budget, covered, &scales(scale));
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
        let expected = expected(&budget, &covered, &scales(3));
        let (now, recheck) = status(&budget, &covered, expected, Timestamp::UNIX_EPOCH);
        assert_eq!((now.disruptions_allowed, now.current_healthy), (Some(0), Some(2)));
        assert_eq!(now.disrupted_pods.as_ref().unwrap().len(), 1);
        assert_eq!(recheck, Some(Timestamp::UNIX_EPOCH + EVICTION_LIMIT));
        assert_eq!(patch_disrupted(&budget, &now), json!({ "gone": null }));
        let (later, _) =
            status(&budget, &covered, expected, Timestamp::UNIX_EPOCH + EVICTION_LIMIT);
        assert_eq!(later.disruptions_allowed, Some(1));
    }

    #[test]
    fn pods_that_nobody_controls_are_guarded_by_a_minimum_only() {
        let mut bare = pods(3, 0);
        for it in &mut bare {
            Arc::get_mut(it).unwrap().metadata.owner_references = None;
        }
        let least = budget(json!({ "minAvailable": 2 }), json!({}));
        assert_eq!(allowed(&least, &bare, 3), 1);
        for spec in [json!({ "maxUnavailable": 1 }), json!({ "minAvailable": "50%" })] {
            assert_eq!(allowed(&budget(spec.clone(), json!({})), &bare, 3), 0, "{spec}");
        }
    }

    #[test]
    fn a_budget_that_cannot_be_computed_allows_nothing_and_says_why() {
        let budget = budget(json!({ "maxUnavailable": 1 }), json!({}));
        let status = failed(&budget, "nobody knows", Timestamp::UNIX_EPOCH);
        assert_eq!(status.disruptions_allowed, Some(0));
        let condition = &status.conditions.unwrap()[0];
        let told = (condition.status.as_str(), condition.reason.as_str(), &*condition.message);
        assert_eq!(told, ("False", "SyncFailed", "nobody knows"));
    }

    #[test]
    fn a_mark_is_taken_back_from_a_pod_that_stays_for_two_minutes() {
        let pod = |reason: &str, deleted: Value| -> Pod {
            serde_json::from_value(json!({ "metadata": { "deletionTimestamp": deleted },
                "status": { "phase": "Running", "conditions": [{ "type": MARK, "status": "True",
                    "reason": reason, "lastTransitionTime": "1970-01-01T00:00:00Z" }] } }))
            .unwrap()
        };
        let marked = pod("EvictionByEvictionAPI", Value::Null);
        assert_eq!(stale_at(&marked), Some(Timestamp::UNIX_EPOCH + STALE_AFTER));
        let cleared = cleared(&marked, Timestamp::UNIX_EPOCH);
        assert_eq!((cleared[0].status.as_str(), &cleared[0].reason), ("False", &None));
        assert_eq!(stale_at(&pod("TerminationByKubelet", Value::Null)), None);
        assert_eq!(stale_at(&pod("x", json!("1970-01-01T00:00:00Z"))), None);
    }
}
