//! A Service of type LoadBalancer, from its load balancer on: to the instances that are in service, by
//! their node port, and from there as [`super::arrival`] says.

use std::net::IpAddr;

use kube_proxy::service_map::ServicePort;

use super::{
    Explanation, Hop, Target, Verdict, Vpc,
    arrival::Arrival,
    cluster::Cluster,
    entries::{Entry, Kind},
    hops_of,
    parties::Party,
    service,
};
use crate::{
    admin::{BalancerMember, BalancerNode, BalancerView},
    cli::PathProtocol,
};

/// What `--from` calls it.
pub(super) const LOAD_BALANCER: &str = "load-balancer";

pub(super) async fn explain(
    cluster: &Cluster,
    vpc: &impl Vpc,
    balancer: &BalancerView,
    service: &k8s_openapi::api::core::v1::Service,
    port: Option<&str>,
) -> anyhow::Result<Explanation> {
    let mut told = Explanation {
        from: format!("load balancer {}", balancer.name),
        to: service::name_of(service),
        protocol: PathProtocol::Tcp.name(),
        is_allowed: false,
        verdict: Verdict::default(),
        reached: 0,
        reason: String::new(),
        hops: Vec::new(),
        targets: Vec::new(),
    };
    let found = match service::find_port(service, port, PathProtocol::Tcp) {
        Ok(found) => found,
        Err(hop) => return Ok(told.refused(hop)),
    };
    let listener = balancer.listeners.iter().find(|it| it.port == found.port);
    let Some(listener) = listener.filter(|it| Some(it.instance_port) == found.node_port) else {
        let detail = format!(
            "{} has no listener at port {} for node port {}",
            balancer.name,
            found.port,
            found.node_port.map_or("none".to_owned(), |it| it.to_string())
        );
        return Ok(told.refused(Hop::new("listener", false, detail)));
    };
    let (port, instance_port) = (listener.port, listener.instance_port);
    let detail =
        format!("{} port {port} leads to port {instance_port} of instances", listener.protocol);
    told.hops.push(Hop::new("listener", true, detail));
    let health = health(&balancer.members);
    if !health.is_allowed {
        return Ok(told.refused(health));
    }
    told.hops.push(health);
    for member in balancer.members.iter().filter(|it| it.is_in_service) {
        let reaches = |it: &&BalancerNode| balancer.is_cross_zone || it.zone == member.zone;
        let Some(node) = cluster.party_at(member.address.into()) else { continue };
        for from in balancer.nodes.iter().filter(reaches) {
            let by = targets(cluster, vpc, &found, from.address.into(), &node);
            told.targets.extend(by.await?);
        }
    }
    Ok(told.decided("no node sends to an instance"))
}

/// Who is sent to; where it is nobody nothing comes through.
fn health(members: &[BalancerMember]) -> Hop {
    let out: Vec<&str> =
        members.iter().filter(|it| !it.is_in_service).map(|it| it.instance.as_str()).collect();
    let able = members.len() - out.len();
    let mut detail = format!("{able} of {} instances are in service", members.len());
    if !out.is_empty() {
        detail += &format!("; not {}", out.join(", "));
    }
    Hop::new("health check", able > 0, detail)
}

