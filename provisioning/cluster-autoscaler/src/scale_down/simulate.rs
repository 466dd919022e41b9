//! Takes nodes out of a copy of the cluster and finds their pods another place.
//!
//! What one removal needs is gone for the next: together they fit, and together they keep the
//! PodDisruptionBudgets.

use std::sync::Arc;

use scheduling::{Cluster, NodeInfo, PodInfo, evaluate};

use super::{Blocked, Question, Unremovable, drain::Budgets};
use crate::{snapshot, world::PodFact};

/// See the module.
pub(super) struct Simulation {
    cluster: Cluster,
    budgets: Budgets,
    from: usize,
}

impl Simulation {
    pub(super) fn new(question: Question<'_>) -> Self {
        let mut cluster = snapshot::real(question.world);
        // Pods that will be scheduled any moment need their room, too.
        drop(snapshot::place(&mut cluster, question.world.pending.clone()));
        for name in question.memory.leaving.keys() {
            cluster.remove_node(name);
        }
        Self { cluster, budgets: Budgets::of(&question.world.budgets), from: 0 }
    }

    /// The pods, if all of them fit elsewhere; then the node is gone from here on.
    pub(super) fn remove(
        &mut self,
        node: &str,
        pods: Vec<PodFact>,
    ) -> Result<Vec<PodFact>, Unremovable> {
        let mut budgets = self.budgets.clone();
        if let Err(pod) = budgets.take(&pods) {
            return Err(Unremovable::BlockedByPod { pod: pod.key(), by: Blocked::NotEnoughPdb });
        }
        let here: Vec<_> =
            self.cluster.node(node).into_iter().flat_map(NodeInfo::pods).cloned().collect();
        // Also those that only the simulation has put here.
        let moves = |pod: &&Arc<PodInfo>| {
            let is_placed = pod.node_name.as_deref() == Some(node);
            !is_placed || pods.iter().any(|it| it.info.uid == pod.uid)
        };
        let moving: Vec<_> = here.iter().filter(moves).collect();
        if moving.is_empty() {
            take_out(&mut self.cluster, node, &here);
            return Ok(pods);
        }
        let mut cluster = self.cluster.clone();
        take_out(&mut cluster, node, &here);
        let mut from = self.from;
        for pod in moving {
            let mut free = (**pod).clone();
            free.node_name = None;
            let choice = evaluate(&cluster, &free, from).map_err(|_| {
                let pod = format!("{}/{}", pod.namespace, pod.name);
                Unremovable::NoPlaceToMovePods { pod }
            })?;
            from = (from + choice.asked) % cluster.nodes().len().max(1);
            if let Some(best) = choice.best.first() {
                cluster.set_pod(best, Arc::new(free));
            }
        }
        (self.cluster, self.budgets, self.from) = (cluster, budgets, from);
        Ok(pods)
    }
}

fn take_out(cluster: &mut Cluster, node: &str, pods: &[Arc<PodInfo>]) {
    for pod in pods {
        cluster.remove_pod(&pod.uid);
    }
    cluster.remove_node(node);
}
