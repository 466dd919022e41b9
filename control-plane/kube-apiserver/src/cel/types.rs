//! The types of CEL's values, as far as an expression is checked before it runs.
//!
//! `Dyn` is what is known only then: it fits everywhere. Objects give their fields one by one, since
//! built-in types may contain themselves.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// An object's fields.
pub(crate) trait Fields: Send + Sync {
    fn name(&self) -> &str;

    /// `None`: there is no such field.
    fn field(&self, name: &str) -> Option<Type>;

    /// Whether a structure may have such a value in a field that it has.
    fn fits(&self, field: &str, found: &Type) -> Result<(), String> {
        match self.field(field) {
            Some(wanted) if !found.may_be(&wanted) => Err(format!(
                "expected type of field '{field}' is '{wanted}' but provided type is '{found}'"
            )),
            _ => Ok(()),
        }
    }
}

#[derive(Clone)]
pub(crate) enum Type {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    /// The type of types.
    Meta,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Optional(Box<Type>),
    Object(Arc<dyn Fields>),
    /// One of a library, which only its functions can read: `kubernetes.Quantity`.
    Named(&'static str),
    /// Of a function's declaration: the same in all its places.
    Any(u8),
}

/// A type with a list of fields.
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) fields: BTreeMap<String, Type>,
}

impl Fields for Record {
    fn name(&self) -> &str {
        &self.name
    }

    fn field(&self, name: &str) -> Option<Type> {
        self.fields.get(name).cloned()
    }
}

impl Record {
    pub(crate) fn of(name: &str, fields: impl IntoIterator<Item = (String, Type)>) -> Type {
        let fields = fields.into_iter().collect();
        Type::Object(Arc::new(Self { name: name.to_owned(), fields }))
    }
}

impl Type {
    pub(crate) fn list(of: Self) -> Self {
        Self::List(Box::new(of))
    }

    pub(crate) fn map(of: Self) -> Self {
        Self::Map(Box::new(Self::String), Box::new(of))
    }

    /// Whether a value of this type can be one of `other`.
    pub(crate) fn may_be(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (Self::List(a), Self::List(b)) | (Self::Optional(a), Self::Optional(b)) => a.may_be(b),
            (Self::Map(a, b), Self::Map(c, d)) => a.may_be(c) && b.may_be(d),
            (Self::Object(a), Self::Object(b)) => a.name() == b.name(),
            (Self::Named(a), Self::Named(b)) => a == b,
            // Absent messages are null.
            (Self::Null, it) | (it, Self::Null) => {
                matches!(it, Self::Null | Self::Object(_) | Self::Named(_) | Self::Timestamp)
                    || matches!(it, Self::Duration)
            }
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }

    /// What can be both.
    pub(super) fn join(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Null, it) => it.clone(),
            (it, Self::Null) => it,
            (Self::Dyn, _) | (_, Self::Dyn) => Self::Dyn,
            (Self::List(a), Self::List(b)) => Self::list(a.join(b)),
            (Self::Optional(a), Self::Optional(b)) => Self::Optional(Box::new(a.join(b))),
            (Self::Map(a, b), Self::Map(c, d)) => {
                Self::Map(Box::new(a.join(c)), Box::new(b.join(d)))
            }
            (it, _) => it,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Dyn => "dyn",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "google.protobuf.Duration",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::Meta => "type",
            Self::List(of) => return write!(f, "list({of})"),
            Self::Map(key, of) => return write!(f, "map({key}, {of})"),
            Self::Optional(of) => return write!(f, "optional_type({of})"),
            Self::Object(it) => it.name(),
            Self::Named(name) => name,
            Self::Any(number) => return write!(f, "<{}>", char::from(b'A' + number)),
        };
        f.write_str(name)
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
