//! Which pods make room for a critical one.
//!
//! Of those that may go, the least valuable class of service goes first, and within one the pod whose
//! requests are nearest to what is missing.
//!
//! Upstream: `pkg/kubelet/preemption/preemption.go`.
//!
//! **Invariant:** nobody goes unless the room that all of the chosen leave is enough.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Pod;

use super::{Lack, requests::Requests};
use crate::{
    pod::PodExt,
    qos::{QosClass, qos_class},
    status::Verdict,
};

pub(crate) const REASON: &str = "Preempting";

/// What the status of a pod that made room says.
pub(crate) fn verdict() -> Verdict {
    let message = "Preempted in order to admit critical pod".to_owned();
    Verdict { reason: REASON.to_owned(), message }
}

/// What is missing, by resource.
type Missing = BTreeMap<String, i64>;

/// The pods that have to go; the error names what no set of them would free.
pub(crate) fn victims(
    pod: &Pod,
    others: &[Arc<Pod>],
    lacks: &[Lack],
) -> Result<Vec<Arc<Pod>>, String> {
    let missing: Missing = lacks
        .iter()
        .map(|it| {
            (it.resource.clone(), it.requested.saturating_add(it.used).saturating_sub(it.capacity))
        })
        .collect();
    let of = |class: QosClass| -> Vec<Arc<Pod>> {
        let all = others.iter().filter(|it| is_preemptable(pod, it) && qos_class(it) == class);
        all.cloned().collect()
    };
    let (best_effort, burstable, guaranteed) =
        (of(QosClass::BestEffort), of(QosClass::Burstable), of(QosClass::Guaranteed));
    let without = |groups: &[&[Arc<Pod>]]| less(&missing, groups.iter().flat_map(|it| it.iter()));
    let unmet = without(&[&best_effort, &burstable, &guaranteed]);
    if !unmet.is_empty() {
        let texts: Vec<_> =
            unmet.iter().map(|(name, it)| format!("(res: {name}, q: {it})")).collect();
        return Err(format!(
            "no set of running pods found to reclaim resources: [{}]",
            texts.join(", ")
        ));
    }
    let mut chosen = nearest(guaranteed, without(&[&best_effort, &burstable]));
    chosen.extend(nearest(burstable, without(&[&best_effort, &chosen])));
    let best_effort = nearest(best_effort, without(&[&chosen]));
    chosen.extend(best_effort);
    Ok(chosen)
}

fn is_preemptable(pod: &Pod, other: &Pod) -> bool {
    let priority = |it: &Pod| PodExt::spec(it).priority;
    (pod.is_critical() && !other.is_critical())
        || priority(pod).zip(priority(other)).is_some_and(|(own, other)| own > other)
}

fn amount(pod: &Pod, resource: &str) -> i64 {
    if resource == "pods" { 1 } else { Requests::of(pod).get(resource) }
}

fn less<'a>(missing: &Missing, pods: impl Iterator<Item = &'a Arc<Pod>>) -> Missing {
    let mut left = missing.clone();
    for pod in pods {
        for (resource, missing) in &mut left {
            *missing -= amount(pod, resource);
        }
    }
    left.retain(|_, it| *it > 0);
    left
}

fn nearest(mut pods: Vec<Arc<Pod>>, mut missing: Missing) -> Vec<Arc<Pod>> {
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let key = |pod: &Arc<Pod>| (distance(pod, &missing), sum(pod, &missing));
        let order = |a: &(usize, &Arc<Pod>), b: &(usize, &Arc<Pod>)| {
            let (a, b) = (key(a.1), key(b.1));
            a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
        };
        let Some((index, _)) = pods.iter().enumerate().min_by(order) else { break };
        let pod = pods.swap_remove(index);
        missing = less(&missing, std::iter::once(&pod));
        chosen.push(pod);
    }
    chosen
}

/// How much of what is missing a pod would leave missing, squared; zero when it frees all.
#[allow(clippy::cast_precision_loss, reason = "a measure to compare by")]
fn distance(pod: &Pod, missing: &Missing) -> f64 {
    missing
        .iter()
        .map(|(resource, missing)| {
            let left = (*missing - amount(pod, resource)) as f64 / *missing as f64;
            left.max(0.0).powi(2)
        })
        .sum()
}

fn sum(pod: &Pod, missing: &Missing) -> i64 {
    missing.keys().map(|it| amount(pod, it)).fold(0, i64::saturating_add)
}
