//! Node ports, external addresses, load balancers.

use std::{net::IpAddr, time::Duration};

use kube_proxy::{
    compile::{LocalDetector, NodePorts, Options},
    service_map::ports_of,
};
use linux_nftables::Family;
use serde_json::json;

use crate::world::{VIP, World, name, options, slice_in, world, world_with};

#[test]
fn a_node_port_is_masqueraded_or_local() {
    let Some(mut world) = world("c", 3) else { return };
    world.serve(1);
    world.serve(2);
    let spec = |policy: &str| {
        json!({
            "type": "NodePort",
            "clusterIP": "10.100.0.20",
            "externalTrafficPolicy": policy,
            "ports": [{ "port": 80, "nodePort": 30080 }],
        })
    };
    world.service(spec("Cluster"));
    world.endpoints(&[(1, "node"), (2, "other")]);
    world.sync();
    let (_, peer) = world.ask(Some(0), "10.0.0.1:30080").unwrap();
    assert_ne!(peer.to_string(), "10.0.0.2");

    world.service(spec("Local"));
    world.sync();
    for _ in 0..12 {
        let heard = world.ask(Some(0), "10.0.0.1:30080").unwrap();
        assert_eq!((heard.0, heard.1.to_string()), (1, "10.0.0.2".to_owned()));
    }
    let heard: Vec<u8> = (0..24).map(|_| world.ask(None, "10.0.0.1:30080").unwrap().0).collect();
    assert!(heard.contains(&2), "what begins on the node may go anywhere: {heard:?}");

    world.endpoints(&[(2, "other")]);
    world.sync();
    let error = world.ask(Some(0), "10.0.0.1:30080").unwrap_err();
    assert!(matches!(error, std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock));
    assert_eq!(world.ask(None, "10.0.0.1:30080").unwrap().0, 2);
}

/// TCP and UDP, IPv4 and IPv6: each the same.
#[test]
fn node_ports_and_external_addresses_do_the_same_for_udp_and_for_ipv6() {
    let six = Options { family: Family::Ip6, ..options() };
    let Some(mut world) = world_with("p", 3, &[options(), six]) else { return };
    for machine in [1, 2] {
        world.serve(machine);
        world.serve_udp(machine);
    }
    for protocol in ["TCP", "UDP"] {
        let spec = |policy: &str| {
            json!({
                "type": "NodePort",
                "clusterIPs": ["10.100.0.20", "fd00:100::20"],
                "externalIPs": ["203.0.113.9", "fd00:113::9"],
                "externalTrafficPolicy": policy,
                "ports": [{ "port": 80, "nodePort": 30080, "protocol": protocol }],
            })
        };
        let give = |world: &mut World, machines: &[(u8, &str)]| {
            for kind in ["IPv4", "IPv6"] {
                let slice = slice_in(kind, machines, protocol);
                world.proxier.set_slice(&name(), kind, Some(slice));
            }
            world.sync();
        };
        let ask = |world: &World, client, address: &str| match protocol {
            "TCP" => world.ask(client, address),
            _ => world.ask_udp(client, address),
        };
        for (client, node_port, external) in [
            ("10.0.0.2", "10.0.0.1:30080", "203.0.113.9:80"),
            ("fd00::2", "[fd00:0::1]:30080", "[fd00:113::9]:80"),
        ] {
            let client: IpAddr = client.parse().unwrap();
            for address in [node_port, external] {
                world.service(spec("Cluster"));
                give(&mut world, &[(1, "node"), (2, "other")]);
                let all = |world: &World| -> Vec<(u8, IpAddr)> {
                    (0..24).map(|_| ask(world, Some(0), address).unwrap()).collect()
                };
                let heard = all(&world);
                let what = format!("{protocol} {address}: {heard:?}");
                assert!([1, 2].iter().all(|it| heard.iter().any(|(n, _)| n == it)), "{what}");
                assert!(heard.iter().all(|(_, peer)| *peer != client), "{what}");

                world.service(spec("Local"));
                world.sync();
                let heard = all(&world);
                assert!(heard.iter().all(|it| *it == (1, client)), "{protocol}: {heard:?}");
                give(&mut world, &[(2, "other")]);
                let error = ask(&world, Some(0), address).unwrap_err();
                let waited = [std::io::ErrorKind::TimedOut, std::io::ErrorKind::WouldBlock];
                assert!(waited.contains(&error), "{protocol} {address}: {error}");
            }
        }
    }
}

#[test]
fn load_balancer_addresses_obey_their_source_ranges() {
    let Some(mut world) = world("e", 2) else { return };
    world.serve(1);
    let spec = |range: &str| {
        let value = json!({
            "metadata": { "namespace": "default", "name": "web" },
            "spec": {
                "clusterIP": "10.100.0.20",
                "loadBalancerSourceRanges": [range],
                "ports": [{ "port": 80 }],
            },
            "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.9" }] } },
        });
        ports_of(&serde_json::from_value(value).unwrap())
    };
    world.proxier.set_service(&name(), spec("10.0.0.0/24"));
    world.endpoints(&[(1, "node")]);
    world.sync();
    assert_eq!(world.ask(Some(0), "203.0.113.9:80").unwrap().0, 1);
    world.proxier.set_service(&name(), spec("198.51.100.0/24"));
    world.sync();
    assert!(world.ask(Some(0), "203.0.113.9:80").is_err());
    assert_eq!(world.ask(Some(0), VIP).unwrap().0, 1, "the cluster address is not restricted");
}

