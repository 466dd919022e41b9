//! Spreading that is wished for: `ScheduleAnyway`, and the cluster's defaults for siblings.
//!
//! The defaults are upstream's: over host names with a skew of 3, over zones with 5.
//! Upstream: `podtopologyspread/scoring.go`.

use std::collections::HashMap;

use super::MAX;
use crate::{Cluster, NodeInfo, PodInfo, filter::is_included, pod::Spread};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

pub(super) fn marks(cluster: &Cluster, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let wishes = wishes(pod);
    if wishes.is_empty() {
        return vec![0; nodes.len()];
    }
    // The defaults are applied as far as a node has labels for them.
    let needs_all_labels = !pod.spread.is_empty();
    let is_counted = |node: &NodeInfo| {
        !needs_all_labels || wishes.iter().all(|it| node.labels.contains_key(&it.topology_key))
    };
    let mut sums = vec![0.0; nodes.len()];
    for wish in &wishes {
        add(cluster, pod, wish, nodes, &is_counted, &mut sums);
    }
    let raw: Vec<_> =
        nodes.iter().zip(sums).map(|(node, sum)| is_counted(node).then(|| sum.round())).collect();
    normalize(&raw)
}

fn wishes(pod: &PodInfo) -> Vec<Spread> {
    if !pod.spread.is_empty() {
        return pod.spread.iter().filter(|it| !it.is_hard).cloned().collect();
    }
    let Some(selector) = &pod.siblings else { return Vec::new() };
    let default = |key: &str, max_skew| Spread {
        topology_key: key.to_owned(),
        max_skew,
        min_domains: 1,
        is_hard: false,
        selector: selector.clone(),
        honors_node_affinity: true,
        honors_taints: false,
    };
    vec![default(HOSTNAME, 3), default(ZONE, 5)]
}

fn add(
    cluster: &Cluster,
    pod: &PodInfo,
    wish: &Spread,
    nodes: &[&NodeInfo],
    is_counted: &impl Fn(&NodeInfo) -> bool,
    sums: &mut [f64],
) {
    let matching = cluster.label_sets.selected(&pod.namespace, &wish.selector);
    let pods_on = |node: &NodeInfo| {
        let counts = node.label_counts.iter().filter(|it| matching.has(it.id));
        counts.map(|it| it.staying).sum::<i64>()
    };
    let is_per_node = wish.topology_key == HOSTNAME;
    let mut domains = HashMap::<&str, i64>::new();
    for node in nodes.iter().filter(|it| is_counted(it)) {
        if let Some(domain) = node.labels.get(&wish.topology_key) {
            domains.insert(domain, 0);
        }
    }
    let size =
        if is_per_node { nodes.iter().filter(|it| is_counted(it)).count() } else { domains.len() };
    if !is_per_node {
        let all = cluster.nodes().iter();
        for node in all.filter(|it| is_counted(it) && is_included(wish, pod, it)) {
            let domain = node.labels.get(&wish.topology_key);
            if let Some(count) = domain.and_then(|it| domains.get_mut(it.as_str())) {
                *count += pods_on(node);
            }
        }
    }
    // Few domains differ a lot; many differ a little. The logarithm levels them.
    let weight = (size as f64 + 2.0).ln();
    for (node, sum) in nodes.iter().zip(sums) {
        let Some(domain) = node.labels.get(&wish.topology_key) else { continue };
        let count = if is_per_node { pods_on(node) } else { domains[domain.as_str()] };
        *sum += count as f64 * weight + (wish.max_skew - 1) as f64;
    }
}

/// The fewest siblings get the best mark; nodes that are not counted get none.
#[expect(clippy::cast_possible_truncation, reason = "a mark between 0 and 100")]
fn normalize(raw: &[Option<f64>]) -> Vec<i64> {
    let most = raw.iter().flatten().copied().fold(0.0, f64::max);
    let least = raw.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let mark = |value: f64| {
        if most == 0.0 { MAX } else { (MAX as f64 * (most + least - value) / most) as i64 }
    };
    raw.iter().map(|it| it.map_or(0, mark)).collect()
}
