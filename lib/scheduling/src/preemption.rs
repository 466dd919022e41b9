//! Which pods of lower priority would have to go for a pod to fit.
//!
//! On each node that refuses for want of room, all pods of lower priority are taken away in
//! thought and brought back one by one, those whose disruption budget is used up first, then by
//! importance, as long as the incoming pod still fits. Of the nodes, the one that loses least is
//! taken.
//!
//! Upstream: `preemption.go`, `defaultpreemption`. Deviation: all candidate nodes are tried, not a
//! sample of a tenth.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use kube::core::{Selector, SelectorExt};

use crate::{Cluster, Diagnosis, PodInfo, Verdict, evaluate::filter_node, reason::histogram};

const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// A PodDisruptionBudget.
#[derive(Clone, Debug)]
pub struct Budget {
    pub namespace: String,
    pub selector: Selector,
    pub allowed: i32,
    /// Pods whose eviction is under way and already counted.
    pub disrupted: BTreeSet<String>,
}

/// What preemption comes to.
#[derive(Clone, Debug)]
pub enum Preemption {
    Evict {
        node: String,
        victims: Vec<Arc<PodInfo>>,
    },
    /// Nothing can be gained; upstream's words for why.
    Futile(String),
}

/// A node, and who would have to go from it.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub node: String,
    pub victims: Vec<Arc<PodInfo>>,
    /// How many of them a budget would keep.
    pub violations: usize,
}

/// Decides for a pod that fits nowhere. `cluster` is as before when this returns.
pub fn preempt(
    cluster: &mut Cluster,
    pod: &PodInfo,
    diagnosis: &Diagnosis,
    budgets: &[Budget],
) -> Preemption {
    match candidates(cluster, pod, diagnosis, budgets) {
        Ok(candidates) => least(candidates),
        Err(why) => Preemption::Futile(why),
    }
}

/// The nodes from which pods could go, or why there are none, in upstream's words. `cluster` is as
/// before when this returns.
pub fn candidates(
    cluster: &mut Cluster,
    pod: &PodInfo,
    diagnosis: &Diagnosis,
    budgets: &[Budget],
) -> Result<Vec<Candidate>, String> {
    if !pod.may_preempt {
        return Err("not eligible due to preemptionPolicy=Never.".into());
    }
    let names: Vec<_> = cluster.nodes().iter().map(|it| it.name.clone()).collect();
    let (mut candidates, mut reasons) = (Vec::new(), Vec::new());
    for name in names {
        if !matches!(diagnosis.verdicts.get(&name), Some(Verdict::Refused(_))) {
            reasons.push(NOT_HELPFUL.to_owned());
            continue;
        }
        match select_victims(cluster, pod, &name, budgets) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => reasons.extend(why),
        }
    }
    if candidates.is_empty() {
        let nodes = diagnosis.nodes;
        let reasons = histogram(reasons.into_iter());
        return Err(format!("0/{nodes} nodes are available: {reasons}."));
    }
    Ok(candidates)
}

/// The candidate that loses least.
pub fn least(candidates: Vec<Candidate>) -> Preemption {
    match candidates.into_iter().min_by_key(cost) {
        Some(it) => Preemption::Evict { node: it.node, victims: it.victims },
        None => Preemption::Futile("no candidate node for preemption".into()),
    }
}

/// Less is better, in this order (`pickOneNodeForPreemption`).
fn cost(candidate: &Candidate) -> (usize, i32, i64, usize, Reverse<jiff::Timestamp>) {
    let highest = candidate.victims.iter().map(|it| it.priority).max().unwrap_or(i32::MIN);
    // Shifted to be positive, so that more victims cost more at any priority.
    let sum =
        candidate.victims.iter().map(|it| i64::from(it.priority) + i64::from(i32::MAX) + 1).sum();
    let important = candidate.victims.iter().filter(|it| it.priority == highest);
    let earliest = important.map(|it| it.started).min().unwrap_or(jiff::Timestamp::MAX);
    (candidate.violations, highest, sum, candidate.victims.len(), Reverse(earliest))
}

