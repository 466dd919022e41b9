//! Reads what was written, by numbers of its own: those of gnostic's `openapi.v3`, and of the
//! definitions and paths of `openapi.v2`.

use serde_json::{Map, Value, json};

/// A field's content.
#[derive(Clone, Copy)]
enum Part<'a> {
    Number(u64),
    Double(f64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let end = bytes.iter().position(|it| it & 0x80 == 0).expect("a number ends");
    let (digits, rest) = bytes.split_at(end + 1);
    *bytes = rest;
    digits.iter().rev().fold(0, |sum, it| sum << 7 | u64::from(it & 0x7f))
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Part<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let part = match key & 7 {
            0 => Part::Number(varint(&mut bytes)),
            1 => {
                let (double, rest) = bytes.split_at(8);
                bytes = rest;
                Part::Double(f64::from_le_bytes(double.try_into().unwrap()))
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (content, rest) = bytes.split_at(length);
                bytes = rest;
                Part::Bytes(content)
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, part));
    }
    found
}

impl<'a> Part<'a> {
    fn bytes(self) -> &'a [u8] {
        let Self::Bytes(bytes) = self else { panic!("no bytes") };
        bytes
    }

    fn text(self) -> Value {
        std::str::from_utf8(self.bytes()).unwrap().into()
    }

    fn flag(self) -> Value {
        let Self::Number(number) = self else { panic!("no flag") };
        (number == 1).into()
    }

    /// Whole ones as JSON has them.
    fn number(self) -> Value {
        match self {
            Self::Number(number) => number.cast_signed().into(),
            Self::Double(it) if it.fract() == 0.0 => {
                serde_json::from_str(&format!("{it}")).unwrap()
            }
            Self::Double(it) => it.into(),
            Self::Bytes(_) => panic!("no number"),
        }
    }

    fn any(self) -> Value {
        let (number, part) = fields(self.bytes())[0];
        assert_eq!(number, 2);
        serde_json::from_slice(part.bytes()).unwrap()
    }

    /// The one field of a message.
    fn only(self) -> (u64, Self) {
        let all = fields(self.bytes());
        assert_eq!(all.len(), 1);
        all[0]
    }

    /// A name and what it names.
    fn named(self, value: impl Fn(Self) -> Value) -> (String, Value) {
        let all = fields(self.bytes());
        let name = all[0].1.text();
        (name.as_str().unwrap().to_owned(), value(all[1].1))
    }

    fn names(self, value: impl Fn(Self) -> Value) -> Value {
        let all = fields(self.bytes()).into_iter();
        Value::Object(all.map(|(_, it)| it.named(&value)).collect())
    }
}

/// An object of fields that a message has once (`name`), as a list (`[name`), or under names of
/// their own (none).
fn object(part: Part<'_>, field: impl Fn(u64, Part<'_>) -> (&'static str, Value)) -> Value {
    let mut out = Map::new();
    for (number, part) in fields(part.bytes()) {
        match field(number, part) {
            ("", entry) => {
                let (name, value) = (entry[0].as_str().unwrap().to_owned(), entry[1].clone());
                out.insert(name, value);
            }
            (name, value) => match name.strip_prefix('[') {
                None => drop(out.insert(name.into(), value)),
                Some(name) => {
                    let list = out.entry(name).or_insert_with(|| json!([]));
                    list.as_array_mut().unwrap().push(value);
                }
            },
        }
    }
    Value::Object(out)
}

fn extension(part: Part<'_>) -> (&'static str, Value) {
    ("", json!(part.named(Part::any)))
}

/// A document of version 3.
pub(crate) fn third(bytes: &[u8]) -> Value {
    object(Part::Bytes(bytes), |number, it| match number {
        1 => ("openapi", it.text()),
        2 => ("info", info(it, 6)),
        4 => ("paths", it.names(path)),
        5 => {
            let (number, schemas) = it.only();
            assert_eq!(number, 1);
            ("components", json!({ "schemas": schemas.names(schema_or_reference) }))
        }
        other => panic!("field {other} of the document"),
    })
}

fn info(part: Part<'_>, version: u64) -> Value {
    object(part, |number, it| match number {
        1 => ("title", it.text()),
        _ if number == version => ("version", it.text()),
        other => panic!("field {other} of the information"),
    })
}

