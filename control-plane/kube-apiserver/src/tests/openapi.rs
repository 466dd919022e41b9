//! `/openapi/v2` and `/openapi/v3` as clients ask for them: in which form, and whether anew.

use std::collections::BTreeSet;

use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, HeaderName, IF_NONE_MATCH, LOCATION, VARY,
};
use serde_json::{Value, json};

use super::Cluster;
use crate::openapi::protobuf::read;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const SECOND: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const THIRD: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

/// A schema with all that a schema can say.
async fn define(cluster: &Cluster) {
    let schema = json!({
        "type": "object", "title": "a widget", "required": ["spec"],
        "properties": {"spec": {
            "type": "object", "nullable": true, "minProperties": 1, "maxProperties": 9,
            "externalDocs": {"url": "https://example.com"}, "example": {"size": 1},
            "properties": {
                "size": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 9.5,
                    "exclusiveMaximum": true, "exclusiveMinimum": false, "default": 3,
                    "multipleOf": 0.5},
                "port": {"x-kubernetes-int-or-string": true,
                    "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "name": {"type": "string", "pattern": "^a+$", "minLength": 1, "maxLength": 5,
                    "enum": ["a", "aa"], "not": {"enum": ["aaa"]}, "default": "a"},
                "on": {"type": "boolean", "default": false, "oneOf": [{"enum": [true, false]}]},
                "all": {"type": "array", "items": {"type": "string"}, "minItems": 0, "maxItems": 2,
                    "x-kubernetes-list-type": "set", "default": ["x", "y"],
                    "allOf": [{"maxItems": 2}]},
                "more": {"type": "object", "additionalProperties": {"type": "string"},
                    "default": {}},
                "x-ray": {"type": "string"},
            },
        }},
    });
    let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": schema}}],
    }});
    let (code, made) = cluster.post(DEFINITIONS, definition).await;
    assert_eq!(code, 201, "{made}");
}

/// Without what a message cannot tell from nothing: empty lists; and a default that is a list or an
/// object, of which it tells no more than that it is there.
fn told(value: &mut Value, is_third: bool) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(|it| told(it, is_third)),
        Value::Object(fields) => {
            fields.retain(|_, it| it.as_array().is_none_or(|it| !it.is_empty()));
            for (name, it) in fields {
                if is_third && name == "default" && (it.is_array() || *it == json!({})) {
                    *it = Value::Null;
                }
                told(it, is_third);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn documents_say_the_same_in_json_and_as_protobuf() {
    let cluster = Cluster::start().await;
    define(&cluster).await;
    for name in [THIRD, "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"] {
        for path in ["api/v1", "apis/apps/v1", "apis/example.com/v1"] {
            let path = format!("/openapi/v3/{path}");
            let (json, mut wanted) = cluster.send("GET", &path, &[], "").await;
            let (head, body) = cluster.exchange("GET", &path, &[(ACCEPT, name)], "").await;
            assert_eq!(
                (head.status.as_u16(), head.headers[CONTENT_TYPE].to_str().unwrap()),
                (200, THIRD)
            );
            assert_eq!(head.headers[ETAG], json.headers[ETAG]);
            assert_eq!(head.headers[VARY], "Accept");
            told(&mut wanted, true);
            let found = read::third(&body);
            assert_eq!((&found["openapi"], &found["info"]), (&wanted["openapi"], &wanted["info"]));
            same(&found["paths"], &wanted["paths"]);
            same(&found["components"]["schemas"], &wanted["components"]["schemas"]);
        }
    }
    let mut wanted = cluster.get("/openapi/v2").await;
    let (head, body) = cluster.exchange("GET", "/openapi/v2", &[(ACCEPT, SECOND)], "").await;
    assert_eq!((head.status.as_u16(), head.headers[CONTENT_TYPE].to_str().unwrap()), (200, SECOND));
    // Version 2 has no words for all that a schema of a definition says.
    let schemas = wanted["definitions"].as_object_mut().unwrap();
    let spec = &mut schemas["com.example.v1.Widget"]["properties"]["spec"];
    without_newer(spec);
    told(&mut wanted, false);
    let found = read::second(&body);
    assert_eq!((&found["swagger"], &found["info"]), (&wanted["swagger"], &wanted["info"]));
    same(&found["paths"], &wanted["paths"]);
    same(&found["definitions"], &wanted["definitions"]);
    same(&found["parameters"], &wanted["parameters"]);
}

/// What every reader of such a document relies on.
fn check(document: &Value, path: &str) {
    let (mut ids, mut count) = (BTreeSet::new(), 0);
    for (template, item) in document["paths"].as_object().unwrap() {
        let in_path = |all: &Value| -> BTreeSet<String> {
            let all = all.as_array().into_iter().flatten();
            let all = all.map(|it| match it["$ref"].as_str() {
                Some(at) => document.pointer(&at[1..]).unwrap(),
                None => it,
            });
            let own = all.filter(|it| it["in"] == "path").map(|it| it["name"].as_str().unwrap());
            own.map(str::to_owned).collect()
        };
        let named = template.split(['{', '}']).skip(1).step_by(2).map(str::to_owned).collect();
        assert_eq!(in_path(&item["parameters"]), named, "{path} {template}");
        for (method, operation) in
            item.as_object().unwrap().iter().filter(|it| it.0 != "parameters")
        {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} twice in {path}");
            let answers = operation["responses"].as_object().unwrap();
            assert!(
                answers.values().all(|it| it["description"].is_string()),
                "{method} {template}"
            );
            count += 1;
        }
    }
    assert!(count > 0, "{path}");
    references(document, &mut |at| {
        assert!(document.pointer(&at[1..]).is_some(), "{at} is nowhere in {path}");
    });
}

fn references(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Array(all) => all.iter().for_each(|it| references(it, found)),
        Value::Object(fields) => {
            fields.get("$ref").and_then(Value::as_str).into_iter().for_each(&mut *found);
            assert_ne!(fields.get("required"), Some(&json!([])), "the specification forbids it");
            fields.values().for_each(|it| references(it, found));
        }
        _ => {}
    }
}

