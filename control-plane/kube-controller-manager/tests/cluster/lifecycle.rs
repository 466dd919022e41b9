//! What becomes of pods and namespaces when their nodes or users go.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::Deployment,
    certificates::v1beta1::ClusterTrustBundle,
    core::v1::{ConfigMap, Namespace, Node, Pod, Secret},
};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use crate::support::Cluster;

#[tokio::test(start_paused = true)]
async fn a_silent_node_loses_its_pods_after_five_minutes() {
    let cluster = Cluster::start(2).await;
    // A node whose kubelet never reports.
    let nodes = Api::<Node>::all(cluster.client.clone());
    let silent = json!({ "metadata": { "name": "silent" }, "status": {
        "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "10" },
        "conditions": [{ "type": "Ready", "status": "True" }] } });
    let silent: Node = serde_json::from_value(silent).unwrap();
    nodes.create(&PostParams::default(), &silent).await.unwrap();
    cluster
        .create::<Pod>(json!({ "metadata": { "name": "stranded" }, "spec": { "nodeName": "silent",
            "tolerations": [{ "key": "node.kubernetes.io/unreachable", "operator": "Exists",
                "effect": "NoExecute", "tolerationSeconds": 300 }],
            "containers": [{ "name": "c", "image": "one" }] } }))
        .await;
    let start = cluster.clock.now();
    cluster
        .eventually("the node is unreachable", async |_| {
            let node = nodes.get("silent").await.unwrap();
            let taints = node.spec.unwrap().taints.unwrap_or_default();
            taints
                .iter()
                .any(|it| it.key == "node.kubernetes.io/unreachable" && it.effect == "NoExecute")
        })
        .await;
    let noticed = cluster.clock.now().duration_since(start).as_secs();
    assert!((50..=60).contains(&noticed), "noticed after {noticed} s");
    cluster
        .eventually("its pod is deleted", async |it| {
            let pod = it.get::<Pod>("stranded").await;
            pod.is_none_or(|it| it.metadata.deletion_timestamp.is_some())
        })
        .await;
    let left = cluster.clock.now().duration_since(start).as_secs();
    assert!((350..=362).contains(&left), "left after {left} s");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_stays_while_an_aggregated_api_is_down_but_what_is_known_goes() {
    let cluster = Cluster::start(1).await;
    let services = Api::<APIService>::all(cluster.client.clone());
    let down: APIService = serde_json::from_value(json!({
        "metadata": { "name": "v1.agg.io" },
        "spec": { "group": "agg.io", "version": "v1", "groupPriorityMinimum": 1000,
            "versionPriority": 15, "insecureSkipTLSVerify": true,
            "service": { "namespace": "default", "name": "none" } },
    }))
    .unwrap();
    services.create(&PostParams::default(), &down).await.unwrap();
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let team: Namespace =
        serde_json::from_value(json!({ "metadata": { "name": "team" } })).unwrap();
    namespaces.create(&PostParams::default(), &team).await.unwrap();
    let secrets = Api::<Secret>::namespaced(cluster.client.clone(), "team");
    let secret: Secret = serde_json::from_value(json!({ "metadata": { "name": "s" } })).unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    cluster
        .eventually("the secret is gone and the namespace says why it is not", async |_| {
            let team = namespaces.get("team").await.unwrap();
            let conditions = team.status.unwrap().conditions.unwrap_or_default();
            let said = |kind: &str| {
                let it = conditions.iter().find(|it| it.type_ == kind)?;
                Some((it.status.clone(), it.reason.clone()?, it.message.clone()?))
            };
            let told = "Discovery failed for some groups, 1 failing: unable to retrieve the complete \
                        list of server APIs: agg.io/v1: stale GroupVersion discovery: agg.io/v1";
            let failed = ("True".to_owned(), "DiscoveryFailed".to_owned(), told.to_owned());
            said("NamespaceDeletionDiscoveryFailure") == Some(failed)
                && said("NamespaceContentRemaining").is_some_and(|it| it.0 == "False")
                && secrets.get_opt("s").await.unwrap().is_none()
        })
        .await;
    services.delete("v1.agg.io", &DeleteParams::default()).await.unwrap();
    cluster
        .eventually("the namespace goes with the API", async |_| {
            namespaces.get_opt("team").await.unwrap().is_none()
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_with_everything_in_it() {
    let cluster = Cluster::start(1).await;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let team: Namespace =
        serde_json::from_value(json!({ "metadata": { "name": "team" } })).unwrap();
    namespaces.create(&PostParams::default(), &team).await.unwrap();
    let secrets = Api::<Secret>::namespaced(cluster.client.clone(), "team");
    let secret: Secret = serde_json::from_value(json!({ "metadata": { "name": "s" } })).unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), "team");
    cluster
        .eventually("the CA is published", async |it| {
            let maps = Api::<ConfigMap>::namespaced(it.client.clone(), "team");
            let accounts = Api::<k8s_openapi::api::core::v1::ServiceAccount>::namespaced(
                it.client.clone(),
                "team",
            );
            maps.get_opt("kube-root-ca.crt").await.unwrap().is_some()
                && accounts.get_opt("default").await.unwrap().is_some()
        })
        .await;
    let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "p" },
        "spec": { "containers": [{ "name": "c", "image": "one" }] } }))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    cluster
        .eventually("the namespace is gone", async |it| it.namespace("team").await.is_none())
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_the_api_server_is_believed_by_is_a_trust_bundle_of_its_signer() {
    let cluster = Cluster::start(0).await;
    let api = Api::<ClusterTrustBundle>::all(cluster.client.clone());
    let own = ListParams::default().fields("spec.signerName=kubernetes.io/kube-apiserver-serving");
    let names = async || {
        let all = api.list(&own).await.unwrap().items;
        all.into_iter().filter_map(|it| it.metadata.name).collect::<Vec<_>>()
    };
    cluster.eventually("it is published", async |_| names().await.len() == 1).await;
    let first = names().await.remove(0);
    assert!(first.starts_with("kubernetes.io:kube-apiserver-serving:"), "{first}");
    // Somebody else's goes, and its own comes back.
    let mut other = api.get(&first).await.unwrap();
    other.metadata = Default::default();
    other.metadata.name = Some("kubernetes.io:kube-apiserver-serving:other".to_owned());
    api.create(&PostParams::default(), &other).await.unwrap();
    cluster.eventually("the other goes", async |_| names().await == [first.clone()]).await;
    drop(api.delete(&first, &DeleteParams::default()).await.unwrap());
    cluster.eventually("it comes back", async |_| names().await == [first.clone()]).await;
}

