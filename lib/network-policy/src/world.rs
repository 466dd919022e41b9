//! Pods and namespaces as policies see them.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};

use crate::Compiled;

pub(crate) type Labels = BTreeMap<String, String>;

/// Where pods and namespaces come from: a cache, or a test's list.
pub trait World {
    fn pods_in(&self, namespace: &str) -> Vec<Arc<Pod>>;
    fn namespaces(&self) -> Vec<Arc<Namespace>>;
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

/// [`Compiled::concerns_pod`] of a policy that is asked about once.
pub fn concerns_pod(policy: &NetworkPolicy, pod: &Pod, namespace_labels: Option<&Labels>) -> bool {
    Compiled::of(policy).is_some_and(|it| it.concerns_pod(pod, namespace_labels))
}

/// [`Compiled::concerns_namespace`] of a policy that is asked about once.
pub fn concerns_namespace(policy: &NetworkPolicy, labels: Option<&Labels>) -> bool {
    Compiled::of(policy).is_some_and(|it| it.concerns_namespace(labels))
}
