//! What may change in a claim: it grows, once it is bound.
//!
//! Upstream: `ValidatePersistentVolumeClaimUpdate` in pkg/apis/core/validation.

use serde_json::{Map, Value};

use crate::{
    status::FieldError,
    validation::{Faults, fields, items, text},
};

const CLASS: &str = "spec.volumeAttributesClassName";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const RESIZES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

pub(in crate::validation) fn check(faults: &mut Faults, old: &Value, new: &Value) {
    let (before, after) = (&old["spec"], &new["spec"]);
    let annotated = |it: &Value| it["metadata"]["annotations"][BETA_CLASS].clone();
    let class = &after["storageClassName"];
    let is_upgrade = before["storageClassName"].is_null()
        && class.is_string()
        && annotated(old) == *class
        && (annotated(new).is_null() || annotated(new) == *class);
    if !is_upgrade && annotated(old) != annotated(new) {
        let field = format!("metadata.annotations.{BETA_CLASS}");
        faults.invalid(field, annotated(new), "field is immutable");
    }
    // The default class is filled in later, by the controller that binds.
    let is_late = before["storageClassName"].is_null()
        && class.is_string()
        && (annotated(old).is_null() || annotated(old) == *class);
    let is_bound = new["status"]["phase"] == "Bound";
    let mut open: Vec<&str> = Vec::new();
    if text(before, "volumeName").is_empty() {
        open.push("volumeName");
    }
    if is_late || is_upgrade {
        open.push("storageClassName");
    }
    if is_bound && after["volumeAttributesClassName"].is_string() {
        open.push("volumeAttributesClassName");
    }
    let closed = |spec: &Value| -> Map<String, Value> {
        let mut spec = spec.as_object().cloned().unwrap_or_default();
        spec.retain(|field, _| !open.contains(&field.as_str()));
        let requests = spec.get_mut("resources").and_then(|it| it.get_mut("requests"));
        if let Some(requests) = requests.filter(|_| is_bound).and_then(Value::as_object_mut) {
            requests.remove("storage");
        }
        spec
    };
    if closed(before) != closed(after) {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n";
        faults.forbidden("spec", why);
    }
    shrinking(faults, old, new);
    // As upstream tells it.
    faults.immutable("volumeMode", &before["volumeMode"], &after["volumeMode"]);
    let (was, is) = (&before["volumeAttributesClassName"], &after["volumeAttributesClassName"]);
    match is.as_str() {
        None if was.is_string() => {
            faults.forbidden(CLASS, "update from non-nil value to nil is forbidden");
        }
        Some("") if was.is_string() && was != is => {
            faults.forbidden(CLASS, "update from non-nil value to an empty string is forbidden");
        }
        _ => {}
    }
}

/// A claim that could not grow may ask for less again, but for more than it has.
fn shrinking(faults: &mut Faults, old: &Value, new: &Value) {
    let asked = |it: &Value| fields::quantity(&it["spec"]["resources"]["requests"]["storage"]);
    let has = fields::quantity(&new["status"]["capacity"]["storage"]);
    let has = has.unwrap_or(resources::Quantity::ZERO);
    if let (Some(before), Some(after)) = (asked(old), asked(new))
        && after < before
        && after <= has
    {
        let why = "field can not be less than status.capacity";
        faults.forbidden("spec.resources.requests.storage", why);
    }
}

pub(in crate::validation) fn status(faults: &mut Faults, new: &Value) {
    let status = &new["status"];
    if items(&new["spec"], "accessModes").next().is_none() {
        faults.required("Spec.accessModes");
    }
    amounts(faults, "status.capacity", &status["capacity"], false);
    let at = "status.allocatedResourceStatus";
    for (name, state) in status["allocatedResourceStatuses"].as_object().into_iter().flatten() {
        claim_resource(faults, at, name);
        if !RESIZES.contains(&state.as_str().unwrap_or_default()) {
            faults.add(FieldError::not_supported(at, name.as_str(), RESIZES));
        }
    }
    amounts(faults, "status.allocatedResources", &status["allocatedResources"], true);
}

fn amounts(faults: &mut Faults, at: &str, amounts: &Value, is_named: bool) {
    for (name, amount) in amounts.as_object().into_iter().flatten() {
        if is_named && !claim_resource(faults, at, name) {
            continue;
        }
        if let Some(value) = fields::quantity(amount).map(|it| it.value()).filter(|it| *it < 0) {
            faults.invalid(format!("{at}[{name}]"), value, "must be a valid resource quantity");
        }
    }
}

/// Of what is Kubernetes' own, a claim has storage alone.
fn claim_resource(faults: &mut Faults, field: &str, name: &str) -> bool {
    let before = faults.count();
    faults.each(field, name, fields::qualified_name(name));
    let is_native = !name.contains('/') || name.contains("kubernetes.io/");
    if faults.count() == before && is_native && name != "storage" {
        faults.add(FieldError::not_supported(field, name, &["storage"]));
    }
    faults.count() == before
}
