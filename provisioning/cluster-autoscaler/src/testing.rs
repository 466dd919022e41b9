//! Short ways to write worlds in tests.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Node, Pod},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::{Value, json};

use crate::{
    options::Options,
    world::{Group, Instance, PodFact, World},
};

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000_000 + seconds).unwrap()
}

/// A node of 2 cores and 8 GiB, ready since the beginning.
pub(crate) fn node(name: &str) -> Node {
    sized(name, "2", "8Gi", &json!({}))
}

pub(crate) fn sized(name: &str, cpu: &str, memory: &str, labels: &Value) -> Node {
    let amounts = json!({ "cpu": cpu, "memory": memory, "pods": "110" });
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": labels, "creationTimestamp": "2001-01-01T00:00:00Z" },
        "spec": { "providerID": format!("aws:///z/{name}") },
        "status": {
            "allocatable": amounts, "capacity": amounts,
            "conditions": [{
                "type": "Ready", "status": "True", "lastTransitionTime": "2001-01-01T00:00:00Z",
            }],
        },
    }))
    .unwrap()
}

/// A node with so many GPUs of a type.
pub(crate) fn with_gpus(name: &str, count: i64) -> Node {
    let mut it = sized(name, "2", "8Gi", &json!({ "k8s.amazonaws.com/accelerator": "t4" }));
    let amount = || Quantity(count.to_string());
    let status = it.status.as_mut().unwrap();
    for all in [&mut status.capacity, &mut status.allocatable] {
        all.get_or_insert_default().insert("nvidia.com/gpu".to_owned(), amount());
    }
    it
}

/// A group of the nodes with these names.
pub(crate) fn group(name: &str, sizes: (i64, i64), nodes: &[&str]) -> Group {
    let instance =
        |it: &&str| Instance { provider_id: format!("aws:///z/{it}"), is_terminating: false };
    Group {
        name: name.to_owned(),
        min: sizes.0,
        max: sizes.1,
        target: i64::try_from(nodes.len()).unwrap(),
        instances: nodes.iter().map(instance).collect(),
        blueprint: Some(Arc::new(node("blueprint"))),
        options: Options::default().scale_down.defaults,
        failure: None,
    }
}

/// A pod of a ReplicaSet, of so many millicores.
pub(crate) fn pod(name: &str, cpu: u32, node: Option<&str>) -> PodFact {
    pod_with(name, cpu, node, json!({}))
}

/// With parts of a Pod that replace the ordinary ones.
pub(crate) fn pod_with(name: &str, cpu: u32, node: Option<&str>, parts: Value) -> PodFact {
    let mut pod = json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": name,
            "creationTimestamp": "2001-01-01T00:00:00Z",
            "labels": { "app": "web" },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "rs",
                "controller": true,
            }],
        },
        "spec": {
            "nodeName": node,
            "containers": [{
                "name": "c", "resources": { "requests": { "cpu": format!("{cpu}m") } },
            }],
        },
    });
    merge(&mut pod, parts);
    let pod: Pod = serde_json::from_value(pod).unwrap();
    PodFact::new(pod)
}

fn merge(into: &mut Value, parts: Value) {
    match (into, parts) {
        (Value::Object(into), Value::Object(parts)) => {
            for (key, value) in parts {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, parts) => *into = parts,
    }
}

/// A budget of the pods with these labels, that lets so many go.
pub(crate) fn budget(labels: &Value, allowed: i32) -> Arc<PodDisruptionBudget> {
    let budget = json!({
        "metadata": { "name": "b", "namespace": "default" },
        "spec": { "selector": { "matchLabels": labels } },
        "status": {
            "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1,
            "expectedPods": 1,
        },
    });
    Arc::new(serde_json::from_value(budget).unwrap())
}

pub(crate) fn world(nodes: Vec<Node>, groups: Vec<Group>, pods: Vec<PodFact>) -> World {
    let (placed, pending) = pods.into_iter().partition(|it| it.node().is_some());
    let nodes = nodes.into_iter().map(Arc::new).collect();
    World { nodes, groups, placed, pending, ..World::default() }
}
