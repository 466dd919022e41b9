//! Ways by node ports, external addresses and host ports, hop by hop.

use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use serde_json::{Value, json};

use super::*;
use crate::{
    admin::VpcVerdict,
    commands::explain::path::{Explanation, Vpc, cluster::Cni, explain, rendered},
};

/// A VPC of 10.0.0.0/16 in which everything is open but one address.
struct Open(&'static str);

impl Vpc for Open {
    async fn ask(
        &self,
        from: &str,
        to: IpAddr,
        port: u16,
        _: PathProtocol,
    ) -> anyhow::Result<VpcVerdict> {
        let is_allowed = to.to_string() != self.0;
        Ok(VpcVerdict {
            vpc: "vpc-1".to_owned(),
            from: from.parse()?,
            // That of a second interface.
            interface_address: (from == "10.0.0.11").then(|| [10, 0, 0, 5].into()),
            cidrs: vec!["10.0.0.0/16".parse()?],
            is_allowed,
            arrives: is_allowed,
            reason: format!("{from} to {to}:{port}"),
            steps: Vec::new(),
        })
    }
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// Two nodes; a client on the first one; `web` on the second one, isolated, with a host port; its Service
/// has a node port and an external address, and `alone` has a node port and nobody behind it.
fn cluster(external_policy: &str) -> Cluster {
    let node = |name: &str, address: &str| -> Node {
        object(json!({ "metadata": { "name": name },
            "status": { "addresses": [{ "type": "InternalIP", "address": address }] } }))
    };
    let pod = |name: &str, node: &str, address: &str, ports: Value| -> Pod {
        object(json!({ "metadata": { "name": name, "namespace": "a" },
            "spec": { "nodeName": node, "containers": [{ "name": "c", "ports": ports }] },
            "status": { "phase": "Running", "podIP": address } }))
    };
    let service = |name: &str, last: u8, node_port: u16, external: &[&str]| -> Service {
        let ip = format!("10.100.0.{last}");
        object(json!({ "metadata": { "name": name, "namespace": "a" },
            "spec": { "type": "NodePort", "clusterIP": ip, "clusterIPs": [ip],
                "externalIPs": external, "externalTrafficPolicy": external_policy,
                "ports": [{ "port": 80, "protocol": "TCP", "nodePort": node_port }] } }))
    };
    let slice: EndpointSlice = object(json!({
        "metadata": { "name": "web-1", "namespace": "a",
            "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4", "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
        "endpoints": [{ "addresses": ["10.0.0.20"], "nodeName": "n2",
            "conditions": { "ready": true } }],
    }));
    // It takes what comes from the first node alone.
    let policy = object(json!({
        "apiVersion": "networking.k8s.aws/v1alpha1", "kind": "PolicyEndpoint",
        "metadata": { "name": "p-1", "namespace": "a" },
        "spec": {
            "podSelector": {}, "policyRef": { "name": "p", "namespace": "a" },
            "podIsolation": ["Ingress"],
            "podSelectorEndpoints":
                [{ "namespace": "a", "name": "web", "podIP": "10.0.0.20", "hostIP": "10.0.0.2" }],
            "ingress": [{ "cidr": "10.0.0.1", "ports": [{ "protocol": "TCP", "port": 8080 }] }],
        },
    }));
    let host_port = json!([{ "containerPort": 8080, "hostPort": 18080 }]);
    Cluster {
        pods: vec![
            pod("client", "n1", "10.0.0.10", json!([])),
            pod("second", "n1", "10.0.0.11", json!([])),
            pod("web", "n2", "10.0.0.20", host_port),
        ],
        nodes: vec![node("n1", "10.0.0.1"), node("n2", "10.0.0.2")],
        services: vec![
            service("web", 9, 30080, &["198.51.100.7", "10.0.0.1"]),
            service("alone", 8, 30099, &[]),
        ],
        slices: vec![slice],
        policies: Some(vec![policy]),
        is_strict: false,
        cni: Cni::default(),
    }
}

async fn told(from: &str, to: &str, external_policy: &str) -> Explanation {
    let cluster = cluster(external_policy);
    explain(&cluster, &Open(""), from, to, PathProtocol::Tcp).await.unwrap()
}

/// The hops of the only way, with those before it.
fn way(told: &Explanation) -> Vec<&str> {
    let its = told.targets.iter().flat_map(|it| &it.hops);
    told.hops.iter().chain(its).map(|it| it.hop.as_str()).collect()
}

#[tokio::test]
async fn a_node_port_of_the_senders_own_node_leads_on_with_the_nodes_address() {
    let told = told("a/client", "10.0.0.1:30080", "Cluster").await;
    assert!(told.is_allowed, "{}", rendered(&told));
    let egress = "network policy egress";
    assert_eq!(way(&told), ["Service", egress, "SNAT", "network policy ingress"]);
    assert_eq!(told.targets[0].hops[1].detail, "kube-proxy translates 10.0.0.10 to 10.0.0.1");
    assert_eq!(told.targets[0].reason, "10.0.0.1 to 10.0.0.20:8080");
    assert_eq!(told.targets[0].pod.as_deref(), Some("a/web"));
}

#[tokio::test]
async fn a_pod_of_a_second_interface_is_sent_on_with_that_interfaces_address() {
    let told = told("a/second", "10.0.0.1:30080", "Cluster").await;
    assert_eq!(told.targets[0].hops[1].detail, "kube-proxy translates 10.0.0.11 to 10.0.0.5");
    assert!(!told.is_allowed, "the policy takes the first interface's alone");
}

#[tokio::test]
async fn a_node_port_of_another_node_is_policed_there_by_the_senders_address() {
    let told = told("a/client", "10.0.0.2:30080", "Cluster").await;
    assert!(!told.is_allowed);
    assert_eq!(way(&told), ["network policy egress", "Service", "network policy ingress"]);
    assert_eq!(told.reason, "none of a/web's policies allows it: a/p");
    let closed = Open("10.0.0.2");
    let cluster = cluster("Cluster");
    let at_node = explain(&cluster, &closed, "a/client", "10.0.0.2:30080", PathProtocol::Tcp);
    assert_eq!(at_node.await.unwrap().reason, "10.0.0.10 to 10.0.0.2:30080");
}

#[tokio::test]
async fn a_node_port_without_endpoints_is_refused_and_one_without_local_ones_drops() {
    let alone = told("a/client", "10.0.0.1:30099", "Cluster").await;
    assert!(!alone.is_allowed && alone.reason.contains("refuses it"), "{}", alone.reason);
    let local = told("a/client", "10.0.0.1:30080", "Local").await;
    assert!(!local.is_allowed && local.reason.ends_with("it is dropped"), "{}", local.reason);
    // What the node itself sends is not bound by it.
    assert!(told("node/n1", "10.0.0.1:30080", "Local").await.is_allowed);
}

#[tokio::test]
async fn an_external_address_is_every_nodes_and_also_where_a_node_has_it() {
    for to in ["198.51.100.7:80", "10.0.0.1:80"] {
        for from in ["a/client", "node/n1"] {
            let told = told(from, to, "Cluster").await;
            assert!(told.is_allowed, "{}", rendered(&told));
            assert!(told.hops[0].detail.contains("external address"), "{}", told.hops[0].detail);
        }
    }
    assert!(told("a/client", "198.51.100.7:81", "Cluster").await.hops.is_empty());
}

#[tokio::test]
async fn a_host_port_leads_to_its_pod_past_the_pods_policies() {
    let far = told("a/client", "10.0.0.2:18080", "Cluster").await;
    assert_eq!(way(&far), ["network policy egress", "host port", "network policy ingress"]);
    assert_eq!(far.reason, "none of a/web's policies allows it: a/p");
    assert!(told("node/n1", "10.0.0.2:18080", "Cluster").await.is_allowed);
    for to in ["10.0.0.2:18080", "127.0.0.1:18080"] {
        let own = told("node/n2", to, "Cluster").await;
        assert!(own.is_allowed && own.targets[0].pod.as_deref() == Some("a/web"), "{to}");
    }
    // On the other node it is nobody's.
    assert!(told("node/n2", "10.0.0.1:18080", "Cluster").await.hops.is_empty());
}

#[tokio::test]
async fn a_loopback_address_never_leaves_who_asks() {
    for from in ["a/client", "node/n1"] {
        for to in ["127.0.0.1:30080", "[::1]:80"] {
            let told = told(from, to, "Cluster").await;
            assert_eq!(way(&told), ["loopback"], "{from} {to}");
        }
    }
}

#[tokio::test]
async fn a_load_balancers_address_lets_in_whom_its_ranges_hold() {
    let mut cluster = cluster("Cluster");
    let service = &mut cluster.services[0];
    service.spec.as_mut().unwrap().load_balancer_source_ranges = Some(vec!["10.0.0.8/30".into()]);
    service.status =
        Some(object(json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.5" }] } })));
    for (from, is_allowed) in [("a/client", true), ("node/n1", false)] {
        let told = explain(&cluster, &Open(""), from, "203.0.113.5:80", PathProtocol::Tcp).await;
        let told = told.unwrap();
        assert_eq!(told.is_allowed, is_allowed, "{}", rendered(&told));
    }
}
