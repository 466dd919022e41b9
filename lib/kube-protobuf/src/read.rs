//! From messages to JSON.
//!
//! Unknown fields are passed over, as Go does. Hostile bodies are bounded by their own length:
//! nothing is allocated by a length that a message claims.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use crate::{
    ProtobufError,
    plan::{self, Entry, Field, Kind, Many, Message, Numbers, Root},
    wire::{Fields, Wire, signed, varint},
};

/// Messages within messages; JSON has the same limit in serde.
const MAX_DEPTH: usize = 100;

/// When the year 0 begins.
const YEAR_ZERO: i64 = -62_167_219_200;

type Read<T> = Result<T, ProtobufError>;

/// An envelope's content.
pub(crate) fn root(bytes: &[u8], root: Root) -> Read<Map<String, Value>> {
    let list = match root {
        Root::One(it) => return message(bytes, it, MAX_DEPTH),
        Root::List(list) => list,
    };
    let (mut metadata, mut items) = (Map::new(), Vec::new());
    for field in Fields(bytes) {
        match field? {
            (number, Wire::Bytes(bytes)) if number == list.metadata => {
                metadata = message(bytes, plan::list_metadata(), MAX_DEPTH)?;
            }
            (number, Wire::Bytes(bytes)) if number == list.items => {
                items.push(Value::Object(message(bytes, list.item, MAX_DEPTH)?));
            }
            _ => {}
        }
    }
    let metadata = ("metadata".into(), Value::Object(metadata));
    Ok(Map::from_iter([metadata, ("items".into(), Value::Array(items))]))
}

fn message(bytes: &[u8], message: &Message, depth: usize) -> Read<Map<String, Value>> {
    let mut out = Map::new();
    fill(&mut out, bytes, &message.fields, &message.numbers, depth)?;
    Ok(out)
}

fn fill(
    out: &mut Map<String, Value>,
    bytes: &[u8],
    fields: &[Field],
    numbers: &Numbers,
    depth: usize,
) -> Read<()> {
    let depth = depth.checked_sub(1).ok_or(ProtobufError::Malformed)?;
    for field in Fields(bytes) {
        let (number, wire) = field?;
        match (numbers.get(&number), wire) {
            (None, _) => {}
            (Some(Entry::Inline(numbers)), Wire::Bytes(bytes)) => {
                fill(out, bytes, fields, numbers, depth)?;
            }
            (Some(Entry::Inline(_)), _) => return Err(ProtobufError::Malformed),
            (Some(Entry::Field(at)), wire) => {
                let Some(field) = fields.get(*at) else { continue };
                put(out, field, wire, depth)?;
                if !field.keeps_zero && out.get(&field.name).is_some_and(is_zero) {
                    out.remove(&field.name);
                }
            }
        }
    }
    Ok(())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Adds one occurrence of a field: lists and maps gather theirs.
fn put(out: &mut Map<String, Value>, field: &Field, wire: Wire<'_>, depth: usize) -> Read<()> {
    let (name, kind) = (&*field.name, field.kind);
    match field.many {
        Many::One => drop(out.insert(name.into(), value(kind, wire, depth)?)),
        Many::List => {
            let list = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = list else { return Err(ProtobufError::Malformed) };
            match (kind, wire) {
                (Kind::Integer | Kind::Boolean, Wire::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        let one = Wire::Varint(varint(&mut packed)?);
                        items.push(value(kind, one, depth)?);
                    }
                }
                (kind, wire) => items.push(value(kind, wire, depth)?),
            }
        }
        Many::Map => {
            let map = out.entry(name).or_insert_with(|| Value::Object(Map::new()));
            let (Value::Object(entries), Wire::Bytes(bytes)) = (map, wire) else {
                return Err(ProtobufError::Malformed);
            };
            let (mut key, mut found) = (String::new(), None);
            for field in Fields(bytes) {
                match field? {
                    (1, Wire::Bytes(bytes)) => key = text(bytes)?,
                    (2, wire) => found = Some(value(kind, wire, depth)?),
                    _ => {}
                }
            }
            let zero = || value(kind, Wire::Bytes(&[]), depth);
            entries.insert(key, found.map_or_else(zero, Ok)?);
        }
    }
    Ok(())
}

