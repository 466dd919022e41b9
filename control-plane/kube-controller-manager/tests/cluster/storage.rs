//! Claims and volumes: who is bound to whom, where pods go for them, and what is kept.

use std::{collections::BTreeSet, sync::Arc};

use controller::{StoreSpec, reflect};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota, Secret},
    storage::v1::StorageClass,
};
use kube::{Api, ResourceExt, api::PostParams};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::{Cluster, is_ready};

async fn put_volume(cluster: &Cluster, name: &str, class: &str, node: Option<&str>) {
    let affinity = node.map(|it| {
        json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [
            { "key": "kubernetes.io/hostname", "operator": "In", "values": [it] }] }] } })
    });
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": { "name": name }, "spec": { "capacity": { "storage": "1Gi" },
            "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "persistentVolumeReclaimPolicy": "Retain", "nodeAffinity": affinity,
            "hostPath": { "path": format!("/srv/{name}") } } }))
    .unwrap();
    let api = Api::<PersistentVolume>::all(cluster.client.clone());
    api.create(&PostParams::default(), &volume).await.unwrap();
}

async fn put_class(cluster: &Cluster, name: &str, mode: &str, annotations: Value) {
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": { "name": name, "annotations": annotations },
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": mode }))
    .unwrap();
    let api = Api::<StorageClass>::all(cluster.client.clone());
    api.create(&PostParams::default(), &class).await.unwrap();
}

fn claim_spec(class: Option<&str>) -> Value {
    json!({ "accessModes": ["ReadWriteOnce"], "storageClassName": class,
        "resources": { "requests": { "storage": "500Mi" } } })
}

fn pod(name: &str, volume: Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "terminationGracePeriodSeconds": 1,
        "containers": [{ "name": "c", "image": "one" }], "volumes": [volume] } })
}

fn uses(claim: &str) -> Value {
    json!({ "name": "v", "persistentVolumeClaim": { "claimName": claim } })
}

async fn volume(cluster: &Cluster, name: &str) -> PersistentVolume {
    Api::<PersistentVolume>::all(cluster.client.clone()).get(name).await.unwrap()
}

