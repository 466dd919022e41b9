//! Controllers that are switched off: their objects are left to others.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Pod, ReplicationController},
};
use kube_controller_manager::Switches;
use serde_json::json;

use crate::support::Cluster;

#[tokio::test(start_paused = true)]
async fn what_a_controller_that_is_off_would_do_is_left_undone_and_all_else_is_done() {
    let words = ["*", "-deployment", "-replicationcontroller-controller"].map(str::to_owned);
    let cluster = Cluster::start_without(1, Switches::new(&words).unwrap()).await;
    let template = |app: &str| {
        json!({ "metadata": { "labels": { "app": app } },
            "spec": { "containers": [{ "name": "c", "image": "runs" }] } })
    };
    let selector = |app: &str| json!({ "matchLabels": { "app": app } });
    cluster
        .create::<Deployment>(json!({ "metadata": { "name": "off" },
            "spec": { "selector": selector("off"), "template": template("off") } }))
        .await;
    cluster
        .create::<ReplicationController>(json!({ "metadata": { "name": "off" },
            "spec": { "template": template("elder") } }))
        .await;
    cluster
        .create::<ReplicaSet>(json!({ "metadata": { "name": "on" },
            "spec": { "selector": selector("on"), "template": template("on") } }))
        .await;
    cluster.eventually("the set's pod runs", async |it| it.ready_pods().await == 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.list::<ReplicaSet>().await.len(), 1);
    assert_eq!(cluster.list::<Pod>().await.len(), 1);
}
