//! Request bodies in Kubernetes' protobuf: what Go clients send for built-in types.
//!
//! A body is an envelope that names the kind, around a message. Messages are read by the same
//! types as JSON is; all that is added are the fields' numbers, from a packed table (see
//! `examples/generate-protobuf.rs`). Answers are JSON, which every client takes as well.
//!
//! Go writes its zero values out, so a zero is an absent field unless the type holds it by pointer
//! ([`POINTERS`]) or requires it.
//!
//! Upstream: k8s.io/apimachinery/pkg/runtime/serializer/protobuf, and generated.proto of k8s.io/api.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read,
    sync::{Arc, LazyLock},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::read::GzDecoder;
use serde_json::{Map, Value};

use crate::schema::{self, Object, Shape};

const MAGIC: &[u8] = b"k8s\0";

/// Messages within messages; JSON has the same limit in serde.
const MAX_DEPTH: usize = 100;

/// Why a body cannot be read.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum ProtobufError {
    #[error("the body does not begin with the prefix of a Kubernetes message")]
    NoPrefix,
    #[error("the message ends too early or is malformed")]
    Malformed,
    #[error("no kind `{kind}` of `{api_version}` can be read as protobuf")]
    UnknownKind { api_version: String, kind: String },
}

/// What a field number stands for.
#[derive(Debug)]
enum Entry {
    Field(String),
    /// A message whose fields JSON shows in the message around it.
    Inline(BTreeMap<u32, Self>),
}

type Numbers = BTreeMap<u32, Entry>;

static TABLE: LazyLock<HashMap<String, Numbers>> = LazyLock::new(|| {
    let packed: &[u8] = include_bytes!("../schemas/protobuf.json.gz");
    let mut text = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut text).expect("the packed table is part of the binary");
    let table: Value =
        serde_json::from_slice(&text).expect("the packed table is part of the binary");
    let added = schema::added();
    let all = [&table, &added["protobuf"]];
    let messages = all.into_iter().filter_map(Value::as_object).flatten();
    messages.map(|(name, entries)| (name.clone(), numbers(entries))).collect()
});

fn numbers(entries: &Value) -> Numbers {
    let entries = entries.as_object().into_iter().flatten();
    let entry = |value: &Value| match value {
        Value::String(name) => Entry::Field(name.clone()),
        inner => Entry::Inline(numbers(inner)),
    };
    entries.filter_map(|(number, value)| Some((number.parse().ok()?, entry(value)))).collect()
}

/// Scalar fields that Go holds by pointer: a zero in them is a value.
const POINTERS: &[&str] = &[
    "activeDeadlineSeconds",
    "allocateLoadBalancerNodePorts",
    "allowPrivilegeEscalation",
    "allowVolumeExpansion",
    "apiGroup",
    "attachRequired",
    "automountServiceAccountToken",
    "averageUtilization",
    "backoffLimit",
    "backoffLimitPerIndex",
    "blockOwnerDeletion",
    "completions",
    "controller",
    "defaultMode",
    "deletionGracePeriodSeconds",
    "enableServiceLinks",
    "expirationSeconds",
    "failedJobsHistoryLimit",
    "fsGroup",
    "gracePeriodSeconds",
    "holderIdentity",
    "hostUsers",
    "immutable",
    "leaseDurationSeconds",
    "leaseTransitions",
    "manualSelector",
    "maxFailedIndexes",
    "maxSurge",
    "maxUnavailable",
    "minAvailable",
    "minReplicas",
    "mode",
    "optional",
    "orphanDependents",
    "parallelism",
    "partition",
    "podInfoOnMount",
    "priority",
    "privileged",
    "progressDeadlineSeconds",
    "readOnlyRootFilesystem",
    "ready",
    "replicas",
    "requiresRepublish",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "serving",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "stabilizationWindowSeconds",
    "started",
    "startingDeadlineSeconds",
    "storageCapacity",
    "storageClassName",
    "successfulJobsHistoryLimit",
    "suspend",
    "terminating",
    "terminationGracePeriodSeconds",
    "tolerationSeconds",
    "ttlSecondsAfterFinished",
];

