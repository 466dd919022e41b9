//! Who is meant by `--from` and `--to`.

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::{Pod, Service};

use super::cluster::{Cluster, node_party};
use crate::{cli::PathProtocol, failure::Failure};

const HELP: &str = "use NAMESPACE/POD:PORT, NAMESPACE/SERVICE:PORT, node/NAME:PORT or IP:PORT";

/// One end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Party {
    pub(super) name: String,
    /// `None` for the control plane, whose interfaces the daemon knows.
    pub(super) address: Option<Ipv4Addr>,
    pub(super) node: Option<String>,
    pub(super) node_address: Option<Ipv4Addr>,
    /// It has the node's network.
    pub(super) is_host: bool,
}

/// What a client connects to.
pub(super) enum Wanted<'a> {
    Address { address: Ipv4Addr, port: u16 },
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
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.to_owned())),
        None => (text, None),
    };
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        return match service_at(cluster, address) {
            Some(service) => Ok(Wanted::Service { service, port }),
            None => Ok(Wanted::Address { address, port: number(port.as_deref(), protocol)? }),
        };
    }
    if let Some(name) = name.strip_prefix("node/") {
        let address = node(cluster, name)?.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
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

fn service_at(cluster: &Cluster, address: Ipv4Addr) -> Option<&Service> {
    cluster.services.iter().find(|it| {
        let ip = it.spec.as_ref().and_then(|it| it.cluster_ip.as_deref());
        ip.and_then(|it| it.parse::<IpAddr>().ok()) == Some(IpAddr::V4(address))
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
