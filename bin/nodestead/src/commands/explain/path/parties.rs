//! Who is meant by `--from` and `--to`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::{Pod, Service};

use super::cluster::{Cluster, node_party};
use crate::{cli::PathProtocol, failure::Failure};

const HELP: &str =
    "use NAMESPACE/POD:PORT, NAMESPACE/SERVICE:PORT, node/NAME:PORT, IP:PORT or [IPV6]:PORT";

/// One end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Party {
    pub(super) name: String,
    /// `None` for the control plane, whose interfaces the daemon knows.
    pub(super) address: Option<IpAddr>,
    pub(super) node: Option<String>,
    pub(super) node_address: Option<IpAddr>,
    /// It has the node's network.
    pub(super) is_host: bool,
    /// A pod with an interface of its own, for its own security groups.
    pub(super) has_branch: bool,
}

impl Party {
    /// Whether it is a pod with an IPv6 address that reaches `to` by another one.
    pub(super) fn leaves_ipv6_for(&self, to: IpAddr) -> bool {
        !self.is_host && to.is_ipv4() && self.address.is_some_and(|it| it.is_ipv6())
    }
}

/// What a client connects to.
pub(super) enum Wanted<'a> {
    Address { address: IpAddr, port: u16 },
    Service { service: &'a Service, port: Option<String> },
}

pub(super) fn sender(cluster: &Cluster, text: &str) -> anyhow::Result<Party> {
    if text == "control-plane" {
        return Ok(Party {
            name: text.to_owned(),
            address: None,
            node: None,
            node_address: None,
            is_host: true,
            has_branch: false,
        });
    }
    if let Some(name) = text.strip_prefix("node/") {
        return node(cluster, name);
    }
    let found = pod(cluster, text).ok_or_else(|| no_such("pod", text))?;
    let party = cluster.pod_party(found);
    match party.address {
        Some(_) => Ok(party),
        None => Err(Failure::new(
            format!("pod `{}` has no address yet", party.name),
            format!("see why with `nodestead explain pod {}`", party.name),
        )
        .into()),
    }
}

pub(super) fn wanted<'a>(
    cluster: &'a Cluster,
    text: &str,
    protocol: PathProtocol,
) -> anyhow::Result<Wanted<'a>> {
    let (name, port) = split_port(text);
    if let Ok(address) = name.parse::<IpAddr>() {
        return match service_at(cluster, address) {
            Some(service) => Ok(Wanted::Service { service, port }),
            None => Ok(Wanted::Address { address, port: number(port.as_deref(), protocol)? }),
        };
    }
    if let Some(name) = name.strip_prefix("node/") {
        let address = node(cluster, name)?.address;
        let address = address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        return Ok(Wanted::Address { address, port: number(port.as_deref(), protocol)? });
    }
    if let Some(found) = pod(cluster, name) {
        let party = cluster.pod_party(found);
        let address = party.address.ok_or_else(|| {
            Failure::new(
                format!("pod `{}` has no address yet", party.name),
                format!("see why with `nodestead explain pod {}`", party.name),
            )
        })?;
        let port = port.or_else(|| only_port(found));
        return Ok(Wanted::Address { address, port: number(port.as_deref(), protocol)? });
    }
    let (namespace, name) = split(name);
    let mut services = cluster.services.iter();
    let found = services.find(|it| {
        let metadata = &it.metadata;
        metadata.namespace.as_deref() == Some(namespace) && metadata.name.as_deref() == Some(name)
    });
    let service = found.ok_or_else(|| no_such("pod or Service", text))?;
    Ok(Wanted::Service { service, port })
}

/// An IPv6 address with a port stands in brackets; without one it may.
fn split_port(text: &str) -> (&str, Option<String>) {
    if text.parse::<Ipv6Addr>().is_ok() {
        return (text, None);
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port.to_owned())),
        _ => (text, None),
    };
    let bare = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    (bare.unwrap_or(name), port)
}

fn split(text: &str) -> (&str, &str) {
    text.split_once('/').unwrap_or(("default", text))
}

fn no_such(kind: &str, text: &str) -> Failure {
    Failure::new(format!("there is no {kind} `{text}`"), HELP)
}

fn pod<'a>(cluster: &'a Cluster, text: &str) -> Option<&'a Pod> {
    let (namespace, name) = split(text);
    cluster.pods.iter().find(|it| {
        let metadata = &it.metadata;
        metadata.namespace.as_deref() == Some(namespace) && metadata.name.as_deref() == Some(name)
    })
}

fn node(cluster: &Cluster, name: &str) -> anyhow::Result<Party> {
    let found = cluster.node(name).ok_or_else(|| no_such("node", name))?;
    Ok(node_party(found))
}

fn service_at(cluster: &Cluster, address: IpAddr) -> Option<&Service> {
    cluster.services.iter().find(|it| {
        let ip = it.spec.as_ref().and_then(|it| it.cluster_ip.as_deref());
        ip.and_then(|it| it.parse::<IpAddr>().ok()) == Some(address)
    })
}

/// The port of a pod that names one.
fn only_port(pod: &Pod) -> Option<String> {
    let containers = pod.spec.iter().flat_map(|it| &it.containers);
    let ports: Vec<_> = containers.flat_map(|it| it.ports.iter().flatten()).collect();
    match ports.as_slice() {
        [only] => Some(only.container_port.to_string()),
        _ => None,
    }
}

fn number(port: Option<&str>, protocol: PathProtocol) -> Result<u16, Failure> {
    match port {
        None if protocol == PathProtocol::Icmp => Ok(0),
        None => Err(Failure::new("no port is given", HELP)),
        Some(port) => port.parse().map_err(|_| Failure::new(format!("`{port}` is no port"), HELP)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_its_port_are_told_apart_in_both_versions() {
        for (text, name, port) in [
            ("10.0.0.1:80", "10.0.0.1", Some("80")),
            ("10.0.0.1", "10.0.0.1", None),
            ("[2001:db8::1]:80", "2001:db8::1", Some("80")),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("2001:db8::1", "2001:db8::1", None),
            ("shop/web:http", "shop/web", Some("http")),
            ("shop/web", "shop/web", None),
        ] {
            assert_eq!(split_port(text), (name, port.map(str::to_owned)), "{text}");
        }
    }
}
