//! What the server makes of an object before it is stored: metadata, status, generation, and the
//! few types that get more than that.
//!
//! Upstream: the `PrepareForCreate` and `PrepareForUpdate` strategies in pkg/registry.

mod own_fields;
mod pod_warnings;
mod pods;
mod status_metadata;
mod typed_status;
mod warnings;

use serde_json::{Map, Value, json};

pub(crate) use self::warnings::{of as warnings, of_update as update_warnings, without_twins};
use crate::{
    admission::policy,
    resources::{Resource, meta},
    server::Call,
    status::FieldError,
};

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status.
    Main,
    /// The status only.
    Status,
    /// `certificatesigningrequests/approval`: the approval conditions.
    Approval,
    /// `namespaces/finalize`: `spec.finalizers`.
    Finalize,
    /// `pods/ephemeralcontainers`.
    EphemeralContainers,
    /// `pods/resize`.
    Resize,
    /// The server's own change through another subresource, already limited to what it may change.
    Whole,
}

impl Part {
    pub(crate) fn of(subresource: &str) -> Self {
        match subresource {
            "" => Self::Main,
            "status" => Self::Status,
            "approval" => Self::Approval,
            "finalize" => Self::Finalize,
            "ephemeralcontainers" => Self::EphemeralContainers,
            "resize" => Self::Resize,
            _ => Self::Whole,
        }
    }
}

/// Metadata that only the server writes.
const SERVER_OWNED: [&str; 7] = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
];

fn fields(object: &mut Value) -> &mut Map<String, Value> {
    object.as_object_mut().expect("decoding makes sure that it is an object")
}

/// Sets a field to what another object has there, or removes it.
fn copy(from: &Value, to: &mut Value, field: &str) {
    match from.get(field) {
        Some(value) if !value.is_null() => drop(fields(to).insert(field.into(), value.clone())),
        _ => drop(fields(to).remove(field)),
    }
}

/// Whether a write to `/status` can change metadata, too.
pub(crate) fn status_changes_metadata(resource: &Resource) -> bool {
    !status_metadata::changed(resource).is_empty()
}

pub(crate) fn prepare_create(call: &Call, object: &mut Value) {
    let resource = &call.resource;
    // A node is registered with the status that it has, as upstream takes it.
    if resource.has_status() && !resource.is("", "nodes") {
        fields(object).remove("status");
    }
    if resource.has_generation {
        object["metadata"]["generation"] = 1.into();
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces") => {
            own_fields::hold_namespace(object);
            object["status"] = json!({ "phase": "Active" });
        }
        ("", "persistentvolumeclaims") => {
            own_fields::both_sources(object);
            object["status"] = json!({ "phase": "Pending" });
        }
        ("", "persistentvolumes") => {
            object["status"] = json!({ "phase": "Pending" });
            own_fields::date_phase(None, object, &call.now());
        }
        ("", "pods") => {
            object["status"] = json!({ "phase": "Pending" });
            pods::apply_label_keys(object);
        }
        ("certificates.k8s.io", "certificatesigningrequests") => sign_request(call, object),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => {
            policy::status::prepare(&call.server.catalog(), object);
        }
        ("batch", "jobs") => crate::jobs::generate_selector(object),
        ("resource.k8s.io", "resourceslices") => {
            own_fields::drop_value_lists(None, object);
            own_fields::date_taints(object, &call.now());
        }
        ("apiextensions.k8s.io", _) => {
            crate::custom_resources::prepare(object, &call.now(), &call.server.catalog());
        }
        ("apiregistration.k8s.io", _) => {
            crate::aggregation::prepare(None, object, &call.now());
        }
        ("networking.k8s.io", "servicecidrs") => {
            crate::services::prepare_range(object, &call.now());
        }
        ("apps", "daemonsets") => {
            own_fields::first_template(object);
            empty_status(object);
        }
        ("apps", "statefulsets") => {
            own_fields::drop_max_unavailable(None, object);
            empty_status(object);
        }
        ("", "services" | "replicationcontrollers") | ("apps", "deployments" | "replicasets") => {
            empty_status(object);
        }
        ("policy", "poddisruptionbudgets")
        | ("batch", "cronjobs")
        | ("networking.k8s.io", "ingresses") => {
            object["status"] = json!({});
        }
        _ => {}
    }
    typed_status::complete(resource, object);
}

