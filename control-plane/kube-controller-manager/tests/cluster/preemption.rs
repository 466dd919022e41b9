//! Important pods that need room which others have.
//!
//! Upstream: test/e2e/scheduling/preemption.go.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Node, Pod},
    scheduling::v1::PriorityClass,
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::Cluster;

const FAKE: &str = "example.com/fakecpu";

async fn classes(cluster: &Cluster, values: &[i32]) {
    let api = Api::<PriorityClass>::all(cluster.client.clone());
    for value in values {
        let class = json!({ "metadata": { "name": format!("p{value}") }, "value": value });
        let class = serde_json::from_value(class).unwrap();
        api.create(&PostParams::default(), &class).await.unwrap();
    }
}

/// What a device plug-in tells of a node.
async fn offer(cluster: &Cluster, node: &str, amount: &str) {
    let status =
        json!({ "status": { "capacity": { FAKE: amount }, "allocatable": { FAKE: amount } } });
    let api = Api::<Node>::all(cluster.client.clone());
    api.patch_status(node, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

fn spec(class: &str, amount: u32, more: Value) -> Value {
    let amount = json!({ FAKE: amount.to_string() });
    let mut spec = json!({ "priorityClassName": class, "containers": [{ "name": "c",
        "image": "runs", "resources": { "requests": amount, "limits": amount } }] });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

async fn names(cluster: &Cluster, prefix: &str) -> Vec<String> {
    let pods = cluster.list::<Pod>().await;
    pods.iter().map(ResourceExt::name_any).filter(|it| it.starts_with(prefix)).collect()
}

async fn node_of(cluster: &Cluster, name: &str) -> Option<String> {
    cluster.get::<Pod>(name).await?.spec?.node_name.filter(|it| !it.is_empty())
}

#[tokio::test(start_paused = true)]
async fn of_several_sets_only_the_pods_that_have_to_go_are_replaced_and_each_once() {
    let cluster = Cluster::start(1).await;
    offer(&cluster, "n0", "1000").await;
    classes(&cluster, &[1, 2, 3, 4]).await;
    let mut seen: [BTreeSet<String>; 3] = Default::default();
    for (number, amount) in [(1, 200), (2, 300), (3, 450)] {
        let labels = json!({ "name": format!("pod{number}") });
        let spec = spec(&format!("p{number}"), amount, json!({}));
        let set = json!({ "metadata": { "name": format!("rs-pod{number}") }, "spec": {
            "replicas": 1, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": spec } } });
        cluster.create::<ReplicaSet>(set).await;
        cluster.eventually("the set's pod runs", async |it| it.ready_pods().await == number).await;
    }
    let mut look = async || {
        for (at, seen) in seen.iter_mut().enumerate() {
            seen.extend(names(&cluster, &format!("rs-pod{}", at + 1)).await);
        }
        seen.each_ref().map(BTreeSet::len)
    };
    assert_eq!(look().await, [1, 1, 1]);
    let pod = json!({ "metadata": { "name": "pod4" }, "spec": spec("p4", 500, json!({})) });
    cluster.create::<Pod>(pod).await;
    for _ in 0..600 {
        look().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(look().await, [2, 2, 1], "the largest and most important one stays");
    assert_eq!(node_of(&cluster, "pod4").await.as_deref(), Some("n0"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_a_finalizer_holds_says_that_it_was_preempted() {
    let cluster = Cluster::start(1).await;
    offer(&cluster, "n0", "1").await;
    classes(&cluster, &[1, 9]).await;
    let victim = json!({ "metadata": { "name": "victim", "finalizers": ["example.com/test"] },
        "spec": spec("p1", 1, json!({})) });
    cluster.create::<Pod>(victim).await;
    cluster.eventually("it runs", async |it| it.ready_pods().await == 1).await;
    let preemptor = json!({ "metadata": { "name": "pod" }, "spec": spec("p9", 1, json!({})) });
    cluster.create::<Pod>(preemptor).await;
    cluster
        .eventually("it is being deleted", async |it| {
            let victim = it.get::<Pod>("victim").await.unwrap();
            victim.metadata.deletion_timestamp.is_some()
        })
        .await;
    let status = cluster.get::<Pod>("victim").await.unwrap().status.unwrap();
    let conditions = status.conditions.unwrap_or_default();
    let told = conditions.iter().find(|it| it.type_ == "DisruptionTarget");
    let told = told.map(|it| (it.status.as_str(), it.reason.as_deref()));
    assert_eq!(told, Some(("True", Some("PreemptionByScheduler"))));
    cluster.patch::<Pod>("victim", json!({ "metadata": { "finalizers": null } })).await;
    cluster
        .eventually("the important one has its place", async |it| {
            node_of(it, "pod").await.is_some()
        })
        .await;
}

/// Of two zones one has an important pod with most of the room, the other three that may go.
#[tokio::test(start_paused = true)]
async fn as_many_pods_go_as_the_spread_of_the_important_one_asks_for() {
    let cluster = Cluster::start(2).await;
    for node in ["n0", "n1"] {
        offer(&cluster, node, "9").await;
    }
    classes(&cluster, &[1, 5, 9]).await;
    let on = |node: &str| json!({ "nodeSelector": { "kubernetes.io/hostname": node } });
    let pod = |name: &str, spec: Value| json!({ "metadata": { "name": name, "labels": { "e2e-pts-preemption": "" } }, "spec": spec });
    cluster.create::<Pod>(pod("high", spec("p9", 9, on("n0")))).await;
    for number in 1..=3 {
        cluster.create::<Pod>(pod(&format!("low-{number}"), spec("p1", 3, on("n1")))).await;
    }
    cluster.eventually("four run", async |it| it.ready_pods().await == 4).await;
    let spread = json!({ "topologySpreadConstraints": [{ "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchExpressions": [{ "key": "e2e-pts-preemption",
            "operator": "Exists" }] } }] });
    cluster.create::<Pod>(pod("medium", spec("p5", 3, spread))).await;
    cluster
        .eventually("three are left and run", async |it| {
            it.list::<Pod>().await.len() == 3 && it.ready_pods().await == 3
        })
        .await;
    assert_eq!(node_of(&cluster, "medium").await.as_deref(), Some("n1"));
    assert_eq!(node_of(&cluster, "high").await.as_deref(), Some("n0"));
    assert_eq!(names(&cluster, "low-").await.len(), 1);
}