fn path(part: Part<'_>) -> Value {
    object(part, |number, it| match number {
        4 => ("get", operation(it)),
        5 => ("put", operation(it)),
        6 => ("post", operation(it)),
        7 => ("delete", operation(it)),
        10 => ("patch", operation(it)),
        13 => ("[parameters", either(it, parameter)),
        other => panic!("field {other} of a path"),
    })
}

fn operation(part: Part<'_>) -> Value {
    object(part, |number, it| match number {
        1 => ("[tags", it.text()),
        5 => ("operationId", it.text()),
        6 => ("[parameters", either(it, parameter)),
        7 => ("requestBody", either(it, request_body)),
        8 => (
            "responses",
            object(it, |number, it| match number {
                2 => ("", json!(it.named(|it| either(it, response)))),
                other => panic!("field {other} of responses"),
            }),
        ),
        13 => extension(it),
        other => panic!("field {other} of an operation"),
    })
}

fn parameter(part: Part<'_>) -> Value {
    object(part, |number, it| match number {
        1 => ("name", it.text()),
        2 => ("in", it.text()),
        3 => ("description", it.text()),
        4 => ("required", it.flag()),
        10 => ("schema", schema_or_reference(it)),
        other => panic!("field {other} of a parameter"),
    })
}

fn request_body(part: Part<'_>) -> Value {
    object(part, |number, it| match number {
        2 => ("content", it.names(media_type)),
        3 => ("required", it.flag()),
        other => panic!("field {other} of a body"),
    })
}

fn media_type(part: Part<'_>) -> Value {
    object(part, |number, it| match number {
        1 => ("schema", schema_or_reference(it)),
        other => panic!("field {other} of a media type"),
    })
}

fn response(part: Part<'_>) -> Value {
    object(part, |number, it| match number {
        1 => ("description", it.text()),
        3 => ("content", it.names(media_type)),
        other => panic!("field {other} of a response"),
    })
}

/// A thing, or a reference to one.
fn either(part: Part<'_>, thing: impl Fn(Part<'_>) -> Value) -> Value {
    match part.only() {
        (1, it) => thing(it),
        (2, it) => object(it, |number, it| match number {
            1 => ("$ref", it.text()),
            3 => ("description", it.text()),
            other => panic!("field {other} of a reference"),
        }),
        (other, _) => panic!("choice {other}"),
    }
}

fn schema_or_reference(part: Part<'_>) -> Value {
    either(part, schema)
}

fn schema(part: Part<'_>) -> Value {
    object(part, |number, it| match number {
        1 => ("nullable", it.flag()),
        6 => ("externalDocs", object(it, |_, it| ("url", it.text()))),
        7 => ("example", it.any()),
        9 => ("title", it.text()),
        10 => ("multipleOf", it.number()),
        11 => ("maximum", it.number()),
        12 => ("exclusiveMaximum", it.flag()),
        13 => ("minimum", it.number()),
        14 => ("exclusiveMinimum", it.flag()),
        15 => ("maxLength", it.number()),
        16 => ("minLength", it.number()),
        17 => ("pattern", it.text()),
        18 => ("maxItems", it.number()),
        19 => ("minItems", it.number()),
        20 => ("uniqueItems", it.flag()),
        21 => ("maxProperties", it.number()),
        22 => ("minProperties", it.number()),
        23 => ("[required", it.text()),
        24 => ("[enum", it.any()),
        25 => ("type", it.text()),
        26 => ("[allOf", schema_or_reference(it)),
        27 => ("[oneOf", schema_or_reference(it)),
        28 => ("[anyOf", schema_or_reference(it)),
        29 => ("not", schema(it)),
        30 => ("items", schema_or_reference(it.only().1)),
        31 => ("properties", it.names(schema_or_reference)),
        32 => (
            "additionalProperties",
            match it.only() {
                (1, it) => schema_or_reference(it),
                (_, it) => it.flag(),
            },
        ),
        33 => (
            "default",
            match fields(it.bytes())[..] {
                [] => Value::Null,
                [(1, it)] => it.number(),
                [(2, it)] => it.flag(),
                [(3, it)] => it.text(),
                _ => panic!("a default"),
            },
        ),
        34 => ("description", it.text()),
        35 => ("format", it.text()),
        36 => extension(it),
        other => panic!("field {other} of a schema"),
    })
}

