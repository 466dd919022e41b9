//! Asks the plug-ins, in upstream's order, whether a pod can go to a node.
//!
//! What needs a look at the whole cluster (spreading, affinity between pods) is counted once per
//! pod in [`PodState`]; asking a node is then a few look-ups.

mod inter_pod;
mod spread;

use k8s_openapi::api::core::v1::Taint;

pub(crate) use self::spread::is_included;
use self::{inter_pod::InterPodState, spread::SpreadState};
use crate::{
    Cluster, NodeInfo, Plugin, PodInfo, Reason, Verdict, affinity::matches_node_selector_terms,
    taint,
};

const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

/// What is counted once per pod.
pub(crate) struct PodState<'a> {
    pod: &'a PodInfo,
    spread: SpreadState<'a>,
    inter_pod: Option<InterPodState<'a>>,
    preselected: Option<Vec<&'a str>>,
    /// Another pod has one of its claims that one pod at a time may have.
    is_claim_in_use: bool,
}

impl<'a> PodState<'a> {
    pub(crate) fn new(cluster: &'a Cluster, pod: &'a PodInfo) -> Self {
        Self {
            pod,
            spread: SpreadState::new(cluster, pod),
            inter_pod: pod
                .profile
                .asks(Plugin::InterPodAffinity)
                .then(|| InterPodState::new(cluster, pod)),
            preselected: pod.preselected_nodes().filter(|_| pod.profile.asks(Plugin::NodeAffinity)),
            is_claim_in_use: pod.profile.asks(Plugin::VolumeRestrictions)
                && pod.exclusive_claims.iter().any(|it| cluster.is_claim_used(&pod.namespace, it)),
        }
    }

    /// What the first plug-in that objects says.
    pub(crate) fn verdict(&self, node: &NodeInfo) -> Verdict {
        let pod = self.pod;
        if let Some(reason) = self.preselection(node) {
            return hopeless(reason);
        }
        if let Some(reason) = fixed(pod, node).next() {
            return hopeless(reason);
        }
        if let Some(reason) = host_ports(pod, node) {
            return Verdict::Refused(vec![reason]);
        }
        if let Some(verdict) = fit(pod, node) {
            return verdict;
        }
        if let Some(reason) = self.volumes_in_use(node).next() {
            return Verdict::Refused(vec![reason]);
        }
        if let Some(reason) = pod.volume_objection(&node.name, &node.labels) {
            return hopeless(reason);
        }
        if let Some(reason) = device_objection(pod, node) {
            return hopeless(reason);
        }
        match self.spread.objection(node).or_else(|| self.inter_pod_objection(node)) {
            None => Verdict::Fits,
            Some(reason) if is_hopeless(&reason) => hopeless(reason),
            Some(reason) => Verdict::Refused(vec![reason]),
        }
    }

    /// What all plug-ins say that object, and whether removing pods could not help.
    pub(crate) fn objections(&self, node: &NodeInfo) -> Vec<(Reason, bool)> {
        let pod = self.pod;
        let fixed = self.preselection(node).into_iter().chain(fixed(pod, node));
        let mut all: Vec<_> = fixed.map(|it| (it, true)).collect();
        all.extend(host_ports(pod, node).map(|it| (it, false)));
        let fit = fit(pod, node);
        let never_fits = matches!(fit, Some(Verdict::Hopeless(_)));
        let room = fit.iter().flat_map(Verdict::reasons);
        all.extend(room.map(|it| (it.clone(), never_fits)));
        all.extend(self.volumes_in_use(node).map(|it| (it, false)));
        let others = [
            pod.volume_objection(&node.name, &node.labels).map(|it| (it, true)),
            device_objection(pod, node).map(|it| (it, true)),
            self.spread.objection(node).map(|it| (it.clone(), is_hopeless(&it))),
            self.inter_pod_objection(node).map(|it| (it.clone(), is_hopeless(&it))),
        ];
        all.extend(others.into_iter().flatten());
        all
    }

    /// What a reason of the whole cluster's says in numbers.
    pub(crate) fn detail(&self, reason: &Reason, node: &NodeInfo) -> Option<String> {
        match reason {
            Reason::SpreadSkew => self.spread.detail(node),
            _ => None,
        }
    }

