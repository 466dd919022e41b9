//! The structural schemas of CustomResourceDefinitions, as the same structure.
//!
//! Upstream: `structural schemas` of k8s.io/apiextensions-apiserver.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{Field, ListType, METADATA, Merge, Object, Shape};

/// A custom resource's type: its own schema under the fields that every object has.
pub(crate) fn root(kind: &str, schema: &Value) -> Arc<Object> {
    let mut root = object(kind, schema);
    add_common(&mut root);
    Arc::new(root)
}

/// What every object has, also one within another.
fn add_common(object: &mut Object) {
    let plain = |shape| Field {
        shape,
        merge: Merge::default(),
        is_always_there: false,
        is_left_out_empty: false,
        default: None,
    };
    object.fields.insert("apiVersion".into(), plain(Shape::String));
    object.fields.insert("kind".into(), plain(Shape::String));
    object.fields.insert("metadata".into(), plain(Shape::Named(METADATA.into())));
}

fn object(name: &str, schema: &Value) -> Object {
    let is_open = schema["x-kubernetes-preserve-unknown-fields"] == true
        || schema["properties"].is_null() && schema["additionalProperties"] == true;
    let fields: BTreeMap<String, Field> = match schema["properties"].as_object() {
        None => BTreeMap::new(),
        Some(properties) => {
            properties.iter().map(|(name, it)| (name.clone(), field(name, it))).collect()
        }
    };
    let is_atomic = schema["x-kubernetes-map-type"] == "atomic";
    let mut object = Object { name: name.into(), fields, is_open, is_atomic };
    if schema["x-kubernetes-embedded-resource"] == true {
        add_common(&mut object);
    }
    object
}

fn field(name: &str, schema: &Value) -> Field {
    let list = match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => ListType::Set,
        Some("map") => ListType::Map(leak_keys(&schema["x-kubernetes-list-map-keys"])),
        _ => ListType::Atomic,
    };
    let is_atomic_map = schema["x-kubernetes-map-type"] == "atomic";
    let merge = Merge { list, is_atomic_map, ..Merge::default() };
    let shape = shape(name, schema);
    let default = schema.get("default").filter(|it| !it.is_null()).cloned().map(Box::new);
    Field { shape, merge, is_always_there: false, is_left_out_empty: false, default }
}

/// Keys of list maps live as long as the process: there are few, and they are the same again when
/// a definition is changed.
fn leak_keys(keys: &Value) -> &'static [&'static str] {
    use std::{collections::HashSet, sync::LazyLock};

    use parking_lot::Mutex;
    static KNOWN: LazyLock<Mutex<HashSet<&'static [&'static str]>>> = LazyLock::new(Mutex::default);
    let keys: Vec<&str> = keys.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut known = KNOWN.lock();
    if let Some(found) = known.iter().find(|it| **it == keys.as_slice()) {
        return found;
    }
    let keys: Vec<&'static str> =
        keys.into_iter().map(|it| &*Box::leak(it.to_owned().into_boxed_str())).collect();
    let keys: &'static [&'static str] = Box::leak(keys.into_boxed_slice());
    known.insert(keys);
    keys
}

fn shape(name: &str, schema: &Value) -> Shape {
    if schema["x-kubernetes-int-or-string"] == true {
        return Shape::IntOrString;
    }
    match schema["type"].as_str() {
        Some("string") => Shape::String,
        Some("integer") if schema["format"] == "int32" => Shape::Integer("int32"),
        Some("integer") => Shape::Integer("int64"),
        Some("number") => Shape::Number,
        Some("boolean") => Shape::Boolean,
        Some("array") => Shape::List(Box::new(shape(name, &schema["items"]))),
        Some("object") if schema["additionalProperties"].is_object() => {
            Shape::Map(Box::new(shape(name, &schema["additionalProperties"])))
        }
        Some("object") => Shape::Inline(Arc::new(object(name, schema))),
        _ => Shape::Any,
    }
}
