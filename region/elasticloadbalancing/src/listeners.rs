//! Listeners: which are allowed, and what one request's become.

use std::collections::BTreeMap;

use aws_elasticloadbalancing::listener::{
    self, CreateLoadBalancerListenersRequest, CreateLoadBalancerListenersResponse,
    DeleteLoadBalancerListenersRequest, DeleteLoadBalancerListenersResponse,
};
use aws_wire::Fault;

use crate::{
    Call, ElasticLoadBalancing, faults,
    records::{Listener, LoadBalancer, Protocol},
};

/// AWS's quota.
const MOST: usize = 100;

pub(crate) async fn create(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: CreateLoadBalancerListenersRequest,
) -> Result<CreateLoadBalancerListenersResponse, Fault> {
    let added = read(&request.listeners)?;
    service.update(&request.load_balancer_name, |it| {
        for (port, listener) in added {
            match it.listeners.insert(port, listener) {
                Some(known) if known != listener => {
                    return Err(Fault::new(
                        "DuplicateListener",
                        format!(
                            "A listener already exists for {} with LoadBalancerPort {port}, but \
                             with a different InstancePort, Protocol, or SSLCertificateId",
                            it.name
                        ),
                    ));
                }
                _ => {}
            }
        }
        check_count(&it.listeners)
    })?;
    Ok(CreateLoadBalancerListenersResponse {})
}

pub(crate) async fn delete(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: DeleteLoadBalancerListenersRequest,
) -> Result<DeleteLoadBalancerListenersResponse, Fault> {
    service.update(&request.load_balancer_name, |it| {
        // One that is not there counts as deleted.
        it.listeners.retain(|port, _| !request.load_balancer_ports.contains(&i64::from(*port)));
        forget_unused_policies(it);
        Ok(())
    })?;
    Ok(DeleteLoadBalancerListenersResponse {})
}

fn forget_unused_policies(load_balancer: &mut LoadBalancer) {
    let listeners = &load_balancer.listeners;
    let is_used = |port: &u16| listeners.values().any(|it| it.instance_port == *port);
    load_balancer.backend_policies.retain(|port, _| is_used(port));
}

/// The listeners of a request, by port.
pub(crate) fn read(asked: &[listener::Listener]) -> Result<BTreeMap<u16, Listener>, Fault> {
    if asked.is_empty() {
        return Err(faults::validation("Listeners must not be empty."));
    }
    let mut listeners = BTreeMap::new();
    for it in asked {
        let at = port("LoadBalancerPort", it.load_balancer_port)?;
        if listeners.insert(at, listener(it)?).is_some() {
            return Err(Fault::new(
                "DuplicateListener",
                format!("There are multiple listeners with LoadBalancerPort {at}"),
            ));
        }
    }
    check_count(&listeners)?;
    Ok(listeners)
}

fn check_count(listeners: &BTreeMap<u16, Listener>) -> Result<(), Fault> {
    match listeners.len() {
        0..=MOST => Ok(()),
        _ => Err(faults::configuration(format!("A load balancer has at most {MOST} listeners."))),
    }
}

fn listener(asked: &listener::Listener) -> Result<Listener, Fault> {
    let protocol = protocol(&asked.protocol, asked.ssl_certificate_id.as_deref())?;
    let inward = asked.instance_protocol.as_deref().unwrap_or(protocol.name());
    let inward = match inward.to_ascii_uppercase().as_str() {
        "TCP" => Protocol::Tcp,
        "HTTP" => Protocol::Http,
        "SSL" | "HTTPS" => {
            return Err(Fault::new(
                "UnsupportedProtocol",
                format!("The instance protocol {inward} is not supported in this region."),
            ));
        }
        _ => return Err(unknown_protocol(inward)),
    };
    if inward != protocol {
        return Err(faults::validation(
            "The backend protocol must be at the same layer as the frontend protocol: HTTP or \
             HTTPS, TCP or SSL.",
        ));
    }
    Ok(Listener { protocol, instance_port: port("InstancePort", asked.instance_port)? })
}

fn protocol(name: &str, certificate: Option<&str>) -> Result<Protocol, Fault> {
    match name.to_ascii_uppercase().as_str() {
        "TCP" => Ok(Protocol::Tcp),
        "HTTP" => Ok(Protocol::Http),
        "SSL" | "HTTPS" => match certificate {
            None => Err(faults::validation(format!(
                "Secure Listeners need to specify a SSLCertificateId. Protocol {name}."
            ))),
            Some(id) => Err(Fault::new(
                "CertificateNotFound",
                format!("Server Certificate not found for the key: {id}"),
            )),
        },
        _ => Err(unknown_protocol(name)),
    }
}

fn unknown_protocol(name: &str) -> Fault {
    faults::validation(format!("Protocol {name} must be one of HTTP, HTTPS, TCP, SSL."))
}

/// A port of a request.
pub(crate) fn port(name: &str, value: i64) -> Result<u16, Fault> {
    let port = u16::try_from(value).ok().filter(|it| *it > 0);
    port.ok_or_else(|| faults::validation(format!("{name} must be between 1 and 65535: {value}")))
}

pub(crate) fn no_listener(name: &str, port: u16) -> Fault {
    Fault::new("ListenerNotFound", format!("There is no listener on port {port} of {name}"))
}
