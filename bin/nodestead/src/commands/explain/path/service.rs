//! Which endpoints a node's kube-proxy would choose from, as kube-proxy decides it.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use kube_proxy::{
    endpoint_slices::{Choice, Here, Slice, choose, reduce},
    service_map::{ServicePort, ports_of},
};

use super::{Hop, cluster::Cluster, parties::Party};
use crate::cli::PathProtocol;

const ZONE: &str = "topology.kubernetes.io/zone";

/// The hop, and the endpoints that may be chosen.
pub(super) fn choices(
    cluster: &Cluster,
    from: &Party,
    service: &Service,
    port: &Option<String>,
    protocol: PathProtocol,
) -> (Vec<Hop>, Vec<(IpAddr, u16)>) {
    let who = match &from.node {
        Some(node) => format!("kube-proxy on {node}"),
        None => "the API server".to_owned(),
    };
    let hop = |is_allowed, detail: String| vec![Hop::new("Service", is_allowed, detail)];
    let name = name_of(service);
    let port = match find_port(service, port.as_deref(), protocol) {
        Ok(port) => port,
        Err(hop) => return (vec![hop], Vec::new()),
    };
    let choice = choice(cluster, &port, from.node.as_deref().unwrap_or_default());
    let chosen = if port.is_internal_local { choice.local } else { choice.cluster };
    if chosen.is_empty() {
        let what = if port.is_internal_local { "on this node" } else { "that is ready" };
        let detail = format!("{name} has no endpoint {what}: {who} refuses it");
        return (hop(false, detail), chosen);
    }
    let detail = format!("{who} sends {name} to one of {} endpoints", chosen.len());
    (hop(true, detail), chosen)
}

/// `NAMESPACE/NAME`.
pub(super) fn name_of(service: &Service) -> String {
    let metadata = &service.metadata;
    let namespace = metadata.namespace.clone().unwrap_or_default();
    format!("{namespace}/{}", metadata.name.clone().unwrap_or_default())
}

/// The port that is meant, or why there is none.
pub(super) fn find_port(
    service: &Service,
    port: Option<&str>,
    protocol: PathProtocol,
) -> Result<ServicePort, Hop> {
    let name = name_of(service);
    let refused = |detail: String| Hop::new("Service", false, detail);
    let kind = service.spec.as_ref().and_then(|it| it.type_.as_deref());
    if kind == Some("ExternalName") {
        return Err(refused(format!(
            "{name} is a name elsewhere; what it leads to is not known here"
        )));
    }
    let mut ports = ports_of(service);
    ports.retain(|it| protocol == PathProtocol::Icmp || it.protocol.as_str() == protocol.name());
    find(&ports, port).cloned().ok_or_else(|| {
        let known: Vec<String> = ports.iter().map(|it| it.port.to_string()).collect();
        let (protocol, known) = (protocol.name(), known.join(", "));
        refused(format!("{name} has no such {protocol} port; it has {known}"))
    })
}

/// Whom kube-proxy on a node sends to.
pub(super) fn choice(cluster: &Cluster, port: &ServicePort, node: &str) -> Choice {
    let labels = cluster.node(node).and_then(|it| it.metadata.labels.clone()).unwrap_or_default();
    let here = Here { node: node.to_owned(), zone: labels.get(ZONE).cloned() };
    let slices: Vec<Slice> = cluster
        .slices
        .iter()
        .filter_map(reduce)
        .filter(|(of, _)| *of == port.service)
        .map(|(_, slice)| slice)
        .collect();
    // Of a Service with two families the first one is followed.
    let is_ipv4 = port.cluster_ips.first().is_none_or(IpAddr::is_ipv4);
    choose(port, slices.iter(), is_ipv4, &here)
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
