//! What quotas count of one object.

use k8s_openapi::{
    serde::de::DeserializeOwned,
    serde_json::{self, Value, json},
};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:01:00Z".parse().unwrap()
}

fn of<K: DeserializeOwned>(value: &Value) -> K {
    serde_json::from_value(value.clone()).unwrap()
}

fn of_pod(pod: &Value, name: &str) -> Option<String> {
    Counted::pod(&of(pod), now()).amount(name).map(|it| it.to_string())
}

fn of_claim(claim: &Value, name: &str) -> Option<String> {
    Counted::claim(&of(claim)).amount(name).map(|it| it.to_string())
}

#[test]
fn a_name_is_about_one_kind() {
    for (name, expected) in [
        ("count/deployments.apps", Some("deployments.apps")),
        ("count/pods", Some("pods")),
        ("secrets", Some("secrets")),
        ("services.nodeports", Some("services")),
        ("requests.storage", Some("persistentvolumeclaims")),
        ("gold.storageclass.storage.k8s.io/requests.storage", Some("persistentvolumeclaims")),
        ("gpu.deviceclass.resource.k8s.io/devices", Some("resourceclaims.resource.k8s.io")),
        ("limits.memory", Some("pods")),
        ("requests.example.com/dongle", Some("pods")),
        // Nobody limits these.
        ("limits.example.com/dongle", None),
        ("example.com/dongle", None),
        ("gold.storageclass.storage.k8s.io/limits.storage", None),
    ] {
        assert_eq!(quota_kind(name), expected, "{name}");
    }
}

#[test]
fn a_pod_takes_what_it_asks_for_under_the_names_that_quotas_have_for_it() {
    let pod = json!({ "spec": {
        "initContainers": [{ "name": "s", "restartPolicy": "Always",
            "resources": { "requests": { "cpu": "200m" } } }],
        "containers": [{ "name": "c", "resources": {
            "requests": { "cpu": "500m", "example.com/dongle": "2", "hugepages-2Mi": "4Mi" },
            "limits": { "memory": "1Gi" } } }],
        "overhead": { "cpu": "100m" } } });
    for (name, expected) in [
        ("pods", Some("1")),
        ("count/pods", Some("1")),
        ("cpu", Some("800m")),
        ("requests.cpu", Some("800m")),
        ("limits.cpu", Some("0")),
        ("limits.memory", Some("1Gi")),
        ("requests.example.com/dongle", Some("2")),
        ("hugepages-2Mi", Some("4Mi")),
        ("requests.hugepages-2Mi", Some("4Mi")),
        ("limits.example.com/dongle", None),
        ("services", None),
        ("requests.storage", None),
    ] {
        assert_eq!(of_pod(&pod, name).as_deref(), expected, "{name}");
    }
}

#[test]
fn a_pod_that_has_ended_or_should_be_gone_is_an_object_and_takes_nothing() {
    let pod = |status: Value, metadata: Value| {
        json!({ "metadata": metadata, "status": status, "spec": { "containers": [{ "name": "c",
            "resources": { "requests": { "cpu": "1" } } }] } })
    };
    let deleted = |grace: i64| {
        let at = "2026-01-01T00:00:30Z";
        pod(json!({}), json!({ "deletionTimestamp": at, "deletionGracePeriodSeconds": grace }))
    };
    for (pod, cpu) in [
        (pod(json!({ "phase": "Running" }), json!({})), "1"),
        (pod(json!({ "phase": "Succeeded" }), json!({})), "0"),
        (pod(json!({ "phase": "Failed" }), json!({})), "0"),
        (deleted(30), "1"),
        (deleted(29), "0"),
    ] {
        let found = ["requests.cpu", "pods", "count/pods"].map(|it| of_pod(&pod, it).unwrap());
        let pods = if cpu == "0" { "0" } else { "1" };
        assert_eq!(found, [cpu, pods, "1"], "{pod}");
    }
}

