//! UDP flows that still go to endpoints that are no more.
//!
//! A TCP client notices that its peer is gone; a UDP client (a resolver, mostly) goes on sending,
//! and the kernel goes on translating to the old endpoint as long as packets come. So those entries
//! are deleted when an endpoint goes, and those that were made while there was no endpoint when the
//! first one comes.

use std::{collections::BTreeSet, net::IpAddr};

use linux_netlink::{Conntrack, FlowFilter, OpenError, RequestError};

use crate::{
    endpoint_slices::Choice,
    service_map::{Protocol, ServicePort},
};

/// Flows to delete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stale {
    /// What the client sends to; `None`: any address, at a node port.
    pub to: Option<IpAddr>,
    pub port: u16,
    /// Where it was translated to; `None`: nowhere.
    pub endpoint: Option<IpAddr>,
}

/// Adds what became stale with the change from `old` to `new`.
pub fn stale(old: &[(ServicePort, Choice)], new: &[(ServicePort, Choice)], out: &mut Vec<Stale>) {
    let is_udp = |it: &&(ServicePort, Choice)| it.0.protocol == Protocol::Udp;
    for (port, before) in old.iter().filter(is_udp) {
        let after = new.iter().find(|(it, _)| is_same(it, port)).map(|(_, choice)| choice);
        let was: BTreeSet<IpAddr> = endpoints(before).collect();
        let is: BTreeSet<IpAddr> = after.into_iter().flat_map(endpoints).collect();
        for endpoint in was.difference(&is) {
            out.extend(destinations(port).map(|(to, port)| Stale {
                to,
                port,
                endpoint: Some(*endpoint),
            }));
        }
    }
    for (port, after) in new.iter().filter(is_udp) {
        let before = old.iter().find(|(it, _)| is_same(it, port)).map(|(_, choice)| choice);
        let had_nobody = before.is_none_or(|choice| endpoints(choice).next().is_none());
        if had_nobody && endpoints(after).next().is_some() {
            out.extend(destinations(port).map(|(to, port)| Stale { to, port, endpoint: None }));
        }
    }
}

/// Deletes the flows. What cannot be deleted times out by itself.
pub async fn delete(stale: Vec<Stale>) {
    if stale.is_empty() {
        return;
    }
    let done = tokio::task::spawn_blocking(move || delete_now(&stale));
    match done.await {
        Ok(Ok(count)) => tracing::debug!(count, "deleted stale UDP flows"),
        Ok(Err(error)) => {
            let error = telemetry::chain(&error).to_string();
            tracing::warn!(error, "failed to delete stale UDP flows");
        }
        Err(error) => tracing::warn!(%error, "failed to delete stale UDP flows"),
    }
}

/// Why flows were not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteFlowsError {
    #[error("failed to reach connection tracking")]
    Open {
        #[source]
        source: OpenError,
    },
    #[error("connection tracking refused")]
    Request {
        #[source]
        source: RequestError,
    },
}

/// [`delete`], at once and in the thread's own namespace; says how many.
pub fn delete_now(stale: &[Stale]) -> Result<usize, DeleteFlowsError> {
    let conntrack = Conntrack::here().map_err(|source| DeleteFlowsError::Open { source })?;
    let filters: Vec<FlowFilter> = stale.iter().map(filter).collect();
    conntrack.delete_udp(&filters).map_err(|source| DeleteFlowsError::Request { source })
}

fn filter(stale: &Stale) -> FlowFilter {
    FlowFilter { to: stale.to, port: stale.port, translated_to: stale.endpoint }
}

fn is_same(a: &ServicePort, b: &ServicePort) -> bool {
    (a.protocol, &a.port_name, a.port) == (b.protocol, &b.port_name, b.port)
}

fn endpoints(choice: &Choice) -> impl Iterator<Item = IpAddr> {
    choice.cluster.iter().chain(&choice.local).map(|(ip, _)| *ip)
}

fn destinations(port: &ServicePort) -> impl Iterator<Item = (Option<IpAddr>, u16)> {
    let external = port.external_ips.iter().chain(&port.load_balancer_ips);
    let addresses = port.cluster_ips.iter().chain(external).map(|ip| (Some(*ip), port.port));
    addresses.chain(port.node_port.map(|port| (None, port)))
}
