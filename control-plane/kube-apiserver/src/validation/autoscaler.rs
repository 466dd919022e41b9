//! HorizontalPodAutoscalers.
//!
//! Upstream: pkg/apis/autoscaling/validation.

use serde_json::Value;

use super::{Faults, fields, items, pod::requirements, text};
use crate::status::FieldError;

const LONGEST_PERIOD: i64 = 1800;
const LONGEST_WINDOW: i64 = 3600;
const SELECTIONS: &[&str] = &["Disabled", "Max", "Min"];
const POLICIES: &[&str] = &["Percent", "Pods"];
/// Kinds of metrics and the field of each, in the order in which upstream looks at them.
const METRICS: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const KINDS: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

/// `least` is the number of replicas below which nobody goes; zero where the object is there already.
pub(super) fn check(faults: &mut Faults, object: &Value, lowest: i64) {
    let spec = &object["spec"];
    let least = spec["minReplicas"].as_i64();
    if let Some(it) = least.filter(|it| *it < lowest) {
        let why = format!("must be greater than or equal to {lowest}");
        faults.invalid("spec.minReplicas", it, why);
    }
    let most = spec["maxReplicas"].as_i64().unwrap_or_default();
    if most < 1 {
        faults.invalid("spec.maxReplicas", most, "must be greater than 0");
    }
    if least.is_some_and(|it| most < it) {
        let why = "must be greater than or equal to `minReplicas`";
        faults.invalid("spec.maxReplicas", most, why);
    }
    reference(faults, "spec.scaleTargetRef", &spec["scaleTargetRef"]);
    for (index, metric) in items(spec, "metrics") {
        self::metric(faults, &format!("spec.metrics[{index}]"), metric);
    }
    let is_outer = |it: &Value| matches!(text(it, "type"), "Object" | "External");
    if least == Some(0) && !items(spec, "metrics").any(|(_, it)| is_outer(it)) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        faults.forbidden("spec.metrics", why);
    }
    for direction in ["scaleUp", "scaleDown"] {
        let it = &spec["behavior"][direction];
        if it.is_object() {
            rules(faults, &format!("spec.behavior.{direction}"), it);
        }
    }
}

/// By which number of replicas nobody goes below.
pub(super) fn lowest(old: Option<&Value>) -> i64 {
    i64::from(old.is_none_or(|it| it["spec"]["minReplicas"] != 0))
}

fn segment(faults: &mut Faults, field: &str, value: &str, why: &str) {
    if value.is_empty() {
        faults.add(FieldError::required(field, why));
    } else {
        faults.each(field, value, fields::path_segment(value));
    }
}

fn reference(faults: &mut Faults, at: &str, it: &Value) {
    for field in ["kind", "name"] {
        segment(faults, &format!("{at}.{field}"), text(it, field), "");
    }
}

fn rules(faults: &mut Faults, at: &str, rules: &Value) {
    let field = format!("{at}.stabilizationWindowSeconds");
    match rules["stabilizationWindowSeconds"].as_i64() {
        Some(it) if it < 0 => faults.invalid(field, it, "must be greater than or equal to zero"),
        Some(it) if it > LONGEST_WINDOW => {
            faults.invalid(field, it, format!("must be less than or equal to {LONGEST_WINDOW}"));
        }
        _ => {}
    }
    if let Some(it) = rules["selectPolicy"].as_str().filter(|it| !SELECTIONS.contains(it)) {
        faults.add(FieldError::not_supported(format!("{at}.selectPolicy"), it, SELECTIONS));
    }
    if fields::quantity(&rules["tolerance"]).is_some_and(|it| it.is_negative()) {
        let why = "must be greater than or equal to 0";
        faults.invalid(format!("{at}.tolerance"), rules["tolerance"].clone(), why);
    }
    let list = format!("{at}.policies");
    if items(rules, "policies").next().is_none() {
        faults.add(FieldError::required(&*list, "must specify at least one Policy"));
    }
    for (index, policy) in items(rules, "policies") {
        let at = format!("{list}[{index}]");
        let kind = text(policy, "type");
        if !POLICIES.contains(&kind) {
            faults.add(FieldError::not_supported(format!("{at}.type"), kind, POLICIES));
        }
        for field in ["value", "periodSeconds"] {
            let it = policy[field].as_i64().unwrap_or_default();
            if it <= 0 {
                faults.invalid(format!("{at}.{field}"), it, "must be greater than zero");
            }
        }
        let period = policy["periodSeconds"].as_i64().unwrap_or_default();
        if period > LONGEST_PERIOD {
            let why = format!("must be less than or equal to {LONGEST_PERIOD}");
            faults.invalid(format!("{at}.periodSeconds"), period, why);
        }
    }
}

