//! Topology spread constraints that must hold (`DoNotSchedule`).
//!
//! Upstream: `podtopologyspread/filtering.go`.

use std::collections::HashMap;

use kube::core::SelectorExt;

use crate::{Cluster, NodeInfo, Plugin, PodInfo, Reason, pod::Spread, taint};

/// How many matching pods each domain of each constraint has.
pub(crate) struct SpreadState<'a> {
    constraints: Vec<Counted<'a>>,
}

struct Counted<'a> {
    constraint: &'a Spread,
    /// One when the pod itself would be counted.
    own: i64,
    counts: HashMap<&'a str, i64>,
    least: i64,
}

impl<'a> SpreadState<'a> {
    pub(crate) fn new(cluster: &'a Cluster, pod: &'a PodInfo) -> Self {
        let is_asked = pod.profile.asks(Plugin::PodTopologySpread);
        let hard: Vec<_> = pod.spread.iter().filter(|it| it.is_hard && is_asked).collect();
        let mut constraints: Vec<_> = hard
            .iter()
            .map(|&constraint| {
                let own = i64::from(constraint.selector.matches(&pod.labels));
                Counted { constraint, own, counts: HashMap::new(), least: 0 }
            })
            .collect();
        for counted in &mut constraints {
            counted.count(cluster, pod, &hard);
        }
        Self { constraints }
    }

    pub(crate) fn objection(&self, node: &NodeInfo) -> Option<Reason> {
        self.constraints.iter().find_map(|counted| {
            let Some(domain) = node.labels.get(&counted.constraint.topology_key) else {
                return Some(Reason::SpreadMissingLabel);
            };
            let here = counted.counts.get(domain.as_str()).copied().unwrap_or(0);
            let skew = here + counted.own - counted.least;
            (skew > counted.constraint.max_skew).then_some(Reason::SpreadSkew)
        })
    }
}

impl SpreadState<'_> {
    /// How uneven it would become, of the first constraint that forbids it.
    pub(crate) fn detail(&self, node: &NodeInfo) -> Option<String> {
        self.constraints.iter().find_map(|counted| {
            let key = &counted.constraint.topology_key;
            let domain = node.labels.get(key)?;
            let here = counted.counts.get(domain.as_str()).copied().unwrap_or(0);
            let (least, most) = (counted.least, counted.constraint.max_skew);
            (here + counted.own - least > most).then(|| {
                format!(
                    "{key}={domain} has {here}, the least has {least}, by {most} they may differ"
                )
            })
        })
    }
}

impl<'a> Counted<'a> {
    fn count(&mut self, cluster: &'a Cluster, pod: &PodInfo, all: &[&Spread]) {
        let selector = &self.constraint.selector;
        let matching = cluster.label_sets.selected(&pod.namespace, selector);
        let key = &self.constraint.topology_key;
        let others: Vec<_> =
            all.iter().map(|it| &it.topology_key).filter(|it| *it != key).collect();
        for node in cluster.nodes() {
            let Some(domain) = node.labels.get(key) else { continue };
            if !others.iter().all(|it| node.labels.contains_key(*it))
                || !is_included(self.constraint, pod, node)
            {
                continue;
            }
            let pods = node.label_counts.iter().filter(|it| matching.has(it.id));
            *self.counts.entry(domain).or_default() += pods.map(|it| it.staying).sum::<i64>();
        }
        let has_enough_domains = self.counts.len() >= self.constraint.min_domains;
        self.least =
            if has_enough_domains { self.counts.values().copied().min().unwrap_or(0) } else { 0 };
    }
}

/// Whether the constraint counts this node at all.
pub(crate) fn is_included(constraint: &Spread, pod: &PodInfo, node: &NodeInfo) -> bool {
    if constraint.honors_node_affinity && !pod.accepts_node(&node.name, &node.labels) {
        return false;
    }
    let effects = ["NoSchedule", "NoExecute"];
    !constraint.honors_taints
        || taint::find_untolerated(&node.taints, &pod.tolerations, &effects).is_none()
}
