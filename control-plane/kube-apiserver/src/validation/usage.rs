//! ResourceQuotas and LimitRanges.
//!
//! Upstream: `ValidateResourceQuotaSpec` and `ValidateLimitRange` in pkg/apis/core/validation.

use resources::Quantity;
use serde_json::{Map, Value};

use super::{Faults, fields, items, text};
use crate::status::FieldError;

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// Scopes that leave nothing together.
const OPPOSITES: [[&str; 2]; 2] =
    [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

/// What pods ask for.
const COMPUTE: [&str; 6] =
    ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];

/// Resources that are counted.
const COUNTED: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

const STORAGE: [&str; 4] = [
    "ephemeral-storage",
    "limits.ephemeral-storage",
    "requests.ephemeral-storage",
    "requests.storage",
];

fn is_standard(resource: &str) -> bool {
    COMPUTE.contains(&resource) || COUNTED.contains(&resource) || STORAGE.contains(&resource)
}

pub(super) fn quota(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    for (resource, amount) in spec["hard"].as_object().into_iter().flatten() {
        let field = format!("spec.hard[{resource}]");
        faults.each(&field, resource, fields::qualified_name(resource));
        if !resource.contains('/') && !is_standard(resource) {
            faults.invalid(&*field, resource.as_str(), "must be a standard resource for quota");
        }
        let shown = amount.as_str().unwrap_or_default();
        let Ok(quantity) = shown.parse::<Quantity>() else { continue };
        if quantity.is_negative() {
            faults.invalid(&*field, shown, "must be greater than or equal to 0");
        }
        if COUNTED.contains(&&**resource) && quantity.millis() % 1000 != 0 {
            faults.invalid(&*field, shown, "must be an integer");
        }
    }
    scopes(faults, spec);
    selected_scopes(faults, spec);
}

fn scopes(faults: &mut Faults, spec: &Value) {
    let field = "spec.scopes";
    let named: Vec<&str> = items(spec, "scopes").filter_map(|(_, it)| it.as_str()).collect();
    let mut wrong = |why: &str| faults.invalid(field, spec["scopes"].clone(), why);
    for scope in &named {
        if !SCOPES.contains(scope) {
            wrong("unsupported scope");
        }
        let hard = spec["hard"].as_object().into_iter().flat_map(Map::keys);
        for _ in hard.filter(|it| is_standard(it) && !is_about(scope, it)) {
            wrong("unsupported scope applied to resource");
        }
    }
    for _ in OPPOSITES.iter().filter(|pair| pair.iter().all(|it| named.contains(it))) {
        wrong("conflicting scopes");
    }
}

/// Whether a quota of that scope can count the resource.
fn is_about(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        _ => resource == "pods" || COMPUTE.contains(&resource),
    }
}

fn selected_scopes(faults: &mut Faults, spec: &Value) {
    for (at, scope) in items(&spec["scopeSelector"], "matchExpressions") {
        let field = format!("spec.scopeSelector.matchExpressions[{at}]");
        let (name, operator) = (text(scope, "scopeName"), text(scope, "operator"));
        if !SCOPES.contains(&name) {
            faults.invalid(format!("{field}.scopeName"), name, "unsupported scope");
        }
        let is_plain = !matches!(name, "PriorityClass" | "VolumeAttributesClass");
        if is_plain && operator != "Exists" {
            let why = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, \
                       ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                       ResourceQuotaScopeNotBestEffort or \
                       ResourceQuotaScopeCrossNamespacePodAffinity";
            faults.invalid(format!("{field}.operator"), operator, why);
        }
        let has_values = items(scope, "values").next().is_some();
        match operator {
            "In" | "NotIn" if !has_values => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for \
                           scope selector";
                faults.add(FieldError::required(format!("{field}.values"), why));
            }
            "Exists" | "DoesNotExist" if has_values => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for \
                           scope selector";
                faults.invalid(format!("{field}.values"), scope["values"].clone(), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => faults.invalid(
                format!("{field}.operator"),
                operator,
                "not a valid selector operator",
            ),
        }
    }
}

pub(super) fn quota_update(faults: &mut Faults, old: &Value, new: &Value) {
    let sorted = |spec: &Value| {
        let mut all: Vec<String> = items(spec, "scopes").map(|(_, it)| it.to_string()).collect();
        all.sort();
        all
    };
    if sorted(&old["spec"]) != sorted(&new["spec"]) {
        faults.invalid("spec.scopes", new["spec"]["scopes"].clone(), "field is immutable");
    }
}

pub(super) fn limit_range(faults: &mut Faults, object: &Value) {
    let mut seen = Vec::new();
    for (at, limit) in items(&object["spec"], "limits") {
        let field = format!("spec.limits[{at}]");
        let kind = text(limit, "type");
        if kind.is_empty() {
            faults.required(format!("{field}.type"));
        } else if seen.contains(&kind) {
            faults.add(FieldError::duplicate(format!("{field}.type"), kind));
        }
        seen.push(kind);
        if kind == "Pod" {
            for default in ["default", "defaultRequest"] {
                if limit[default].as_object().is_some_and(|it| !it.is_empty()) {
                    let why = "may not be specified when `type` is 'Pod'";
                    faults.add(FieldError::forbidden(format!("{field}.{default}"), why));
                }
            }
        }
        let has_storage = !limit["min"]["storage"].is_null() || !limit["max"]["storage"].is_null();
        if kind == "PersistentVolumeClaim" && !has_storage {
            let why =
                "either minimum or maximum storage value is required, but neither was provided";
            faults.add(FieldError::required(format!("{field}.limits"), why));
        }
        bounds(faults, &field, limit);
    }
}

/// Pairs of which the first must not be more than the second: what is told, and of which of them.
const BOUNDS: [(&str, &str, &str, &str); 6] = [
    ("min", "max", "min", "min value {} is greater than max value {}"),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        "min value {} is greater than default request value {}",
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        "default request value {} is greater than max value {}",
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "default request value {} is greater than default limit value {}",
    ),
    ("min", "default", "default", "min value {} is greater than default value {}"),
    ("default", "max", "default", "default value {} is greater than max value {}"),
];

fn bounds(faults: &mut Faults, field: &str, limit: &Value) {
    for (low, high, about, told) in BOUNDS {
        for (resource, least) in limit[low].as_object().into_iter().flatten() {
            let texts = (least.as_str(), limit[high][resource].as_str());
            let (Some(least), Some(most)) = texts else { continue };
            let parsed = (least.parse::<Quantity>(), most.parse::<Quantity>());
            let (Ok(a), Ok(b)) = parsed else { continue };
            if a > b {
                let shown = limit[about][resource].clone();
                let why = told.replacen("{}", least, 1).replacen("{}", most, 1);
                faults.invalid(format!("{field}.{about}[{resource}]"), shown, why);
            }
        }
    }
}