fn metric(faults: &mut Faults, at: &str, metric: &Value) {
    let kind = text(metric, "type");
    if kind.is_empty() {
        let why = "must specify a metric source type";
        faults.add(FieldError::required(format!("{at}.type"), why));
    }
    let own = METRICS.iter().find(|(name, _)| *name == kind).map(|(_, field)| *field);
    if own.is_none() {
        faults.add(FieldError::not_supported(format!("{at}.type"), kind, KINDS));
    }
    let found: Vec<&str> =
        METRICS.iter().map(|(_, it)| *it).filter(|it| metric[*it].is_object()).collect();
    if let Some(first) = found.first() {
        source(faults, &format!("{at}.{first}"), first, &metric[*first]);
    }
    if let Some(own) = own.filter(|it| !metric[*it].is_object()) {
        let why = "must populate information for the given metric source";
        faults.add(FieldError::required(format!("{at}.{own}"), why));
    }
    if found.len() != 1 {
        for other in found.iter().filter(|it| Some(**it) != own) {
            faults.forbidden(format!("{at}.{other}"), "must populate the given metric source only");
        }
    }
}

fn source(faults: &mut Faults, at: &str, kind: &str, it: &Value) {
    match kind {
        "object" => reference(faults, &format!("{at}.describedObject"), &it["describedObject"]),
        "containerResource" => {
            resource_name(faults, &format!("{at}.name"), text(it, "name"), true);
            let container = text(it, "container");
            let field = format!("{at}.container");
            if container.is_empty() {
                faults.add(FieldError::required(field, "must specify a container"));
            } else {
                faults.each(&field, container, fields::label(container));
            }
        }
        "resource" => resource_name(faults, &format!("{at}.name"), text(it, "name"), false),
        _ => {}
    }
    if !kind.ends_with("esource") {
        let why = "must specify a metric name";
        segment(faults, &format!("{at}.metric.name"), text(&it["metric"], "name"), why);
    }
    let at = format!("{at}.target");
    target(faults, &at, &it["target"]);
    let has = |field: &str| !it["target"][field].is_null();
    let mut lacks = |field: &str, why: &str| {
        faults.add(FieldError::required(format!("{at}.{field}"), why));
    };
    match kind {
        "pods" if !has("averageValue") => {
            lacks("averageValue", "must specify a positive target averageValue");
        }
        "object" if !has("value") && !has("averageValue") => {
            lacks("averageValue", "must set either a target value or averageValue");
        }
        "external" if !has("value") && !has("averageValue") => {
            let why = "must set either a target value for metric or a per-pod target";
            lacks("averageValue", why);
        }
        "external" if has("value") && has("averageValue") => {
            let why = "may not set both a target value for metric and a per-pod target";
            faults.forbidden(format!("{at}.value"), why);
        }
        "resource" | "containerResource" => {
            match (has("averageUtilization"), has("averageValue")) {
                (false, false) => lacks(
                    "averageUtilization",
                    "must set either a target raw value or a target utilization",
                ),
                (true, true) => {
                    let why = "may not set both a target raw value and a target utilization";
                    faults.forbidden(format!("{at}.averageValue"), why);
                }
                _ => {}
            }
        }
        _ => {}
    }
}

fn resource_name(faults: &mut Faults, field: &str, name: &str, is_checked: bool) {
    if name.is_empty() {
        faults.add(FieldError::required(field, "must specify a resource name"));
    } else if is_checked {
        requirements::container_resource(faults, field, name);
    }
}

fn target(faults: &mut Faults, at: &str, target: &Value) {
    let kind = text(target, "type");
    let field = format!("{at}.type");
    if kind.is_empty() {
        faults.add(FieldError::required(&*field, "must specify a metric target type"));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        faults.invalid(field, kind, "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"] {
        if fields::quantity(&target[field]).is_some_and(|it| it.is_negative() || it.is_zero()) {
            faults.invalid(format!("{at}.{field}"), target[field].clone(), "must be positive");
        }
    }
    if let Some(it) = target["averageUtilization"].as_i64().filter(|it| *it < 1) {
        faults.invalid(format!("{at}.averageUtilization"), it, "must be greater than 0");
    }
}
