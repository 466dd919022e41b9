//! What must hold of `services`.

use super::*;
use crate::resources::Catalog;

fn allocator() -> Allocator {
    allocator_of("10.100.0.0/24")
}

fn allocator_of(range: &str) -> Allocator {
    let store = mvcc::Store::memory();
    Allocator::new(range.parse().unwrap(), 30000..=30010, store, clock::Clock::system())
}

fn reserve(allocator: &Allocator, service: &mut Value) -> Result<Claims, Status> {
    let resource = Catalog::builtin().find("", "v1", "services").unwrap();
    allocator.reserve_for(&resource, service, None)
}

/// As a write does.
async fn write(allocator: &Allocator, claims: &Claims) -> Result<u64, mvcc::CommitError> {
    let mut txn = mvcc::Txn { guards: Vec::new(), ops: Vec::new() };
    claims.join(&mut txn);
    allocator.store.commit(txn).await
}

async fn make(allocator: &Allocator, service: &mut Value) {
    let claims = reserve(allocator, service).unwrap();
    write(allocator, &claims).await.unwrap();
}

async fn remove(allocator: &Allocator, service: &Value) {
    let resource = Catalog::builtin().find("", "v1", "services").unwrap();
    write(allocator, &allocator.released_by(&resource, service)).await.unwrap();
}

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec})
}

#[tokio::test]
async fn an_address_is_given_out_once_until_it_is_returned() {
    let allocator = allocator();
    let mut seen = std::collections::HashSet::new();
    for number in 0..100 {
        let mut one = service(&number.to_string(), json!({"type": "ClusterIP"}));
        make(&allocator, &mut one).await;
        assert!(seen.insert(one["spec"]["clusterIP"].as_str().unwrap().to_owned()));
    }
    let mut clash =
        service("x", json!({"type": "ClusterIP", "clusterIP": seen.iter().next().unwrap()}));
    let error = reserve(&allocator, &mut clash).unwrap_err();
    assert!(error.message.contains("provided IP is already allocated"), "{error}");
}

