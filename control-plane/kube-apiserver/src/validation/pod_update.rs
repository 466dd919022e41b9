//! What may change in a pod that exists.
//!
//! Upstream: `ValidatePodUpdate` in pkg/apis/core/validation.

use serde_json::Value;

use super::Faults;
use crate::status::FieldError;

const FORBIDDEN: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn check(faults: &mut Faults, old: &Value, new: &Value) {
    let count = |pod: &Value, list: &str| pod["spec"][list].as_array().map_or(0, Vec::len);
    for list in ["containers", "initContainers"] {
        if count(old, list) != count(new, list) {
            let why = "pod updates may not add or remove containers";
            faults.add(FieldError::forbidden(format!("spec.{list}"), why));
            return;
        }
    }
    deadline(faults, &old["spec"]["activeDeadlineSeconds"], &new["spec"]["activeDeadlineSeconds"]);
    tolerations(faults, old, new);
    let (mut before, mut after) = (old["spec"].clone(), new["spec"].clone());
    // Gates can be taken away, and while there are any, more is open; node selectors may be added.
    let is_gated = before["schedulingGates"].as_array().is_some_and(|it| !it.is_empty());
    if is_gated {
        gates(faults, &before, &after);
        for field in ["nodeSelector", "affinity", "schedulingGates"] {
            drop_field(&mut before, field);
            drop_field(&mut after, field);
        }
    }
    for spec in [&mut before, &mut after] {
        for field in ["activeDeadlineSeconds", "tolerations"] {
            drop_field(spec, field);
        }
        for list in ["containers", "initContainers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
            {
                drop_field(container, "image");
            }
        }
    }
    let was_negative =
        old["spec"]["terminationGracePeriodSeconds"].as_i64().is_some_and(|it| it < 0);
    if was_negative && after["terminationGracePeriodSeconds"] == 1 {
        drop_field(&mut before, "terminationGracePeriodSeconds");
        drop_field(&mut after, "terminationGracePeriodSeconds");
    }
    if before != after {
        faults.add(FieldError::forbidden("spec", FORBIDDEN));
    }
}

fn drop_field(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}

fn deadline(faults: &mut Faults, old: &Value, new: &Value) {
    let at = "spec.activeDeadlineSeconds";
    match (old.as_i64(), new.as_i64()) {
        (Some(old), Some(new)) if new > old => {
            faults.invalid(at, new, "must be less than or equal to previous value");
        }
        (Some(_), None) => {
            faults.invalid(at, Value::Null, "must not update from a positive integer to nil value");
        }
        _ => {}
    }
}

fn tolerations(faults: &mut Faults, old: &Value, new: &Value) {
    let list = |pod: &Value| pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    let after = list(new);
    let same = |a: &Value, b: &Value| {
        ["key", "operator", "value", "effect"].iter().all(|field| a[field] == b[field])
    };
    let is_kept = |it: &Value| after.iter().any(|other| same(it, other));
    if !list(old).iter().all(is_kept) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        faults.add(FieldError::forbidden("spec.tolerations", why));
    }
}

fn gates(faults: &mut Faults, before: &Value, after: &Value) {
    let known = before["schedulingGates"].as_array().cloned().unwrap_or_default();
    let added =
        after["schedulingGates"].as_array().into_iter().flatten().any(|it| !known.contains(it));
    if added {
        let why = "only deletion is allowed, but found new scheduling gate";
        faults.add(FieldError::forbidden("spec.schedulingGates", why));
    }
}
