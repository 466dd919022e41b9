//! Values with their types: which fields a value has, how two differ, how one is laid over another.
//!
//! Upstream: sigs.k8s.io/structured-merge-diff/typed.

use std::sync::Arc;

use serde_json::{Map, Value};

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

    /// Whether there is a field of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Struct(object) => object.is_open || object.fields.contains_key(name),
            _ => true,
        }
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

    fn merges_fields(&self) -> bool {
        matches!(self, Self::Struct(_) | Self::Map(_) | Self::Deduced)
    }
}

/// Keys that upstream's types give a default (a port without a protocol is a TCP one).
fn key_default(key: &str) -> Option<Value> {
    (key == "protocol").then(|| "TCP".into())
}

/// The path element of an element of a keyed list.
fn key_of(item: &Value, keys: &[&str]) -> String {
    let pairs = keys.iter().filter_map(|key| {
        let value = item.get(*key).cloned().or_else(|| key_default(key))?;
        Some(((*key).to_owned(), value))
    });
    format!("k:{}", Value::Object(pairs.collect::<Map<_, _>>()))
}

fn field(name: &str) -> String {
    format!("f:{name}")
}

/// All fields that a value has.
pub(crate) fn fields_of(value: &Value, kind: &Kind) -> FieldSet {
    let mut set = FieldSet::default();
    match (kind, value) {
        (kind, Value::Object(entries)) if kind.merges_fields() && !entries.is_empty() => {
            for (name, inner) in entries {
                *set.at(&field(name)) = fields_of(inner, &kind.child(name));
            }
        }
        (Kind::Keyed(keys, _), Value::Array(items)) if !items.is_empty() => {
            for item in items {
                let mut inner = fields_of(item, &kind.child(""));
                inner.is_member = true;
                *set.at(&key_of(item, keys)) = inner;
            }
        }
        (Kind::Set, Value::Array(items)) if !items.is_empty() => {
            for item in items {
                *set.at(&format!("v:{item}")) = FieldSet::leaf();
            }
        }
        _ => set.is_member = true,
    }
    set
}

/// What changed between two values: fields that are new or different, and fields that are gone.
pub(crate) fn difference(old: &Value, new: &Value, kind: &Kind) -> (FieldSet, FieldSet) {
    let (before, after) = (fields_of(old, kind), fields_of(new, kind));
    let mut changed = after.without(&before);
    for path in after.within(&before).members() {
        if find(old, &path) != find(new, &path) && is_leaf(&after, &path) {
            let mut node = &mut changed;
            for element in &path {
                node = node.at(element);
            }
            node.is_member = true;
        }
    }
    (changed, before.without(&after))
}

/// Whether a member stands for its whole value, and not only for being there.
fn is_leaf(set: &FieldSet, path: &[String]) -> bool {
    let mut node = set;
    for element in path {
        match node.below.get(element) {
            Some(inner) => node = inner,
            None => return false,
        }
    }
    node.below.is_empty()
}

fn matches(item: &Value, element: &str) -> bool {
    match element.split_once(':') {
        Some(("k", keys)) => {
            let keys: Value = serde_json::from_str(keys).unwrap_or_default();
            keys.as_object().is_some_and(|keys| {
                keys.iter().all(|(key, value)| {
                    item.get(key).cloned().or_else(|| key_default(key)).as_ref() == Some(value)
                })
            })
        }
        Some(("v", value)) => serde_json::from_str::<Value>(value).is_ok_and(|it| it == *item),
        _ => false,
    }
}

/// The value at a path.
pub(crate) fn find<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    let mut found = value;
    for element in path {
        found = match element.strip_prefix("f:") {
            Some(name) => found.get(name)?,
            None => found.as_array()?.iter().find(|it| matches(it, element))?,
        };
    }
    Some(found)
}

/// Lays `applied` over `live`.
pub(crate) fn merge(live: &mut Value, applied: &Value, kind: &Kind) {
    match (kind, &mut *live, applied) {
        (kind, Value::Object(target), Value::Object(entries)) if kind.merges_fields() => {
            for (name, value) in entries {
                match target.get_mut(name) {
                    Some(current) => merge(current, value, &kind.child(name)),
                    None => drop(target.insert(name.clone(), value.clone())),
                }
            }
        }
        (Kind::Keyed(keys, _), Value::Array(target), Value::Array(items)) => {
            for item in items {
                let element = key_of(item, keys);
                match target.iter_mut().find(|it| matches(it, &element)) {
                    Some(current) => merge(current, item, &kind.child("")),
                    None => target.push(item.clone()),
                }
            }
            reorder(target, items, |it| key_of(it, keys));
        }
        (Kind::Set, Value::Array(target), Value::Array(items)) => {
            for item in items {
                if !target.contains(item) {
                    target.push(item.clone());
                }
            }
            reorder(target, items, ToString::to_string);
        }
        _ => *live = applied.clone(),
    }
}

/// Applied elements stand in the order in which they were applied, within the places they hold.
fn reorder(target: &mut [Value], applied: &[Value], name: impl Fn(&Value) -> String) {
    let order: Vec<String> = applied.iter().map(&name).collect();
    let places: Vec<usize> =
        (0..target.len()).filter(|at| order.contains(&name(&target[*at]))).collect();
    let mut wanted: Vec<Value> = places.iter().map(|at| target[*at].clone()).collect();
    wanted.sort_by_key(|it| order.iter().position(|other| *other == name(it)));
    for (at, value) in places.into_iter().zip(wanted) {
        target[at] = value;
    }
}

/// Takes the members of a set out of a value.
pub(crate) fn remove(value: &mut Value, set: &FieldSet) {
    for (element, inner) in &set.below {
        let goes = inner.is_member;
        match (element.strip_prefix("f:"), &mut *value) {
            (Some(name), Value::Object(fields)) => {
                if goes && inner.below.is_empty() {
                    fields.remove(name);
                } else if let Some(current) = fields.get_mut(name) {
                    remove(current, inner);
                    if is_hollow(current) {
                        fields.remove(name);
                    }
                }
            }
            (None, Value::Array(items)) => {
                if goes {
                    items.retain(|it| !matches(it, element));
                } else if let Some(current) = items.iter_mut().find(|it| matches(it, element)) {
                    remove(current, inner);
                }
            }
            _ => {}
        }
    }
}

/// What is left of a value of which everything was removed.
fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
