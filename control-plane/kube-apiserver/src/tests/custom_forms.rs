//! What custom resources look like once they are stored, and how faults in them are told.

use http::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};

use super::Cluster;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

fn definition(spec: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]}})
}

async fn defined(spec: Value) -> Cluster {
    let cluster = Cluster::start().await;
    let (code, made) = cluster.post(DEFINITIONS, definition(spec)).await;
    assert_eq!(code, 201, "{made}");
    cluster
}

fn object(properties: Value) -> Value {
    json!({"type": "object", "properties": properties})
}

fn widget(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec})
}

async fn apply(cluster: &Cluster, manager: &str, spec: Value) -> (u16, Value) {
    let path = format!("{WIDGETS}/w?fieldManager={manager}");
    let (code, answer) = cluster.patch(&path, "apply-patch+yaml", widget(spec)).await;
    (code.as_u16(), answer)
}

#[tokio::test]
async fn an_element_is_told_apart_by_the_defaults_of_its_keys_too() {
    let mut item = object(json!({"k": {"type": "string"}, "v": {"type": "integer"},
        "p": {"type": "string", "default": "TCP"}}));
    item["required"] = json!(["k"]);
    let list = json!({"type": "array", "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k", "p"], "items": item});
    let cluster = defined(object(json!({"map": list}))).await;
    let spec = json!({"map": [{"k": "http", "v": 80}]});
    for (manager, wanted) in [("a", 201), ("a", 200), ("b", 200)] {
        let (code, answer) = apply(&cluster, manager, spec.clone()).await;
        assert_eq!(code, wanted, "{answer}");
        assert_eq!(answer["spec"]["map"], json!([{"k": "http", "p": "TCP", "v": 80}]));
        let owned = &answer["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:map"];
        assert!(owned[r#"k:{"k":"http","p":"TCP"}"#]["f:v"].is_object(), "{owned}");
    }
    let more = json!({"map": [{"k": "http", "v": 80}, {"k": "http", "p": "UDP"}]});
    assert_eq!(apply(&cluster, "a", more).await.1["spec"]["map"].as_array().unwrap().len(), 2);
    let (code, left) = apply(&cluster, "a", json!({})).await;
    assert_eq!(code, 200, "{left}");
    assert_eq!(left["spec"]["map"], json!([{"k": "http", "p": "TCP", "v": 80}]), "b has it still");
    let (_, gone) = apply(&cluster, "b", json!({})).await;
    assert_eq!(gone["spec"].get("map"), None);
}

#[tokio::test]
async fn whole_numbers_have_no_fraction_however_they_are_written() {
    let number = json!({"type": "number"});
    let spec = object(
        json!({"n": number, "big": number, "part": number, "whole": {"type": "integer"},
        "one": {"type": "number", "enum": [1.0, 2.5]}, "default": {"type": "number", "default": 4.0},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}),
    );
    let cluster = defined(spec).await;
    let body = r#"{"metadata": {"name": "w"}, "spec": {"n": 1.0, "big": 1e3, "part": 1.5, "whole": 2.0,
        "one": 1, "any": {"list": [3.0]}}}"#;
    let headers = [(CONTENT_TYPE, "application/json")];
    let (head, made) = cluster.exchange("POST", WIDGETS, &headers, body).await;
    assert_eq!(head.status, 201, "{}", String::from_utf8_lossy(&made));
    let shown = cluster.text(&format!("{WIDGETS}/w")).await;
    for part in [
        r#""n":1,"#,
        r#""big":1000,"#,
        r#""part":1.5,"#,
        r#""whole":2"#,
        r#""one":1,"#,
        r#""default":4,"#,
        r#""list":[3]"#,
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let patch = json!({"spec": {"n": 7.0}});
    let (_, patched) = cluster.patch(&format!("{WIDGETS}/w"), "merge-patch+json", patch).await;
    assert_eq!(patched["spec"]["n"], json!(7));
}

