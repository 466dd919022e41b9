//! `fieldValidation`: what is unknown or stands twice, in each kind of body and patch.
//!
//! Upstream: test/integration/apiserver/field_validation_test.go.

use http::header::{CONTENT_TYPE, WARNING};
use serde_json::{Value, json};

use super::Cluster;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

/// Changes that a deployment does not know, or that stand twice.
const CHANGES: &str = r#"{"spec": {"odd": 1, "twice": 1, "twice": 2, "paused": true, "paused": false,
    "template": {"spec": {"containers": [{"name": "c", "image": "i", "nested": 1,
        "imagePullPolicy": "Always", "imagePullPolicy": "Never"}]}}}}"#;

const OPERATIONS: &str = r#"[
    {"op": "add", "path": "/spec/odd", "value": 1, "foo": "bar"},
    {"op": "add", "path": "/spec/other", "path": "/spec/another", "value": 1}]"#;

/// The end of what a strict request is told, and what another one is warned of.
async fn told(cluster: &Cluster, method: &str, path: &str, media: &str, body: &str) -> Vec<String> {
    let headers = [(CONTENT_TYPE, media)];
    let strict = format!("{path}?fieldManager=m&fieldValidation=Strict");
    let (head, refused) = cluster.send(method, &strict, &headers, body.to_owned()).await;
    let message = refused["message"].as_str().unwrap().to_owned();
    let (_, faults) = message.split_once("strict decoding error: ").unwrap_or(("", &message));
    assert_eq!(head.status, if method == "PATCH" { 422 } else { 400 }, "{message}");
    let (head, made) =
        cluster.send(method, &format!("{path}?fieldManager=m"), &headers, body.to_owned()).await;
    assert!(head.status.is_success(), "{made}");
    let warnings = head.headers.get_all(WARNING).iter().map(|it| {
        let text = it.to_str().unwrap().strip_prefix("299 - \"").unwrap();
        text.strip_suffix('"').unwrap().replace("\\\"", "\"")
    });
    let warnings: Vec<String> = warnings.collect();
    assert_eq!(faults, warnings.join(", "), "the same is told in both ways");
    warnings
}

#[tokio::test]
async fn a_body_is_told_its_faults_in_its_order() {
    let cluster = Cluster::start().await;
    let sent = r#"{"metadata": {"name": "a", "name": "d", "odd": 1}, "spec": {"twice": 1, "twice": 2,
        "paused": true, "paused": false, "selector": {"matchLabels": {"a": "b"}}, "template":
        {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}"#;
    let found = told(&cluster, "POST", DEPLOYMENTS, "application/json", sent).await;
    assert_eq!(
        found,
        [
            "duplicate field \"metadata.name\"",
            "unknown field \"metadata.odd\"",
            "unknown field \"spec.twice\"",
            "duplicate field \"spec.paused\"",
        ]
    );
}

#[tokio::test]
async fn a_patch_is_told_what_stands_twice_in_it_and_then_what_the_object_does_not_have() {
    let cluster = Cluster::start().await;
    let (merge, strategic) =
        ("application/merge-patch+json", "application/strategic-merge-patch+json");
    for (name, media) in [("m", merge), ("s", strategic)] {
        assert_eq!(cluster.post(DEPLOYMENTS, deployment(name)).await.0, 201);
        let path = format!("{DEPLOYMENTS}/{name}");
        assert_eq!(
            told(&cluster, "PATCH", &path, media, CHANGES).await,
            [
                "duplicate field \"spec.twice\"",
                "duplicate field \"spec.paused\"",
                "duplicate field \"spec.template.spec.containers[0].imagePullPolicy\"",
                "unknown field \"spec.odd\"",
                "unknown field \"spec.template.spec.containers[0].nested\"",
                "unknown field \"spec.twice\"",
            ]
        );
    }
    let path = format!("{DEPLOYMENTS}/m");
    let json = "application/json-patch+json";
    assert_eq!(
        told(&cluster, "PATCH", &path, json, OPERATIONS).await,
        [
            "json patch unknown field \"[0].foo\"",
            "json patch duplicate field \"[1].path\"",
            "unknown field \"spec.another\"",
            "unknown field \"spec.odd\"",
        ]
    );
    let odd = r#"{"spec": {"odd": {"a": [1, null, "x"]}}}"#;
    let strict = format!("{path}?fieldValidation=Strict");
    let refused = cluster.send("PATCH", &strict, &[(CONTENT_TYPE, strategic)], odd).await.1;
    assert_eq!(
        refused["message"],
        " \"\" is invalid: patch: Invalid value: \"map[spec:map[odd:map[a:[1 <nil> x]]]]\": strict \
         decoding error: unknown field \"spec.odd\""
    );
}

#[tokio::test]
async fn a_custom_resource_is_told_what_stands_twice_and_then_what_its_schema_lacks() {
    let cluster = Cluster::start().await;
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "known": {"type": "string"},
        "inner": {"type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true}}}}});
    let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": schema}}]}});
    let place = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(cluster.post(place, definition).await.0, 201);
    let sent = r#"{"metadata": {"name": "a", "name": "w", "odd": 1}, "spec": {"twice": 1, "twice": 2,
        "known": "a", "known": "b", "another": 1, "inner": {"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "i", "odd": 1}}}}"#;
    let path = "/apis/example.com/v1/namespaces/default/widgets";
    assert_eq!(
        told(&cluster, "POST", path, "application/json", sent).await,
        [
            "duplicate field \"metadata.name\"",
            "duplicate field \"spec.twice\"",
            "duplicate field \"spec.known\"",
            "unknown field \"metadata.odd\"",
            "unknown field \"spec.another\"",
            "unknown field \"spec.twice\"",
            "unknown field \"spec.inner.metadata.odd\"",
        ]
    );
}
