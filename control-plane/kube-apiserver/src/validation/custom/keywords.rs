//! The words of a schema that upstream does not take, or not in that place.
//!
//! Upstream: `specStandardValidatorV3` of pkg/apis/apiextensions/validation.

use serde_json::Value;

use super::super::{Faults, text};
use crate::{schema::structural::pattern::Pattern, status::FieldError};

const KINDS: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Words of a place of the structure.
pub(super) fn check(faults: &mut Faults, at: &str, schema: &Value) {
    values(faults, at, schema);
    let kind = text(schema, "type");
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        faults.add(FieldError::forbidden(format!("{at}.type"), why));
    } else if !kind.is_empty() && !KINDS.contains(&kind) {
        faults.add(FieldError::not_supported(format!("{at}.type"), kind, &KINDS));
    }
    if kind == "array" && !schema["items"].is_object() && !schema["items"].is_array() {
        faults.add(FieldError::required(format!("{at}.items"), "must be specified"));
    }
    let others = &schema["additionalProperties"];
    if *others == false {
        let why = "additionalProperties cannot be set to false";
        faults.add(FieldError::forbidden(format!("{at}.additionalProperties"), why));
    } else if !others.is_null() && schema["properties"].as_object().is_some_and(|it| !it.is_empty())
    {
        let why = "additionalProperties and properties are mutual exclusive";
        faults.add(FieldError::forbidden(format!("{at}.additionalProperties"), why));
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        let field = format!("{at}.x-kubernetes-preserve-unknown-fields");
        faults.invalid(field, false, "must be true or undefined");
    }
    lists(faults, at, schema);
    maps(faults, at, schema);
}

/// Words that are allowed in alternatives, too.
pub(super) fn values(faults: &mut Faults, at: &str, schema: &Value) {
    if schema["uniqueItems"] == true {
        let why =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        faults.add(FieldError::forbidden(format!("{at}.uniqueItems"), why));
    }
    for word in
        ["definitions", "dependencies", "patternProperties", "id", "$ref", "additionalItems"]
    {
        let is_there = match &schema[word] {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        };
        if is_there {
            let why = format!("{word} is not supported");
            faults.add(FieldError::forbidden(format!("{at}.{word}"), why));
        }
    }
    if schema["items"].is_array() {
        let why = "items must be a schema object and not an array";
        faults.add(FieldError::forbidden(format!("{at}.items"), why));
    }
    let pattern = text(schema, "pattern");
    if let Err(why) = Pattern::compile(pattern) {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        faults.invalid(format!("{at}.pattern"), pattern, why);
    }
}

fn lists(faults: &mut Faults, at: &str, schema: &Value) {
    let word = "x-kubernetes-list-type";
    let path = format!("{at}.{word}");
    let list = text(schema, word);
    if list.is_empty() {
        if schema["x-kubernetes-list-map-keys"].is_array() {
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            faults.add(FieldError::required(path, why));
        }
        return;
    }
    match text(schema, "type") {
        "array" => {}
        "" => {
            let why = format!("must be array if {word} is specified");
            faults.add(FieldError::required(format!("{at}.type"), why));
        }
        other => {
            let why = format!("must be array if {word} is specified");
            faults.invalid(format!("{at}.type"), other, why);
        }
    }
    let items = &schema["items"];
    match list {
        "atomic" => {}
        "set" => set(faults, at, items),
        "map" => keyed(faults, at, schema, items),
        other => {
            faults.add(FieldError::not_supported(path, other, &["atomic", "map", "set"]));
        }
    }
}

/// Items of sets are compared as a whole.
fn set(faults: &mut Faults, at: &str, items: &Value) {
    if items["nullable"] == true {
        let why = "cannot be nullable when x-kubernetes-list-type is set";
        faults.add(FieldError::forbidden(format!("{at}.items.nullable"), why));
    }
    let (kind, map) = (text(items, "type"), text(items, "x-kubernetes-map-type"));
    if kind == "object" && map != "atomic" {
        let path = format!("{at}.items.x-kubernetes-map-type");
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        faults.invalid(path, map, why);
    }
    let list = text(items, "x-kubernetes-list-type");
    if kind == "array" && !matches!(list, "" | "atomic") {
        let path = format!("{at}.items.x-kubernetes-list-type");
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        faults.invalid(path, list, why);
    }
}

fn keyed(faults: &mut Faults, at: &str, schema: &Value, items: &Value) {
    let path = format!("{at}.x-kubernetes-list-map-keys");
    let keys = schema["x-kubernetes-list-map-keys"].as_array().map_or(&[][..], Vec::as_slice);
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        faults.add(FieldError::required(path.clone(), why));
    }
    if items["nullable"] == true {
        let why = "cannot be nullable when x-kubernetes-list-type is map";
        faults.add(FieldError::forbidden(format!("{at}.items.nullable"), why));
    }
    if text(items, "type") != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        faults.invalid(format!("{at}.items.type"), text(items, "type"), why);
    }
    for (index, key) in keys.iter().enumerate() {
        let key = key.as_str().unwrap_or_default();
        if keys[..index].iter().any(|it| it == key) {
            faults.add(FieldError::duplicate(format!("{path}[{index}]"), key));
        }
        let field = &items["properties"][key];
        let place = format!("{at}.items.properties[{key}]");
        if !field.is_object() {
            let why = "entries must all be names of item properties";
            faults.invalid(format!("{path}[{index}]"), key, why);
            continue;
        }
        if matches!(text(field, "type"), "object" | "array") {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            faults.invalid(format!("{place}.type"), text(field, "type"), why);
        }
        if field["nullable"] == true {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            faults.add(FieldError::forbidden(format!("{place}.nullable"), why));
        }
        let is_required =
            items["required"].as_array().is_some_and(|it| it.iter().any(|it| it == key));
        if !is_required && field["default"].is_null() {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or \
                       be a required property";
            faults.add(FieldError::required(format!("{place}.default"), why));
        }
    }
}

fn maps(faults: &mut Faults, at: &str, schema: &Value) {
    let word = "x-kubernetes-map-type";
    let map = text(schema, word);
    if map.is_empty() {
        return;
    }
    match text(schema, "type") {
        "object" => {}
        "" => {
            let why = format!("must be object if {word} is specified");
            faults.add(FieldError::required(format!("{at}.type"), why));
        }
        other => {
            let why = format!("must be object if {word} is specified");
            faults.invalid(format!("{at}.type"), other, why);
        }
    }
    if !["atomic", "granular"].contains(&map) {
        let path = format!("{at}.{word}");
        faults.add(FieldError::not_supported(path, map, &["atomic", "granular"]));
    }
}