#[tokio::test]
async fn an_object_within_another_is_checked_as_an_object() {
    let spec = object(json!({"emb": {"type": "object", "x-kubernetes-embedded-resource": true,
        "x-kubernetes-preserve-unknown-fields": true}}));
    let cluster = defined(spec).await;
    let embedded = |kind: Value, metadata: Value| {
        widget(json!({"emb": {"apiVersion": "v1", "kind": kind, "metadata": metadata}}))
    };
    let (code, refused) = cluster.post(WIDGETS, embedded(json!("x"), json!({"labels": 5}))).await;
    assert_eq!(code, 400, "{refused}");
    assert_eq!(
        refused["message"],
        "Widget in version \"v1\" cannot be handled as a Widget: spec.emb.metadata: Invalid value: \
         {\"labels\":5}: json: cannot unmarshal number into Go struct field ObjectMeta.labels of type \
         map[string]string"
    );
    let (code, _) = cluster.post(WIDGETS, embedded(json!(5), json!({}))).await;
    assert_eq!(code, 400);
    let wrong = json!({"labels": {"-": "a b"}, "name": "a/b", "namespace": "A"});
    let (code, refused) = cluster.post(WIDGETS, embedded(json!("9x y"), wrong)).await;
    assert_eq!(code, 422, "{refused}");
    let causes = refused["details"]["causes"].as_array().unwrap();
    let told = |field: &str, part: &str| {
        let found = |it: &&Value| it["field"] == field && it["message"].to_string().contains(part);
        assert!(causes.iter().find(found).is_some(), "{field} in {causes:?}");
    };
    told("spec.emb.kind", "may have mixed case, but should otherwise match: a DNS-1035 label");
    told("spec.emb.metadata.labels", "a valid label must be");
    told("spec.emb.metadata.labels", "name part must consist of");
    told("spec.emb.metadata.name", "may not contain '/'");
    told("spec.emb.metadata.namespace", "a lowercase RFC 1123 label");
    let good = json!({"labels": {"a": "b"}, "name": "Any.Name", "annotations": {}});
    let (code, made) = cluster.post(WIDGETS, embedded(json!("MixedCase"), good)).await;
    assert_eq!(code, 201, "{made}");
    let wanted = json!({"labels": {"a": "b"}, "name": "Any.Name"});
    assert_eq!(made["spec"]["emb"]["metadata"], wanted);
}

#[tokio::test]
async fn what_is_empty_in_a_custom_resources_metadata_is_not_kept() {
    let cluster = defined(object(json!({}))).await;
    let empty = json!({"metadata": {"name": "w", "labels": {}, "annotations": {}, "finalizers": [],
        "ownerReferences": []}});
    let (code, made) = cluster.post(WIDGETS, empty).await;
    assert_eq!(code, 201, "{made}");
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        assert_eq!(made["metadata"].get(field), None, "{made}");
    }
}

#[tokio::test]
async fn a_custom_resource_of_another_version_or_kind_is_refused_in_upstreams_words() {
    let cluster = defined(object(json!({}))).await;
    let mut other = widget(json!({}));
    other["apiVersion"] = "example.com/v2".into();
    let (code, refused) = cluster.post(WIDGETS, other).await;
    assert_eq!(code, 400);
    assert_eq!(
        refused["message"],
        "the API version in the data (example.com/v2) does not match the expected API version \
         (example.com/v1)"
    );
    let mut other = widget(json!({}));
    other["kind"] = "Gadget".into();
    let (code, refused) = cluster.post(WIDGETS, other).await;
    assert_eq!(code, 422);
    assert_eq!(
        refused["message"],
        "Gadget.example.com \"w\" is invalid: kind: Invalid value: \"Gadget\": must be Widget"
    );
    let (code, refused) = cluster.put(&format!("{WIDGETS}/w"), widget(json!({}))).await;
    assert_eq!((code.as_u16(), &refused["reason"]), (404, &json!("NotFound")), "{refused}");
}

