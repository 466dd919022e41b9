//! One Service in all its forms, compiled.

use super::*;
use crate::service_map::ServiceName;

fn options() -> Options {
    Options {
        family: Family::Ip,
        masquerade_mark: 0x4000,
        masquerade_all: false,
        local: LocalDetector::Nobody,
        node_ports: NodePorts::All,
        node_ip: None,
        service_cidrs: Vec::new(),
    }
}

fn service() -> ServicePort {
    ServicePort {
        service: ServiceName { namespace: "default".into(), name: "web".into() },
        port_name: String::new(),
        protocol: Protocol::Tcp,
        port: 80,
        cluster_ips: vec!["10.100.0.20".parse().unwrap()],
        node_port: None,
        external_ips: vec![],
        load_balancer_ips: vec![],
        source_ranges: vec![],
        affinity: None,
        is_external_local: false,
        is_internal_local: false,
        health_check_node_port: None,
    }
}

fn choice(cluster: usize, local: usize) -> Choice {
    let target = |n: usize| (IpAddr::from([192, 168, 0, u8::try_from(n).unwrap()]), 8080);
    Choice {
        cluster: (1..=cluster).map(target).collect(),
        local: (1..=local).map(target).collect(),
        on_node: (1..=local).map(|n| target(n).0).collect(),
        ready_on_node: local,
    }
}

fn value<'a>(fragment: &'a Fragment, map: &'static str, key: &str) -> Option<&'a str> {
    fragment.elements.get(&(map, key.to_owned())).map(String::as_str)
}

#[test]
fn a_plain_service_is_elements_only() {
    let fragment = compile(&service(), &choice(2, 0), &options());
    assert!(fragment.chains.is_empty() && fragment.sets.is_empty());
    assert_eq!(value(&fragment, "service-ips", "10.100.0.20 . tcp . 80"), Some("goto lb-tcp-2"));
    assert_eq!(
        value(&fragment, "endpoints-tcp", "10.100.0.20 . 80 . 1"),
        Some("192.168.0.2 . 8080")
    );
    assert_eq!(fragment.elements.len(), 3);
}

#[test]
fn without_endpoints_connections_are_refused() {
    let service = ServicePort { node_port: Some(30080), ..service() };
    let fragment = compile(&service, &choice(0, 0), &options());
    let key = "10.100.0.20 . tcp . 80";
    assert_eq!(value(&fragment, "no-endpoint-services", key), Some("goto reject-chain"));
    assert_eq!(value(&fragment, "no-endpoint-nodeports", "tcp . 30080"), Some("goto reject-chain"));
    assert_eq!(value(&fragment, "service-ips", key), None);
}

#[test]
fn a_local_policy_without_local_endpoints_drops_and_does_not_refuse() {
    let internal = ServicePort { is_internal_local: true, ..service() };
    let fragment = compile(&internal, &choice(2, 0), &options());
    assert_eq!(value(&fragment, "no-endpoint-services", "10.100.0.20 . tcp . 80"), Some("drop"));
    let external = ServicePort { is_external_local: true, node_port: Some(30080), ..service() };
    let fragment = compile(&external, &choice(2, 0), &options());
    assert_eq!(value(&fragment, "no-endpoint-nodeports", "tcp . 30080"), Some("drop"));
    assert!(value(&fragment, "service-nodeports", "tcp . 30080").unwrap().starts_with("goto ext-"));
}

#[test]
fn node_ports_and_external_addresses_are_masqueraded() {
    let external_ips = vec!["203.0.113.9".parse().unwrap()];
    let service = ServicePort { node_port: Some(30080), external_ips, ..service() };
    let fragment = compile(&service, &choice(3, 1), &options());
    assert_eq!(value(&fragment, "service-nodeports", "tcp . 30080"), Some("goto mnp-tcp-3"));
    assert_eq!(value(&fragment, "service-ips", "203.0.113.9 . tcp . 80"), Some("goto mlb-tcp-3"));
    assert_eq!(value(&fragment, "service-ips", "10.100.0.20 . tcp . 80"), Some("goto lb-tcp-3"));
}

#[test]
fn the_local_policy_keeps_the_clients_address_and_helps_the_nodes_own() {
    let service = ServicePort { is_external_local: true, node_port: Some(30080), ..service() };
    let local = LocalDetector::Cidr("192.168.0.0/16".parse().unwrap());
    let options = Options { local, ..options() };
    let fragment = compile(&service, &choice(3, 1), &options);
    let (_, rules) = fragment.chains.iter().find(|(name, _)| name.starts_with("ext-")).unwrap();
    assert!(rules[0].starts_with("ip saddr 192.168.0.0/16 goto svc-"), "{rules:?}");
    assert_eq!(rules[1], "fib saddr type local jump mark-for-masquerade");
    assert!(rules[3].starts_with("goto local-"), "{rules:?}");
}

