//! Values against the schema of their place, in the words of upstream's validator.
//!
//! A value that an update leaves as it was is not looked at again: what was stored under an older
//! schema stays writable (KEP-4008).
//!
//! Deviation: of several alternatives (`anyOf`, `oneOf`) of which none fits, the faults of the one
//! with the fewest are told; upstream counts matches.
//!
//! Upstream: k8s.io/kube-openapi/pkg/validation/validate, and `ValidateCustomResource`.

use serde_json::{Map, Value};

use super::{formats, ratchet};
use crate::{
    schema::structural::{Node, Range},
    status::{Fault, FieldError},
};

/// The place of a value, and what was there before an update.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) node: &'a Node,
    pub(super) old: Option<&'a Value>,
}

/// Gathers what is wrong with a value and everything in it.
pub(super) fn check(faults: &mut Vec<FieldError>, at: &str, place: Place<'_>, value: &Value) {
    if place.old == Some(value) {
        return;
    }
    let node = place.node;
    kind(faults, at, node, value);
    choices(faults, at, node, value);
    match value {
        Value::Null => return,
        Value::String(text) => string(faults, at, node, text),
        Value::Number(number) => {
            bounds(faults, at, node, number.as_f64().unwrap_or_default(), value);
        }
        Value::Array(items) => list(faults, at, place, items),
        Value::Object(fields) => object(faults, at, place, fields),
        Value::Bool(_) => {}
    }
    junctions(faults, at, node, value);
}

fn join(at: &str, field: &str) -> String {
    if at.is_empty() { field.to_owned() } else { format!("{at}.{field}") }
}

/// A fault in upstream's form: the path is part of the message.
fn invalid(faults: &mut Vec<FieldError>, at: &str, value: impl Into<Value>, why: &str) {
    faults.push(FieldError::invalid(shown(at), value, format!("{at} in body {why}")));
}

