//! Webhook configurations. What was accepted once does not keep an update from being.
//!
//! Upstream: pkg/apis/admissionregistration/validation.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Faults, fields, items, text, webhook_client};
use crate::{
    admission::{expressions, webhook},
    cel::{self, Type},
    status::FieldError,
};

const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const OPERATIONS: [&str; 5] = ["*", "CREATE", "UPDATE", "DELETE", "CONNECT"];
const LONGEST_WAIT: i64 = 30;
const MOST_CONDITIONS: usize = 64;
const NO_SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];

/// What is not asked of an update, because the old configuration does not have it either.
///
/// Upstream: `validationOptions`.
#[derive(Default)]
struct Forgiven {
    side_effects: bool,
    review_versions: bool,
    names: bool,
    label_values: bool,
    /// They are as they were.
    conditions: bool,
}

impl Forgiven {
    fn of(old: &Value, new: &Value) -> Self {
        let all = || items(old, "webhooks").map(|(_, it)| it);
        let mut names = BTreeSet::new();
        let mut faults = Faults::default();
        all().for_each(|it| selectors(&mut faults, "", it, true));
        let conditions = |of: &Value| {
            let all = items(of, "webhooks").map(|(_, it)| it["matchConditions"].clone());
            all.collect::<Vec<_>>()
        };
        Self {
            side_effects: all().any(|it| !NO_SIDE_EFFECTS.contains(&text(it, "sideEffects"))),
            review_versions: all().any(|it| {
                let versions = it["admissionReviewVersions"].as_array();
                versions.is_some_and(|it| !it.is_empty()) && !is_understood(it)
            }),
            names: all().any(|it| !names.insert(text(it, "name"))),
            label_values: faults.count() > 0,
            conditions: conditions(old) == conditions(new),
        }
    }
}

pub(super) fn webhooks(faults: &mut Faults, plural: &str, object: &Value, old: Option<&Value>) {
    if !plural.ends_with("webhookconfigurations") {
        return;
    }
    let forgiven = old.map(|it| Forgiven::of(it, object)).unwrap_or_default();
    let mut names = BTreeSet::new();
    let environment = expressions::environment(webhook::NAMES, Type::Dyn);
    for (at, hook) in items(object, "webhooks") {
        let field = format!("webhooks[{at}]");
        let called = text(hook, "name");
        name(faults, &format!("{field}.name"), called);
        for (at, it) in items(hook, "rules") {
            rule(faults, &format!("{field}.rules[{at}]"), it);
        }
        choices(faults, &field, hook, &forgiven);
        selectors(faults, &field, hook, !forgiven.label_values);
        one_if_given(faults, &field, hook, "reinvocationPolicy", &["IfNeeded", "Never"]);
        webhook_client::client(faults, &format!("{field}.clientConfig"), &hook["clientConfig"]);
        if !forgiven.conditions {
            conditions(faults, &format!("{field}.matchConditions"), hook, &environment);
        }
        let versions = format!("{field}.admissionReviewVersions");
        review_versions(faults, &versions, hook, forgiven.review_versions);
        if !called.is_empty() && !names.insert(called) && !forgiven.names {
            faults.add(FieldError::duplicate(format!("{field}.name"), called));
        }
    }
}

fn selectors(faults: &mut Faults, field: &str, hook: &Value, checks_values: bool) {
    for selector in ["namespaceSelector", "objectSelector"] {
        let (field, selector) = (format!("{field}.{selector}"), &hook[selector]);
        if checks_values {
            fields::strict_selector(faults, &field, selector);
        } else {
            fields::selector(faults, &field, selector);
        }
    }
}

/// Upstream: `IsFullyQualifiedName`.
fn name(faults: &mut Faults, field: &str, name: &str) {
    let wrong = fields::subdomain(name);
    if name.is_empty() {
        faults.required(field);
    } else if !wrong.is_empty() {
        faults.invalid(field, name, wrong.join(","));
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        faults.invalid(field, name, why);
    }
}

pub(super) fn rule(faults: &mut Faults, field: &str, rule: &Value) {
    list(faults, field, rule, "operations", "operations");
    for (at, operation) in items(rule, "operations") {
        let found = operation.as_str().unwrap_or_default();
        if !OPERATIONS.contains(&found) {
            let field = format!("{field}.operations[{at}]");
            faults.add(FieldError::not_supported(field, found, &OPERATIONS));
        }
    }
    list(faults, field, rule, "apiGroups", "API groups");
    list(faults, field, rule, "apiVersions", "API versions");
    for (at, version) in items(rule, "apiVersions") {
        faults.text(format!("{field}.apiVersions[{at}]"), version);
    }
    resources(faults, &format!("{field}.resources"), rule);
    if rule["scope"].is_string() {
        faults.one_of(&format!("{field}.scope"), &rule["scope"], &["*", "Cluster", "Namespaced"]);
    }
}

