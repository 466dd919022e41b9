//! Disruption budgets over pods whose number is not known, or of which it is told in other ways.

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Event, Pod},
    policy::v1::PodDisruptionBudget,
};
use serde_json::{Value, json};

use crate::support::Cluster;

async fn guard(cluster: &Cluster, spec: Value) {
    let mut spec = spec;
    spec["selector"] = json!({ "matchLabels": { "app": "a" } });
    cluster
        .create::<PodDisruptionBudget>(json!({ "metadata": { "name": "a" }, "spec": spec }))
        .await;
}

async fn allowed(cluster: &Cluster) -> Option<i32> {
    cluster.get::<PodDisruptionBudget>("a").await?.status?.disruptions_allowed
}

#[tokio::test(start_paused = true)]
async fn over_pods_of_a_kind_that_cannot_be_scaled_nothing_is_allowed_and_it_is_said_why() {
    let cluster = Cluster::start(2).await;
    guard(&cluster, json!({ "maxUnavailable": 1 })).await;
    cluster
        .create::<DaemonSet>(json!({ "metadata": { "name": "a" }, "spec": {
            "selector": { "matchLabels": { "app": "a" } }, "template": {
                "metadata": { "labels": { "app": "a" } },
                "spec": { "containers": [{ "name": "c", "image": "runs" }] } } } }))
        .await;
    cluster.eventually("its pods run", async |it| it.ready_pods().await == 2).await;
    cluster
        .eventually("the budget says why", async |it| {
            let budget = it.get::<PodDisruptionBudget>("a").await.unwrap();
            let conditions = budget.status.and_then(|it| it.conditions).unwrap_or_default();
            conditions.iter().any(|it| {
                it.reason == "SyncFailed"
                    && it.message == "daemonsets.apps does not implement the scale subresource"
            })
        })
        .await;
    assert_eq!(allowed(&cluster).await, Some(0));
    cluster
        .eventually("an event tells it", async |it| {
            let events = it.list::<Event>().await;
            let why = "CalculateExpectedPodCountFailed";
            events.iter().any(|it| it.reason.as_deref() == Some(why))
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn over_pods_that_nobody_controls_only_a_minimum_allows_anything() {
    let cluster = Cluster::start(1).await;
    for name in ["p0", "p1", "p2"] {
        cluster
            .create::<Pod>(json!({ "metadata": { "name": name, "labels": { "app": "a" } },
                "spec": { "containers": [{ "name": "c", "image": "runs" }] } }))
            .await;
    }
    cluster.eventually("they run", async |it| it.ready_pods().await == 3).await;
    guard(&cluster, json!({ "maxUnavailable": 1 })).await;
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(allowed(&cluster).await, Some(0));
    let minimum = json!({ "spec": { "maxUnavailable": null, "minAvailable": 2 } });
    cluster.patch::<PodDisruptionBudget>("a", minimum).await;
    cluster.eventually("one may go", async |it| allowed(it).await == Some(1)).await;
}
