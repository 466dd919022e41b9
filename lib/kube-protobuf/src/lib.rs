//! Kubernetes' protobuf: what Go clients send, and prefer to be answered in, for built-in types.
//!
//! A body is an envelope that names the kind, around a message. One table (`plan`) leads from
//! messages to JSON (`read`) and from the stored JSON to messages (`write`); a watch's events stand
//! behind their lengths, each with an object in an envelope of its own.
//!
//! Upstream: k8s.io/apimachinery/pkg/runtime/serializer/protobuf, and generated.proto of k8s.io/api.

mod json;
mod plan;
mod pointers;
mod read;
#[cfg(test)]
mod tests;
mod wire;
mod write;

use std::borrow::Cow;

use serde_json::Value;

pub use crate::pointers::is_zero_a_value;
use crate::{
    json::Cursor,
    read::text,
    wire::{Fields, Wire, push_bytes, push_head, push_nested},
};

pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Of a watch's events.
pub const STREAM_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

const MAGIC: &[u8] = b"k8s\0";

/// What Go writes behind the object: no encoding, no media type.
const TAIL: [(u32, &[u8]); 2] = [(3, b""), (4, b"")];

/// Why a body cannot be read, or an object not be written.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ProtobufError {
    #[error("the body does not begin with the prefix of a Kubernetes message")]
    NoPrefix,
    #[error("the message ends too early or is malformed")]
    Malformed,
    #[error("no kind `{kind}` of `{api_version}` is known as protobuf")]
    UnknownKind { api_version: String, kind: String },
}

/// Reads an envelope and the object, or list, in it.
pub fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    let body = body.strip_prefix(MAGIC).ok_or(ProtobufError::NoPrefix)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(body) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Fields(meta) {
                    match field? {
                        (1, Wire::Bytes(bytes)) => api_version = text(bytes)?,
                        (2, Wire::Bytes(bytes)) => kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let Some(root) = plan::root(&api_version, &kind) else {
        return Err(ProtobufError::UnknownKind { api_version, kind });
    };
    let mut fields = read::root(raw, root)?;
    fields.insert("apiVersion".into(), api_version.into());
    fields.insert("kind".into(), kind.into());
    Ok(Value::Object(fields))
}

/// An object or list, which says in JSON what it is, in an envelope.
pub fn encode(json: &[u8]) -> Result<Vec<u8>, ProtobufError> {
    let mut out = Vec::with_capacity(json.len());
    push(&mut out, json)?;
    Ok(out)
}

fn push(out: &mut Vec<u8>, json: &[u8]) -> Result<(), ProtobufError> {
    let (api_version, kind) = identity(json)?;
    let root = plan::root(&api_version, &kind);
    let root = root.ok_or_else(|| unknown(&api_version, &kind))?;
    envelope(out, &api_version, &kind, |out| write::root(out, &mut Cursor(json), root))
}

/// Objects of a list, each given as JSON: a piece of it that [`list`] puts beside others.
pub fn items<T: AsRef<[u8]>>(
    api_version: &str,
    kind: &str,
    items: impl Iterator<Item = T>,
    capacity: usize,
) -> Result<Vec<u8>, ProtobufError> {
    let list = plan::list(api_version, kind).ok_or_else(|| unknown(api_version, kind))?;
    let mut out = Vec::with_capacity(capacity);
    for json in items {
        write::list_item(&mut out, &mut Cursor(json.as_ref()), list)?;
    }
    Ok(out)
}

/// The list of what is in these pieces, in an envelope. `kind` is that of the objects.
pub fn list(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    pieces: &[Vec<u8>],
) -> Result<Vec<u8>, ProtobufError> {
    let list = plan::list(api_version, kind).ok_or_else(|| unknown(api_version, kind))?;
    let mut head = Vec::new();
    write::list_metadata(&mut head, &mut Cursor(metadata.to_string().as_bytes()), list)?;
    let size = head.len() + pieces.iter().map(Vec::len).sum::<usize>();
    let mut out = Vec::with_capacity(size + 256);
    begin(&mut out, api_version, &format!("{kind}List"))?;
    push_head(&mut out, 2, size);
    out.extend_from_slice(&head);
    pieces.iter().for_each(|it| out.extend_from_slice(it));
    end(&mut out);
    Ok(out)
}

/// One event of a watch: its length, its type, and its object in an envelope.
pub fn event(kind: &str, json: &[u8]) -> Result<Vec<u8>, ProtobufError> {
    let mut out = Vec::with_capacity(json.len());
    out.extend_from_slice(&[0; 4]);
    push_bytes(&mut out, 1, kind.as_bytes());
    push_nested(&mut out, 2, |out| push_nested(out, 1, |out| push(out, json)))?;
    let length = u32::try_from(out.len() - 4).map_err(|_| ProtobufError::Malformed)?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

fn envelope(
    out: &mut Vec<u8>,
    api_version: &str,
    kind: &str,
    object: impl FnOnce(&mut Vec<u8>) -> Result<(), ProtobufError>,
) -> Result<(), ProtobufError> {
    begin(out, api_version, kind)?;
    push_nested(out, 2, object)?;
    end(out);
    Ok(())
}

/// What stands before the object.
fn begin(out: &mut Vec<u8>, api_version: &str, kind: &str) -> Result<(), ProtobufError> {
    out.extend_from_slice(MAGIC);
    push_nested(out, 1, |out| {
        push_bytes(out, 1, api_version.as_bytes());
        push_bytes(out, 2, kind.as_bytes());
        Ok(())
    })
}

fn end(out: &mut Vec<u8>) {
    for (number, nothing) in TAIL {
        push_bytes(out, number, nothing);
    }
}

fn unknown(api_version: &str, kind: &str) -> ProtobufError {
    ProtobufError::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() }
}

/// What an object says that it is: `apiVersion` and `kind`, which mostly stand first.
fn identity(json: &[u8]) -> Result<(Cow<'_, str>, Cow<'_, str>), ProtobufError> {
    let mut json = Cursor(json);
    let (mut api_version, mut kind) = (Cow::Borrowed(""), Cow::Borrowed(""));
    json.take(b'{')?;
    while let Some(name) = json.member()? {
        let place = match &*name {
            b"apiVersion" => &mut api_version,
            b"kind" => &mut kind,
            _ => {
                json.value()?;
                continue;
            }
        };
        *place = match json.text()? {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        };
        if !api_version.is_empty() && !kind.is_empty() {
            break;
        }
    }
    Ok((api_version, kind))
}
