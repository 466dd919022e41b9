//! Where a request goes: the address of a node, a pod, or a ready endpoint of a Service.
//!
//! **Invariant:** no name that a user chose leads to a loopback or link-local address.

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use serde_json::Value;

use crate::{
    authz::{Objects, items, text},
    status::Status,
};

const KUBELET_PORT: u16 = 10250;
const SLICES: &str = "endpointslices.discovery.k8s.io";

/// An address, and whether TLS is spoken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    pub(super) is_tls: bool,
}

/// The kubelet of a node, at its internal address.
pub(super) fn kubelet(objects: &dyn Objects, node: &str) -> Result<SocketAddr, Status> {
    let object = objects.get("nodes", "", node).ok_or_else(|| Status::not_found("nodes", node))?;
    let port = object
        .pointer("/status/daemonEndpoints/kubeletEndpoint/Port")
        .and_then(Value::as_u64)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
        .unwrap_or(KUBELET_PORT);
    Ok(SocketAddr::new(node_address(&object)?, port))
}

/// A node as `nodes/proxy` names it, and whether it is the kubelet that is meant.
pub(super) fn node(objects: &dyn Objects, raw: &str) -> Result<(Backend, bool), Status> {
    let bad = || Status::bad_request(format!("invalid node request {raw:?}"));
    let asked = Name::parse(raw).ok_or_else(bad)?;
    let address = kubelet(objects, asked.name)?;
    if asked.port.is_empty() || asked.port == address.port().to_string() {
        return Ok((Backend { address, is_tls: true }, true));
    }
    let port = asked.port.parse().map_err(|_| bad())?;
    let address = SocketAddr::new(proxyable(address.ip())?, port);
    Ok((Backend { address, is_tls: asked.is_tls }, false))
}

/// Upstream: `IsProxyableIP`.
fn proxyable(ip: IpAddr) -> Result<IpAddr, Status> {
    let is_own = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if is_own || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() {
        return Err(Status::bad_request("address not allowed"));
    }
    Ok(ip)
}

fn node_address(node: &Value) -> Result<IpAddr, Status> {
    let addresses = items(node, "/status/addresses");
    let of = |kind: &str| {
        let mut all = addresses.iter().filter(|it| text(it, "/type") == kind);
        all.find_map(|it| text(it, "/address").parse().ok())
    };
    of("InternalIP").or_else(|| of("ExternalIP")).ok_or_else(|| {
        let known: Vec<&str> = addresses.iter().map(|it| text(it, "/address")).collect();
        let message =
            format!("no preferred addresses found; known addresses: [{}]", known.join(" "));
        Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
    })
}

/// `[scheme:]name[:port]`, as the proxies' names are written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) is_tls: bool,
    pub(super) name: &'a str,
    pub(super) port: &'a str,
}

impl<'a> Name<'a> {
    pub(super) fn parse(raw: &'a str) -> Option<Self> {
        let parts: Vec<&str> = raw.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let is_known = matches!(scheme, "" | "http" | "https");
        (is_known && !name.is_empty()).then_some(Self { is_tls: scheme == "https", name, port })
    }
}

pub(super) fn pod(objects: &dyn Objects, namespace: &str, raw: &str) -> Result<Backend, Status> {
    let bad = || Status::bad_request(format!("invalid pod request {raw:?}"));
    let asked = Name::parse(raw).ok_or_else(bad)?;
    let pod = objects.get("pods", namespace, asked.name);
    let pod = pod.ok_or_else(|| Status::not_found("pods", asked.name))?;
    let address: IpAddr = text(&pod, "/status/podIP")
        .parse()
        .map_err(|_| Status::bad_request("address not allowed"))?;
    let address = proxyable(address)?;
    let default = if asked.is_tls { 443 } else { 80 };
    let port = match asked.port {
        "" => items(&pod, "/spec/containers").iter().find_map(first_port).unwrap_or(default),
        port => port.parse().map_err(|_| bad())?,
    };
    Ok(Backend { address: SocketAddr::new(address, port), is_tls: asked.is_tls })
}

