//! What a node makes of a packet for an address of its own, or for an external one: host ports first,
//! then Services' external and load balancers' addresses, then node ports. Every node has the external
//! ones, whoever they are routed to.
//!
//! Deviation: kube-proxy is taken to be as the add-on configures it: node ports are on a node's own
//! address, and no sender is known to be a pod.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::ContainerPort;
use kube_proxy::service_map::{ServicePort, ports_of};

use super::{
    Hop,
    cluster::{Cluster, has_ended, is_host, node_addresses, pod_address},
    parties::Party,
    service,
};
use crate::cli::PathProtocol;

/// Where a packet is sent on to.
pub(super) enum Entry {
    HostPort { pod: Party, port: u16 },
    Service { port: ServicePort, kind: Kind },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    External,
    Balancer,
    NodePort,
}

/// A packet as a node gets it.
pub(super) struct Arrived<'a> {
    pub(super) node: &'a str,
    pub(super) source: Option<IpAddr>,
    /// The node itself sends it.
    pub(super) is_from_node: bool,
}

/// Whom the node may send to, and whether with its own address.
pub(super) struct Chosen {
    pub(super) hop: Hop,
    pub(super) endpoints: Vec<(IpAddr, u16)>,
    pub(super) is_masqueraded: bool,
}

/// `None`: the packet goes where it is addressed to.
pub(super) fn find(
    cluster: &Cluster,
    node: &str,
    (address, port): (IpAddr, u16),
    protocol: PathProtocol,
) -> Option<Entry> {
    if protocol == PathProtocol::Icmp {
        return None;
    }
    let own = cluster.node(node).map(node_addresses).unwrap_or_default();
    if own.contains(&address) || address.is_loopback() {
        let found = host_port(cluster, node, (address, port), protocol);
        if found.is_some() || address.is_loopback() {
            return found;
        }
    }
    let is_primary = own.iter().find(|it| it.is_ipv4() == address.is_ipv4()) == Some(&address);
    let kind = |it: &ServicePort| match it {
        it if it.port == port && it.load_balancer_ips.contains(&address) => Some(Kind::Balancer),
        it if it.port == port && it.external_ips.contains(&address) => Some(Kind::External),
        it if is_primary && it.node_port == Some(port) => Some(Kind::NodePort),
        _ => None,
    };
    let ports = cluster.services.iter().flat_map(ports_of);
    let ports = ports.filter(|it| {
        service::speaks(protocol, it)
            && it.cluster_ips.iter().any(|ip| ip.is_ipv4() == address.is_ipv4())
    });
    let all: Vec<(Kind, ServicePort)> = ports.filter_map(|it| Some((kind(&it)?, it))).collect();
    let external = all.iter().find(|(kind, _)| *kind != Kind::NodePort);
    let (kind, port) = external.or(all.first())?.clone();
    Some(Entry::Service { port, kind })
}

fn host_port(
    cluster: &Cluster,
    node: &str,
    (address, port): (IpAddr, u16),
    protocol: PathProtocol,
) -> Option<Entry> {
    let is_it = |it: &ContainerPort| {
        let host = it.host_ip.as_deref().and_then(|it| it.parse::<IpAddr>().ok());
        it.host_port == Some(i32::from(port))
            && it.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(protocol.name())
            && host.is_none_or(|it| it.is_unspecified() || it == address)
    };
    let mut here = cluster.pods.iter().filter(|pod| {
        let is_on = pod.spec.as_ref().and_then(|it| it.node_name.as_deref()) == Some(node);
        let is_reached = pod_address(pod).is_some_and(|it| it.is_ipv4() == address.is_ipv4());
        is_on && is_reached && !is_host(pod) && !has_ended(pod)
    });
    here.find_map(|pod| {
        let spec = pod.spec.as_ref()?;
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let mut ports = containers.flat_map(|it| it.ports.iter().flatten());
        let found = ports.find(|it| is_it(it))?;
        let port = u16::try_from(found.container_port).ok()?;
        Some(Entry::HostPort { pod: cluster.pod_party(pod), port })
    })
}

/// As `kube-proxy` decides it, in the order in which it does.
pub(super) fn chosen(
    cluster: &Cluster,
    (port, kind): (&ServicePort, Kind),
    address: IpAddr,
    arrived: &Arrived<'_>,
) -> Chosen {
    let (node, name) = (arrived.node, port.service.to_string());
    let what = match kind {
        Kind::External => format!("external address {address} of {name}"),
        Kind::Balancer => format!("load balancer's address {address} of {name}"),
        Kind::NodePort => {
            format!("node port {} of {name}", port.node_port.unwrap_or_default())
        }
    };
    let refused = |detail: String| Chosen {
        hop: Hop::new("Service", false, detail),
        endpoints: Vec::new(),
        is_masqueraded: false,
    };
    if kind == Kind::Balancer
        && let Some(source) = arrived.source.filter(|it| !is_let_in(port, *it))
    {
        return refused(format!("{source} is in none of {name}'s loadBalancerSourceRanges"));
    }
    let choice = service::choice(cluster, port, node, address.is_ipv4());
    let goes_anywhere = arrived.is_from_node && !choice.cluster.is_empty();
    let is_local = port.is_external_local && !goes_anywhere;
    let endpoints = if is_local { choice.local } else { choice.cluster.clone() };
    if endpoints.is_empty() {
        return refused(match is_local && !choice.cluster.is_empty() {
            true => format!("{name} has no endpoint on {node}, and takes no other: it is dropped"),
            false => {
                format!("{name} has no endpoint that is ready: kube-proxy on {node} refuses it")
            }
        });
    }
    let detail =
        format!("{what}: kube-proxy on {node} sends it to one of {} endpoints", endpoints.len());
    Chosen { hop: Hop::new("Service", true, detail), endpoints, is_masqueraded: !is_local }
}

fn is_let_in(port: &ServicePort, source: IpAddr) -> bool {
    let is_ours = |it: &&IpNet| it.addr().is_ipv4() == source.is_ipv4();
    let mut ranges = port.source_ranges.iter().filter(is_ours).peekable();
    ranges.peek().is_none() || ranges.any(|it| it.contains(&source))
}

#[cfg(test)]
mod tests;
