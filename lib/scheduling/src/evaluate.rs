//! Puts filters and scores together: the best nodes for a pod, or why there is none.
//!
//! In a large cluster not every node is asked: enough that do are enough, and the next pod begins
//! where this one stopped. The share shrinks with size as upstream's `percentageOfNodesToScore`
//! does by default.

use crate::{Cluster, Diagnosis, Plugin, PodInfo, Verdict, filter::PodState, score};

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

/// Asks the nodes of `cluster`, beginning with the one at `from`.
pub fn evaluate(cluster: &Cluster, pod: &PodInfo, from: usize) -> Result<Choice, Diagnosis> {
    let nodes = cluster.nodes();
    let mut diagnosis = Diagnosis { nodes: nodes.len(), ..Diagnosis::default() };
    if let Some(prerequisite) = prerequisite(pod) {
        diagnosis.prerequisite = Some(prerequisite);
        return Err(diagnosis);
    }
    let state = PodState::new(cluster, pod);
    let enough = enough(nodes.len(), pod.profile.percentage_of_nodes);
    let (mut feasible, mut refused, mut asked) = (Vec::new(), Vec::new(), 0);
    for step in 0..nodes.len() {
        let node = &nodes[(from + step) % nodes.len()];
        asked += 1;
        match state.verdict(node) {
            Verdict::Fits => feasible.push(node),
            verdict => refused.push((node, verdict)),
        }
        if feasible.len() >= enough {
            break;
        }
    }
    if feasible.is_empty() {
        diagnosis.verdicts =
            refused.into_iter().map(|(node, verdict)| (node.name.clone(), verdict)).collect();
        return Err(diagnosis);
    }
    let found = feasible.len();
    if let [only] = feasible[..] {
        return Ok(Choice { best: vec![only.name.clone()], asked, feasible: found });
    }
    let scores = score::scores(cluster, pod, &feasible);
    let top = scores.iter().copied().max();
    let best = feasible.iter().zip(scores).filter(|(_, it)| Some(*it) == top);
    let best = best.map(|(node, _)| node.name.clone()).collect();
    Ok(Choice { best, asked, feasible: found })
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
