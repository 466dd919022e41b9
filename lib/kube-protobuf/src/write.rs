//! From JSON to messages.
//!
//! Only what JSON has is written: a Go client reads the same object as from upstream, whose zero
//! values it would have anyway. Fields of a message that JSON does not show are written each in a
//! piece of it, which readers put together, as the wire format says.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    ProtobufError,
    json::Cursor,
    plan::{self, Field, Kind, List, Many, Message, Root},
    wire::{push_bytes, push_double, push_integer, push_nested},
};

type Written = Result<(), ProtobufError>;

/// An envelope's content.
pub(crate) fn root(out: &mut Vec<u8>, json: &mut Cursor<'_>, root: Root) -> Written {
    let list = match root {
        Root::One(it) => return message(out, json, it),
        Root::List(list) => list,
    };
    json.take(b'{')?;
    while let Some(name) = json.member()? {
        match &*name {
            b"metadata" => list_metadata(out, json, list)?,
            b"items" if json.peek()? == b'[' => {
                json.take(b'[')?;
                while json.element()? {
                    list_item(out, json, list)?;
                }
            }
            _ => drop(json.value()?),
        }
    }
    Ok(())
}

pub(crate) fn list_metadata(out: &mut Vec<u8>, json: &mut Cursor<'_>, of: List) -> Written {
    push_nested(out, of.metadata, |out| message(out, json, plan::list_metadata()))
}

pub(crate) fn list_item(out: &mut Vec<u8>, json: &mut Cursor<'_>, of: List) -> Written {
    push_nested(out, of.items, |out| message(out, json, of.item))
}

fn message(out: &mut Vec<u8>, json: &mut Cursor<'_>, message: &Message) -> Written {
    json.take(b'{')?;
    let mut at = 0;
    while let Some(name) = json.member()? {
        match message.field(&name, &mut at) {
            _ if json.take_null()? => {}
            Some(field) => possible(out, json, field)?,
            None => drop(json.value()?),
        }
    }
    Ok(())
}

/// Writes a field, unless its type cannot hold the value: it was stored by who did not look, and a
/// list is not withheld for one object.
fn possible(out: &mut Vec<u8>, json: &mut Cursor<'_>, field: &Field) -> Written {
    let (start, before) = (out.len(), *json);
    if in_place(out, json, field, &field.outer).is_err() {
        out.truncate(start);
        *json = before;
        json.value()?;
    }
    Ok(())
}

/// Writes a field within the messages that JSON does not show.
fn in_place(out: &mut Vec<u8>, json: &mut Cursor<'_>, field: &Field, outer: &[u32]) -> Written {
    match outer.split_first() {
        Some((number, inner)) => push_nested(out, *number, |out| in_place(out, json, field, inner)),
        None => whole(out, json, field),
    }
}

fn whole(out: &mut Vec<u8>, json: &mut Cursor<'_>, field: &Field) -> Written {
    let (number, kind) = (field.number, field.kind);
    match field.many {
        Many::One => value(out, json, number, kind),
        Many::List => list(out, json, number, kind),
        Many::Map => {
            json.take(b'{')?;
            while let Some(name) = json.member()? {
                push_nested(out, number, |out| {
                    push_bytes(out, 1, &name);
                    if json.take_null()? { Ok(()) } else { value(out, json, 2, kind) }
                })?;
            }
            Ok(())
        }
    }
}

fn value(out: &mut Vec<u8>, json: &mut Cursor<'_>, number: u32, kind: Kind) -> Written {
    match kind {
        Kind::Text => push_bytes(out, number, &json.text()?),
        Kind::Bytes => {
            let mut text = json.text()?;
            if text.contains(&b'\n') {
                text.to_mut().retain(|it| !matches!(it, b'\r' | b'\n'));
            }
            push_nested(out, number, |out| BASE64_STANDARD.decode_vec(&*text, out))
                .map_err(|_| ProtobufError::Malformed)?;
        }
        Kind::Integer => push_integer(out, number, parsed(json.value()?)?),
        Kind::Boolean => push_integer(out, number, i64::from(json.value()? == b"true")),
        Kind::Double => push_double(out, number, parsed(json.value()?)?),
        Kind::Time | Kind::MicroTime => {
            let time: jiff::Timestamp = parsed(&json.text()?)?;
            push_nested(out, number, |out| {
                push_integer(out, 1, time.as_second());
                push_integer(out, 2, time.subsec_nanosecond().into());
                Written::Ok(())
            })?;
        }
        Kind::Quantity => {
            push_nested(out, number, |out| {
                // Whoever wrote a number meant its text.
                let is_text = json.peek()? == b'"';
                if is_text {
                    push_bytes(out, 1, &json.text()?);
                } else {
                    push_bytes(out, 1, json.value()?);
                }
                Ok(())
            })?;
        }
        Kind::IntOrString => push_nested(out, number, |out| int_or_string(out, json))?,
        Kind::Raw => {
            let text = json.value()?;
            push_nested(out, number, |out| {
                push_bytes(out, 1, text);
                Written::Ok(())
            })?;
        }
        Kind::Texts => push_nested(out, number, |out| list(out, json, 1, Kind::Text))?,
        Kind::Message(index) => {
            push_nested(out, number, |out| message(out, json, plan::message(index)))?;
        }
        Kind::SchemaOrBoolean(index) => push_nested(out, number, |out| {
            let is_schema = json.peek()? == b'{';
            if is_schema {
                push_integer(out, 1, 1);
                return value(out, json, 2, Kind::Message(index));
            }
            value(out, json, 1, Kind::Boolean)
        })?,
        Kind::SchemaOrSchemas(index) => {
            let schema = Kind::Message(index);
            push_nested(out, number, |out| one_or_list(out, json, schema, schema))?;
        }
        Kind::SchemaOrTexts(index) => {
            let schema = Kind::Message(index);
            push_nested(out, number, |out| one_or_list(out, json, schema, Kind::Text))?;
        }
    }
    Ok(())
}

fn list(out: &mut Vec<u8>, json: &mut Cursor<'_>, number: u32, kind: Kind) -> Written {
    json.take(b'[')?;
    while json.element()? {
        if json.take_null()? {
            push_bytes(out, number, b"");
        } else {
            value(out, json, number, kind)?;
        }
    }
    Ok(())
}

/// One under the first number, or many under the second.
fn one_or_list(out: &mut Vec<u8>, json: &mut Cursor<'_>, one: Kind, many: Kind) -> Written {
    if json.peek()? == b'[' { list(out, json, 2, many) } else { value(out, json, 1, one) }
}

fn int_or_string(out: &mut Vec<u8>, json: &mut Cursor<'_>) -> Written {
    if json.peek()? == b'"' {
        push_integer(out, 1, 1);
        push_bytes(out, 3, &json.text()?);
        return Ok(());
    }
    push_integer(out, 1, 0);
    push_integer(out, 2, parsed(json.value()?)?);
    Ok(())
}

fn parsed<T: std::str::FromStr>(text: &[u8]) -> Result<T, ProtobufError> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|it| it.parse().ok()).ok_or(ProtobufError::Malformed)
}
