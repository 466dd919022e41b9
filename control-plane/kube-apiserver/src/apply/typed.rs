//! Values with their types: which fields a value has, how two differ, how one is laid over another.
//!
//! Upstream: sigs.k8s.io/structured-merge-diff/typed.

mod added;
mod check;
mod compare;
mod merge;
mod remove;

use std::sync::Arc;

use serde_json::{Map, Value};

pub(crate) use self::{
    added::added,
    check::check,
    compare::{Change, difference},
    merge::merge,
    remove::{ensured, remove},
};
use super::field_set::FieldSet;
use crate::schema::{ListType, Merge, Object, Shape};

/// What a value is to merging.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Owned and replaced as a whole.
    Atomic,
    Struct(Arc<Object>),
    Map(Shape),
    /// Elements told apart by these fields.
    Keyed(&'static [&'static str], Shape),
    Set,
    /// No type is known: objects merge field by field, everything else is atomic.
    Deduced,
}

impl Kind {
    pub(crate) fn root(object: Option<Arc<Object>>) -> Self {
        object.map_or(Self::Deduced, Self::Struct)
    }

    fn of(shape: &Shape, merge: Merge) -> Self {
        match shape {
            Shape::List(inner) => match merge.list {
                ListType::Atomic => Self::Atomic,
                ListType::Set => Self::Set,
                ListType::Map(keys) => Self::Keyed(keys, (**inner).clone()),
            },
            Shape::Map(_) if merge.is_atomic_map => Self::Atomic,
            Shape::Map(inner) => Self::Map((**inner).clone()),
            Shape::Named(_) | Shape::Inline(_) => match shape.object() {
                Some(object) if object.is_atomic || merge.is_atomic_map => Self::Atomic,
                Some(object) => Self::Struct(object),
                None => Self::Atomic,
            },
            Shape::Any => Self::Deduced,
            _ => Self::Atomic,
        }
    }

    /// Whether it is a struct with a field of that name.
    fn names(&self, name: &str) -> bool {
        matches!(self, Self::Struct(object) if object.fields.contains_key(name))
    }

    /// Whether no value of it has a field of that name.
    pub(crate) fn lacks(&self, name: &str) -> bool {
        matches!(self, Self::Struct(object)
            if !object.is_open && !object.fields.contains_key(name))
    }

    /// Whether a struct has that field even where nothing is in it, see [`crate::schema::Field`].
    fn always_has(&self, name: &str) -> bool {
        let Self::Struct(object) = self else { return false };
        object.fields.get(name).is_some_and(|it| it.is_always_there)
    }

    /// The kind of a field or entry.
    pub(crate) fn child(&self, name: &str) -> Self {
        match self {
            Self::Struct(object) => match object.fields.get(name) {
                Some(field) => Self::of(&field.shape, field.merge),
                None => Self::Deduced,
            },
            Self::Map(inner) | Self::Keyed(_, inner) => Self::of(inner, Merge::default()),
            Self::Deduced => Self::Deduced,
            _ => Self::Atomic,
        }
    }

    /// The type of a field or entry, where one is known.
    fn shape(&self, name: &str) -> Option<&Shape> {
        match self {
            Self::Struct(object) => object.fields.get(name).map(|it| &it.shape),
            Self::Map(inner) | Self::Keyed(_, inner) => Some(inner),
            _ => None,
        }
    }

    fn merges_fields(&self) -> bool {
        matches!(self, Self::Struct(_) | Self::Map(_) | Self::Deduced)
    }
}

/// What an element has under one of the list's keys: its own value, or the default of its type.
fn key_value(item: &Value, key: &str, kind: &Kind) -> Option<Value> {
    let own = item.get(key).filter(|it| !it.is_null());
    own.cloned().or_else(|| {
        let Kind::Keyed(_, inner) = kind else { return None };
        inner.object()?.fields.get(key)?.default.as_deref().cloned()
    })
}

/// The path element of an element of a list of this kind.
fn key_of(item: &Value, kind: &Kind) -> String {
    let Kind::Keyed(keys, _) = kind else { return format!("v:{item}") };
    let pairs = keys.iter().filter_map(|key| {
        let value = key_value(item, key, kind)?;
        Some(((*key).to_owned(), value))
    });
    format!("k:{}", Value::Object(pairs.collect::<Map<_, _>>()))
}

fn field(name: &str) -> String {
    format!("f:{name}")
}

/// All fields that a value has, as whoever applies it owns them: leaves, elements of lists, entries of
/// maps.
///
/// Upstream: `ToFieldSet`.
pub(crate) fn fields_of(value: &Value, kind: &Kind) -> FieldSet {
    let mut set = FieldSet::default();
    match (kind, value) {
        (kind, Value::Object(entries)) if kind.merges_fields() => {
            for (name, inner) in entries {
                let mut below = fields_of(inner, &kind.child(name));
                let is_void = inner.is_null() || inner.as_object().is_some_and(Map::is_empty);
                below.is_member |= is_void || !kind.names(name);
                if !below.is_empty() {
                    *set.at(&field(name)) = below;
                }
            }
        }
        (Kind::Keyed(..), Value::Array(items)) => {
            for item in items {
                element(&mut set, key_of(item, kind), || fields_of(item, &kind.child("")));
            }
        }
        (Kind::Set, Value::Array(items)) => {
            for item in items {
                element(&mut set, format!("v:{item}"), FieldSet::default);
            }
        }
        (Kind::Keyed(..) | Kind::Set, _) => {}
        (kind, Value::Null) if kind.merges_fields() => {}
        _ => set.is_member = true,
    }
    set
}

/// Adds an element of a list. One that is there twice is owned as a whole.
fn element(set: &mut FieldSet, name: String, fields: impl FnOnce() -> FieldSet) {
    let found = match set.below.get(&name) {
        Some(_) => FieldSet::leaf(),
        None => FieldSet { is_member: true, ..fields() },
    };
    set.below.insert(name, found);
}

/// Whether it is that element of a list of this kind.
fn matches(item: &Value, element: &str, kind: &Kind) -> bool {
    match element.split_once(':') {
        Some(("k", keys)) => {
            let keys: Value = serde_json::from_str(keys).unwrap_or_default();
            keys.as_object().is_some_and(|keys| {
                keys.iter().all(|(key, value)| key_value(item, key, kind).as_ref() == Some(value))
            })
        }
        Some(("v", value)) => serde_json::from_str::<Value>(value).is_ok_and(|it| it == *item),
        _ => false,
    }
}
