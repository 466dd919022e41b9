//! What is out of the ordinary, and what users are told of it.

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::{StorageClass, VolumeAttributesClass},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::{Cluster, is_ready};

const HASH: &str = "controller-revision-hash";

#[tokio::test(start_paused = true)]
async fn a_class_of_volume_attributes_outlives_the_claims_that_name_it() {
    let cluster = Cluster::start(0).await;
    let classes = Api::<VolumeAttributesClass>::all(cluster.client.clone());
    let gold: VolumeAttributesClass = serde_json::from_value(json!({
        "metadata": { "name": "gold" }, "driverName": "d", "parameters": { "iops": "1" } }))
    .unwrap();
    classes.create(&PostParams::default(), &gold).await.unwrap();
    let claim = json!({ "metadata": { "name": "c" }, "spec": {
        "accessModes": ["ReadWriteOnce"], "volumeAttributesClassName": "gold",
        "storageClassName": "none", "resources": { "requests": { "storage": "1Gi" } } } });
    cluster.create::<PersistentVolumeClaim>(claim).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    drop(classes.delete("gold", &DeleteParams::default()).await.unwrap());
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let kept = classes.get("gold").await.unwrap();
    assert_eq!(kept.finalizers(), ["kubernetes.io/vac-protection"]);
    cluster.delete::<PersistentVolumeClaim>("c").await;
    cluster
        .eventually("the class is gone", async |_| classes.get_opt("gold").await.unwrap().is_none())
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_taint_that_goes_in_time_cancels_the_deletion_of_a_pod_that_tolerated_it() {
    let cluster = Cluster::start(1).await;
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "nodeName": "n0",
        "tolerations": [{ "key": "k", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 300 }],
        "containers": [{ "name": "c", "image": "one" }] } });
    cluster.create::<Pod>(pod).await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    let taint = async |taints: Value| {
        let patch = json!({ "spec": { "taints": taints } });
        nodes.patch("n0", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    };
    let cancelled = "Cancelling deletion of Pod default/p";
    taint(json!([{ "key": "k", "effect": "NoExecute" }])).await;
    assert!(!cluster.has_event("TaintManagerEviction", cancelled).await);
    taint(Value::Null).await;
    assert!(cluster.has_event("TaintManagerEviction", cancelled).await);
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    assert!(cluster.get::<Pod>("p").await.is_some());
    // Another time it counts anew, though the taint does not say when it was added.
    let start = cluster.clock.now();
    taint(json!([{ "key": "k", "effect": "NoExecute" }])).await;
    cluster.eventually("the pod leaves", async |it| it.get::<Pod>("p").await.is_none()).await;
    let stayed = cluster.clock.now().duration_since(start).as_secs();
    assert!((300..=302).contains(&stayed), "left after {stayed} s");
}

