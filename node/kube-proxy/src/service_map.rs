//! A Service, reduced to what forwarding needs: one value for each of its ports.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort as ApiPort, ServiceSpec};

/// `namespace/name`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "TCP" | "" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            "SCTP" => Ok(Self::Sctp),
            other => Err(format!("`{other}` is not a protocol of Services")),
        }
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub service: ServiceName,
    /// Empty where the Service has one port without a name.
    pub port_name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub cluster_ips: Vec<IpAddr>,
    pub node_port: Option<u16>,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer's addresses; empty is everybody.
    pub source_ranges: Vec<IpNet>,
    /// `ClientIP`, for this long.
    pub affinity: Option<Duration>,
    pub is_external_local: bool,
    pub is_internal_local: bool,
    pub health_check_node_port: Option<u16>,
}

impl ServicePort {
    /// Whether it can be reached in another way than by its cluster address.
    pub fn is_external(&self) -> bool {
        self.node_port.is_some()
            || !self.external_ips.is_empty()
            || !self.load_balancer_ips.is_empty()
    }
}

/// The ports of a Service that is proxied; none for a headless one or one without an address yet.
pub fn ports_of(service: &Service) -> Vec<ServicePort> {
    let (Some(spec), Some(name)) = (&service.spec, &service.metadata.name) else { return vec![] };
    if spec.type_.as_deref() == Some("ExternalName") {
        return vec![];
    }
    let cluster_ips = match &spec.cluster_ips {
        Some(ips) if !ips.is_empty() => addresses(ips),
        _ => addresses(spec.cluster_ip.as_slice()),
    };
    if cluster_ips.is_empty() {
        return vec![];
    }
    let name = ServiceName {
        namespace: service.metadata.namespace.clone().unwrap_or_default(),
        name: name.clone(),
    };
    let status = service.status.as_ref().and_then(|it| it.load_balancer.as_ref());
    let ingress = status.and_then(|it| it.ingress.as_deref()).unwrap_or_default();
    // `Proxy`: the balancer sends to node ports itself, and its address is not the node's business.
    let is_vip = |mode: Option<&str>| mode.is_none_or(|mode| mode == "VIP");
    let balancers = ingress.iter().filter(|it| is_vip(it.ip_mode.as_deref()));
    let load_balancer_ips: Vec<IpAddr> =
        balancers.filter_map(|it| it.ip.as_deref()?.parse().ok()).collect();
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|it| it.client_ip.as_ref());
        let seconds = config.and_then(|it| it.timeout_seconds).unwrap_or(10_800);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(10_800))
    });
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let make = |port: &ApiPort| {
        Some(ServicePort {
            service: name.clone(),
            port_name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.as_deref().unwrap_or_default().parse().ok()?,
            port: u16::try_from(port.port).ok()?,
            cluster_ips: cluster_ips.clone(),
            node_port: port.node_port.and_then(port_number),
            external_ips: addresses(spec.external_ips.as_deref().unwrap_or_default()),
            load_balancer_ips: load_balancer_ips.clone(),
            source_ranges: ranges.iter().filter_map(|it| it.trim().parse().ok()).collect(),
            affinity,
            is_external_local: is_external(spec)
                && spec.external_traffic_policy.as_deref() == Some("Local"),
            is_internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            health_check_node_port: health_check(spec),
        })
    };
    spec.ports.as_deref().unwrap_or_default().iter().filter_map(make).collect()
}

/// Whether the policy for external traffic means anything.
fn is_external(spec: &ServiceSpec) -> bool {
    let has_external_ips = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer")) || has_external_ips
}

/// Only load balancers that keep clients' addresses ask which nodes have endpoints.
fn health_check(spec: &ServiceSpec) -> Option<u16> {
    let is_asked = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.external_traffic_policy.as_deref() == Some("Local");
    spec.health_check_node_port.and_then(port_number).filter(|_| is_asked)
}

fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

/// Those that are addresses: `None` (headless) and empty strings are not.
fn addresses(texts: &[String]) -> Vec<IpAddr> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: serde_json::Value) -> Service {
        let value = json!({ "metadata": { "namespace": "default", "name": "web" }, "spec": spec });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn headless_external_name_and_unassigned_services_are_not_proxied() {
        let port = json!([{ "port": 80 }]);
        for spec in [
            json!({ "clusterIP": "None", "clusterIPs": ["None"], "ports": port }),
            json!({ "type": "ExternalName", "externalName": "x", "ports": port }),
            json!({ "ports": port }),
        ] {
            assert!(ports_of(&service(spec.clone())).is_empty(), "{spec}");
        }
    }

    #[test]
    fn every_port_is_a_value_of_its_own() {
        let ports = ports_of(&service(json!({
            "clusterIP": "10.100.0.10",
            "sessionAffinity": "ClientIP",
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 32000,
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP" },
                { "name": "dns-tcp", "port": 53, "nodePort": 30053 },
            ],
        })));
        assert_eq!(ports.len(), 2);
        assert_eq!((ports[0].protocol, ports[0].node_port), (Protocol::Udp, None));
        assert_eq!((ports[1].protocol, ports[1].node_port), (Protocol::Tcp, Some(30053)));
        assert_eq!(ports[1].affinity, Some(Duration::from_secs(10_800)));
        assert!(ports[1].is_external_local && !ports[1].is_internal_local);
    }
}
