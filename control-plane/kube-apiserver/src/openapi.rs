//! OpenAPI documents: `/openapi/v3` per group and version, and `/openapi/v2` in JSON and protobuf.
//!
//! They are made from the packed schemas on request and not kept, but for the hashes in the index:
//! clients cache documents by hash, so few are ever asked for.
//!
//! Deviation: the paths carry only what clients read (kind, parameters of writes), not every
//! parameter and response of upstream's documents.

mod protobuf;

use std::{collections::BTreeSet, sync::LazyLock};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use transport::Body;

use crate::{
    aggregation::Merged,
    negotiate::Format,
    render,
    resources::{Catalog, Resource},
    schema::{self, ListType, merge_keys},
    status::Status,
};

/// The packed document's own hash: part of every built-in group's.
static BUILTIN_HASH: LazyLock<String> = LazyLock::new(|| {
    let bytes: &[u8] = include_bytes!("../schemas/kubernetes.json.gz");
    let both = Sha256::new().chain_update(bytes).chain_update(schema::ADDED);
    hex::encode_upper(&both.finalize()[..16])
});

const REFERENCE: &str = "#/components/schemas/";

pub(crate) fn answer(
    merged: &Merged,
    path: &[&str],
    head: &http::request::Parts,
) -> Result<Response<Body>, Status> {
    let accept = head.headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
    let accept = accept.unwrap_or("*/*");
    let catalog = &merged.catalog;
    match path {
        ["v2"] => v2(merged, accept),
        ["v3"] => Ok(json_response(index(merged))),
        ["v3", "api", version] if catalog.has_version("", version) => {
            v3(catalog, "", version, accept)
        }
        ["v3", "apis", group, version] if catalog.has_version(group, version) => {
            v3(catalog, group, version, accept)
        }
        _ => Err(Status::no_such_path()),
    }
}

fn json_response(document: Value) -> Response<Body> {
    let bytes: Bytes = document.to_string().into();
    render::response(StatusCode::OK, Format::Json, bytes)
}

/// Whoever takes nothing that there is is told so.
fn check_accepts_json(accept: &str) -> Result<(), Status> {
    let media = accept.split(',').map(|it| it.split(';').next().unwrap_or_default().trim());
    let mut media = media;
    if media.any(|it| matches!(it, "application/json" | "*/*" | "application/*" | "")) {
        Ok(())
    } else {
        Err(Status::not_acceptable("application/json"))
    }
}

