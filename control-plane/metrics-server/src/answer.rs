//! The objects of metrics.k8s.io/v1beta1, their lists and tables.

use http::{HeaderValue, Response, StatusCode, header};
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Value, json};
use transport::Body;

use crate::{
    quantity,
    samples::{Samples, Use},
};

const API_VERSION: &str = "metrics.k8s.io/v1beta1";

fn usage(cpu_nanos: u64, memory_bytes: u64) -> Value {
    json!({ "cpu": quantity::cpu(cpu_nanos), "memory": quantity::memory(memory_bytes) })
}

fn object(kind: &str, metadata: &ObjectMeta, used: &Use) -> Value {
    let mut object = json!({
        "kind": kind, "apiVersion": API_VERSION,
        "metadata": { "name": metadata.name, "creationTimestamp": time(used) },
        "timestamp": time(used), "window": quantity::duration(used.window),
    });
    if let Some(namespace) = &metadata.namespace {
        object["metadata"]["namespace"] = namespace.as_str().into();
    }
    if let Some(labels) = &metadata.labels {
        object["metadata"]["labels"] = json!(labels);
    }
    object
}

fn time(used: &Use) -> String {
    used.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `None` for a node that was not measured.
pub(crate) fn node(node: &Node, samples: &Samples) -> Option<Value> {
    let used = samples.node(node.metadata.name.as_deref()?)?;
    let mut metrics = object("NodeMetrics", &node.metadata, &used);
    metrics["usage"] = usage(used.cpu_nanos, used.memory_bytes);
    Some(metrics)
}

/// `None` for a pod of which no container was measured.
pub(crate) fn pod(pod: &Pod, samples: &Samples) -> Option<Value> {
    let spec = pod.spec.as_ref()?;
    let node = spec.node_name.as_deref()?;
    let (namespace, name) = (pod.metadata.namespace.clone()?, pod.metadata.name.clone()?);
    let init = spec.init_containers.iter().flatten();
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|it| &it.name);
    let names = spec.containers.iter().chain(init).map(|it| &it.name).chain(ephemeral);
    let measured: Vec<(&String, Use)> = names
        .filter_map(|it| {
            let key = (namespace.clone(), name.clone(), it.clone());
            Some((it, samples.container(node, &key)?))
        })
        .collect();
    let (_, first) = measured.first()?;
    let mut metrics = object("PodMetrics", &pod.metadata, first);
    metrics["containers"] = measured
        .iter()
        .map(|(name, it)| json!({ "name": name, "usage": usage(it.cpu_nanos, it.memory_bytes) }))
        .collect();
    // The sum, for the table.
    let cpu = measured.iter().map(|(_, it)| it.cpu_nanos).sum();
    let memory = measured.iter().map(|(_, it)| it.memory_bytes).sum();
    metrics["usage"] = usage(cpu, memory);
    Some(metrics)
}

/// One object or a list, as the client wants it.
pub(crate) fn render(mut objects: Vec<Value>, is_list: bool, kind: &str, accept: &str) -> Value {
    if accept.split(',').next().is_some_and(|it| it.contains("as=Table")) {
        return table(&objects);
    }
    if kind == "PodMetrics" {
        for pod in objects.iter_mut().filter_map(Value::as_object_mut) {
            pod.remove("usage");
        }
    }
    match objects.pop() {
        Some(only) if !is_list => only,
        last => {
            objects.extend(last);
            json!({
                "kind": format!("{kind}List"), "apiVersion": API_VERSION, "metadata": {},
                "items": objects,
            })
        }
    }
}

fn table(objects: &[Value]) -> Value {
    let column = |name: &str, kind: &str, format: &str| {
        json!({
            "name": name, "type": kind, "format": format, "description": "", "priority": 0,
        })
    };
    let rows: Vec<Value> = objects
        .iter()
        .map(|it| {
            let cells = json!([
                it["metadata"]["name"],
                it["usage"]["cpu"],
                it["usage"]["memory"],
                it["window"]
            ]);
            let object = json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": it["metadata"],
            });
            json!({ "cells": cells, "object": object })
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {},
        "columnDefinitions": [
            column("Name", "string", "name"), column("cpu", "string", "quantity"),
            column("memory", "string", "quantity"), column("Window", "string", "duration"),
        ],
        "rows": rows,
    })
}

/// What is served, for discovery.
pub(crate) fn resources() -> Value {
    let entry = |name: &str, kind: &str, namespaced: bool| {
        json!({
            "name": name, "singularName": "", "namespaced": namespaced, "kind": kind,
            "verbs": ["get", "list"],
        })
    };
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION,
        "resources": [entry("nodes", "NodeMetrics", false), entry("pods", "PodMetrics", true)],
    })
}

pub(crate) fn status(code: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    json_response(code, &status)
}

pub(crate) fn json_response(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(transport::full(value.to_string()));
    *response.status_mut() = code;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
