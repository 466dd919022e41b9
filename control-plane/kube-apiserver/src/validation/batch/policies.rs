//! When an indexed Job has succeeded, and what a failed pod means for its Job.
//!
//! Upstream: `validatePodFailurePolicy`, `validateSuccessPolicy` in pkg/apis/batch/validation.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::indexes;
use crate::{
    status::FieldError,
    validation::{Faults, fields, items, text},
};

const MOST_RULES: usize = 20;
const MOST_PATTERNS: usize = 20;
const MOST_CODES: usize = 255;
const LONGEST_INDEXES: usize = 64 * 1024;
const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATES: &[&str] = &["False", "True", "Unknown"];

/// One of these; who says nothing is told which there are, as Go prints lists.
fn one_of(faults: &mut Faults, field: String, value: &str, known: &[&str]) {
    if value.is_empty() {
        let all: Vec<String> = known.iter().map(|it| format!("{it:?}")).collect();
        let why = format!("valid values: [{}]", all.join(" "));
        faults.add(FieldError::required(field, why));
    } else if !known.contains(&value) {
        faults.add(FieldError::not_supported(field, value, known));
    }
}

fn without_value(faults: &mut Faults, field: &str, why: &str) {
    let mut error = FieldError::invalid(field, Value::Null, why);
    error.is_omitted = true;
    faults.add(error);
}

pub(super) fn failure(faults: &mut Faults, list: &str, spec: &Value) {
    let policy = &spec["podFailurePolicy"];
    let count = items(policy, "rules").count();
    if count > MOST_RULES {
        faults.add(FieldError::too_many(list, count, MOST_RULES));
    }
    for (index, rule) in items(policy, "rules") {
        let at = format!("{list}[{index}]");
        let action = text(rule, "action");
        if action == "FailIndex" && spec["backoffLimitPerIndex"].is_null() {
            let why = "requires the backoffLimitPerIndex to be set";
            faults.invalid(format!("{at}.action"), action, why);
        }
        one_of(faults, format!("{at}.action"), action, ACTIONS);
        let (codes, conditions) = (&rule["onExitCodes"], items(rule, "onPodConditions").count());
        if codes.is_object() {
            exit_codes(faults, &format!("{at}.onExitCodes"), codes, spec);
        }
        pod_conditions(faults, &format!("{at}.onPodConditions"), rule);
        match (codes.is_object(), conditions > 0) {
            (true, true) => {
                let why = "specifying both OnExitCodes and OnPodConditions is not supported";
                without_value(faults, &at, why);
            }
            (false, false) => {
                let why = "specifying one of OnExitCodes and OnPodConditions is required";
                without_value(faults, &at, why);
            }
            _ => {}
        }
    }
}

fn exit_codes(faults: &mut Faults, at: &str, codes: &Value, spec: &Value) {
    let operator = text(codes, "operator");
    one_of(faults, format!("{at}.operator"), operator, OPERATORS);
    if let Some(name) = codes["containerName"].as_str() {
        let template = &spec["template"]["spec"];
        let is_there = |list: &&str| items(template, list).any(|(_, it)| text(it, "name") == name);
        if !["containers", "initContainers"].iter().any(is_there) {
            let why = "must be one of the container or initContainer names in the pod template";
            faults.invalid(format!("{at}.containerName"), name, why);
        }
    }
    let list = format!("{at}.values");
    let values: Vec<i64> = items(codes, "values").filter_map(|(_, it)| it.as_i64()).collect();
    if values.is_empty() {
        faults.invalid(&*list, codes["values"].clone(), "at least one value is required");
    } else if values.len() > MOST_CODES {
        faults.add(FieldError::too_many(&*list, values.len(), MOST_CODES));
    }
    let mut seen = HashSet::new();
    for (index, value) in values.iter().enumerate() {
        let at = format!("{list}[{index}]");
        if operator == "In" && *value == 0 {
            faults.invalid(&*at, 0, "must not be 0 for the In operator");
        }
        if !seen.insert(value) {
            faults.add(FieldError::duplicate(at, *value));
        }
    }
    if !values.is_sorted() {
        faults.invalid(list, json!(values), "must be ordered");
    }
}

fn pod_conditions(faults: &mut Faults, list: &str, rule: &Value) {
    let count = items(rule, "onPodConditions").count();
    if count > MOST_PATTERNS {
        faults.add(FieldError::too_many(list, count, MOST_PATTERNS));
    }
    for (index, pattern) in items(rule, "onPodConditions") {
        let (at, kind) = (format!("{list}[{index}]"), text(pattern, "type"));
        faults.each(&format!("{at}.type"), kind, fields::qualified_name(kind));
        one_of(faults, format!("{at}.status"), text(pattern, "status"), STATES);
    }
}

pub(super) fn success(faults: &mut Faults, at: &str, spec: &Value) {
    let policy = &spec["successPolicy"];
    if spec["completionMode"] != "Indexed" {
        return faults.invalid(at, policy.clone(), "requires indexed completion mode");
    }
    let list = format!("{at}.rules");
    let count = items(policy, "rules").count();
    if count == 0 {
        let why = "at least one rules must be specified when the successPolicy is specified";
        faults.add(FieldError::required(&*list, why));
    }
    if count > MOST_RULES {
        faults.add(FieldError::too_many(&*list, count, MOST_RULES));
    }
    // Completions that are missing were told already.
    let Some(completions) = spec["completions"].as_i64() else { return };
    for (index, rule) in items(policy, "rules") {
        success_rule(faults, &format!("{list}[{index}]"), rule, completions);
    }
}

fn success_rule(faults: &mut Faults, at: &str, rule: &Value, completions: i64) {
    let (count, indexes) = (rule["succeededCount"].as_i64(), rule["succeededIndexes"].as_str());
    if count.is_none() && indexes.is_none() {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        faults.add(FieldError::required(at, why));
    }
    let mut total = 0;
    if let Some(indexes) = indexes {
        let field = format!("{at}.succeededIndexes");
        if indexes.len() > LONGEST_INDEXES {
            faults.add(FieldError::too_long(&*field, LONGEST_INDEXES));
        }
        match indexes::count(indexes, completions) {
            Ok(all) => total = all,
            Err(why) => {
                faults.invalid(field, indexes, format!("error parsing succeededIndexes: {why}"));
            }
        }
    }
    let Some(count) = count else { return };
    let field = format!("{at}.succeededCount");
    faults.not_negative(&field, &count.into());
    if count > completions {
        let why = format!(
            "must be less than or equal to {completions} (the number of specified completions)"
        );
        faults.invalid(&*field, count, why);
    }
    if indexes.is_some() && count > total {
        let why = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        faults.invalid(field, count, why);
    }
}
