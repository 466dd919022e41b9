//! Pods and namespaces as policies see them.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{Namespace, Pod},
        networking::v1::{NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::core::{Selector, SelectorExt};

type Labels = BTreeMap<String, String>;

/// Where pods and namespaces come from: a cache, or a test's list.
pub trait World {
    fn pods_in(&self, namespace: &str) -> Vec<Arc<Pod>>;
    fn namespaces(&self) -> Vec<Arc<Namespace>>;
}

/// A missing selector of a peer or a policy selects everything; a malformed one nothing.
pub(crate) fn parse(selector: Option<&LabelSelector>) -> Option<Selector> {
    selector.cloned().unwrap_or_default().try_into().ok()
}

pub(crate) fn is_selected(selector: Option<&LabelSelector>, labels: Option<&Labels>) -> bool {
    let nothing = Labels::new();
    parse(selector).is_some_and(|it| it.matches(labels.unwrap_or(&nothing)))
}

pub(crate) fn namespace_of<K: kube::Resource>(object: &K) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

pub(crate) fn name_of<K: kube::Resource>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

/// The pod's own address; `None` for a pod that has none or no longer uses it.
pub(crate) fn address(pod: &Pod) -> Option<IpAddr> {
    let status = pod.status.as_ref()?;
    let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let is_of_host = pod.spec.as_ref().and_then(|it| it.host_network).unwrap_or(false);
    if has_ended || is_of_host {
        return None;
    }
    status.pod_ip.as_deref()?.parse().ok()
}

/// The number of a named port of a pod: the first container's that has one.
pub(crate) fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    // Containers that restart are sidecars: they serve too.
    let init = spec.init_containers.iter().flatten();
    let sidecars = init.filter(|it| it.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|it| it.ports.iter().flatten());
    let mut named = ports.filter(|it| {
        it.name.as_deref() == Some(name) && it.protocol.as_deref().unwrap_or("TCP") == protocol
    });
    named.next().map(|it| it.container_port)
}

/// Whether no policy can tell the two apart.
pub fn is_same_to_policies(old: &Pod, new: &Pod) -> bool {
    let host = |pod: &Pod| pod.status.as_ref().and_then(|it| it.host_ip.clone());
    let ports = |pod: &Pod| -> Vec<_> {
        let spec = pod.spec.iter();
        let containers =
            spec.flat_map(|it| it.containers.iter().chain(it.init_containers.iter().flatten()));
        containers.flat_map(|it| it.ports.iter().flatten().cloned()).collect()
    };
    old.metadata.labels == new.metadata.labels
        && address(old) == address(new)
        && host(old) == host(new)
        && ports(old) == ports(new)
}

/// Whether a pod with these labels is one that the policy selects or speaks of.
pub fn concerns_pod(policy: &NetworkPolicy, pod: &Pod, namespace_labels: Option<&Labels>) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let is_here = namespace_of(policy) == namespace_of(pod);
    let labels = pod.metadata.labels.as_ref();
    if is_here && is_selected(spec.pod_selector.as_ref(), labels) {
        return true;
    }
    let is_peer = |peer: &NetworkPolicyPeer| {
        let is_of_namespace = match &peer.namespace_selector {
            None => is_here,
            selector => is_selected(selector.as_ref(), namespace_labels),
        };
        peer.ip_block.is_none()
            && is_of_namespace
            && is_selected(peer.pod_selector.as_ref(), labels)
    };
    // Egress to everybody or a block at a named port is to the pods that have it.
    let is_to_named = |rule: &NetworkPolicyEgressRule| {
        let to = rule.to.as_deref().unwrap_or_default();
        (to.is_empty() || to.iter().any(|it| it.ip_block.is_some()))
            && rule.ports.iter().flatten().any(|it| matches!(it.port, Some(IntOrString::String(_))))
    };
    peers(policy).any(is_peer) || spec.egress.iter().flatten().any(is_to_named)
}

/// Whether the policy speaks of pods of a namespace with these labels.
pub fn concerns_namespace(policy: &NetworkPolicy, labels: Option<&Labels>) -> bool {
    let mut selectors = peers(policy).filter(|it| it.namespace_selector.is_some());
    selectors.any(|it| is_selected(it.namespace_selector.as_ref(), labels))
}

fn peers(policy: &NetworkPolicy) -> impl Iterator<Item = &NetworkPolicyPeer> {
    let spec = policy.spec.iter();
    spec.flat_map(|it| {
        let ingress = it.ingress.iter().flatten().flat_map(|it| it.from.iter().flatten());
        let egress = it.egress.iter().flatten().flat_map(|it| it.to.iter().flatten());
        ingress.chain(egress)
    })
}
