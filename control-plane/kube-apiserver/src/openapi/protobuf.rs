//! The OpenAPI documents as protobuf: a JSON document, written by a table of its messages.
//!
//! What a document says in no field of a message is an extension, in YAML, of which JSON is a part.
//! Whatever neither is has no place in a message and is left out, as upstream does.
//!
//! Upstream: `Document` of gnostic's `openapi.v2` and `openapi.v3`.

#[cfg(test)]
pub(crate) mod read;
mod second;
mod third;

use serde_json::{Map, Value};

/// The media types by which clients ask for version 2; the first is the one that they are told.
pub(super) const SECOND: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
];

/// As [`SECOND`], of version 3.
pub(super) const THIRD: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
];

/// How a value is written. A list of it is a repeated field.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Integer,
    Number,
    /// Any value, a list too.
    Any,
    /// A list of any values.
    Anys,
    Message(&'static Message),
    /// A message of which each value needs one field.
    Choice(Choose),
    /// As [`Kind::Choice`], of any value, a list too.
    Whole(Choose),
}

/// The field that a value needs.
type Choose = fn(&Value) -> Option<(u64, Kind)>;

/// What the members of an object become.
struct Message {
    members: &'static [(&'static str, u64, Kind)],
    /// Members of any other name, with their names.
    others: Option<(u64, Kind)>,
    /// Members whose names begin with `x-`.
    extensions: Option<u64>,
}

/// `document` is the one in JSON.
pub(super) fn second(document: &Value) -> Vec<u8> {
    message(&second::DOCUMENT, document)
}

/// `document` is the one in JSON.
pub(super) fn third(document: &Value) -> Vec<u8> {
    message(&third::DOCUMENT, document)
}

fn message(message: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(object) = value.as_object() {
        put_members(&mut out, message, object);
    }
    out
}

fn put_members(out: &mut Vec<u8>, message: &Message, object: &Map<String, Value>) {
    for (name, number, kind) in message.members {
        if let Some(value) = object.get(*name) {
            put(out, *number, *kind, value);
        }
    }
    let is_member = |name: &str| message.members.iter().any(|(it, ..)| *it == name);
    for (name, value) in object.iter().filter(|(name, _)| !is_member(name)) {
        match (message.extensions, message.others) {
            (Some(number), _) if name.starts_with("x-") => {
                put_named(out, number, name, Kind::Any, value);
            }
            (_, Some((number, kind))) => put_named(out, number, name, kind, value),
            _ => {}
        }
    }
}

fn put_named(out: &mut Vec<u8>, number: u64, name: &str, kind: Kind, value: &Value) {
    let mut entry = Vec::new();
    put_bytes(&mut entry, 1, name.as_bytes());
    put(&mut entry, 2, kind, value);
    put_bytes(out, number, &entry);
}

fn put(out: &mut Vec<u8>, number: u64, kind: Kind, value: &Value) {
    match (kind, value) {
        (Kind::Any, value) => {
            let mut any = Vec::new();
            put_bytes(&mut any, 2, value.to_string().as_bytes());
            put_bytes(out, number, &any);
        }
        (Kind::Whole(choose), value) => put_chosen(out, number, choose, value),
        (Kind::Anys, Value::Array(all)) => {
            all.iter().for_each(|it| put(out, number, Kind::Any, it));
        }
        (kind, Value::Array(all)) => all.iter().for_each(|it| put(out, number, kind, it)),
        (Kind::Text, Value::String(text)) => put_bytes(out, number, text.as_bytes()),
        (Kind::Flag, Value::Bool(flag)) => put_varint(out, number, u64::from(*flag)),
        (Kind::Integer, Value::Number(integer)) => {
            let integer = integer.as_i64().unwrap_or_default();
            put_varint(out, number, integer.cast_unsigned());
        }
        (Kind::Number, Value::Number(value)) => {
            varint(out, number << 3 | 1);
            out.extend(value.as_f64().unwrap_or_default().to_le_bytes());
        }
        (Kind::Message(of), value @ Value::Object(_)) => {
            put_bytes(out, number, &message(of, value));
        }
        (Kind::Choice(choose), value) => put_chosen(out, number, choose, value),
        _ => {}
    }
}

fn put_chosen(out: &mut Vec<u8>, number: u64, choose: Choose, value: &Value) {
    let mut chosen = Vec::new();
    if let Some((number, kind)) = choose(value) {
        put(&mut chosen, number, kind, value);
    }
    put_bytes(out, number, &chosen);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or_default());
}

fn put_varint(out: &mut Vec<u8>, field: u64, number: u64) {
    varint(out, field << 3);
    varint(out, number);
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, u64::try_from(bytes.len()).unwrap_or_default());
    out.extend_from_slice(bytes);
}

/// Names with texts, lists of names, and the like: nothing but members of any name.
const fn names(kind: Kind) -> Message {
    Message { members: &[], others: Some((1, kind)), extensions: None }
}

/// Members of these names, and extensions behind that number.
const fn message_of(
    members: &'static [(&'static str, u64, Kind)],
    extensions: Option<u64>,
) -> Message {
    Message { members, others: None, extensions }
}