/// What the typed status looks like before any controller wrote to it.
fn empty_status(object: &mut Value) {
    let status = match object["kind"].as_str().unwrap_or_default() {
        "Service" => json!({ "loadBalancer": {} }),
        "DaemonSet" => json!({
            "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0,
            "numberReady": 0,
        }),
        "ReplicaSet" | "ReplicationController" => json!({ "replicas": 0 }),
        "StatefulSet" => json!({ "replicas": 0, "availableReplicas": 0 }),
        _ => json!({}),
    };
    object["status"] = status;
}

/// A signing request says who made it; the client cannot.
fn sign_request(call: &Call, object: &mut Value) {
    let user = &call.user;
    let spec = &mut object["spec"];
    spec["username"] = user.username.clone().into();
    spec["groups"] = user.groups.clone().into();
    if user.uid.is_empty() {
        fields(spec).remove("uid");
    } else {
        spec["uid"] = user.uid.clone().into();
    }
    if user.extra.is_empty() {
        fields(spec).remove("extra");
    } else {
        spec["extra"] = json!(user.extra);
    }
    object["status"] = json!({});
}

/// The last touch before validation, when admission has had its say.
pub(crate) fn finish_create(object: &mut Value, resource: &Resource) {
    if resource.is("", "pods") {
        let class = crate::qos::class(&object["spec"]);
        object["status"]["qosClass"] = class.into();
        if object["spec"]["schedulingGates"].as_array().is_some_and(|it| !it.is_empty()) {
            object["status"]["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
    }
}

/// Makes `new` an update of `old` that changes only `part`.
pub(crate) fn prepare_update(call: &Call, part: Part, old: &Value, new: &mut Value) {
    let resource = &call.resource;
    if !new["metadata"].is_object() {
        new["metadata"] = json!({});
    }
    match part {
        Part::Main if resource.has_status() => copy(old, new, "status"),
        Part::Main | Part::Whole => {}
        Part::Status => keep_all_but(resource, old, new, "status"),
        Part::Approval => keep_all_but(resource, old, new, "status"),
        Part::Finalize => keep_all_but(resource, old, new, "spec"),
        Part::EphemeralContainers | Part::Resize => keep_pod_but(part, old, new),
    }
    for field in SERVER_OWNED {
        let value = old["metadata"].clone();
        copy(&value, &mut new["metadata"], field);
    }
    fields(&mut new["metadata"]).remove("selfLink");
    match (resource.group.as_str(), resource.plural.as_str(), part) {
        ("", "pods", Part::Status) => pods::complete_status(old, new),
        ("apps", "statefulsets", Part::Main) => own_fields::drop_max_unavailable(Some(old), new),
        ("", "persistentvolumes", Part::Status) => {
            own_fields::date_phase(Some(old), new, &call.now());
        }
        ("resource.k8s.io", "resourceslices", _) => {
            own_fields::drop_value_lists(Some(old), new);
            own_fields::date_taints(new, &call.now());
        }
        ("resource.k8s.io", "resourceclaims", Part::Status) => own_fields::forget_freed(old, new),
        _ => {}
    }
    if resource.is("certificates.k8s.io", "certificatesigningrequests") && part != Part::Whole {
        prepare_signing_request(call, part, old, new);
    }
    if resource.is("apiextensions.k8s.io", "customresourcedefinitions") && part == Part::Main {
        crate::custom_resources::prepare(new, &call.now(), &call.server.catalog());
    }
    if resource.is("apiextensions.k8s.io", "customresourcedefinitions") && part == Part::Status {
        // As its controllers put them back, whatever a client makes of the status.
        crate::custom_resources::accept_names(new, &call.now(), &call.server.catalog());
    }
    if resource.is("apiregistration.k8s.io", "apiservices") && part == Part::Main {
        crate::aggregation::prepare(Some(old), new, &call.now());
    }
}

/// The new object with everything but one field as it was; labels and annotations too.
fn keep_all_but(resource: &Resource, old: &Value, new: &mut Value, field: &str) {
    let changed = new.get(field).cloned();
    let finalizers = new["metadata"]["finalizers"].clone();
    let managed = new["metadata"]["managedFields"].clone();
    let mut kept = old.clone();
    match changed {
        Some(value) => drop(fields(&mut kept).insert(field.into(), value)),
        None => drop(fields(&mut kept).remove(field)),
    }
    if field == "status" {
        for name in status_metadata::changed(resource) {
            let wanted = new["metadata"].clone();
            copy(&wanted, &mut kept["metadata"], name);
        }
    }
    if field == "spec" && !finalizers.is_null() {
        kept["metadata"]["finalizers"] = finalizers;
    }
    if !managed.is_null() {
        kept["metadata"]["managedFields"] = managed;
    }
    *new = kept;
}

fn keep_pod_but(part: Part, old: &Value, new: &mut Value) {
    let wanted = std::mem::replace(new, old.clone());
    if part == Part::EphemeralContainers {
        copy(&wanted["spec"], &mut new["spec"], "ephemeralContainers");
        return;
    }
    if wanted["spec"]["resources"].is_object() {
        copy(&wanted["spec"], &mut new["spec"], "resources");
    }
    for list in ["containers", "initContainers"] {
        let (known, given) = (&old["spec"][list], &wanted["spec"][list]);
        match (known.as_array(), given.as_array()) {
            (Some(known), Some(given)) if known.len() == given.len() => {
                let resized = given.iter().map(|it| resized(known, it)).collect();
                new["spec"][list] = Value::Array(resized);
            }
            // Validation says what is wrong with it.
            _ => copy(&wanted["spec"], &mut new["spec"], list),
        }
    }
}

/// A container that was there, with what may be changed; another one as it is, for validation to see.
fn resized(known: &[Value], given: &Value) -> Value {
    let Some(old) = known.iter().find(|it| it["name"] == given["name"]) else {
        return given.clone();
    };
    let mut container = old.clone();
    for field in ["resources", "resizePolicy"] {
        copy(given, &mut container, field);
    }
    container
}

fn prepare_signing_request(call: &Call, part: Part, old: &Value, new: &mut Value) {
    let spec = old["spec"].clone();
    new["spec"] = spec;
    if part == Part::Approval {
        // Only conditions; a certificate is issued through the status.
        let mut status = old["status"].clone();
        if !status.is_object() {
            status = json!({});
        }
        copy(&new["status"], &mut status, "conditions");
        new["status"] = status;
    } else if part == Part::Status {
        // As many as there were are those that there were; others are refused.
        for kind in ["Approved", "Denied"] {
            let of = |object: &Value| -> Vec<Value> {
                let all = object["status"]["conditions"].as_array().into_iter().flatten();
                all.filter(|it| it["type"] == kind).cloned().collect()
            };
            let known = of(old);
            if known.len() != of(new).len() {
                continue;
            }
            let own = new["status"].get_mut("conditions").and_then(Value::as_array_mut);
            let own = own.into_iter().flatten().filter(|it| it["type"] == kind);
            own.zip(known).for_each(|(it, known)| *it = known);
        }
    }
    let now = call.now();
    for condition in new["status"]["conditions"].as_array_mut().into_iter().flatten() {
        let known = old["status"]["conditions"].as_array().into_iter().flatten();
        let known = known.into_iter().find(|it| it["type"] == condition["type"]);
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = now.clone().into();
        }
        if condition["lastTransitionTime"].is_null() {
            let since = known.map(|it| it["lastTransitionTime"].clone()).filter(|it| !it.is_null());
            condition["lastTransitionTime"] = since.unwrap_or_else(|| now.clone().into());
        }
    }
}

/// After defaulting: what an update leaves out and keeps all the same.
pub(crate) fn fix_update(resource: &Resource, part: Part, old: &Value, new: &mut Value) {
    if part != Part::Main {
        return;
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "services") => crate::services::keep_allocations(old, new),
        ("", "namespaces") => copy_into_spec(old, new, "finalizers"),
        ("apps", "daemonsets") => own_fields::next_template(old, new),
        ("", "pods") => {
            for field in
                ["priority", "priorityClassName", "preemptionPolicy", "ephemeralContainers"]
            {
                copy_into_spec(old, new, field);
            }
            let status = old["status"].clone();
            new["status"] = status;
        }
        ("batch", "jobs") => {
            copy_into_spec(old, new, "selector");
        }
        _ => {}
    }
}

