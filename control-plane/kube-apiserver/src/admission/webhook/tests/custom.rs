//! Webhooks and custom resources, definitions, pods and webhooks themselves.

use super::*;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// Of widgets; their `data` has what is named and nothing else.
fn definition(fields: &[&str]) -> Value {
    let fields: serde_json::Map<String, Value> =
        fields.iter().map(|it| ((*it).to_owned(), json!({"type": "string"}))).collect();
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "data": {"type": "object", "properties": fields}}}});
    let version = |name: &str, is_stored: bool| json!({"name": name, "served": true, "storage": is_stored, "schema": schema});
    json!({"metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [version("v1", true), version("v2", false)]}})
}

fn rules(group: &str, version: &str, resource: &str, operations: Value) -> Value {
    json!({"rules": [{"operations": operations, "apiGroups": [group], "apiVersions": [version],
        "resources": [resource]}]})
}

/// Adds to `data` the field `next` when `last` is there.
async fn stage(last: &'static str, next: &str) -> Hook {
    let change = json!([{"op": "add", "path": format!("/data/{next}"), "value": "yes"}]);
    Hook::start(move |asked| {
        Some(match asked["object"]["data"][last].as_str() {
            Some("yes") => patch(&change),
            _ => json!({"allowed": true}),
        })
    })
    .await
}

#[tokio::test]
async fn what_webhooks_add_to_a_custom_resource_and_its_schema_lacks_is_dropped() {
    for (fields, wanted) in [
        (&["start", "one", "two"][..], json!({"start": "yes", "one": "yes", "two": "yes"})),
        (&["start", "one"], json!({"start": "yes", "one": "yes"})),
    ] {
        let cluster = Cluster::start().await;
        assert_eq!(cluster.post(DEFINITIONS, definition(fields)).await.0, 201);
        let (first, second) = (stage("start", "one").await, stage("one", "two").await);
        let of = || rules("example.com", "v1", "widgets", json!(["CREATE"]));
        let both =
            vec![first.webhook("a.example.com", of()), second.webhook("b.example.com", of())];
        configure(&cluster, "mutating", "m", both).await;
        let seen = Hook::friendly().await;
        configure(&cluster, "validating", "v", vec![seen.webhook("v.example.com", of())]).await;
        let widget = json!({"metadata": {"name": "w"}, "data": {"start": "yes"}});
        let (code, made) = cluster.post(WIDGETS, widget).await;
        assert_eq!((code.as_u16(), &made["data"]), (201, &wanted), "{made}");
        assert_eq!(seen.asked.lock()[0]["object"]["data"], wanted);
    }
}

#[tokio::test]
async fn a_custom_resource_is_changed_whichever_version_is_stored() {
    let cluster = Cluster::start().await;
    let mut wanted = definition(&["start", "one"]);
    assert_eq!(cluster.post(DEFINITIONS, wanted.clone()).await.0, 201);
    let widget = json!({"metadata": {"name": "w"}, "data": {}});
    assert_eq!(cluster.post(WIDGETS, widget).await.0, 201);
    for (version, is_stored) in [(0, false), (1, true)] {
        wanted["spec"]["versions"][version]["storage"] = is_stored.into();
    }
    let place = format!("{DEFINITIONS}/widgets.example.com");
    assert_eq!(cluster.patch(&place, "merge-patch+json", wanted).await.0, 200);
    let hook = stage("start", "one").await;
    let of = rules("example.com", "v1", "widgets", json!(["UPDATE"]));
    configure(&cluster, "mutating", "m", vec![hook.webhook("m.example.com", of)]).await;
    let start = json!({"data": {"start": "yes"}});
    let (code, now) = cluster.patch(&format!("{WIDGETS}/w"), "merge-patch+json", start).await;
    assert_eq!(code, 200, "{now}");
    assert_eq!(now["data"], json!({"start": "yes", "one": "yes"}));
    assert_eq!(hook.asked.lock()[0]["object"]["apiVersion"], "example.com/v1");
    let newer = cluster.get(&format!("{}/w", WIDGETS.replace("v1", "v2"))).await;
    assert_eq!(newer["data"], now["data"]);
}

#[tokio::test]
async fn a_definition_can_be_refused() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(|asked| {
        let is_allowed = asked["object"]["metadata"]["labels"]["wanted"] != "no";
        Some(json!({"allowed": is_allowed, "status": {"message": "not this one"}}))
    })
    .await;
    let of = rules("apiextensions.k8s.io", "*", "customresourcedefinitions", json!(["CREATE"]));
    configure(&cluster, "validating", "v", vec![hook.webhook("v.example.com", of)]).await;
    let mut unwanted = definition(&["a"]);
    unwanted["metadata"]["labels"] = json!({"wanted": "no"});
    let (code, refused) = cluster.post(DEFINITIONS, unwanted).await;
    let told = "admission webhook \"v.example.com\" denied the request: not this one";
    assert_eq!((code.as_u16(), &refused["message"]), (400, &json!(told)));
    assert_eq!(cluster.post(DEFINITIONS, definition(&["a"])).await.0, 201);
}

