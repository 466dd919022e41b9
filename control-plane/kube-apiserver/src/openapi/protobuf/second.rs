//! The messages of `openapi.v2`.
//!
//! What no server of Kubernetes' kind tells of is not here: headers, examples, limits of parameters.

use serde_json::Value;

use super::{
    Kind::{self, Any, Anys, Choice, Flag, Integer, Number, Text},
    Message, message_of, names,
};

pub(super) static DOCUMENT: Message = message_of(
    &[
        ("swagger", 1, Text),
        ("info", 2, Kind::Message(&INFO)),
        ("host", 3, Text),
        ("basePath", 4, Text),
        ("schemes", 5, Text),
        ("consumes", 6, Text),
        ("produces", 7, Text),
        ("paths", 8, Kind::Message(&PATHS)),
        ("definitions", 9, Kind::Message(&SCHEMAS)),
        ("parameters", 10, Kind::Message(&PARAMETERS)),
        ("externalDocs", 15, Kind::Message(&EXTERNAL_DOCS)),
    ],
    Some(16),
);

static INFO: Message =
    message_of(&[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)], Some(7));

static PATHS: Message =
    Message { members: &[], others: Some((2, Kind::Message(&PATH))), extensions: Some(1) };

static PATH: Message = message_of(
    &[
        ("$ref", 1, Text),
        ("get", 2, Kind::Message(&OPERATION)),
        ("put", 3, Kind::Message(&OPERATION)),
        ("post", 4, Kind::Message(&OPERATION)),
        ("delete", 5, Kind::Message(&OPERATION)),
        ("options", 6, Kind::Message(&OPERATION)),
        ("head", 7, Kind::Message(&OPERATION)),
        ("patch", 8, Kind::Message(&OPERATION)),
        ("parameters", 9, Choice(parameter_or_reference)),
    ],
    Some(10),
);

static OPERATION: Message = message_of(
    &[
        ("tags", 1, Text),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("externalDocs", 4, Kind::Message(&EXTERNAL_DOCS)),
        ("operationId", 5, Text),
        ("produces", 6, Text),
        ("consumes", 7, Text),
        ("parameters", 8, Choice(parameter_or_reference)),
        ("responses", 9, Kind::Message(&RESPONSES)),
        ("schemes", 10, Text),
        ("deprecated", 11, Flag),
    ],
    Some(13),
);

static PARAMETERS: Message = names(Choice(parameter));

static RESPONSES: Message = Message {
    members: &[],
    others: Some((1, Choice(|it| Some(or_reference(it).unwrap_or((1, Kind::Message(&RESPONSE))))))),
    extensions: Some(2),
};

static RESPONSE: Message = message_of(
    &[("description", 1, Text), ("schema", 2, Choice(|_| Some((1, Kind::Message(&SCHEMA)))))],
    Some(5),
);

static REFERENCE: Message = message_of(&[("$ref", 1, Text), ("description", 2, Text)], None);

static BODY: Message = message_of(
    &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Flag),
        ("schema", 5, Kind::Message(&SCHEMA)),
    ],
    Some(6),
);

/// A parameter in a header or in the path.
static IN_PLACE: Message = message_of(
    &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("items", 7, Kind::Message(&ITEMS)),
        ("collectionFormat", 8, Text),
        ("default", 9, Any),
        ("pattern", 16, Text),
        ("uniqueItems", 19, Flag),
        ("enum", 20, Anys),
    ],
    Some(22),
);

/// A parameter in the query or in a form.
static IN_QUERY: Message = message_of(
    &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("allowEmptyValue", 5, Flag),
        ("type", 6, Text),
        ("format", 7, Text),
        ("items", 8, Kind::Message(&ITEMS)),
        ("collectionFormat", 9, Text),
        ("default", 10, Any),
        ("pattern", 17, Text),
        ("uniqueItems", 20, Flag),
        ("enum", 21, Anys),
    ],
    Some(23),
);

static ITEMS: Message = message_of(&[("type", 1, Text), ("format", 2, Text)], Some(18));

static SCHEMAS: Message = names(Kind::Message(&SCHEMA));

static SCHEMA: Message = message_of(
    &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Number),
        ("maximum", 7, Number),
        ("exclusiveMaximum", 8, Flag),
        ("minimum", 9, Number),
        ("exclusiveMinimum", 10, Flag),
        ("maxLength", 11, Integer),
        ("minLength", 12, Integer),
        ("pattern", 13, Text),
        ("maxItems", 14, Integer),
        ("minItems", 15, Integer),
        ("uniqueItems", 16, Flag),
        ("maxProperties", 17, Integer),
        ("minProperties", 18, Integer),
        ("required", 19, Text),
        ("enum", 20, Anys),
        ("additionalProperties", 21, Choice(additional)),
        ("type", 22, Choice(|_| Some((1, Text)))),
        ("items", 23, Choice(|_| Some((1, Kind::Message(&SCHEMA))))),
        ("allOf", 24, Kind::Message(&SCHEMA)),
        ("properties", 25, Kind::Message(&SCHEMAS)),
        ("discriminator", 26, Text),
        ("readOnly", 27, Flag),
        ("externalDocs", 29, Kind::Message(&EXTERNAL_DOCS)),
        ("example", 30, Any),
    ],
    Some(31),
);

static EXTERNAL_DOCS: Message = message_of(&[("description", 1, Text), ("url", 2, Text)], Some(3));

fn or_reference(value: &Value) -> Option<(u64, Kind)> {
    value["$ref"].is_string().then_some((2, Kind::Message(&REFERENCE)))
}

fn parameter_or_reference(value: &Value) -> Option<(u64, Kind)> {
    or_reference(value).or(Some((1, Choice(parameter))))
}

fn parameter(value: &Value) -> Option<(u64, Kind)> {
    Some(if value["in"] == "body" { (1, Kind::Message(&BODY)) } else { (2, Choice(elsewhere)) })
}

fn elsewhere(value: &Value) -> Option<(u64, Kind)> {
    Some(match value["in"].as_str()? {
        "header" => (1, Kind::Message(&IN_PLACE)),
        "formData" => (2, Kind::Message(&IN_QUERY)),
        "query" => (3, Kind::Message(&IN_QUERY)),
        "path" => (4, Kind::Message(&IN_PLACE)),
        _ => return None,
    })
}

fn additional(value: &Value) -> Option<(u64, Kind)> {
    Some(if value.is_boolean() { (2, Flag) } else { (1, Kind::Message(&SCHEMA)) })
}