/// A field that was one and the list of which it is the first: each says what the other does, and the
/// single one is right where they differ.
pub(crate) fn first_of(object: &mut Value, single: &str, list: &str, key: Option<&str>) {
    let inner = |it: &Value| key.map_or_else(|| it.clone(), |key| it[key].clone());
    let first = object[list].as_array().and_then(|it| it.first()).map(inner);
    let own = object[single].as_str().unwrap_or_default().to_owned();
    match first {
        Some(first) if own.is_empty() => object[single] = first,
        None if own.is_empty() => {}
        Some(first) if first == own => {}
        _ => object[list] = key.map_or_else(|| json!([own]), |key| json!([{ key: own }])),
    }
}

fn copy_into_spec(old: &Value, new: &mut Value, field: &str) {
    if !new["spec"].is_object() {
        new["spec"] = json!({});
    }
    let old = old["spec"].clone();
    copy(&old, &mut new["spec"], field);
}

/// A change of anything but metadata and status is a new generation.
pub(crate) fn bump_generation(resource: &Resource, part: Part, old: &Value, new: &mut Value) {
    // Binding a pod is no change of what is wanted of it.
    let is_binding = resource.is("", "pods") && part == Part::Whole;
    if !resource.has_generation || is_binding {
        return;
    }
    let differs = |a: &Value, b: &Value| {
        let names = a.as_object().into_iter().flat_map(Map::keys);
        names
            .filter(|it| !matches!(it.as_str(), "metadata" | "status"))
            .any(|name| a.get(name) != b.get(name))
    };
    // Who follows a Deployment is told of its annotations, who routes by a slice of its labels.
    let part_of_it = match resource.plural.as_str() {
        "deployments" => "annotations",
        "endpointslices" => "labels",
        _ => "generation",
    };
    let noted = |it: &Value| it["metadata"][part_of_it].clone();
    if differs(old, new) || differs(new, old) || noted(old) != noted(new) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
        new["metadata"]["generation"] = (generation + 1).into();
    }
}

