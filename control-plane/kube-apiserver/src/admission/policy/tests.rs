//! Policies, asked by the whole server.

mod mutating;
mod parameters;
mod validating;
mod writing;

use http::StatusCode;
use serde_json::{Value, json};

use crate::tests::Cluster;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

fn map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}

/// Constraints on writes of ConfigMaps.
fn maps() -> Value {
    json!({"resourceRules": [{
        "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
    }]})
}

/// A spec with more, or other, fields.
fn with(mut spec: Value, more: Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    spec
}

async fn made(cluster: &Cluster, path: &str, name: &str, spec: Value) -> Value {
    let (code, made) = cluster.post(path, json!({"metadata": {"name": name}, "spec": spec})).await;
    assert_eq!(code, 201, "{made}");
    made
}

/// A policy of ConfigMaps, and a binding `b` with these actions.
async fn policy(cluster: &Cluster, spec: Value, actions: &[&str]) {
    made(cluster, POLICIES, "p", with(json!({"matchConstraints": maps()}), spec)).await;
    let binding = json!({"policyName": "p", "validationActions": actions});
    made(cluster, BINDINGS, "b", binding).await;
}

fn one(expression: &str) -> Value {
    json!({"validations": [{"expression": expression}]})
}

async fn post(cluster: &Cluster, name: &str, data: Value) -> (StatusCode, Value) {
    cluster.post(MAPS, map(name, data)).await
}

/// What a refusal says behind `denied request: `.
fn denied(status: &Value) -> &str {
    let message = status["message"].as_str().unwrap_or_default();
    message.split_once("denied request: ").map_or(message, |(_, why)| why)
}