/// The object itself has no path.
fn shown(at: &str) -> String {
    if at.is_empty() { "<nil>".to_owned() } else { at.to_owned() }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn kind(faults: &mut Vec<FieldError>, at: &str, node: &Node, value: &Value) {
    let found = name_of(value);
    let is_whole = value.as_f64().is_some_and(|it| it.fract() == 0.0);
    let fits = |wanted: &str| {
        wanted == found
            || wanted == "integer" && found == "number" && is_whole
            || wanted == "number" && found == "integer"
    };
    let wanted: &[&str] = match node.kind.as_str() {
        _ if node.is_int_or_string => &["integer", "string"],
        "" => return,
        one => &[one],
    };
    let is_null = value.is_null() && node.is_nullable;
    if is_null || wanted.iter().any(|it| fits(it)) {
        return whole(faults, at, node, value);
    }
    let why = format!("{at} in body must be of type {}: \"{found}\"", wanted.join(","));
    let mut fault = FieldError::invalid(shown(at), found, why);
    fault.fault = Fault::TypeInvalid;
    faults.push(fault);
}

/// Whole numbers have to fit into the format that they have.
fn whole(faults: &mut Vec<FieldError>, at: &str, node: &Node, value: &Value) {
    let fits = match (node.kind.as_str(), node.format.as_str(), value) {
        ("integer", "int32", Value::Number(it)) => {
            it.as_i64().is_some_and(|it| i32::try_from(it).is_ok())
        }
        ("integer", "uint32", Value::Number(it)) => {
            it.as_u64().is_some_and(|it| u32::try_from(it).is_ok())
        }
        ("integer", "uint64", Value::Number(it)) => it.is_u64(),
        ("integer", _, Value::Number(it)) => it.is_i64() || it.is_f64(),
        _ => true,
    };
    // A whole number that is written with a point is none that any of them is too small for.
    if !fits && !value.is_f64() {
        let format = if node.format.is_empty() { "int64" } else { &node.format };
        let why = format!("Checked value must be of type integer with format {format} in {at}");
        faults.push(FieldError::invalid(shown(at), value.clone(), why));
    }
}

fn choices(faults: &mut Vec<FieldError>, at: &str, node: &Node, value: &Value) {
    let Some(allowed) = &node.choices else { return };
    if allowed.contains(value) || value.is_null() && node.is_nullable {
        return;
    }
    let text = |it: &Value| it.as_str().map_or_else(|| it.to_string(), str::to_owned);
    let all: Vec<String> = allowed.iter().map(text).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    faults.push(FieldError::not_supported(shown(at), value.clone(), &all));
}

fn string(faults: &mut Vec<FieldError>, at: &str, node: &Node, text: &str) {
    let length = text.chars().count();
    if let Some(most) = node.limits.length.most.filter(|it| length > *it) {
        faults.push(FieldError::too_long(shown(at), most));
    }
    if let Some(least) = node.limits.length.least.filter(|it| length < *it) {
        invalid(faults, at, text, &format!("should be at least {least} chars long"));
    }
    if let Some(pattern) = &node.pattern
        && !pattern.matches(text)
    {
        invalid(faults, at, text, &format!("should match '{}'", pattern.text));
    }
    if !node.is_int_or_string && !formats::fits(&node.format, text) {
        let why = format!("{at} in body must be of type {}: {text:?}", node.format);
        let mut fault = FieldError::invalid(shown(at), text, why);
        fault.fault = Fault::TypeInvalid;
        faults.push(fault);
    }
}

fn bounds(faults: &mut Vec<FieldError>, at: &str, node: &Node, number: f64, value: &Value) {
    let limits = &node.limits;
    if let Some(unit) = limits.multiple_of.filter(|it| *it > 0.0)
        && (number / unit).fract() != 0.0
    {
        invalid(faults, at, value.clone(), &format!("should be a multiple of {unit}"));
    }
    if let Some(most) = limits.maximum
        && (number > most || limits.is_below_maximum && number >= most)
    {
        let than = if limits.is_below_maximum { "less than" } else { "less than or equal to" };
        invalid(faults, at, value.clone(), &format!("should be {than} {most}"));
    }
    if let Some(least) = limits.minimum
        && (number < least || limits.is_above_minimum && number <= least)
    {
        let than =
            if limits.is_above_minimum { "greater than" } else { "greater than or equal to" };
        invalid(faults, at, value.clone(), &format!("should be {than} {least}"));
    }
}

fn count(faults: &mut Vec<FieldError>, at: &str, range: Range, found: usize, unit: &str) {
    if let Some(least) = range.least.filter(|it| found < *it) {
        invalid(faults, at, found, &format!("should have at least {least} {unit}"));
    }
    if let Some(most) = range.most.filter(|it| found > *it) {
        faults.push(FieldError::too_many(shown(at), found, most));
    }
}

fn list(faults: &mut Vec<FieldError>, at: &str, place: Place<'_>, items: &[Value]) {
    count(faults, at, place.node.limits.items, items.len(), "items");
    let Some(node) = place.node.items.as_deref() else { return };
    for (index, item) in items.iter().enumerate() {
        let old = ratchet::item(&place.node.list, place.old, item);
        check(faults, &format!("{at}[{index}]"), Place { node, old }, item);
    }
}

fn object(faults: &mut Vec<FieldError>, at: &str, place: Place<'_>, fields: &Map<String, Value>) {
    count(faults, at, place.node.limits.properties, fields.len(), "properties");
    for name in &place.node.required {
        if !fields.contains_key(name) {
            faults.push(FieldError::required(join(at, name), ""));
        }
    }
    for (name, value) in fields {
        let Some(node) = place.node.field(name) else { continue };
        let old = place.old.and_then(|it| it.get(name));
        check(faults, &join(at, name), Place { node, old }, value);
    }
}

fn faults_of(at: &str, node: &Node, value: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    check(&mut faults, at, Place { node, old: None }, value);
    faults
}

/// `allOf`, `anyOf`, `oneOf` and `not`.
fn junctions(faults: &mut Vec<FieldError>, at: &str, node: &Node, value: &Value) {
    let told = |why: String| FieldError::invalid("<nil>", "", format!("{at:?} {why}"));
    if !node.any_of.is_empty() {
        let all: Vec<_> = node.any_of.iter().map(|it| faults_of(at, it, value)).collect();
        if !all.iter().any(Vec::is_empty) {
            faults.push(told("must validate at least one schema (anyOf)".to_owned()));
            faults.extend(all.into_iter().min_by_key(Vec::len).unwrap_or_default());
        }
    }
    if !node.one_of.is_empty() {
        let all: Vec<_> = node.one_of.iter().map(|it| faults_of(at, it, value)).collect();
        let fitting = all.iter().filter(|it| it.is_empty()).count();
        if fitting != 1 {
            let found = match fitting {
                0 => "Found none valid".to_owned(),
                many => format!("Found {many} valid alternatives"),
            };
            faults.push(told(format!("must validate one and only one schema (oneOf). {found}")));
            if fitting == 0 {
                faults.extend(all.into_iter().min_by_key(Vec::len).unwrap_or_default());
            }
        }
    }
    if !node.all_of.is_empty() {
        let all: Vec<_> = node.all_of.iter().map(|it| faults_of(at, it, value)).collect();
        let fitting = all.iter().filter(|it| it.is_empty()).count();
        faults.extend(all.into_iter().flatten());
        if fitting != node.all_of.len() {
            let none = if fitting == 0 { ". None validated" } else { "" };
            faults.push(told(format!("must validate all the schemas (allOf){none}")));
        }
    }
    if let Some(not) = node.not.as_deref()
        && faults_of(at, not, value).is_empty()
    {
        faults.push(told("must not validate the schema (not)".to_owned()));
    }
}
