//! What a Service's load balancer shall be: pure, or the reason why it cannot be.

use aws_elasticloadbalancing::{
    attribute::{
        AccessLog, ConnectionDraining, ConnectionSettings, CrossZoneLoadBalancing,
        LoadBalancerAttributes,
    },
    instance::HealthCheck,
    listener::Listener,
};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::{ProviderError, annotations::Annotations, failed};

const TRAFFIC_PORT: &str = "traffic-port";
const HEALTH_CHECK_PATH: &str = "/";

/// See the module. Subnets and security groups are found later.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) is_internal: bool,
    pub(super) listeners: Vec<Listener>,
    pub(super) source_ranges: Vec<String>,
    pub(super) proxy_protocol: bool,
    pub(super) attributes: LoadBalancerAttributes,
    pub(super) health_check: HealthCheck,
    pub(super) subnets: Vec<String>,
    pub(super) security_groups: Vec<String>,
}

impl Wanted {
    pub(super) fn of(service: &Service, name: &str) -> Result<Self, ProviderError> {
        let annotations = Annotations::of(service);
        let spec = service.spec.clone().unwrap_or_default();
        let affinity = spec.session_affinity.as_deref().unwrap_or("None");
        if affinity != "None" {
            return Err(failed(format!("unsupported load balancer affinity: {affinity}")));
        }
        if annotations.is_nlb() {
            return Err(failed(
                "Network Load Balancers (service.beta.kubernetes.io/aws-load-balancer-type: nlb) \
                 are not supported in this region; without the annotation the Service gets a \
                 Classic Load Balancer",
            ));
        }
        let listeners = listeners(&annotations, &spec)?;
        if spec.load_balancer_ip.as_deref().is_some_and(|it| !it.is_empty()) {
            return Err(failed("LoadBalancerIP cannot be specified for AWS ELB"));
        }
        let source_ranges = annotations.source_ranges()?;
        let proxy_protocol = match annotations.given("proxy-protocol") {
            None => false,
            Some("*") => true,
            Some(other) => {
                let annotation = "service.beta.kubernetes.io/aws-load-balancer-proxy-protocol";
                return Err(failed(format!(
                    "annotation {annotation:?}={other:?} detected, but the only value supported \
                     currently is '*'"
                )));
            }
        };
        Ok(Self {
            name: name.to_owned(),
            is_internal: annotations.is_internal(),
            source_ranges,
            proxy_protocol,
            attributes: attributes(&annotations)?,
            health_check: health_check(&annotations, &spec, &listeners, name)?,
            listeners,
            subnets: Vec::new(),
            security_groups: Vec::new(),
        })
    }
}

fn listeners(
    annotations: &Annotations<'_>,
    spec: &ServiceSpec,
) -> Result<Vec<Listener>, ProviderError> {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let protocol = |it: &ServicePort| it.protocol.clone().unwrap_or("TCP".to_owned());
    let Some(first) = ports.first() else {
        return Err(failed("requested load balancer with no ports"));
    };
    if ports.iter().any(|it| protocol(it) != protocol(first)) {
        return Err(failed("mixed protocol is not supported for LoadBalancer"));
    }
    let mut listeners = Vec::new();
    for port in ports {
        let protocol = protocol(port);
        if protocol != "TCP" {
            return Err(failed(format!("Protocol {protocol} not supported by LoadBalancer")));
        }
        // A Service that wants none has no node ports.
        let Some(node_port) = port.node_port.filter(|it| *it != 0) else { continue };
        listeners.push(listener(annotations, port, node_port)?);
    }
    Ok(listeners)
}

fn listener(
    annotations: &Annotations<'_>,
    port: &ServicePort,
    node_port: i32,
) -> Result<Listener, ProviderError> {
    let backend = annotations.given("backend-protocol");
    let certificate = annotations.given("ssl-cert").filter(|_| is_for(annotations, port));
    let (protocol, instance_protocol) = match (certificate, backend) {
        (Some(_), None) => ("ssl", "tcp"),
        (Some(certificate), Some(backend)) => match backend {
            "https" => ("https", backend),
            "http" => ("https", backend),
            "ssl" => ("ssl", backend),
            "tcp" => ("ssl", backend),
            other => {
                return Err(failed(format!(
                    "Invalid backend protocol {other} for {certificate} in \
                     service.beta.kubernetes.io/aws-load-balancer-backend-protocol"
                )));
            }
        },
        (None, Some("http")) => ("http", "http"),
        (None, _) => ("tcp", "tcp"),
    };
    Ok(Listener {
        protocol: protocol.to_owned(),
        load_balancer_port: port.port.into(),
        instance_protocol: Some(instance_protocol.to_owned()),
        instance_port: node_port.into(),
        ssl_certificate_id: certificate.map(str::to_owned),
    })
}

