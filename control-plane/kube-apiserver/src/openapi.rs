//! OpenAPI documents: `/openapi/v3` per group and version, and `/openapi/v2`; both in JSON and
//! protobuf.
//!
//! They are made from the packed schemas on request and not kept, but for the hashes in the index:
//! clients cache documents by hash, so few are ever asked for.
//!
//! Upstream: `handler` and `handler3` of k8s.io/kube-openapi.

mod parameters;
mod paths;
pub(crate) mod protobuf;
mod reduced;

use std::{collections::BTreeSet, sync::LazyLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use transport::Body;

use self::paths::Version;
use crate::{
    aggregation::Merged,
    negotiate,
    resources::{Catalog, Resource},
    schema::{self, ListType, merge_keys},
    status::Status,
};

/// How documents are made from schemas. Another one makes other documents, which clients must not take
/// for those that they have.
const FORM: &str = "2";

/// The packed document's own hash: part of every built-in group's.
static BUILTIN_HASH: LazyLock<String> = LazyLock::new(|| {
    let bytes: &[u8] = include_bytes!("../schemas/kubernetes.json.gz");
    let both = Sha256::new().chain_update(bytes).chain_update(schema::ADDED).chain_update(FORM);
    hex::encode_upper(&both.finalize()[..16])
});

const REFERENCE: &str = "#/components/schemas/";

const JSON: &str = "application/json";

/// `now` is when the answer is given.
pub(crate) fn answer(
    merged: &Merged,
    path: &[&str],
    head: &Parts,
    now: Timestamp,
) -> Result<Response<Body>, Status> {
    let catalog = &merged.catalog;
    match path {
        ["v2"] => v2(merged, &head.headers),
        ["v3"] => {
            let bytes: Bytes = index(merged).to_string().into();
            let etag = hash_of(&bytes);
            Ok(Told { media: JSON, bytes, etag }.answer(&head.headers))
        }
        ["v3", "api", version] if catalog.has_version("", version) => {
            v3(catalog, "", version, head, now)
        }
        ["v3", "apis", group, version] if catalog.has_version(group, version) => {
            v3(catalog, group, version, head, now)
        }
        _ => Err(Status::no_such_path()),
    }
}

/// A document as a client wants it.
struct Told {
    media: &'static str,
    bytes: Bytes,
    etag: String,
}

impl Told {
    /// Whoever has it already is told so.
    fn answer(self, asked: &HeaderMap) -> Response<Body> {
        let etag = format!("\"{}\"", self.etag);
        let is_known = asked.get(header::IF_NONE_MATCH).is_some_and(|it| *it == etag);
        let body = if is_known { transport::empty() } else { transport::full(self.bytes) };
        let mut response = Response::new(body);
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media));
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        if let Ok(etag) = HeaderValue::from_str(&etag) {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}

/// JSON or, by one of its names, protobuf.
fn media(headers: &HeaderMap, protobuf: [&'static str; 2]) -> Result<&'static str, Status> {
    let [name, older] = protobuf;
    let found = negotiate::of_document(headers, &[JSON, name, older]);
    let found = found.ok_or_else(|| Status::not_acceptable(JSON))?;
    Ok(if found == older { name } else { found })
}

fn hash_of(bytes: &[u8]) -> String {
    hex::encode_upper(&Sha256::digest(bytes)[..16])
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
            let path = place(group, version);
            let url = url(&path, &hash(catalog, group, version));
            paths.insert(path, json!({ "serverRelativeURL": url }));
        }
    }
    for (path, url) in merged.v3() {
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    json!({ "paths": paths })
}

fn place(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn url(place: &str, hash: &str) -> String {
    format!("/openapi/v3/{place}?hash={hash}")
}

fn hash(catalog: &Catalog, group: &str, version: &str) -> String {
    let custom: Vec<String> = catalog
        .of_version(group, version)
        .filter_map(|it| {
            let custom = it.custom.as_ref()?;
            let names = [&it.kind, &it.plural, &it.list_kind()].map(|it| format!("{it} "));
            let (shape, fields) = ((it.namespaced, &it.subresources), &custom.selectable);
            Some(format!("{}{shape:?}{fields:?}{}", names.concat(), custom.schema))
        })
        .collect();
    if custom.is_empty() {
        return BUILTIN_HASH.clone();
    }
    hash_of((custom.concat() + FORM).as_bytes())
}

fn v3(
    catalog: &Catalog,
    group: &str,
    version: &str,
    head: &Parts,
    now: Timestamp,
) -> Result<Response<Body>, Status> {
    let media = media(&head.headers, protobuf::THIRD)?;
    let etag = hash(catalog, group, version);
    let query = head.uri.query().unwrap_or_default().split('&');
    let wanted = query.filter_map(|it| it.strip_prefix("hash=")).find(|it| !it.is_empty());
    if wanted.is_some_and(|it| it != etag) {
        return Ok(moved(&url(&place(group, version), &etag)));
    }
    let document = third(catalog, group, version);
    let bytes = match media {
        JSON => document.to_string().into(),
        _ => protobuf::third(&document).into(),
    };
    let mut response = Told { media, bytes, etag }.answer(&head.headers);
    if wanted.is_some() {
        keep_for_ever(response.headers_mut(), now);
    }
    Ok(response)
}

/// Whoever asks for a document that is no more is sent to the one that is.
fn moved(url: &str) -> Response<Body> {
    let body = format!("<a href=\"{url}\">Moved Permanently</a>.\n\n");
    let mut response = Response::new(transport::full(body));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(url) = HeaderValue::from_str(url) {
        headers.insert(header::LOCATION, url);
    }
    response
}

/// What is named by its hash never changes; a year is as long as headers can say.
fn keep_for_ever(headers: &mut HeaderMap, now: Timestamp) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    let end = now.to_zoned(TimeZone::UTC).saturating_add(1.year());
    let end = end.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(end) = HeaderValue::from_str(&end) {
        headers.insert(header::EXPIRES, end);
    }
}

fn third(catalog: &Catalog, group: &str, version: &str) -> Value {
    let all = builtin_schemas();
    let (mut schemas, mut paths) = (Map::new(), Map::new());
    for resource in catalog.of_version(group, version).filter(|it| it.delegated.is_none()) {
        add_schemas(&mut schemas, &all, resource);
        paths::add_paths(&mut paths, resource, &schema_name(resource), Version::Third);
    }
    schemas.extend([paths::patch_schema()]);
    for shared in [
        "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    ] {
        add_closure(&mut schemas, &all, shared);
    }
    json!({
        "openapi": "3.0.0", "info": { "title": "Kubernetes", "version": "unversioned" },
        "paths": paths, "components": { "schemas": schemas },
    })
}

fn v2(merged: &Merged, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let media = media(headers, protobuf::SECOND)?;
    let document = second(merged);
    let json: Bytes = document.to_string().into();
    let etag = hash_of(&json);
    let bytes = if media == JSON { json } else { protobuf::second(&document).into() };
    Ok(Told { media, bytes, etag }.answer(headers))
}

fn second(merged: &Merged) -> Value {
    let mut definitions = builtin_schemas();
    without_alternatives(&mut definitions);
    let mut paths = Map::new();
    let own = merged.catalog.all().iter().filter(|it| it.delegated.is_none());
    for resource in own.filter(|it| !merged.is_remote(&it.group, &it.version)) {
        if resource.custom.is_some() {
            definitions.insert(schema_name(resource), second_schema(resource));
        }
        let name = schema_name(resource);
        paths::add_paths(&mut paths, resource, &name, Version::Second);
        if !resource.is_virtual {
            definitions.insert(format!("{name}List"), list_schema(resource, &name));
        }
    }
    definitions.extend([paths::patch_schema()]);
    merged.add_v2(&mut paths, &mut definitions);
    definitions.values_mut().for_each(refer_plainly);
    json!({
        "swagger": "2.0", "info": { "title": "Kubernetes", "version": "unversioned" },
        "paths": paths, "definitions": definitions, "parameters": parameters::shared(),
    })
}

/// References as version 2 has them. One with a description beside it is in `allOf` in version 3, and
/// never here.
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
            if let Some(Value::String(at)) = fields.get_mut("$ref")
                && let Some(name) = at.strip_prefix(REFERENCE)
            {
                *at = format!("#/definitions/{name}");
            }
            fields.values_mut().for_each(refer_plainly);
        }
        _ => {}
    }
}

