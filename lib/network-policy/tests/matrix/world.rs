//! Namespaces x, y, z with pods a, b, c, and what may pass between them.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use api_kube::policy_endpoint::PolicyEndpointSpec;
use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use network_policy::{Direction, PodRules, Protocol, World, resolve};
use serde_json::{Value, json};

pub(crate) const NAMESPACES: [&str; 3] = ["x", "y", "z"];
pub(crate) const PODS: [&str; 3] = ["a", "b", "c"];
pub(crate) const PORTS: [u16; 2] = [80, 81];

/// A pod by its place in the two lists above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) ns: &'static str,
    pub(crate) pod: &'static str,
}

impl At {
    pub(crate) fn all() -> Vec<Self> {
        NAMESPACES.iter().flat_map(|ns| PODS.map(|pod| Self { ns, pod })).collect()
    }

    pub(crate) fn address(self) -> IpAddr {
        let number = |text: &str, first: u8| text.as_bytes()[0] - first;
        [10, 0, number(self.ns, b'x'), 10 + number(self.pod, b'a')].into()
    }

    /// Everybody has `web` and `dns`; c's are the other way round.
    pub(crate) fn named(self, name: &str, protocol: &str) -> Option<u16> {
        let is_c = self.pod == "c";
        match (name, protocol) {
            ("web", "TCP") => Some(if is_c { 81 } else { 80 }),
            ("dns", "UDP") => Some(if is_c { 80 } else { 81 }),
            ("only-a", "TCP") if self.pod == "a" => Some(81),
            _ => None,
        }
    }

    fn object(self) -> Pod {
        let names = [("web", "TCP"), ("dns", "UDP"), ("only-a", "TCP")];
        let ports: Vec<Value> = names
            .iter()
            .filter_map(|(name, protocol)| {
                let port = self.named(name, protocol)?;
                Some(json!({"name": name, "protocol": protocol, "containerPort": port}))
            })
            .collect();
        serde_json::from_value(json!({
            "metadata": {"namespace": self.ns, "name": self.pod, "labels": {"pod": self.pod}},
            "spec": {"containers": [{"name": "main", "ports": ports}]},
            "status": {"phase": "Running", "podIP": self.address(), "hostIP": "192.168.0.1"},
        }))
        .unwrap()
    }
}

pub(crate) struct Cluster {
    pods: BTreeMap<&'static str, Vec<Arc<Pod>>>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let mut pods: BTreeMap<&'static str, Vec<Arc<Pod>>> = BTreeMap::new();
        for at in At::all() {
            pods.entry(at.ns).or_default().push(Arc::new(at.object()));
        }
        Self { pods }
    }

    pub(crate) fn resolve(&self, policies: &[NetworkPolicy], chunk: usize) -> Enforced {
        let specs: Vec<PolicyEndpointSpec> =
            policies.iter().flat_map(|it| resolve(it, self, chunk)).collect();
        let rules =
            At::all().into_iter().map(|it| (it.address(), PodRules::of(it.address(), &specs)));
        Enforced { rules: rules.collect() }
    }
}

impl World for Cluster {
    fn pods_in(&self, namespace: &str) -> Vec<Arc<Pod>> {
        self.pods.get(namespace).cloned().unwrap_or_default()
    }

    fn namespaces(&self) -> Vec<Arc<Namespace>> {
        let namespace = |ns: &&str| {
            let labels = json!({"ns": ns, "kubernetes.io/metadata.name": ns});
            let object = json!({"metadata": {"name": ns, "labels": labels}});
            Arc::new(serde_json::from_value(object).unwrap())
        };
        NAMESPACES.iter().map(namespace).collect()
    }
}

/// What is decided on the values that the kernel gets.
pub(crate) struct Enforced {
    rules: BTreeMap<IpAddr, PodRules>,
}

impl Enforced {
    pub(crate) fn allows(&self, from: At, to: At, protocol: Protocol, port: u16) -> bool {
        if from == to {
            return true;
        }
        let (source, target) = (from.address(), to.address());
        self.rules[&source].allows(Direction::Egress, target, protocol, port)
            && self.rules[&target].allows(Direction::Ingress, source, protocol, port)
    }
}

/// A policy named `p` in namespace `ns`.
pub(crate) fn policy(ns: &str, spec: Value) -> NetworkPolicy {
    serde_json::from_value(json!({"metadata": {"namespace": ns, "name": "p"}, "spec": spec}))
        .unwrap()
}
