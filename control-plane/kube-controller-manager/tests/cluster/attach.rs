//! Volumes of CSI drivers: attached where pods need them, detached when the node has let go.

use k8s_openapi::api::{
    core::v1::{Event, Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::VolumeAttachment,
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::Cluster;

const NAME: &str = "kubernetes.io/csi/disk.example.com^h1";

/// Nodes whose volumes the controller attaches, a volume of a driver, and a claim that is bound to it.
async fn start() -> Cluster {
    let cluster = Cluster::start(2).await;
    for node in ["n0", "n1"] {
        let managed = json!({ "volumes.kubernetes.io/controller-managed-attach-detach": "true" });
        patch_node(&cluster, node, json!({ "metadata": { "annotations": managed } })).await;
    }
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": { "name": "pv" }, "spec": { "capacity": { "storage": "1Gi" },
            "accessModes": ["ReadWriteOnce"], "storageClassName": "plain",
            "csi": { "driver": "disk.example.com", "volumeHandle": "h1" } } }))
    .unwrap();
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    volumes.create(&PostParams::default(), &volume).await.unwrap();
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "storageClassName": "plain",
        "resources": { "requests": { "storage": "1Gi" } } });
    let claim = json!({ "metadata": { "name": "data" }, "spec": spec });
    cluster.create::<PersistentVolumeClaim>(claim).await;
    cluster
}

async fn patch_node(cluster: &Cluster, node: &str, patch: Value) {
    let nodes = Api::<Node>::all(cluster.client.clone());
    nodes.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// As its kubelet says it.
async fn in_use(cluster: &Cluster, node: &str, names: &[&str]) {
    let nodes = Api::<Node>::all(cluster.client.clone());
    let status = Patch::Merge(json!({ "status": { "volumesInUse": names } }));
    nodes.patch_status(node, &PatchParams::default(), &status).await.unwrap();
}

async fn reported(cluster: &Cluster, node: &str) -> Vec<String> {
    let node = Api::<Node>::all(cluster.client.clone()).get(node).await.unwrap();
    let attached = node.status.unwrap().volumes_attached.unwrap_or_default();
    attached.into_iter().map(|it| it.name).collect()
}

async fn attachments(cluster: &Cluster) -> Vec<VolumeAttachment> {
    let api = Api::<VolumeAttachment>::all(cluster.client.clone());
    api.list(&Default::default()).await.unwrap().items
}

/// The node for which one is asked; the driver then says that it is done.
async fn attach(cluster: &Cluster) -> String {
    cluster.eventually("it is asked for", async |it| attachments(it).await.len() == 1).await;
    let attachment = attachments(cluster).await.remove(0);
    assert_eq!(attachment.spec.attacher, "disk.example.com");
    assert_eq!(attachment.spec.source.persistent_volume_name.as_deref(), Some("pv"));
    // Attaching takes a moment; events of one instant about one pod would have one name.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let api = Api::<VolumeAttachment>::all(cluster.client.clone());
    let status = Patch::Merge(json!({ "status": { "attached": true } }));
    let name = attachment.name_any();
    api.patch_status(&name, &PatchParams::default(), &status).await.unwrap();
    let node = attachment.spec.node_name;
    cluster.eventually("it is reported", async |it| reported(it, &node).await == [NAME]).await;
    node
}

fn user(name: &str, node: Option<&str>) -> Value {
    let claim = json!({ "name": "v", "persistentVolumeClaim": { "claimName": "data" } });
    json!({ "metadata": { "name": name }, "spec": { "nodeName": node,
        "terminationGracePeriodSeconds": 1,
        "containers": [{ "name": "c", "image": "one" }], "volumes": [claim] } })
}

async fn is_told(cluster: &Cluster, pod: &str, reason: &str, message: &str) -> bool {
    let events = cluster.list::<Event>().await;
    events.iter().any(|it| {
        it.involved_object.name.as_deref() == Some(pod)
            && it.reason.as_deref() == Some(reason)
            && it.message.as_deref() == Some(message)
    })
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_attached_for_its_pod_and_detached_when_its_node_has_unmounted_it() {
    let cluster = start().await;
    cluster.create::<Pod>(user("one", None)).await;
    let node = attach(&cluster).await;
    let message = "AttachVolume.Attach succeeded for volume \"pv\" ";
    cluster
        .eventually("its pod is told", async |it| {
            is_told(it, "one", "SuccessfulAttachVolume", message).await
        })
        .await;
    in_use(&cluster, &node, &[NAME]).await;
    cluster.eventually("it runs", async |it| it.ready_pods().await == 1).await;

    // Another node has to wait for it.
    let other = if node == "n0" { "n1" } else { "n0" };
    cluster.create::<Pod>(user("two", Some(other))).await;
    let message = "Multi-Attach error for volume \"pv\" Volume is already used by pod(s) one";
    cluster
        .eventually("the other is told", async |it| {
            is_told(it, "two", "FailedAttachVolume", message).await
        })
        .await;
    cluster.delete::<Pod>("one").await;
    tokio::time::sleep(std::time::Duration::from_secs(500)).await;
    assert_eq!(attachments(&cluster).await[0].spec.node_name, node, "it is still mounted");
    in_use(&cluster, &node, &[]).await;
    cluster
        .eventually("it goes to the other", async |it| {
            let all = attachments(it).await;
            reported(it, &node).await.is_empty()
                && all.first().is_some_and(|it| it.spec.node_name == other)
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_out_of_service_loses_its_pods_and_volumes_at_once() {
    let cluster = start().await;
    cluster.create::<Pod>(user("one", None)).await;
    let node = attach(&cluster).await;
    in_use(&cluster, &node, &[NAME]).await;
    cluster.eventually("it runs", async |it| it.ready_pods().await == 1).await;
    cluster.machines.silence(&node);
    cluster.delete::<Pod>("one").await;
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert!(cluster.get::<Pod>("one").await.is_some(), "nobody ends it");
    let start = cluster.clock.now();
    let taint = json!({ "key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown",
        "effect": "NoExecute" });
    let nodes = Api::<Node>::all(cluster.client.clone());
    let mut taints = nodes.get(&node).await.unwrap().spec.unwrap().taints.unwrap_or_default();
    taints.push(serde_json::from_value(taint).unwrap());
    patch_node(&cluster, &node, json!({ "spec": { "taints": taints } })).await;
    cluster
        .eventually("pod and attachment are gone", async |it| {
            it.get::<Pod>("one").await.is_none() && attachments(it).await.is_empty()
        })
        .await;
    let took = cluster.clock.now().duration_since(start).as_secs();
    assert!(took < 60, "not after six minutes: {took} s");
}
