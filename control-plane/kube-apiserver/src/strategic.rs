//! Strategic merge patch.
//!
//! Lists of objects merge by their key, lists of scalars as sets; directives in the patch say
//! otherwise: `$patch` (`replace`, `delete`, `merge`), `$retainKeys`,
//! `$deleteFromPrimitiveList/F`, `$setElementOrder/F`. Without the last, elements have the order that the
//! patch names them in.
//!
//! Upstream: k8s.io/apimachinery/pkg/util/strategicpatch.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::schema::{Field, Object, Shape};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

/// Why a patch cannot be applied.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum PatchError {
    #[error("unknown patch type found: {found}")]
    Directive { found: String },
    #[error("map: {element} does not contain declared merge key: {key}")]
    NoKey { element: String, key: String },
    #[error("expected a list at `{field}`")]
    NotAList { field: String },
}

/// Applies a patch to an object of this type. Without a type, lists are replaced.
pub(crate) fn apply(
    current: &mut Value,
    patch: &Value,
    object: Option<&Arc<Object>>,
) -> Result<(), PatchError> {
    let empty = Map::new();
    let patch = patch.as_object().unwrap_or(&empty);
    if !current.is_object() {
        *current = Value::Object(Map::new());
    }
    let fields = current.as_object_mut().expect("made an object above");
    merge_object(fields, patch, object)
}

fn merge_object(
    current: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    object: Option<&Arc<Object>>,
) -> Result<(), PatchError> {
    match patch.get(DIRECTIVE).map(|it| it.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => {
            *current = cleaned_fields(patch);
            return Ok(());
        }
        Some("delete") => {
            current.clear();
            return Ok(());
        }
        Some(other) => return Err(PatchError::Directive { found: other.into() }),
    }
    for (name, value) in patch {
        if let Some(field) = name.strip_prefix(DELETE_PREFIX) {
            delete_scalars(current, field, value);
        } else if !name.starts_with('$') {
            let field = object.and_then(|it| it.fields.get(name));
            merge_field(current, name, value, field, patch.get(&format!("{ORDER_PREFIX}{name}")))?;
        }
    }
    for (name, order) in patch {
        // An order may be given for a list that the patch does not otherwise touch.
        if let Some(field) = name.strip_prefix(ORDER_PREFIX)
            && !patch.contains_key(field)
            && let Some(Value::Array(items)) = current.get_mut(field)
        {
            let key = object.and_then(|it| it.fields.get(field)).and_then(|it| it.merge.patch_key);
            let original = items.clone();
            let order = order.as_array().map_or(&[][..], Vec::as_slice);
            reorder(items, &original, order, key.unwrap_or_default());
        }
    }
    if let Some(Value::Array(kept)) = patch.get(RETAIN_KEYS) {
        current.retain(|name, _| kept.iter().any(|it| it == name.as_str()));
    }
    Ok(())
}

fn merge_field(
    current: &mut Map<String, Value>,
    name: &str,
    patch: &Value,
    field: Option<&Field>,
    order: Option<&Value>,
) -> Result<(), PatchError> {
    match patch {
        Value::Null => drop(current.remove(name)),
        Value::Object(patch) => {
            let target = current.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            let fields = target.as_object_mut().expect("made an object above");
            let inner = field.and_then(|it| match &it.shape {
                Shape::Map(inner) => inner.object(),
                shape => shape.object(),
            });
            match field.map(|it| &it.shape) {
                Some(Shape::Map(_)) if inner.is_some() => merge_entries(fields, patch, inner)?,
                _ => merge_object(fields, patch, inner.as_ref())?,
            }
            if patch.get(DIRECTIVE).is_some_and(|it| it == "delete") {
                current.remove(name);
            }
        }
        Value::Array(patch) => {
            let merge = field.map(|it| it.merge).unwrap_or_default();
            let Some(key) = merge.patch_key else {
                current.insert(name.into(), cleaned(&Value::Array(patch.clone())));
                return Ok(());
            };
            let target = current.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = target else {
                return Err(PatchError::NotAList { field: name.into() });
            };
            let element = field.and_then(element_type);
            merge_list(items, patch, key, element.as_ref())?;
            let original = items.clone();
            reorder(items, &original, order.and_then(Value::as_array).unwrap_or(patch), key);
        }
        scalar => drop(current.insert(name.into(), scalar.clone())),
    }
    Ok(())
}

