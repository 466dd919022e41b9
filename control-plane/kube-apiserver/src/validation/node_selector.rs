//! Node selectors and taint-like fields: of pods, volumes and devices.
//!
//! Upstream: `ValidateNodeSelector`, `ValidateTolerations` in pkg/apis/core/validation.

use serde_json::Value;

use super::{Faults, fields, items, text};
use crate::status::FieldError;

pub(super) const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
const NOT_AN_OPERATOR: &str = "not a valid selector operator";

/// A `NodeSelector`; labels that no node can have are refused where they are required.
pub(super) fn check(faults: &mut Faults, at: &str, selector: &Value) {
    let at = format!("{at}.nodeSelectorTerms");
    if items(selector, "nodeSelectorTerms").next().is_none() {
        let why = "must have at least one node selector term";
        faults.add(FieldError::required(&*at, why));
    }
    for (index, it) in items(selector, "nodeSelectorTerms") {
        term(faults, &format!("{at}[{index}]"), it, true);
    }
}

pub(super) fn term(faults: &mut Faults, at: &str, term: &Value, is_required: bool) {
    for (index, it) in items(term, "matchExpressions") {
        requirement(faults, &format!("{at}.matchExpressions[{index}]"), it, is_required);
    }
    for (index, it) in items(term, "matchFields") {
        field(faults, &format!("{at}.matchFields[{index}]"), it);
    }
}

fn requirement(faults: &mut Faults, at: &str, it: &Value, checks_values: bool) {
    let count = items(it, "values").count();
    let values_at = format!("{at}.values");
    match text(it, "operator") {
        "In" | "NotIn" if count == 0 => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            faults.add(FieldError::required(&*values_at, why));
        }
        "Exists" | "DoesNotExist" if count > 0 => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            faults.forbidden(&*values_at, why);
        }
        "Gt" | "Lt" if count != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            faults.add(FieldError::required(&*values_at, why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => faults.invalid(format!("{at}.operator"), other, NOT_AN_OPERATOR),
    }
    let key = text(it, "key");
    faults.each(&format!("{at}.key"), key, fields::qualified_name(key));
    for (index, value) in items(it, "values").filter(|_| checks_values) {
        let value = value.as_str().unwrap_or_default();
        faults.each(&format!("{values_at}[{index}]"), value, fields::label_value(value));
    }
}

/// Of a node's fields only its name can be asked for.
fn field(faults: &mut Faults, at: &str, it: &Value) {
    let operator = text(it, "operator");
    if !matches!(operator, "In" | "NotIn") {
        faults.invalid(format!("{at}.operator"), operator, NOT_AN_OPERATOR);
    } else if items(it, "values").count() != 1 {
        let why =
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
        faults.add(FieldError::required(format!("{at}.values"), why));
    }
    let key = text(it, "key");
    if key != "metadata.name" {
        return faults.invalid(format!("{at}.key"), key, "not a valid field selector key");
    }
    for (index, value) in items(it, "values") {
        let value = value.as_str().unwrap_or_default();
        faults.each(&format!("{at}.values[{index}]"), value, fields::subdomain(value));
    }
}

pub(super) fn tolerations(faults: &mut Faults, list: &str, owner: &Value) {
    for (index, toleration) in items(owner, "tolerations") {
        let at = format!("{list}[{index}]");
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        let (value, effect) = (text(toleration, "value"), text(toleration, "effect"));
        let operator_at = format!("{at}.operator");
        if !key.is_empty() {
            faults.each(&format!("{at}.key"), key, fields::qualified_name(key));
        } else if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            faults.invalid(&*operator_at, operator, why);
        }
        if toleration["tolerationSeconds"].is_number() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            faults.invalid(format!("{at}.effect"), effect, why);
        }
        match operator {
            "" | "Equal" => {
                let wrong = fields::label_value(value);
                if !wrong.is_empty() {
                    faults.invalid(operator_at, value, wrong.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                faults.invalid(operator_at, value, why);
            }
            "Exists" => {}
            other => {
                let known = &["Equal", "Exists"];
                faults.add(FieldError::not_supported(operator_at, other, known));
            }
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            faults.add(FieldError::not_supported(format!("{at}.effect"), effect, EFFECTS));
        }
    }
}

/// Taints of a node.
pub(super) fn taints(faults: &mut Faults, list: &str, node: &Value) {
    let spec = &node["spec"];
    for (index, taint) in items(spec, "taints") {
        let at = format!("{list}[{index}]");
        let (key, value) = (text(taint, "key"), text(taint, "value"));
        faults.each(&format!("{at}.key"), key, fields::qualified_name(key));
        let wrong = fields::label_value(value);
        if !wrong.is_empty() {
            faults.invalid(format!("{at}.value"), value, wrong.join(";"));
        }
        faults.one_of(&format!("{at}.effect"), &taint["effect"], EFFECTS);
        let is_twin = |it: &Value| it["key"] == taint["key"] && it["effect"] == taint["effect"];
        if items(spec, "taints").take(index).any(|(_, it)| is_twin(it)) {
            let mut error = FieldError::duplicate(at, taint.clone());
            error.detail = "taints must be unique by key and effect pair".into();
            faults.add(error);
        }
    }
}
