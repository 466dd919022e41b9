//! Objects within objects (`x-kubernetes-embedded-resource`): they say what they are, and their metadata
//! is as that of all objects.
//!
//! Upstream: pkg/apiserver/schema/objectmeta of k8s.io/apiextensions-apiserver.

use serde_json::Value;

use crate::{
    schema::structural::Node,
    status::FieldError,
    validation::{Faults, fields, metadata},
};

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
        let text = match object.get(field) {
            None => "",
            Some(Value::String(text)) => text,
            Some(other) => {
                faults.push(FieldError::invalid(path, other.clone(), "must be a string"));
                continue;
            }
        };
        if text.is_empty() {
            faults.push(FieldError::required(path, ""));
        } else if let Some(why) = form(field, text) {
            faults.push(FieldError::invalid(path, text, why));
        }
    }
    let metadata = &object["metadata"];
    if metadata.is_object() {
        let mut found = Faults::default();
        metadata::embedded(&mut found, &format!("{at}.metadata"), metadata);
        faults.append(&mut found.found);
    } else if !metadata.is_null() {
        let path = format!("{at}.metadata");
        faults.push(FieldError::invalid(path, metadata.clone(), "must be an object"));
    }
}

/// What is wrong with the form of a version or of a kind.
fn form(field: &str, text: &str) -> Option<String> {
    if field == "apiVersion" {
        let is_wrong = text.split('/').count() > 2;
        return is_wrong.then(|| format!("unexpected GroupVersion string: {text}"));
    }
    let wrong = fields::label_1035(&text.to_lowercase());
    let why = "may have mixed case, but should otherwise match";
    (!wrong.is_empty()).then(|| format!("{why}: {}", wrong.join(",")))
}
