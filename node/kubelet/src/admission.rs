//! Whether a pod that was bound to this node can run on it.
//!
//! The scheduler has already decided with what it knew; the node knows better. A refusal ends the
//! pod with phase `Failed`, and its controller makes another one. A critical pod that only lacks room
//! is not refused: others make room for it ([`preemption`]).
//!
//! Upstream: `pkg/kubelet/lifecycle/predicate.go` and the messages of `pkg/scheduler/framework`,
//! `pkg/kubelet/sysctl/allowlist.go`, `pkg/security/apparmor/validate.go`.
//!
//! Deviation: a pod that already has a start time was admitted by an earlier run of this kubelet and
//! is not asked again; upstream asks again, and may end a pod that runs since a label of the node was
//! changed.

mod node_affinity;
pub(crate) mod preemption;
pub(crate) mod requests;
pub(crate) mod sysctls;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Pod, Taint};

use self::requests::Requests;
use crate::{config::KubeletConfiguration, node::capacity::Machine, pod::PodExt, status::Verdict};

/// The node as admission sees it.
pub(crate) struct Ground<'a> {
    pub config: &'a KubeletConfiguration,
    pub machine: &'a Machine,
    pub labels: &'a BTreeMap<String, String>,
    pub taints: &'a [Taint],
    /// Extended resources of the Node object's `allocatable`.
    pub extended: &'a BTreeMap<String, i64>,
    pub has_apparmor: bool,
    /// The runtime can leave out the groups that an image gives its users.
    pub has_groups_policy: bool,
}

/// A resource of which there is not enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    pub resource: String,
    pub requested: i64,
    pub used: i64,
    pub capacity: i64,
}

/// Why a pod is not admitted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Final(Verdict),
    /// Nothing but room is missing.
    Lacks(Vec<Lack>),
}

/// A refusal's reason as it is counted: resources of others may have any name.
pub(crate) fn counted(reason: &str) -> &str {
    match reason.strip_prefix("OutOf") {
        None | Some("cpu" | "memory" | "ephemeral-storage" | "pods") => reason,
        Some(_) => "OutOfExtendedResources",
    }
}

impl Lack {
    pub(crate) fn message(&self) -> String {
        let Self { resource, requested, used, capacity } = self;
        format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        )
    }

    pub(crate) fn verdict(&self) -> Verdict {
        refused(&format!("OutOf{}", self.resource), self.message())
    }
}

/// `message` is what the event says; the status has it behind upstream's preamble.
fn refused(reason: &str, message: String) -> Verdict {
    Verdict::rejected(reason, message)
}

/// Refuses a pod that does not fit beside the others.
pub(crate) fn check(pod: &Pod, others: &[Arc<Pod>], ground: &Ground<'_>) -> Result<(), Refusal> {
    operating_system(pod).map_err(Refusal::Final)?;
    features(pod, ground).map_err(Refusal::Final)?;
    sysctls::check(pod, &ground.config.allowed_unsafe_sysctls).map_err(Refusal::Final)?;
    let lacks = lacks(pod, others, ground);
    let other = predicates(pod, others, ground);
    match (lacks.first(), other) {
        (None, Ok(())) => Ok(()),
        (None, Err(verdict)) => Err(Refusal::Final(verdict)),
        (Some(_), Ok(())) => Err(Refusal::Lacks(lacks)),
        // With more than room missing, the first lack is what is told.
        (Some(_), Err(verdict)) if pod.is_critical() => Err(Refusal::Final(verdict)),
        (Some(first), Err(_)) => Err(Refusal::Final(first.verdict())),
    }
}

fn operating_system(pod: &Pod) -> Result<(), Verdict> {
    let labels = pod.metadata.labels.as_ref();
    if labels.and_then(|it| it.get("kubernetes.io/os")).is_some_and(|it| it != "linux") {
        let message =
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Err(refused("PodOSSelectorNodeLabelDoesNotMatch", message.to_owned()));
    }
    let named = PodExt::spec(pod).os.as_ref();
    if named.is_some_and(|it| !it.name.is_empty() && it.name != "linux") {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        return Err(refused("PodOSNotSupported", message.to_owned()));
    }
    Ok(())
}

/// What the runtime or the kernel does not have.
fn features(pod: &Pod, ground: &Ground<'_>) -> Result<(), Verdict> {
    let context = PodExt::spec(pod).security_context.as_ref();
    let policy = context.and_then(|it| it.supplemental_groups_policy.as_deref());
    if policy == Some("Strict") && !ground.has_groups_policy {
        let message = "SupplementalGroupsPolicy=Strict is not supported in this node";
        return Err(refused("SupplementalGroupsPolicyNotSupported", message.to_owned()));
    }
    let of_pod = context.and_then(|it| it.app_armor_profile.as_ref());
    let containers = pod.all_containers();
    let own = containers.iter().filter_map(|(_, it)| {
        it.security_context.as_ref().and_then(|it| it.app_armor_profile.as_ref())
    });
    let is_required = of_pod.into_iter().chain(own).any(|it| it.type_ != "Unconfined");
    if is_required && !ground.has_apparmor {
        let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        return Err(refused("AppArmor", message.to_owned()));
    }
    Ok(())
}

