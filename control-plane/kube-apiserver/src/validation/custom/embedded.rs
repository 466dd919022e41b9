//! Objects within objects (`x-kubernetes-embedded-resource`): they say what they are.
//!
//! Upstream: pkg/apiserver/schema/objectmeta of k8s.io/apiextensions-apiserver.

use serde_json::Value;

use crate::{schema::structural::Node, status::FieldError};

pub(super) fn check(faults: &mut Vec<FieldError>, at: &str, node: &Node, value: &Value) {
    if node.is_embedded && value.is_object() {
        itself(faults, at, value);
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(place) = node.fields.get(name) {
                    let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                    check(faults, &at, place, value);
                } else if let Some(place) = node.other() {
                    check(faults, &format!("{at}[{name}]"), place, value);
                }
            }
        }
        Value::Array(items) => {
            let Some(place) = node.items.as_deref() else { return };
            for (index, item) in items.iter().enumerate() {
                check(faults, &format!("{at}[{index}]"), place, item);
            }
        }
        _ => {}
    }
}

fn itself(faults: &mut Vec<FieldError>, at: &str, object: &Value) {
    for field in ["apiVersion", "kind"] {
        let path = format!("{at}.{field}");
        match object.get(field) {
            None => faults.push(FieldError::required(path, "must not be empty")),
            Some(Value::String(text)) if text.is_empty() => {
                faults.push(FieldError::invalid(path, "", "must not be empty"));
            }
            Some(Value::String(text)) if field == "apiVersion" && text.split('/').count() > 2 => {
                let why = format!("unexpected GroupVersion string: {text}");
                faults.push(FieldError::invalid(path, text.as_str(), why));
            }
            Some(Value::String(_)) => {}
            Some(other) => {
                faults.push(FieldError::invalid(path, other.clone(), "must be a string"));
            }
        }
    }
    if object.get("metadata").is_some_and(|it| !it.is_object()) {
        let path = format!("{at}.metadata");
        faults.push(FieldError::invalid(path, object["metadata"].clone(), "must be an object"));
    }
}
