//! What quotas count, of one object and of a write.

use serde_json::json;

use super::*;
use crate::{
    authz::testing::Memory,
    request::{RequestInfo, UserInfo},
};

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn amount(kind: &str, object: &Value, resource: &str) -> Option<String> {
    Counted::of(kind, object, now()).amount(resource).map(|it| it.to_string())
}

/// A namespace with one quota and these objects.
fn memory(hard: &Value, kind: &str, existing: &[Value]) -> Memory {
    let memory = Memory::default();
    let metadata = json!({"namespace": "ns", "name": "q"});
    memory.put("resourcequotas", json!({"metadata": metadata, "spec": {"hard": hard}}));
    for (index, object) in existing.iter().enumerate() {
        let mut object = object.clone();
        object["metadata"] = json!({"namespace": "ns", "name": format!("o{index}")});
        memory.put(kind, object);
    }
    memory
}

/// What is told of a write to `path`, which ends in a name if there is an `old` object.
fn told(memory: &Memory, path: &str, old: Option<&Value>, new: &Value) -> String {
    let method = if old.is_some() { http::Method::PUT } else { http::Method::POST };
    let operation = if old.is_some() { Operation::Update } else { Operation::Create };
    let info = RequestInfo::parse(&method, &format!("/api/v1/namespaces/ns/{path}"), "");
    let user = UserInfo::new("bob", &[]);
    let attributes = Attributes { operation, user: &user, info: &info, old };
    check(memory, &attributes, new, now()).err().map_or_else(String::new, |it| it.message)
}

fn service(kind: &str, more: Value) -> Value {
    let mut service = json!({"spec": {"type": kind, "ports": [{"port": 1}, {"port": 2}]}});
    for (name, value) in more.as_object().into_iter().flatten() {
        service["spec"][name] = value.clone();
    }
    service
}

fn pod(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

#[test]
fn a_service_takes_ports_of_nodes_and_balancers_by_its_type() {
    let without = json!({"allocateLoadBalancerNodePorts": false});
    let one = json!({"allocateLoadBalancerNodePorts": false,
        "ports": [{"port": 1, "nodePort": 30000}, {"port": 2}]});
    for (service, ports, balancers) in [
        (service("ClusterIP", json!({})), "0", "0"),
        (service("NodePort", json!({})), "2", "0"),
        (service("LoadBalancer", json!({})), "2", "1"),
        (service("LoadBalancer", without), "0", "1"),
        (service("LoadBalancer", one), "1", "1"),
    ] {
        let found = |name| amount("services", &service, name);
        assert_eq!(found("services.nodeports").as_deref(), Some(ports), "{service}");
        assert_eq!(found("services.loadbalancers").as_deref(), Some(balancers), "{service}");
        assert_eq!(found("services").as_deref(), Some("1"));
        assert_eq!(found("count/services").as_deref(), Some("1"));
        assert_eq!(found("pods"), None);
    }
}

#[test]
fn a_claim_takes_storage_also_of_its_class() {
    let claim = json!({"spec": {"storageClassName": "gold",
        "resources": {"requests": {"storage": "1Gi"}}}});
    let found = |name: &str| amount("persistentvolumeclaims", &claim, name);
    assert_eq!(found("requests.storage").as_deref(), Some("1Gi"));
    let of =
        |class: &str, what: &str| found(&format!("{class}.storageclass.storage.k8s.io/{what}"));
    assert_eq!(of("gold", "requests.storage").as_deref(), Some("1Gi"));
    assert_eq!(of("gold", "persistentvolumeclaims").as_deref(), Some("1"));
    assert_eq!(of("bronze", "persistentvolumeclaims"), None);
    let mut shrinking = claim.clone();
    shrinking["status"] = json!({"allocatedResources": {"storage": "2Gi"}});
    let found = amount("persistentvolumeclaims", &shrinking, "requests.storage");
    assert_eq!(found.as_deref(), Some("2Gi"), "what was given is not given back yet");
}

#[test]
fn a_pod_that_has_ended_is_counted_as_an_object_and_takes_nothing() {
    let mut pod = json!({"spec": {
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
        ],
        "containers": [{"name": "c", "resources": {"requests": {"cpu": "500m",
            "example.com/dongle": "2"}, "limits": {"example.com/dongle": "2"}}}],
        "overhead": {"cpu": "50m"},
    }});
    let found = |pod: &Value, name| amount("pods", pod, name).unwrap_or_default();
    assert_eq!(found(&pod, "requests.cpu"), "650m", "with its sidecar and its overhead");
    assert_eq!(found(&pod, "requests.example.com/dongle"), "2");
    assert_eq!(found(&pod, "pods"), "1");
    let running = pod.clone();
    pod["status"] = json!({"phase": "Succeeded"});
    let mut stuck = running;
    stuck["metadata"] = json!({"deletionTimestamp": "2025-12-31T23:59:59Z"});
    for pod in [pod, stuck] {
        let all = ["requests.cpu", "pods", "count/pods"].map(|it| found(&pod, it));
        assert_eq!(all, ["0", "0", "1"]);
    }
}

#[test]
fn what_is_changed_counts_by_how_much_more_it_takes() {
    let hard = json!({"services": "1", "services.nodeports": "2", "services.loadbalancers": "0"});
    let old = service("ClusterIP", json!({}));
    let memory = memory(&hard, "services", std::slice::from_ref(&old));
    let change = |kind| told(&memory, "services/o0", Some(&old), &service(kind, json!({})));
    assert_eq!(change("NodePort"), "");
    assert_eq!(
        change("LoadBalancer"),
        "services \"o0\" is forbidden: exceeded quota: q, requested: services.loadbalancers=1, \
         used: services.loadbalancers=0, limited: services.loadbalancers=0"
    );
    let made = told(&memory, "services", None, &old);
    assert!(made.contains("exceeded quota: q, requested: services=1, used: services=1"), "{made}");
}

#[test]
fn a_pod_grows_within_its_quota() {
    let (old, other) = (pod("500m"), pod("400m"));
    let memory = memory(&json!({"requests.cpu": "1"}), "pods", &[old.clone(), other]);
    let resize = |cpu| told(&memory, "pods/o0/resize", Some(&old), &pod(cpu));
    assert_eq!((resize("600m"), resize("100m")), (String::new(), String::new()));
    assert_eq!(
        resize("601m"),
        "pods \"o0\" is forbidden: exceeded quota: q, requested: requests.cpu=101m, used: \
         requests.cpu=900m, limited: requests.cpu=1"
    );
    // An ordinary update takes no more: it cannot change the requests.
    assert_eq!(told(&memory, "pods/o0", Some(&old), &pod("2")), "");
}

#[test]
fn every_container_says_what_a_quota_of_cpu_and_memory_wants_said() {
    let hard = json!({"requests.cpu": "9", "limits.memory": "9Gi", "requests.example.com/x": "9"});
    let memory = memory(&hard, "pods", &[]);
    let mut pod = json!({"spec": {
        "initContainers": [{"name": "z"}],
        "containers": [{"name": "b"}, {"name": "a", "resources": {"requests": {"cpu": "1"}}}],
    }});
    assert_eq!(
        told(&memory, "pods", None, &pod),
        "pods is forbidden: failed quota: q: must specify limits.memory for: a,b,z; \
         requests.cpu for: b,z"
    );
    pod["spec"]["resources"] = json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}});
    assert_eq!(told(&memory, "pods", None, &pod), "", "it is said of the whole pod");
}
