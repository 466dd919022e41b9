//! Values of CEL and JSON, and how large they are.

use std::{collections::HashMap, sync::Arc};

use kube_cel::cel::objects::{Key, KeyRef, Map, OptionalValue, Value};
use serde_json::Value as Json;

use super::{Budget, Error};

/// JSON as CEL has it: whole numbers are ints.
pub(crate) fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(it) => Value::Bool(*it),
        Json::Number(it) => match it.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(it.as_f64().unwrap_or_default()),
        },
        Json::String(it) => it.as_str().into(),
        Json::Array(all) => Value::List(Arc::new(all.iter().map(from_json).collect())),
        Json::Object(fields) => map(fields.iter().map(|(key, it)| (key.clone(), from_json(it)))),
    }
}

/// A time of RFC 3339.
pub(crate) fn time(text: &str) -> Option<Value> {
    super::library::call("timestamp", None, vec![text.into()]).ok()
}

/// The field of that name, of what has fields.
pub(crate) fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Map(fields) => fields.get(&KeyRef::String(name)),
        _ => None,
    }
}

/// A map with names for keys.
pub(crate) fn map(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    let fields = fields.into_iter().map(|(key, it)| (Key::String(Arc::new(key)), it));
    Value::Map(Map { map: Arc::new(fields.collect()) })
}

/// A value as JSON. What a value shares with another is charged for each place where it is.
pub(crate) fn to_json(value: &Value, budget: &mut Budget) -> Result<Json, Error> {
    budget.charge(1)?;
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(it) => (*it).into(),
        Value::Int(it) => (*it).into(),
        Value::UInt(it) => (*it).into(),
        Value::Float(it) => Json::from(*it),
        Value::String(it) => {
            budget.charge(tenth(it.len()))?;
            it.as_str().into()
        }
        Value::List(all) => {
            Json::Array(all.iter().map(|it| to_json(it, budget)).collect::<Result<_, _>>()?)
        }
        Value::Map(fields) => {
            let mut json = serde_json::Map::new();
            for (key, it) in fields.map.iter() {
                json.insert(key.to_string(), to_json(it, budget)?);
            }
            Json::Object(json)
        }
        Value::Bytes(it) => {
            use base64::Engine;
            budget.charge(tenth(it.len()))?;
            base64::engine::general_purpose::STANDARD.encode(it.as_slice()).into()
        }
        Value::Duration(_) | Value::Timestamp(_) => {
            match super::library::call("string", None, vec![value.clone()])? {
                Value::String(it) => it.as_str().into(),
                _ => return Err(Error::told("no such overload")),
            }
        }
        other => return Err(Error::told(format!("a {} has no JSON", type_name(other)))),
    })
}

/// What reading all of a value costs.
pub(super) fn charge(value: &Value, budget: &mut Budget) -> Result<(), Error> {
    match value {
        Value::String(it) => budget.charge(1 + tenth(it.len())),
        Value::Bytes(it) => budget.charge(1 + tenth(it.len())),
        Value::List(all) => {
            budget.charge(1)?;
            all.iter().try_for_each(|it| charge(it, budget))
        }
        Value::Map(fields) => {
            budget.charge(1)?;
            fields.map.values().try_for_each(|it| charge(it, budget))
        }
        other => match optional(other) {
            Some(Some(it)) => charge(it, budget),
            _ => budget.charge(1),
        },
    }
}

/// Of text, ten letters cost one. Upstream: `StringTraversalCostFactor`.
pub(super) fn tenth(length: usize) -> u64 {
    length.div_ceil(10) as u64
}

/// What is in an optional; `None`: it is none.
pub(super) fn optional(value: &Value) -> Option<Option<&Value>> {
    let Value::Opaque(opaque) = value else { return None };
    opaque.downcast_ref::<OptionalValue>().map(OptionalValue::value)
}

pub(crate) fn optional_of(value: Option<Value>) -> Value {
    Value::Opaque(Arc::new(value.map_or_else(OptionalValue::none, OptionalValue::of)))
}

/// What `timestamp` or `duration` reads.
pub(crate) fn read(name: &str, text: &str) -> Result<Value, Error> {
    super::library::call(name, None, vec![text.into()])
}

/// The name that `type()` tells.
pub(super) fn type_name(value: &Value) -> String {
    let name = match value {
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Function(..) => "function",
        Value::Int(_) => "int",
        Value::UInt(_) => "uint",
        Value::Float(_) => "double",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        Value::Bool(_) => "bool",
        Value::Duration(_) => "google.protobuf.Duration",
        Value::Timestamp(_) => "google.protobuf.Timestamp",
        Value::Opaque(it) => it.runtime_type_name(),
        Value::Null => "null_type",
    };
    name.to_owned()
}

/// The key that a value is in a map.
pub(super) fn key(value: &Value) -> Result<Key, Error> {
    Ok(match value {
        Value::Int(it) => Key::Int(*it),
        Value::UInt(it) => Key::Uint(*it),
        Value::Bool(it) => Key::Bool(*it),
        Value::String(it) => Key::String(it.clone()),
        // A whole number is the same key in each type of numbers.
        Value::Float(it) if it.fract() == 0.0 && it.abs() < 9e15 =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
            Key::Int(*it as i64)
        }
        other => return Err(Error::told(format!("unsupported key type: {}", type_name(other)))),
    })
}

pub(super) fn of_map(fields: HashMap<Key, Value>) -> Value {
    Value::Map(Map { map: Arc::new(fields) })
}