fn first_port(container: &Value) -> Option<u16> {
    let port = items(container, "/ports").first()?.get("containerPort")?.as_u64()?;
    u16::try_from(port).ok()
}

/// A ready endpoint behind a port of a Service, drawn at random: an address of a pod in the
/// Service's namespace, whatever a slice says.
///
/// Upstream: `isValidAddress` of pkg/registry/core/service/storage.
pub(super) fn service(
    objects: &dyn Objects,
    namespace: &str,
    raw: &str,
) -> Result<Backend, Status> {
    let bad = || Status::bad_request(format!("invalid service request {raw:?}"));
    let asked = Name::parse(raw).ok_or_else(bad)?;
    let service = objects.get("services", namespace, asked.name);
    let service = service.ok_or_else(|| Status::not_found("services", asked.name))?;
    let none = |what: &str| {
        Status::unavailable(format!("no {what} available for service {:?}", asked.name))
    };
    let ports = items(&service, "/spec/ports");
    let port = match (asked.port, ports) {
        ("", [only]) => Some(only),
        ("", _) => ports.iter().find(|port| text(port, "/name").is_empty()),
        (wanted, _) => ports.iter().find(|port| {
            text(port, "/name") == wanted
                || port["port"].as_u64().is_some_and(|it| it.to_string() == wanted)
        }),
    };
    let Some(port) = port else {
        let message =
            format!("no service port {:?} found for service {:?}", asked.port, asked.name);
        return Err(Status::unavailable(message));
    };
    let ready = ready_endpoints(objects, namespace, asked.name, text(port, "/name"));
    if ready.is_empty() {
        return Err(none("endpoints"));
    }
    let drawn = entropy::below(ready.len() as u64);
    let address = ready[usize::try_from(drawn).unwrap_or(0)];
    Ok(Backend { address, is_tls: asked.is_tls })
}

fn ready_endpoints(
    objects: &dyn Objects,
    namespace: &str,
    service: &str,
    port: &str,
) -> Vec<SocketAddr> {
    let mut ready = Vec::new();
    for slice in objects.list(SLICES, namespace) {
        if text(&slice, "/metadata/labels/kubernetes.io~1service-name") != service {
            continue;
        }
        let number = items(&slice, "/ports")
            .iter()
            .find(|it| text(it, "/name") == port)
            .and_then(|it| it["port"].as_u64())
            .and_then(|it| u16::try_from(it).ok());
        let Some(number) = number else { continue };
        for endpoint in items(&slice, "/endpoints") {
            if endpoint.pointer("/conditions/ready") == Some(&Value::Bool(false)) {
                continue;
            }
            let addresses = items(endpoint, "/addresses").iter().filter_map(Value::as_str);
            let parsed = addresses.filter_map(|it| it.parse::<IpAddr>().ok());
            let own = pod_addresses(objects, namespace, endpoint);
            let parsed = parsed.filter(|it| own.contains(it) && proxyable(*it).is_ok());
            ready.extend(parsed.map(|it| SocketAddr::new(it, number)));
        }
    }
    ready
}

/// The addresses of the pod that an endpoint stands for.
fn pod_addresses(objects: &dyn Objects, namespace: &str, endpoint: &Value) -> Vec<IpAddr> {
    let is_pod = text(endpoint, "/targetRef/kind") == "Pod"
        && text(endpoint, "/targetRef/namespace") == namespace;
    let pod = is_pod.then(|| objects.get("pods", namespace, text(endpoint, "/targetRef/name")));
    let Some(pod) = pod.flatten() else { return Vec::new() };
    let all = items(&pod, "/status/podIPs").iter().map(|it| text(it, "/ip"));
    all.chain([text(&pod, "/status/podIP")]).filter_map(|it| it.parse().ok()).collect()
}