/// The schemas with what the generator does not know: kinds, merge keys, list types.
fn builtin_schemas() -> Map<String, Value> {
    let mut document = schema::document();
    let Value::Object(mut schemas) = document["schemas"].take() else { return Map::new() };
    for (name, schema) in &mut schemas {
        let short = name.rsplit('.').next().unwrap_or(name).to_owned();
        if let Some(kind) = document["kinds"].get(name) {
            schema["x-kubernetes-group-version-kind"] = json!([kind]);
            // The generator requires `metadata`; clients may leave it out.
            if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
                required.retain(|it| it != "metadata");
                if required.is_empty() {
                    schema.as_object_mut().map(|it| it.remove("required"));
                }
            }
        }
        if merge_keys::ATOMIC_OBJECTS.contains(&short.as_str()) {
            schema["x-kubernetes-map-type"] = "atomic".into();
        }
        let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
        for (field, property) in properties.into_iter().flatten() {
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
    let Some(fields) = schema.as_object_mut() else { return };
    let types = match name {
        "IntOrString" => {
            fields.insert("format".into(), "int-or-string".into());
            json!([{ "type": "integer" }, { "type": "string" }])
        }
        "Quantity" => json!([{ "type": "string" }, { "type": "number" }]),
        _ => return,
    };
    fields.remove("x-kubernetes-int-or-string");
    fields.insert("oneOf".into(), types);
}

/// Version 2 knows of no alternatives: the named scalars are texts there.
fn without_alternatives(definitions: &mut Map<String, Value>) {
    for (name, definition) in definitions {
        let Some(fields) = definition.as_object_mut() else { continue };
        let is_scalar = name.ends_with(".Quantity") || name.ends_with(".IntOrString");
        if fields.remove("oneOf").is_some() && is_scalar {
            fields.insert("type".into(), "string".into());
        }
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

/// A custom resource's schema in the document of version 2. Where anything may be, nothing is named: its
/// readers take what is named for all that there is.
fn second_schema(resource: &Resource) -> Value {
    let schema = resource.custom.as_ref().map(|it| it.schema.clone()).unwrap_or_default();
    if reduced::is_open(&schema) {
        let kind =
            json!({ "group": resource.group, "version": resource.version, "kind": resource.kind });
        return json!({ "type": "object", "x-kubernetes-group-version-kind": [kind] });
    }
    let mut schema = schema;
    reduced::reduce(&mut schema);
    with_common(schema, resource)
}

fn custom_schema(resource: &Resource) -> Value {
    let mut schema = resource.custom.as_ref().map(|it| it.schema.clone()).unwrap_or_default();
    if !schema.is_object() {
        schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    }
    with_common(schema, resource)
}

/// A custom resource's schema with what every object has.
fn with_common(mut schema: Value, resource: &Resource) -> Value {
    let custom = resource.custom.as_ref();
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
        if let Some(kind) = paths::subresource_schema(subresource) {
            add_closure(schemas, all, kind);
        }
    }
    if resource.is_virtual {
        return;
    }
    schemas.insert(format!("{name}List"), list_schema(resource, &name));
    add_closure(schemas, all, "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta");
}

/// A list of objects of the schema of that name.
fn list_schema(resource: &Resource, name: &str) -> Value {
    json!({
        "type": "object", "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string" }, "kind": { "type": "string" },
            "items": { "type": "array", "items": { "$ref": format!("{REFERENCE}{name}") } },
            "metadata": { "allOf": [{ "$ref": format!("{REFERENCE}io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta") }] },
        },
        "x-kubernetes-group-version-kind": [{
            "group": resource.group, "version": resource.version, "kind": resource.list_kind(),
        }],
    })
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
