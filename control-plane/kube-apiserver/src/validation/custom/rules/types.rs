//! Schemas as types of CEL, and values as values of those types.
//!
//! Names of fields are escaped where CEL could not write them (`a-b` is `a__dash__b`); keys of maps
//! are not. What the schema does not describe is not to be seen.
//!
//! Upstream: `SchemaDeclType` and `UnstructuredToVal` of k8s.io/apiserver/pkg/cel/common.

use std::{borrow::Cow, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::super::formats;
use crate::{
    cel::{self, Keys, Lists, Record, Type},
    schema::structural::{ListKind, Node},
};

const RESERVED: [&str; 18] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
];

/// The name of a field in expressions; `None`: it has none.
pub(super) fn escaped(name: &str) -> Option<Cow<'_, str>> {
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__").into());
    }
    let is_letter = |it: char| it.is_ascii_alphabetic() || "_.-/".contains(it);
    let fits =
        name.starts_with(is_letter) && name.chars().all(|it| is_letter(it) || it.is_ascii_digit());
    if !fits {
        return None;
    }
    if !name.contains(['.', '-', '/']) && !name.contains("__") {
        return Some(name.into());
    }
    let name = name.replace("__", "__underscores__").replace('.', "__dot__");
    Some(name.replace('-', "__dash__").replace('/', "__slash__").into())
}

/// The type of a place; `None`: the schema does not say enough.
pub(super) fn type_of(node: &Node, is_resource: bool) -> Option<Type> {
    if node.is_int_or_string {
        return Some(Type::Dyn);
    }
    Some(match (node.kind.as_str(), node.format.as_str()) {
        ("array", _) => {
            let items = node.items.as_deref()?;
            Type::list(type_of(items, items.is_embedded)?)
        }
        ("object", _) => match node.other() {
            Some(other) => Type::map(type_of(other, other.is_embedded)?),
            None => object_type(node, is_resource),
        },
        ("string", "byte") => Type::Bytes,
        ("string", "duration") => Type::Duration,
        ("string", "date" | "date-time") => Type::Timestamp,
        ("string", _) => Type::String,
        ("boolean", _) => Type::Bool,
        ("number", _) => Type::Double,
        ("integer", _) => Type::Int,
        _ => return None,
    })
}

fn object_type(node: &Node, is_resource: bool) -> Type {
    let own = node.fields.iter().filter_map(|(name, place)| {
        Some((escaped(name)?.into_owned(), type_of(place, place.is_embedded)?))
    });
    let mut fields: Vec<(String, Type)> = own.collect();
    if is_resource {
        let names = ["name", "generateName"].map(|it| (it.to_owned(), Type::String));
        fields.retain(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata"));
        fields.push(("apiVersion".to_owned(), Type::String));
        fields.push(("kind".to_owned(), Type::String));
        fields.push(("metadata".to_owned(), Record::of("object", names)));
    }
    Record::of("object", fields)
}

/// A value as its place has it; lists that are no plain ones are remembered in `lists`.
pub(super) fn cel_value(
    node: &Node,
    is_resource: bool,
    value: &Value,
    lists: &mut Lists,
) -> cel::Value {
    match value {
        Value::Array(items) => {
            let Some(place) = node.items.as_deref() else { return cel::Value::Null };
            let items = items.iter().map(|it| cel_value(place, place.is_embedded, it, lists));
            let all = Arc::new(items.collect());
            match &node.list {
                ListKind::Atomic => {}
                ListKind::Set => lists.add(&all, Keys::Set),
                ListKind::Map(keys) => {
                    let keys =
                        keys.iter().filter_map(|it| escaped(it)).map(Cow::into_owned).collect();
                    lists.add(&all, Keys::Map(Arc::new(keys)));
                }
            }
            cel::Value::List(all)
        }
        Value::Object(fields) => {
            let known = fields.iter().filter_map(|(name, value)| {
                if is_resource && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                    return Some((name.clone(), of_resource(value)));
                }
                if let Some(place) = node.fields.get(name) {
                    return Some((
                        escaped(name)?.into_owned(),
                        cel_value(place, place.is_embedded, value, lists),
                    ));
                }
                let place = node.other()?;
                Some((name.clone(), cel_value(place, place.is_embedded, value, lists)))
            });
            cel::value::map(known)
        }
        Value::String(text) => string(node, text),
        Value::Number(number) if node.kind == "number" => {
            cel::Value::Float(number.as_f64().unwrap_or_default())
        }
        Value::Number(number) if node.kind == "integer" && number.is_f64() => {
            // Its fraction is zero: it was checked against the type.
            #[expect(clippy::cast_possible_truncation, reason = "a whole number of the schema")]
            cel::Value::Int(number.as_f64().unwrap_or_default() as i64)
        }
        other => cel::value::from_json(other),
    }
}

/// What rules see of an object's own fields.
fn of_resource(value: &Value) -> cel::Value {
    let Some(fields) = value.as_object() else { return cel::value::from_json(value) };
    let names = fields.iter().filter(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
    cel::value::map(names.map(|(name, it)| (name.clone(), cel::value::from_json(it))))
}

fn string(node: &Node, text: &str) -> cel::Value {
    let plain = || cel::Value::from(text);
    if node.is_int_or_string {
        return plain();
    }
    let read = |name: &str, text: String| cel::value::read(name, &text).unwrap_or_else(|_| plain());
    match node.format.as_str() {
        "date" => read("timestamp", format!("{text}T00:00:00Z")),
        "date-time" => read("timestamp", text.to_uppercase()),
        "duration" => match formats::go_duration(text) {
            Some(nanos) => read("duration", format!("{nanos}ns")),
            None => plain(),
        },
        "byte" => match BASE64_STANDARD.decode(text) {
            Ok(bytes) => cel::Value::Bytes(Arc::new(bytes)),
            Err(_) => plain(),
        },
        _ => plain(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cel_cannot_write_are_escaped() {
        for (name, wanted) in [
            ("plain_name", Some("plain_name")),
            ("a-b", Some("a__dash__b")),
            ("a.b/c", Some("a__dot__b__slash__c")),
            ("a__b", Some("a__underscores__b")),
            ("namespace", Some("__namespace__")),
            ("int", Some("int")),
            ("1a", None),
            ("a b", None),
        ] {
            assert_eq!(escaped(name).as_deref(), wanted, "{name}");
        }
    }
}
