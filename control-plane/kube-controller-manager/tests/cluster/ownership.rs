//! Pods that leave the Job that made them, are left behind by it, or are taken in by one.

use k8s_openapi::api::{apps::v1::ReplicaSet, batch::v1::Job, core::v1::Pod};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;

use crate::support::Cluster;

const HELD: &str = "batch.kubernetes.io/job-tracking";

async fn start_job(cluster: &Cluster) -> Pod {
    cluster
        .create::<Job>(json!({ "metadata": { "name": "j" }, "spec": { "template": { "spec": {
            "restartPolicy": "Never", "containers": [{ "name": "c", "image": "runs" }] } } } }))
        .await;
    cluster.eventually("its pod runs", async |it| it.ready_pods().await == 1).await;
    cluster.list::<Pod>().await.remove(0)
}

fn is_held(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|it| it == HELD)
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_leaves_its_job_is_held_by_nothing_and_another_takes_its_place() {
    let cluster = Cluster::start(1).await;
    let pod = start_job(&cluster).await;
    let name = pod.name_any();
    assert!(is_held(&pod));
    let labels: serde_json::Map<_, _> =
        pod.labels().keys().map(|it| (it.clone(), json!(null))).collect();
    cluster.patch::<Pod>(&name, json!({ "metadata": { "labels": labels } })).await;
    cluster
        .eventually("it is let go", async |it| {
            let pod = it.get::<Pod>(&name).await.unwrap();
            pod.owner_references().is_empty() && !is_held(&pod)
        })
        .await;
    cluster.eventually("there is another", async |it| it.ready_pods().await == 2).await;
    cluster.delete::<Pod>(&name).await;
    cluster.eventually("it can go", async |it| it.get::<Pod>(&name).await.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_a_job_takes_in_is_held_and_counted() {
    let cluster = Cluster::start(1).await;
    let pod = start_job(&cluster).await;
    let name = pod.name_any();
    let orphaned = json!({ "metadata": { "ownerReferences": null, "finalizers": null } });
    cluster.patch::<Pod>(&name, orphaned).await;
    cluster
        .eventually("it is taken in", async |it| {
            let pod = it.get::<Pod>(&name).await.unwrap();
            !pod.owner_references().is_empty() && is_held(&pod)
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_a_job_leaves_behind_are_held_by_nothing() {
    let cluster = Cluster::start(1).await;
    let name = start_job(&cluster).await.name_any();
    cluster.api::<Job>().delete("j", &DeleteParams::orphan()).await.unwrap();
    cluster
        .eventually("the job is gone and its pod is free", async |it| {
            let pod = it.get::<Pod>(&name).await.unwrap();
            it.get::<Job>("j").await.is_none()
                && pod.owner_references().is_empty()
                && !is_held(&pod)
        })
        .await;
    cluster.delete::<Pod>(&name).await;
    cluster.eventually("it can go", async |it| it.get::<Pod>(&name).await.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn what_an_owner_leaves_behind_is_not_taken_back_by_it() {
    let cluster = Cluster::start(2).await;
    let labels = json!({ "app": "web" });
    for _ in 0..5 {
        cluster
            .create::<ReplicaSet>(json!({ "metadata": { "name": "web" }, "spec": { "replicas": 4,
                "selector": { "matchLabels": labels }, "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [{ "name": "c", "image": "runs" }] } } } }))
            .await;
        cluster.eventually("its pods run", async |it| it.ready_pods().await == 4).await;
        let uids = async |it: &Cluster| -> Vec<_> {
            let mut uids: Vec<_> = it.list::<Pod>().await.iter().filter_map(Pod::uid).collect();
            uids.sort();
            uids
        };
        let before = uids(&cluster).await;
        cluster.api::<ReplicaSet>().delete("web", &DeleteParams::orphan()).await.unwrap();
        cluster
            .eventually("it is gone", async |it| it.get::<ReplicaSet>("web").await.is_none())
            .await;
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        assert_eq!(uids(&cluster).await, before, "the pods stay");
    }
}