#[test]
fn clients_with_affinity_stick_to_an_endpoint_for_the_services_time() {
    let service = ServicePort { affinity: Some(Duration::from_secs(60)), ..service() };
    let fragment = compile(&service, &choice(2, 0), &options());
    assert_eq!(fragment.sets.len(), 2);
    assert!(fragment.sets.values().all(|set| set.timeout == Some(Duration::from_secs(60))));
    let (_, rules) = fragment.chains.iter().find(|(name, _)| name.starts_with("svc-")).unwrap();
    assert_eq!(rules.len(), 3);
    assert!(rules[2].starts_with("numgen random mod 2 vmap { 0 : goto ep-"), "{rules:?}");
    // A set's timeout cannot be changed: another one takes its place.
    let longer = ServicePort { affinity: Some(Duration::from_secs(61)), ..service };
    let longer = compile(&longer, &choice(2, 0), &options());
    assert!(longer.sets.keys().all(|name| !fragment.sets.contains_key(name)));
}

#[test]
fn only_the_given_ranges_may_use_the_load_balancer() {
    let service = ServicePort {
        load_balancer_ips: vec!["203.0.113.9".parse().unwrap()],
        source_ranges: vec!["198.51.100.0/24".parse().unwrap()],
        ..service()
    };
    let fragment = compile(&service, &choice(1, 0), &options());
    let verdict = value(&fragment, "firewall-ips", "203.0.113.9 . tcp . 80").unwrap();
    let rules = &fragment.chains[verdict.strip_prefix("goto ").unwrap()];
    assert_eq!(rules[..], ["ip saddr 198.51.100.0/24 return", "drop"]);
}

#[test]
fn a_node_that_may_use_the_load_balancer_may_do_so_by_the_balancers_own_address() {
    let service = ServicePort {
        load_balancer_ips: vec!["203.0.113.9".parse().unwrap()],
        source_ranges: vec!["192.168.0.0/16".parse().unwrap(), "fd00::/64".parse().unwrap()],
        ..service()
    };
    let options = Options { node_ip: Some("192.168.0.7".parse().unwrap()), ..options() };
    let fragment = compile(&service, &choice(1, 0), &options);
    let (_, rules) = fragment.chains.iter().find(|(name, _)| name.starts_with("fw-")).unwrap();
    assert_eq!(
        rules[..],
        ["ip saddr 192.168.0.0/16 return", "ip saddr 203.0.113.9 return", "drop"]
    );
}

#[test]
fn ranges_that_hold_everybody_or_are_of_the_other_family_restrict_nobody() {
    for range in ["0.0.0.0/0", "fd00::/64"] {
        let service = ServicePort {
            load_balancer_ips: vec!["203.0.113.9".parse().unwrap()],
            source_ranges: vec![range.parse().unwrap()],
            ..service()
        };
        let fragment = compile(&service, &choice(1, 0), &options());
        assert!(!fragment.elements.keys().any(|(map, _)| *map == "firewall-ips"), "{range}");
    }
}

#[test]
fn pods_are_told_by_address_or_by_interface() {
    let service = ServicePort { is_external_local: true, node_port: Some(30080), ..service() };
    for (local, expected) in [
        (LocalDetector::Prefix("eni".into()), Some("iifname \"eni*\" goto svc-")),
        (LocalDetector::Bridge("br0".into()), Some("iifname \"br0\" goto svc-")),
        (LocalDetector::Nobody, None),
    ] {
        let fragment = compile(&service, &choice(3, 1), &Options { local, ..options() });
        let (_, rules) = fragment.chains.iter().find(|(name, _)| name.starts_with("ext-")).unwrap();
        match expected {
            Some(rule) => assert!(rules[0].starts_with(rule), "{rules:?}"),
            None => assert_eq!(rules[0], "fib saddr type local jump mark-for-masquerade"),
        }
    }
}

#[test]
fn the_other_familys_addresses_are_left_out() {
    let options = Options { family: Family::Ip6, ..options() };
    let fragment = compile(&service(), &Choice::default(), &options);
    assert_eq!(fragment, Fragment::default());
}
