//! Schemas of definitions: they have to be structural, and their defaults, patterns and rules sound.
//!
//! Upstream: `ValidateCustomResourceDefinitionOpenAPISchema`, and `ValidateStructural` of
//! pkg/apiserver/schema of k8s.io/apiextensions-apiserver.

use serde_json::{Map, Value};

use super::{super::Faults, keywords, rules, values};
use crate::{
    schema::structural::{Node, shaping},
    status::FieldError,
};

/// What a place is for; that decides what it has to say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Root,
    Field,
    Item,
}

/// Looks at the schema of a version; `old` is what it was before.
pub(super) fn check(faults: &mut Faults, at: &str, schema: &Value, old: Option<&Value>) {
    let before = faults.count();
    match schema["type"].as_str().unwrap_or_default() {
        "object" => {}
        "" => {
            faults.add(FieldError::required(format!("{at}.type"), "must not be empty at the root"));
        }
        other => faults.invalid(format!("{at}.type"), other, "must be object at the root"),
    }
    if schema["nullable"] == true {
        let why = "nullable cannot be true at the root";
        faults.add(FieldError::forbidden(format!("{at}.nullable"), why));
    }
    let metadata = schema["properties"]["metadata"].as_object();
    let allowed = ["type", "properties", "description", "required"];
    let inner = metadata.and_then(|it| it.get("properties")).and_then(Value::as_object);
    let is_more = metadata.is_some_and(|it| it.keys().any(|it| !allowed.contains(&it.as_str())))
        || inner
            .is_some_and(|it| it.keys().any(|it| !matches!(it.as_str(), "name" | "generateName")));
    if is_more {
        let why = "must not specify anything other than name and generateName, but metadata is \
                   implicitly specified";
        faults.add(FieldError::forbidden(format!("{at}.properties[metadata]"), why));
    }
    place(faults, at, schema, Level::Root);
    // What is no schema gives rules nothing to be checked with.
    if faults.count() == before {
        rules::definition(faults, at, schema, old);
    }
}

/// Each place below, with its path and level.
pub(super) fn below<'a>(
    at: &'a str,
    schema: &'a Value,
) -> impl Iterator<Item = (String, &'a Value, Level)> {
    let fields = schema["properties"].as_object().into_iter().flatten();
    let fields =
        fields.map(move |(name, it)| (format!("{at}.properties[{name}]"), it, Level::Field));
    let others = &schema["additionalProperties"];
    let others =
        others.is_object().then(|| (format!("{at}.additionalProperties"), others, Level::Field));
    let items = &schema["items"];
    let items = items.is_object().then(|| (format!("{at}.items"), items, Level::Item));
    fields.chain(others).chain(items)
}

fn place(faults: &mut Faults, at: &str, schema: &Value, level: Level) {
    keywords::check(faults, at, schema);
    invariants(faults, at, schema, level);
    for junction in ["allOf", "anyOf", "oneOf"] {
        for (index, inner) in schema[junction].as_array().into_iter().flatten().enumerate() {
            let at = format!("{at}.{junction}[{index}]");
            within_junction(faults, &at, inner, schema, is_mixed(schema, inner));
        }
    }
    if schema["not"].is_object() {
        within_junction(faults, &format!("{at}.not"), &schema["not"], schema, false);
    }
    default(faults, at, schema, level);
    for (at, inner, level) in below(at, schema) {
        place(faults, &at, inner, level);
    }
}

/// The pair of types that `x-kubernetes-int-or-string` stands for may be spelled out.
fn is_mixed(schema: &Value, inner: &Value) -> bool {
    schema["x-kubernetes-int-or-string"] == true
        && matches!(inner["type"].as_str(), Some("integer" | "string"))
}

