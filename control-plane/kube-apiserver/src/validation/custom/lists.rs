//! Lists of type `set` and `map`: no item is there twice.
//!
//! Upstream: pkg/apiserver/schema/listtype of k8s.io/apiextensions-apiserver.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::{
    schema::structural::{ListKind, Node},
    status::FieldError,
};

/// Names each item that is there again.
pub(super) fn check(faults: &mut Vec<FieldError>, at: &str, node: &Node, value: &Value) {
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
            unique(faults, at, &node.list, items);
            let Some(place) = node.items.as_deref() else { return };
            for (index, item) in items.iter().enumerate() {
                check(faults, &format!("{at}[{index}]"), place, item);
            }
        }
        _ => {}
    }
}

fn unique(faults: &mut Vec<FieldError>, at: &str, list: &ListKind, items: &[Value]) {
    let mut known = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let shown = match list {
            ListKind::Atomic => return,
            ListKind::Set => item.clone(),
            ListKind::Map(keys) => keys_of(item, keys),
        };
        if !known.insert(shown.to_string()) {
            faults.push(FieldError::duplicate(format!("{at}[{index}]"), shown));
        }
    }
}

/// What an item is told apart by.
fn keys_of(item: &Value, keys: &[String]) -> Value {
    let pairs = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
    Value::Object(pairs.collect::<Map<_, _>>())
}