fn select_victims(
    cluster: &mut Cluster,
    pod: &PodInfo,
    node: &str,
    budgets: &[Budget],
) -> Result<Candidate, Vec<String>> {
    let here = cluster.node(node);
    let mut lower: Vec<_> = here
        .iter()
        .flat_map(|it| it.pods())
        .filter(|it| it.priority < pod.priority)
        .cloned()
        .collect();
    if lower.is_empty() {
        return Err(vec![NO_VICTIMS.to_owned()]);
    }
    for victim in &lower {
        cluster.remove_pod(&victim.uid);
    }
    let verdict = filter_node(cluster, pod, node);
    if verdict != Some(Verdict::Fits) {
        for victim in lower {
            cluster.set_pod(node, victim);
        }
        let reasons = verdict.iter().flat_map(Verdict::reasons).map(ToString::to_string);
        return Err(reasons.collect());
    }
    // The most important first: higher priority, then longer running.
    lower.sort_by_key(|it| (Reverse(it.priority), it.started));
    let (violating, harmless) = split_by_budget(lower, budgets);
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (counts, victim) in
        violating.into_iter().map(|it| (true, it)).chain(harmless.into_iter().map(|it| (false, it)))
    {
        cluster.set_pod(node, victim.clone());
        if filter_node(cluster, pod, node) != Some(Verdict::Fits) {
            cluster.remove_pod(&victim.uid);
            violations += usize::from(counts);
            victims.push(victim);
        }
    }
    for victim in &victims {
        cluster.set_pod(node, victim.clone());
    }
    Ok(Candidate { node: node.to_owned(), victims, violations })
}

type Split = (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>);

/// Those whose eviction would break a budget, and those whose would not.
fn split_by_budget(pods: Vec<Arc<PodInfo>>, budgets: &[Budget]) -> Split {
    let mut allowed: Vec<_> = budgets.iter().map(|it| it.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut breaks = false;
        for (budget, allowed) in budgets.iter().zip(&mut allowed) {
            let is_covered = budget.namespace == pod.namespace
                && !pod.labels.is_empty()
                && budget.selector.matches(&pod.labels)
                && !budget.disrupted.contains(&pod.name);
            if is_covered {
                *allowed -= 1;
                breaks |= *allowed < 0;
            }
        }
        breaks
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evaluate,
        testing::{api_pod, node, requesting},
    };

    fn pod(name: &str, cpu: &str, priority: i32, app: &str) -> Arc<PodInfo> {
        let mut pod = PodInfo::new(&api_pod(name, &[("app", app)], &requesting(cpu, "0")));
        pod.priority = priority;
        pod.into()
    }

    fn run(cluster: &mut Cluster, pod: &PodInfo, budgets: &[Budget]) -> Preemption {
        let diagnosis = evaluate(cluster, pod, 0).unwrap_err();
        preempt(cluster, pod, &diagnosis, budgets)
    }

    fn victims(preemption: &Preemption) -> (String, Vec<String>) {
        match preemption {
            Preemption::Evict { node, victims } => {
                (node.clone(), victims.iter().map(|it| it.name.clone()).collect())
            }
            Preemption::Futile(message) => (message.clone(), vec![]),
        }
    }

    fn two_nodes() -> Cluster {
        let mut cluster = Cluster::default();
        cluster.set_node(&node("a", "2", "1Gi", 10));
        cluster.set_node(&node("b", "2", "1Gi", 10));
        cluster
    }

    #[test]
    fn the_least_important_pods_of_the_cheapest_node_go_and_no_more_than_needed() {
        let mut cluster = two_nodes();
        cluster.set_pod("a", pod("a1", "1", 5, "x"));
        cluster.set_pod("a", pod("a2", "1", 1, "x"));
        cluster.set_pod("b", pod("b1", "1", 3, "x"));
        cluster.set_pod("b", pod("b2", "1", 3, "x"));
        let result = run(&mut cluster, &pod("new", "1", 10, "y"), &[]);
        assert_eq!(victims(&result), ("a".into(), vec!["a2".into()]));
        assert_eq!(cluster.node("a").unwrap().requested.cpu_millis, 2000, "nothing really went");
    }

    #[test]
    fn a_budget_moves_the_choice_to_other_pods() {
        let mut cluster = two_nodes();
        cluster.set_pod("a", pod("a1", "2", 1, "guarded"));
        cluster.set_pod("b", pod("b1", "2", 4, "free"));
        let budget = Budget {
            namespace: "default".into(),
            selector: [("app".to_owned(), "guarded".to_owned())].into_iter().collect(),
            allowed: 0,
            disrupted: BTreeSet::new(),
        };
        let result = run(&mut cluster, &pod("new", "1", 10, "y"), &[budget]);
        assert_eq!(victims(&result), ("b".into(), vec!["b1".into()]));
    }

    #[test]
    fn without_victims_the_message_is_upstreams() {
        let mut cluster = two_nodes();
        cluster.set_node(&node("c", "1", "1Gi", 10));
        cluster.set_pod("a", pod("a1", "2", 10, "x"));
        cluster.set_pod("b", pod("b1", "2", 10, "x"));
        let result = run(&mut cluster, &pod("new", "2", 10, "y"), &[]);
        assert_eq!(
            victims(&result).0,
            "0/3 nodes are available: 1 Preemption is not helpful for scheduling, \
             2 No preemption victims found for incoming pod."
        );
        let mut modest = (*pod("new", "2", 20, "y")).clone();
        modest.may_preempt = false;
        let result = run(&mut cluster, &modest, &[]);
        assert_eq!(victims(&result).0, "not eligible due to preemptionPolicy=Never.");
    }
}
