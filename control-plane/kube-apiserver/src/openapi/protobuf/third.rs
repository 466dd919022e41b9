//! The messages of `openapi.v3`.
//!
//! What no document of ours or of a CustomResourceDefinition can hold is not here: servers, links,
//! callbacks, examples, security.

use serde_json::Value;

use super::{
    Kind::{self, Any, Anys, Choice, Flag, Integer, Number, Text},
    Message, message_of, names,
};

pub(super) static DOCUMENT: Message = message_of(
    &[
        ("openapi", 1, Text),
        ("info", 2, Kind::Message(&INFO)),
        ("paths", 4, Kind::Message(&PATHS)),
        ("components", 5, Kind::Message(&COMPONENTS)),
        ("externalDocs", 8, Kind::Message(&EXTERNAL_DOCS)),
    ],
    Some(9),
);

static INFO: Message = message_of(
    &[("title", 1, Text), ("description", 2, Text), ("version", 6, Text), ("summary", 8, Text)],
    Some(7),
);

static PATHS: Message =
    Message { members: &[], others: Some((1, Kind::Message(&PATH))), extensions: Some(2) };

static PATH: Message = message_of(
    &[
        ("$ref", 1, Text),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("get", 4, Kind::Message(&OPERATION)),
        ("put", 5, Kind::Message(&OPERATION)),
        ("post", 6, Kind::Message(&OPERATION)),
        ("delete", 7, Kind::Message(&OPERATION)),
        ("options", 8, Kind::Message(&OPERATION)),
        ("head", 9, Kind::Message(&OPERATION)),
        ("patch", 10, Kind::Message(&OPERATION)),
        ("trace", 11, Kind::Message(&OPERATION)),
        ("parameters", 13, Choice(parameter)),
    ],
    Some(14),
);

static OPERATION: Message = message_of(
    &[
        ("tags", 1, Text),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("externalDocs", 4, Kind::Message(&EXTERNAL_DOCS)),
        ("operationId", 5, Text),
        ("parameters", 6, Choice(parameter)),
        ("requestBody", 7, Choice(request_body)),
        ("responses", 8, Kind::Message(&RESPONSES)),
        ("deprecated", 10, Flag),
    ],
    Some(13),
);

static PARAMETER: Message = message_of(
    &[
        ("name", 1, Text),
        ("in", 2, Text),
        ("description", 3, Text),
        ("required", 4, Flag),
        ("deprecated", 5, Flag),
        ("allowEmptyValue", 6, Flag),
        ("style", 7, Text),
        ("explode", 8, Flag),
        ("allowReserved", 9, Flag),
        ("schema", 10, SCHEMA),
        ("example", 11, Any),
        ("content", 13, Kind::Message(&MEDIA_TYPES)),
    ],
    Some(14),
);

static REQUEST_BODY: Message = message_of(
    &[("description", 1, Text), ("content", 2, Kind::Message(&MEDIA_TYPES)), ("required", 3, Flag)],
    Some(4),
);

static RESPONSES: Message = Message {
    members: &[("default", 1, Choice(response))],
    others: Some((2, Choice(response))),
    extensions: Some(3),
};

static RESPONSE: Message =
    message_of(&[("description", 1, Text), ("content", 3, Kind::Message(&MEDIA_TYPES))], Some(5));

static MEDIA_TYPES: Message = names(Kind::Message(&MEDIA_TYPE));

static MEDIA_TYPE: Message = message_of(&[("schema", 1, SCHEMA), ("example", 2, Any)], Some(5));

static COMPONENTS: Message = message_of(&[("schemas", 1, Kind::Message(&PROPERTIES))], Some(10));

static PROPERTIES: Message = names(SCHEMA);

static SCHEMA_MESSAGE: Message = message_of(
    &[
        ("nullable", 1, Flag),
        ("readOnly", 3, Flag),
        ("writeOnly", 4, Flag),
        ("externalDocs", 6, Kind::Message(&EXTERNAL_DOCS)),
        ("example", 7, Any),
        ("deprecated", 8, Flag),
        ("title", 9, Text),
        ("multipleOf", 10, Number),
        ("maximum", 11, Number),
        ("exclusiveMaximum", 12, Flag),
        ("minimum", 13, Number),
        ("exclusiveMinimum", 14, Flag),
        ("maxLength", 15, Integer),
        ("minLength", 16, Integer),
        ("pattern", 17, Text),
        ("maxItems", 18, Integer),
        ("minItems", 19, Integer),
        ("uniqueItems", 20, Flag),
        ("maxProperties", 21, Integer),
        ("minProperties", 22, Integer),
        ("required", 23, Text),
        ("enum", 24, Anys),
        ("type", 25, Text),
        ("allOf", 26, SCHEMA),
        ("oneOf", 27, SCHEMA),
        ("anyOf", 28, SCHEMA),
        ("not", 29, Kind::Message(&SCHEMA_MESSAGE)),
        ("items", 30, Choice(|_| Some((1, SCHEMA)))),
        ("properties", 31, Kind::Message(&PROPERTIES)),
        ("additionalProperties", 32, Choice(additional)),
        ("default", 33, DEFAULT),
        ("description", 34, Text),
        ("format", 35, Text),
    ],
    Some(36),
);

static REFERENCE: Message =
    message_of(&[("$ref", 1, Text), ("summary", 2, Text), ("description", 3, Text)], None);

static EXTERNAL_DOCS: Message = message_of(&[("description", 1, Text), ("url", 2, Text)], Some(3));

const SCHEMA: Kind = Choice(|it| or_reference(it, &SCHEMA_MESSAGE));

/// Of lists and objects the message says only that there is a default.
const DEFAULT: Kind = Kind::Whole(|it| match it {
    Value::Number(_) => Some((1, Number)),
    Value::Bool(_) => Some((2, Flag)),
    Value::String(_) => Some((3, Text)),
    _ => None,
});

fn or_reference(value: &Value, message: &'static Message) -> Option<(u64, Kind)> {
    let is_reference = value["$ref"].is_string();
    Some(if is_reference { (2, Kind::Message(&REFERENCE)) } else { (1, Kind::Message(message)) })
}

fn parameter(value: &Value) -> Option<(u64, Kind)> {
    or_reference(value, &PARAMETER)
}

fn request_body(value: &Value) -> Option<(u64, Kind)> {
    or_reference(value, &REQUEST_BODY)
}

fn response(value: &Value) -> Option<(u64, Kind)> {
    or_reference(value, &RESPONSE)
}

fn additional(value: &Value) -> Option<(u64, Kind)> {
    Some(if value.is_boolean() { (2, Flag) } else { (1, SCHEMA) })
}
