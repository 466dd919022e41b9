//! Nodes, storage, leases, classes, certificate signing requests.

use resources::Quantity;
use serde_json::Value;

use super::{Faults, fields, items, text};
use crate::{resources::meta, status::FieldError};

/// User-made priorities end here; above are the system's.
const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;

pub(super) fn node(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    for (index, taint) in items(spec, "taints") {
        let at = format!("metadata.taints[{index}]");
        let key = text(taint, "key");
        faults.each(&format!("{at}.key"), key, fields::qualified_name(key));
        let value = text(taint, "value");
        faults.each(&format!("{at}.value"), value, fields::label_value(value));
        let supported = &["NoExecute", "NoSchedule", "PreferNoSchedule"];
        faults.one_of(&format!("{at}.effect"), &taint["effect"], supported);
        let twins = items(spec, "taints")
            .take(index)
            .filter(|(_, it)| it["key"] == taint["key"] && it["effect"] == taint["effect"]);
        if twins.count() > 0 {
            let mut error = FieldError::duplicate(at, taint.clone());
            error.detail = "taints must be unique by key and effect pair".into();
            faults.add(error);
        }
    }
}

pub(super) fn node_update(faults: &mut Faults, old: &Value, new: &Value) {
    let (before, after) = (&old["spec"], &new["spec"]);
    for (field, what) in [("podCIDR", "podCIDR"), ("providerID", "providerID")] {
        let (before, after) = (text(before, field), text(after, field));
        if !before.is_empty() && before != after {
            let why = format!("node updates may not change {what} except from \"\" to valid");
            faults.add(FieldError::forbidden(format!("spec.{field}"), why));
        }
    }
}

pub(super) fn volume(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    if spec["accessModes"].as_array().is_none_or(Vec::is_empty) {
        faults.required("spec.accessModes");
    }
    if spec["capacity"]["storage"].is_null() {
        let why = "only storage is expected";
        let mut error = FieldError::required("spec.capacity", "");
        if spec["capacity"].is_object() {
            error = FieldError::not_supported("spec.capacity", "", &["storage"]);
            error.detail = format!("{why}: {}", error.detail);
        }
        faults.add(error);
    }
}

pub(super) fn claim(faults: &mut Faults, at: &str, spec: &Value) {
    if spec["accessModes"].as_array().is_none_or(Vec::is_empty) {
        let why = "at least 1 access mode is required";
        faults.add(FieldError::required(format!("{at}.accessModes"), why));
    }
    for (index, mode) in items(spec, "accessModes") {
        let mode = mode.as_str().unwrap_or_default();
        let supported = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
        if !supported.contains(&mode) {
            let field = format!("{at}.accessModes[{index}]");
            faults.add(FieldError::not_supported(field, mode, supported));
        }
    }
    if spec["resources"]["requests"]["storage"].is_null() {
        faults.required(format!("{at}.resources[storage]"));
    }
}

pub(super) fn claim_update(faults: &mut Faults, old: &Value, new: &Value) {
    let closed = |claim: &Value| {
        let mut spec = claim["spec"].clone();
        if let Some(fields) = spec.as_object_mut() {
            let is_bound = !text(&old["spec"], "volumeName").is_empty();
            for open in ["resources", "volumeAttributesClassName"] {
                fields.remove(open);
            }
            if !is_bound {
                fields.remove("volumeName");
            }
            // The default class is filled in later, by the controller that binds.
            if old["spec"]["storageClassName"].is_null() {
                fields.remove("storageClassName");
            }
        }
        spec
    };
    if closed(old) != closed(new) {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        faults.add(FieldError::forbidden("spec", why));
    }
    let size = |value: &Value| value.as_str().and_then(|it| it.parse::<Quantity>().ok());
    let requested = |claim: &Value| size(&claim["spec"]["resources"]["requests"]["storage"]);
    let has = size(&old["status"]["capacity"]["storage"]).unwrap_or(Quantity::ZERO);
    // A claim that could not grow may ask for less again, but not for less than it has.
    if let (Some(before), Some(after)) = (requested(old), requested(new))
        && after < before
        && after <= has
    {
        let why = "field can not be less than status.capacity";
        faults.add(FieldError::forbidden("spec.resources.requests.storage", why));
    }
}

