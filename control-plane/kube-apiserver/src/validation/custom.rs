//! CustomResourceDefinitions, and custom resources against their schemas.
//!
//! Deviation: `x-kubernetes-validations` (CEL) rules are stored and shown, not evaluated; regular
//! expressions (`pattern`) are not evaluated either.
//!
//! Upstream: k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation.

use serde_json::Value;

use super::{Faults, fields, items, text};
use crate::status::FieldError;

const APPROVED: &str = "api-approved.kubernetes.io";

pub(super) fn definition(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    let (group, names) = (text(spec, "group"), &spec["names"]);
    let plural = text(names, "plural");
    let name = text(&object["metadata"], "name");
    if name != format!("{plural}.{group}") {
        faults.invalid("metadata.name", name, "must be spec.names.plural+\".\"+spec.group");
    }
    if group.is_empty() {
        faults.required("spec.group");
    } else {
        faults.each("spec.group", group, fields::subdomain(group));
        if !group.contains('.') {
            faults.invalid("spec.group", group, "should be a domain with at least one dot");
        }
    }
    faults.one_of("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]);
    for field in ["plural", "kind"] {
        let value = text(names, field);
        if value.is_empty() {
            faults.required(format!("spec.names.{field}"));
        } else {
            let lower = value.to_lowercase();
            faults.each(&format!("spec.names.{field}"), &lower, fields::label_1035(&lower));
        }
    }
    if spec["conversion"]["strategy"] == "Webhook" {
        let field = "spec.conversion.strategy";
        faults.add(FieldError::not_supported(field, "Webhook", &["None"]));
    }
    versions(faults, spec);
}

/// Kubernetes' own groups are for what its community has approved, or for who says that it has not.
pub(super) fn definition_create(faults: &mut Faults, object: &Value) {
    definition(faults, object);
    let group = text(&object["spec"], "group");
    let is_protected = ["k8s.io", "kubernetes.io"].iter().any(|it| {
        group.strip_suffix(it).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    if !is_protected {
        return;
    }
    let field = format!("metadata.annotations[{APPROVED}]");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let must = format!("protected groups must have approval annotation \"{APPROVED}\"");
    match text(&object["metadata"]["annotations"], APPROVED) {
        "" => faults.add(FieldError::required(field, format!("{must}, {see}"))),
        value if value.starts_with("unapproved") || is_url(value) => {}
        value => {
            let either = "with either a URL or a reason starting with \"unapproved\"";
            faults.invalid(field, value, format!("{must} {either}, {see}"));
        }
    }
}

fn is_url(text: &str) -> bool {
    let uri = text.parse::<http::Uri>().ok();
    uri.is_some_and(|it| it.scheme().is_some() && it.host().is_some_and(|host| !host.is_empty()))
}

fn versions(faults: &mut Faults, spec: &Value) {
    let stored = items(spec, "versions").filter(|(_, it)| it["storage"] == true).count();
    if stored != 1 {
        let why = "must have exactly one version marked as storage version";
        faults.invalid("spec.versions", spec["versions"].clone(), why);
    }
    for (index, version) in items(spec, "versions") {
        let at = format!("spec.versions[{index}]");
        let name = text(version, "name");
        faults.each(&format!("{at}.name"), name, fields::label_1035(name));
        if !version["schema"]["openAPIV3Schema"].is_object() {
            let why = "schemas are required";
            faults.add(FieldError::required(format!("{at}.schema.openAPIV3Schema"), why));
        }
    }
}

pub(super) fn definition_update(faults: &mut Faults, old: &Value, new: &Value) {
    for field in ["group", "scope"] {
        faults.immutable(&format!("spec.{field}"), &old["spec"][field], &new["spec"][field]);
    }
    for field in ["plural", "kind"] {
        let (before, after) = (&old["spec"]["names"][field], &new["spec"]["names"][field]);
        faults.immutable(&format!("spec.names.{field}"), before, after);
    }
}

/// A custom resource against the schema of its version.
pub(super) fn validate(faults: &mut Faults, schema: &Value, object: &Value) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if let Some(value) = object.get(name) {
            check(faults, name, property, value);
        }
    }
    required(faults, "", schema, object);
}

fn join(at: &str, field: &str) -> String {
    if at.is_empty() { field.to_owned() } else { format!("{at}.{field}") }
}

fn required(faults: &mut Faults, at: &str, schema: &Value, object: &Value) {
    for (_, name) in items(schema, "required") {
        let name = name.as_str().unwrap_or_default();
        if object.get(name).is_none() {
            faults.required(join(at, name));
        }
    }
}

fn check(faults: &mut Faults, at: &str, schema: &Value, value: &Value) {
    if value.is_null() {
        if schema["nullable"] != true {
            let kind = text(schema, "type");
            let why = format!("{at} in body must be of type {kind}: \"null\"");
            faults.invalid(at, "null", why);
        }
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let all: Vec<&str> = allowed.iter().map(|it| it.as_str().unwrap_or_default()).collect();
        faults.add(FieldError::not_supported(at, value.clone(), &all));
    }
    match value {
        Value::String(text) => {
            lengths(faults, at, schema, text.chars().count(), ["minLength", "maxLength"], "chars");
        }
        Value::Number(number) => {
            bounds(faults, at, schema, number.as_f64().unwrap_or_default(), value);
        }
        Value::Array(list) => {
            lengths(faults, at, schema, list.len(), ["minItems", "maxItems"], "items");
            for (index, item) in list.iter().enumerate() {
                check(faults, &format!("{at}[{index}]"), &schema["items"], item);
            }
        }
        Value::Object(entries) => {
            required(faults, at, schema, value);
            for (name, inner) in entries {
                let property = &schema["properties"][name];
                let property =
                    if property.is_null() { &schema["additionalProperties"] } else { property };
                if property.is_object() {
                    check(faults, &join(at, name), property, inner);
                }
            }
        }
        _ => {}
    }
}

fn lengths(
    faults: &mut Faults,
    at: &str,
    schema: &Value,
    length: usize,
    [least, most]: [&str; 2],
    unit: &str,
) {
    let limit = |name: &str| schema[name].as_u64().and_then(|it| usize::try_from(it).ok());
    if let Some(least) = limit(least).filter(|it| length < *it) {
        let why = format!("{at} in body should be at least {least} {unit} long");
        faults.invalid(at, length, why);
    }
    if let Some(most) = limit(most).filter(|it| length > *it) {
        faults.add(FieldError::too_long(at, most));
    }
}

fn bounds(faults: &mut Faults, at: &str, schema: &Value, number: f64, value: &Value) {
    if let Some(least) = schema["minimum"].as_f64() {
        let is_open = schema["exclusiveMinimum"] == true;
        if number < least || is_open && number <= least {
            let sign = if is_open { "greater than" } else { "greater than or equal to" };
            faults.invalid(at, value.clone(), format!("{at} in body should be {sign} {least}"));
        }
    }
    if let Some(most) = schema["maximum"].as_f64() {
        let is_open = schema["exclusiveMaximum"] == true;
        if number > most || is_open && number >= most {
            let sign = if is_open { "less than" } else { "less than or equal to" };
            faults.invalid(at, value.clone(), format!("{at} in body should be {sign} {most}"));
        }
    }
}