/// The information, the paths and the definitions of a document of version 2.
pub(crate) fn second(bytes: &[u8]) -> Value {
    object(Part::Bytes(bytes), |number, it| match number {
        1 => ("swagger", it.text()),
        2 => ("info", info(it, 2)),
        8 => (
            "paths",
            object(it, |number, it| match number {
                2 => ("", json!(it.named(older_path))),
                other => panic!("field {other} of the paths"),
            }),
        ),
        9 => ("definitions", it.names(definition)),
        10 => ("parameters", it.names(older_parameter)),
        other => panic!("field {other} of the document"),
    })
}

fn older_path(part: Part<'_>) -> Value {
    object(part, |number, it| match number {
        2 => ("get", older_operation(it)),
        3 => ("put", older_operation(it)),
        4 => ("post", older_operation(it)),
        5 => ("delete", older_operation(it)),
        8 => ("patch", older_operation(it)),
        9 => ("[parameters", older_parameter_or_reference(it)),
        other => panic!("field {other} of a path"),
    })
}

fn older_operation(part: Part<'_>) -> Value {
    let response = |it: Part<'_>| {
        object(it.only().1, |number, it| match number {
            1 => ("description", it.text()),
            2 => ("schema", definition(it.only().1)),
            other => panic!("field {other} of a response"),
        })
    };
    object(part, |number, it| match number {
        1 => ("[tags", it.text()),
        5 => ("operationId", it.text()),
        6 => ("[produces", it.text()),
        7 => ("[consumes", it.text()),
        8 => ("[parameters", older_parameter_or_reference(it)),
        9 => ("responses", object(it, |_, it| ("", json!(it.named(response))))),
        13 => extension(it),
        other => panic!("field {other} of an operation"),
    })
}

fn older_parameter_or_reference(part: Part<'_>) -> Value {
    match part.only() {
        (1, it) => older_parameter(it),
        (2, it) => object(it, |_, it| ("$ref", it.text())),
        (other, _) => panic!("choice {other}"),
    }
}

/// In the body, or elsewhere: in the query or in the path.
fn older_parameter(part: Part<'_>) -> Value {
    let (place, it) = match part.only() {
        (1, it) => (0, it),
        (_, it) => it.only(),
    };
    object(it, |number, it| match (place, number) {
        (0, 2) | (3, 4) | (4, 4) => ("name", it.text()),
        (0, 3) | (3, 2) | (4, 2) => ("in", it.text()),
        (0, 4) | (4, 1) => ("required", it.flag()),
        (0, 5) => ("schema", definition(it)),
        (3 | 4, 3) => ("description", it.text()),
        (3, 6) | (4, 5) => ("type", it.text()),
        (3, 20) | (4, 19) => ("uniqueItems", it.flag()),
        other => panic!("field {other:?} of a parameter"),
    })
}

fn definition(part: Part<'_>) -> Value {
    object(part, |number, it| match number {
        1 => ("$ref", it.text()),
        2 => ("format", it.text()),
        3 => ("title", it.text()),
        4 => ("description", it.text()),
        5 => ("default", it.any()),
        6 => ("multipleOf", it.number()),
        7 => ("maximum", it.number()),
        8 => ("exclusiveMaximum", it.flag()),
        9 => ("minimum", it.number()),
        10 => ("exclusiveMinimum", it.flag()),
        11 => ("maxLength", it.number()),
        12 => ("minLength", it.number()),
        14 => ("maxItems", it.number()),
        15 => ("minItems", it.number()),
        17 => ("maxProperties", it.number()),
        18 => ("minProperties", it.number()),
        13 => ("pattern", it.text()),
        19 => ("[required", it.text()),
        20 => ("[enum", it.any()),
        21 => (
            "additionalProperties",
            match it.only() {
                (1, it) => definition(it),
                (_, it) => it.flag(),
            },
        ),
        22 => ("type", it.only().1.text()),
        23 => ("items", definition(it.only().1)),
        24 => ("[allOf", definition(it)),
        25 => ("properties", it.names(definition)),
        29 => ("externalDocs", object(it, |_, it| ("url", it.text()))),
        30 => ("example", it.any()),
        31 => extension(it),
        other => panic!("field {other} of a definition"),
    })
}
