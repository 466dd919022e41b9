//! The paths of the documents: what clients look for in them.
//!
//! Deviation: they carry only what clients read (kind, parameters of writes), not every parameter and
//! response of upstream's documents.

use serde_json::{Map, Value, json};

use super::REFERENCE;
use crate::resources::Resource;

pub(super) fn add_paths(
    paths: &mut Map<String, Value>,
    resource: &Resource,
    schema: &str,
    reference: &str,
) {
    let root = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{root}{scope}/{}", resource.plural);
    let kind =
        json!({ "group": resource.group, "version": resource.version, "kind": resource.kind });
    let operation = |action: &str| {
        let mut operation = json!({
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": kind,
            "responses": { "200": response(schema, reference) },
        });
        if matches!(action, "post" | "put" | "patch") {
            operation["parameters"] = write_parameters(reference);
        }
        operation
    };
    if resource.is_computed {
        paths.insert(format!("{collection}/{{name}}"), json!({ "get": operation("get") }));
        paths.insert(collection, json!({ "get": operation("list") }));
        return;
    }
    let mut all = json!({ "post": operation("post") });
    if !resource.is_virtual {
        all["get"] = operation("list");
        all["delete"] = operation("deletecollection");
        let mut one = Map::new();
        for (method, action) in
            [("get", "get"), ("put", "put"), ("patch", "patch"), ("delete", "delete")]
        {
            one.insert(method.into(), operation(action));
        }
        paths.insert(format!("{collection}/{{name}}"), Value::Object(one));
    }
    paths.insert(collection, all);
}

fn response(schema: &str, reference: &str) -> Value {
    let target = json!({ "$ref": format!("{reference}{schema}") });
    if reference == REFERENCE {
        json!({ "description": "OK", "content": { "application/json": { "schema": target } } })
    } else {
        json!({ "description": "OK", "schema": target })
    }
}

/// `kubectl` looks for these before it uses server-side dry run and field validation.
fn write_parameters(reference: &str) -> Value {
    let one = |name: &str| {
        if reference == REFERENCE {
            json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } })
        } else {
            json!({ "name": name, "in": "query", "type": "string", "uniqueItems": true })
        }
    };
    json!([one("dryRun"), one("fieldManager"), one("fieldValidation")])
}
