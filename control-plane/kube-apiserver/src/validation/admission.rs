//! Webhook configurations.
//!
//! Upstream: pkg/apis/admissionregistration/validation.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Faults, fields, items, text};
use crate::{
    admission::{expressions, webhook},
    cel::{self, Type},
    status::FieldError,
};

const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const OPERATIONS: [&str; 5] = ["*", "CREATE", "UPDATE", "DELETE", "CONNECT"];
const LONGEST_WAIT: u64 = 30;
const MOST_CONDITIONS: usize = 64;

pub(super) fn webhooks(faults: &mut Faults, plural: &str, object: &Value) {
    if !plural.ends_with("webhookconfigurations") {
        return;
    }
    let mut names = BTreeSet::new();
    let environment = expressions::environment(webhook::NAMES, Type::Dyn);
    for (at, hook) in items(object, "webhooks") {
        let field = format!("webhooks[{at}]");
        name(faults, &format!("{field}.name"), text(hook, "name"));
        if !names.insert(text(hook, "name")) {
            faults.add(FieldError::duplicate(format!("{field}.name"), text(hook, "name")));
        }
        client(faults, &format!("{field}.clientConfig"), &hook["clientConfig"]);
        for (at, it) in items(hook, "rules") {
            rule(faults, &format!("{field}.rules[{at}]"), it);
        }
        choices(faults, &field, hook);
        review_versions(faults, &format!("{field}.admissionReviewVersions"), hook);
        conditions(faults, &format!("{field}.matchConditions"), hook, &environment);
    }
}

fn name(faults: &mut Faults, field: &str, name: &str) {
    if name.is_empty() {
        return faults.required(field);
    }
    faults.each(field, name, fields::subdomain(name));
    if name.split('.').count() < 3 {
        faults.invalid(
            field,
            name,
            "should be a domain with at least three segments separated by dots",
        );
    }
}

fn client(faults: &mut Faults, field: &str, client: &Value) {
    let why = "exactly one of url or service is required";
    match (client["url"].as_str(), client["service"].is_object()) {
        (Some(url), false) => url_of(faults, &format!("{field}.url"), url),
        (None, true) => {
            let service = &client["service"];
            faults.text(format!("{field}.service.name"), &service["name"]);
            faults.text(format!("{field}.service.namespace"), &service["namespace"]);
            let port = service["port"].as_u64().unwrap_or(443);
            if !(1..=65535).contains(&port) {
                let why = "must be between 1 and 65535, inclusive";
                faults.invalid(format!("{field}.service.port"), port, why);
            }
        }
        _ => faults.add(FieldError::required(field, why)),
    }
}

fn url_of(faults: &mut Faults, field: &str, url: &str) {
    let form = "url must be a valid URL; desired format: https://host[/path]";
    match url.parse::<http::Uri>() {
        Err(error) => faults.invalid(field, url, format!("{form}: {error}")),
        Ok(uri) => {
            if uri.scheme_str() != Some("https") {
                let why =
                    "'https' is the only allowed URL scheme; desired format: https://host[/path]";
                faults.invalid(field, uri.scheme_str().unwrap_or_default(), why);
            }
            if uri.query().is_some() {
                let why = "query parameters are not permitted in the webhook URL";
                faults.invalid(field, uri.query().unwrap_or_default(), why);
            }
        }
    }
}

pub(super) fn rule(faults: &mut Faults, field: &str, rule: &Value) {
    for list in ["operations", "apiGroups", "apiVersions", "resources"] {
        if items(rule, list).next().is_none() {
            faults.required(format!("{field}.{list}"));
        }
        let all: Vec<_> = items(rule, list).filter_map(|(_, it)| it.as_str()).collect();
        if all.len() > 1 && all.contains(&"*") {
            let why = "if '*' is present, must not specify other entries";
            faults.invalid(format!("{field}.{list}"), rule[list].clone(), why);
        }
    }
    for (at, operation) in items(rule, "operations") {
        faults.one_of(&format!("{field}.operations[{at}]"), operation, &OPERATIONS);
    }
    if rule["scope"].is_string() {
        faults.one_of(&format!("{field}.scope"), &rule["scope"], &["*", "Cluster", "Namespaced"]);
    }
}

fn choices(faults: &mut Faults, field: &str, hook: &Value) {
    let side_effects = &["None", "NoneOnDryRun"];
    faults.one_of(&format!("{field}.sideEffects"), &hook["sideEffects"], side_effects);
    for (name, allowed) in [
        ("failurePolicy", ["Fail", "Ignore"]),
        ("matchPolicy", ["Equivalent", "Exact"]),
        ("reinvocationPolicy", ["IfNeeded", "Never"]),
    ] {
        if hook[name].is_string() {
            faults.one_of(&format!("{field}.{name}"), &hook[name], &allowed);
        }
    }
    if let Some(seconds) = hook["timeoutSeconds"].as_u64()
        && !(1..=LONGEST_WAIT).contains(&seconds)
    {
        let why = "the timeout value must be between 1 and 30 seconds";
        faults.invalid(format!("{field}.timeoutSeconds"), seconds, why);
    }
}

fn review_versions(faults: &mut Faults, field: &str, hook: &Value) {
    let found: Vec<&str> =
        items(hook, "admissionReviewVersions").filter_map(|(_, it)| it.as_str()).collect();
    if found.is_empty() {
        let why = "must specify one of v1, v1beta1";
        return faults.add(FieldError::required(field, why));
    }
    if !found.iter().any(|it| VERSIONS.contains(it)) {
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
    for (at, condition) in all {
        faults.text(format!("{field}[{at}].name"), &condition["name"]);
        let expression = text(condition, "expression");
        if expression.trim().is_empty() {
            faults.required(format!("{field}[{at}].expression"));
        } else if let Err(why) = cel::compile(expression, environment, &[Type::Bool]).map(drop) {
            faults.invalid(format!("{field}[{at}].expression"), expression, why);
        }
    }
}