/// Whether the certificate is for this port: by name or number, or for all.
fn is_for(annotations: &Annotations<'_>, port: &ServicePort) -> bool {
    match annotations.given("ssl-ports") {
        None | Some("*") => true,
        Some(ports) => ports.split(',').any(|it| {
            let name = port.name.as_deref().unwrap_or_default().to_ascii_lowercase();
            it == port.port.to_string() || it == name
        }),
    }
}

fn attributes(annotations: &Annotations<'_>) -> Result<LoadBalancerAttributes, ProviderError> {
    let log = "access-log-enabled";
    Ok(LoadBalancerAttributes {
        access_log: Some(AccessLog {
            enabled: annotations.flag(log)?.unwrap_or(false),
            emit_interval: annotations.number("access-log-emit-interval")?,
            s3_bucket_name: annotations.given("access-log-s3-bucket-name").map(str::to_owned),
            s3_bucket_prefix: annotations.given("access-log-s3-bucket-prefix").map(str::to_owned),
        }),
        connection_draining: Some(ConnectionDraining {
            enabled: annotations.flag("connection-draining-enabled")?.unwrap_or(false),
            timeout: annotations.number("connection-draining-timeout")?,
        }),
        connection_settings: Some(ConnectionSettings {
            idle_timeout: annotations.number("connection-idle-timeout")?.unwrap_or(60),
        }),
        cross_zone_load_balancing: Some(CrossZoneLoadBalancing {
            enabled: annotations.flag("cross-zone-load-balancing-enabled")?.unwrap_or(false),
        }),
        additional_attributes: Vec::new(),
    })
}