/// Something has to be in it, and nothing beside `*`.
fn list(faults: &mut Faults, field: &str, rule: &Value, list: &str, what: &str) {
    let count = items(rule, list).count();
    if count == 0 {
        faults.required(format!("{field}.{list}"));
    }
    if count > 1 && items(rule, list).any(|(_, it)| it == "*") {
        let why = format!("if '*' is present, must not specify other {what}");
        faults.invalid(format!("{field}.{list}"), rule[list].clone(), why);
    }
}

/// None may be named by a wildcard that stands before it.
fn resources(faults: &mut Faults, field: &str, rule: &Value) {
    let all: Vec<_> = items(rule, "resources").map(|(_, it)| it.as_str().unwrap_or("")).collect();
    if all.is_empty() {
        faults.required(field);
    }
    let mut wild = BTreeSet::new();
    let mut has_plain = false;
    for (at, name) in all.iter().enumerate() {
        let field = format!("{field}[{at}]");
        let Some((resource, subresource)) = name.split_once('/') else {
            if name.is_empty() {
                faults.required(field);
            } else {
                has_plain = *name != "*";
            }
            continue;
        };
        let both = [format!("{resource}/*"), format!("*/{subresource}")];
        for pattern in both.iter().filter(|it| wild.contains(*it)) {
            let why = format!("if '{pattern}' is present, must not specify {name}");
            faults.invalid(&*field, *name, why);
        }
        wild.extend(both.into_iter().filter(|it| it == name));
    }
    let mut clash = |what: &str| {
        let why = format!("if {what}");
        faults.invalid(field, rule["resources"].clone(), why);
    };
    if all.len() > 1 && all.contains(&"*/*") {
        clash("'*/*' is present, must not specify other resources");
    }
    if has_plain && all.contains(&"*") {
        clash("'*' is present, must not specify other resources without subresources");
    }
}

fn choices(faults: &mut Faults, field: &str, hook: &Value, forgiven: &Forgiven) {
    one_if_given(faults, field, hook, "failurePolicy", &["Fail", "Ignore"]);
    one_if_given(faults, field, hook, "matchPolicy", &["Equivalent", "Exact"]);
    let effects = if forgiven.side_effects { &SIDE_EFFECTS[..] } else { &NO_SIDE_EFFECTS };
    if hook["sideEffects"].is_string() {
        one_if_given(faults, field, hook, "sideEffects", effects);
    } else {
        let why = format!("must specify one of {}", effects.join(", "));
        faults.add(FieldError::required(format!("{field}.sideEffects"), why));
    }
    if let Some(seconds) = hook["timeoutSeconds"].as_i64()
        && !(1..=LONGEST_WAIT).contains(&seconds)
    {
        let why = "the timeout value must be between 1 and 30 seconds";
        faults.invalid(format!("{field}.timeoutSeconds"), seconds, why);
    }
}

fn one_if_given(faults: &mut Faults, field: &str, hook: &Value, name: &str, known: &[&str]) {
    if let Some(found) = hook[name].as_str().filter(|it| !known.contains(it)) {
        faults.add(FieldError::not_supported(format!("{field}.{name}"), found, known));
    }
}

/// Whether one of the webhook's versions is one of ours.
fn is_understood(hook: &Value) -> bool {
    let mut all = items(hook, "admissionReviewVersions").filter_map(|(_, it)| it.as_str());
    all.any(|it| VERSIONS.contains(&it))
}

fn review_versions(faults: &mut Faults, field: &str, hook: &Value, may_be_any: bool) {
    let found: Vec<&str> =
        items(hook, "admissionReviewVersions").filter_map(|(_, it)| it.as_str()).collect();
    if found.is_empty() {
        let why = "must specify one of v1, v1beta1";
        return faults.add(FieldError::required(field, why));
    }
    for (at, version) in found.iter().enumerate() {
        let field = format!("{field}[{at}]");
        if found[..at].contains(version) {
            faults.invalid(field, *version, "duplicate version");
        } else {
            faults.each(&field, version, fields::label_1035(version));
        }
    }
    if !may_be_any && !is_understood(hook) {
        let why = "must include at least one of v1, v1beta1";
        faults.invalid(field, hook["admissionReviewVersions"].clone(), why);
    }
}

pub(super) fn conditions(
    faults: &mut Faults,
    field: &str,
    hook: &Value,
    environment: &cel::Environment,
) {
    let all: Vec<_> = items(hook, "matchConditions").collect();
    if all.len() > MOST_CONDITIONS {
        faults.add(FieldError::too_many(field, all.len(), MOST_CONDITIONS));
    }
    let mut names = BTreeSet::new();
    for (at, condition) in all {
        let expression = text(condition, "expression");
        if expression.trim().is_empty() {
            faults.required(format!("{field}[{at}].expression"));
        } else if let Err(why) = cel::compile(expression, environment, &[Type::Bool]).map(drop) {
            faults.invalid(format!("{field}[{at}].expression"), expression, why);
        }
        let (name, field) = (text(condition, "name"), format!("{field}[{at}].name"));
        if name.is_empty() {
            faults.required(field);
            continue;
        }
        faults.each(&field, name, fields::qualified_name(name));
        if !names.insert(name) {
            faults.add(FieldError::duplicate(field, name));
        }
    }
}