/// Reads an envelope and the object in it.
pub(crate) fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
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
    let name = schema::name_of_kind(&api_version, &kind);
    let object = name.and_then(|it| Some((it.clone(), schema::find(&it)?, TABLE.get(&it)?)));
    let Some((_, object, numbers)) = object else {
        return Err(ProtobufError::UnknownKind { api_version, kind });
    };
    let mut fields = message(raw, &object, numbers, MAX_DEPTH)?;
    fields.insert("apiVersion".into(), api_version.into());
    fields.insert("kind".into(), kind.into());
    Ok(Value::Object(fields))
}

fn message(
    bytes: &[u8],
    object: &Arc<Object>,
    numbers: &Numbers,
    depth: usize,
) -> Result<Map<String, Value>, ProtobufError> {
    let depth = depth.checked_sub(1).ok_or(ProtobufError::Malformed)?;
    let mut out = Map::new();
    for field in Fields(bytes) {
        let (number, wire) = field?;
        match (numbers.get(&number), wire) {
            (None, _) => {}
            (Some(Entry::Inline(numbers)), Wire::Bytes(bytes)) => {
                out.extend(message(bytes, object, numbers, depth)?);
            }
            (Some(Entry::Inline(_)), _) => return Err(ProtobufError::Malformed),
            (Some(Entry::Field(name)), wire) => {
                let Some(field) = object.fields.get(name) else { continue };
                put(&mut out, name, &field.shape, wire, depth)?;
                let is_kept = POINTERS.contains(&name.as_str()) || object.required.contains(name);
                if !is_kept && out.get(name).is_some_and(is_zero) {
                    out.remove(name);
                }
            }
        }
    }
    Ok(out)
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
fn put(
    out: &mut Map<String, Value>,
    name: &str,
    shape: &Shape,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), ProtobufError> {
    match shape {
        Shape::List(inner) => {
            let list = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = list else { return Err(ProtobufError::Malformed) };
            match (&**inner, wire) {
                (Shape::Integer(_), Wire::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        items.push(signed(varint(&mut packed)?).into());
                    }
                }
                (inner, wire) => items.push(value(inner, wire, depth)?),
            }
        }
        Shape::Map(inner) => {
            let map = out.entry(name).or_insert_with(|| Value::Object(Map::new()));
            let (Value::Object(entries), Wire::Bytes(bytes)) = (map, wire) else {
                return Err(ProtobufError::Malformed);
            };
            let (mut key, mut found) = (String::new(), None);
            for field in Fields(bytes) {
                match field? {
                    (1, Wire::Bytes(bytes)) => key = text(bytes)?,
                    (2, wire) => found = Some(entry(inner, wire, depth)?),
                    _ => {}
                }
            }
            entries.insert(key, found.unwrap_or_else(|| Value::String(String::new())));
        }
        shape => drop(out.insert(name.into(), value(shape, wire, depth)?)),
    }
    Ok(())
}

/// A map's value. Lists of strings are messages of their own there.
fn entry(shape: &Shape, wire: Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
    let (Shape::List(_), Wire::Bytes(bytes)) = (shape, &wire) else {
        return value(shape, wire, depth);
    };
    let mut items = Vec::new();
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(bytes)) = field? {
            items.push(text(bytes)?.into());
        }
    }
    Ok(Value::Array(items))
}

fn value(shape: &Shape, wire: Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match (shape, wire) {
        (Shape::String, Wire::Bytes(bytes)) => text(bytes)?.into(),
        (Shape::Bytes, Wire::Bytes(bytes)) => BASE64_STANDARD.encode(bytes).into(),
        (Shape::Integer(_), Wire::Varint(number)) => signed(number).into(),
        (Shape::Boolean, Wire::Varint(number)) => (number != 0).into(),
        (Shape::Number, Wire::Fixed64(bits)) => f64::from_bits(bits).into(),
        (Shape::Time, Wire::Bytes(bytes)) => time(bytes)?,
        (Shape::Quantity, Wire::Bytes(bytes)) => first_text(bytes)?,
        (Shape::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Shape::Any | Shape::AnyObject, Wire::Bytes(bytes)) => raw_json(bytes)?,
        (Shape::Named(name), Wire::Bytes(bytes)) => {
            let (Some(object), Some(numbers)) = (schema::find(name), TABLE.get(&**name)) else {
                return Ok(Value::Object(Map::new()));
            };
            Value::Object(message(bytes, &object, numbers, depth)?)
        }
        _ => return Err(ProtobufError::Malformed),
    })
}