#[tokio::test]
async fn webhooks_do_not_stand_between_a_cluster_and_its_webhooks() {
    let cluster = Cluster::start().await;
    let refusing = Hook::start(|_| Some(json!({"allowed": false}))).await;
    for kind in ["mutating", "validating"] {
        let of = rules("admissionregistration.k8s.io", "*", "*", json!(["*"]));
        let name = format!("{kind}-all");
        configure(&cluster, kind, &name, vec![refusing.webhook("all.example.com", of)]).await;
    }
    for kind in ["mutating", "validating"] {
        let of = rules("", "v1", "invalid", json!(["CREATE"]));
        configure(&cluster, kind, "dummy", vec![refusing.webhook("d.example.com", of)]).await;
        let place = format!("{CONFIGURATIONS}/{kind}webhookconfigurations/dummy");
        let labels = json!({"metadata": {"labels": {"a": "b"}}});
        assert_eq!(cluster.patch(&place, "merge-patch+json", labels).await.0, 200);
        assert_eq!(cluster.delete(&place).await.0, 200);
    }
    assert_eq!(refusing.count(), 0);
}

#[tokio::test]
async fn a_container_that_a_webhook_adds_has_its_defaults() {
    let cluster = Cluster::start().await.with_default_account().await;
    let added = json!([{"op": "add", "path": "/spec/initContainers",
        "value": [{"name": "added", "image": "example.com/added"}]}]);
    let hook = Hook::start(move |_| Some(patch(&added))).await;
    let of = rules("", "v1", "pods", json!(["CREATE"]));
    configure(&cluster, "mutating", "m", vec![hook.webhook("m.example.com", of)]).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "c", "image": "example.com/c"}]}});
    let (code, made) = cluster.post("/api/v1/namespaces/default/pods", pod).await;
    assert_eq!(code, 201, "{made}");
    let container = &made["spec"]["initContainers"][0];
    assert_eq!(container["name"], "added");
    assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(container["terminationMessagePolicy"], "File");
    assert_eq!(container["imagePullPolicy"], "Always");
    // And the account's token, though the container came later than the account.
    let mounts = container["volumeMounts"].as_array().map_or(0, Vec::len);
    assert_eq!(mounts, 1, "{container}");
}

#[tokio::test]
async fn rules_hold_as_they_are_written_and_end_with_their_configuration() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(|_| Some(json!({"allowed": false}))).await;
    let with = |operations: Value| {
        hook.webhook("v.example.com", rules("", "v1", "configmaps", operations))
    };
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations");
    let labelled = json!({"metadata": {"name": "v", "labels": {"of": "test"}},
        "webhooks": [with(json!(["CREATE"]))]});
    assert_eq!(cluster.post(&path, labelled.clone()).await.0, 201);
    assert_eq!(cluster.post(MAPS, map("a")).await.0, 400);
    let place = format!("{path}/v");
    let mut updated = cluster.get(&place).await;
    updated["webhooks"][0]["rules"][0]["operations"] = json!(["UPDATE"]);
    assert_eq!(cluster.put(&place, updated).await.0, 200);
    assert_eq!(cluster.post(MAPS, map("a")).await.0, 201);
    let again = json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations",
        "value": ["CREATE"]}]);
    assert_eq!(cluster.patch(&place, "json-patch+json", again).await.0, 200);
    assert_eq!(cluster.post(MAPS, map("b")).await.0, 400);
    let listed = cluster.get(&format!("{path}?labelSelector=of%3Dtest")).await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(cluster.delete(&format!("{path}?labelSelector=of%3Dtest")).await.0, 200);
    assert_eq!(cluster.post(MAPS, map("b")).await.0, 201);
}