fn phase(claim: Option<PersistentVolumeClaim>) -> String {
    claim.and_then(|it| it.status?.phase).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_claim_gets_the_default_class_and_its_volume_which_outlives_it() {
    let cluster = Cluster::start(1).await;
    let default = json!({ "storageclass.kubernetes.io/is-default-class": "true" });
    // Of two defaults the newer counts: the other is that of local volumes.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    put_class(&cluster, "plain", "Immediate", default).await;
    put_volume(&cluster, "v1", "plain", None).await;
    cluster
        .create::<PersistentVolumeClaim>(
            json!({ "metadata": { "name": "data" }, "spec": claim_spec(None) }),
        )
        .await;
    cluster
        .eventually("it is bound", async |it| {
            phase(it.get("data").await) == "Bound"
                && volume(it, "v1").await.status.unwrap().phase.as_deref() == Some("Bound")
        })
        .await;
    let claim = cluster.get::<PersistentVolumeClaim>("data").await.unwrap();
    let status = claim.status.unwrap();
    assert_eq!(status.capacity.unwrap()["storage"].0, "1Gi");
    assert_eq!(claim.spec.unwrap().storage_class_name.as_deref(), Some("plain"));

    cluster.create::<Pod>(pod("user", uses("data"))).await;
    cluster.eventually("its pod runs", async |it| it.ready_pods().await == 1).await;
    cluster.delete::<PersistentVolumeClaim>("data").await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let kept = cluster.get::<PersistentVolumeClaim>("data").await.expect("a pod uses it");
    assert!(kept.metadata.deletion_timestamp.is_some());
    cluster.delete::<Pod>("user").await;
    cluster
        .eventually("it goes with its user, and the volume is released", async |it| {
            it.get::<PersistentVolumeClaim>("data").await.is_none()
                && volume(it, "v1").await.status.unwrap().phase.as_deref() == Some("Released")
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_waits_for_its_pod_gets_a_volume_where_the_pod_can_go() {
    let cluster = Cluster::start(3).await;
    put_class(&cluster, "local", "WaitForFirstConsumer", json!({})).await;
    put_volume(&cluster, "v1", "local", Some("n1")).await;
    cluster
        .create::<PersistentVolumeClaim>(
            json!({ "metadata": { "name": "data" }, "spec": claim_spec(Some("local")) }),
        )
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(phase(cluster.get("data").await), "Pending", "nobody has asked for it yet");
    cluster.create::<Pod>(pod("user", uses("data"))).await;
    cluster.eventually("its pod runs", async |it| it.ready_pods().await == 1).await;
    let node = cluster.get::<Pod>("user").await.unwrap().spec.unwrap().node_name;
    assert_eq!(node.as_deref(), Some("n1"));
    assert_eq!(phase(cluster.get("data").await), "Bound");
}

#[tokio::test(start_paused = true)]
async fn a_local_volume_is_made_on_its_pods_node_and_goes_with_its_claim() {
    let cluster = Cluster::start(2).await;
    cluster
        .create::<PersistentVolumeClaim>(
            json!({ "metadata": { "name": "data" }, "spec": claim_spec(None) }),
        )
        .await;
    cluster.create::<Pod>(pod("user", uses("data"))).await;
    cluster.eventually("its pod runs", async |it| it.ready_pods().await == 1).await;
    let node = cluster.get::<Pod>("user").await.unwrap().spec.unwrap().node_name.unwrap();
    let claim = cluster.get::<PersistentVolumeClaim>("data").await.unwrap().spec.unwrap();
    assert_eq!(claim.storage_class_name.as_deref(), Some("local-path"));
    let name = claim.volume_name.unwrap();
    let affinity = volume(&cluster, &name).await.spec.unwrap().node_affinity.unwrap();
    assert!(json!(affinity).to_string().contains(&format!("[\"{node}\"]")), "{affinity:?}");
    cluster.delete::<Pod>("user").await;
    cluster.delete::<PersistentVolumeClaim>("data").await;
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    cluster
        .eventually("the volume and its helpers are gone", async |it| {
            let helpers = Api::<Pod>::namespaced(it.client.clone(), "kube-system");
            volumes.get_opt(&name).await.unwrap().is_none()
                && helpers.list(&Default::default()).await.unwrap().items.is_empty()
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_volume_has_a_claim_that_goes_with_its_pod() {
    let cluster = Cluster::start(1).await;
    put_volume(&cluster, "v1", "plain", None).await;
    let template = json!({ "spec": claim_spec(Some("plain")) });
    let scratch = json!({ "name": "scratch", "ephemeral": { "volumeClaimTemplate": template } });
    cluster.create::<Pod>(pod("user", scratch)).await;
    cluster.eventually("its pod runs", async |it| it.ready_pods().await == 1).await;
    assert_eq!(phase(cluster.get("user-scratch").await), "Bound");
    cluster.delete::<Pod>("user").await;
    cluster
        .eventually("the claim is gone", async |it| {
            it.list::<PersistentVolumeClaim>().await.is_empty()
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_stateful_sets_claims_go_as_its_policy_says() {
    let cluster = Cluster::start(1).await;
    for number in 0..4 {
        put_volume(&cluster, &format!("v{number}"), "plain", None).await;
    }
    let labels = json!({ "app": "db" });
    let policy = json!({ "whenDeleted": "Retain", "whenScaled": "Delete" });
    cluster
        .create::<StatefulSet>(json!({ "metadata": { "name": "db" }, "spec": { "replicas": 2,
            "serviceName": "db", "selector": { "matchLabels": labels },
            "persistentVolumeClaimRetentionPolicy": policy,
            "template": { "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "c", "image": "one" }] } },
            "volumeClaimTemplates": [{ "metadata": { "name": "data" },
                "spec": claim_spec(Some("plain")) }] } }))
        .await;
    let claims = async |it: &Cluster| -> Vec<String> {
        let mut names: Vec<_> =
            it.list::<PersistentVolumeClaim>().await.iter().map(ResourceExt::name_any).collect();
        names.sort();
        names
    };
    let scale = |count: i32| json!({ "spec": { "replicas": count } });
    cluster.eventually("two members serve", async |it| it.ready_pods().await == 2).await;
    assert_eq!(claims(&cluster).await, ["data-db-0", "data-db-1"]);
    cluster.patch::<StatefulSet>("db", scale(1)).await;
    cluster
        .eventually("the second's claim is gone", async |it| claims(it).await == ["data-db-0"])
        .await;
    cluster.patch::<StatefulSet>("db", scale(2)).await;
    cluster.eventually("two members serve again", async |it| it.ready_pods().await == 2).await;
    cluster.delete::<StatefulSet>("db").await;
    cluster.eventually("its pods are gone", async |it| it.list::<Pod>().await.is_empty()).await;
    assert_eq!(claims(&cluster).await, ["data-db-0", "data-db-1"], "they are retained");
}

#[tokio::test(start_paused = true)]
async fn a_quota_shows_what_its_namespace_uses_of_every_kind() {
    let cluster = Cluster::start(1).await;
    let hard = json!({ "pods": "5", "secrets": "5", "count/secrets": "5",
        "count/statefulsets.apps": "1", "services.nodeports": "1", "requests.storage": "9Gi" });
    cluster
        .create::<ResourceQuota>(json!({ "metadata": { "name": "q" }, "spec": { "hard": hard } }))
        .await;
    let used = async |it: &Cluster, name: &str| -> String {
        let quota = it.get::<ResourceQuota>("q").await.unwrap();
        let used = quota.status.and_then(|it| it.used).unwrap_or_default();
        used.get(name).map(|it| it.0.clone()).unwrap_or_default()
    };
    cluster.eventually("it is counted", async |it| used(it, "secrets").await == "0").await;
    cluster.create::<Secret>(json!({ "metadata": { "name": "s" } })).await;
    cluster
        .create::<PersistentVolumeClaim>(
            json!({ "metadata": { "name": "data" }, "spec": claim_spec(Some("plain")) }),
        )
        .await;
    cluster
        .eventually("the new ones are counted", async |it| {
            used(it, "secrets").await == "1"
                && used(it, "count/secrets").await == "1"
                && used(it, "requests.storage").await == "500Mi"
                && used(it, "count/statefulsets.apps").await == "0"
        })
        .await;
    cluster.delete::<Secret>("s").await;
    cluster.eventually("it is free again", async |it| used(it, "secrets").await == "0").await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_whose_claim_goes_before_there_is_a_volume_is_removed() {
    let cluster = Cluster::start(1).await;
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let (pods, names) = (
        reflect::<Pod>(cluster.client.clone(), StoreSpec::default(), &cluster.scope),
        seen.clone(),
    );
    pods.subscribe(move |it| {
        names.lock().insert(it.key.name.clone());
    });
    // Nothing runs yet: the helper waits.
    cluster.machines.silence("n0");
    cluster
        .create::<PersistentVolumeClaim>(
            json!({ "metadata": { "name": "data" }, "spec": claim_spec(None) }),
        )
        .await;
    cluster.create::<Pod>(pod("user", uses("data"))).await;
    let helpers = Api::<Pod>::namespaced(cluster.client.clone(), "kube-system");
    let listed = async || helpers.list(&Default::default()).await.unwrap().items;
    cluster.eventually("a helper is there", async |_| listed().await.len() == 1).await;
    cluster.delete::<Pod>("user").await;
    cluster.delete::<PersistentVolumeClaim>("data").await;
    cluster
        .eventually("the claim is gone", async |it| {
            it.list::<PersistentVolumeClaim>().await.is_empty()
        })
        .await;
    cluster.machines.reconnect("n0");
    cluster.eventually("no helper is left", async |_| listed().await.is_empty()).await;
    let seen = seen.lock().clone();
    assert!(seen.iter().any(|it| it.starts_with("local-path-remove-pvc-")), "{seen:?}");
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    assert!(volumes.list(&Default::default()).await.unwrap().items.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_claim_for_one_pod_at_a_time_keeps_the_next_pod_waiting() {
    let cluster = Cluster::start(2).await;
    put_class(&cluster, "plain", "Immediate", json!({})).await;
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": { "name": "v1" }, "spec": { "capacity": { "storage": "1Gi" },
            "accessModes": ["ReadWriteOncePod"], "storageClassName": "plain",
            "csi": { "driver": "disk", "volumeHandle": "v1" } } }))
    .unwrap();
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    volumes.create(&PostParams::default(), &volume).await.unwrap();
    let mut spec = claim_spec(Some("plain"));
    spec["accessModes"] = json!(["ReadWriteOncePod"]);
    cluster
        .create::<PersistentVolumeClaim>(json!({ "metadata": { "name": "data" }, "spec": spec }))
        .await;
    cluster.create::<Pod>(pod("first", uses("data"))).await;
    cluster.eventually("the first runs", async |it| it.ready_pods().await == 1).await;
    cluster.create::<Pod>(pod("second", uses("data"))).await;
    cluster
        .eventually("the second is told", async |it| {
            let second = it.get::<Pod>("second").await.unwrap();
            let conditions = second.status.unwrap().conditions.unwrap_or_default();
            let reason = "2 node has pod using PersistentVolumeClaim with the same name and \
                          ReadWriteOncePod access mode";
            conditions.iter().any(|it| it.message.as_deref().is_some_and(|it| it.contains(reason)))
        })
        .await;
    cluster.delete::<Pod>("first").await;
    cluster
        .eventually("the second runs", async |it| {
            it.get::<Pod>("second").await.as_ref().is_some_and(is_ready)
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_waits_gets_its_claim_back() {
    let cluster = Cluster::start(1).await;
    let labels = json!({ "app": "db" });
    cluster
        .create::<StatefulSet>(json!({ "metadata": { "name": "db" }, "spec": { "replicas": 1,
            "serviceName": "db", "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": {
                "nodeSelector": { "no": "where" },
                "containers": [{ "name": "c", "image": "one" }] } },
            "volumeClaimTemplates": [{ "metadata": { "name": "data" },
                "spec": claim_spec(Some("none")) }] } }))
        .await;
    let uid = async |it: &Cluster| {
        let claim = it.get::<PersistentVolumeClaim>("data-db-0").await;
        claim.filter(|it| it.metadata.deletion_timestamp.is_none()).and_then(|it| it.uid())
    };
    cluster
        .eventually("the member waits", async |it| {
            it.get::<Pod>("db-0").await.is_some() && uid(it).await.is_some()
        })
        .await;
    let before = uid(&cluster).await;
    cluster.delete::<PersistentVolumeClaim>("data-db-0").await;
    cluster
        .eventually("there is another claim", async |it| {
            let now = uid(it).await;
            now.is_some() && now != before
        })
        .await;
}