/// Seconds and nanoseconds; both zero is no time.
fn time(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(number)) => seconds = signed(number),
            (2, Wire::Varint(number)) => nanos = signed(number),
            _ => {}
        }
    }
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(nanos).map_err(|_| ProtobufError::Malformed)?;
    let time = jiff::Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Malformed)?;
    let has_fraction = nanos != 0;
    Ok(if has_fraction {
        crate::server::micro_timestamp(time)
    } else {
        crate::server::timestamp(time)
    }
    .into())
}

fn first_text(bytes: &[u8]) -> Result<Value, ProtobufError> {
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(bytes)) = field? {
            return Ok(text(bytes)?.into());
        }
    }
    Ok("0".into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
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

fn raw_json(bytes: &[u8]) -> Result<Value, ProtobufError> {
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(bytes)) = field? {
            return serde_json::from_slice(bytes).map_err(|_| ProtobufError::Malformed);
        }
    }
    Ok(Value::Null)
}

fn text(bytes: &[u8]) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Malformed)
}

/// Two's complement, as protobuf writes negative numbers.
fn signed(number: u64) -> i64 {
    i64::from_le_bytes(number.to_le_bytes())
}

/// One field's value on the wire.
#[derive(Clone, Copy, Debug)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of a message, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Wire<'a>), ProtobufError> {
        let tag = varint(&mut self.0)?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtobufError::Malformed)?;
        let wire = match tag & 7 {
            0 => Wire::Varint(varint(&mut self.0)?),
            1 => {
                let bytes = self.take(8)?.try_into().map_err(|_| ProtobufError::Malformed)?;
                Wire::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let length = varint(&mut self.0)?;
                let length = usize::try_from(length).map_err(|_| ProtobufError::Malformed)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(ProtobufError::Malformed),
        };
        Ok((number, wire))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ProtobufError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut number = 0_u64;
    for shift in (0..70).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(ProtobufError::Malformed)?;
        *bytes = rest;
        number |= u64::from(first & 0x7f).checked_shl(shift).unwrap_or_default();
        if first & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(ProtobufError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn bytes(number: u8, inner: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(inner.len()).unwrap()];
        out.extend_from_slice(inner);
        out
    }

    fn envelope(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &meta), bytes(2, object)].concat()
    }

    #[test]
    fn zeros_are_absent_unless_they_are_held_by_pointer() {
        let metadata = [bytes(1, b"d"), bytes(3, b""), vec![7 << 3, 0], bytes(8, &[8, 0, 16, 0])];
        let deployment = [bytes(1, &metadata.concat()), bytes(2, &[8, 0, 5 << 3, 0])].concat();
        let object = decode(&envelope("apps/v1", "Deployment", &deployment)).unwrap();
        assert_eq!(
            object,
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
                   "spec": {"replicas": 0}})
        );
    }

    #[test]
    fn maps_inlined_sources_and_int_or_string_are_read() {
        let label = [bytes(1, b"k"), bytes(2, b"v")].concat();
        let source = bytes(2, &[]);
        let volume = [bytes(1, b"v"), bytes(2, &source)].concat();
        let pod = [bytes(1, &bytes(11, &label)), bytes(2, &bytes(1, &volume))].concat();
        let object = decode(&envelope("v1", "Pod", &pod)).unwrap();
        assert_eq!(object["metadata"]["labels"], json!({"k": "v"}));
        assert_eq!(object["spec"]["volumes"], json!([{"name": "v", "emptyDir": {}}]));
        let port =
            [vec![3 << 3, 80], bytes(4, &[&[8, 1][..], &bytes(3, b"http")].concat())].concat();
        let service = bytes(2, &bytes(1, &port));
        let object = decode(&envelope("v1", "Service", &service)).unwrap();
        assert_eq!(object["spec"]["ports"], json!([{"port": 80, "targetPort": "http"}]));
    }

    #[test]
    fn what_is_not_an_envelope_is_refused() {
        assert_eq!(decode(b"{}").unwrap_err(), ProtobufError::NoPrefix);
        assert_eq!(decode(b"k8s\0\x0a\xff").unwrap_err(), ProtobufError::Malformed);
        let unknown = decode(&envelope("v1", "Nope", b"")).unwrap_err();
        assert!(matches!(unknown, ProtobufError::UnknownKind { .. }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_but_never_panic(
            tail in prop::collection::vec(any::<u8>(), 0..100)
        ) {
            drop(decode(&envelope("v1", "Pod", &tail)));
            drop(decode(&[MAGIC, &tail].concat()));
        }
    }
}