fn value(kind: Kind, wire: Wire<'_>, depth: usize) -> Read<Value> {
    Ok(match (kind, wire) {
        (Kind::Integer, Wire::Varint(number)) => signed(number).into(),
        (Kind::Boolean, Wire::Varint(number)) => (number != 0).into(),
        (Kind::Double, Wire::Fixed64(bits)) => f64::from_bits(bits).into(),
        (Kind::Text, Wire::Bytes(bytes)) => text(bytes)?.into(),
        (Kind::Bytes, Wire::Bytes(bytes)) => BASE64_STANDARD.encode(bytes).into(),
        (Kind::Time, Wire::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%SZ")?,
        (Kind::MicroTime, Wire::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%S%.6fZ")?,
        (Kind::Quantity, Wire::Bytes(bytes)) => first_text(bytes)?,
        (Kind::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Kind::Raw, Wire::Bytes(bytes)) => raw_json(bytes)?,
        (Kind::Texts, Wire::Bytes(bytes)) => texts(bytes, 1)?.into(),
        (Kind::Message(index), Wire::Bytes(bytes)) => {
            Value::Object(message(bytes, plan::message(index), depth)?)
        }
        (Kind::SchemaOrBoolean(index), Wire::Bytes(bytes)) => {
            let (mut allows, mut schema) = (false, None);
            for field in Fields(bytes) {
                match field? {
                    (1, Wire::Varint(number)) => allows = number != 0,
                    (2, wire) => schema = Some(value(Kind::Message(index), wire, depth)?),
                    _ => {}
                }
            }
            schema.unwrap_or(json!(allows))
        }
        (Kind::SchemaOrSchemas(index), Wire::Bytes(bytes)) => {
            one_or_list(bytes, Kind::Message(index), Kind::Message(index), depth)?
        }
        (Kind::SchemaOrTexts(index), Wire::Bytes(bytes)) => {
            one_or_list(bytes, Kind::Message(index), Kind::Text, depth)?
        }
        _ => return Err(ProtobufError::Malformed),
    })
}

/// As Go shows them: what is listed, if anything is, else the one.
fn one_or_list(bytes: &[u8], one: Kind, many: Kind, depth: usize) -> Read<Value> {
    let (mut single, mut all) = (Value::Null, Vec::new());
    for field in Fields(bytes) {
        match field? {
            (1, wire) => single = value(one, wire, depth)?,
            (2, wire) => all.push(value(many, wire, depth)?),
            _ => {}
        }
    }
    Ok(if all.is_empty() { single } else { all.into() })
}

fn texts(bytes: &[u8], number: u32) -> Read<Vec<Value>> {
    let mut items = Vec::new();
    for field in Fields(bytes) {
        match field? {
            (found, Wire::Bytes(bytes)) if found == number => items.push(text(bytes)?.into()),
            _ => {}
        }
    }
    Ok(items)
}

/// Seconds and nanoseconds; no field at all is no time.
fn time(bytes: &[u8], format: &str) -> Read<Value> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(number)) => seconds = signed(number),
            (2, Wire::Varint(number)) => nanos = signed(number),
            _ => {}
        }
    }
    // JSON has no years before this one, here as in Go.
    if seconds < YEAR_ZERO {
        return Err(ProtobufError::Malformed);
    }
    let nanos = i32::try_from(nanos).map_err(|_| ProtobufError::Malformed)?;
    let time = jiff::Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Malformed)?;
    Ok(time.strftime(format).to_string().into())
}

fn first_text(bytes: &[u8]) -> Read<Value> {
    Ok(texts(bytes, 1)?.into_iter().next().unwrap_or_else(|| "0".into()))
}

fn int_or_string(bytes: &[u8]) -> Read<Value> {
    let (mut is_text, mut number, mut word) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(kind)) => is_text = kind == 1,
            (2, Wire::Varint(value)) => number = signed(value),
            (3, Wire::Bytes(bytes)) => word = text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { word.into() } else { number.into() })
}

fn raw_json(bytes: &[u8]) -> Read<Value> {
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(bytes)) = field? {
            return serde_json::from_slice(bytes).map_err(|_| ProtobufError::Malformed);
        }
    }
    Ok(Value::Null)
}

pub(crate) fn text(bytes: &[u8]) -> Read<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Malformed)
}
