//! Asks the plug-ins, in upstream's order, whether a pod can go to a node.
//!
//! What needs a look at the whole cluster (spreading, affinity between pods) is counted once per
//! pod in [`PodState`]; asking a node is then a few look-ups.

mod inter_pod;
mod spread;

use k8s_openapi::api::core::v1::Taint;

pub(crate) use self::spread::is_included;
use self::{inter_pod::InterPodState, spread::SpreadState};
use crate::{Cluster, NodeInfo, PodInfo, Reason, Verdict, taint};

const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

/// What is counted once per pod.
pub(crate) struct PodState<'a> {
    pod: &'a PodInfo,
    spread: SpreadState<'a>,
    inter_pod: InterPodState<'a>,
    preselected: Option<Vec<&'a str>>,
}

impl<'a> PodState<'a> {
    pub(crate) fn new(cluster: &'a Cluster, pod: &'a PodInfo) -> Self {
        Self {
            pod,
            spread: SpreadState::new(cluster, pod),
            inter_pod: InterPodState::new(cluster, pod),
            preselected: pod.preselected_nodes(),
        }
    }

    /// What the first plug-in that objects says.
    pub(crate) fn verdict(&self, node: &NodeInfo) -> Verdict {
        let pod = self.pod;
        if self.preselected.as_ref().is_some_and(|it| !it.contains(&node.name.as_str())) {
            return hopeless(Reason::NotPreselected);
        }
        if let Some(reason) = static_objection(pod, node) {
            return hopeless(reason);
        }
        let ports = node.pods().flat_map(|it| &it.host_ports);
        if !pod.host_ports.is_empty() && ports_collide(pod, ports) {
            return Verdict::Refused(vec![Reason::HostPorts]);
        }
        if let Some(verdict) = fit(pod, node) {
            return verdict;
        }
        if let Some(reason) = pod.volume_objection(&node.name, &node.labels) {
            return hopeless(reason);
        }
        if let Some(reason) = device_objection(pod, node) {
            return hopeless(reason);
        }
        let dynamic = self.spread.objection(node).or_else(|| self.inter_pod.objection(node));
        match dynamic {
            None => Verdict::Fits,
            Some(reason @ (Reason::SpreadMissingLabel | Reason::PodAffinity)) => hopeless(reason),
            Some(reason) => Verdict::Refused(vec![reason]),
        }
    }
}

/// Nobody is preempted for a device.
fn device_objection(pod: &PodInfo, node: &NodeInfo) -> Option<Reason> {
    let fact = pod.devices.as_ref()?;
    if fact.elsewhere.contains(&node.name) {
        return Some(Reason::ClaimElsewhere);
    }
    if fact.timed_out.contains(&node.name) {
        return Some(Reason::DevicesTimedOut);
    }
    (!fact.nodes.contains(&node.name)).then_some(Reason::NoDevices)
}

fn hopeless(reason: Reason) -> Verdict {
    Verdict::Hopeless(vec![reason])
}

/// Objections that no removal of pods can lift.
fn static_objection(pod: &PodInfo, node: &NodeInfo) -> Option<Reason> {
    let cordon =
        Taint { key: UNSCHEDULABLE_TAINT.into(), effect: "NoSchedule".into(), ..Taint::default() };
    if node.is_unschedulable && !pod.tolerations.iter().any(|it| taint::tolerates(it, &cordon)) {
        return Some(Reason::Unschedulable);
    }
    if pod.node_name.as_ref().is_some_and(|it| *it != node.name) {
        return Some(Reason::NodeName);
    }
    let effects = ["NoSchedule", "NoExecute"];
    if let Some(taint) = taint::find_untolerated(&node.taints, &pod.tolerations, &effects) {
        let value = taint.value.clone().unwrap_or_default();
        return Some(Reason::UntoleratedTaint { key: taint.key.clone(), value });
    }
    (!pod.accepts_node(&node.name, &node.labels)).then_some(Reason::NodeAffinity)
}

fn ports_collide<'a>(
    pod: &PodInfo,
    mut taken: impl Iterator<Item = &'a crate::pod::HostPort>,
) -> bool {
    taken.any(|taken| pod.host_ports.iter().any(|wanted| wanted.collides_with(taken)))
}

/// What the node lacks; hopeless where even the empty node would.
fn fit(pod: &PodInfo, node: &NodeInfo) -> Option<Verdict> {
    let mut reasons = Vec::new();
    let mut is_hopeless = false;
    if node.requested.pods + 1 > node.allocatable.pods {
        reasons.push(Reason::TooManyPods);
    }
    let mut check = |resource: &str, wanted: i64, allocatable: i64, requested: i64| {
        if wanted > 0 && wanted > allocatable - requested {
            reasons.push(Reason::Insufficient { resource: resource.to_owned() });
            is_hopeless |= wanted > allocatable;
        }
    };
    let (wanted, all, taken) = (&pod.requests, &node.allocatable, &node.requested);
    check("cpu", wanted.cpu_millis, all.cpu_millis, taken.cpu_millis);
    check("memory", wanted.memory, all.memory, taken.memory);
    let ephemeral = (wanted.ephemeral_storage, all.ephemeral_storage, taken.ephemeral_storage);
    check("ephemeral-storage", ephemeral.0, ephemeral.1, ephemeral.2);
    for (name, amount) in &wanted.scalars {
        check(name, *amount, all.amount(name), taken.amount(name));
    }
    match (reasons.is_empty(), is_hopeless) {
        (true, _) => None,
        (false, true) => Some(Verdict::Hopeless(reasons)),
        (false, false) => Some(Verdict::Refused(reasons)),
    }
}

#[cfg(test)]
mod tests;
