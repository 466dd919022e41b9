//! `kubectl explain` for every built-in type: it finds a kind in `/openapi/v3` by the resource's group
//! and version, then follows fields by name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Cluster;
use crate::{
    resources::Catalog,
    schema::{self, Object, Shape},
};

const REFERENCE: &str = "#/components/schemas/";

/// Fields that upstream's own documents say nothing about.
const UNTOLD: [(&str, &str); 2] =
    [("CertificateSigningRequest", "metadata"), ("IngressRule", "http")];

/// The schema that a field's leads to.
fn target<'a>(schemas: &'a Value, mut field: &'a Value) -> Option<(&'a str, &'a Value)> {
    loop {
        if field["items"].is_object() {
            field = &field["items"];
        } else if field["additionalProperties"].is_object() {
            field = &field["additionalProperties"];
        } else {
            let link = field["$ref"].as_str().or_else(|| field["allOf"][0]["$ref"].as_str())?;
            let name = link.strip_prefix(REFERENCE).expect("a reference within the document");
            let schema = &schemas[name];
            assert!(schema.is_object(), "{name} is referred to and not there");
            return Some((name, schema));
        }
    }
}

fn inner(shape: &Shape) -> &Shape {
    match shape {
        Shape::List(of) | Shape::Map(of) => inner(of),
        other => other,
    }
}

/// All that can be explained below a schema, against what the server decodes by.
fn walk(schemas: &Value, name: &str, schema: &Value, seen: &mut BTreeSet<String>) -> usize {
    if !seen.insert(name.to_owned()) {
        return 0;
    }
    let known = schema::find(name);
    let told = schema["properties"].as_object();
    let kind = name.rsplit('.').next().unwrap_or_default();
    assert!(schema["description"].is_string(), "{name} has no description");
    let fields = |it: &Object| it.fields.keys().cloned().collect::<Vec<_>>();
    let told_names: Vec<String> = told.map(|it| it.keys().cloned().collect()).unwrap_or_default();
    assert_eq!(told_names, known.as_deref().map(fields).unwrap_or_default(), "{name}");
    let mut count = told_names.len();
    for (field, property) in told.into_iter().flatten() {
        let at = format!("{name}.{field}");
        let is_told = property["description"].is_string()
            || kind.starts_with("JSONSchemaProps")
            || kind == "ExternalDocumentation"
            || UNTOLD.contains(&(kind, field));
        assert!(is_told, "{at} has no description");
        let shape = known.as_ref().map(|it| it.fields[field].shape.clone());
        match target(schemas, property) {
            Some((next, below)) => count += walk(schemas, next, below, seen),
            None => {
                let is_object = shape.as_ref().is_some_and(|it| inner(it).object().is_some());
                assert!(!is_object, "{at} leads nowhere");
                assert!(property["type"].is_string() || kind.starts_with("JSON"), "{at}");
            }
        }
    }
    count
}

#[tokio::test]
async fn every_field_of_every_built_in_type_can_be_explained() {
    let cluster = Cluster::start().await;
    let index = cluster.get("/openapi/v3").await;
    let mut documents: BTreeMap<String, Value> = BTreeMap::new();
    let (mut kinds, mut fields) = (0, 0);
    for resource in Catalog::builtin().all() {
        let path = match resource.group.as_str() {
            "" => format!("api/{}", resource.version),
            group => format!("apis/{group}/{}", resource.version),
        };
        if !documents.contains_key(&path) {
            let url = index["paths"][&path]["serverRelativeURL"].as_str();
            let url = url.unwrap_or_else(|| panic!("{path} is not in the index"));
            let document = cluster.get(url).await;
            documents.insert(path.clone(), document);
        }
        let schemas = &documents[&path]["components"]["schemas"];
        let is_it = |schema: &Value| {
            let mut kinds =
                schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
            kinds.any(|it| {
                it["group"] == resource.group.as_str()
                    && it["version"] == resource.version.as_str()
                    && it["kind"] == resource.kind.as_str()
            })
        };
        let all = schemas.as_object().expect("schemas");
        let found: Vec<_> = all.iter().filter(|(_, schema)| is_it(schema)).collect();
        let [(name, schema)] = found[..] else {
            panic!("{path} {}: {} schemas have that kind", resource.kind, found.len())
        };
        kinds += 1;
        fields += walk(schemas, name, schema, &mut BTreeSet::new());
    }
    assert!(kinds > 60 && fields > 4000, "{kinds} kinds with {fields} fields");
}
