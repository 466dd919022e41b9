//! Controllers that act as their own service accounts, with what upstream's roles allow these.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, ServiceAccount},
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use crate::support::Cluster;

/// Our own binding, of the rules of all controllers to the identity that they may share.
const SHARED: &str = "nodestead:kube-controller-manager";
const REPLICAS: &str = "system:controller:replicaset-controller";

fn bindings(cluster: &Cluster) -> Api<ClusterRoleBinding> {
    Api::all(cluster.client.clone())
}

fn accounts(cluster: &Cluster) -> Api<ServiceAccount> {
    Api::namespaced(cluster.client.clone(), "kube-system")
}

async fn start() -> Cluster {
    let cluster = Cluster::start(1).await;
    // What is left to the first identity is what upstream's has.
    drop(bindings(&cluster).delete(SHARED, &DeleteParams::default()).await.unwrap());
    cluster
        .create::<Deployment>(json!({ "metadata": { "name": "web" }, "spec": { "replicas": 2,
            "selector": { "matchLabels": { "app": "web" } }, "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "runs" }] } } } }))
        .await;
    cluster.eventually("two pods run", async |it| it.ready_pods().await == 2).await;
    cluster
}

#[tokio::test(start_paused = true)]
async fn each_controller_has_an_account_and_the_rights_of_its_own_role_only() {
    let cluster = start().await;
    let parameters = ListParams::default();
    let made = accounts(&cluster).list(&parameters).await.unwrap();
    let bound = bindings(&cluster).list(&parameters).await.unwrap();
    let bound: BTreeSet<_> = bound.iter().map(ResourceExt::name_any).collect();
    let made: BTreeSet<_> = made.iter().map(ResourceExt::name_any).collect();
    assert!(made.contains("replicaset-controller") && made.len() > 30, "{made:?}");
    // The role of one is in a namespace.
    let without = ["default", "token-cleaner"];
    let unbound = |name: &&String| {
        !without.contains(&name.as_str()) && !bound.contains(&format!("system:controller:{name}"))
    };
    assert_eq!(made.iter().find(unbound), None);

    let mut binding = bindings(&cluster).get(REPLICAS).await.unwrap();
    drop(bindings(&cluster).delete(REPLICAS, &DeleteParams::default()).await.unwrap());
    cluster.patch::<Deployment>("web", json!({ "spec": { "replicas": 3 } })).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(cluster.list::<Pod>().await.len(), 2, "others may make pods, and this one may not");
    binding.metadata.resource_version = None;
    drop(bindings(&cluster).create(&PostParams::default(), &binding).await.unwrap());
    cluster.eventually("the third pod runs", async |it| it.ready_pods().await == 3).await;
}

#[tokio::test(start_paused = true)]
async fn an_account_that_was_deleted_comes_back_with_another_token() {
    let cluster = start().await;
    let before = accounts(&cluster).get("replicaset-controller").await.unwrap();
    let parameters = DeleteParams::default();
    drop(accounts(&cluster).delete("replicaset-controller", &parameters).await.unwrap());
    cluster.patch::<Deployment>("web", json!({ "spec": { "replicas": 3 } })).await;
    cluster.eventually("the third pod runs", async |it| it.ready_pods().await == 3).await;
    let after = accounts(&cluster).get("replicaset-controller").await.unwrap();
    assert_ne!(before.uid(), after.uid());
}

#[tokio::test(start_paused = true)]
async fn controllers_work_on_after_many_hours_with_tokens_of_one() {
    let cluster = start().await;
    tokio::time::sleep(Duration::from_secs(5 * 3600)).await;
    cluster.patch::<Deployment>("web", json!({ "spec": { "replicas": 3 } })).await;
    cluster.eventually("the third pod runs", async |it| it.ready_pods().await == 3).await;
}
