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
    let spec = service.spec.as_ref();
    let has_ports = spec.and_then(|it| it.ports.as_ref()).is_some_and(|it| !it.is_empty());
    let shows_leaving = spec.and_then(|it| it.publish_not_ready_addresses) == Some(true);
    let is_leaving = |it: &Member| {
        it.endpoint.conditions.as_ref().is_some_and(|it| it.terminating == Some(true))
    };
    // A pod that has none of the ports is in a slice, and not here.
    let is_shown = |it: &&Member| {
        it.family == family
            && (shows_leaving || !is_leaving(it))
            && !(has_ports && it.ports.is_empty())
    };
    let shown = members.iter().filter(is_shown);
    let total = shown.clone().count();
    for member in shown.take(CAPACITY) {
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::*;
    use crate::endpoints::members::members;

    fn pod(address: &str, port: &str, metadata: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": metadata,
            "spec": { "containers": [{ "name": "c", "ports": [
                { "name": port, "containerPort": 8080 }] }] },
            "status": { "phase": "Running", "podIPs": [{ "ip": address }],
                "conditions": [{ "type": "Ready", "status": "True" }] },
        }))
        .unwrap()
    }

    fn shown(service: Value, pods: &[Pod]) -> Vec<String> {
        let service: Service = serde_json::from_value(json!({ "spec": service })).unwrap();
        let members: Vec<_> = pods.iter().flat_map(|it| members(&service, it, None)).collect();
        let subsets = endpoints(&service, &members).subsets.unwrap_or_default();
        subsets
            .into_iter()
            .flat_map(|it| it.addresses.unwrap_or_default())
            .map(|it| it.ip)
            .collect()
    }

    #[test]
    fn a_pod_that_has_none_of_the_ports_is_not_shown_unless_there_are_none() {
        let pods = [pod("10.0.0.1", "http", json!({})), pod("10.0.0.2", "other", json!({}))];
        let named = json!({ "ports": [{ "port": 80, "targetPort": "http" }] });
        assert_eq!(shown(named, &pods), ["10.0.0.1"]);
        assert_eq!(shown(json!({ "clusterIP": "None" }), &pods), ["10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn a_pod_that_leaves_is_shown_where_those_that_are_not_ready_are() {
        let leaving = json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" });
        let pods = [pod("10.0.0.1", "http", leaving)];
        let ports = json!([{ "port": 80 }]);
        assert!(shown(json!({ "ports": ports }), &pods).is_empty());
        let eager = json!({ "ports": ports, "publishNotReadyAddresses": true });
        assert_eq!(shown(eager, &pods), ["10.0.0.1"]);
    }
}
