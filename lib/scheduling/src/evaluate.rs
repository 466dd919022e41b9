//! Puts filters and scores together: the best nodes for a pod, or why there is none.
//!
//! In a large cluster not every node is asked: enough that do are enough, and the next pod begins
//! where this one stopped. The share shrinks with size as upstream's `percentageOfNodesToScore`
//! does by default.

use std::collections::BTreeMap;

use crate::{Cluster, Diagnosis, NodeInfo, Plugin, PodInfo, Verdict, filter::PodState, score};

/// Below this number every node is asked (`minFeasibleNodesToFind`).
const ASK_ALL: usize = 100;

/// Where a pod should go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The nodes with the best score; any of them will do.
    pub best: Vec<String>,
    /// How many nodes were asked, and how many of them would do.
    pub asked: usize,
    pub feasible: usize,
}

/// The nodes that would do, by name, before one is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Feasible {
    pub nodes: Vec<String>,
    pub asked: usize,
    /// What was said about those of the asked that would not.
    pub refused: BTreeMap<String, Verdict>,
}

/// Asks the nodes of `cluster`, beginning with the one at `from`.
pub fn evaluate(cluster: &Cluster, pod: &PodInfo, from: usize) -> Result<Choice, Diagnosis> {
    Ok(search(cluster, pod, from)?.choice(cluster, pod))
}

/// As [`evaluate`], for those who ask somebody else about the nodes before they choose.
pub fn feasible(cluster: &Cluster, pod: &PodInfo, from: usize) -> Result<Feasible, Diagnosis> {
    let found = search(cluster, pod, from)?;
    let nodes = found.nodes.iter().map(|it| it.name.clone()).collect();
    Ok(Feasible { nodes, asked: found.asked, refused: named(found.refused) })
}

/// The best of these nodes, as far as they do; `more` is added to the scores of some.
pub fn choose(
    cluster: &Cluster,
    pod: &PodInfo,
    nodes: &[String],
    more: &BTreeMap<String, i64>,
) -> Option<Vec<String>> {
    let state = PodState::new(cluster, pod);
    let known = nodes.iter().filter_map(|it| cluster.node(it));
    let fit: Vec<_> = known.filter(|it| state.verdict(it) == Verdict::Fits).collect();
    Some(best(cluster, pod, &fit, more)).filter(|it| !it.is_empty())
}

/// The nodes that would do, and what was said about the others.
#[derive(Debug)]
pub struct Found<'a> {
    nodes: Vec<&'a NodeInfo>,
    refused: Vec<(&'a NodeInfo, Verdict)>,
    asked: usize,
}

impl Found<'_> {
    /// The best of them.
    pub fn choice(&self, cluster: &Cluster, pod: &PodInfo) -> Choice {
        let best = best(cluster, pod, &self.nodes, &BTreeMap::new());
        Choice { best, asked: self.asked, feasible: self.nodes.len() }
    }
}

/// The first half of [`evaluate`]: which nodes would do.
pub fn search<'a>(
    cluster: &'a Cluster,
    pod: &PodInfo,
    from: usize,
) -> Result<Found<'a>, Diagnosis> {
    let nodes = cluster.nodes();
    let mut diagnosis = Diagnosis { nodes: nodes.len(), ..Diagnosis::default() };
    if let Some(prerequisite) = prerequisite(pod) {
        diagnosis.prerequisite = Some(prerequisite);
        return Err(diagnosis);
    }
    let state = PodState::new(cluster, pod);
    let enough = enough(nodes.len(), pod.profile.percentage_of_nodes);
    let mut found = Found { nodes: Vec::new(), refused: Vec::new(), asked: 0 };
    for step in 0..nodes.len() {
        let node = &nodes[(from + step) % nodes.len()];
        found.asked += 1;
        match state.verdict(node) {
            Verdict::Fits => found.nodes.push(node),
            verdict => found.refused.push((node, verdict)),
        }
        if found.nodes.len() >= enough {
            break;
        }
    }
    if found.nodes.is_empty() {
        diagnosis.verdicts = named(found.refused);
        return Err(diagnosis);
    }
    Ok(found)
}

fn named(refused: Vec<(&NodeInfo, Verdict)>) -> BTreeMap<String, Verdict> {
    refused.into_iter().map(|(node, verdict)| (node.name.clone(), verdict)).collect()
}

fn best(
    cluster: &Cluster,
    pod: &PodInfo,
    nodes: &[&NodeInfo],
    more: &BTreeMap<String, i64>,
) -> Vec<String> {
    if let [only] = nodes {
        return vec![only.name.clone()];
    }
    let mut scores = score::scores(cluster, pod, nodes);
    for (node, score) in nodes.iter().zip(&mut scores).filter(|_| !more.is_empty()) {
        *score = score.saturating_add(more.get(&node.name).copied().unwrap_or(0));
    }
    let top = scores.iter().copied().max();
    let best = nodes.iter().zip(scores).filter(|(_, it)| Some(*it) == top);
    best.map(|(node, _)| node.name.clone()).collect()
}

