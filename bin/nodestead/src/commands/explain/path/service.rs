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
    // Of a Service with two families the first one is followed.
    let is_ipv4 = port.cluster_ips.first().is_none_or(IpAddr::is_ipv4);
    let choice = choice(cluster, &port, from.node.as_deref().unwrap_or_default(), is_ipv4);
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
    let all = ports_of(service);
    let speaks = |it: &&ServicePort| speaks(protocol, it);
    let ports: Vec<ServicePort> = all.iter().filter(speaks).cloned().collect();
    find(&ports, port).cloned().ok_or_else(|| {
        let known = all.iter().map(|it| format!("{}/{}", it.port, it.protocol.as_str()));
        let known: Vec<String> = known.collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        refused(format!("{name} has no such {} port; it has {known}", protocol.name()))
    })
}

/// What ICMP is sent to has no port, so that each stands for it.
pub(super) fn speaks(protocol: PathProtocol, port: &ServicePort) -> bool {
    protocol == PathProtocol::Icmp || port.protocol.as_str() == protocol.name()
}

/// Whom kube-proxy on a node sends to.
pub(super) fn choice(cluster: &Cluster, port: &ServicePort, node: &str, is_ipv4: bool) -> Choice {
    let labels = cluster.node(node).and_then(|it| it.metadata.labels.clone()).unwrap_or_default();
    let here = Here { node: node.to_owned(), zone: labels.get(ZONE).cloned() };
    let slices: Vec<Slice> = cluster
        .slices
        .iter()
        .filter_map(reduce)
        .filter(|(of, _)| *of == port.service)
        .map(|(_, slice)| slice)
        .collect();
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_port_that_is_not_there_is_told_with_those_that_are_and_their_protocols() {
        let service = |ports: serde_json::Value| -> Service {
            let spec = json!({ "clusterIP": "10.100.0.9", "ports": ports });
            let metadata = json!({ "name": "dns", "namespace": "a" });
            serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
        };
        let udp = service(json!([{ "port": 53, "protocol": "UDP" }]));
        let said = |of: &Service| find_port(of, Some("53"), PathProtocol::Tcp).unwrap_err().detail;
        assert_eq!(said(&udp), "a/dns has no such tcp port; it has 53/udp");
        assert_eq!(said(&service(json!([]))), "a/dns has no such tcp port; it has none");
        assert_eq!(find_port(&udp, Some("53"), PathProtocol::Udp).unwrap().port, 53);
    }
}