#[tokio::test]
async fn every_document_names_all_that_it_refers_to_and_the_parameters_of_its_paths() {
    let cluster = Cluster::start().await;
    define(&cluster).await;
    let index = cluster.get("/openapi/v3").await;
    for entry in index["paths"].as_object().unwrap().values() {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        check(&cluster.get(url).await, url);
    }
    check(&cluster.get("/openapi/v2").await, "/openapi/v2");
}

/// The names of the parameters of an operation, followed to where they are.
fn parameters(document: &Value, path: &str, method: &str) -> String {
    let item = &document["paths"][path];
    let all = [&item["parameters"], &item[method]["parameters"]];
    let all = all.into_iter().flat_map(|it| it.as_array().into_iter().flatten());
    let name = |it: &Value| {
        let it = it["$ref"].as_str().map_or(it, |at| document.pointer(&at[1..]).unwrap());
        it["name"].as_str().unwrap().to_owned()
    };
    all.map(name).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn an_operation_tells_what_it_takes_as_upstreams_does() {
    let cluster = Cluster::start().await;
    define(&cluster).await;
    let pods = "/api/v1/namespaces/{namespace}/pods";
    let (second, third) =
        (cluster.get("/openapi/v2").await, cluster.get("/openapi/v3/api/v1").await);
    let list = "namespace pretty allowWatchBookmarks continue fieldSelector labelSelector limit \
                resourceVersion resourceVersionMatch sendInitialEvents timeoutSeconds watch";
    let write = "dryRun fieldManager fieldValidation";
    let delete = "dryRun gracePeriodSeconds ignoreStoreReadErrorWithClusterBreakingPotential \
                  orphanDependents propagationPolicy";
    let (one, status) = (format!("{pods}/{{name}}"), format!("{pods}/{{name}}/status"));
    for (document, body) in [(&second, "body "), (&third, "")] {
        assert_eq!(parameters(document, pods, "get"), list);
        assert_eq!(parameters(document, "/api/v1/pods", "get"), list.replace("namespace ", ""));
        assert_eq!(parameters(document, pods, "post"), format!("namespace pretty {body}{write}"));
        let named = format!("name namespace pretty {body}");
        for path in [&one, &status] {
            assert_eq!(parameters(document, path, "patch"), format!("{named}{write} force"));
        }
        assert_eq!(parameters(document, &one, "delete"), format!("{named}{delete}"));
        assert_eq!(document["paths"][&one]["get"]["operationId"], "readCoreV1NamespacedPod");
        assert_eq!(document["paths"][pods]["get"]["tags"], json!(["core_v1"]));
    }
    // kubectl reads these two in the operation itself.
    let patch = second["paths"][&one]["patch"]["parameters"].as_array().unwrap();
    for name in ["dryRun", "fieldValidation"] {
        assert!(patch.iter().any(|it| it["name"] == name), "{name}");
    }
    let list = &second["paths"][pods]["get"]["responses"]["200"]["schema"]["$ref"];
    assert_eq!(*list, "#/definitions/io.k8s.api.core.v1.PodList");
    let body = &third["paths"][&one]["put"]["requestBody"]["content"]["*/*"]["schema"]["$ref"];
    assert_eq!(*body, "#/components/schemas/io.k8s.api.core.v1.Pod");
    let widgets = "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}";
    let taken = &second["paths"][widgets]["patch"]["consumes"];
    assert_eq!(taken.as_array().map(Vec::len), Some(3), "no strategic merge: {taken}");
    let taken = &second["paths"][widgets]["put"]["consumes"];
    assert_eq!(*taken, json!(["application/json", "application/yaml"]));
    assert_eq!(parameters(&second, widgets, "get"), "name namespace pretty resourceVersion");
    let log = parameters(&second, &format!("{one}/log"), "get");
    assert!(log.contains("container follow") && log.ends_with("tailLines timestamps"), "{log}");
}

#[tokio::test]
async fn a_document_of_custom_resources_has_another_name_when_their_paths_change() {
    let cluster = Cluster::start().await;
    define(&cluster).await;
    let named = async || {
        let index = cluster.get("/openapi/v3").await;
        index["paths"]["apis/example.com/v1"]["serverRelativeURL"].clone()
    };
    let before = named().await;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com";
    let more = json!([
        {"op": "add", "path": "/spec/versions/0/subresources", "value": {"status": {}}},
    ]);
    let (code, said) = cluster.patch(path, "json-patch+json", more).await;
    assert_eq!(code, 200, "{said}");
    assert_ne!(named().await, before);
}

#[tokio::test]
async fn calls_are_named_without_what_names_cannot_have() {
    let cluster = Cluster::start().await;
    let definition = json!({"metadata": {"name": "things.cert-maker.io"}, "spec": {
        "group": "cert-maker.io", "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}}],
    }});
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(cluster.post(path, definition).await.0, 201);
    let document = cluster.get("/openapi/v3/apis/cert-maker.io/v1").await;
    let get = "/apis/cert-maker.io/v1/namespaces/{namespace}/things/{name}";
    let get = &document["paths"][get]["get"];
    assert_eq!(get["operationId"], "readCertMakerIoV1NamespacedThing");
    assert_eq!(get["tags"], json!(["certMakerIo_v1"]));
}

fn without_newer(schema: &mut Value) {
    let fields = schema.as_object_mut().unwrap();
    fields.retain(|name, _| !["nullable", "anyOf", "oneOf", "not"].contains(&name.as_str()));
    let properties = fields.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flatten().for_each(|(_, it)| without_newer(it));
}

/// Told entry by entry: the documents are long.
fn same(found: &Value, wanted: &Value) {
    let (found, wanted) = (found.as_object().unwrap(), wanted.as_object().unwrap());
    assert!(!wanted.is_empty());
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (name, wanted) in wanted {
        assert_eq!(found[name], *wanted, "{name}");
    }
}

#[tokio::test]
async fn the_form_of_a_document_is_the_first_that_a_client_takes() {
    let cluster = Cluster::start().await;
    for (path, protobuf) in [("/openapi/v2", SECOND), ("/openapi/v3/apis/apps/v1", THIRD)] {
        for (accept, wanted) in [
            ("", "application/json"),
            ("*/*", "application/json"),
            ("application/*", "application/json"),
            (&*format!("application/json;q=0.5, {protobuf}"), protobuf),
            (&*format!("*/*, {protobuf}"), protobuf),
            (&*format!("application/json, {protobuf}"), "application/json"),
        ] {
            let accept = [(ACCEPT, accept)];
            let headers = if accept[0].1.is_empty() { &[][..] } else { &accept[..] };
            let (head, _) = cluster.exchange("GET", path, headers, "").await;
            assert_eq!(
                (head.status.as_u16(), head.headers[CONTENT_TYPE].to_str().unwrap()),
                (200, wanted)
            );
        }
        let (head, _) = cluster.send("GET", path, &[(ACCEPT, "text/html")], "").await;
        assert_eq!(head.status, 406);
    }
}

#[tokio::test]
async fn a_document_that_a_client_has_is_not_sent_again() {
    let cluster = Cluster::start().await;
    for path in ["/openapi/v2", "/openapi/v3", "/openapi/v3/api/v1"] {
        let (head, _) = cluster.exchange("GET", path, &[], "").await;
        let etag = head.headers[ETAG].to_str().unwrap();
        let known: [(HeaderName, &str); 1] = [(IF_NONE_MATCH, etag)];
        let (head, body) = cluster.exchange("GET", path, &known, "").await;
        assert_eq!((head.status.as_u16(), body.len()), (304, 0), "{path}");
    }
    let before = cluster.exchange("GET", "/openapi/v2", &[], "").await.0.headers[ETAG].clone();
    define(&cluster).await;
    let after = cluster.exchange("GET", "/openapi/v2", &[], "").await.0.headers[ETAG].clone();
    assert_ne!(before, after);
}

#[tokio::test]
async fn a_document_is_kept_for_ever_by_its_hash_and_an_old_hash_leads_to_the_new_one() {
    let cluster = Cluster::start().await;
    let (head, _) = cluster.exchange("GET", "/openapi/v3/apis/apps/v1", &[], "").await;
    assert_eq!(head.headers[CACHE_CONTROL], "no-cache, private", "no hash was given");
    let index = cluster.get("/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let (head, _) = cluster.exchange("GET", url, &[(ACCEPT, THIRD)], "").await;
    assert_eq!(head.headers[CACHE_CONTROL], "public, immutable");
    assert!(head.headers[EXPIRES].to_str().unwrap().ends_with(" GMT"));
    let old = "/openapi/v3/apis/apps/v1?hash=OLD";
    let (head, _) = cluster.exchange("GET", old, &[], "").await;
    assert_eq!((head.status.as_u16(), head.headers[LOCATION].to_str().unwrap()), (301, url));
}
