//! The built-in types' structure: what fields there are, of which type, and how lists merge.
//!
//! The schemas come from k8s-openapi (see `examples/generate-openapi.rs`), which says nothing about
//! merging; [`merge_keys`] adds that. Strategic merge patch, server-side apply, strict decoding
//! and the OpenAPI documents are all driven by this one structure.
//!
//! **Invariant:** a name that [`find`] knows stays valid for the life of the process.

pub(crate) mod check;
pub(crate) mod custom;
mod empty;
pub(crate) mod merge_keys;
pub(crate) mod structural;

use std::{
    collections::{BTreeMap, HashMap},
    io::Read,
    sync::{Arc, LazyLock},
};

use flate2::read::GzDecoder;
use serde_json::Value;

pub(crate) use self::merge_keys::{ListType, Merge};

/// The type of every object's `metadata`.
pub(crate) const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The type of a field or of an element.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// Whatever it is, it is kept.
    Any,
    /// Any object, kept as it is.
    AnyObject,
    String,
    /// Base64 in a string.
    Bytes,
    Time,
    /// With the Go type's name.
    Integer(&'static str),
    Number,
    Boolean,
    IntOrString,
    Quantity,
    /// A named built-in type.
    Named(Arc<str>),
    /// An unnamed type of a custom resource.
    Inline(Arc<Object>),
    List(Box<Shape>),
    Map(Box<Shape>),
}

/// An object type.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    /// `Deployment`: the last part of the schema's name.
    pub(crate) name: String,
    pub(crate) fields: BTreeMap<String, Field>,
    /// Fields that are not listed are kept.
    pub(crate) is_open: bool,
    /// Applied and owned as a whole (`x-kubernetes-map-type: atomic`).
    pub(crate) is_atomic: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) shape: Shape,
    pub(crate) merge: Merge,
    /// Upstream's struct has it even where nothing is in it: it is no pointer, and not left out when it
    /// is empty. Nobody adds or removes such a field, but only what is in it.
    pub(crate) is_always_there: bool,
    /// Nothing in it is as good as no such field.
    pub(crate) is_left_out_empty: bool,
    /// What an element of a list has in its key where it does not say it.
    pub(crate) default: Option<Box<Value>>,
}

/// The file that `examples/generate-openapi.rs` writes.
const PACKED: &[u8] = include_bytes!("../schemas/kubernetes.json.gz");

/// What the packed file does not have, by hand: kinds and schemas as in the packed file.
pub(crate) const ADDED: &str = include_str!("../schemas/added.json");

/// The document of [`ADDED`].
pub(crate) fn added() -> Value {
    serde_json::from_str(ADDED).expect("the schemas are part of the binary")
}

/// The whole generated file, with descriptions. Not kept: it is large and seldom asked for.
pub(crate) fn document() -> Value {
    let mut text = Vec::new();
    GzDecoder::new(PACKED)
        .read_to_end(&mut text)
        .expect("the packed schemas are part of the binary");
    let mut document: Value =
        serde_json::from_slice(&text).expect("the packed schemas are part of the binary");
    let mut added = added();
    for part in ["kinds", "schemas"] {
        let all = added[part].as_object_mut().map(std::mem::take).unwrap_or_default();
        document[part].as_object_mut().into_iter().for_each(|it| it.extend(all.clone()));
    }
    document
}

type Types = HashMap<String, Arc<Object>>;

static LOADED: LazyLock<Types> = LazyLock::new(|| {
    let document = document();
    let schemas = document["schemas"].as_object().expect("the generator writes an object");
    let objects = schemas.iter().filter(|(_, schema)| schema["properties"].is_object());
    objects.map(|(name, schema)| (name.clone(), Arc::new(object(name, schema)))).collect()
});

/// The object type of that schema name.
pub(crate) fn find(name: &str) -> Option<Arc<Object>> {
    LOADED.get(name).cloned()
}

impl Shape {
    /// The object type behind this shape, if it is one with known fields.
    pub(crate) fn object(&self) -> Option<Arc<Object>> {
        match self {
            Self::Named(name) => find(name),
            Self::Inline(object) => Some(object.clone()),
            _ => None,
        }
    }
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn object(name: &str, schema: &Value) -> Object {
    let type_name = short(name);
    let properties =
        schema["properties"].as_object().expect("only objects with properties come here");
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    let fields = properties.iter().map(|(field, schema)| {
        let shape = shape(schema);
        let is_left_out_empty =
            !required.iter().any(|it| it == field) && empty::is_left_out(type_name, field, &shape);
        let merge = merge_keys::find(type_name, field);
        let is_always_there = merge_keys::is_always_there(type_name, field);
        let default = merge_keys::key_default(type_name, field);
        (field.clone(), Field { shape, merge, is_always_there, is_left_out_empty, default })
    });
    Object {
        name: type_name.into(),
        fields: fields.collect(),
        is_open: false,
        is_atomic: merge_keys::ATOMIC_OBJECTS.contains(&type_name),
    }
}

const REFERENCE: &str = "#/components/schemas/";

fn shape(schema: &Value) -> Shape {
    if let Some(target) = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str()) {
        return referenced(target.trim_start_matches(REFERENCE));
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("string"), Some("byte")) => Shape::Bytes,
        (Some("string"), Some("date-time")) => Shape::Time,
        (Some("string"), _) => Shape::String,
        (Some("integer"), Some("int32")) => Shape::Integer("int32"),
        (Some("integer"), _) => Shape::Integer("int64"),
        (Some("number"), _) => Shape::Number,
        (Some("boolean"), _) => Shape::Boolean,
        (Some("array"), _) => Shape::List(Box::new(shape(&schema["items"]))),
        (Some("object"), _) if schema["additionalProperties"].is_object() => {
            Shape::Map(Box::new(shape(&schema["additionalProperties"])))
        }
        (Some("object"), _) => Shape::AnyObject,
        _ if schema["x-kubernetes-int-or-string"] == true => Shape::IntOrString,
        _ => Shape::Any,
    }
}

/// Named types that are not objects with fields are resolved here, by what upstream makes of them.
fn referenced(name: &str) -> Shape {
    match short(name) {
        "IntOrString" => Shape::IntOrString,
        "Quantity" => Shape::Quantity,
        "Time" | "MicroTime" => Shape::Time,
        "FieldsV1" | "RawExtension" | "CustomResourceSubresourceStatus" => Shape::AnyObject,
        "JSON"
        | "JSONSchemaPropsOrBool"
        | "JSONSchemaPropsOrArray"
        | "JSONSchemaPropsOrStringArray" => Shape::Any,
        _ => Shape::Named(name.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_to_a_type() {
        fn check(shape: &Shape, at: &str) {
            match shape {
                Shape::Named(name) => assert!(find(name).is_some(), "{name} at {at}"),
                Shape::List(inner) | Shape::Map(inner) => check(inner, at),
                _ => {}
            }
        }
        for (name, object) in LOADED.iter() {
            for (field, it) in &object.fields {
                check(&it.shape, &format!("{name}.{field}"));
            }
        }
    }

    #[test]
    fn every_merge_key_names_a_field_that_exists() {
        for row in merge_keys::ROWS {
            let found = LOADED
                .values()
                .any(|object| object.name == row.object && object.fields.contains_key(row.field));
            assert!(found, "{}.{}", row.object, row.field);
        }
    }
}