#[tokio::test(start_paused = true)]
async fn deleting_in_the_foreground_waits_and_orphaning_leaves() {
    let cluster = Cluster::start(1).await;
    let deployment = |name: &str| {
        json!({ "metadata": { "name": name }, "spec": { "replicas": 1,
        "selector": { "matchLabels": { "app": name } }, "template": {
            "metadata": { "labels": { "app": name } },
            "spec": { "containers": [{ "name": "c", "image": "one" }] } } } })
    };
    for name in ["waits", "leaves"] {
        cluster.create::<Deployment>(deployment(name)).await;
    }
    cluster.eventually("both run", async |it| it.ready_pods().await == 2).await;
    let api = cluster.api::<Deployment>();
    api.delete("waits", &DeleteParams::foreground()).await.unwrap();
    api.delete("leaves", &DeleteParams::orphan()).await.unwrap();
    cluster
        .eventually("the deployments are gone", async |it| it.list::<Deployment>().await.is_empty())
        .await;
    let labels: Vec<_> =
        cluster.list::<Pod>().await.iter().map(|it| it.labels()["app"].clone()).collect();
    assert_eq!(labels, ["leaves"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.ready_pods().await, 1);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_is_deleted_are_collected() {
    let cluster = Cluster::start(1).await;
    cluster
        .create::<Pod>(json!({ "metadata": { "name": "p" },
            "spec": { "containers": [{ "name": "c", "image": "one" }] } }))
        .await;
    cluster.eventually("it runs", async |it| it.ready_pods().await == 1).await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    nodes.delete("n0", &DeleteParams::default()).await.unwrap();
    cluster.eventually("it is gone", async |it| it.list::<Pod>().await.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn objects_that_own_each_other_in_a_circle_are_deleted_and_nothing_spins() {
    circle(&["a"]).await;
    // Each of them waits already when the circle is seen.
    circle(&["a", "b", "c"]).await;
}

async fn circle(deleted: &[&str]) {
    let cluster = Cluster::start(1).await;
    let names = ["a", "b", "c"];
    let mut uids = Vec::new();
    for name in names {
        let made = cluster.create::<ConfigMap>(json!({ "metadata": { "name": name } })).await;
        uids.push(made.uid().unwrap());
    }
    for (index, name) in names.into_iter().enumerate() {
        let owner = (index + 2) % 3;
        let owners = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": names[owner],
            "uid": uids[owner], "controller": true, "blockOwnerDeletion": true }]);
        let patch = json!({ "metadata": { "ownerReferences": owners } });
        cluster.patch::<ConfigMap>(name, patch).await;
    }
    let maps = Api::<ConfigMap>::namespaced(cluster.client.clone(), "default");
    for name in deleted {
        // It may be gone already.
        drop(maps.delete(name, &DeleteParams::foreground()).await);
    }
    cluster
        .eventually("all are gone", async |it| {
            let maps = it.list::<ConfigMap>().await;
            maps.iter().all(|it| !names.contains(&&*it.name_any()))
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_taint_that_has_no_date_is_tolerated_as_long_as_a_pod_says() {
    let cluster = Cluster::start(1).await;
    cluster
        .create::<Pod>(json!({ "metadata": { "name": "p" }, "spec": {
            "tolerations": [{ "key": "k", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 60 }],
            "containers": [{ "name": "c", "image": "one" }] } }))
        .await;
    cluster.eventually("it runs", async |it| it.ready_pods().await == 1).await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    // As kubectl writes it.
    let taint = json!({ "spec": { "taints": [{ "key": "k", "effect": "NoExecute" }] } });
    let patch = kube::api::Patch::Merge(&taint);
    nodes.patch("n0", &kube::api::PatchParams::default(), &patch).await.unwrap();
    let start = cluster.clock.now();
    cluster
        .eventually("the pod is driven away", async |it| {
            it.get::<Pod>("p").await.is_none_or(|it| it.metadata.deletion_timestamp.is_some())
        })
        .await;
    let left = cluster.clock.now().duration_since(start).as_secs();
    assert!((59..=63).contains(&left), "left after {left} s");
}