#[tokio::test]
async fn an_ipv6_range_makes_services_of_that_family_alone() {
    let allocator = allocator_of("fd00:10:96::/108");
    assert_eq!(allocator.first_address().to_string(), "fd00:10:96::1");
    let mut dns = service("dns", json!({"type": "ClusterIP", "clusterIP": "fd00:10:96::a"}));
    make(&allocator, &mut dns).await;
    assert_eq!(dns["spec"]["ipFamilies"], json!(["IPv6"]));
    let mut any = service("any", json!({"type": "ClusterIP"}));
    make(&allocator, &mut any).await;
    let address: IpAddr = any["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    assert!(allocator.cidr.contains(&address) && address.is_ipv6());
    let headless = json!({"type": "ClusterIP", "clusterIP": "None", "selector": {"a": "b"}});
    let mut headless = service("none", headless);
    make(&allocator, &mut headless).await;
    assert_eq!(headless["spec"]["ipFamilies"], json!(["IPv6"]));
    let mut by_hand = service("hand", json!({"type": "ClusterIP", "clusterIP": "None"}));
    make(&allocator, &mut by_hand).await;
    assert_eq!(by_hand["spec"]["ipFamilies"], json!(["IPv6", "IPv4"]), "endpoints of either");
    assert_eq!(by_hand["spec"]["ipFamilyPolicy"], "RequireDualStack");
    let both = json!({"type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack"});
    assert!(reserve(&allocator, &mut service("both", both)).is_err());
    for wrong in [json!({"ipFamilies": ["IPv4"]}), json!({"clusterIP": "10.100.0.7"})] {
        assert!(reserve(&allocator, &mut service("x", wrong.clone())).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_write_that_fails_gives_its_reservations_back() {
    let allocator = allocator();
    let spec = json!({"type": "NodePort", "clusterIP": "10.100.0.77",
                      "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30003}]});
    drop(reserve(&allocator, &mut service("a", spec.clone())).unwrap());
    let mut second = service("b", spec.clone());
    make(&allocator, &mut second).await;
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
    remove(&allocator, &second).await;
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

#[tokio::test]
async fn headless_and_external_services_get_no_address() {
    let allocator = allocator();
    let headless = json!({"clusterIP": "None", "selector": {"a": "b"}});
    for spec in [headless, json!({"type": "ExternalName"})] {
        let mut one = service("a", spec.clone());
        make(&allocator, &mut one).await;
        let is_headless = spec["clusterIP"] == "None";
        let fields = one["spec"].as_object_mut().unwrap();
        let (families, policy) = (fields.remove("ipFamilies"), fields.remove("ipFamilyPolicy"));
        assert_eq!(families, is_headless.then(|| json!(["IPv4"])));
        assert_eq!(policy, is_headless.then(|| json!("SingleStack")));
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

#[test]
fn a_service_that_becomes_an_external_name_loses_what_it_was_given() {
    let spec = json!({"type": "NodePort", "clusterIP": "10.100.0.9", "clusterIPs": ["10.100.0.9"],
        "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "externalTrafficPolicy": "Cluster",
        "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "nodePort": 30001}]});
    let old = service("a", spec.clone());
    let mut new = service("a", spec);
    new["spec"]["type"] = "ExternalName".into();
    new["spec"]["externalName"] = "a.b".into();
    keep_allocations(&old, &mut new);
    let left = json!({"type": "ExternalName", "externalName": "a.b", "ports": [{"port": 80}]});
    assert_eq!(new["spec"], left);
}

#[test]
fn a_node_port_that_changes_with_the_type_is_left_to_the_validation() {
    let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]});
    let old = service("a", spec);
    let spec = json!({"type": "ClusterIP", "ports": [{"port": 80, "nodePort": 30002}]});
    let mut new = service("a", spec.clone());
    keep_allocations(&old, &mut new);
    assert_eq!(new["spec"], spec);
}

#[tokio::test]
async fn a_local_load_balancer_has_a_health_check_port_of_its_own_until_it_is_local_no_more() {
    let allocator = allocator();
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
                      "ports": [{"port": 80, "nodePort": 30001}]});
    let mut old = service("a", spec);
    make(&allocator, &mut old).await;
    let port = old["spec"]["healthCheckNodePort"].clone();
    assert!((30000..=30010).contains(&port.as_u64().unwrap()), "{port}");
    assert_ne!(port, 30001);

    let mut same = old.clone();
    remove_port(&mut same);
    keep_allocations(&old, &mut same);
    assert_eq!(same["spec"]["healthCheckNodePort"], port);
    let mut cluster = old.clone();
    cluster["spec"]["externalTrafficPolicy"] = "Cluster".into();
    keep_allocations(&old, &mut cluster);
    assert!(cluster["spec"].get("healthCheckNodePort").is_none());

    let clash = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
                       "healthCheckNodePort": port, "ports": []});
    let error = reserve(&allocator, &mut service("b", clash)).unwrap_err();
    assert!(error.message.contains("spec.healthCheckNodePort"), "{error}");
}

fn remove_port(service: &mut Value) {
    service["spec"].as_object_mut().unwrap().remove("healthCheckNodePort");
}

#[tokio::test]
async fn of_two_writers_that_chose_the_same_only_one_writes() {
    let allocator = allocator();
    let spec = json!({"type": "ClusterIP", "clusterIP": "10.100.0.9"});
    let one = reserve(&allocator, &mut service("a", spec.clone())).unwrap();
    let other = reserve(&allocator, &mut service("b", spec)).unwrap();
    write(&allocator, &one).await.unwrap();
    assert!(matches!(write(&allocator, &other).await, Err(mvcc::CommitError::Conflict { .. })));
}

#[tokio::test]
async fn an_address_of_a_user_is_not_given_to_a_service() {
    let allocator = allocator();
    let user =
        json!({"metadata": {"name": "10.100.0.9"}, "spec": {"parentRef": {"resource": "x"}}});
    let key = crate::registry::key("networking.k8s.io", "ipaddresses", "", "10.100.0.9");
    let txn = mvcc::Txn::put(key.clone(), crate::registry::encode(&user));
    allocator.store.commit(txn).await.unwrap();
    let asked = json!({"type": "ClusterIP", "clusterIP": "10.100.0.9"});
    let error = reserve(&allocator, &mut service("a", asked)).unwrap_err();
    assert!(error.message.contains("provided IP is already allocated"), "{error}");
    allocator.repair().await.unwrap();
    assert!(allocator.store.get(&key).is_some(), "nor taken away");
}

#[tokio::test]
async fn what_an_older_version_stored_without_claims_gets_them_and_stray_ones_go() {
    let allocator = allocator();
    let spec = json!({"type": "NodePort", "clusterIP": "10.100.0.9", "clusterIPs": ["10.100.0.9"],
                      "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30003}]});
    let mut stray = service("stray", json!({"type": "ClusterIP"}));
    make(&allocator, &mut stray).await;
    let stored = service("old", spec.clone());
    let key = crate::registry::key("", "services", "n", "old");
    let txn = mvcc::Txn::put(key, crate::registry::encode(&stored));
    allocator.store.commit(txn).await.unwrap();
    allocator.repair().await.unwrap();
    let epoch = allocator.epoch();
    allocator.repair().await.unwrap();
    assert_eq!(allocator.epoch(), epoch, "once is enough");
    let error = reserve(&allocator, &mut service("new", spec)).unwrap_err();
    assert!(error.message.contains("already allocated"), "{error}");
    let again = json!({"type": "ClusterIP", "clusterIP": stray["spec"]["clusterIP"]});
    assert!(reserve(&allocator, &mut service("again", again)).is_ok());
}