/// The choice of one node, where it does.
pub fn evaluate_one(cluster: &Cluster, pod: &PodInfo, node: &str) -> Option<Choice> {
    let is_open = prerequisite(pod).is_none();
    let fits = is_open && filter_node(cluster, pod, node) == Some(Verdict::Fits);
    fits.then(|| Choice { best: vec![node.to_owned()], asked: 1, feasible: 1 })
}

/// Something about the pod itself that makes asking the nodes pointless.
pub(crate) fn prerequisite(pod: &PodInfo) -> Option<(Plugin, String)> {
    let of_devices = pod.devices.as_ref().and_then(|it| it.prerequisite.clone());
    pod.volume_prerequisite().or(of_devices.map(|it| (Plugin::DynamicResources, it)))
}

/// What the plug-ins say about one node.
pub fn filter_node(cluster: &Cluster, pod: &PodInfo, node: &str) -> Option<Verdict> {
    cluster.node(node).map(|node| PodState::new(cluster, pod).verdict(node))
}

/// How many nodes that do are enough (`numFeasibleNodesToFind`).
fn enough(nodes: usize, percentage: usize) -> usize {
    if nodes < ASK_ALL {
        return nodes.max(1);
    }
    let percentage = match percentage {
        0 => 50_usize.saturating_sub(nodes / 125).max(5),
        some => some,
    };
    (nodes * percentage / 100).max(ASK_ALL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod, requesting};

    #[test]
    fn large_clusters_are_sampled_as_upstream_does() {
        for (nodes, expected) in
            [(3, 3), (99, 99), (100, 100), (1000, 420), (5000, 500), (6000, 300)]
        {
            assert_eq!(enough(nodes, 0), expected, "{nodes} nodes");
        }
        assert_eq!([enough(1000, 100), enough(1000, 20), enough(1000, 1)], [1000, 200, 100]);
    }

    #[test]
    fn a_pod_that_fits_nowhere_gets_a_reason_per_node() {
        let mut cluster = Cluster::default();
        cluster.set_node(&node("a", "1", "1Gi", 0));
        cluster.set_node(&node("b", "1", "1Gi", 0));
        cluster.set_node(&node("c", "1", "1Gi", 0));
        let diagnosis = evaluate(&cluster, &pod("{}"), 0).unwrap_err();
        assert_eq!(diagnosis.to_string(), "0/3 nodes are available: 3 Too many pods.");
    }

    #[test]
    fn the_search_begins_where_it_is_told_and_wraps_around() {
        let mut cluster = Cluster::default();
        for index in 0..200 {
            cluster.set_node(&node(&format!("n{index}"), "1", "1Gi", 10));
        }
        let choice = evaluate(&cluster, &pod(&requesting("1", "0")), 150).unwrap();
        assert_eq!((choice.asked, choice.feasible), (100, 100));
        assert!(
            choice.best.contains(&"n199".to_owned()) && choice.best.contains(&"n49".to_owned())
        );
        assert!(!choice.best.contains(&"n100".to_owned()));
    }

    #[test]
    fn of_the_nodes_that_are_left_the_best_is_chosen_by_all_scores_together() {
        let mut cluster = Cluster::default();
        for name in ["a", "b", "c"] {
            cluster.set_node(&node(name, "4", "8Gi", 10));
        }
        cluster.set_node(&node("small", "1", "1Gi", 10));
        let pod = pod(&requesting("2", "0"));
        let found = feasible(&cluster, &pod, 0).unwrap();
        assert_eq!((found.nodes.join(" "), found.asked), ("a b c".into(), 4));
        assert_eq!(found.refused.keys().collect::<Vec<_>>(), ["small"]);
        let names = |nodes: &[&str]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
        let chosen = |nodes: &[&str], more: &[(&str, i64)]| {
            let more = more.iter().map(|(node, score)| ((*node).to_owned(), *score)).collect();
            choose(&cluster, &pod, &names(nodes), &more).map(|it| it.join(" "))
        };
        assert_eq!(chosen(&["a", "b"], &[("b", 1)]).as_deref(), Some("b"));
        assert_eq!(chosen(&["a", "b"], &[("c", 100)]).as_deref(), Some("a b"));
        assert_eq!(chosen(&["small", "gone"], &[]), None);
    }

    #[test]
    fn one_node_is_chosen_only_where_it_does() {
        let mut cluster = Cluster::default();
        cluster.set_node(&node("small", "1", "1Gi", 10));
        cluster.set_node(&node("large", "4", "8Gi", 10));
        let pod = pod(&requesting("2", "0"));
        assert_eq!(evaluate_one(&cluster, &pod, "large").unwrap().best, ["large"]);
        assert_eq!(evaluate_one(&cluster, &pod, "small"), None);
        assert_eq!(evaluate_one(&cluster, &pod, "gone"), None);
    }
}
