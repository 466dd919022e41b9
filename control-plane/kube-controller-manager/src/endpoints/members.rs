//! One pod as a member of one Service.

use std::net::IpAddr;

use controller::object;
use k8s_openapi::{
    api::{
        core::v1::{ContainerPort, ObjectReference, Pod, Service, ServicePort},
        discovery::v1::{
            Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone,
        },
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::topology;
use crate::pods;

/// An address that serves, and on which ports.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) family: Family,
    pub(super) ports: Vec<EndpointPort>,
    pub(super) endpoint: Endpoint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }
}

/// Whether this controller makes the endpoints of a Service: not where a user does.
pub(super) fn is_ours(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let has_selector = spec.and_then(|it| it.selector.as_ref()).is_some_and(|it| !it.is_empty());
    has_selector
        && spec.and_then(|it| it.type_.as_deref()) != Some("ExternalName")
        && !object::is_terminating(service)
}

pub(super) fn selects(service: &Service, pod: &Pod) -> bool {
    let Some(selector) = service.spec.as_ref().and_then(|it| it.selector.as_ref()) else {
        return false;
    };
    let labels = pod.metadata.labels.as_ref();
    !selector.is_empty()
        && selector.iter().all(|(key, value)| labels.is_some_and(|it| it.get(key) == Some(value)))
}

/// Whether a change of a pod leaves all endpoints as they are.
pub(super) fn is_same(old: &Pod, new: &Pod) -> bool {
    let facts = |pod: &Pod| {
        let status = pod.status.as_ref();
        (
            status.and_then(|it| it.pod_ips.clone()),
            status.and_then(|it| it.pod_ip.clone()),
            pods::is_ready(pod),
            pods::is_over(pod),
            object::is_terminating(pod),
            pod.metadata.uid.clone(),
        )
    };
    facts(old) == facts(new)
        && old.metadata.labels == new.metadata.labels
        && pods::node_of(old) == pods::node_of(new)
}

/// The endpoints that a pod adds to a Service: one per address family that the Service has.
pub(super) fn members(service: &Service, pod: &Pod, zone: Option<String>) -> Vec<Member> {
    if pods::is_over(pod) {
        return Vec::new();
    }
    let families = families(service);
    let addresses = addresses(pod).into_iter().filter(|it| families.contains(&family(*it)));
    let ports = ports(service, pod);
    let addresses = addresses.map(|address| Member {
        family: family(address),
        ports: ports.clone(),
        endpoint: endpoint(service, pod, address, zone.clone()),
    });
    addresses.collect()
}

fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

fn families(service: &Service) -> Vec<Family> {
    let named = service.spec.as_ref().and_then(|it| it.ip_families.clone()).unwrap_or_default();
    if named.is_empty() {
        return vec![Family::Ipv4];
    }
    let named = named.iter();
    named.map(|it| if it == "IPv6" { Family::Ipv6 } else { Family::Ipv4 }).collect()
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all = status.pod_ips.iter().flatten().map(|it| it.ip.clone());
    let mut all: Vec<_> = all.filter_map(|it| it.parse().ok()).collect();
    if all.is_empty() {
        all.extend(status.pod_ip.as_deref().and_then(|it| it.parse::<IpAddr>().ok()));
    }
    // At most one of each family.
    let second = all.iter().skip(1).find(|it| family(**it) != family(all[0])).copied();
    all.into_iter().take(1).chain(second).collect()
}

fn endpoint(service: &Service, pod: &Pod, address: IpAddr, zone: Option<String>) -> Endpoint {
    let spec = service.spec.as_ref();
    let publishes_all = spec.and_then(|it| it.publish_not_ready_addresses) == Some(true);
    let (serving, terminating) = (pods::is_ready(pod), object::is_terminating(pod));
    let ready = publishes_all || (serving && !terminating);
    let hints = hints(service, pod, zone.as_deref()).filter(|_| ready);
    Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(service, pod),
        node_name: pods::node_of(pod).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone,
        hints,
        ..Endpoint::default()
    }
}

/// Whom the traffic distribution of the Service would have use this endpoint: its own zone, or its
/// own node and then its zone. The annotation for [`topology`] goes before it.
fn hints(service: &Service, pod: &Pod, zone: Option<&str>) -> Option<EndpointHints> {
    let distribution = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    if topology::is_wanted(service) {
        return None;
    }
    let for_nodes = match distribution {
        "PreferClose" | "PreferSameZone" => None,
        "PreferSameNode" => {
            let node = pods::node_of(pod).map(str::to_owned);
            node.map(|name| vec![ForNode { name }])
        }
        _ => return None,
    };
    let for_zones = zone.map(|name| vec![ForZone { name: name.to_owned() }]);
    (for_nodes.is_some() || for_zones.is_some()).then_some(EndpointHints { for_nodes, for_zones })
}

/// A pod of a headless Service that is its subdomain has a name of its own there.
fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let is_subdomain = spec.subdomain.is_some()
        && spec.subdomain == service.metadata.name
        && pod.metadata.namespace == service.metadata.namespace;
    spec.hostname.clone().filter(|it| is_subdomain && !it.is_empty())
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let wanted = service.spec.iter().flat_map(|it| it.ports.iter().flatten());
    let found = wanted.filter_map(|it| {
        Some(EndpointPort {
            name: Some(it.name.clone().unwrap_or_default()),
            port: Some(target_port(it, pod)?),
            protocol: Some(protocol(it.protocol.as_ref())),
            app_protocol: it.app_protocol.clone(),
        })
    });
    found.collect()
}