/// The first listener's node port by TCP; with `externalTrafficPolicy: Local` kube-proxy says whether
/// a node has an endpoint.
fn health_check(
    annotations: &Annotations<'_>,
    spec: &ServiceSpec,
    listeners: &[Listener],
    name: &str,
) -> Result<HealthCheck, ProviderError> {
    let traffic = listeners.first().map_or(0, |it| it.instance_port);
    let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
    let port = annotations.get("healthcheck-port");
    let (protocol, default_port, path) = match (is_local, annotations.given("backend-protocol")) {
        (true, _) if port == Some(TRAFFIC_PORT) => ("HTTP", traffic, "/healthz"),
        (true, _) => ("HTTP", spec.health_check_node_port.unwrap_or(0).into(), "/healthz"),
        (false, Some(it)) if matches!(&*it.to_ascii_lowercase(), "https" | "ssl") => {
            ("SSL", traffic, "")
        }
        (false, _) => ("TCP", traffic, ""),
    };
    let protocol = annotations.get("healthcheck-protocol").unwrap_or(protocol);
    let port: i64 = match port {
        Some(port) if port != TRAFFIC_PORT => port
            .parse()
            .map_err(|_| failed(format!("strconv.ParseInt: parsing {port:?}: invalid syntax")))?,
        _ => default_port,
    };
    let path = match protocol.to_ascii_uppercase().as_str() {
        "HTTP" | "HTTPS" => {
            let path = if path.is_empty() { HEALTH_CHECK_PATH } else { path };
            annotations.given("healthcheck-path").unwrap_or(path)
        }
        _ => "",
    };
    let refused =
        |it: &str| failed(format!("cannot update health check for load balancer {name:?}: {it:?}"));
    let number = |name: &str, default: i64| match annotations.get(name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| {
            refused(&format!(
                "failed parsing health check annotation value: strconv.ParseInt: parsing {text:?}: \
                 invalid syntax"
            ))
        }),
    };
    let wanted = HealthCheck {
        target: format!("{protocol}:{port}{path}"),
        interval: number("healthcheck-interval", 10)?,
        timeout: number("healthcheck-timeout", 5)?,
        unhealthy_threshold: number("healthcheck-unhealthy-threshold", 6)?,
        healthy_threshold: number("healthcheck-healthy-threshold", 2)?,
    };
    let checks = [
        ("HealthyThreshold", wanted.healthy_threshold, 2),
        ("Interval", wanted.interval, 5),
        ("Timeout", wanted.timeout, 2),
        ("UnhealthyThreshold", wanted.unhealthy_threshold, 2),
    ];
    let wrong = checks.iter().filter(|(_, value, least)| value < least);
    let wrong: Vec<_> =
        wrong.map(|(it, _, least)| format!("{it} must be at least {least}")).collect();
    match wrong.is_empty() {
        true => Ok(wanted),
        false => Err(refused(&format!(
            "some of the load balancer health check parameters are invalid: HealthCheck validation \
             errors: {}",
            wrong.join("; ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(annotations: Value, spec: Value) -> Service {
        let annotations: serde_json::Map<String, Value> = annotations
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| {
                let prefix = "service.beta.kubernetes.io/aws-load-balancer-";
                (format!("{prefix}{key}"), value.clone())
            })
            .collect();
        let mut all = json!({
            "type": "LoadBalancer",
            "ports": [{ "port": 80, "nodePort": 30080, "protocol": "TCP" }],
        });
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "metadata": { "name": "web", "annotations": annotations }, "spec": all,
        }))
        .unwrap()
    }

    fn wanted(annotations: Value, spec: Value) -> Result<Wanted, String> {
        Wanted::of(&service(annotations, spec), "a1").map_err(|it| it.to_string())
    }

    #[test]
    fn a_plain_service_is_tcp_to_its_node_port_with_upstreams_defaults() {
        let it = wanted(json!({}), json!({})).unwrap();
        assert_eq!((it.is_internal, it.proxy_protocol), (false, false));
        assert_eq!(it.listeners[0].protocol, "tcp");
        assert_eq!(
            (it.listeners[0].load_balancer_port, it.listeners[0].instance_port),
            (80, 30080)
        );
        assert_eq!(it.source_ranges, ["0.0.0.0/0"]);
        let check = it.health_check;
        assert_eq!(check.target, "TCP:30080");
        assert_eq!((check.interval, check.timeout), (10, 5));
        assert_eq!((check.unhealthy_threshold, check.healthy_threshold), (6, 2));
        assert_eq!(it.attributes.connection_settings.unwrap().idle_timeout, 60);
    }

    #[test]
    fn the_policy_local_is_checked_at_kube_proxys_port() {
        let local = json!({ "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000 });
        assert_eq!(
            wanted(json!({}), local.clone()).unwrap().health_check.target,
            "HTTP:31000/healthz"
        );
        let traffic = json!({ "healthcheck-port": "traffic-port" });
        assert_eq!(wanted(traffic, local).unwrap().health_check.target, "HTTP:30080/healthz");
        let own = json!({
            "healthcheck-protocol": "HTTP", "healthcheck-path": "/up", "healthcheck-port": "8080",
        });
        assert_eq!(wanted(own, json!({})).unwrap().health_check.target, "HTTP:8080/up");
    }

    #[test]
    fn annotations_become_attributes_listeners_and_ranges() {
        let given = json!({
            "internal": "true", "backend-protocol": "http", "proxy-protocol": "*",
            "connection-draining-enabled": "true", "connection-draining-timeout": "30",
            "connection-idle-timeout": "120", "cross-zone-load-balancing-enabled": "true",
        });
        let it = wanted(given, json!({ "loadBalancerSourceRanges": ["10.0.0.1/8"] })).unwrap();
        assert!(it.is_internal && it.proxy_protocol);
        assert_eq!(it.listeners[0].protocol, "http");
        assert_eq!(it.source_ranges, ["10.0.0.0/8"]);
        assert_eq!(it.attributes.connection_draining.unwrap().timeout, Some(30));
        assert_eq!(it.attributes.connection_settings.unwrap().idle_timeout, 120);
        assert!(it.attributes.cross_zone_load_balancing.unwrap().enabled);
        let certificate = json!({ "ssl-cert": "arn:x", "ssl-ports": "443" });
        assert_eq!(wanted(certificate, json!({})).unwrap().listeners[0].ssl_certificate_id, None);
    }

    #[test]
    fn what_cannot_be_is_refused_in_upstreams_words() {
        let udp = json!({ "ports": [{ "port": 53, "nodePort": 30053, "protocol": "UDP" }] });
        let mixed = json!({ "ports": [
            { "port": 53, "nodePort": 1, "protocol": "UDP" }, { "port": 53, "nodePort": 2 },
        ]});
        for (annotations, spec, told) in [
            (json!({}), udp, "Protocol UDP not supported by LoadBalancer"),
            (json!({}), mixed, "mixed protocol is not supported for LoadBalancer"),
            (
                json!({}),
                json!({ "sessionAffinity": "ClientIP" }),
                "unsupported load balancer affinity: ClientIP",
            ),
            (
                json!({}),
                json!({ "loadBalancerIP": "1.2.3.4" }),
                "LoadBalancerIP cannot be specified for AWS ELB",
            ),
            (json!({}), json!({ "ports": [] }), "requested load balancer with no ports"),
            (json!({ "type": "nlb" }), json!({}), "not supported in this region"),
            (
                json!({ "proxy-protocol": "80" }),
                json!({}),
                "the only value supported currently is '*'",
            ),
            (
                json!({ "connection-idle-timeout": "x" }),
                json!({}),
                "error parsing service annotation",
            ),
            (json!({ "healthcheck-interval": "1" }), json!({}), "Interval must be at least 5"),
            (
                json!({}),
                json!({ "loadBalancerSourceRanges": ["x"] }),
                "Expecting a list of IP ranges",
            ),
        ] {
            let refusal = wanted(annotations, spec).unwrap_err();
            assert!(refusal.contains(told), "{refusal}");
        }
    }
}
