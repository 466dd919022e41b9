//! Defaults of the built-in types.
//!
//! Each function sets what is absent and touches nothing else, so running it twice changes nothing.
//!
//! Upstream: pkg/apis/*/v1/defaults.go.

mod networking;
mod pod;
mod sources;
mod workloads;

use api_kube::labels;
use resources::Quantity;
use serde_json::{Map, Value, json};

use crate::{
    custom_resources, resources::Resource, schema::structural::shaping, strategy::first_of,
};

pub(crate) fn apply(resource: &Resource, object: &mut Value) {
    if let Some(custom) = &resource.custom {
        return shaping::default(object, custom.node());
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pod::pod(object),
        ("", "podtemplates") => pod::template(at(object, "template")),
        ("", "replicationcontrollers") => workloads::replication_controller(object),
        ("", "services") => networking::service(object),
        ("", "secrets") => secret(object),
        ("", "endpoints") => networking::endpoints(object),
        ("", "persistentvolumeclaims") => sources::claim(at(object, "spec")),
        ("", "persistentvolumes") => sources::persistent_volume(object),
        ("", "namespaces") => namespace(object),
        ("apps", "deployments") => workloads::deployment(object),
        ("apps", "replicasets") => workloads::replica_set(object),
        ("apps", "daemonsets") => workloads::daemon_set(object),
        ("apps", "statefulsets") => workloads::stateful_set(object),
        ("batch", "jobs") => workloads::job(object),
        ("batch", "cronjobs") => workloads::cron_job(object),
        ("autoscaling", _) => workloads::autoscaler(object),
        ("discovery.k8s.io", _) => networking::endpoint_slice(object),
        ("networking.k8s.io", "networkpolicies") => networking::policy(object),
        ("networking.k8s.io", "ingresses") => {}
        ("storage.k8s.io", "storageclasses") => {
            or(object, "reclaimPolicy", json!("Delete"));
            or(object, "volumeBindingMode", json!("Immediate"));
        }
        ("storage.k8s.io", "csidrivers") => csi_driver(at(object, "spec")),
        ("admissionregistration.k8s.io", plural) => webhooks(plural, object),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => {
            or(at(object, "spec"), "matchingPrecedence", json!(1000));
        }
        ("flowcontrol.apiserver.k8s.io", _) => priority_level(at(object, "spec")),
        ("", "limitranges") => limit_range(object),
        ("", "nodes") => node(object),
        ("apiregistration.k8s.io", _) => api_service(object),
        ("apiextensions.k8s.io", _) => custom_resources::default(object),
        ("resource.k8s.io", "resourceclaims") => devices(at(object, "spec")),
        ("resource.k8s.io", "resourceclaimtemplates") => {
            devices(at(at(object, "spec"), "spec"));
        }
        ("scheduling.k8s.io", _) => or(object, "preemptionPolicy", json!("PreemptLowerPriority")),
        ("rbac.authorization.k8s.io", _) => role_binding(object),
        _ => {}
    }
    if resource.plural != "controllerrevisions" {
        drop_nulls(object);
    }
}

fn webhooks(plural: &str, object: &mut Value) {
    if !plural.ends_with("webhookconfigurations") {
        return policies(plural, object);
    }
    for hook in each(object, "webhooks") {
        or(hook, "failurePolicy", json!("Fail"));
        or(hook, "matchPolicy", json!("Equivalent"));
        or(hook, "namespaceSelector", json!({}));
        or(hook, "objectSelector", json!({}));
        or(hook, "timeoutSeconds", json!(10));
        if plural.starts_with("mutating") {
            or(hook, "reinvocationPolicy", json!("Never"));
        }
        if let Some(service) = hook.pointer_mut("/clientConfig/service") {
            or(service, "port", json!(443));
        }
        for rule in each(hook, "rules") {
            or(rule, "scope", json!("*"));
        }
    }
}

fn policies(plural: &str, object: &mut Value) {
    let is_binding = plural.ends_with("bindings");
    if !is_binding && object["spec"].is_object() {
        or(&mut object["spec"], "failurePolicy", json!("Fail"));
    }
    let field = if is_binding { "matchResources" } else { "matchConstraints" };
    let Some(matched) = object["spec"].get_mut(field).filter(|it| it.is_object()) else { return };
    or(matched, "matchPolicy", json!("Equivalent"));
    or(matched, "namespaceSelector", json!({}));
    or(matched, "objectSelector", json!({}));
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in each(matched, list) {
            or(rule, "scope", json!("*"));
        }
    }
}

/// A null is an absent field in every built-in type.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// The object at a field, made if it is not there.
pub(super) fn at<'a>(object: &'a mut Value, field: &str) -> &'a mut Value {
    if !object[field].is_object() {
        object[field] = Value::Object(Map::new());
    }
    &mut object[field]
}

/// Sets a field that is absent.
pub(super) fn or(object: &mut Value, field: &str, value: Value) {
    let Some(fields) = object.as_object_mut() else { return };
    match fields.get(field) {
        None | Some(Value::Null) => drop(fields.insert(field.into(), value)),
        Some(_) => {}
    }
}