#[tokio::test]
async fn columns_say_what_they_are() {
    let cluster = Cluster::start().await;
    let mut columns = definition(object(json!({})));
    columns["spec"]["versions"][0]["additionalPrinterColumns"] = json!([
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Color", "type": "string", "jsonPath": ".spec.color", "description": "its color"}]);
    assert_eq!(cluster.post(DEFINITIONS, columns).await.0, 201);
    let headers = [(ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let (_, body) = cluster.exchange("GET", WIDGETS, &headers, "").await;
    let table: Value = serde_json::from_slice(&body).unwrap();
    let told = |at: usize| table["columnDefinitions"][at]["description"].as_str().unwrap();
    assert!(told(0).starts_with("Name must be unique within a namespace."), "{table}");
    assert_eq!(told(1), "Custom resource definition column (in JSONPath format): .spec.size");
    assert_eq!(told(2), "its color");
}

#[tokio::test]
async fn a_definition_of_a_protected_group_says_whether_it_is_approved() {
    let cluster = Cluster::start().await;
    let mut protected = definition(object(json!({})));
    protected["spec"]["group"] = "example.k8s.io".into();
    protected["metadata"]["name"] = "widgets.example.k8s.io".into();
    protected["metadata"]["annotations"] =
        json!({"api-approved.kubernetes.io": "unapproved, a test"});
    let (code, made) = cluster.post(DEFINITIONS, protected).await;
    assert_eq!(code, 201, "{made}");
    let condition = |definition: &Value| {
        let all = definition["status"]["conditions"].as_array().unwrap();
        let found = all.iter().find(|it| it["type"] == "KubernetesAPIApprovalPolicyConformant");
        let found = found.unwrap_or(&Value::Null);
        json!([found["status"], found["reason"], found["message"]])
    };
    let wanted = json!(["False", "UnapprovedAnnotation", "not approved: \"unapproved, a test\""]);
    assert_eq!(condition(&made), wanted);
    let url = "https://github.com/kubernetes/kubernetes/pull/1";
    let place = format!("{DEFINITIONS}/widgets.example.k8s.io");
    let patch = json!({"metadata": {"annotations": {"api-approved.kubernetes.io": url}}});
    let (_, patched) = cluster.patch(&place, "merge-patch+json", patch).await;
    let wanted = json!(["True", "ApprovedAnnotation", format!("approved in {url}")]);
    assert_eq!(condition(&patched), wanted);
    let patch = json!({"metadata": {"annotations": null}});
    let (_, patched) = cluster.patch(&place, "merge-patch+json", patch).await;
    assert_eq!(condition(&patched)[1], "MissingAnnotation", "{patched}");
}

#[tokio::test]
async fn whoever_makes_a_definition_owns_its_defaults() {
    let cluster = Cluster::start().await;
    let (_, made) = cluster.post(DEFINITIONS, definition(object(json!({})))).await;
    let owned = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert!(owned["f:conversion"]["f:strategy"].is_object(), "{owned}");
    assert!(owned["f:names"]["f:listKind"].is_object(), "{owned}");
    assert!(owned["f:names"]["f:singular"].is_object(), "{owned}");
    let mut second = definition(object(json!({})));
    second["spec"]["names"]["plural"] = "gadgets".into();
    second["metadata"]["name"] = "gadgets.example.com".into();
    let (_, second) = cluster.post(DEFINITIONS, second).await;
    assert_eq!(second["status"]["acceptedNames"]["kind"], "", "{second}");
}

#[tokio::test]
async fn the_older_document_does_not_tell_the_types_of_what_may_be_null_or_anything() {
    let spec = object(json!({"maybe": {"type": "string", "nullable": true}}));
    let cluster = defined(spec).await;
    let mut open = definition(json!({"type": "object"}));
    open["spec"]["group"] = "open.example.com".into();
    open["metadata"]["name"] = "widgets.open.example.com".into();
    open["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-preserve-unknown-fields"] =
        true.into();
    assert_eq!(cluster.post(DEFINITIONS, open).await.0, 201);
    let document = cluster.get("/openapi/v2").await;
    let closed = &document["definitions"]["com.example.v1.Widget"]["properties"];
    assert_eq!(closed["spec"]["properties"]["maybe"], json!({}), "{closed}");
    assert!(closed["metadata"]["$ref"].is_string(), "{closed}");
    let open = &document["definitions"]["com.example.open.v1.Widget"];
    assert_eq!((&open["type"], open.get("properties")), (&json!("object"), None), "{open}");
}
