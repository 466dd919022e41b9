//! Patches and server-side apply, through the service.

use http::header::CONTENT_TYPE;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::Cluster;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(replicas: i64, containers: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}}}})
}

fn container(name: &str, image: &str) -> Value {
    json!({"name": name, "image": image})
}

#[tokio::test]
async fn a_strategic_patch_changes_one_container_and_keeps_the_other() {
    let cluster = Cluster::start().await;
    let both = json!([container("x", "1"), container("y", "1")]);
    cluster.post(DEPLOYMENTS, deployment(1, both)).await;
    let patch = json!({"spec": {"template": {"spec": {"containers": [container("y", "2")]}}}});
    let path = format!("{DEPLOYMENTS}/d");
    let (code, patched) = cluster.patch(&path, "strategic-merge-patch+json", patch).await;
    assert_eq!(code, 200, "{patched}");
    let containers = &patched["spec"]["template"]["spec"]["containers"];
    assert_eq!((&containers[0]["image"], &containers[1]["image"]), (&json!("1"), &json!("2")));
    assert_eq!(patched["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_json_patch_whose_test_fails_changes_nothing() {
    let cluster = Cluster::start().await;
    cluster.post(DEPLOYMENTS, deployment(1, json!([container("x", "1")]))).await;
    let path = format!("{DEPLOYMENTS}/d");
    let patch = json!([{"op": "test", "path": "/spec/replicas", "value": 7},
                       {"op": "replace", "path": "/spec/replicas", "value": 8}]);
    assert_eq!(cluster.patch(&path, "json-patch+json", patch).await.0, 422);
    let good = json!([{"op": "replace", "path": "/spec/replicas", "value": 8}]);
    assert_eq!(cluster.patch(&path, "json-patch+json", good).await.1["spec"]["replicas"], 8);
    let rename = json!({"metadata": {"name": "other"}});
    assert_eq!(cluster.patch(&path, "merge-patch+json", rename).await.0, 400);
}

#[tokio::test]
async fn an_unchanged_write_keeps_its_version() {
    let cluster = Cluster::start().await;
    let (_, made) = cluster.post(DEPLOYMENTS, deployment(1, json!([container("x", "1")]))).await;
    let patch = json!({"spec": {"replicas": 1}});
    let (_, same) = cluster.patch(&format!("{DEPLOYMENTS}/d"), "merge-patch+json", patch).await;
    assert_eq!(same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn kube_clients_apply_conflict_and_force() {
    let cluster = Cluster::start().await;
    let deployments = Api::<Deployment>::default_namespaced(cluster.client());
    let config = |replicas| deployment(replicas, json!([container("x", "1")]));
    let one = PatchParams::apply("one");
    let made = deployments.patch("d", &one, &Patch::Apply(config(1))).await.unwrap();
    assert_eq!(made.metadata.managed_fields.unwrap().len(), 1);
    let again = deployments.patch("d", &one, &Patch::Apply(config(1))).await.unwrap();
    assert_eq!(again.metadata.resource_version, made.metadata.resource_version);
    let two = PatchParams::apply("two");
    let conflict = deployments.patch("d", &two, &Patch::Apply(config(2))).await.unwrap_err();
    assert!(conflict.to_string().contains("conflict with \"one\": .spec.replicas"));
    let forced = deployments.patch("d", &two.force(), &Patch::Apply(config(2))).await.unwrap();
    assert_eq!(forced.spec.unwrap().replicas, Some(2));
}

#[tokio::test]
async fn an_update_takes_fields_from_the_one_who_applied_them() {
    let cluster = Cluster::start().await;
    let path = format!("{DEPLOYMENTS}/d?fieldManager=one");
    let headers = [(CONTENT_TYPE, "application/apply-patch+yaml")];
    let config = deployment(1, json!([container("x", "1")])).to_string();
    let (head, _) = cluster.send("PATCH", &path, &headers, config.clone()).await;
    assert_eq!(head.status, 201);
    let scale = json!({"spec": {"replicas": 5}});
    let path_of_scale = format!("{DEPLOYMENTS}/d?fieldManager=hpa");
    cluster.patch(&path_of_scale, "merge-patch+json", scale).await;
    let (head, conflict) = cluster.send("PATCH", &path, &headers, config).await;
    assert_eq!(head.status, 409);
    assert!(conflict["message"].as_str().unwrap().contains("conflict with \"hpa\" using apps/v1"));
    let (head, _) = cluster.send("PATCH", &format!("{DEPLOYMENTS}/d"), &headers, "{}").await;
    assert_eq!(head.status, 422, "a manager must be named");
}
