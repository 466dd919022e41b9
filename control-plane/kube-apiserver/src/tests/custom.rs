//! Custom resources, from definition to removal.

use http::header::{CONTENT_TYPE, WARNING};
use serde_json::{Value, json};

use super::Cluster;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

fn definition() -> Value {
    json!({"metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {"size": {"type": "integer", "minimum": 1}}},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}})
}

#[tokio::test]
async fn a_definition_is_served_at_once_and_takes_its_objects_with_it() {
    let cluster = Cluster::start().await;
    assert!(!cluster.serves(WIDGETS).await);
    let (code, made) = cluster.post(DEFINITIONS, definition()).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["status"]["conditions"][1]["type"], "Established");
    let widget = json!({"metadata": {"name": "w"}, "spec": {"size": 2}, "status": {"x": 1}});
    let (code, made) = cluster.post(WIDGETS, widget).await;
    assert_eq!((code.as_u16(), made["kind"].as_str()), (201, Some("Widget")), "{made}");
    assert!(made.get("status").is_none());
    let patch = json!({"status": {"anything": {"goes": true}}});
    let (_, patched) =
        cluster.patch(&format!("{WIDGETS}/w/status"), "merge-patch+json", patch).await;
    assert_eq!(patched["status"]["anything"]["goes"], true);
    assert_eq!(patched["metadata"]["generation"], 1);
    let (code, bad) =
        cluster.post(WIDGETS, json!({"metadata": {"name": "b"}, "spec": {"size": 0}})).await;
    assert_eq!(code, 422);
    assert!(
        bad["message"]
            .as_str()
            .unwrap()
            .contains("spec.size in body should be greater than or equal to 1")
    );
    let strategic = json!({"spec": {"size": 3}});
    let (code, _) =
        cluster.patch(&format!("{WIDGETS}/w"), "strategic-merge-patch+json", strategic).await;
    assert_eq!(code, 415);
    cluster.delete(&format!("{DEFINITIONS}/widgets.example.com")).await;
    assert!(!cluster.serves(WIDGETS).await);
    cluster.post(DEFINITIONS, definition()).await;
    assert_eq!(cluster.get(WIDGETS).await["items"], json!([]));
}

#[tokio::test]
async fn a_definition_must_be_named_after_what_it_defines() {
    let cluster = Cluster::start().await;
    let mut wrong = definition();
    wrong["metadata"]["name"] = "gadgets.example.com".into();
    let (code, refused) = cluster.post(DEFINITIONS, wrong).await;
    assert_eq!(code, 422);
    assert!(
        refused["message"].as_str().unwrap().contains("must be spec.names.plural+\".\"+spec.group")
    );
}

#[tokio::test]
async fn a_definition_in_the_place_of_a_built_in_resource_neither_replaces_nor_erases_it() {
    let cluster = Cluster::start().await;
    let name = "clusterroles.rbac.authorization.k8s.io";
    let mut definition = definition();
    definition["metadata"]["name"] = name.into();
    definition["spec"]["group"] = "rbac.authorization.k8s.io".into();
    definition["spec"]["scope"] = "Cluster".into();
    definition["spec"]["names"] = json!({"plural": "clusterroles", "kind": "ClusterRole"});
    let (code, refused) = cluster.post(DEFINITIONS, definition.clone()).await;
    assert_eq!(code, 422, "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("protected groups must have approval annotation"), "{message}");

    definition["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, a"});
    assert_eq!(cluster.post(DEFINITIONS, definition).await.0, 201);
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let before = cluster.get(roles).await["items"].as_array().unwrap().len();
    assert!(before > 10);
    assert_eq!(cluster.delete(&format!("{DEFINITIONS}/{name}")).await.0, 200);
    assert_eq!(cluster.get(roles).await["items"].as_array().unwrap().len(), before);
}

#[tokio::test]
async fn objects_that_outlived_their_definition_do_not_come_back_with_it() {
    let store = mvcc::Store::memory();
    let cluster = Cluster::over(store.clone()).await;
    let left = mvcc::Txn::create("example.com/widgets/default/w", "{}");
    store.commit(left).await.unwrap();
    assert_eq!(cluster.post(DEFINITIONS, definition()).await.0, 201);
    assert_eq!(cluster.get(WIDGETS).await["items"], json!([]));
    let widget = json!({"metadata": {"name": "w"}, "spec": {"size": 2}});
    assert_eq!(cluster.post(WIDGETS, widget.clone()).await.0, 201);
    assert_eq!(cluster.post(DEFINITIONS, definition()).await.0, 409);
    assert_eq!(cluster.get(WIDGETS).await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn who_leaves_what_a_rule_would_refuse_is_warned_also_where_something_else_is_refused() {
    let cluster = Cluster::start().await;
    cluster.post(DEFINITIONS, definition()).await;
    let widget = json!({"metadata": {"name": "w"}, "spec": {"size": 2}});
    assert_eq!(cluster.post(WIDGETS, widget).await.0, 201);
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let rules = json!([{"rule": "self.size > 5", "message": "too small"}]);
    let stricter = json!([{"op": "add", "path": format!("{spec}/x-kubernetes-validations"),
        "value": rules}]);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let (code, changed) = cluster.patch(&path, "json-patch+json", stricter).await;
    assert_eq!(code, 200, "{changed}");
    let media = [(CONTENT_TYPE, "application/merge-patch+json")];
    let path = format!("{WIDGETS}/w");
    let warned = [
        (r#"{"metadata":{"labels":{"a":"b"}}}"#, 200),
        (r#"{"metadata":{"labels":{"a":"/"}}}"#, 422),
    ];
    for (patch, code) in warned {
        let (head, _) = cluster.send("PATCH", &path, &media, patch).await;
        let told = head.headers.get(WARNING).and_then(|it| it.to_str().ok());
        let wanted = "299 - \"spec: Invalid value: too small\"";
        assert_eq!((head.status.as_u16(), told), (code, Some(wanted)), "{patch}");
    }
    let (head, _) = cluster.send("PATCH", &path, &media, r#"{"spec":{"size":3}}"#).await;
    assert_eq!((head.status.as_u16(), head.headers.get(WARNING)), (422, None));
}
