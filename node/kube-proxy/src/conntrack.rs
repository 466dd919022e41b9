//! UDP flows that still go to endpoints that are no more.
//!
//! A TCP client notices that its peer is gone; a UDP client (a resolver, mostly) goes on sending,
//! and the kernel goes on translating to the old endpoint as long as packets come. So the flows to
//! a Service that has changed are compared with its endpoints: those that go to nobody's, and those
//! that went nowhere while there was no endpoint, are deleted. At the start that is every Service.
//!
//! Upstream: `pkg/proxy/conntrack`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use linux_netlink::{Conntrack, Flow, OpenError, RequestError};

use crate::{
    endpoint_slices::Choice,
    service_map::{Protocol, ServicePort},
};

/// Who may answer what clients of changed Services send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    by_address: BTreeMap<(IpAddr, u16), BTreeSet<IpAddr>>,
    by_node_port: BTreeMap<u16, BTreeSet<IpAddr>>,
}

impl Expected {
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty() && self.by_node_port.is_empty()
    }

    /// Adds a Service that changed from `old` to `new`. What only the old one had, nobody answers.
    pub fn add(&mut self, old: &[(ServicePort, Choice)], new: &[(ServicePort, Choice)]) {
        let is_udp = |it: &&(ServicePort, Choice)| it.0.protocol == Protocol::Udp;
        for (port, _) in old.iter().filter(is_udp) {
            self.addresses(port, |_| {});
        }
        for (port, choice) in new.iter().filter(is_udp) {
            let endpoints = || choice.cluster.iter().chain(&choice.local).map(|(ip, _)| *ip);
            self.addresses(port, |known| known.extend(endpoints()));
        }
    }

    /// Takes over what a later pass expects; where both speak of one port, the later one is right.
    pub fn follow(&mut self, later: Self) {
        self.by_address.extend(later.by_address);
        self.by_node_port.extend(later.by_node_port);
    }

    fn addresses(&mut self, port: &ServicePort, mut each: impl FnMut(&mut BTreeSet<IpAddr>)) {
        let external = port.external_ips.iter().chain(&port.load_balancer_ips);
        for ip in port.cluster_ips.iter().chain(external) {
            each(self.by_address.entry((*ip, port.port)).or_default());
        }
        if let Some(number) = port.node_port {
            each(self.by_node_port.entry(number).or_default());
        }
    }

    /// Whether a flow goes where nobody of its Service is.
    pub fn is_stale(&self, flow: &Flow) -> bool {
        let is_translated = flow.answered_by != flow.to;
        if let Some(endpoints) = self.by_address.get(&(flow.to, flow.port)) {
            return !endpoints.contains(&flow.answered_by)
                && (is_translated || !endpoints.is_empty());
        }
        // Another machine may have something of its own at that port.
        let endpoints = self.by_node_port.get(&flow.port);
        is_translated && endpoints.is_some_and(|it| !it.contains(&flow.answered_by))
    }
}

/// Deletes the flows of one family; says how many. What cannot be deleted times out by itself.
pub async fn delete(expected: Expected, is_ipv4: bool) -> usize {
    let done = tokio::task::spawn_blocking(move || delete_now(&expected, is_ipv4)).await;
    match done {
        Ok(Ok(count)) => {
            tracing::debug!(count, "deleted stale UDP flows");
            count
        }
        Ok(Err(error)) => {
            let error = telemetry::chain(&error).to_string();
            tracing::warn!(error, "failed to delete stale UDP flows");
            0
        }
        Err(error) => {
            tracing::warn!(%error, "failed to delete stale UDP flows");
            0
        }
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

/// [`delete`], at once and in the thread's own namespace.
pub fn delete_now(expected: &Expected, is_ipv4: bool) -> Result<usize, DeleteFlowsError> {
    let conntrack = Conntrack::here().map_err(|source| DeleteFlowsError::Open { source })?;
    let deleted = conntrack.delete_udp(is_ipv4, |flow| expected.is_stale(flow));
    deleted.map_err(|source| DeleteFlowsError::Request { source })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::service_map::ports_of;

    fn service(endpoints: &[&str]) -> Vec<(ServicePort, Choice)> {
        let value = json!({
            "metadata": { "namespace": "default", "name": "dns" },
            "spec": {
                "clusterIP": "10.100.0.10",
                "ports": [{ "port": 53, "protocol": "UDP", "nodePort": 30053 }],
            },
        });
        let cluster = endpoints.iter().map(|ip| (ip.parse().unwrap(), 5353)).collect();
        let port = ports_of(&serde_json::from_value(value).unwrap()).remove(0);
        vec![(port, Choice { cluster, ..Choice::default() })]
    }

    fn flow(to: &str, port: u16, answered_by: &str) -> Flow {
        Flow {
            from: "192.168.0.99".parse().unwrap(),
            to: to.parse().unwrap(),
            port,
            answered_by: answered_by.parse().unwrap(),
        }
    }

    #[test]
    fn flows_to_endpoints_that_serve_stay_and_others_go() {
        let mut expected = Expected::default();
        expected.add(&service(&["192.168.0.1"]), &service(&["192.168.0.2"]));
        assert!(expected.is_stale(&flow("10.100.0.10", 53, "192.168.0.1")));
        assert!(!expected.is_stale(&flow("10.100.0.10", 53, "192.168.0.2")));
        assert!(expected.is_stale(&flow("10.100.0.10", 53, "10.100.0.10")), "it went nowhere");
        assert!(!expected.is_stale(&flow("10.100.0.10", 54, "192.168.0.1")));
        assert!(expected.is_stale(&flow("192.168.0.7", 30053, "192.168.0.1")));
    }

    #[test]
    fn what_a_pass_that_failed_expected_holds_until_a_later_one_knows_better() {
        let (mut first, mut second) = (Expected::default(), Expected::default());
        first.add(&service(&["192.168.0.1"]), &service(&["192.168.0.2"]));
        second.add(&service(&["192.168.0.2"]), &service(&["192.168.0.3"]));
        first.follow(Expected::default());
        assert!(first.is_stale(&flow("10.100.0.10", 53, "192.168.0.1")));
        first.follow(second);
        assert!(first.is_stale(&flow("10.100.0.10", 53, "192.168.0.2")));
        assert!(!first.is_stale(&flow("10.100.0.10", 53, "192.168.0.3")));
    }

    #[test]
    fn a_node_port_of_ours_is_not_another_machines() {
        let mut expected = Expected::default();
        expected.add(&[], &service(&["192.168.0.2"]));
        assert!(!expected.is_stale(&flow("8.8.8.8", 30053, "8.8.8.8")));
    }

    #[test]
    fn where_nobody_serves_any_more_only_translated_flows_go() {
        let mut expected = Expected::default();
        expected.add(&service(&["192.168.0.1"]), &[]);
        assert!(expected.is_stale(&flow("10.100.0.10", 53, "192.168.0.1")));
        assert!(!expected.is_stale(&flow("10.100.0.10", 53, "10.100.0.10")));
    }
}
