//! Whom a node sends to, by conditions and hints.

use serde_json::json;

use super::*;
use crate::service_map::ports_of;

fn service() -> ServicePort {
    let value = json!({
        "metadata": { "namespace": "default", "name": "web" },
        "spec": { "clusterIP": "10.100.0.20", "ports": [{ "port": 80 }] },
    });
    ports_of(&serde_json::from_value(value).unwrap()).remove(0)
}

fn slice(endpoints: serde_json::Value) -> Slice {
    let value = json!({
        "metadata": { "namespace": "default", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4",
        "ports": [{ "name": "", "port": 8080 }],
        "endpoints": endpoints,
    });
    reduce(&serde_json::from_value(value).unwrap()).unwrap().1
}

fn chosen(endpoints: serde_json::Value) -> Choice {
    let here = Here { node: "here".into(), zone: Some("a".into()) };
    choose(&service(), [slice(endpoints)].iter(), true, &here)
}

fn last(targets: &[(IpAddr, u16)]) -> Vec<String> {
    targets.iter().map(|(ip, _)| ip.to_string().rsplit('.').next().unwrap().to_owned()).collect()
}

#[test]
fn ready_endpoints_are_chosen_and_unready_ones_are_not() {
    let choice = chosen(json!([
        { "addresses": ["192.168.0.1"], "nodeName": "here" },
        { "addresses": ["192.168.0.2"], "conditions": { "ready": false } },
        { "addresses": ["192.168.0.3"], "nodeName": "there", "conditions": { "ready": true } },
    ]));
    assert_eq!(last(&choice.cluster), ["1", "3"]);
    assert_eq!(last(&choice.local), ["1"]);
    assert_eq!(choice.ready_on_node, 1);
}

#[test]
fn terminating_endpoints_serve_when_nobody_else_does() {
    let draining = json!({ "ready": false, "serving": true, "terminating": true });
    let gone = json!({ "ready": false, "serving": false, "terminating": true });
    let choice = chosen(json!([
        { "addresses": ["192.168.0.1"], "nodeName": "here", "conditions": draining },
        { "addresses": ["192.168.0.2"], "nodeName": "here", "conditions": gone },
    ]));
    assert_eq!((last(&choice.cluster), last(&choice.local)), (vec!["1".into()], vec!["1".into()]));
    let choice = chosen(json!([
        { "addresses": ["192.168.0.1"], "nodeName": "here", "conditions": draining },
        { "addresses": ["192.168.0.3"], "nodeName": "there" },
    ]));
    assert_eq!(last(&choice.cluster), ["3"]);
    assert_eq!(last(&choice.local), ["1"], "the local policy falls back by itself");
}

#[test]
fn hints_are_followed_when_all_have_them_and_one_is_for_us() {
    let zone = |name: &str| json!({ "forZones": [{ "name": name }] });
    let hinted = chosen(json!([
        { "addresses": ["192.168.0.1"], "hints": zone("a") },
        { "addresses": ["192.168.0.2"], "hints": zone("b") },
    ]));
    assert_eq!(last(&hinted.cluster), ["1"]);
    let partly = chosen(json!([
        { "addresses": ["192.168.0.1"], "hints": zone("a") },
        { "addresses": ["192.168.0.2"] },
    ]));
    assert_eq!(last(&partly.cluster), ["1", "2"]);
    let elsewhere = chosen(json!([
        { "addresses": ["192.168.0.1"], "hints": zone("b") },
        { "addresses": ["192.168.0.2"], "hints": zone("c") },
    ]));
    assert_eq!(last(&elsewhere.cluster), ["1", "2"]);
}

#[test]
fn an_endpoint_that_is_in_two_slices_counts_once() {
    let one = json!([{ "addresses": ["192.168.0.1"] }]);
    let both = [slice(one.clone()), slice(one)];
    let choice = choose(&service(), both.iter(), true, &Here::default());
    assert_eq!(choice.cluster.len(), 1);
    assert!(choose(&service(), both.iter(), false, &Here::default()).cluster.is_empty());
}

#[test]
fn hints_for_this_node_go_before_those_for_its_zone() {
    let hints = |node: &str, zone: &str| json!({ "forNodes": [{ "name": node }], "forZones": [{ "name": zone }] });
    let near = chosen(json!([
        { "addresses": ["192.168.0.1"], "hints": hints("here", "a") },
        { "addresses": ["192.168.0.2"], "hints": hints("there", "a") },
        { "addresses": ["192.168.0.3"], "hints": hints("far", "b") },
    ]));
    assert_eq!(last(&near.cluster), ["1"]);
    let in_zone = chosen(json!([
        { "addresses": ["192.168.0.2"], "hints": hints("there", "a") },
        { "addresses": ["192.168.0.3"], "hints": hints("far", "b") },
    ]));
    assert_eq!(last(&in_zone.cluster), ["2"]);
}

#[test]
fn a_named_port_is_each_pods_own_and_has_a_slice_for_each_number() {
    let at = |address: &str, port: u16| {
        let value = json!({
            "metadata": { "namespace": "default", "labels": { "kubernetes.io/service-name": "web" } },
            "addressType": "IPv4",
            "ports": [{ "name": "", "port": port }],
            "endpoints": [{ "addresses": [address] }],
        });
        reduce(&serde_json::from_value(value).unwrap()).unwrap().1
    };
    let both = [at("192.168.0.1", 8080), at("192.168.0.2", 9090)];
    let choice = choose(&service(), both.iter(), true, &Here::default());
    let ports: Vec<u16> = choice.cluster.iter().map(|(_, port)| *port).collect();
    assert_eq!(ports, [8080, 9090]);
}
