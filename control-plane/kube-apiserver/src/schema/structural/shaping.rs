//! What the server makes of a custom resource before it looks whether it is valid: fields that the
//! schema does not have go, nulls that mean nothing go, defaults come.
//!
//! Upstream: pkg/apiserver/schema/{pruning,defaulting} of k8s.io/apiextensions-apiserver.

use serde_json::{Map, Value};

use super::{Node, Others};
use crate::{
    schema::{self, METADATA, check},
    status::FieldError,
};

/// Fields that belong to each object, whatever its schema says.
const OF_EVERY_OBJECT: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Removes what the schema does not have, and adds its path to `unknown`: first what no schema has, in
/// order, then what no metadata of objects within has. Says what is wrong with such an object, if anything.
pub(crate) fn prune(object: &mut Value, root: &Node, unknown: &mut Vec<String>) -> Option<String> {
    let mut gone = Gone::default();
    prune_at(object, root, true, &mut String::new(), &mut gone);
    gone.fields.sort();
    unknown.extend(gone.fields);
    unknown.extend(gone.metadata);
    gone.wrong
}

/// Paths of what went.
#[derive(Default)]
struct Gone {
    fields: Vec<String>,
    metadata: Vec<String>,
    /// The first value of a wrong type.
    wrong: Option<String>,
}

fn prune_at(value: &mut Value, node: &Node, is_object: bool, path: &mut String, gone: &mut Gone) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                if is_object && OF_EVERY_OBJECT.contains(&name.as_str()) {
                    // The outermost has a decoder of its own.
                    if !path.is_empty() {
                        common(name, value, &join(path, name), gone);
                    }
                    return true;
                }
                let Some(place) = node.field(name) else {
                    let is_kept = node.keeps_unknown || matches!(node.others, Others::Any);
                    if !is_kept {
                        gone.fields.push(join(path, name));
                    }
                    return is_kept;
                };
                let length = path.len();
                *path = join(path, name);
                prune_at(value, place, place.is_embedded, path, gone);
                path.truncate(length);
                true
            });
        }
        Value::Array(items) => {
            let Some(place) = node.items.as_deref() else { return };
            for (index, item) in items.iter_mut().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                prune_at(item, place, place.is_embedded, path, gone);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// What an object within has in common with all objects.
fn common(name: &str, value: &mut Value, path: &str, gone: &mut Gone) {
    let given = value.clone();
    let wrong = if name != "metadata" {
        (!value.is_string()).then(|| "must be a string".to_owned())
    } else if value.is_null() {
        None
    } else {
        let Some(shape) = schema::find(METADATA) else { return };
        let found = check::object(value, &shape);
        gone.metadata.extend(found.unknown.iter().map(|it| join(path, it)));
        found.wrong.map(|it| it.replace(" of type ObjectMeta", " of type v1.ObjectMeta"))
    };
    if let Some(why) = wrong.filter(|_| gone.wrong.is_none()) {
        gone.wrong = Some(FieldError::invalid(path, given, why).to_string());
    }
}

/// Whole numbers have no fraction, however they were written: `1.0` is stored and shown as `1`.
pub(crate) fn make_whole(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let text = number.as_f64().unwrap_or_default().to_string();
            if let Ok(whole) = text.parse::<i64>() {
                *value = whole.into();
            } else if let Ok(whole) = text.parse::<u64>() {
                *value = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(fields) => fields.values_mut().for_each(make_whole),
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Sets what is absent and has a default; a null that is no value counts as absent.
pub(crate) fn default(object: &mut Value, root: &Node) {
    drop_nulls(object, root);
    fill(object, root);
}

/// Removes nulls of fields that may not be null and have no default.
fn drop_nulls(value: &mut Value, node: &Node) {
    match value {
        Value::Object(fields) => fields.retain(|name, value| match node.field(name) {
            Some(place) if place.drops(value) => place.default.is_some(),
            Some(place) => {
                drop_nulls(value, place);
                true
            }
            None => true,
        }),
        Value::Array(items) => {
            let Some(place) = node.items.as_deref() else { return };
            items.iter_mut().for_each(|it| drop_nulls(it, place));
        }
        _ => {}
    }
}

fn fill(value: &mut Value, node: &Node) {
    match value {
        Value::Object(fields) => {
            fill_absent(fields, node);
            for (name, value) in fields {
                let Some(place) = node.field(name) else { continue };
                take_default(value, place);
                fill(value, place);
            }
        }
        Value::Array(items) => {
            let Some(place) = node.items.as_deref() else { return };
            for item in items {
                take_default(item, place);
                fill(item, place);
            }
        }
        _ => {}
    }
}

fn fill_absent(fields: &mut Map<String, Value>, node: &Node) {
    for (name, place) in &node.fields {
        if let Some(default) = &place.default
            && !fields.contains_key(name)
        {
            fields.insert(name.clone(), default.clone());
        }
    }
}

fn take_default(value: &mut Value, place: &Node) {
    if let Some(default) = &place.default
        && place.drops(value)
    {
        *value = default.clone();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node() -> Node {
        Node::of(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "size": {"type": "integer", "default": 3},
                "note": {"type": "string"},
                "maybe": {"type": "string", "nullable": true, "default": "m"},
                "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"closed": {"type": "object", "properties": {}}}},
                "parts": {"type": "array", "items": {"type": "object", "properties": {
                    "name": {"type": "string", "default": "n"}}}},
                "any": {"type": "object", "additionalProperties": {"type": "object",
                    "properties": {"x": {"type": "integer", "default": 1}}}},
                "inner": {"type": "object", "x-kubernetes-embedded-resource": true,
                    "properties": {"spec": {"type": "object"}}}}}}}))
    }

    #[test]
    fn fields_that_the_schema_does_not_have_go_at_every_level_and_are_named() {
        let mut object = json!({"kind": "K", "metadata": {"name": "a"}, "extra": 1, "spec": {
            "size": 1, "odd": 2, "open": {"free": {"x": 1}, "closed": {"y": 1}},
            "parts": [{"name": "a", "odd": 1}], "any": {"k": {"x": 1, "z": 1}},
            "inner": {"kind": "Pod", "metadata": {"name": "p", "odd": 1}, "spec": {"q": 1}, "odd": 1}}});
        let mut unknown = Vec::new();
        prune(&mut object, &node(), &mut unknown);
        unknown.sort();
        let wanted = [
            "extra",
            "spec.any.k.z",
            "spec.inner.metadata.odd",
            "spec.inner.odd",
            "spec.inner.spec.q",
            "spec.odd",
            "spec.open.closed.y",
            "spec.parts[0].odd",
        ];
        assert_eq!(unknown, wanted);
        assert_eq!(object["spec"]["open"], json!({"free": {"x": 1}, "closed": {}}));
        assert_eq!(object["spec"]["inner"]["metadata"], json!({"name": "p"}));
    }

    #[test]
    fn defaults_come_at_every_level_and_nulls_that_are_no_value_go() {
        let mut object = json!({"spec": {"size": null, "note": null, "maybe": null,
            "parts": [{}, {"name": null}], "any": {"k": {}}}});
        default(&mut object, &node());
        assert_eq!(
            object,
            json!({"spec": {"size": 3, "maybe": null,
            "parts": [{"name": "n"}, {"name": "n"}], "any": {"k": {"x": 1}}}})
        );
        let mut absent = json!({});
        default(&mut absent, &node());
        assert_eq!(absent, json!({}));
    }
}
