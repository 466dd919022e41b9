//! Custom resources, by their definition's `additionalPrinterColumns`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::text::{age, name, since};
use crate::resources::custom::Custom;

/// What clients are told of the fields of every object.
const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, \
    although some resources may allow a client to request the generation of an appropriate name \
    automatically. Name is primarily intended for creation idempotence and configuration definition. \
    Cannot be updated. More info: \
    https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const AGE: &str = "CreationTimestamp is a timestamp representing the server time when this object was \
    created. It is not guaranteed to be set in happens-before order across separate operations. \
    Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by \
    the system. Read-only. Null for lists. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

pub(super) fn columns(custom: &Custom) -> Vec<Value> {
    let mut columns = vec![
        json!({ "name": "Name", "type": "string", "format": "name", "description": NAME, "priority": 0 }),
    ];
    if custom.columns.is_empty() {
        columns.push(json!({ "name": "Age", "type": "date", "format": "", "description": AGE, "priority": 0 }));
    }
    for column in &custom.columns {
        let description = match column["description"].as_str().unwrap_or_default() {
            "" => {
                let path = column["jsonPath"].as_str().unwrap_or_default();
                format!("Custom resource definition column (in JSONPath format): {path}")
            }
            own => own.to_owned(),
        };
        columns.push(json!({
            "name": column["name"], "type": column["type"],
            "format": column["format"].as_str().unwrap_or_default(),
            "description": description,
            "priority": column["priority"].as_i64().unwrap_or_default(),
        }));
    }
    columns
}

pub(super) fn cells(custom: &Custom, object: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![name(object)];
    if custom.columns.is_empty() {
        cells.push(age(object, now));
    }
    for column in &custom.columns {
        let value = find(object, column["jsonPath"].as_str().unwrap_or_default());
        cells.push(match (column["type"].as_str(), value) {
            (_, Value::Null) => Value::Null,
            (Some("date"), Value::String(time)) => since(&time, now),
            (Some("string"), Value::String(text)) => text.into(),
            (Some("string"), other) => other.to_string().into(),
            (_, other) => other,
        });
    }
    cells
}

/// The value at a JSONPath of the simple kind that printer columns use: `.a.b[0]`, `.a.b\.c`,
/// `.a[?(@.type=="Ready")].status`.
pub(super) fn find(object: &Value, path: &str) -> Value {
    let mut found = object;
    let mut rest = path.trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let Some((inside, after)) = after.split_once(']') else { return Value::Null };
            rest = after;
            match element(found, inside) {
                Some(value) => found = value,
                None => return Value::Null,
            }
            continue;
        }
        rest = rest.trim_start_matches('.');
        let (field, after) = field(rest);
        rest = after;
        if !field.is_empty() {
            found = &found[field.as_str()];
        }
    }
    found.clone()
}

/// The names in a path without lists.
pub(crate) fn path_parts(path: &str) -> Vec<String> {
    let (mut parts, mut rest) = (Vec::new(), path);
    while let Some(after) = rest.strip_prefix('.') {
        let (name, left) = field(after);
        parts.push(name);
        rest = left;
    }
    parts
}

/// The next field name; a backslash keeps the dot after it.
fn field(path: &str) -> (String, &str) {
    let mut name = String::new();
    let mut is_escaped = false;
    for (at, it) in path.char_indices() {
        match it {
            '\\' if !is_escaped => is_escaped = true,
            '.' | '[' if !is_escaped => return (name, &path[at..]),
            it => {
                name.push(it);
                is_escaped = false;
            }
        }
    }
    (name, "")
}

fn element<'a>(list: &'a Value, inside: &str) -> Option<&'a Value> {
    if let Ok(index) = inside.parse::<usize>() {
        return list.get(index);
    }
    // A column has one value: the first of all.
    if inside == "*" {
        return list.as_array()?.first();
    }
    if let Some(name) = inside.strip_prefix('\'').and_then(|it| it.strip_suffix('\'')) {
        return list.get(name);
    }
    let condition = inside.strip_prefix("?(@.")?.strip_suffix(')')?;
    let (name, wanted) = condition.split_once("==")?;
    let wanted = wanted.trim().trim_matches(['"', '\'']);
    list.as_array()?.iter().find(|it| it[name.trim()] == wanted)
}