/// Map entries that are objects of one type.
fn merge_entries(
    current: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    inner: Option<Arc<Object>>,
) -> Result<(), PatchError> {
    for (key, value) in patch {
        match value {
            Value::Null => drop(current.remove(key)),
            Value::Object(patch) => {
                let target = current.entry(key).or_insert_with(|| Value::Object(Map::new()));
                if let Some(fields) = target.as_object_mut() {
                    merge_object(fields, patch, inner.as_ref())?;
                }
            }
            other => drop(current.insert(key.clone(), other.clone())),
        }
    }
    Ok(())
}

fn element_type(field: &Field) -> Option<Arc<Object>> {
    match &field.shape {
        Shape::List(inner) => inner.object(),
        _ => None,
    }
}

fn merge_list(
    items: &mut Vec<Value>,
    patch: &[Value],
    key: &str,
    element: Option<&Arc<Object>>,
) -> Result<(), PatchError> {
    if key.is_empty() {
        for value in patch {
            if !items.contains(value) {
                items.push(value.clone());
            }
        }
        return Ok(());
    }
    let is_directive = |it: &&Value| it.get(DIRECTIVE).is_some() && it.get(key).is_none();
    if patch.iter().any(|it| is_directive(&it) && it[DIRECTIVE] == "replace") {
        *items = patch.iter().filter(|it| !is_directive(it)).map(cleaned).collect();
        return Ok(());
    }
    if patch.iter().any(|it| is_directive(&it) && it[DIRECTIVE] == "delete") {
        items.clear();
        return Ok(());
    }
    for value in patch {
        let Some(wanted) = value.get(key) else {
            return Err(PatchError::NoKey { element: value.to_string(), key: key.into() });
        };
        let found = items.iter().position(|it| it.get(key) == Some(wanted));
        match (value.get(DIRECTIVE).and_then(Value::as_str), found) {
            (Some("delete"), _) => items.retain(|it| it.get(key) != Some(wanted)),
            (Some("replace"), Some(at)) => items[at] = cleaned(value),
            (_, Some(at)) => apply(&mut items[at], value, element)?,
            (_, None) => {
                let mut fresh = Value::Object(Map::new());
                apply(&mut fresh, value, element)?;
                items.push(fresh);
            }
        }
    }
    Ok(())
}

fn delete_scalars(current: &mut Map<String, Value>, field: &str, doomed: &Value) {
    let Some(Value::Array(items)) = current.get_mut(field) else { return };
    let doomed = doomed.as_array().map_or(&[][..], Vec::as_slice);
    items.retain(|it| !doomed.contains(it));
}

/// Puts the elements that `order` names into that order; the others keep their place relative to
/// their neighbours in `original`.
fn reorder(items: &mut Vec<Value>, original: &[Value], order: &[Value], key: &str) {
    let is_same = |a: &Value, b: &Value| {
        if key.is_empty() { a == b } else { a.get(key) == b.get(key) }
    };
    let place = |it: &Value| original.iter().position(|other| is_same(it, other));
    let (mut named, others): (Vec<_>, Vec<_>) =
        std::mem::take(items).into_iter().partition(|it| order.iter().any(|o| is_same(o, it)));
    named.sort_by_key(|it| order.iter().position(|o| is_same(o, it)));
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(left), Some(right)) = (named.peek(), others.peek()) {
        let takes_right = match (place(left), place(right)) {
            (Some(left), Some(right)) => right < left,
            _ => false,
        };
        items.extend(if takes_right { others.next() } else { named.next() });
    }
    items.extend(named);
    items.extend(others);
}