/// Whether an object that is marked for deletion has nothing left to wait for.
pub(crate) fn is_finished(resource: &Resource, object: &Value) -> bool {
    let has_items = |list: &Value| list.as_array().is_some_and(|it| !it.is_empty());
    let metadata = &object["metadata"];
    let is_marked = metadata["deletionTimestamp"].is_string();
    let waits_for_kubelet = resource.is("", "pods")
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() > 0;
    let is_held = has_items(&metadata["finalizers"])
        || resource.is("", "namespaces") && has_items(&object["spec"]["finalizers"]);
    is_marked && !is_held && !waits_for_kubelet
}

/// While an object is going, finalizers can only be taken away.
pub(crate) fn validate_metadata_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut faults = new_finalizers(old, new);
    for field in ["name", "uid"] {
        let (before, after) = (meta(old, field), meta(new, field));
        if before != after {
            let field = format!("metadata.{field}");
            faults.push(FieldError::invalid(field, after, "field is immutable"));
        }
    }
    faults
}

fn new_finalizers(old: &Value, new: &Value) -> Vec<FieldError> {
    if meta(old, "deletionTimestamp").is_empty() {
        return Vec::new();
    }
    let list =
        |object: &Value| object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let before = list(old);
    let added: Vec<String> = list(new)
        .iter()
        .filter(|it| !before.contains(it))
        .map(|it| it.as_str().unwrap_or_default().to_owned())
        .collect();
    if added.is_empty() {
        return Vec::new();
    }
    let shown: Vec<String> = added.iter().map(|it| format!("\"{it}\"")).collect();
    vec![FieldError::forbidden(
        "metadata.finalizers",
        format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers \
             []string{{{}}}",
            shown.join(", ")
        ),
    )]
}
