//! Preferences between pods, in both directions.
//!
//! Upstream: `interpodaffinity/scoring.go`; required affinity of pods that are there counts as the
//! profile says (`hardPodAffinityWeight`).

use std::collections::HashMap;

use super::MAX;
use crate::{Cluster, NodeInfo, PodInfo, Term, label_sets::LabelSet};

type Marks<'a> = HashMap<(&'a str, &'a str), i64>;

pub(super) fn marks(cluster: &Cluster, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let prefers = !(pod.preferred_affinity.is_empty() && pod.preferred_anti_affinity.is_empty());
    if pod.profile.ignores_preferred_terms && !prefers {
        return vec![0; nodes.len()];
    }
    let mut domains = Marks::new();
    add_own(cluster, pod, &mut domains);
    add_others(cluster, pod, &mut domains);
    if domains.is_empty() {
        return vec![0; nodes.len()];
    }
    let sum = |node: &&NodeInfo| {
        let met = domains
            .iter()
            .filter(|((key, value), _)| node.labels.get(*key).is_some_and(|it| it == value));
        met.map(|(_, mark)| mark).sum::<i64>()
    };
    let sums: Vec<_> = nodes.iter().map(sum).collect();
    let least = sums.iter().copied().min().unwrap_or(0);
    let range = sums.iter().copied().max().unwrap_or(0) - least;
    sums.into_iter().map(|it| if range == 0 { 0 } else { MAX * (it - least) / range }).collect()
}

/// What this pod prefers about those that are there.
fn add_own<'a>(cluster: &'a Cluster, pod: &'a PodInfo, domains: &mut Marks<'a>) {
    let wanted = pod.preferred_affinity.iter().map(|(weight, term)| (*weight, term));
    let shunned = pod.preferred_anti_affinity.iter().map(|(weight, term)| (-weight, term));
    for (weight, term) in wanted.chain(shunned) {
        let matching = cluster.label_sets.matching(|set| term.matches(set, &cluster.namespaces));
        if matching.is_empty() {
            continue;
        }
        for node in cluster.nodes() {
            let counts = node.label_counts.iter().filter(|it| matching.has(it.id));
            let pods = counts.map(|it| it.total).sum::<i64>();
            add(node, term, weight * pods, domains);
        }
    }
}

/// What those that are there prefer about this pod.
fn add_others<'a>(cluster: &'a Cluster, pod: &PodInfo, domains: &mut Marks<'a>) {
    let own: LabelSet = pod.label_set();
    for node in cluster.nodes().iter().filter(|it| it.with_affinity > 0) {
        for there in node.pods().filter(|it| it.has_affinity()) {
            let weight = pod.profile.hard_pod_affinity_weight;
            let required = there.affinity.iter().map(move |term| (weight, term));
            let wanted = there.preferred_affinity.iter().map(|(weight, term)| (*weight, term));
            let shunned =
                there.preferred_anti_affinity.iter().map(|(weight, term)| (-weight, term));
            for (weight, term) in required.chain(wanted).chain(shunned) {
                if term.matches(&own, &cluster.namespaces) {
                    add(node, term, weight, domains);
                }
            }
        }
    }
}

fn add<'a>(node: &'a NodeInfo, term: &'a Term, weight: i64, domains: &mut Marks<'a>) {
    if weight == 0 {
        return;
    }
    if let Some(domain) = node.labels.get(&term.topology_key) {
        *domains.entry((&term.topology_key, domain)).or_default() += weight;
    }
}
