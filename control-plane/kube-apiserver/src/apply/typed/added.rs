//! What a new object is owned by: as `difference` from nothing would have it, but written down at once.
//! Most objects are made once and seldom changed.

use serde_json::{Map, Value};

use super::{
    Kind,
    compare::{is_leaf, is_void},
    field, key_of,
};

/// The set of an object's fields in its JSON form, without those that `is_left_out` names by what holds
/// them (nothing, or `metadata`) and their name.
pub(crate) fn added(
    object: &Value,
    kind: &Kind,
    is_left_out: impl Fn(&str, &str) -> bool,
) -> Map<String, Value> {
    let mut set = Map::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        if is_left_out("", name) {
            continue;
        }
        if name != "metadata" {
            insert(&mut set, name, value, kind, false);
            continue;
        }
        let (mut metadata, kind) = (Map::new(), kind.child(name));
        for (name, value) in value.as_object().into_iter().flatten() {
            if !is_left_out("metadata", name) {
                insert(&mut metadata, name, value, &kind, false);
            }
        }
        if !metadata.is_empty() {
            set.insert(field(name), metadata.into());
        }
    }
    set
}

/// Adds a field. In a struct that was not there before, all fields are new.
fn insert(set: &mut Map<String, Value>, name: &str, value: &Value, kind: &Kind, is_in_new: bool) {
    let was_there = !is_in_new && kind.always_has(name);
    if was_there && is_void(Some(value)) {
        return;
    }
    let child = kind.child(name);
    let inner = whole(value, &child, !was_there);
    if !inner.is_empty() || !was_there || is_leaf(Some(value), &child) {
        set.insert(field(name), inner.into());
    }
}

/// The set of a value: an empty one is the value itself.
fn whole(value: &Value, kind: &Kind, is_new: bool) -> Map<String, Value> {
    let mut set = Map::new();
    if is_leaf(Some(value), kind) {
        return set;
    }
    if is_new {
        set.insert(".".to_owned(), Map::new().into());
    }
    match (kind, value) {
        (Kind::Keyed(..), Value::Array(items)) => {
            let inner = kind.child("");
            for item in items {
                element(&mut set, key_of(item, kind), || whole(item, &inner, true));
            }
        }
        (Kind::Set, Value::Array(items)) => {
            for item in items {
                element(&mut set, format!("v:{item}"), Map::new);
            }
        }
        (_, value) => {
            for (name, value) in value.as_object().into_iter().flatten() {
                insert(&mut set, name, value, kind, is_new);
            }
        }
    }
    set
}

/// Adds an element. One that is there twice is owned as a whole.
fn element(set: &mut Map<String, Value>, name: String, inner: impl Fn() -> Map<String, Value>) {
    let inner = if set.contains_key(&name) { Map::new() } else { inner() };
    set.insert(name, inner.into());
}