/// A value without directives and nulls.
fn cleaned(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(cleaned_fields(fields)),
        Value::Array(items) => Value::Array(items.iter().map(cleaned).collect()),
        other => other.clone(),
    }
}

fn cleaned_fields(fields: &Map<String, Value>) -> Map<String, Value> {
    let kept = fields.iter().filter(|(name, value)| {
        let is_directive = name.as_str() == DIRECTIVE
            || name.as_str() == RETAIN_KEYS
            || name.starts_with(DELETE_PREFIX)
            || name.starts_with(ORDER_PREFIX);
        !is_directive && !value.is_null()
    });
    kept.map(|(name, value)| (name.clone(), cleaned(value))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod_spec(current: Value, patch: Value) -> Value {
        let object = crate::schema::find("io.k8s.api.core.v1.PodSpec").unwrap();
        let mut current = current;
        apply(&mut current, &patch, Some(&object)).unwrap();
        current
    }

    #[test]
    fn containers_merge_by_name_and_their_lists_by_their_own_keys() {
        let merged = pod_spec(
            json!({"containers": [
                {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}], "args": ["p"]},
                {"name": "b"},
            ]}),
            json!({"containers": [
                {"name": "a", "env": [{"name": "Y", "value": "2"}], "args": ["q"]},
                {"name": "b", "$patch": "delete"},
                {"name": "c", "image": "3"},
            ]}),
        );
        assert_eq!(
            merged,
            json!({"containers": [
                {"name": "a", "image": "1", "args": ["q"],
                 "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
                {"name": "c", "image": "3"},
            ]})
        );
    }

    #[test]
    fn retained_keys_replace_one_volume_source_by_another() {
        let merged = pod_spec(
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}),
        );
        assert_eq!(merged, json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}));
    }

    #[test]
    fn an_element_order_is_kept_around_elements_that_only_the_server_has() {
        let merged = pod_spec(
            json!({"containers": [{"name": "a"}, {"name": "server"}, {"name": "b"}]}),
            json!({"containers": [{"name": "a", "image": "1"}],
                   "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
        );
        let names: Vec<&str> = merged["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["server", "b", "a"]);
    }

    #[test]
    fn elements_have_the_order_in_which_the_patch_names_them() {
        let named = |all: &[&str]| -> Value {
            json!({"containers": all.iter().map(|it| json!({"name": it})).collect::<Vec<_>>()})
        };
        let known = named(&["a", "b", "c"]);
        for (patch, merged) in [
            (&["c", "a"][..], &["b", "c", "a"][..]),
            (&["b"], &["a", "b", "c"]),
            (&["new", "a"], &["b", "c", "new", "a"]),
            (&["a", "new"], &["a", "b", "c", "new"]),
        ] {
            assert_eq!(pod_spec(known.clone(), named(patch)), named(merged), "{patch:?}");
        }
    }

    #[test]
    fn scalars_are_deleted_from_sets_and_replaced_wholes_forget_the_rest() {
        let object =
            crate::schema::find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap();
        let mut meta = json!({"finalizers": ["a", "b"], "labels": {"x": "1"}});
        let patch = json!({"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"],
                           "labels": {"$patch": "replace", "y": "2"}});
        apply(&mut meta, &patch, Some(&object)).unwrap();
        assert_eq!(meta["labels"], json!({"y": "2"}));
        let mut finalizers: Vec<&str> =
            meta["finalizers"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        finalizers.sort_unstable();
        assert_eq!(finalizers, ["b", "c"]);
    }

    #[test]
    fn null_removes_and_a_missing_merge_key_is_an_error() {
        let merged = pod_spec(json!({"nodeName": "n", "hostname": "h"}), json!({"nodeName": null}));
        assert_eq!(merged, json!({"hostname": "h"}));
        let object = crate::schema::find("io.k8s.api.core.v1.PodSpec").unwrap();
        let patch = json!({"containers": [{"image": "x"}]});
        let error = apply(&mut json!({}), &patch, Some(&object)).unwrap_err();
        assert!(error.to_string().contains("does not contain declared merge key: name"));
    }
}