/// From one interface of the load balancer to one node and on: one for each endpoint that the node
/// may choose.
async fn targets(
    cluster: &Cluster,
    vpc: &impl Vpc,
    port: &ServicePort,
    from: IpAddr,
    node: &Party,
) -> anyhow::Result<Vec<Target>> {
    let (Some(address), Some(node_port)) = (node.address, port.node_port) else {
        return Ok(Vec::new());
    };
    let protocol = PathProtocol::Tcp;
    let verdict = vpc.ask(&from.to_string(), address, node_port, protocol).await?;
    let hops = hops_of(&verdict);
    let arrival = Arrival { cluster, vpc, node, source: from, protocol, hops };
    let entry = Entry::Service { port: port.clone(), kind: Kind::NodePort };
    arrival.by(&entry, (address, node_port)).await
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{
        core::v1::{Node, Pod, Service},
        discovery::v1::EndpointSlice,
    };
    use serde_json::{Value, json};

    use super::{super::cluster::Cni, *};
    use crate::admin::{BalancerListener, VpcVerdict};

    /// A VPC in which one address is not reached.
    struct Closed(&'static str);

    impl Vpc for Closed {
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
                interface_address: None,
                cidrs: Vec::new(),
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

    fn service(policy: &str) -> Service {
        object(json!({
            "metadata": { "name": "web", "namespace": "a" },
            "spec": { "type": "LoadBalancer", "clusterIP": "10.100.0.9", "clusterIPs": ["10.100.0.9"],
                "externalTrafficPolicy": policy,
                "ports": [{ "port": 80, "protocol": "TCP", "nodePort": 30080 }] },
        }))
    }

    /// Two nodes, one pod, on the second of them.
    fn cluster() -> Cluster {
        let node = |name: &str, address: &str| -> Node {
            object(json!({ "metadata": { "name": name },
                "status": { "addresses": [{ "type": "InternalIP", "address": address }] } }))
        };
        let pod: Pod = object(json!({ "metadata": { "name": "p", "namespace": "a" },
            "spec": { "nodeName": "n2", "containers": [] },
            "status": { "phase": "Running", "podIP": "10.0.0.20" } }));
        let slice: EndpointSlice = object(json!({
            "metadata": { "name": "web-1", "namespace": "a",
                "labels": { "kubernetes.io/service-name": "web" } },
            "addressType": "IPv4", "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
            "endpoints": [{ "addresses": ["10.0.0.20"], "nodeName": "n2",
                "conditions": { "ready": true } }],
        }));
        Cluster {
            pods: vec![pod],
            nodes: vec![node("n1", "10.0.0.1"), node("n2", "10.0.0.2")],
            services: Vec::new(),
            slices: vec![slice],
            policies: None,
            is_strict: false,
            cni: Cni::default(),
        }
    }

    fn view(in_service: [bool; 2]) -> BalancerView {
        let member = |number: u8, is_in_service| BalancerMember {
            instance: format!("i-{number}"),
            address: [10, 0, 0, number].into(),
            zone: "z".to_owned(),
            is_in_service,
        };
        BalancerView {
            name: "lb".to_owned(),
            is_cross_zone: false,
            listeners: vec![BalancerListener {
                port: 80,
                protocol: "TCP".to_owned(),
                instance_port: 30080,
            }],
            nodes: vec![
                BalancerNode { address: [10, 0, 0, 9].into(), zone: "z".to_owned() },
                BalancerNode { address: [10, 0, 1, 9].into(), zone: "y".to_owned() },
            ],
            members: vec![member(1, in_service[0]), member(2, in_service[1])],
        }
    }

    async fn told(closed: &'static str, policy: &str, in_service: [bool; 2]) -> Explanation {
        let (cluster, service) = (cluster(), service(policy));
        explain(&cluster, &Closed(closed), &view(in_service), &service, None).await.unwrap()
    }

    fn way(target: &Target) -> Vec<&str> {
        target.hops.iter().map(|it| it.hop.as_str()).collect()
    }

    #[tokio::test]
    async fn every_instance_in_service_leads_to_the_pod_the_far_one_by_its_own_address() {
        let told = told("", "Cluster", [true, true]).await;
        assert!(told.is_allowed, "{told:?}");
        assert_eq!(told.targets.len(), 2, "only the load balancer's node of their zone sends");
        assert_eq!(way(&told.targets[0]), ["Service", "SNAT"]);
        assert_eq!(way(&told.targets[1]), ["Service"]);
        let names: Vec<_> = told.targets.iter().map(|it| it.pod.clone().unwrap()).collect();
        assert_eq!(names, ["a/p", "a/p"]);
    }

    #[tokio::test]
    async fn a_closed_node_port_or_a_closed_way_between_nodes_is_named() {
        let at_node = told("10.0.0.1", "Cluster", [true, true]).await;
        assert!(!at_node.is_allowed);
        assert_eq!(at_node.reason, "10.0.0.9 to 10.0.0.1:30080");
        // The other instance leads there.
        assert_eq!((at_node.verdict, at_node.reached), (Verdict::Partly, 1));
        let between = told("10.0.0.20", "Cluster", [true, false]).await;
        assert!(!between.is_allowed);
        assert_eq!(between.reason, "10.0.0.1 to 10.0.0.20:8080");
    }

    #[tokio::test]
    async fn who_is_out_of_service_gets_nothing_and_with_nobody_nothing_comes_through() {
        let local = told("", "Local", [false, true]).await;
        assert!(local.is_allowed, "{local:?}");
        assert_eq!(local.targets.len(), 1);
        assert_eq!(local.hops[1].detail, "1 of 2 instances are in service; not i-1");
        let without = told("", "Local", [true, true]).await;
        assert!(!without.is_allowed, "n1 has no endpoint of its own");
        let nobody = told("", "Cluster", [false, false]).await;
        assert!(!nobody.is_allowed && nobody.targets.is_empty());
        assert_eq!(nobody.reason, "0 of 2 instances are in service; not i-1, i-2");
    }
}
