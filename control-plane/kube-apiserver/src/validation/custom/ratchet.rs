//! Which value of the old object a value of the new one was: fields by their name, items of lists of
//! type `map` by their keys, items of other lists by none.
//!
//! Upstream: `CorrelatedObject` of k8s.io/apiserver/pkg/cel/common.

use serde_json::Value;

use crate::schema::structural::ListKind;

/// What an item was before.
pub(super) fn item<'a>(list: &ListKind, old: Option<&'a Value>, item: &Value) -> Option<&'a Value> {
    old?.get(index(list, old, item)?)
}

/// Where in the old list it was.
pub(super) fn index(list: &ListKind, old: Option<&Value>, item: &Value) -> Option<usize> {
    let ListKind::Map(keys) = list else { return None };
    let mut all = old?.as_array()?.iter();
    all.position(|it| keys.iter().all(|key| it.get(key) == item.get(key)))
}