fn index(merged: &Merged) -> Value {
    let (catalog, mut paths) = (&merged.catalog, Map::new());
    let core = (String::new(), vec!["v1".to_owned()]);
    for (group, versions) in catalog.groups().chain(std::iter::once(&core)) {
        for version in versions {
            if merged.is_remote(group, version)
                || catalog.of_version(group, version).all(|it| it.delegated.is_some())
            {
                continue;
            }
            let path = if group.is_empty() {
                format!("api/{version}")
            } else {
                format!("apis/{group}/{version}")
            };
            let hash = hash(catalog, group, version);
            let url = format!("/openapi/v3/{path}?hash={hash}");
            paths.insert(path, json!({ "serverRelativeURL": url }));
        }
    }
    for (path, url) in merged.v3() {
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    json!({ "paths": paths })
}

fn hash(catalog: &Catalog, group: &str, version: &str) -> String {
    let custom: Vec<String> = catalog
        .of_version(group, version)
        .filter_map(|it| {
            let custom = it.custom.as_ref()?;
            Some(format!("{}{}{:?}", it.kind, custom.schema, custom.selectable))
        })
        .collect();
    if custom.is_empty() {
        return BUILTIN_HASH.clone();
    }
    hex::encode_upper(&Sha256::digest(custom.concat())[..16])
}

fn v3(
    catalog: &Catalog,
    group: &str,
    version: &str,
    accept: &str,
) -> Result<Response<Body>, Status> {
    check_accepts_json(accept)?;
    let document = schema::document();
    let all = builtin_schemas(&document);
    let (mut schemas, mut paths) = (Map::new(), Map::new());
    let resources: Vec<_> =
        catalog.of_version(group, version).filter(|it| it.delegated.is_none()).collect();
    for resource in &resources {
        add_schemas(&mut schemas, &all, resource);
        add_paths(&mut paths, resource, &schema_name(resource), REFERENCE);
    }
    for shared in [
        "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    ] {
        add_closure(&mut schemas, &all, shared);
    }
    let document = json!({
        "openapi": "3.0.0", "info": { "title": "Kubernetes", "version": "unversioned" },
        "paths": paths, "components": { "schemas": schemas },
    });
    let mut response = json_response(document);
    let etag = format!("\"{}\"", hash(catalog, group, version));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    let forever = HeaderValue::from_static("public, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, forever);
    Ok(response)
}

fn v2(merged: &Merged, accept: &str) -> Result<Response<Body>, Status> {
    let is_protobuf = protobuf::MEDIA_TYPES.iter().any(|it| accept.contains(it));
    if !is_protobuf {
        check_accepts_json(accept)?;
    }
    let document = schema::document();
    let mut definitions = builtin_schemas(&document);
    let mut paths = Map::new();
    let own = merged.catalog.all().iter().filter(|it| it.delegated.is_none());
    for resource in own.filter(|it| !merged.is_remote(&it.group, &it.version)) {
        if resource.custom.is_some() {
            definitions.insert(schema_name(resource), custom_schema(resource));
        }
        add_paths(&mut paths, resource, &schema_name(resource), "#/definitions/");
    }
    merged.add_v2(&mut paths, &mut definitions);
    let definitions = Value::Object(definitions).to_string().replace(REFERENCE, "#/definitions/");
    let mut definitions: Value = serde_json::from_str(&definitions).unwrap_or_default();
    if is_protobuf {
        let media = protobuf::MEDIA_TYPES[0];
        let mut response = Response::new(transport::full(protobuf::document(&definitions)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        return Ok(response);
    }
    refer_plainly(&mut definitions);
    Ok(json_response(json!({
        "swagger": "2.0", "info": { "title": "Kubernetes", "version": "unversioned" },
        "paths": paths, "definitions": definitions,
    })))
}

/// A reference with a description beside it: version 3 puts it into `allOf`, the documents of version 2
/// never do.
fn refer_plainly(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(refer_plainly),
        Value::Object(fields) => {
            let all = fields.get("allOf").and_then(Value::as_array).map(Vec::as_slice);
            if let Some([only]) = all
                && let Some(reference) = only.get("$ref").cloned()
            {
                fields.remove("allOf");
                fields.insert("$ref".to_owned(), reference);
            }
            fields.values_mut().for_each(refer_plainly);
        }
        _ => {}
    }
}

/// The schemas with what the generator does not know: kinds, merge keys, list types.
fn builtin_schemas(document: &Value) -> Map<String, Value> {
    let mut schemas = document["schemas"].as_object().cloned().unwrap_or_default();
    for (name, schema) in &mut schemas {
        let short = name.rsplit('.').next().unwrap_or(name).to_owned();
        if let Some(kind) = document["kinds"].get(name) {
            schema["x-kubernetes-group-version-kind"] = json!([kind]);
            // The generator requires `metadata`; clients may leave it out.
            if let Some(required) = schema["required"].as_array_mut() {
                required.retain(|it| it != "metadata");
            }
        }
        if merge_keys::ATOMIC_OBJECTS.contains(&short.as_str()) {
            schema["x-kubernetes-map-type"] = "atomic".into();
        }
        for (field, property) in schema["properties"].as_object_mut().into_iter().flatten() {
            annotate(&short, field, property);
        }
        tidy_scalar(&short, schema);
    }
    schemas
}

fn annotate(owner: &str, field: &str, property: &mut Value) {
    let merge = merge_keys::find(owner, field);
    if let Some(key) = merge.patch_key {
        if !key.is_empty() {
            property["x-kubernetes-patch-merge-key"] = key.into();
        }
        let strategy = if merge.retains_keys { "merge,retainKeys" } else { "merge" };
        property["x-kubernetes-patch-strategy"] = strategy.into();
    } else if merge.retains_keys {
        property["x-kubernetes-patch-strategy"] = "retainKeys".into();
    }
    if property["type"] == "array" {
        match merge.list {
            ListType::Atomic => property["x-kubernetes-list-type"] = "atomic".into(),
            ListType::Set => property["x-kubernetes-list-type"] = "set".into(),
            ListType::Map(keys) => {
                property["x-kubernetes-list-type"] = "map".into();
                property["x-kubernetes-list-map-keys"] = json!(keys);
            }
        }
    }
    if merge.is_atomic_map {
        property["x-kubernetes-map-type"] = "atomic".into();
    }
}

/// The named scalars, as upstream's documents show them.
fn tidy_scalar(name: &str, schema: &mut Value) {
    match name {
        "IntOrString" => {
            schema["format"] = "int-or-string".into();
            schema["oneOf"] = json!([{ "type": "integer" }, { "type": "string" }]);
        }
        "Quantity" => schema["oneOf"] = json!([{ "type": "string" }, { "type": "number" }]),
        _ => {}
    }
}

fn schema_name(resource: &Resource) -> String {
    if resource.custom.is_none() {
        return resource.schema.clone();
    }
    let mut parts: Vec<&str> = resource.group.split('.').collect();
    parts.reverse();
    format!("{}.{}.{}", parts.join("."), resource.version, resource.kind)
}

/// What every object has, in the words in which upstream describes it to clients.
const METADATA: &str = "Standard object's metadata. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an \
    object. Servers should convert recognized schemas to the latest internal value, and may reject \
    unrecognized values. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. \
    Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In \
    CamelCase. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

fn custom_schema(resource: &Resource) -> Value {
    let custom = resource.custom.as_ref();
    let mut schema = custom.map(|it| it.schema.clone()).unwrap_or_default();
    if !schema.is_object() {
        schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    }
    let kind =
        json!({ "group": resource.group, "version": resource.version, "kind": resource.kind });
    schema["x-kubernetes-group-version-kind"] = json!([kind]);
    let selectable = custom.into_iter().flat_map(|it| it.selectable.iter());
    let selectable: Vec<Value> = selectable.map(|it| json!({ "fieldPath": it })).collect();
    if !selectable.is_empty() {
        schema["x-kubernetes-selectable-fields"] = selectable.into();
    }
    let metadata = format!("{REFERENCE}io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    schema["properties"]["metadata"] =
        json!({ "description": METADATA, "allOf": [{ "$ref": metadata }] });
    schema["properties"]["apiVersion"] = json!({ "description": API_VERSION, "type": "string" });
    schema["properties"]["kind"] = json!({ "description": KIND, "type": "string" });
    schema
}

fn add_schemas(schemas: &mut Map<String, Value>, all: &Map<String, Value>, resource: &Resource) {
    let name = schema_name(resource);
    if resource.custom.is_some() {
        schemas.insert(name.clone(), custom_schema(resource));
        add_closure(schemas, all, "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    } else {
        add_closure(schemas, all, &name);
    }
    for subresource in &resource.subresources {
        let kind = match subresource.as_str() {
            "scale" => "io.k8s.api.autoscaling.v1.Scale",
            "eviction" => "io.k8s.api.policy.v1.Eviction",
            "token" => "io.k8s.api.authentication.v1.TokenRequest",
            _ => continue,
        };
        add_closure(schemas, all, kind);
    }
    if resource.is_virtual {
        return;
    }
    let list = json!({
        "type": "object", "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string" }, "kind": { "type": "string" },
            "items": { "type": "array", "items": { "$ref": format!("{REFERENCE}{name}") } },
            "metadata": { "allOf": [{ "$ref": format!("{REFERENCE}io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta") }] },
        },
        "x-kubernetes-group-version-kind": [{
            "group": resource.group, "version": resource.version, "kind": format!("{}List", resource.kind),
        }],
    });
    schemas.insert(format!("{name}List"), list);
    add_closure(schemas, all, "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta");
}

/// A schema and all that it refers to.
fn add_closure(schemas: &mut Map<String, Value>, all: &Map<String, Value>, root: &str) {
    let mut wanted = BTreeSet::from([root.to_owned()]);
    while let Some(name) = wanted.pop_first() {
        let Some(schema) = all.get(&name) else { continue };
        if schemas.insert(name, schema.clone()).is_none() {
            collect_references(schema, &mut wanted);
        }
    }
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                found.insert(target.trim_start_matches(REFERENCE).to_owned());
            }
            fields.values().for_each(|it| collect_references(it, found));
        }
        Value::Array(items) => items.iter().for_each(|it| collect_references(it, found)),
        _ => {}
    }
}

fn add_paths(paths: &mut Map<String, Value>, resource: &Resource, schema: &str, reference: &str) {
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
