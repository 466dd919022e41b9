//! What changed between two values, field by field.
//!
//! Upstream: `TypedValue.Compare` of sigs.k8s.io/structured-merge-diff.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{FieldSet, Kind, field, key_of};

/// What changed: what is new or different, and what is gone.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Change {
    pub(crate) set: FieldSet,
    pub(crate) removed: FieldSet,
}

impl Change {
    fn add(&mut self, element: String, inner: Self) {
        if !inner.set.is_empty() {
            self.set.below.insert(element.clone(), inner.set);
        }
        if !inner.removed.is_empty() {
            self.removed.below.insert(element, inner.removed);
        }
    }
}

/// From `old` to `new`. A leaf is a scalar, or what is owned as a whole; what is above a leaf is
/// named too if it was not there before, or is there no more.
pub(crate) fn difference(old: &Value, new: &Value, kind: &Kind) -> Change {
    between(Some(old), Some(new), kind)
}

fn between(old: Option<&Value>, new: Option<&Value>, kind: &Kind) -> Change {
    if old == new {
        return Change::default();
    }
    if is_leaf(old, kind) && is_leaf(new, kind) {
        return leaf(old, new);
    }
    let mut change = match kind {
        Kind::Keyed(..) | Kind::Set => elements(old, new, kind),
        _ => fields(old, new, kind),
    };
    change.set.is_member |= old.is_none();
    change.removed.is_member |= new.is_none();
    change
}

/// Whether nothing below the value has an owner of its own.
pub(super) fn is_leaf(value: Option<&Value>, kind: &Kind) -> bool {
    match kind {
        Kind::Atomic => true,
        Kind::Keyed(..) | Kind::Set => items(value).is_empty(),
        Kind::Struct(_) | Kind::Map(_) | Kind::Deduced => {
            value.and_then(Value::as_object).is_none_or(Map::is_empty)
        }
    }
}

fn leaf(old: Option<&Value>, new: Option<&Value>) -> Change {
    let mut change = Change::default();
    match new {
        Some(_) => change.set.is_member = true,
        None => change.removed.is_member = old.is_some(),
    }
    change
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn entries(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn fields(old: Option<&Value>, new: Option<&Value>, kind: &Kind) -> Change {
    let none = Map::new();
    let (before, after) = (entries(old).unwrap_or(&none), entries(new).unwrap_or(&none));
    let names = before.keys().chain(after.keys().filter(|it| !before.contains_key(*it)));
    let mut change = Change::default();
    for name in names {
        let (mut a, mut b) = (before.get(name), after.get(name));
        if a == b {
            continue;
        }
        if kind.always_has(name) {
            a = a.or(old.and(Some(&Value::Null)));
            b = b.or(new.and(Some(&Value::Null)));
            if is_void(a) && is_void(b) {
                continue;
            }
        }
        change.add(field(name), between(a, b, &kind.child(name)));
    }
    change
}

pub(super) fn is_void(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Null) => true,
        _ => false,
    }
}

fn elements(old: Option<&Value>, new: Option<&Value>, kind: &Kind) -> Change {
    let mut all: BTreeMap<String, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for item in items(old) {
        all.entry(key_of(item, kind)).or_default().0.push(item);
    }
    for item in items(new) {
        all.entry(key_of(item, kind)).or_default().1.push(item);
    }
    let kind = kind.child("");
    let mut change = Change::default();
    for (name, (before, after)) in all {
        let inner = match (&*before, &*after) {
            ([] | [_], [] | [_]) => between(before.first().copied(), after.first().copied(), &kind),
            // What is there more than once is owned as a whole.
            ([_, _, ..], [_, _, ..]) => {
                let is_member = before != after;
                Change { set: FieldSet { is_member, ..FieldSet::default() }, ..Change::default() }
            }
            ([_, _, ..], _) => {
                let mut inner = match after.first() {
                    Some(left) => between(None, Some(left), &kind),
                    None => Change::default(),
                };
                inner.removed.is_member = true;
                inner
            }
            (_, _) => {
                let mut inner = match before.first() {
                    Some(left) => between(Some(left), None, &kind),
                    None => Change::default(),
                };
                inner.set.is_member = true;
                inner
            }
        };
        change.add(name, inner);
    }
    change
}
