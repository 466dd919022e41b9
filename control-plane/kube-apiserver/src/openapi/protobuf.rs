//! The document of `/openapi/v2` as protobuf: kubectl asks for nothing else when it validates what it
//! reads itself, as it does for a `v1` `List`.
//!
//! Only what describes objects is written: the definitions. Numbers are those of gnostic's
//! `openapi.v2.Document`; what a field says in no message of its own is an extension, in YAML.
//!
//! Deviation: upstream's protobuf has the paths too.

use serde_json::Value;

/// The media types by which clients ask for it; the first is the one that they are told.
pub(super) const MEDIA_TYPES: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
];

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
            number >>= 7;
        }
        self.0.push(u8::try_from(number).unwrap_or_default());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.number(field << 3 | 2);
        self.number(u64::try_from(bytes.len()).unwrap_or_default());
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, value: &Value) {
        if let Some(text) = value.as_str() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    fn flag(&mut self, field: u64, value: bool) {
        self.number(field << 3);
        self.number(u64::from(value));
    }
}

/// `definitions` are those of the JSON document.
pub(super) fn document(definitions: &Value) -> Vec<u8> {
    let mut info = Message::default();
    info.bytes(1, b"Kubernetes");
    info.bytes(2, b"unversioned");
    let mut document = Message::default();
    document.bytes(1, b"2.0");
    document.message(2, &info);
    document.message(8, &Message::default());
    document.message(9, &named(definitions));
    document.0
}

/// Schemas by name, each a `NamedSchema`.
fn named(schemas: &Value) -> Message {
    let mut all = Message::default();
    for (name, value) in schemas.as_object().into_iter().flatten() {
        let mut one = Message::default();
        one.bytes(1, name.as_bytes());
        one.message(2, &schema(value));
        all.message(1, &one);
    }
    all
}

fn schema(value: &Value) -> Message {
    let mut schema = Message::default();
    if let Some(reference) = reference(value) {
        schema.bytes(1, reference.as_bytes());
        schema.text(4, &value["description"]);
        return schema;
    }
    schema.text(2, &value["format"]);
    schema.text(4, &value["description"]);
    for name in value["required"].as_array().into_iter().flatten() {
        schema.text(19, name);
    }
    for choice in value["enum"].as_array().into_iter().flatten() {
        schema.message(20, &any(choice));
    }
    if let Some(more) = additional(&value["additionalProperties"]) {
        schema.message(21, &more);
    }
    if value["type"].is_string() {
        let mut kind = Message::default();
        kind.text(1, &value["type"]);
        schema.message(22, &kind);
    }
    if value["items"].is_object() {
        let mut items = Message::default();
        items.message(1, &self::schema(&value["items"]));
        schema.message(23, &items);
    }
    if value["properties"].is_object() {
        schema.message(25, &named(&value["properties"]));
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        if name.starts_with("x-") {
            let mut extension = Message::default();
            extension.bytes(1, name.as_bytes());
            extension.message(2, &any(value));
            schema.message(31, &extension);
        }
    }
    schema
}

/// What a schema refers to, alone or as the only one of `allOf`.
fn reference(value: &Value) -> Option<&str> {
    let only = value["allOf"].as_array().filter(|it| it.len() == 1).and_then(|it| it.first());
    value["$ref"].as_str().or_else(|| only?["$ref"].as_str())
}

fn additional(value: &Value) -> Option<Message> {
    let mut item = Message::default();
    match value {
        Value::Bool(is_any) => item.flag(2, *is_any),
        Value::Object(_) => item.message(1, &schema(value)),
        _ => return None,
    }
    Some(item)
}

/// JSON is YAML.
fn any(value: &Value) -> Message {
    let mut any = Message::default();
    any.bytes(2, value.to_string().as_bytes());
    any
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Field 9 of the document, field 1 of it, …: the bytes of the first field on each step.
    fn at<'a>(mut bytes: &'a [u8], path: &[u64]) -> Option<&'a [u8]> {
        for wanted in path {
            bytes = loop {
                let (key, rest) = number(bytes)?;
                let (length, rest) = number(rest)?;
                let (value, rest) = match key & 7 {
                    2 => rest.split_at(usize::try_from(length).unwrap()),
                    _ => (&rest[..0], rest),
                };
                if key >> 3 == *wanted {
                    break value;
                }
                bytes = rest;
            };
        }
        Some(bytes)
    }

    fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
        let end = bytes.iter().position(|it| it & 0x80 == 0)?;
        let digits = bytes[..=end].iter().rev();
        let number = digits.fold(0, |sum, it| sum << 7 | u64::from(it & 0x7f));
        Some((number, &bytes[end + 1..]))
    }

    #[test]
    fn definitions_are_messages_with_their_properties_and_extensions() {
        let long = "d".repeat(300);
        let document = document(&json!({"Pod": {
            "type": "object", "description": long, "required": ["spec"],
            "properties": {"spec": {"allOf": [{"$ref": "#/definitions/Spec"}]}},
            "x-kubernetes-group-version-kind": [{"kind": "Pod"}],
        }}));
        let pod = at(&document, &[9, 1, 2]).unwrap();
        assert_eq!(at(&document, &[9, 1, 1]), Some(&b"Pod"[..]));
        assert_eq!(at(pod, &[4]), Some(long.as_bytes()));
        assert_eq!(at(pod, &[19]), Some(&b"spec"[..]));
        assert_eq!(at(pod, &[22, 1]), Some(&b"object"[..]));
        assert_eq!(at(pod, &[25, 1, 2, 1]), Some(&b"#/definitions/Spec"[..]));
        assert_eq!(at(pod, &[31, 2, 2]), Some(&br#"[{"kind":"Pod"}]"#[..]));
    }
}