/// What of the node's room a pod would miss, in upstream's order.
pub(crate) fn lacks(pod: &Pod, others: &[Arc<Pod>], ground: &Ground<'_>) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let max_pods = ground.config.max_pods;
    if count >= max_pods {
        let resource = "pods".to_owned();
        lacks.push(Lack { resource, requested: 1, used: count, capacity: max_pods });
    }
    let capacity = capacity(ground);
    let wanted = Requests::of(pod);
    let used = others.iter().fold(Requests::default(), |sum, it| sum.plus(&Requests::of(it)));
    for (resource, requested) in wanted.in_order() {
        // An extended resource that this node does not list is somebody else's affair.
        let Some(capacity) = capacity.get(resource).copied().or_else(|| native(resource)) else {
            continue;
        };
        let used = used.get(resource);
        if requested > 0 && requested > capacity - used {
            lacks.push(Lack { resource: resource.to_owned(), requested, used, capacity });
        }
    }
    lacks
}

/// Kubernetes' own resources are there, or there is none of them.
fn native(resource: &str) -> Option<i64> {
    let is_native = !resource.contains('/') || resource.contains("kubernetes.io/");
    is_native.then_some(0)
}

fn capacity(ground: &Ground<'_>) -> BTreeMap<String, i64> {
    let allocatable = ground.machine.allocatable(ground.config);
    let mut all = ground.extended.clone();
    all.extend([
        ("cpu".to_owned(), allocatable.cpu_milli),
        ("memory".to_owned(), allocatable.memory),
        ("ephemeral-storage".to_owned(), allocatable.storage),
    ]);
    let pages = ground.machine.hugepages.iter();
    all.extend(pages.map(|(size, bytes)| (format!("hugepages-{size}"), *bytes)));
    all
}

/// Whether the node is one of those that the pod asks for.
pub(crate) fn fits_node(pod: &Pod, ground: &Ground<'_>) -> bool {
    node_affinity::matches(pod, ground.labels)
}

fn predicates(pod: &Pod, others: &[Arc<Pod>], ground: &Ground<'_>) -> Result<(), Verdict> {
    let failed =
        |name: &str, reason: &str| Err(refused(name, format!("Predicate {name} failed: {reason}")));
    if !fits_node(pod, ground) {
        return failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
    }
    if !has_free_ports(pod, others) {
        let reason = "node(s) didn't have free ports for the requested pod ports";
        return failed("NodePorts", reason);
    }
    if !pod.is_mirror_or_static() && !tolerates(pod, ground.taints) {
        return failed("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    Ok(())
}

/// Of the node's taints only `NoExecute` is the kubelet's business.
fn tolerates(pod: &Pod, taints: &[Taint]) -> bool {
    let tolerations = PodExt::spec(pod).tolerations.as_deref().unwrap_or_default();
    taints.iter().filter(|it| it.effect == "NoExecute").all(|taint| {
        tolerations.iter().any(|it| {
            let effect = it.effect.as_deref().unwrap_or_default();
            let key = it.key.as_deref().unwrap_or_default();
            let has_value = it.value.as_deref().unwrap_or_default()
                == taint.value.as_deref().unwrap_or_default();
            (effect.is_empty() || effect == taint.effect)
                && (key.is_empty() || key == taint.key)
                && (it.operator.as_deref() == Some("Exists") || (has_value && !key.is_empty()))
        })
    })
}

fn has_free_ports(pod: &Pod, others: &[Arc<Pod>]) -> bool {
    let own = host_ports(pod);
    own.is_empty()
        || others.iter().flat_map(|it| host_ports(it)).all(|taken| {
            own.iter().all(|it| {
                let same_ip = it.2 == taken.2 || it.2 == "0.0.0.0" || taken.2 == "0.0.0.0";
                it.0 != taken.0 || it.1 != taken.1 || !same_ip
            })
        })
}

fn host_ports(pod: &Pod) -> Vec<(i32, String, String)> {
    let all = pod.all_containers();
    let ports = all.iter().flat_map(|(_, it)| it.ports.clone().unwrap_or_default());
    ports
        .filter_map(|it| {
            let port = it.host_port.filter(|it| *it > 0)?;
            let protocol = it.protocol.unwrap_or_else(|| "TCP".to_owned());
            let ip = it.host_ip.filter(|it| !it.is_empty());
            Some((port, protocol, ip.unwrap_or_else(|| "0.0.0.0".to_owned())))
        })
        .collect()
}

#[cfg(test)]
mod tests;