fn protocol(named: Option<&String>) -> String {
    named.filter(|it| !it.is_empty()).cloned().unwrap_or_else(|| "TCP".into())
}

/// The number of a Service port on this pod; a name is looked up among its containers' ports.
fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let inits = spec.init_containers.iter().flatten();
            let sidecars = inits.filter(|it| it.restart_policy.as_deref() == Some("Always"));
            let containers = spec.containers.iter().chain(sidecars);
            let mut ports = containers.flat_map(|it| it.ports.iter().flatten());
            let is_it = |it: &&ContainerPort| {
                it.name.as_ref() == Some(name)
                    && protocol(it.protocol.as_ref()) == protocol(port.protocol.as_ref())
            };
            ports.find(is_it).map(|it| it.container_port)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({ "metadata": { "name": "web", "namespace": "d" },
            "spec": spec }))
        .unwrap()
    }

    fn pod(extra: Value) -> Pod {
        let mut pod = json!({
            "metadata": { "name": "p", "namespace": "d", "labels": { "app": "web" } },
            "spec": { "nodeName": "n", "hostname": "p-0", "subdomain": "web", "containers": [{
                "name": "c", "ports": [{ "name": "http", "containerPort": 8080 }] }] },
            "status": { "phase": "Running", "podIP": "10.0.0.1",
                "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }],
                "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        for (key, value) in extra.as_object().unwrap() {
            for (inner, value) in value.as_object().unwrap() {
                pod[key][inner] = value.clone();
            }
        }
        serde_json::from_value(pod).unwrap()
    }

    fn conditions(service: &Service, pod: &Pod) -> Option<(bool, bool, bool)> {
        let member = members(service, pod, None).into_iter().next()?;
        let conditions = member.endpoint.conditions.unwrap();
        Some((conditions.ready?, conditions.serving?, conditions.terminating?))
    }

    #[test]
    fn conditions_tell_ready_serving_and_terminating_apart() {
        let plain = service(json!({ "ports": [{ "port": 80 }] }));
        let eager = service(json!({ "publishNotReadyAddresses": true, "ports": [{ "port": 80 }] }));
        let not_ready = json!({ "status": { "conditions": [] } });
        let leaving = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
        assert_eq!(conditions(&plain, &pod(json!({}))), Some((true, true, false)));
        assert_eq!(conditions(&plain, &pod(not_ready.clone())), Some((false, false, false)));
        assert_eq!(conditions(&plain, &pod(leaving)), Some((false, true, true)));
        assert_eq!(conditions(&eager, &pod(not_ready)), Some((true, false, false)));
        let over = json!({ "status": { "phase": "Succeeded" } });
        assert_eq!(conditions(&plain, &pod(over)), None);
        let homeless = json!({ "status": { "podIPs": null, "podIP": null } });
        assert_eq!(conditions(&plain, &pod(homeless)), None);
    }

    #[test]
    fn ports_are_found_by_number_and_by_name() {
        let port = |target: Value| {
            let service = service(json!({ "ports": [{ "port": 80, "targetPort": target }] }));
            let members = members(&service, &pod(json!({})), None);
            members[0].ports.first().and_then(|it| it.port)
        };
        assert_eq!(port(json!(9090)), Some(9090));
        assert_eq!(port(json!("http")), Some(8080));
        assert_eq!(port(json!("nothing")), None);
        assert_eq!(port(Value::Null), Some(80));
    }

    #[test]
    fn a_dual_stack_service_takes_both_addresses_and_a_headless_one_names_its_pods() {
        let dual = service(json!({ "ipFamilies": ["IPv4", "IPv6"], "ports": [{ "port": 80 }] }));
        let members = members(&dual, &pod(json!({})), Some("us-east-1a".into()));
        let families: Vec<_> = members.iter().map(|it| it.family).collect();
        assert_eq!(families, [Family::Ipv4, Family::Ipv6]);
        let endpoint = &members[0].endpoint;
        assert_eq!(endpoint.hostname.as_deref(), Some("p-0"));
        assert_eq!(endpoint.zone.as_deref(), Some("us-east-1a"));
        assert_eq!(endpoint.node_name.as_deref(), Some("n"));
    }

    #[test]
    fn a_traffic_distribution_hints_each_ready_endpoint_at_its_own_zone_or_node() {
        let hints = |distribution: &str, extra: Value| {
            let service = service(json!({
                "trafficDistribution": distribution, "ports": [{ "port": 80 }],
            }));
            let members = members(&service, &pod(extra), Some("a".into()));
            let hints = members[0].endpoint.hints.clone()?;
            let zone = hints.for_zones.map(|it| it[0].name.clone());
            Some((hints.for_nodes.map(|it| it[0].name.clone()), zone))
        };
        let zone = Some("a".to_owned());
        for distribution in ["PreferClose", "PreferSameZone"] {
            assert_eq!(hints(distribution, json!({})), Some((None, zone.clone())));
        }
        assert_eq!(hints("PreferSameNode", json!({})), Some((Some("n".into()), zone)));
        assert_eq!(hints("PreferClose", json!({ "status": { "conditions": [] } })), None);
    }
}