fn invariants(faults: &mut Faults, at: &str, schema: &Value, level: Level) {
    let kind = schema["type"].as_str().unwrap_or_default();
    let is = |name: &str| schema[name] == true;
    let is_open = is("x-kubernetes-preserve-unknown-fields");
    let is_mixed = is("x-kubernetes-int-or-string");
    if kind.is_empty() && !is_mixed && !is_open {
        let why = match level {
            Level::Root => return,
            Level::Field => "must not be empty for specified object fields",
            Level::Item => "must not be empty for specified array items",
        };
        faults.add(FieldError::required(format!("{at}.type"), why));
    }
    for other in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if is_mixed && is(other) {
            let why = "must be false if x-kubernetes-int-or-string is true";
            faults.invalid(format!("{at}.{other}"), true, why);
        }
    }
    let has_fields = schema["properties"].as_object().is_some_and(|it| !it.is_empty());
    if is("x-kubernetes-embedded-resource") {
        if kind != "object" {
            let why = "must be object if x-kubernetes-embedded-resource is true";
            if kind.is_empty() {
                faults.add(FieldError::required(format!("{at}.type"), why));
            } else {
                faults.invalid(format!("{at}.type"), kind, why);
            }
        }
        if !has_fields && !is_open {
            let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                       x-kubernetes-preserve-unknown-fields";
            faults.add(FieldError::required(format!("{at}.properties"), why));
        }
        if !schema["additionalProperties"].is_null() {
            let why = "must not be used if x-kubernetes-embedded-resource is set";
            faults.add(FieldError::forbidden(format!("{at}.additionalProperties"), why));
        }
    }
    if level == Level::Root && schema["additionalProperties"].is_object() {
        let why = "must not be used at the root";
        faults.add(FieldError::forbidden(format!("{at}.additionalProperties"), why));
    }
}

/// What belongs to the place itself, and not into one of its alternatives.
const STRUCTURAL: [&str; 13] = [
    "type",
    "additionalProperties",
    "default",
    "nullable",
    "title",
    "description",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
];

/// A schema within `allOf` and the like: it only says more about what is specified outside.
fn within_junction(faults: &mut Faults, at: &str, inner: &Value, outer: &Value, has_kind: bool) {
    keywords::values(faults, at, inner);
    for field in STRUCTURAL {
        let is_there = match &inner[field] {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            _ => true,
        };
        if is_there && !(has_kind && field == "type") {
            let why = "must be empty to be structural";
            faults.add(FieldError::forbidden(format!("{at}.{field}"), why));
        }
    }
    let empty = Map::new();
    for (name, field) in inner["properties"].as_object().unwrap_or(&empty) {
        let at = format!("{at}.properties[{name}]");
        let known = &outer["properties"][name];
        let known = if known.is_object() { known } else { &outer["additionalProperties"] };
        complete(faults, &at, known, &at);
        within_junction(faults, &at, field, known, is_mixed(known, field));
    }
    if inner["items"].is_object() {
        let at = format!("{at}.items");
        complete(faults, &at, &outer["items"], &at);
        within_junction(faults, &at, &inner["items"], &outer["items"], false);
    }
    for junction in ["allOf", "anyOf", "oneOf"] {
        for (index, it) in inner[junction].as_array().into_iter().flatten().enumerate() {
            within_junction(
                faults,
                &format!("{at}.{junction}[{index}]"),
                it,
                outer,
                is_mixed(outer, it),
            );
        }
    }
    if inner["not"].is_object() {
        within_junction(faults, &format!("{at}.not"), &inner["not"], outer, false);
    }
}

/// The place has to be specified outside of the alternative, at the same path.
fn complete(faults: &mut Faults, at: &str, known: &Value, because: &str) {
    if known.is_object() {
        return;
    }
    let mut path = String::new();
    let mut rest = at;
    for junction in [".allOf[", ".anyOf[", ".oneOf["] {
        if let Some((before, after)) = rest.split_once(junction) {
            path.push_str(before);
            rest = after.split_once(']').map_or("", |(_, it)| it);
        }
    }
    let path = format!("{path}{rest}").replace(".not.", ".");
    faults.add(FieldError::required(path, format!("because it is defined in {because}")));
}

/// A default has to be a value that the schema takes as it is.
fn default(faults: &mut Faults, at: &str, schema: &Value, level: Level) {
    let default = &schema["default"];
    if default.is_null() {
        return;
    }
    let path = format!("{at}.default");
    if level == Level::Root {
        // Upstream has no place for the default of a whole object.
        faults.add(FieldError::forbidden(path, "must not be set at the root"));
        return;
    }
    let node = Node::of(schema);
    let (mut pruned, mut unknown) = (default.clone(), Vec::new());
    shaping::prune(&mut pruned, &node, &mut unknown);
    if !unknown.is_empty() {
        let why = "must not have unknown fields";
        faults.invalid(path, default.clone(), why);
        return;
    }
    shaping::default(&mut pruned, &node);
    let mut found = Vec::new();
    values::check(&mut found, &path, values::Place { node: &node, old: None }, &pruned);
    if found.is_empty() && node.has_rules {
        found = rules::check_default(&path, &node, &pruned);
    }
    found.into_iter().for_each(|it| faults.add(it));
}