/// Sets a text field that is absent or empty.
pub(super) fn or_text(object: &mut Value, field: &str, value: &str) {
    if object[field].as_str().unwrap_or_default().is_empty() {
        object[field] = value.into();
    }
}

/// Amounts below a thousandth are rounded up to one.
pub(super) fn round(owner: &mut Value, field: &str) {
    let amounts = owner.get_mut(field).and_then(Value::as_object_mut);
    for (_, amount) in amounts.into_iter().flatten() {
        let Some(text) = amount.as_str().filter(|it| it.ends_with(['n', 'u'])) else { continue };
        if let Ok(parsed) = text.parse::<Quantity>() {
            *amount = Quantity::from_millis(parsed.millis()).to_string().into();
        }
    }
}

/// The elements of a list, none if there is no list.
pub(super) fn each<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// A Namespace is labelled with its own name, whatever a client makes of its labels.
fn namespace(namespace: &mut Value) {
    let name = namespace["metadata"]["name"].clone();
    if name.as_str().is_some_and(|it| !it.is_empty()) {
        at(at(namespace, "metadata"), "labels")[labels::NAMESPACE_NAME] = name;
    }
}

fn secret(secret: &mut Value) {
    use base64::{Engine, prelude::BASE64_STANDARD};
    or_text(secret, "type", "Opaque");
    // `stringData` is for writing only.
    let plain = secret.as_object_mut().and_then(|it| it.remove("stringData"));
    for (key, value) in plain.as_ref().and_then(Value::as_object).into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        at(secret, "data")[key] = BASE64_STANDARD.encode(text).into();
    }
}

fn csi_driver(spec: &mut Value) {
    for (field, value) in [
        ("attachRequired", json!(true)),
        ("podInfoOnMount", json!(false)),
        ("storageCapacity", json!(false)),
        ("fsGroupPolicy", json!("ReadWriteOnceWithFSType")),
        ("volumeLifecycleModes", json!(["Persistent"])),
        ("requiresRepublish", json!(false)),
        ("seLinuxMount", json!(false)),
    ] {
        or(spec, field, value);
    }
}

fn priority_level(spec: &mut Value) {
    if spec["type"] == "Exempt" {
        let exempt = at(spec, "exempt");
        or(exempt, "nominalConcurrencyShares", json!(0));
        or(exempt, "lendablePercent", json!(0));
    } else if let Some(limited) = spec.get_mut("limited").filter(|it| it.is_object()) {
        or(limited, "nominalConcurrencyShares", json!(30));
        or(limited, "lendablePercent", json!(0));
        let queuing = limited.pointer_mut("/limitResponse/queuing");
        if let Some(queuing) = queuing.filter(|it| it.is_object()) {
            or(queuing, "queues", json!(64));
            or(queuing, "handSize", json!(8));
            or(queuing, "queueLengthLimit", json!(50));
        }
    }
}

/// What a container may have at most is what it gets, and what it gets is what it asks for.
fn limit_range(object: &mut Value) {
    for limit in each(at(object, "spec"), "limits").filter(|it| it["type"] == "Container") {
        for (to, from) in
            [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")]
        {
            let known = limit[from].clone();
            for (name, amount) in known.as_object().into_iter().flatten() {
                or(at(limit, to), name, amount.clone());
            }
        }
    }
}

/// A node can give out all that it has, as long as its kubelet does not say otherwise.
fn node(node: &mut Value) {
    if let Some(spec) = node.get_mut("spec").filter(|it| it.is_object()) {
        first_of(spec, "podCIDR", "podCIDRs", None);
    }
    let capacity = node["status"]["capacity"].clone();
    if capacity.is_object() {
        or(at(node, "status"), "allocatable", capacity);
    }
}

fn api_service(service: &mut Value) {
    if let Some(service) = service.pointer_mut("/spec/service").filter(|it| it.is_object()) {
        or(service, "port", json!(443));
    }
}

/// Of each request, one device.
fn devices(spec: &mut Value) {
    let Some(devices) = spec.get_mut("devices").filter(|it| it.is_object()) else { return };
    for request in each(devices, "requests") {
        if let Some(exactly) = request.get_mut("exactly").filter(|it| it.is_object()) {
            one_device(exactly);
        }
        each(request, "firstAvailable").for_each(one_device);
    }
}

fn one_device(request: &mut Value) {
    or_text(request, "allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount" && request["count"].as_i64().unwrap_or(0) == 0 {
        request["count"] = 1.into();
    }
    for toleration in each(request, "tolerations") {
        or_text(toleration, "operator", "Equal");
    }
}

fn role_binding(binding: &mut Value) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    if binding.get("roleRef").is_some() {
        or_text(at(binding, "roleRef"), "apiGroup", GROUP);
    }
    for subject in each(binding, "subjects") {
        if matches!(subject["kind"].as_str(), Some("User" | "Group")) {
            or_text(subject, "apiGroup", GROUP);
        }
    }
}

#[cfg(test)]
mod tests;
