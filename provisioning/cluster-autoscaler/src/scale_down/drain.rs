//! Which pods of a node have to move, and which of them keep it.
//!
//! Upstream: `simulator/drainability/rules`.

use std::sync::Arc;

use controller::{matches, selector};
use k8s_openapi::api::{
    core::v1::{PodSpec, Volume},
    policy::v1::PodDisruptionBudget,
};

use super::{Question, Unremovable};
use crate::{
    options::Drain,
    world::{PodFact, is_over},
};

const SAFE: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
const SAFE_VOLUMES: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
/// Controllers that make another pod where one goes.
const CONTROLLERS: [&str; 4] = ["ReplicationController", "ReplicaSet", "StatefulSet", "Job"];

/// Why a pod keeps its node, by upstream's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    ControllerNotFound,
    MinReplicasReached,
    NotReplicated,
    LocalStorageRequested,
    NotSafeToEvictAnnotation,
    UnmovableKubeSystemPod,
    NotEnoughPdb,
}

/// The budgets, and how many more pods of each may go.
#[derive(Clone, Debug)]
pub(super) struct Budgets(Vec<(Arc<PodDisruptionBudget>, i32)>);

impl Budgets {
    pub(super) fn of(budgets: &[Arc<PodDisruptionBudget>]) -> Self {
        let allowed = |it: &Arc<PodDisruptionBudget>| {
            let allowed = it.status.as_ref().and_then(|it| it.disruptions_allowed).unwrap_or(0);
            (it.clone(), allowed)
        };
        Self(budgets.iter().map(allowed).collect())
    }

    fn guards<'a>(
        &'a self,
        pod: &'a PodFact,
    ) -> impl Iterator<Item = &'a (Arc<PodDisruptionBudget>, i32)> {
        self.0.iter().filter(|(budget, _)| covers(budget, pod))
    }

    /// Takes the pods off; the first that may not go with the others is the error.
    pub(super) fn take<'a>(&mut self, pods: &'a [PodFact]) -> Result<(), &'a PodFact> {
        for pod in pods {
            for (budget, left) in &mut self.0 {
                if !covers(budget, pod) {
                    continue;
                }
                if *left < 1 {
                    return Err(pod);
                }
                *left -= 1;
            }
        }
        Ok(())
    }
}

fn covers(budget: &PodDisruptionBudget, pod: &PodFact) -> bool {
    let Some(spec) = &budget.spec else { return false };
    budget.metadata.namespace.as_deref() == Some(pod.info.namespace.as_str())
        && selector(spec.selector.as_ref()).is_some_and(|it| matches(&it, Some(&pod.info.labels)))
}

/// The pods that have to find another place, or what keeps the node.
pub(super) fn pods_to_move(
    question: Question<'_>,
    node: &str,
    budgets: &Budgets,
) -> Result<Vec<PodFact>, Unremovable> {
    let mut pods = Vec::new();
    for pod in question.world.placed.iter().filter(|it| it.node() == Some(node)) {
        if pod.is_mirror() {
            continue;
        }
        if let Some(by) = lost(question, pod) {
            return Err(Unremovable::BlockedByPod { pod: pod.key(), by });
        }
        if pod.is_of_daemon_set() || is_over(&pod.pod) {
            continue;
        }
        if let Some(by) = objection(question, pod, budgets) {
            return Err(Unremovable::BlockedByPod { pod: pod.key(), by });
        }
        pods.push(pod.clone());
    }
    Ok(pods)
}

/// A pod that nobody would make again: its controller is gone, or wants too few.
fn lost(question: Question<'_>, pod: &PodFact) -> Option<Blocked> {
    let options = &question.options.drain;
    // Where any controller will do, nobody asks for it.
    let known = question.world.controllers.as_ref().filter(|_| options.skip_custom_controllers)?;
    let owner = pod.owner()?;
    let kind = CONTROLLERS.into_iter().chain(["DaemonSet"]).find(|it| *it == owner.kind)?;
    match known.get(&(kind, pod.info.namespace.clone(), owner.name.clone())) {
        None => Some(Blocked::ControllerNotFound),
        Some(Some(replicas)) if *replicas < options.min_replicas => {
            Some(Blocked::MinReplicasReached)
        }
        Some(_) => None,
    }
}

fn objection(question: Question<'_>, pod: &PodFact, budgets: &Budgets) -> Option<Blocked> {
    let options = &question.options.drain;
    let has_room = budgets.guards(pod).all(|(_, left)| *left > 0);
    if pod.annotation(SAFE) == Some("true") {
        return (!has_room).then_some(Blocked::NotEnoughPdb);
    }
    if !is_replicated(pod, options) {
        return Some(Blocked::NotReplicated);
    }
    let is_guarded = budgets.guards(pod).next().is_some();
    if options.skip_system_pods && pod.info.namespace == "kube-system" && !is_guarded {
        let made = pod.pod.metadata.creation_timestamp.as_ref();
        let is_old = made.is_some_and(|it| it.0 + options.system_pod_limit <= question.now);
        if !is_old {
            return Some(Blocked::UnmovableKubeSystemPod);
        }
    }
    if pod.annotation(SAFE) == Some("false") {
        return Some(Blocked::NotSafeToEvictAnnotation);
    }
    if options.skip_local_storage && has_local_storage(pod) {
        return Some(Blocked::LocalStorageRequested);
    }
    (!has_room).then_some(Blocked::NotEnoughPdb)
}

fn is_replicated(pod: &PodFact, options: &Drain) -> bool {
    match pod.controller() {
        None => false,
        Some((kind, _)) => !options.skip_custom_controllers || CONTROLLERS.contains(&kind),
    }
}

fn has_local_storage(pod: &PodFact) -> bool {
    let safe = pod.annotation(SAFE_VOLUMES).unwrap_or_default();
    let is_safe = |volume: &Volume| safe.split(',').any(|it| it.trim() == volume.name);
    let is_local = |volume: &Volume| {
        let empty = volume.empty_dir.as_ref();
        volume.host_path.is_some() || empty.is_some_and(|it| it.medium.as_deref() != Some("Memory"))
    };
    let volumes = |spec: &PodSpec| spec.volumes.clone().unwrap_or_default();
    let volumes = pod.pod.spec.as_ref().map(volumes).unwrap_or_default();
    volumes.iter().any(|it| is_local(it) && !is_safe(it))
}
