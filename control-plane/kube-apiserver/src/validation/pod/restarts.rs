//! When a container starts again, by its own word rather than its pod's.
//!
//! Upstream: `validateContainerRestartPolicy` in pkg/apis/core/validation.

use serde_json::Value;

use crate::{
    status::FieldError,
    validation::{Faults, items, text},
};

const POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const ACTIONS: &[&str] = &["Restart", "RestartAllContainers"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;

pub(super) fn check(faults: &mut Faults, at: &str, container: &Value) {
    let field = format!("{at}.restartPolicy");
    let rules = items(container, "restartPolicyRules").count();
    match container["restartPolicy"].as_str() {
        Some(policy) if !POLICIES.contains(&policy) => {
            faults.add(FieldError::not_supported(field, policy, POLICIES));
        }
        None if rules > 0 => {
            let why = "must specify restartPolicy when restart rules are used";
            faults.add(FieldError::required(field, why));
        }
        _ => {}
    }
    let at = format!("{at}.restartPolicyRules");
    if rules > MOST_RULES {
        faults.add(FieldError::too_many(&at, rules, MOST_RULES));
    }
    for (index, rule) in items(container, "restartPolicyRules") {
        rule_of(faults, &format!("{at}[{index}]"), rule);
    }
}

fn rule_of(faults: &mut Faults, at: &str, rule: &Value) {
    let action = text(rule, "action");
    if !ACTIONS.contains(&action) {
        faults.add(FieldError::not_supported(format!("{at}.action"), action, ACTIONS));
    }
    let codes = &rule["exitCodes"];
    if !codes.is_object() {
        let why = "must be specified";
        return faults.add(FieldError::required(format!("{at}.exitCodes"), why));
    }
    let operator = text(codes, "operator");
    if !OPERATORS.contains(&operator) {
        let field = format!("{at}.exitCodes.operator");
        faults.add(FieldError::not_supported(field, operator, OPERATORS));
    }
    let count = items(codes, "values").count();
    if count > MOST_CODES {
        let field = format!("{at}.exitCodes.values");
        faults.add(FieldError::too_many(field, count, MOST_CODES));
    }
}
