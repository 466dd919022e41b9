//! What quotas let in.

use serde_json::json;

use super::*;
use crate::{
    authz::testing::Memory,
    request::{RequestInfo, UserInfo},
};

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
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

#[test]
fn pods_that_have_ended_leave_room_for_others() {
    let ended = |status: Value| {
        let mut pod = pod("1");
        pod["status"] = status;
        pod
    };
    let hard = json!({"requests.cpu": "1"});
    for (phase, told_of) in [("Succeeded", ""), ("Running", "exceeded quota: q")] {
        let memory = memory(&hard, "pods", &[ended(json!({"phase": phase}))]);
        let told = told(&memory, "pods", None, &pod("1"));
        assert_eq!(told.is_empty(), told_of.is_empty(), "{told}");
        assert!(told.contains(told_of), "{told}");
    }
}

#[test]
fn a_claims_growth_counts_from_what_it_was_given() {
    let claim = |asked: &str| {
        json!({"spec": {"resources": {"requests": {"storage": asked}}},
            "status": {"allocatedResources": {"storage": "3Gi"}}})
    };
    let old = claim("1Gi");
    let kind = "persistentvolumeclaims";
    let memory = memory(&json!({"requests.storage": "3Gi"}), kind, std::slice::from_ref(&old));
    let path = "persistentvolumeclaims/o0";
    assert_eq!(told(&memory, path, Some(&old), &claim("2Gi")), "");
    let more = told(&memory, path, Some(&old), &claim("4Gi"));
    assert!(more.contains("requested: requests.storage=1Gi, used: requests.storage=3Gi"), "{more}");
}