#[test]
fn a_service_takes_ports_of_nodes_and_balancers_by_its_type() {
    let without = json!({ "allocateLoadBalancerNodePorts": false });
    let one = json!({ "allocateLoadBalancerNodePorts": false,
        "ports": [{ "port": 1, "nodePort": 30000 }, { "port": 2 }] });
    for (kind, more, ports, balancers) in [
        ("ClusterIP", json!({}), "0", "0"),
        ("NodePort", json!({}), "2", "0"),
        ("LoadBalancer", json!({}), "2", "1"),
        ("LoadBalancer", without, "0", "1"),
        ("LoadBalancer", one, "1", "1"),
    ] {
        let mut spec = json!({ "type": kind, "ports": [{ "port": 1 }, { "port": 2 }] });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let service = of(&json!({ "spec": spec }));
        let found = ["services.nodeports", "services.loadbalancers", "services", "count/services"]
            .map(|it| Counted::service(&service).amount(it).unwrap().to_string());
        assert_eq!(found, [ports, balancers, "1", "1"], "{spec}");
        assert_eq!(Counted::service(&service).amount("pods"), None);
    }
}

#[test]
fn a_claim_takes_what_it_was_given_where_that_is_more_than_it_asks_for() {
    let claim = json!({ "spec": { "resources": { "requests": { "storage": "1Gi" } } },
        "status": { "allocatedResources": { "storage": "2Gi" } } });
    assert_eq!(of_claim(&claim, "requests.storage").as_deref(), Some("2Gi"));
    let part = json!({ "spec": { "resources": { "requests": { "storage": "1500m" } } } });
    assert_eq!(of_claim(&part, "requests.storage").as_deref(), Some("2"), "whole bytes");
}

#[test]
fn a_claim_is_of_its_class_however_that_is_written() {
    let claim = |annotations: Value, class: Value| {
        json!({ "metadata": { "annotations": annotations }, "spec": { "storageClassName": class,
            "resources": { "requests": { "storage": "1Gi" } } } })
    };
    let beta = json!({ BETA_CLASS: "gold" });
    for claim in [claim(json!({}), json!("gold")), claim(beta, json!("tin"))] {
        let found = |it: &str| of_claim(&claim, &format!("{it}{OF_STORAGE_CLASS}requests.storage"));
        assert_eq!((found("gold").as_deref(), found("tin")), (Some("1Gi"), None), "{claim}");
        let number = format!("gold{OF_STORAGE_CLASS}persistentvolumeclaims");
        assert_eq!(of_claim(&claim, &number).as_deref(), Some("1"));
    }
}

#[test]
fn only_pods_and_claims_of_volumes_are_in_scopes() {
    let quota = |scopes: &[&str]| of::<ResourceQuotaSpec>(&json!({ "scopes": scopes }));
    let (pod, claim, service) =
        (Pod::default(), PersistentVolumeClaim::default(), Service::default());
    let all = [
        Counted::pod(&pod, now()),
        Counted::claim(&claim),
        Counted::service(&service),
        Counted::other("secrets"),
    ];
    let within = |scopes: &[&str]| all.each_ref().map(|it| it.is_in(&quota(scopes)));
    assert_eq!(within(&[]), [true; 4]);
    assert_eq!(within(&["NotTerminating"]), [true, false, false, false]);
    assert_eq!(all[3].amount("secrets"), Some(number(1)));
    assert_eq!(all[3].amount("configmaps"), None);
}

#[test]
fn a_claim_asks_for_as_many_devices_of_a_class_as_its_worst_case() {
    let sub = |class: &str, count: i64| json!({ "name": class, "deviceClassName": class, "count": count });
    let claim = of(&json!({ "spec": { "devices": { "requests": [
        { "name": "a", "exactly": { "deviceClassName": "gold", "count": 3 } },
        { "name": "b", "exactly": { "deviceClassName": "gold" } },
        { "name": "c", "firstAvailable": [sub("gold", 2), sub("gold", 5), sub("tin", 9)] },
        { "name": "d", "exactly": { "deviceClassName": "nic", "allocationMode": "All" } },
    ] } } }));
    let counts = ["gold", "tin", "nic", "none"].map(|it| {
        let name = format!("{it}{OF_DEVICE_CLASS}");
        Counted::device_claim(&claim).amount(&name).unwrap().to_string()
    });
    assert_eq!(counts, ["9", "9", "32", "0"]);
}
