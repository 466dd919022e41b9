//! Who owns what after applies, patches and updates, as upstream's conformance tests ask
//! (test/e2e/apimachinery/server_side_apply.go).

use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::Cluster;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const PODS: &str = "/api/v1/namespaces/default/pods";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const THINGS: &str = "/apis/example.com/v1/things";

async fn apply(cluster: &Cluster, path: &str, manager: &str, object: &Value) -> (u16, Value) {
    let headers = [(CONTENT_TYPE, "application/apply-patch+yaml")];
    let joint = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{joint}fieldManager={manager}");
    let (head, body) = cluster.send("PATCH", &path, &headers, object.to_string()).await;
    (head.status.as_u16(), body)
}

fn deployment(replicas: Option<i64>, labels: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"app": "nginx"}},
            "template": {
                "metadata": {"labels": {"app": "nginx"}},
                "spec": {"containers": [{"name": "nginx", "image": "nginx:latest"}]},
            },
        },
    });
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = replicas.into();
    }
    object
}

fn owner<'a>(object: &'a Value, manager: &str) -> &'a Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    entries.iter().find(|it| it["manager"] == manager).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn who_applies_a_status_owns_it_and_nothing_else() {
    let cluster = Cluster::start().await.with_default_account().await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"conditions": [{"type": "MyStatus", "status": "True"}]},
    });
    let path = format!("{PODS}/p");
    let (code, made) = apply(&cluster, &path, "one", &pod).await;
    assert_eq!(code, 201, "{made}");
    assert!(owner(&made, "one")["fieldsV1"].get("f:status").is_none(), "{made}");
    let (code, told) = apply(&cluster, &format!("{path}/status"), "two", &pod).await;
    assert_eq!(code, 200, "{told}");
    let types: Vec<&Value> =
        told["status"]["conditions"].as_array().unwrap().iter().map(|it| &it["type"]).collect();
    assert!(types.contains(&&json!("MyStatus")), "{told}");
    let two = owner(&told, "two");
    assert_eq!(two["subresource"], "status");
    assert!(two["fieldsV1"]["f:status"].is_object() && two["fieldsV1"].get("f:spec").is_none());
    let (code, same) = apply(&cluster, &path, "one", &pod).await;
    assert_eq!(code, 200, "{same}");
    assert_eq!(same["metadata"]["resourceVersion"], told["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_field_goes_when_its_last_owner_leaves_it_out() {
    let cluster = Cluster::start().await;
    let path = format!("{DEPLOYMENTS}/d");
    let both = deployment(Some(3), json!({"a": "1", "b": "2"}));
    assert_eq!(apply(&cluster, &path, "one", &both).await.0, 201);
    let shared = deployment(None, json!({"b": "2"}));
    assert_eq!(apply(&cluster, &path, "two", &shared).await.0, 200);
    let (code, left) = apply(&cluster, &path, "one", &deployment(Some(3), json!({}))).await;
    assert_eq!(code, 200, "{left}");
    assert_eq!(left["metadata"]["labels"], json!({"b": "2"}), "another has it still");
    let (_, left) = apply(&cluster, &path, "two", &deployment(None, json!({}))).await;
    assert!(left["metadata"]["labels"].get("b").is_none(), "{left}");
}

#[tokio::test]
async fn a_field_that_a_controller_took_by_force_stays_when_it_is_given_up() {
    let cluster = Cluster::start().await;
    let path = format!("{DEPLOYMENTS}/d");
    apply(&cluster, &path, "applier", &deployment(Some(3), json!({}))).await;
    let five = deployment(Some(5), json!({}));
    let (code, refused) = apply(&cluster, &path, "controller", &five).await;
    assert_eq!(code, 409, "{refused}");
    let (code, _) = apply(&cluster, &format!("{path}?force=true"), "controller", &five).await;
    assert_eq!(code, 200);
    let (code, left) = apply(&cluster, &path, "applier", &deployment(None, json!({}))).await;
    assert_eq!((code, &left["spec"]["replicas"]), (200, &json!(5)), "{left}");
}

#[tokio::test]
async fn a_put_takes_what_it_changes_and_leaves_the_rest_to_its_owners() {
    let cluster = Cluster::start().await;
    let path = format!("{DEPLOYMENTS}/d");
    let (_, made) =
        apply(&cluster, &path, "applier", &deployment(Some(3), json!({"a": "1"}))).await;
    let mut changed = made.clone();
    changed["spec"]["replicas"] = 4.into();
    changed["metadata"]["labels"]["c"] = "3".into();
    let (code, told) = cluster.put(&format!("{path}?fieldManager=updater"), changed).await;
    assert_eq!(code, 200, "{told}");
    let applier = &owner(&told, "applier")["fieldsV1"];
    assert!(applier["f:spec"].get("f:replicas").is_none(), "{applier}");
    assert!(applier["f:metadata"]["f:labels"]["f:a"].is_object(), "{applier}");
    let updater = owner(&told, "updater");
    assert_eq!(updater["operation"], "Update");
    assert!(updater["fieldsV1"]["f:spec"]["f:replicas"].is_object());
    let (code, left) = apply(&cluster, &path, "applier", &deployment(None, json!({}))).await;
    assert_eq!(code, 200, "{left}");
    assert_eq!(left["metadata"]["labels"], json!({"c": "3"}));
    assert_eq!(left["spec"]["replicas"], 4);
}

#[tokio::test]
async fn custom_resources_are_applied_by_the_list_types_of_their_schema() {
    let cluster = Cluster::start().await;
    let ports = json!({
        "type": "array", "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
        "items": {"type": "object", "required": ["containerPort", "protocol"], "properties": {
            "containerPort": {"type": "integer"}, "protocol": {"type": "string"},
            "hostPort": {"type": "integer"}}},
    });
    let definition = json!({
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Cluster",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"ports": ports}}}}}}],
        },
    });
    assert_eq!(cluster.post(DEFINITIONS, definition).await.0, 201);
    let thing = |replicas: i64, ports: Value| {
        json!({
            "apiVersion": "example.com/v1", "kind": "Thing",
            "metadata": {"name": "t", "finalizers": ["example.com/one"]},
            "spec": {"replicas": replicas, "ports": ports},
        })
    };
    let web = json!([{"containerPort": 80, "protocol": "TCP", "hostPort": 80}]);
    let (path, merge) = (format!("{THINGS}/t"), "merge-patch+json");
    let (code, made) = apply(&cluster, &path, "one", &thing(1, web.clone())).await;
    assert_eq!(code, 201, "{made}");
    let both = json!({"metadata": {"finalizers": ["example.com/one", "example.com/two"]}});
    assert_eq!(cluster.patch(&path, merge, both).await.0, 200);
    let (code, same) = apply(&cluster, &path, "one", &thing(1, web.clone())).await;
    assert_eq!(code, 200, "{same}");
    assert_eq!(same["metadata"]["finalizers"].as_array().unwrap().len(), 2);
    let five = json!({"spec": {"replicas": 5}});
    assert_eq!(cluster.patch(&path, merge, five).await.0, 200);
    let (code, refused) = apply(&cluster, &path, "one", &thing(1, web.clone())).await;
    assert_eq!(code, 409, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains(".spec.replicas"), "{refused}");
    let forced = format!("{path}?force=true");
    let (_, one) = apply(&cluster, &forced, "one", &thing(1, web.clone())).await;
    assert_eq!(one["spec"]["replicas"], 1);
    let other = json!({
        "apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"},
        "spec": {"ports": [{"containerPort": 80, "protocol": "UDP"}]},
    });
    let (code, two) = apply(&cluster, &path, "two", &other).await;
    assert_eq!(code, 200, "{two}");
    assert_eq!(two["spec"]["ports"].as_array().unwrap().len(), 2);
}
