//! A small zone, and every kind of name in it.

use serde_json::json;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `web` with an address, headless `db` with two endpoints, `out` elsewhere.
pub(crate) fn zone() -> Zone {
    let mut zone = Zone::new("cluster.local.");
    zone.set_namespace("default", true);
    for (name, spec) in [
        ("web", json!({ "clusterIP": "10.100.0.20", "ports": [{ "name": "http", "port": 80 }] })),
        ("db", json!({ "clusterIP": "None", "ports": [{ "name": "sql", "port": 5432 }] })),
        ("out", json!({ "type": "ExternalName", "externalName": "example.com" })),
    ] {
        let service = serde_json::from_value(json!({ "spec": spec })).unwrap();
        zone.set_service(id(name), Some(reduce_service(&service)));
    }
    let slice = serde_json::from_value(json!({
        "metadata": { "namespace": "default", "labels": { "kubernetes.io/service-name": "db" } },
        "addressType": "IPv4",
        "ports": [{ "name": "sql", "port": 5432 }],
        "endpoints": [
            { "addresses": ["192.168.0.1"], "hostname": "db-0" },
            { "addresses": ["192.168.0.2"] },
            { "addresses": ["192.168.0.3"], "conditions": { "ready": false } },
        ],
    }));
    let (owner, endpoints) = reduce_slice(&slice.unwrap()).unwrap();
    zone.set_slice(owner, "db-x", Some(endpoints));
    zone
}

fn id(name: &str) -> Id {
    ("default".to_owned(), name.to_owned())
}

#[test]
fn names_lead_where_the_specification_says() {
    let zone = zone();
    let addresses = |ips: &[&str]| Found::Addresses(ips.iter().map(|it| ip(it)).collect());
    let rows = [
        ("web.default.svc.cluster.local", addresses(&["10.100.0.20"])),
        ("db.default.svc.cluster.local", addresses(&["192.168.0.1", "192.168.0.2"])),
        ("db-0.db.default.svc.cluster.local", addresses(&["192.168.0.1"])),
        ("192-168-0-2.db.default.svc.cluster.local", addresses(&["192.168.0.2"])),
        ("db-9.db.default.svc.cluster.local", Found::Unknown),
        ("x.web.default.svc.cluster.local", Found::Unknown),
        ("out.default.svc.cluster.local", Found::Alias("example.com".into())),
        ("10-0-0-7.default.pod.cluster.local", addresses(&["10.0.0.7"])),
        ("10-0-0-7.nowhere.pod.cluster.local", Found::Unknown),
        ("default.svc.cluster.local", Found::Nothing),
        ("svc.cluster.local", Found::Nothing),
        ("cluster.local", Found::Nothing),
        ("nowhere.svc.cluster.local", Found::Unknown),
        ("web.cluster.local", Found::Unknown),
        ("_tcp.web.default.svc.cluster.local", Found::Nothing),
        ("example.com", Found::Outside),
        ("notcluster.local", Found::Outside),
    ];
    for (name, expected) in rows {
        assert_eq!(zone.addresses(name), expected, "{name}");
    }
}

#[test]
fn servers_are_the_service_or_each_endpoint_of_a_headless_one() {
    let zone = zone();
    let found = zone.servers("_http._tcp.web.default.svc.cluster.local");
    let target = "web.default.svc.cluster.local".to_owned();
    let addresses = vec![ip("10.100.0.20")];
    assert_eq!(found, Found::Servers(vec![Server { target, port: 80, addresses }]));
    let Found::Servers(servers) = zone.servers("_sql._tcp.db.default.svc.cluster.local") else {
        panic!("two endpoints are ready");
    };
    let targets: Vec<_> = servers.iter().map(|it| it.target.split('.').next().unwrap()).collect();
    assert_eq!(targets, ["192-168-0-2", "db-0"]);
    assert_eq!(zone.servers("_sql._udp.db.default.svc.cluster.local"), Found::Unknown);
}

#[test]
fn addresses_have_names_as_long_as_their_service_exists() {
    let mut zone = zone();
    let name = "web.default.svc.cluster.local".to_owned();
    assert_eq!(zone.reverse(&ip("10.100.0.20")), Found::Names(vec![name]));
    let name = "db-0.db.default.svc.cluster.local".to_owned();
    assert_eq!(zone.reverse(&ip("192.168.0.1")), Found::Names(vec![name]));
    assert_eq!(zone.reverse(&ip("192.168.0.2")), Found::Outside);
    zone.retain_services(&BTreeSet::new());
    zone.retain_slices(&BTreeSet::new());
    assert_eq!(zone.reverse(&ip("10.100.0.20")), Found::Outside);
    assert_eq!(zone.reverse(&ip("192.168.0.1")), Found::Outside);
    assert_eq!(zone.addresses("web.default.svc.cluster.local"), Found::Unknown);
}

#[test]
fn not_ready_endpoints_are_published_when_the_service_says_so() {
    let mut zone = zone();
    let spec = json!({ "clusterIP": "None", "publishNotReadyAddresses": true });
    let service = serde_json::from_value(json!({ "spec": spec })).unwrap();
    zone.set_service(id("db"), Some(reduce_service(&service)));
    let Found::Addresses(found) = zone.addresses("db.default.svc.cluster.local") else {
        panic!("the Service has endpoints");
    };
    assert_eq!(found.len(), 3);
}