pub(super) fn lease(faults: &mut Faults, object: &Value) {
    let seconds = &object["spec"]["leaseDurationSeconds"];
    if let Some(seconds) = seconds.as_i64().filter(|it| *it <= 0) {
        faults.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0");
    }
    let moves = &object["spec"]["leaseTransitions"];
    if let Some(moves) = moves.as_i64().filter(|it| *it < 0) {
        faults.invalid("spec.leaseTransitions", moves, "must be greater than or equal to 0");
    }
}

pub(super) fn priority_class(faults: &mut Faults, object: &Value) {
    let (name, value) =
        (text(&object["metadata"], "name"), object["value"].as_i64().unwrap_or_default());
    let is_system = matches!(name, "system-node-critical" | "system-cluster-critical");
    if name.starts_with("system-") && !is_system {
        let why = "priority class names with 'system-' prefix are reserved for system use only. error: name is not allowed";
        faults.add(FieldError::forbidden("metadata.name", why));
    }
    if value > HIGHEST_USER_PRIORITY && !is_system {
        let why =
            format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
        faults.add(FieldError::forbidden("value", why));
    }
    let policy = text(object, "preemptionPolicy");
    let supported = &["Never", "PreemptLowerPriority"];
    if !policy.is_empty() && !supported.contains(&policy) {
        faults.add(FieldError::not_supported("preemptionPolicy", policy, supported));
    }
}

pub(super) fn priority_class_update(faults: &mut Faults, old: &Value, new: &Value) {
    if old["value"] != new["value"] {
        faults.add(FieldError::forbidden("value", "may not be changed in an update."));
    }
    faults.immutable("preemptionPolicy", &old["preemptionPolicy"], &new["preemptionPolicy"]);
}

pub(super) fn storage_class_update(faults: &mut Faults, old: &Value, new: &Value) {
    for (field, why) in [
        ("parameters", "updates to parameters are forbidden."),
        ("provisioner", "updates to provisioner are forbidden."),
        ("reclaimPolicy", "updates to reclaimPolicy are forbidden."),
    ] {
        if old[field] != new[field] {
            faults.add(FieldError::forbidden(field, why));
        }
    }
    faults.immutable("volumeBindingMode", &old["volumeBindingMode"], &new["volumeBindingMode"]);
}

pub(super) fn api_service(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    let (name, expected) = (meta(object, "name"), crate::aggregation::expected_name(object));
    if name != expected {
        faults.invalid(
            "metadata.name",
            name,
            format!("must be `spec.version+\".\"+spec.group`: {expected:?}"),
        );
    }
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    if group.is_empty() && version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        faults.add(FieldError::required("spec.group", why));
    }
    if !group.is_empty() {
        faults.each("spec.group", group, fields::subdomain(group));
    }
    faults.each("spec.version", version, fields::label_1035(version));
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let value = spec[field].as_i64().unwrap_or_default();
        if !(1..=most).contains(&value) {
            let why = format!("must be positive and less than {most}");
            faults.invalid(format!("spec.{field}"), value, why);
        }
    }
    if spec["service"].is_object() {
        api_server(faults, spec);
        return;
    }
    let bundle = text(spec, "caBundle").len() / 4 * 3;
    if bundle > 0 {
        let why = "local APIServices may not have a caBundle";
        faults.invalid("spec.caBundle", format!("{bundle} bytes"), why);
    }
    if spec["insecureSkipTLSVerify"] == true {
        let why = "local APIServices may not have insecureSkipTLSVerify";
        faults.invalid("spec.insecureSkipTLSVerify", true, why);
    }
}

/// An APIService that hands its version to a server behind a Service.
fn api_server(faults: &mut Faults, spec: &Value) {
    if crate::resources::builtin::has_group(text(spec, "group")) {
        let why = "built-in groups are served by this server alone";
        faults.add(FieldError::forbidden("spec.service", why));
    }
    let service = &spec["service"];
    for field in ["namespace", "name"] {
        if text(service, field).is_empty() {
            faults.required(format!("spec.service.{field}"));
        }
    }
    let port = service["port"].as_i64().unwrap_or_default();
    if !(1..=65_535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        faults.invalid("spec.service.port", port, why);
    }
    if spec["insecureSkipTLSVerify"] == true && !text(spec, "caBundle").is_empty() {
        let why = "may not be true if caBundle is present";
        faults.invalid("spec.insecureSkipTLSVerify", true, why);
    }
}

pub(super) fn runtime_class(faults: &mut Faults, object: &Value) {
    let handler = text(object, "handler");
    if handler.is_empty() {
        faults.required("handler");
    } else {
        faults.each("handler", handler, fields::label(handler));
    }
}
