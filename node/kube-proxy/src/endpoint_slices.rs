//! EndpointSlices, reduced, and which of a Service's endpoints a node sends to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::service_map::{Protocol, ServiceName, ServicePort};

/// One address and port that serves a Service's port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
    pub is_ready: bool,
    pub is_serving: bool,
    pub is_terminating: bool,
    pub node: String,
    pub zone_hints: Vec<String>,
    pub node_hints: Vec<String>,
}

/// When the control plane saw what made it write the slice, if it says so.
pub fn triggered(slice: &EndpointSlice) -> Option<Timestamp> {
    let annotations = slice.metadata.annotations.as_ref()?;
    annotations.get("endpoints.kubernetes.io/last-change-trigger-time")?.parse().ok()
}

/// The endpoints of one slice, by port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    pub ports: BTreeMap<(String, Protocol), Vec<Endpoint>>,
}

impl Slice {
    /// Whether its addresses are IPv4; all of a slice's are of one family.
    pub fn is_ipv4(&self) -> bool {
        let first = self.ports.values().flatten().next();
        first.is_none_or(|endpoint| endpoint.address.is_ipv4())
    }
}

/// Where this kube-proxy runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    pub node: String,
    pub zone: Option<String>,
}

/// Whom a node sends a port's traffic to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// For policies `Cluster`.
    pub cluster: Vec<(IpAddr, u16)>,
    /// For policies `Local`.
    pub local: Vec<(IpAddr, u16)>,
    /// All that are on this node: what could talk to itself through the Service.
    pub on_node: BTreeSet<IpAddr>,
    /// Ready ones on this node, for health checks of load balancers.
    pub ready_on_node: usize,
}

/// The Service that the slice is of, and the slice's endpoints. `None` for slices of nobody.
pub fn reduce(slice: &EndpointSlice) -> Option<(ServiceName, Slice)> {
    let labels = slice.metadata.labels.as_ref()?;
    let service = ServiceName {
        namespace: slice.metadata.namespace.clone().unwrap_or_default(),
        name: labels.get("kubernetes.io/service-name")?.clone(),
    };
    let mut reduced = Slice::default();
    for port in slice.ports.as_deref().unwrap_or_default() {
        let Some(number) = port.port.and_then(|port| u16::try_from(port).ok()) else { continue };
        let Ok(protocol) = port.protocol.as_deref().unwrap_or_default().parse() else { continue };
        let key = (port.name.clone().unwrap_or_default(), protocol);
        reduced.ports.entry(key).or_default().extend(endpoints(slice, number));
    }
    Some((service, reduced))
}

fn endpoints(slice: &EndpointSlice, port: u16) -> impl Iterator<Item = Endpoint> {
    let endpoints = slice.endpoints.as_deref().unwrap_or_default();
    endpoints.iter().filter_map(move |endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let hints = endpoint.hints.as_ref();
        let zones = hints.and_then(|it| it.for_zones.as_deref()).unwrap_or_default();
        let nodes = hints.and_then(|it| it.for_nodes.as_deref()).unwrap_or_default();
        let is_ready = conditions.ready.unwrap_or(true);
        Some(Endpoint {
            // All addresses of an endpoint are the same pod's; the first one is used.
            address: endpoint.addresses.first()?.parse().ok()?,
            port,
            is_ready,
            is_serving: conditions.serving.unwrap_or(is_ready),
            is_terminating: conditions.terminating.unwrap_or(false),
            node: endpoint.node_name.clone().unwrap_or_default(),
            zone_hints: zones.iter().map(|it| it.name.clone()).collect(),
            node_hints: nodes.iter().map(|it| it.name.clone()).collect(),
        })
    })
}

/// Decides whom this node sends to.
///
/// Ready endpoints; where there are none, those that terminate but still serve. Of the ready ones,
/// those that hints assign to this node or zone, if every one has hints and somebody is assigned.
pub fn choose<'a>(
    service: &ServicePort,
    slices: impl Iterator<Item = &'a Slice>,
    is_ipv4: bool,
    here: &Here,
) -> Choice {
    let key = (service.port_name.clone(), service.protocol);
    let endpoints = slices.filter_map(|slice| slice.ports.get(&key)).flatten();
    let all: BTreeSet<&Endpoint> =
        endpoints.filter(|endpoint| endpoint.address.is_ipv4() == is_ipv4).collect();
    let all: Vec<&Endpoint> = all.into_iter().collect();
    let is_local = |endpoint: &&&Endpoint| endpoint.node == here.node;
    let ready: Vec<&Endpoint> = all.iter().filter(|it| it.is_ready).copied().collect();
    let draining: Vec<&Endpoint> = all
        .iter()
        .filter(|it| !it.is_ready && it.is_serving && it.is_terminating)
        .copied()
        .collect();
    let near = near(&ready, here);
    let cluster = if ready.is_empty() { &draining } else { &near };
    let local_ready: Vec<&Endpoint> = ready.iter().filter(is_local).copied().collect();
    let local_draining: Vec<&Endpoint> = draining.iter().filter(is_local).copied().collect();
    let local = if local_ready.is_empty() { &local_draining } else { &local_ready };
    Choice {
        cluster: targets(cluster),
        local: targets(local),
        on_node: all.iter().filter(is_local).map(|it| it.address).collect(),
        ready_on_node: local_ready.len(),
    }
}

/// Those among `ready` that hints assign to this node, or else to its zone, or else all.
fn near<'a>(ready: &[&'a Endpoint], here: &Here) -> Vec<&'a Endpoint> {
    let filter = |hints: fn(&Endpoint) -> &[String], name: &str| -> Vec<&'a Endpoint> {
        let is_hinted = ready.iter().all(|endpoint| !hints(endpoint).is_empty());
        let is_here = |endpoint: &&&Endpoint| hints(endpoint).iter().any(|it| it == name);
        if is_hinted { ready.iter().filter(is_here).copied().collect() } else { Vec::new() }
    };
    let on_node = filter(|endpoint| &endpoint.node_hints, &here.node);
    if !on_node.is_empty() {
        return on_node;
    }
    let zone = here.zone.as_deref().unwrap_or_default();
    let in_zone = filter(|endpoint| &endpoint.zone_hints, zone);
    if in_zone.is_empty() { ready.to_vec() } else { in_zone }
}

fn targets(endpoints: &[&Endpoint]) -> Vec<(IpAddr, u16)> {
    let unique: BTreeSet<_> = endpoints.iter().map(|it| (it.address, it.port)).collect();
    unique.into_iter().collect()
}

#[cfg(test)]
mod tests;
