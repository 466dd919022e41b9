//! Admission policies and their bindings.
//!
//! Upstream: pkg/apis/admissionregistration/validation.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Faults, admission, fields, items, text};
use crate::{
    admission::policy::{self, Compiler},
    cel::Type,
    status::FieldError,
};

const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const MOST_ANNOTATIONS: usize = 20;
const LONGEST_ANNOTATION: usize = 5 * 1024;
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

pub(super) fn policy(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    let mut compiler = Compiler::of(spec, Type::Dyn, None);
    common(faults, spec, &mut compiler);
    let has_validations = items(spec, "validations").next().is_some();
    if !has_validations && items(spec, "auditAnnotations").next().is_none() {
        let why = "validations or auditAnnotations must contain at least one item";
        faults.add(FieldError::required("spec.validations", why));
        return faults.add(FieldError::required("spec.auditAnnotations", why));
    }
    for (at, it) in items(spec, "validations") {
        validation(faults, &format!("spec.validations[{at}]"), it, &compiler);
    }
    let count = items(spec, "auditAnnotations").count();
    if count > MOST_ANNOTATIONS {
        let why = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
        faults.invalid("spec.auditAnnotations", spec["auditAnnotations"].clone(), why);
    }
    let (mut keys, name) = (BTreeSet::new(), object["metadata"]["name"].as_str());
    for (at, it) in items(spec, "auditAnnotations") {
        let field = format!("spec.auditAnnotations[{at}]");
        annotation(faults, &field, name.unwrap_or_default(), it, &compiler);
        if !keys.insert(text(it, "key")) {
            faults.add(FieldError::duplicate(format!("{field}.key"), text(it, "key")));
        }
    }
}

pub(super) fn mutating_policy(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    let mut compiler = policy::mutating_compiler(spec);
    common(faults, spec, &mut compiler);
    let choice = "spec.reinvocationPolicy";
    faults.one_of(choice, &spec["reinvocationPolicy"], &["IfNeeded", "Never"]);
    if items(spec, "mutations").next().is_none() {
        let why = "mutations must contain at least one item";
        faults.add(FieldError::required("spec.mutations", why));
    }
    for (at, it) in items(spec, "mutations") {
        mutation(faults, &format!("spec.mutations[{at}]"), it, &compiler);
    }
}

/// What both kinds of policies have.
fn common(faults: &mut Faults, spec: &Value, compiler: &mut Compiler) {
    faults.one_of("spec.failurePolicy", &spec["failurePolicy"], &["Fail", "Ignore"]);
    if spec["paramKind"].is_object() {
        param_kind(faults, &spec["paramKind"]);
    }
    if spec["matchConstraints"].is_object() {
        match_resources(faults, "spec.matchConstraints", &spec["matchConstraints"]);
        if items(&spec["matchConstraints"], "resourceRules").next().is_none() {
            faults.required("spec.matchConstraints.resourceRules");
        }
    } else {
        faults.required("spec.matchConstraints");
    }
    let environment = compiler.for_conditions();
    admission::conditions(faults, "spec.matchConditions", spec, &environment);
    for (at, it) in items(spec, "variables") {
        variable(faults, &format!("spec.variables[{at}]"), it, compiler);
    }
}

fn param_kind(faults: &mut Faults, kind: &Value) {
    let (api_version, field) = (text(kind, "apiVersion"), "spec.paramKind.apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if api_version.is_empty() {
        faults.required(field);
    } else if version.contains('/') {
        let why = format!("unexpected GroupVersion string: {api_version}");
        faults.invalid(field, api_version, why);
    } else {
        if !group.is_empty() {
            faults.each(field, group, fields::subdomain(group));
        }
        if version.is_empty() {
            faults.invalid(field, api_version, "version must be specified");
        } else {
            faults.each(field, version, fields::label_1035(version));
        }
    }
    let kind = text(kind, "kind");
    if kind.is_empty() {
        return faults.required("spec.paramKind.kind");
    }
    for why in fields::label_1035(&kind.to_lowercase()) {
        let why = format!("may have mixed case, but should otherwise match: {why}");
        faults.invalid("spec.paramKind.kind", kind, why);
    }
}

fn match_resources(faults: &mut Faults, field: &str, it: &Value) {
    let policy = format!("{field}.matchPolicy");
    faults.one_of(&policy, &it["matchPolicy"], &["Equivalent", "Exact"]);
    for selector in ["namespaceSelector", "objectSelector"] {
        let found = &it[selector];
        let field = format!("{field}.{selector}");
        if !found.is_object() {
            faults.required(field);
        } else {
            fields::strict_selector(faults, &field, found);
        }
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        for (at, rule) in items(it, list) {
            let field = format!("{field}.{list}[{at}]");
            let mut names = BTreeSet::new();
            for (at, name) in items(rule, "resourceNames") {
                if !names.insert(name.as_str()) {
                    let name = name.as_str().unwrap_or_default();
                    faults.add(FieldError::duplicate(format!("{field}.resourceNames[{at}]"), name));
                }
            }
            admission::rule(faults, &field, rule);
        }
    }
}

fn variable(faults: &mut Faults, field: &str, it: &Value, compiler: &mut Compiler) {
    let (name, expression) = (text(it, "name"), text(it, "expression"));
    if name.trim().is_empty() {
        let why = "name is not specified";
        faults.add(FieldError::required(format!("{field}.name"), why));
    } else if !is_identifier(name) {
        faults.invalid(format!("{field}.name"), name, "name is not a valid CEL identifier");
    }
    if expression.trim().is_empty() {
        let why = "expression is not specified";
        faults.add(FieldError::required(format!("{field}.expression"), why));
    } else if let Err(why) = compiler.variable(name, expression) {
        faults.invalid(format!("{field}.expression"), expression, why);
    }
}

