//! How many nodes of one template some pods need: first fit, the largest pods first.
//!
//! Upstream: `estimator/binpacking_estimator.go`.

use scheduling::{Cluster, Verdict, filter_node};

use crate::{
    snapshot::{classes, is_simple},
    template::Template,
    world::PodFact,
};

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Estimate {
    pub(crate) nodes: i64,
    /// Those that the new nodes hold.
    pub(crate) pods: Vec<PodFact>,
}

/// Fills up to `limit` new nodes. Nodes that are there already are not asked: no pod of these fits
/// on them.
pub(crate) fn estimate(
    cluster: &Cluster,
    template: &Template,
    pods: &[PodFact],
    limit: i64,
) -> Estimate {
    let mut pods = pods.to_vec();
    // Stable: pods of equal size stay in their order.
    pods.sort_by(|a, b| size(b, template).total_cmp(&size(a, template)));
    let classes = classes(&pods);
    let mut cluster = cluster.clone();
    let mut filled: Vec<Node> = Vec::new();
    // Where the search of each class begins: what is before has no room for it.
    let mut from = vec![0; classes.iter().max().map_or(0, |it| it + 1)];
    let mut held = Vec::new();
    for (pod, class) in pods.into_iter().zip(classes) {
        let begin = if is_simple(&pod.info) { from[class] } else { 0 };
        let fits = |it: &Node| filter_node(&cluster, &pod.info, &it.name) == Some(Verdict::Fits);
        let mut found = (begin..filled.len()).find(|at| fits(&filled[*at]));
        let last_is_empty = filled.last().is_some_and(|it| it.pods == 0);
        if found.is_none()
            && !last_is_empty
            && i64::try_from(filled.len()).unwrap_or(i64::MAX) < limit
        {
            let name = format!("template-node-new-{}", filled.len());
            template.add_to(&mut cluster, &name);
            let added = Node { name, pods: 0 };
            found = (filter_node(&cluster, &pod.info, &added.name) == Some(Verdict::Fits))
                .then_some(filled.len());
            filled.push(added);
        }
        from[class] = found.unwrap_or(filled.len());
        if let Some(at) = found {
            cluster.set_pod(&filled[at].name, pod.info.clone());
            filled[at].pods += 1;
            held.push(pod);
        }
    }
    let used = filled.iter().filter(|it| it.pods > 0).count();
    Estimate { nodes: i64::try_from(used).unwrap_or(i64::MAX), pods: held }
}

struct Node {
    name: String,
    pods: usize,
}

/// The share of a node that a pod takes, in CPU and memory together.
#[expect(clippy::cast_precision_loss, reason = "an order of pods, not an account")]
fn size(pod: &PodFact, template: &Template) -> f64 {
    let share = |wanted: i64, all: i64| if all > 0 { wanted as f64 / all as f64 } else { 0.0 };
    let (wanted, all) = (&pod.info.requests, &template.allocatable);
    share(wanted.cpu_millis, all.cpu_millis) + share(wanted.memory, all.memory)
}
