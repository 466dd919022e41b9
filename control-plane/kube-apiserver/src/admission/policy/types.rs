//! The types that policies' expressions build and read: `Object{…}` and `JSONPatch{…}` of mutations,
//! and the objects of a known kind, against which a policy is checked when it is written.
//!
//! Upstream: k8s.io/apiserver/pkg/cel/mutation and k8s.io/apiserver/pkg/cel/openapi.
//!
//! Deviation: `Object.spec{selector: Object.spec.wrong{}}` is refused when the policy is written;
//! upstream refuses the requests.

use std::sync::Arc;

use crate::{
    cel::{Fields, Record, Type},
    schema::{Object, Shape},
};

/// The type of `Object…{` or of `JSONPatch{`.
pub(super) fn of_struct(name: &str) -> Option<Type> {
    match name {
        "JSONPatch" => {
            let fields = [
                ("op", Type::String),
                ("path", Type::String),
                ("from", Type::String),
                ("value", Type::Dyn),
            ];
            Some(Record::of("JSONPatch", fields.map(|(name, of)| (name.to_owned(), of))))
        }
        "Object" => Some(object()),
        path if path.starts_with("Object.") => Some(Type::Object(Arc::new(Part(path.to_owned())))),
        _ => None,
    }
}

/// What an apply configuration is.
pub(super) fn object() -> Type {
    Type::Object(Arc::new(Part("Object".to_owned())))
}

/// What a JSON patch is.
pub(super) fn patches() -> Type {
    Type::list(of_struct("JSONPatch").unwrap_or(Type::Dyn))
}

/// `Object`, or a part of it by its path. It has any fields.
struct Part(String);

impl Fields for Part {
    fn name(&self) -> &str {
        &self.0
    }

    fn field(&self, _: &str) -> Option<Type> {
        Some(Type::Dyn)
    }

    /// A part stands where its path says.
    fn fits(&self, field: &str, found: &Type) -> Result<(), String> {
        let found = match found {
            Type::List(of) => of,
            other => other,
        };
        let expected = format!("{}.{field}", self.0);
        match found {
            Type::Object(it) if it.name().starts_with("Object") && it.name() != expected => {
                Err(format!(
                    "type mismatch: unexpected type name \"{}\", expected \"{expected}\", which \
                     matches field name path from root Object type",
                    it.name()
                ))
            }
            _ => Ok(()),
        }
    }
}

/// A built-in or a custom type.
struct Known(Arc<Object>);

impl Fields for Known {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn field(&self, name: &str) -> Option<Type> {
        match self.0.fields.get(name) {
            Some(field) => Some(of_shape(&field.shape)),
            None => self.0.is_open.then_some(Type::Dyn),
        }
    }
}

pub(super) fn of_schema(object: Arc<Object>) -> Type {
    Type::Object(Arc::new(Known(object)))
}

fn of_shape(shape: &Shape) -> Type {
    match shape {
        // A quantity is a text or a number.
        Shape::Any | Shape::AnyObject | Shape::IntOrString | Shape::Quantity => Type::Dyn,
        Shape::String => Type::String,
        Shape::Bytes => Type::Bytes,
        Shape::Time => Type::Timestamp,
        Shape::Integer(_) => Type::Int,
        Shape::Number => Type::Double,
        Shape::Boolean => Type::Bool,
        Shape::Named(_) | Shape::Inline(_) => shape.object().map_or(Type::Dyn, of_schema),
        Shape::List(of) => Type::list(of_shape(of)),
        Shape::Map(of) => Type::map(of_shape(of)),
    }
}