    /// What would be lifted if pods with volumes went.
    fn volumes_in_use(&self, node: &NodeInfo) -> impl Iterator<Item = Reason> {
        let has_too_many = self.pod.profile.asks(Plugin::NodeVolumeLimits)
            && self.pod.csi.as_ref().is_some_and(|it| it.exceeds(node));
        let claim = self.is_claim_in_use.then_some(Reason::ClaimInUse);
        claim.into_iter().chain(has_too_many.then_some(Reason::TooManyVolumes))
    }

    fn inter_pod_objection(&self, node: &NodeInfo) -> Option<Reason> {
        self.inter_pod.as_ref()?.objection(node)
    }

    fn preselection(&self, node: &NodeInfo) -> Option<Reason> {
        let names = self.preselected.as_ref()?;
        (!names.contains(&node.name.as_str())).then_some(Reason::NotPreselected)
    }
}

/// Of what depends on other pods, that which none of them going would mend.
fn is_hopeless(reason: &Reason) -> bool {
    matches!(reason, Reason::SpreadMissingLabel | Reason::PodAffinity)
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

type Static = (Plugin, fn(&PodInfo, &NodeInfo) -> Option<Reason>);

/// Those who object whatever pods are there, in upstream's order.
const STATIC: [Static; 4] = [
    (Plugin::NodeUnschedulable, cordon),
    (Plugin::NodeName, node_name),
    (Plugin::TaintToleration, untolerated),
    (Plugin::NodeAffinity, node_affinity),
];

/// The objections that no removal of pods can lift.
fn fixed<'a>(pod: &'a PodInfo, node: &'a NodeInfo) -> impl Iterator<Item = Reason> + 'a {
    STATIC
        .iter()
        .filter(|(plugin, _)| pod.profile.asks(*plugin))
        .filter_map(|(_, it)| it(pod, node))
}

fn cordon(pod: &PodInfo, node: &NodeInfo) -> Option<Reason> {
    if !node.is_unschedulable {
        return None;
    }
    let cordon =
        Taint { key: UNSCHEDULABLE_TAINT.into(), effect: "NoSchedule".into(), ..Taint::default() };
    let is_tolerated = pod.tolerations.iter().any(|it| taint::tolerates(it, &cordon));
    (!is_tolerated).then_some(Reason::Unschedulable)
}

fn node_name(pod: &PodInfo, node: &NodeInfo) -> Option<Reason> {
    pod.node_name.as_ref().is_some_and(|it| *it != node.name).then_some(Reason::NodeName)
}

fn untolerated(pod: &PodInfo, node: &NodeInfo) -> Option<Reason> {
    let effects = ["NoSchedule", "NoExecute"];
    let taint = taint::find_untolerated(&node.taints, &pod.tolerations, &effects);
    taint.map(|_| Reason::UntoleratedTaint)
}

fn node_affinity(pod: &PodInfo, node: &NodeInfo) -> Option<Reason> {
    let added = pod.profile.added_affinity.required.as_ref();
    if added.is_some_and(|it| !matches_node_selector_terms(it, &node.name, &node.labels)) {
        return Some(Reason::EnforcedAffinity);
    }
    (!pod.accepts_node(&node.name, &node.labels)).then_some(Reason::NodeAffinity)
}

fn host_ports(pod: &PodInfo, node: &NodeInfo) -> Option<Reason> {
    if pod.host_ports.is_empty() || !pod.profile.asks(Plugin::NodePorts) {
        return None;
    }
    let ports = node.pods().flat_map(|it| &it.host_ports);
    ports_collide(pod, ports).then_some(Reason::HostPorts)
}

fn ports_collide<'a>(
    pod: &PodInfo,
    mut taken: impl Iterator<Item = &'a crate::pod::HostPort>,
) -> bool {
    taken.any(|taken| pod.host_ports.iter().any(|wanted| wanted.collides_with(taken)))
}

/// What the node lacks; hopeless where even the empty node would.
fn fit(pod: &PodInfo, node: &NodeInfo) -> Option<Verdict> {
    if !pod.profile.asks(Plugin::NodeResourcesFit) {
        return None;
    }
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
    let is_claimed = |it: &String| pod.device_resources.contains(it) && all.amount(it) == 0;
    let counted = wanted.scalars.iter().filter(|(it, _)| !pod.profile.fit.ignores(it));
    for (name, amount) in counted.filter(|(it, _)| !is_claimed(it)) {
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
