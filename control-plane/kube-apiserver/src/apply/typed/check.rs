//! Whether a configuration can be applied: fields that the type does not have or that are of another
//! type, elements of lists that cannot be told apart.
//!
//! Upstream: `TypedValue.Validate` of sigs.k8s.io/structured-merge-diff.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Kind, key_of};
use crate::{apply::field_set::shown, go, schema::Shape};

/// What is wrong with it, each with its path.
pub(crate) fn check(value: &Value, kind: &Kind) -> Vec<String> {
    let mut wrong = Vec::new();
    walk(value, kind, &mut Vec::new(), &mut wrong);
    wrong
}

fn walk(value: &Value, kind: &Kind, path: &mut Vec<String>, wrong: &mut Vec<String>) {
    match (kind, value) {
        (kind, Value::Object(entries)) if kind.merges_fields() => {
            for (name, inner) in entries {
                path.push(super::field(name));
                if kind.lacks(name) {
                    wrong.push(format!("{}: field not declared in schema", shown(path)));
                } else if let Some(why) = kind.shape(name).and_then(|it| unfit(inner, it)) {
                    wrong.push(format!("{}: {why}", shown(path)));
                } else {
                    walk(inner, &kind.child(name), path, wrong);
                }
                path.pop();
            }
        }
        (Kind::Keyed(keys, _), Value::Array(items)) => {
            let inner = kind.child("");
            let mut seen = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                let name = key_of(item, kind);
                if name == "k:{}" {
                    wrong.push(format!("{}: element {index}: {}", shown(path), no_key(keys)));
                    continue;
                }
                once(&name, &mut seen, path, wrong);
                path.push(name);
                walk(item, &inner, path, wrong);
                path.pop();
            }
        }
        (Kind::Set, Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for item in items {
                once(&format!("v:{item}"), &mut seen, path, wrong);
            }
        }
        _ => {}
    }
}

/// Why a value is none of a type, in the words of Go.
fn unfit(value: &Value, shape: &Shape) -> Option<String> {
    let is_scalar = !value.is_object() && !value.is_array();
    let is_map = matches!(shape, Shape::Map(_)) || shape.object().is_some();
    match shape {
        _ if value.is_null() => None,
        Shape::Integer(_) | Shape::Number if !value.is_number() => {
            let found = go::name_of_type(value);
            Some(format!("expected numeric (int or float), got {found}"))
        }
        Shape::String | Shape::Bytes if !value.is_string() => {
            let found = go::source(value);
            Some(format!("expected string, got &value.valueUnstructured{{Value:{found}}}"))
        }
        Shape::Boolean if !value.is_boolean() => {
            Some(format!("expected boolean, got &{{{}}}", go::shown(value)))
        }
        Shape::IntOrString | Shape::Quantity | Shape::Time if !is_scalar => {
            Some(format!("expected any scalar, got &{{{}}}", go::shown(value)))
        }
        Shape::List(_) if !value.is_array() => {
            Some(format!("expected list, got &{{{}}}", go::shown(value)))
        }
        _ if is_map && !value.is_object() => {
            Some(format!("expected map, got &{{{}}}", go::shown(value)))
        }
        _ => None,
    }
}

fn no_key(keys: &[&str]) -> String {
    match keys {
        [key] => format!("associative list with keys has an element that omits key field {key:?}"),
        _ => {
            let keys: Vec<String> = keys.iter().map(|it| format!("{it:?}")).collect();
            format!(
                "associative list with keys has an element that omits all key fields [{}] (and \
                 doesn't have default values for any key fields)",
                keys.join(" ")
            )
        }
    }
}

fn once(name: &str, seen: &mut BTreeSet<String>, path: &[String], wrong: &mut Vec<String>) {
    if !seen.insert(name.to_owned()) {
        let key = shown(&[name.to_owned()]);
        wrong.push(format!("{}: duplicate entries for key {key}", shown(path)));
    }
}
