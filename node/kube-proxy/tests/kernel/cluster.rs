//! Cluster addresses.

use std::{
    net::IpAddr,
    process::Command,
    time::{Duration, Instant},
};

use kube_proxy::{compile::Options, endpoint_slices::reduce};
use linux_netlink::Netlink;
use linux_nftables::Family;
use serde_json::{Value, json};

use crate::world::{VIP, World, name, options, world, world_with};

#[test]
fn a_cluster_address_reaches_every_endpoint_from_pods_and_from_the_node() {
    let Some(mut world) = world("a", 3) else { return };
    world.serve(1);
    world.serve(2);
    world.service(json!({ "clusterIP": "10.100.0.20", "ports": [{ "port": 80 }] }));
    world.endpoints(&[(1, "node"), (2, "other")]);
    world.sync();
    for client in [None, Some(0), Some(1)] {
        let heard: Vec<u8> = (0..24).map(|_| world.ask(client, VIP).unwrap().0).collect();
        assert!(heard.contains(&1) && heard.contains(&2), "{client:?} heard {heard:?}");
    }
    // The client's address is kept, but for a pod that reaches itself.
    assert_eq!(world.ask(Some(0), VIP).unwrap().1.to_string(), "10.0.0.2");
    let own = (0..24).map(|_| world.ask(Some(1), VIP).unwrap()).find(|(it, _)| *it == 1).unwrap();
    assert_ne!(own.1.to_string(), "10.1.0.2");

    // One endpoint less is one element less, and connections go to the other.
    world.endpoints(&[(2, "other")]);
    world.sync();
    assert!((0..8).all(|_| world.ask(Some(0), VIP).unwrap().0 == 2));
}

#[test]
fn a_service_without_endpoints_refuses_and_so_does_a_port_it_does_not_have() {
    let Some(mut world) = world("b", 2) else { return };
    let spec = json!({ "clusterIP": "10.100.0.20", "ports": [{ "port": 80, "nodePort": 30080 }] });
    world.service(spec);
    world.endpoints(&[]);
    world.sync();
    let refused = std::io::ErrorKind::ConnectionRefused;
    for client in [None, Some(1)] {
        for address in [VIP, "10.100.0.20:81"] {
            assert_eq!(world.ask(client, address).unwrap_err(), refused, "{client:?} {address}");
        }
    }
    assert_eq!(world.ask(Some(0), "10.0.0.1:30080").unwrap_err(), refused);
    world.serve(1);
    world.endpoints(&[(1, "node")]);
    world.sync();
    assert_eq!(world.ask(None, VIP).unwrap().0, 1);
    world.proxier.set_service(&name(), Vec::new());
    world.sync();
    assert!(world.ask(Some(1), VIP).is_err());
}

#[test]
fn a_client_with_affinity_stays_with_its_endpoint_until_that_goes() {
    let Some(mut world) = world("d", 3) else { return };
    world.serve(1);
    world.serve(2);
    world.service(json!({
        "clusterIP": "10.100.0.20",
        "sessionAffinity": "ClientIP",
        "ports": [{ "port": 80 }],
    }));
    world.endpoints(&[(1, "node"), (2, "other")]);
    world.sync();
    let first = world.ask(Some(0), VIP).unwrap().0;
    assert!((0..12).all(|_| world.ask(Some(0), VIP).unwrap().0 == first));
    let other = 3 - first;
    world.endpoints(&[(other, "other")]);
    world.sync();
    assert_eq!(world.ask(Some(0), VIP).unwrap().0, other);
}

/// A client is known to an endpoint for as long as the Service says, also where that was changed, and for
/// three hours where it says nothing; each connection begins that anew.
#[test]
fn a_client_is_forgotten_after_the_services_time() {
    let Some(mut world) = world("q", 3) else { return };
    world.serve(1);
    let spec = |config: Value| {
        json!({
            "clusterIP": "10.100.0.20",
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": config,
            "ports": [{ "port": 80 }],
        })
    };
    let given = |seconds: u64| json!({ "clientIP": { "timeoutSeconds": seconds } });
    world.endpoints(&[(1, "node")]);
    for (config, seconds) in [(Value::Null, 10_800), (given(600), 600)] {
        world.service(spec(config));
        world.sync();
        assert_eq!(left(&world), None, "another time, another set");
        world.ask(Some(0), VIP).unwrap();
        let left = left(&world).unwrap();
        assert!((seconds - 60..=seconds).contains(&left), "{left} of {seconds} seconds are left");
    }
    // The shortest time that there is can be waited for.
    world.service(spec(given(1)));
    world.sync();
    world.ask(Some(0), VIP).unwrap();
    let began = Instant::now();
    while left(&world).is_some() {
        assert!(began.elapsed() < Duration::from_secs(5), "it is known after five seconds still");
        std::thread::sleep(Duration::from_millis(50));
    }
    world.ask(Some(0), VIP).unwrap();
    assert!(left(&world).is_some(), "and again");
}

/// For how many seconds the kernel still knows the client 10.0.0.2.
fn left(world: &World) -> Option<u64> {
    let list = || Command::new("nft").args(["-j", "list", "table", "ip", "kube-proxy"]).output();
    let listed = world.node.inside(list).unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let sets = listed["nftables"].as_array().unwrap().iter().filter_map(|it| it.get("set"));
    let affinity = sets.filter(|it| it["name"].as_str().unwrap().starts_with("affinity-"));
    let elements = affinity.filter_map(|it| it["elem"].as_array()).flatten();
    let client = elements.map(|it| &it["elem"]).find(|it| it["val"] == "10.0.0.2");
    client.and_then(|it| it["expires"].as_u64())
}