#[test]
fn node_ports_are_open_on_the_nodes_own_address_alone() {
    let own = Options {
        node_ports: NodePorts::Primary,
        node_ip: Some([10, 0, 0, 1].into()),
        ..options()
    };
    let Some(mut world) = world_with("h", 2, &[own]) else { return };
    world.serve(1);
    let ports = json!([{ "port": 80, "nodePort": 30080 }]);
    world.service(json!({ "clusterIP": "10.100.0.20", "type": "NodePort", "ports": ports }));
    world.endpoints(&[(1, "node")]);
    world.sync();
    assert_eq!(world.ask(Some(0), "10.0.0.1:30080").unwrap().0, 1);
    assert!(world.ask(Some(0), "10.1.0.1:30080").is_err());

    // The node's address changes, and some networks are named.
    let wide = NodePorts::Cidrs(vec!["10.1.0.0/16".parse().unwrap()]);
    world.proxier.set_options(vec![Options { node_ports: wide, ..options() }]);
    world.sync();
    assert_eq!(world.ask(Some(0), "10.1.0.1:30080").unwrap().0, 1);
    assert!(world.ask(Some(0), "10.0.0.1:30080").is_err());
    // Nobody knows the address yet: there are no node ports.
    world.proxier.set_options(vec![Options { node_ports: NodePorts::Primary, ..options() }]);
    world.sync();
    assert!(world.ask(Some(0), "10.1.0.1:30080").is_err());
    assert_eq!(world.ask(Some(0), VIP).unwrap().0, 1);
}

/// A pod that uses an external address meets the whole cluster, whatever the policy for others is.
#[test]
fn pods_are_not_bound_by_the_policy_for_others() {
    let pods = LocalDetector::Prefix("m1".into());
    let Some(mut world) = world_with("j", 3, &[Options { local: pods, ..options() }]) else {
        return;
    };
    world.serve(2);
    let spec = json!({
        "clusterIP": "10.100.0.20",
        "externalIPs": ["203.0.113.9"],
        "externalTrafficPolicy": "Local",
        "ports": [{ "port": 80 }],
    });
    world.service(spec);
    world.endpoints(&[(2, "other")]);
    world.sync();
    assert_eq!(world.ask(Some(1), "203.0.113.9:80").unwrap(), (2, [10, 1, 0, 2].into()));
    assert!(world.ask(Some(0), "203.0.113.9:80").is_err());
    // To the cluster address, what is no pod is masqueraded.
    assert_eq!(world.ask(Some(1), VIP).unwrap().1, IpAddr::from([10, 1, 0, 2]));
    assert_ne!(world.ask(Some(0), VIP).unwrap().1, IpAddr::from([10, 0, 0, 2]));
}

/// What a load balancer hears at the port for health checks.
#[tokio::test]
async fn a_load_balancer_hears_whether_the_node_has_endpoints() {
    use kube_proxy::{health::Health, metrics::Metrics, service_health::HealthPorts};
    let Some(mut world) = world("o", 2) else { return };
    let spec = |kind: &str| {
        json!({
            "type": kind,
            "clusterIP": "10.100.0.20",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 32000,
            "ports": [{ "port": 80, "nodePort": 30080 }],
        })
    };
    let health = Health::new(clock::Clock::system(), Metrics::new(1), Duration::from_secs(60));
    let scope = lifecycle::Scope::new();
    let place = transport::Place::Netns(world.node.path());
    let mut ports = HealthPorts::new(health.into(), place, scope.clone());
    let machine = world.machines[0].path();
    let ask = || {
        let machine = transport::Place::Netns(machine.clone());
        async move {
            let address = "10.0.0.1:32000".parse().unwrap();
            let stream = machine.connect(address, Duration::from_secs(2)).await?;
            let (mut reader, mut writer) = tokio::io::split(stream);
            let request = b"GET / HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut writer, request).await?;
            let mut text = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut reader, &mut text).await?;
            Ok::<_, std::io::Error>(text)
        }
    };
    world.service(spec("LoadBalancer"));
    world.endpoints(&[(1, "node"), (0, "other")]);
    assert!(ports.update(world.proxier.local_counts()).is_empty());
    let text = ask().await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    assert!(text.contains("x-load-balancing-endpoint-weight: 1"), "{text}");
    world.endpoints(&[(0, "other")]);
    ports.update(world.proxier.local_counts());
    let text = ask().await.unwrap();
    assert!(text.starts_with("HTTP/1.1 503 Service Unavailable"), "{text}");
    // Who is no load balancer any more has no such port.
    world.service(spec("NodePort"));
    ports.update(world.proxier.local_counts());
    let closed = async {
        while ask().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), closed).await.unwrap();
    scope.drain(Duration::from_secs(2)).await;
}
