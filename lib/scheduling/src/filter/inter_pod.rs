//! Affinity and anti-affinity between pods, in both directions.
//!
//! Upstream: `interpodaffinity/filtering.go`.

use std::collections::HashSet;

use crate::{Cluster, NodeInfo, PodInfo, Reason, Term};

type Domains<'a> = HashSet<(&'a str, &'a str)>;

/// Which domains the pod must be in, and which it must not.
pub(crate) struct InterPodState<'a> {
    pod: &'a PodInfo,
    /// Domains of pods that repel this one.
    repelled: Domains<'a>,
    /// Domains of pods that match all affinity terms, per term's key.
    wanted: Domains<'a>,
    /// Domains of pods that match some anti-affinity term.
    shunned: Domains<'a>,
    /// The pod satisfies its own affinity: it may be the first.
    attracts_itself: bool,
}

impl<'a> InterPodState<'a> {
    pub(crate) fn new(cluster: &'a Cluster, pod: &'a PodInfo) -> Self {
        let own = pod.label_set();
        let attracts_itself = pod.affinity.iter().all(|it| it.matches(&own, &cluster.namespaces));
        Self {
            pod,
            repelled: repelled(cluster, pod),
            wanted: wanted(cluster, pod),
            shunned: shunned(cluster, pod),
            attracts_itself,
        }
    }

    pub(crate) fn objection(&self, node: &NodeInfo) -> Option<Reason> {
        if !self.is_attracted(node) {
            return Some(Reason::PodAffinity);
        }
        if !self.shunned.is_empty() && is_in_any(node, &self.pod.anti_affinity, &self.shunned) {
            return Some(Reason::PodAntiAffinity);
        }
        let mut repelled = self.repelled.iter();
        repelled
            .any(|(key, value)| node.labels.get(*key).is_some_and(|it| it == value))
            .then_some(Reason::ExistingAntiAffinity)
    }

    fn is_attracted(&self, node: &NodeInfo) -> bool {
        let terms = &self.pod.affinity;
        if !terms.iter().all(|it| node.labels.contains_key(&it.topology_key)) {
            return false;
        }
        let is_there = terms.iter().all(|it| {
            let domain = node.labels.get(&it.topology_key).map(String::as_str);
            domain.is_some_and(|domain| self.wanted.contains(&(it.topology_key.as_str(), domain)))
        });
        is_there || (self.wanted.is_empty() && self.attracts_itself)
    }
}

fn is_in_any(node: &NodeInfo, terms: &[Term], domains: &Domains) -> bool {
    terms.iter().any(|term| {
        let domain = node.labels.get(&term.topology_key);
        domain.is_some_and(|it| domains.contains(&(term.topology_key.as_str(), it.as_str())))
    })
}

fn repelled<'a>(cluster: &'a Cluster, pod: &PodInfo) -> Domains<'a> {
    let own = pod.label_set();
    let mut domains = Domains::new();
    for node in cluster.nodes().iter().filter(|it| it.with_affinity > 0) {
        for term in node.pods().flat_map(|it| &it.anti_affinity) {
            let Some(domain) = node.labels.get(&term.topology_key) else { continue };
            let pair = (term.topology_key.as_str(), domain.as_str());
            if !domains.contains(&pair) && term.matches(&own, &cluster.namespaces) {
                domains.insert(pair);
            }
        }
    }
    domains
}

fn wanted<'a>(cluster: &'a Cluster, pod: &'a PodInfo) -> Domains<'a> {
    if pod.affinity.is_empty() {
        return Domains::new();
    }
    let all = |set: &_| pod.affinity.iter().all(|it| it.matches(set, &cluster.namespaces));
    let matching = cluster.label_sets.matching(all);
    let nodes = cluster.nodes().iter();
    let nodes = nodes.filter(|node| node.label_counts.iter().any(|it| matching.has(it.id)));
    nodes.flat_map(|node| pod.affinity.iter().filter_map(|term| domain(node, term))).collect()
}

fn shunned<'a>(cluster: &'a Cluster, pod: &'a PodInfo) -> Domains<'a> {
    let mut domains = Domains::new();
    for term in &pod.anti_affinity {
        let matching = cluster.label_sets.matching(|set| term.matches(set, &cluster.namespaces));
        if matching.is_empty() {
            continue;
        }
        let nodes = cluster.nodes().iter();
        let nodes = nodes.filter(|node| node.label_counts.iter().any(|it| matching.has(it.id)));
        domains.extend(nodes.filter_map(|node| domain(node, term)));
    }
    domains
}

fn domain<'a>(node: &'a NodeInfo, term: &'a Term) -> Option<(&'a str, &'a str)> {
    Some((term.topology_key.as_str(), node.labels.get(&term.topology_key)?.as_str()))
}
