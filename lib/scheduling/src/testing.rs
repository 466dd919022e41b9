//! Short ways to write nodes and pods in tests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::PodInfo;

pub(crate) fn node(name: &str, cpu: &str, memory: &str, pods: u32) -> Node {
    labelled(name, cpu, memory, pods, &[])
}

pub(crate) fn labelled(
    name: &str,
    cpu: &str,
    memory: &str,
    pods: u32,
    labels: &[(&str, &str)],
) -> Node {
    let allocatable = serde_json::json!({ "cpu": cpu, "memory": memory, "pods": pods.to_string() });
    let labels: serde_json::Map<_, _> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    let node = serde_json::json!({
        "metadata": { "name": name, "labels": labels },
        "spec": {}, "status": { "allocatable": allocatable },
    });
    serde_json::from_value(node).unwrap()
}

/// A pod of this spec; `containers` may be left out.
pub(crate) fn api_pod(name: &str, labels: &[(&str, &str)], spec: &str) -> Pod {
    let mut spec: serde_json::Value = serde_json::from_str(spec).unwrap();
    if spec.get("containers").is_none() {
        spec["containers"] = serde_json::json!([]);
    }
    let labels: serde_json::Map<_, _> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    let meta =
        serde_json::json!({ "namespace": "default", "name": name, "uid": name, "labels": labels });
    serde_json::from_value(serde_json::json!({ "metadata": meta, "spec": spec })).unwrap()
}

pub(crate) fn pod(spec: &str) -> PodInfo {
    PodInfo::new(&api_pod("incoming", &[], spec))
}

pub(crate) fn placed(name: &str, spec: &str) -> Arc<PodInfo> {
    PodInfo::shared(&api_pod(name, &[], spec))
}

/// A spec that requests this much.
pub(crate) fn requesting(cpu: &str, memory: &str) -> String {
    let requests = serde_json::json!({ "cpu": cpu, "memory": memory });
    serde_json::json!({ "containers": [{ "name": "c", "resources": { "requests": requests } }] })
        .to_string()
}