#[tokio::test(start_paused = true)]
async fn a_cron_jobs_strange_and_missing_jobs_are_told_of() {
    let cluster = Cluster::start(1).await;
    let template = json!({ "spec": { "template": { "spec": { "restartPolicy": "Never",
        "containers": [{ "name": "c", "image": "runs" }] } } } });
    let cron = cluster
        .create::<CronJob>(json!({ "metadata": { "name": "c" }, "spec": {
            "schedule": "* * * * *", "concurrencyPolicy": "Forbid", "jobTemplate": template } }))
        .await;
    cluster.eventually("it starts a job", async |it| !it.list::<Job>().await.is_empty()).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert!(!cluster.has_event("UnexpectedJob", "").await, "its own are not strange");
    assert!(!cluster.has_event("MissingJob", "").await);
    let own = cluster.list::<Job>().await.remove(0).name_any();
    let mut strange = json!({ "metadata": { "name": "strange", "ownerReferences": [
        { "apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": cron.uid(),
          "controller": true }] } });
    strange["spec"] = template["spec"].clone();
    cluster.create::<Job>(strange).await;
    cluster
        .eventually("the strange one is told of", async |it| {
            let message = "Saw a job that the controller did not create or forgot: strange";
            it.has_event("UnexpectedJob", message).await
        })
        .await;
    cluster.api::<Job>().delete(&own, &DeleteParams::background()).await.unwrap();
    cluster
        .eventually("the missing one is told of", async |it| {
            it.has_event("MissingJob", &format!("Active job went missing: {own}")).await
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn of_two_revisions_of_one_template_the_newer_stays_and_no_pod_is_replaced() {
    let cluster = Cluster::start(2).await;
    let set = cluster
        .create::<DaemonSet>(json!({ "metadata": { "name": "d" }, "spec": {
            "selector": { "matchLabels": { "app": "d" } },
            "template": { "metadata": { "labels": { "app": "d" } },
                "spec": { "containers": [{ "name": "c", "image": "one" }] } } } }))
        .await;
    cluster.eventually("its pods run", async |it| it.ready_pods().await == 2).await;
    let uids = async |it: &Cluster| {
        let mut all: Vec<_> = it.list::<Pod>().await.iter().map(ResourceExt::uid).collect();
        all.sort();
        all
    };
    let before = uids(&cluster).await;
    let newest = cluster.list::<ControllerRevision>().await.remove(0);
    let hash = newest.labels()[HASH].clone();
    // As a controller that lost its memory between the two may leave them.
    let owner = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d",
        "uid": set.uid(), "controller": true });
    let labels = json!({ "app": "d", HASH: "twin" });
    let twin = json!({ "metadata": { "name": "d-twin", "labels": labels,
        "ownerReferences": [owner] }, "data": newest.data, "revision": 0 });
    cluster.create::<ControllerRevision>(twin).await;
    let pod = cluster.list::<Pod>().await.remove(0).name_any();
    cluster.patch::<Pod>(&pod, json!({ "metadata": { "labels": { HASH: "twin" } } })).await;
    cluster
        .eventually("the twin is gone", async |it| it.list::<ControllerRevision>().await.len() == 1)
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(uids(&cluster).await, before);
    let pods = cluster.list::<Pod>().await;
    assert!(pods.iter().all(|it| it.labels()[HASH] == hash && is_ready(it)));
}

#[tokio::test(start_paused = true)]
async fn an_owner_in_another_namespace_is_told_of_and_owns_nothing() {
    let cluster = Cluster::start(0).await;
    let elsewhere = Api::<ConfigMap>::namespaced(cluster.client.clone(), "kube-system");
    let owner: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "o" } })).unwrap();
    let owner = elsewhere.create(&PostParams::default(), &owner).await.unwrap();
    cluster
        .create::<ConfigMap>(json!({ "metadata": { "name": "m", "ownerReferences": [
            { "apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": owner.uid() }] } }))
        .await;
    cluster.eventually("it is gone", async |it| it.get::<ConfigMap>("m").await.is_none()).await;
    let uid = owner.uid().unwrap();
    let message = format!(
        "ownerRef [v1/ConfigMap, namespace: default, name: o, uid: {uid}] does not exist in \
         namespace \"default\""
    );
    cluster
        .eventually("it is told", async |it| {
            it.has_event("OwnerRefInvalidNamespace", &message).await
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_grows_is_told_that_somebody_else_makes_its_volume_larger() {
    let cluster = Cluster::start(0).await;
    let class: StorageClass = serde_json::from_value(json!({ "metadata": { "name": "s" },
        "provisioner": "kubernetes.io/no-provisioner", "allowVolumeExpansion": true }))
    .unwrap();
    let classes = Api::<StorageClass>::all(cluster.client.clone());
    classes.create(&PostParams::default(), &class).await.unwrap();
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": { "name": "v" }, "spec": { "capacity": { "storage": "1Gi" },
            "accessModes": ["ReadWriteOnce"], "storageClassName": "s",
            "csi": { "driver": "d", "volumeHandle": "h" } } }))
    .unwrap();
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    volumes.create(&PostParams::default(), &volume).await.unwrap();
    let size = |it: &str| json!({ "resources": { "requests": { "storage": it } } });
    let mut spec = size("1Gi");
    spec["accessModes"] = json!(["ReadWriteOnce"]);
    spec["storageClassName"] = "s".into();
    cluster
        .create::<PersistentVolumeClaim>(json!({ "metadata": { "name": "c" }, "spec": spec }))
        .await;
    cluster
        .eventually("the claim is bound", async |it| {
            let claim = it.get::<PersistentVolumeClaim>("c").await.unwrap();
            claim.status.and_then(|it| it.phase).as_deref() == Some("Bound")
        })
        .await;
    assert!(!cluster.has_event("ExternalExpanding", "").await);
    cluster.patch::<PersistentVolumeClaim>("c", json!({ "spec": size("2Gi") })).await;
    cluster
        .eventually("it is told", async |it| {
            let message = "waiting for an external controller to expand this PVC";
            it.has_event("ExternalExpanding", message).await
        })
        .await;
}
