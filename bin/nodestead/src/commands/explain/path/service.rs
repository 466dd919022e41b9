//! Which endpoints a node's kube-proxy would choose from, as kube-proxy decides it.

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::Service;
use kube_proxy::{
    endpoint_slices::{Here, Slice, choose, reduce},
    service_map::{ServicePort, ports_of},
};

use super::{Hop, cluster::Cluster, parties::Party};

const ZONE: &str = "topology.kubernetes.io/zone";

/// The hop, and the endpoints that may be chosen.
pub(super) fn choices(
    cluster: &Cluster,
    from: &Party,
    service: &Service,
    port: &Option<String>,
) -> (Vec<Hop>, Vec<(Ipv4Addr, u16)>) {
    let who = match &from.node {
        Some(node) => format!("kube-proxy on {node}"),
        None => "the API server".to_owned(),
    };
    let hop = |is_allowed, detail: String| vec![Hop::new("Service", is_allowed, detail)];
    let name = || {
        let metadata = &service.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        format!("{namespace}/{}", metadata.name.clone().unwrap_or_default())
    };
    let kind = service.spec.as_ref().and_then(|it| it.type_.as_deref());
    if kind == Some("ExternalName") {
        let detail = format!("{} is a name elsewhere; what it leads to is not known here", name());
        return (hop(false, detail), Vec::new());
    }
    let ports = ports_of(service);
    let Some(port) = find(&ports, port.as_deref()) else {
        let known: Vec<String> = ports.iter().map(|it| it.port.to_string()).collect();
        let detail = format!("{} has no such port; it has {}", name(), known.join(", "));
        return (hop(false, detail), Vec::new());
    };
    let node = from.node.as_deref().unwrap_or_default();
    let labels = cluster.node(node).and_then(|it| it.metadata.labels.clone()).unwrap_or_default();
    let here = Here { node: node.to_owned(), zone: labels.get(ZONE).cloned() };
    let slices: Vec<Slice> = cluster
        .slices
        .iter()
        .filter_map(reduce)
        .filter(|(of, _)| *of == port.service)
        .map(|(_, slice)| slice)
        .collect();
    let choice = choose(port, slices.iter(), true, &here);
    let chosen = if port.is_internal_local { choice.local } else { choice.cluster };
    let is_v4 = |(address, port): (IpAddr, u16)| match address {
        IpAddr::V4(address) => Some((address, port)),
        IpAddr::V6(_) => None,
    };
    let chosen: Vec<(Ipv4Addr, u16)> = chosen.into_iter().filter_map(is_v4).collect();
    if chosen.is_empty() {
        let what = if port.is_internal_local { "on this node" } else { "that is ready" };
        let detail = format!("{} has no endpoint {what}: {who} refuses it", name());
        return (hop(false, detail), chosen);
    }
    let detail = format!("{who} sends {} to one of {} endpoints", name(), chosen.len());
    (hop(true, detail), chosen)
}

/// By number or name; the only one where none is asked for.
fn find<'a>(ports: &'a [ServicePort], wanted: Option<&str>) -> Option<&'a ServicePort> {
    match (wanted, ports) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(wanted), _) => {
            ports.iter().find(|it| it.port.to_string() == wanted || it.port_name == wanted)
        }
    }
}
