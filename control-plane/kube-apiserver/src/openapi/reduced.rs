//! Schemas of custom resources in documents of version 2: without what its readers cannot read.
//!
//! Upstream: pkg/controller/openapi/v2/conversion.go of k8s.io/apiextensions-apiserver.

use serde_json::{Map, Value};

const KEEPS_UNKNOWN: &str = "x-kubernetes-preserve-unknown-fields";

/// Whether an object of this schema may have any field.
pub(super) fn is_open(schema: &Value) -> bool {
    !schema.is_object() || schema[KEEPS_UNKNOWN] == true
}

/// Takes alternatives away, and the types of what may be null or hold anything.
pub(super) fn reduce(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    for alternatives in ["allOf", "anyOf", "oneOf", "not"] {
        fields.remove(alternatives);
    }
    let is_nullable = fields.remove("nullable").is_some_and(|it| it == true);
    let keeps_unknown = fields.get(KEEPS_UNKNOWN).is_some_and(|it| *it == true);
    if is_nullable || keeps_unknown {
        fields.remove("items");
        fields.remove("properties");
    }
    let is_bare = |fields: &Map<String, Value>| match fields.get("type").and_then(Value::as_str) {
        Some("array") => !fields.contains_key("items"),
        Some("object") => keeps_unknown,
        _ => false,
    };
    if is_nullable || is_bare(fields) {
        fields.remove("type");
    }
    require_no_null(fields);
    for part in ["items", "additionalProperties"] {
        fields.get_mut(part).into_iter().for_each(reduce);
    }
    let properties = fields.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flatten().for_each(|(_, it)| reduce(it));
}

/// What may be null is not required.
fn require_no_null(fields: &mut Map<String, Value>) {
    let is_nullable = |it: &Value| it["nullable"] == true;
    let nullable: Vec<String> = fields
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, it)| is_nullable(it))
        .map(|(name, _)| name.clone())
        .collect();
    let all_are = fields.get("additionalProperties").is_some_and(is_nullable);
    let Some(required) = fields.get_mut("required").and_then(Value::as_array_mut) else { return };
    required.retain(|it| !all_are && !nullable.iter().any(|name| it == name));
    if required.is_empty() {
        fields.remove("required");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_may_be_null_or_hold_anything_has_no_type() {
        let mut schema = json!({"type": "object", "required": ["maybe", "name"], "properties": {
            "maybe": {"type": "object", "nullable": true, "description": "d",
                "properties": {"a": {"type": "string"}}},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"a": {"type": "string"}}},
            "all": {"type": "array", "x-kubernetes-preserve-unknown-fields": true,
                "items": {"type": "string"}},
            "port": {"x-kubernetes-int-or-string": true,
                "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "map": {"type": "object", "required": ["x"],
                "additionalProperties": {"type": "string", "nullable": true}},
            "list": {"type": "array", "items": {"type": "string", "nullable": true}},
            "name": {"type": "string", "not": {"enum": ["x"]}}}});
        reduce(&mut schema);
        let wanted = json!({"type": "object", "required": ["name"], "properties": {
            "maybe": {"description": "d"},
            "open": {"x-kubernetes-preserve-unknown-fields": true},
            "all": {"x-kubernetes-preserve-unknown-fields": true},
            "port": {"x-kubernetes-int-or-string": true},
            "map": {"type": "object", "additionalProperties": {}},
            "list": {"type": "array", "items": {}},
            "name": {"type": "string"}}});
        assert_eq!(schema, wanted);
    }
}
