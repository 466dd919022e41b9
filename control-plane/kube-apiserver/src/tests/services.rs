//! Services with what the store knows of their addresses and ports.

use serde_json::{Value, json};

use super::Cluster;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

fn service(name: &str, address: Option<&str>) -> Value {
    let mut service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    if let Some(address) = address {
        service["spec"]["clusterIP"] = address.into();
    }
    service
}

#[tokio::test]
async fn a_service_has_its_address_as_an_object_while_it_is_there() {
    let cluster = Cluster::start().await;
    let (_, made) = cluster.post(SERVICES, service("a", None)).await;
    let address = made["spec"]["clusterIP"].as_str().unwrap();
    let object = cluster.get(&format!("{ADDRESSES}/{address}")).await;
    let parent = json!({"resource": "services", "namespace": "default", "name": "a"});
    assert_eq!(object["spec"]["parentRef"], parent);
    let managed = "ipaddress.kubernetes.io/managed-by";
    assert_eq!(object["metadata"]["labels"][managed], "ipallocator.k8s.io");
    let external = json!({"spec": {"type": "ExternalName", "externalName": "a.b"}});
    let (code, changed) =
        cluster.patch(&format!("{SERVICES}/a"), "merge-patch+json", external).await;
    assert_eq!(code, 200, "{changed}");
    assert_eq!(cluster.get(&format!("{ADDRESSES}/{address}")).await["code"], 404);
    cluster.post(SERVICES, service("b", Some(address))).await;
    cluster.delete(&format!("{SERVICES}/b")).await;
    assert_eq!(cluster.get(&format!("{ADDRESSES}/{address}")).await["code"], 404);
}

#[tokio::test]
async fn the_configured_range_is_an_object_and_so_is_the_servers_own_address() {
    let cluster = Cluster::start().await;
    let range = cluster.get(&format!("{RANGES}/kubernetes")).await;
    assert_eq!(range["spec"]["cidrs"], json!(["10.100.0.0/16"]));
    let ready = &range["status"]["conditions"][0];
    assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("True")));
    let own = cluster.get(&format!("{ADDRESSES}/10.100.0.1")).await;
    assert_eq!(own["spec"]["parentRef"]["name"], "kubernetes");
}

#[tokio::test]
async fn addresses_come_from_a_range_that_was_added_until_it_is_not_ready() {
    let cluster = Cluster::start().await;
    let asked = || service("a", Some("203.0.113.10"));
    let (code, refused) = cluster.post(SERVICES, asked()).await;
    assert_eq!(code, 422, "{refused}");
    let range = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["203.0.113.0/24"]}});
    let (code, range) = cluster.post(RANGES, range).await;
    assert_eq!(code, 201, "{range}");
    assert_eq!(range["status"]["conditions"], Value::Null, "{range}");
    let (code, made) = cluster.post(SERVICES, asked()).await;
    assert_eq!(code, 201, "{made}");
    let not_ready = json!({"status": {"conditions": [{"type": "Ready", "status": "False",
        "reason": "Terminating", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let status = format!("{RANGES}/more/status");
    let (code, told) = cluster.patch(&status, "merge-patch+json", not_ready).await;
    assert_eq!(code, 200, "{told}");
    let (code, _) = cluster.post(SERVICES, service("b", Some("203.0.113.11"))).await;
    assert_eq!(code, 422, "what is not ready gives nothing out");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let (code, patched) = cluster.patch(&format!("{SERVICES}/a"), "merge-patch+json", label).await;
    assert_eq!(code, 200, "what has its address keeps it: {patched}");
    assert_eq!(patched["spec"]["clusterIP"], "203.0.113.10");
    // Nobody holds it here: that is the controllers' business.
    cluster.delete(&format!("{RANGES}/more")).await;
    assert_eq!(cluster.get(&format!("{RANGES}/more")).await["code"], 404);
}

#[tokio::test]
async fn a_health_check_port_that_is_a_node_port_of_the_same_service_is_refused() {
    let cluster = Cluster::start().await;
    let balancer = json!({"metadata": {"name": "a"}, "spec": {
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30600,
        "ports": [{"port": 80, "nodePort": 30600}]}});
    let (code, refused) = cluster.post(SERVICES, balancer).await;
    assert_eq!(code, 422, "{refused}");
    assert_eq!(refused["details"]["causes"][0]["field"], "spec.healthCheckNodePort", "{refused}");
}

/// Two API servers over one store, as over one etcd.
#[tokio::test]
async fn two_servers_never_give_out_the_same_and_know_each_others_definitions() {
    let store = mvcc::Store::memory();
    let (one, other) = (Cluster::over(store.clone()).await, Cluster::over(store).await);
    let port = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {
            "type": "NodePort", "clusterIP": "10.100.0.77",
            "ports": [{"port": 80, "nodePort": 30500}]}})
    };
    let (a, b) = tokio::join!(one.post(SERVICES, port("a")), other.post(SERVICES, port("b")));
    let mut codes = [a.0.as_u16(), b.0.as_u16()];
    codes.sort_unstable();
    assert_eq!(codes, [201, 422], "{a:?} {b:?}");
    let definition = json!({
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let things = "/apis/example.com/v1/namespaces/default/things";
    // Defined while the other follows: at its start it would find the definition in the store.
    let learned = async {
        tokio::task::yield_now().await;
        assert_eq!(one.post(path, definition).await.0, 201);
        while other.get(things).await["kind"] != "ThingList" {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = other.api.maintain() => panic!("it goes on for ever"),
        () = learned => {}
    }
}