fn is_identifier(name: &str) -> bool {
    let is_start = |it: char| it == '_' || it.is_ascii_alphabetic();
    name.starts_with(is_start)
        && name.chars().all(|it| is_start(it) || it.is_ascii_digit())
        && !RESERVED.contains(&name)
}

fn validation(faults: &mut Faults, field: &str, it: &Value, compiler: &Compiler) {
    let expression = text(it, "expression");
    let at = format!("{field}.expression");
    if expression.trim().is_empty() {
        faults.add(FieldError::required(at, "expression is not specified"));
    } else if let Err(why) = compiler.compile(expression, &[Type::Bool]) {
        faults.invalid(at, expression, why);
    }
    let (message, at) = (text(it, "messageExpression"), format!("{field}.messageExpression"));
    if !message.is_empty() && message.trim().is_empty() {
        faults.invalid(at, message, "must be non-empty if specified");
    } else if !message.is_empty()
        && let Err(why) = compiler.compile_message(message)
    {
        faults.invalid(at, message, why);
    }
    let (message, at) = (text(it, "message"), format!("{field}.message"));
    if !message.is_empty() && message.trim().is_empty() {
        faults.invalid(at, message, "message must be non-empty if specified");
    } else if message.trim().contains(['\n', '\r']) {
        faults.invalid(at, message, "message must not contain line breaks");
    }
    if it["reason"].is_string() {
        faults.one_of(&format!("{field}.reason"), &it["reason"], &REASONS);
    }
}

fn annotation(faults: &mut Faults, field: &str, name: &str, it: &Value, compiler: &Compiler) {
    let (key, at) = (text(it, "key"), format!("{field}.key"));
    if name.is_empty() {
        faults.invalid(at, key, "requires metadata.name be non-empty");
    } else {
        let whole = format!("{name}/{key}");
        faults.each(&at, &whole, fields::qualified_name(&whole));
    }
    let (expression, at) = (text(it, "valueExpression"), format!("{field}.valueExpression"));
    if expression.trim().is_empty() {
        faults.add(FieldError::required(at, "valueExpression is not specified"));
    } else if expression.trim().len() > LONGEST_ANNOTATION {
        let why = format!("must not exceed {LONGEST_ANNOTATION} bytes in length");
        faults.add(FieldError::required(at, why));
    } else if let Err(why) = compiler.compile(expression, &[Type::String, Type::Null]) {
        faults.invalid(at, expression, why);
    }
}

fn mutation(faults: &mut Faults, field: &str, it: &Value, compiler: &Compiler) {
    let kinds = ["ApplyConfiguration", "JSONPatch"];
    faults.one_of(&format!("{field}.patchType"), &it["patchType"], &kinds);
    let (own, other) = match text(it, "patchType") {
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        _ => return,
    };
    if it[other].is_object() {
        let why = format!("must not be specified when patchType is {}", text(it, "patchType"));
        faults.add(FieldError::forbidden(format!("{field}.{other}"), why));
    }
    let at = format!("{field}.{own}.expression");
    if !it[own].is_object() {
        let why = format!("must be specified when patchType is {}", text(it, "patchType"));
        faults.add(FieldError::required(format!("{field}.{own}"), why));
    } else if text(&it[own], "expression").trim().is_empty() {
        faults.add(FieldError::required(at, "expression is not specified"));
    } else if let Err(why) = policy::check_mutation(it, compiler) {
        faults.invalid(at, text(&it[own], "expression"), why);
    }
}

/// Of either kind; only those of validating policies have actions.
pub(super) fn binding(faults: &mut Faults, object: &Value, has_actions: bool) {
    let spec = &object["spec"];
    let policy = text(spec, "policyName");
    if policy.is_empty() {
        faults.required("spec.policyName");
    } else {
        faults.each("spec.policyName", policy, fields::subdomain(policy));
    }
    if spec["paramRef"].is_object() {
        param_ref(faults, &spec["paramRef"]);
    }
    if spec["matchResources"].is_object() {
        // As upstream spells it.
        match_resources(faults, "spec.matchResouces", &spec["matchResources"]);
    }
    if has_actions {
        actions(faults, spec);
    }
}

fn param_ref(faults: &mut Faults, it: &Value) {
    let (field, both) = ("spec.paramRef", "name and selector are mutually exclusive");
    match (text(it, "name"), it["selector"].is_object()) {
        ("", false) => {
            let why = "one of name or selector must be specified";
            faults.add(FieldError::required(field, why));
        }
        ("", true) | (_, false) => {}
        (_, true) => {
            faults.add(FieldError::forbidden("spec.paramRef.name", both));
            faults.add(FieldError::forbidden("spec.paramRef.selector", both));
        }
    }
    if it["selector"].is_object() {
        fields::selector(faults, "spec.paramRef.selector", &it["selector"]);
    }
    let action = &it["parameterNotFoundAction"];
    faults.one_of("spec.paramRef.parameterNotFoundAction", action, &["Deny", "Allow"]);
}

fn actions(faults: &mut Faults, spec: &Value) {
    let field = "spec.validationActions";
    let mut known = BTreeSet::new();
    for (at, it) in items(spec, "validationActions") {
        let action = it.as_str().unwrap_or_default();
        let at = format!("{field}[{at}]");
        if !ACTIONS.contains(&action) {
            faults.add(FieldError::not_supported(&*at, action, &ACTIONS));
        }
        if !known.insert(action) {
            faults.add(FieldError::duplicate(at, action));
        }
    }
    if known.contains("Deny") && known.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure \
                   information in the API response and headers serves no purpose)";
        faults.invalid(field, spec["validationActions"].clone(), why);
    }
    if known.is_empty() {
        faults.add(FieldError::required(field, "at least one validation action is required"));
    }
}
