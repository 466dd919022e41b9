//! The Endpoints object of a Service, as it was before slices.
//!
//! Upstream: `pkg/api/v1/endpoints` (`RepackSubsets`): at most a thousand addresses.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::members::{Family, Member};

const CAPACITY: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const HEADLESS: &str = "service.kubernetes.io/headless";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

pub(super) fn endpoints(service: &Service, members: &[Member]) -> Endpoints {
    let family = members.first().map_or(Family::Ipv4, |it| it.family);
    let mut groups: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    let is_leaving = |it: &&Member| {
        it.endpoint.conditions.as_ref().is_some_and(|it| it.terminating == Some(true))
    };
    let staying = members.iter().filter(|it| it.family == family && !is_leaving(it));
    let total = staying.clone().count();
    for member in staying.take(CAPACITY) {
        let ports: Vec<_> = member.ports.iter().map(port).collect();
        let group = groups.entry(format!("{ports:?}")).or_default();
        group.ports = Some(ports).filter(|it| !it.is_empty());
        let ready = member.endpoint.conditions.as_ref().and_then(|it| it.ready) == Some(true);
        let list = if ready { &mut group.addresses } else { &mut group.not_ready_addresses };
        list.get_or_insert_default().push(address(member));
    }
    let mut subsets: Vec<_> = groups.into_values().collect();
    for subset in &mut subsets {
        for list in [&mut subset.addresses, &mut subset.not_ready_addresses].into_iter().flatten() {
            list.sort_by(|a, b| a.ip.cmp(&b.ip));
        }
    }
    let annotations =
        (total > CAPACITY).then(|| [(OVER_CAPACITY.to_owned(), "truncated".to_owned())].into());
    Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            annotations,
            ..ObjectMeta::default()
        },
        subsets: Some(subsets).filter(|it| !it.is_empty()),
    }
}

pub(super) fn is_same(known: &Endpoints, wanted: &Endpoints) -> bool {
    known.subsets.as_deref().unwrap_or_default() == wanted.subsets.as_deref().unwrap_or_default()
        && known.metadata.labels == wanted.metadata.labels
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), "endpoint-controller".to_owned());
    if service.spec.as_ref().and_then(|it| it.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

fn port(port: &k8s_openapi::api::discovery::v1::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: port.name.clone().filter(|it| !it.is_empty()),
        port: port.port.unwrap_or(0),
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    }
}

fn address(member: &Member) -> EndpointAddress {
    let endpoint = &member.endpoint;
    EndpointAddress {
        ip: endpoint.addresses.first().cloned().unwrap_or_default(),
        hostname: endpoint.hostname.clone(),
        node_name: endpoint.node_name.clone(),
        target_ref: endpoint.target_ref.clone(),
    }
}
