//! What must hold of `services`.

use super::*;
use crate::resources::Catalog;

fn allocator() -> Allocator {
    Allocator::new("10.100.0.0/24".parse().unwrap(), 30000..=30010)
}

fn reserve(allocator: &Allocator, service: &mut Value) -> Result<Reserved, Status> {
    let resource = Catalog::builtin().find("", "v1", "services").unwrap();
    allocator.reserve_for(&resource, service, None)
}

fn service(uid: &str, spec: Value) -> Value {
    json!({"metadata": {"name": "s", "uid": uid}, "spec": spec})
}

#[test]
fn an_address_is_given_out_once_until_it_is_returned() {
    let allocator = allocator();
    let mut seen = std::collections::HashSet::new();
    for number in 0..100 {
        let mut one = service(&number.to_string(), json!({"type": "ClusterIP"}));
        reserve(&allocator, &mut one).unwrap().keep();
        assert!(seen.insert(one["spec"]["clusterIP"].as_str().unwrap().to_owned()));
    }
    let mut clash =
        service("x", json!({"type": "ClusterIP", "clusterIP": seen.iter().next().unwrap()}));
    let error = reserve(&allocator, &mut clash).unwrap_err();
    assert!(error.message.contains("provided IP is already allocated"), "{error}");
}

#[test]
fn a_write_that_fails_gives_its_reservations_back() {
    let allocator = allocator();
    let spec = json!({"type": "NodePort", "clusterIP": "10.100.0.77",
                      "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30003}]});
    drop(reserve(&allocator, &mut service("a", spec.clone())).unwrap());
    let mut second = service("b", spec.clone());
    reserve(&allocator, &mut second).unwrap().keep();
    let error = reserve(
        &allocator,
        &mut service(
            "c",
            json!({
                "type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30003}],
            }),
        ),
    )
    .unwrap_err();
    assert!(error.message.contains("provided port is already allocated"), "{error}");
    allocator.forget(&second);
    assert!(reserve(&allocator, &mut service("d", spec)).is_ok());
}

#[test]
fn what_lies_outside_of_the_ranges_is_refused() {
    let allocator = allocator();
    let outside = reserve(&allocator, &mut service("a", json!({"clusterIP": "10.99.0.1"})));
    assert!(outside.unwrap_err().message.contains("does not match the current range"));
    let low = json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]});
    let low = reserve(&allocator, &mut service("a", low)).unwrap_err();
    assert!(low.message.contains("not in the valid range"), "{low}");
}

#[test]
fn headless_and_external_services_get_no_address() {
    let allocator = allocator();
    for spec in [json!({"clusterIP": "None"}), json!({"type": "ExternalName"})] {
        let mut one = service("a", spec.clone());
        reserve(&allocator, &mut one).unwrap().keep();
        assert_eq!(one["spec"], spec);
    }
}

#[test]
fn an_update_keeps_what_it_does_not_mention() {
    let old = service(
        "a",
        json!({"type": "NodePort", "clusterIP": "10.100.0.9", "clusterIPs": ["10.100.0.9"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}),
    );
    let mut new =
        service("a", json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}));
    keep_allocations(&old, &mut new);
    assert_eq!(new["spec"]["clusterIP"], "10.100.0.9");
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);
    let mut internal = service(
        "a",
        json!({"type": "ClusterIP",
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}),
    );
    keep_allocations(&old, &mut internal);
    assert!(internal["spec"]["ports"][0].get("nodePort").is_none());
}
