//! ResourceQuotas and LimitRanges.
//!
//! Upstream: `ValidateResourceQuotaSpec` and `ValidateLimitRange` in pkg/apis/core/validation.

use resources::Quantity;
use serde_json::{Map, Value};

use super::{Faults, fields, items, pod::requirements, text};
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

/// Whether a quota can count it.
fn is_standard(resource: &str) -> bool {
    let is_pages =
        resource.starts_with("hugepages-") || resource.starts_with("requests.hugepages-");
    is_pages
        || COMPUTE.contains(&resource)
        || COUNTED.contains(&resource)
        || STORAGE.contains(&resource)
}

pub(super) fn quota(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    amounts(faults, "spec.hard", &spec["hard"]);
    scopes(faults, spec);
    selected_scopes(faults, spec);
}

pub(super) fn quota_status(faults: &mut Faults, object: &Value) {
    for list in ["hard", "used"] {
        amounts(faults, &format!("status.{list}"), &object["status"][list]);
    }
}

fn amounts(faults: &mut Faults, at: &str, amounts: &Value) {
    for (resource, amount) in amounts.as_object().into_iter().flatten() {
        let field = format!("{at}[{resource}]");
        let before = faults.count();
        faults.each(&field, resource, fields::qualified_name(resource));
        let is_plain = !resource.contains('/');
        if is_plain && faults.count() == before && !requirements::is_standard(resource) {
            let why = "must be a standard resource type or fully qualified";
            faults.invalid(&*field, resource.as_str(), why);
        }
        if is_plain && !is_standard(resource) {
            faults.invalid(&*field, resource.as_str(), "must be a standard resource for quota");
        }
        requirements::amount(faults, &field, resource, amount);
    }
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

/// Upstream tells these of the list, whichever of it is wrong.
fn selected_scopes(faults: &mut Faults, spec: &Value) {
    let at = "spec.scopeSelector.matchExpressions";
    let mut named = Vec::new();
    for (_, scope) in items(&spec["scopeSelector"], "matchExpressions") {
        let (name, operator) = (text(scope, "scopeName"), text(scope, "operator"));
        if !SCOPES.contains(&name) {
            faults.invalid(format!("{at}.scopeName"), name, "unsupported scope");
        }
        let hard = spec["hard"].as_object().into_iter().flat_map(Map::keys);
        for _ in hard.filter(|it| is_standard(it) && !is_about(name, it)) {
            let why = "unsupported scope applied to resource";
            faults.invalid(at, spec["scopeSelector"].clone(), why);
        }
        let is_plain = !matches!(name, "PriorityClass" | "VolumeAttributesClass");
        if is_plain && SCOPES.contains(&name) && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                       ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                       ResourceQuotaScopeNotBestEffort or \
                       ResourceQuotaScopeCrossNamespacePodAffinity";
            faults.invalid(format!("{at}.operator"), operator, why);
        }
        let has_values = items(scope, "values").next().is_some();
        match operator {
            "In" | "NotIn" if !has_values => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for \
                           scope selector";
                faults.add(FieldError::required(format!("{at}.values"), why));
            }
            "Exists" | "DoesNotExist" if has_values => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for \
                           scope selector";
                faults.invalid(format!("{at}.values"), scope["values"].clone(), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => {
                let why = "not a valid selector operator";
                faults.invalid(format!("{at}.operator"), operator, why);
            }
        }
        named.push(name);
    }
    for _ in OPPOSITES.iter().filter(|pair| pair.iter().all(|it| named.contains(it))) {
        faults.invalid(at, spec["scopes"].clone(), "conflicting scopes");
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
        faults.each(&format!("{field}.type"), kind, fields::qualified_name(kind));
        let is_known = matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
        if !kind.is_empty() && !kind.contains('/') && !is_known {
            let why = "must be a standard limit type or fully qualified";
            faults.invalid(format!("{field}.type"), kind, why);
        }
        limited(faults, &field, limit, kind);
        if seen.contains(&kind) {
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
        ratios(faults, &field, limit);
    }
}

/// What is limited, by name.
fn limited(faults: &mut Faults, field: &str, limit: &Value, kind: &str) {
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let is_refused = kind == "Pod" && list.starts_with("default");
        let names = limit[list].as_object().into_iter().flat_map(Map::keys);
        for name in names.filter(|_| !is_refused) {
            let field = format!("{field}.{list}[{name}]");
            if matches!(kind, "Pod" | "Container") {
                requirements::container_resource(faults, &field, name);
                continue;
            }
            let before = faults.count();
            faults.each(&field, name, fields::qualified_name(name));
            let is_known = name.contains('/') || requirements::is_standard(name);
            if faults.count() == before && !is_known {
                let why = "must be a standard resource type or fully qualified";
                faults.invalid(field, name.as_str(), why);
            }
        }
    }
}

/// How many times its request a limit may be.
fn ratios(faults: &mut Faults, field: &str, limit: &Value) {
    for (name, ratio) in limit["maxLimitRequestRatio"].as_object().into_iter().flatten() {
        let at = format!("{field}.maxLimitRequestRatio[{name}]");
        let Some(value) = fields::quantity(ratio) else { continue };
        if value < Quantity::from_millis(1000) {
            faults.invalid(&*at, ratio.clone(), format!("ratio {value} is less than 1"));
        }
        let bounds = (fields::quantity(&limit["max"][name]), fields::quantity(&limit["min"][name]));
        let (Some(most), Some(least)) = bounds else { continue };
        if least.millis() <= 0 {
            continue;
        }
        // Of these sizes a number with a point keeps what is compared.
        #[expect(clippy::cast_precision_loss, reason = "upstream compares floats")]
        let (span, asked) =
            (most.millis() as f64 / least.millis() as f64, value.millis() as f64 / 1000.0);
        if asked > span {
            let why = format!("ratio {value} is greater than max/min = {span:.6}");
            faults.invalid(at, ratio.clone(), why);
        }
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