#[test]
fn the_local_policy_within_the_cluster_drops_or_refuses() {
    let Some(mut world) = world("i", 3) else { return };
    world.serve(1);
    world.serve(2);
    let spec = json!({
        "clusterIP": "10.100.0.20",
        "internalTrafficPolicy": "Local",
        "ports": [{ "port": 80 }],
    });
    world.service(spec);
    world.endpoints(&[(1, "node"), (2, "other")]);
    world.sync();
    assert!((0..12).all(|_| world.ask(Some(2), VIP).unwrap().0 == 1));
    world.endpoints(&[(2, "other")]);
    world.sync();
    let error = world.ask(Some(1), VIP).unwrap_err();
    assert!(matches!(error, std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock));
    world.endpoints(&[]);
    world.sync();
    let refused = std::io::ErrorKind::ConnectionRefused;
    assert_eq!(world.ask(Some(1), VIP).unwrap_err(), refused);
}

#[test]
fn everything_is_masqueraded_where_that_is_asked_for() {
    let all = Options { masquerade_all: true, ..options() };
    let Some(mut world) = world_with("k", 3, &[all]) else { return };
    world.serve(2);
    world.service(json!({ "clusterIP": "10.100.0.20", "ports": [{ "port": 80 }] }));
    world.endpoints(&[(2, "node")]);
    world.sync();
    assert_eq!(world.ask(Some(1), VIP).unwrap().1, IpAddr::from([10, 2, 0, 1]));
}

#[test]
fn both_families_are_served_beside_each_other() {
    let six = Options { family: Family::Ip6, ..options() };
    let Some(mut world) = world_with("l", 3, &[options(), six]) else { return };
    world.serve(1);
    world.serve(2);
    let spec = |affinity: &str| {
        json!({
            "type": "NodePort",
            "clusterIPs": ["10.100.0.20", "fd00:100::20"],
            "sessionAffinity": affinity,
            "ports": [{ "port": 80, "nodePort": 30080 }],
        })
    };
    let value = json!({
        "metadata": { "namespace": "default", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv6",
        "ports": [{ "name": "", "port": 8080 }],
        "endpoints": [
            { "addresses": ["fd00:1::2"], "nodeName": "node" },
            { "addresses": ["fd00:2::2"], "nodeName": "other" },
        ],
    });
    let slice = reduce(&serde_json::from_value(value).unwrap()).unwrap().1;
    world.service(spec("None"));
    world.endpoints(&[(1, "node")]);
    world.sync();
    let refused = std::io::ErrorKind::ConnectionRefused;
    // What refuses the first packet comes while the client still holds its socket: the second counts.
    let patient = Duration::from_secs(3);
    let error = world.ask_within(patient, Some(0), "[fd00:100::20]:80").unwrap_err();
    assert_eq!(error, refused);
    world.proxier.set_slice(&name(), "six", Some(slice));
    world.sync();
    let hear = |world: &World| -> Vec<u8> {
        (0..24).map(|_| world.ask(Some(0), "[fd00:100::20]:80").unwrap().0).collect()
    };
    let heard = hear(&world);
    assert!(heard.contains(&1) && heard.contains(&2), "{heard:?}");
    assert_eq!(world.ask(Some(0), VIP).unwrap().0, 1);
    world.ask(Some(0), "[fd00:0::1]:30080").unwrap();
    world.service(spec("ClientIP"));
    world.sync();
    let heard = hear(&world);
    assert!(heard.iter().all(|it| *it == heard[0]), "{heard:?}");
}

/// Somebody beyond the node has the address: what leaves the node is answered.
#[test]
fn an_address_of_the_service_range_that_no_service_has_leads_nowhere() {
    let options = |cidrs: &[&str]| Options {
        service_cidrs: cidrs.iter().map(|it| it.parse().unwrap()).collect(),
        ..options()
    };
    let Some(mut world) = world_with("u", 2, &[options(&[])]) else { return };
    let outside = Netlink::at(&world.machines[0].path()).unwrap();
    let link = outside.link_by_name("eth0").unwrap().unwrap().index;
    outside.add_address(link, "10.100.0.77/32".parse().unwrap()).unwrap();
    world.serve(0);
    world.service(json!({ "clusterIP": "10.100.0.20", "ports": [{ "port": 80 }] }));
    // Elsewhere: who is its own endpoint is sent redirects, which use up what the kernel allows of ICMP.
    world.endpoints(&[(0, "other")]);
    world.sync();
    let nowhere = "10.100.0.77:8080";
    for client in [Some(1), None] {
        assert_eq!(world.ask(client, nowhere).unwrap().0, 0, "the way is there");
    }
    world.proxier.set_options(vec![options(&["10.100.0.0/16", "10.100.0.0/24"])]);
    world.sync();
    for client in [Some(1), None] {
        let error = world.ask(client, nowhere).unwrap_err();
        assert_eq!(error, std::io::ErrorKind::TimedOut, "dropped, and not refused");
        assert_eq!(world.ask(client, VIP).unwrap().0, 0);
        let error = world.ask(client, "10.100.0.20:81").unwrap_err();
        assert_eq!(error, std::io::ErrorKind::ConnectionRefused, "{client:?}");
    }
}
