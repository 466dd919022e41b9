//! Takes fields out of a value.
//!
//! Upstream: `TypedValue.RemoveItems` and `Set.EnsureNamedFieldsAreMembers` of
//! sigs.k8s.io/structured-merge-diff.

use serde_json::Value;

use super::{FieldSet, Kind, matches};

/// The set with every field of a struct that something below is in: whoever owns all that is in it can
/// take it away.
pub(crate) fn ensured(set: &FieldSet, kind: &Kind) -> FieldSet {
    let below = set.below.iter().map(|(element, inner)| {
        let name = element.strip_prefix("f:").unwrap_or_default();
        let mut inner = ensured(inner, &kind.child(name));
        inner.is_member |= kind.names(name);
        (element.clone(), inner)
    });
    FieldSet { is_member: set.is_member, below: below.collect() }
}

/// Takes the members of a set out of a value, each with all that is in it. What is empty then goes, too.
pub(crate) fn remove(value: &mut Value, set: &FieldSet, kind: &Kind) {
    match value {
        Value::Object(fields) => {
            for (element, inner) in &set.below {
                let Some(name) = element.strip_prefix("f:") else { continue };
                if inner.is_member {
                    fields.remove(name);
                } else if let Some(current) = fields.get_mut(name) {
                    remove(current, inner, &kind.child(name));
                    if is_hollow(current) {
                        fields.remove(name);
                    }
                }
            }
        }
        Value::Array(items) => {
            let child = kind.child("");
            for (element, inner) in &set.below {
                if inner.is_member {
                    items.retain(|it| !matches(it, element, kind));
                } else {
                    let found = items.iter_mut().filter(|it| matches(it, element, kind));
                    found.for_each(|it| remove(it, inner, &child));
                }
            }
        }
        _ => {}
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
