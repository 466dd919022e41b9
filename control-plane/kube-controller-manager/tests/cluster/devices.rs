//! Devices that are tainted, made ready, elsewhere, or behind an extended resource.

use k8s_openapi::api::{core::v1::Pod, resource::v1::ResourceClaim};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::Cluster;

const DRIVER: &str = "gpu.example.com";

fn slice(node: &str, generation: u64, device: Value) -> Value {
    json!({ "metadata": { "name": format!("{node}-{generation}") }, "spec": {
        "driver": DRIVER, "nodeName": node, "devices": [device],
        "pool": { "name": node, "generation": generation, "resourceSliceCount": 1 } } })
}

async fn cluster_with(class: Value) -> Cluster {
    let cluster = Cluster::start(2).await;
    let expression = format!("device.driver == '{DRIVER}'");
    let mut spec = json!({ "selectors": [{ "cel": { "expression": expression } }] });
    spec.as_object_mut().unwrap().extend(class.as_object().unwrap().clone());
    let class = json!({ "metadata": { "name": "gpu" }, "spec": spec });
    cluster.put_cluster("DeviceClass", class).await;
    cluster
}

async fn claim(cluster: &Cluster) {
    let exactly = json!({ "deviceClassName": "gpu" });
    let devices = json!({ "requests": [{ "name": "r", "exactly": exactly }] });
    let claim = json!({ "metadata": { "name": "c" }, "spec": { "devices": devices } });
    cluster.create::<ResourceClaim>(claim).await;
}

fn pod(spec: Value) -> Value {
    let container = json!({ "name": "c", "image": "runs",
        "resources": { "claims": [{ "name": "gpu" }] } });
    let mut full = json!({ "containers": [container],
        "resourceClaims": [{ "name": "gpu", "resourceClaimName": "c" }] });
    full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({ "metadata": { "name": "p" }, "spec": full })
}

async fn node_of(cluster: &Cluster, name: &str) -> Option<String> {
    cluster.get::<Pod>(name).await?.spec?.node_name
}

async fn write_status(cluster: &Cluster, status: Value) {
    let api = cluster.api::<ResourceClaim>();
    let patch = Patch::Merge(json!({ "status": status }));
    drop(api.patch_status("c", &PatchParams::default(), &patch).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_pod_leaves_a_device_that_is_tainted() {
    let cluster = cluster_with(json!({})).await;
    cluster.put_cluster("ResourceSlice", slice("n1", 1, json!({ "name": "g" }))).await;
    claim(&cluster).await;
    cluster.create::<Pod>(pod(json!({}))).await;
    cluster.eventually("it is placed", async |it| node_of(it, "p").await.is_some()).await;
    let broken = json!({ "name": "g", "taints": [{ "key": "broken", "effect": "NoExecute" }] });
    cluster.put_cluster("ResourceSlice", slice("n1", 2, broken)).await;
    cluster.eventually("it is gone", async |it| it.get::<Pod>("p").await.is_none()).await;
    cluster
        .eventually("it is told why", async |it| {
            it.has_event("DeviceTaintManagerEviction", "Marking for deletion").await
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_when_its_device_is_ready_and_says_where_it_will_go_before() {
    let cluster = cluster_with(json!({})).await;
    let fabric = json!({ "name": "g", "bindingConditions": ["attached"],
        "bindingFailureConditions": ["broken"], "bindsToNode": true });
    cluster.put_cluster("ResourceSlice", slice("n1", 1, fabric)).await;
    claim(&cluster).await;
    cluster.create::<Pod>(pod(json!({}))).await;
    cluster
        .eventually("it is promised its node", async |it| {
            let status = it.get::<Pod>("p").await.unwrap().status.unwrap_or_default();
            let claim = it.get::<ResourceClaim>("c").await.unwrap().status.unwrap_or_default();
            status.nominated_node_name.as_deref() == Some("n1") && claim.allocation.is_some()
        })
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(node_of(&cluster, "p").await, None);
    let condition = json!({ "type": "attached", "status": "True", "reason": "r", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let device =
        json!({ "driver": DRIVER, "pool": "n1", "device": "g", "conditions": [condition] });
    write_status(&cluster, json!({ "devices": [device] })).await;
    cluster
        .eventually("it is bound", async |it| node_of(it, "p").await.as_deref() == Some("n1"))
        .await;
    let status = cluster.get::<Pod>("p").await.unwrap().status.unwrap();
    assert_eq!(status.nominated_node_name, None, "the promise is kept");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_fails_is_given_back_and_another_is_taken() {
    let cluster = cluster_with(json!({})).await;
    let fabric = json!({ "name": "g", "bindingConditions": ["attached"],
        "bindingFailureConditions": ["broken"] });
    cluster.put_cluster("ResourceSlice", slice("n0", 1, fabric)).await;
    claim(&cluster).await;
    cluster.create::<Pod>(pod(json!({}))).await;
    let is_allocated = async |it: &Cluster| {
        it.get::<ResourceClaim>("c").await.unwrap().status.is_some_and(|it| it.allocation.is_some())
    };
    cluster.eventually("it waits for the device", is_allocated).await;
    // Elsewhere there is one that need not be made ready.
    cluster.put_cluster("ResourceSlice", slice("n1", 1, json!({ "name": "g" }))).await;
    let condition = json!({ "type": "broken", "status": "True", "reason": "r", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let device =
        json!({ "driver": DRIVER, "pool": "n0", "device": "g", "conditions": [condition] });
    // The first one is not offered again.
    let tainted = json!({ "name": "g", "taints": [{ "key": "k", "effect": "NoSchedule" }] });
    cluster.put_cluster("ResourceSlice", slice("n0", 2, tainted)).await;
    write_status(&cluster, json!({ "devices": [device] })).await;
    cluster
        .eventually("it is bound", async |it| node_of(it, "p").await.as_deref() == Some("n1"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_keeps_its_pod_from_the_only_node_that_would_do_is_freed() {
    let cluster = cluster_with(json!({})).await;
    for node in ["n0", "n1"] {
        cluster.put_cluster("ResourceSlice", slice(node, 1, json!({ "name": "g" }))).await;
    }
    claim(&cluster).await;
    let is = |node: &str| json!({ "key": "metadata.name", "operator": "In", "values": [node] });
    let terms = |node: &str| json!({ "nodeSelectorTerms": [{ "matchFields": [is(node)] }] });
    let result = json!({ "request": "r", "driver": DRIVER, "pool": "n0", "device": "g" });
    let allocation = json!({ "devices": { "results": [result] }, "nodeSelector": terms("n0") });
    write_status(&cluster, json!({ "allocation": allocation })).await;
    let affinity = json!({ "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": terms("n1") } });
    cluster.create::<Pod>(pod(json!({ "affinity": affinity }))).await;
    cluster
        .eventually("it is bound", async |it| node_of(it, "p").await.as_deref() == Some("n1"))
        .await;
    let status = cluster.get::<ResourceClaim>("c").await.unwrap().status.unwrap();
    let results = status.allocation.unwrap().devices.unwrap().results.unwrap();
    assert_eq!(results[0].pool, "n1");
}

#[tokio::test(start_paused = true)]
async fn an_extended_resource_is_claimed_for_a_pod_and_its_device_is_free_after_it() {
    let cluster = cluster_with(json!({ "extendedResourceName": "example.com/gpu" })).await;
    cluster.put_cluster("ResourceSlice", slice("n1", 1, json!({ "name": "g" }))).await;
    let amounts = json!({ "example.com/gpu": "1" });
    let pod = |name: &str| {
        let container = json!({ "name": "main", "image": "runs",
            "resources": { "requests": amounts, "limits": amounts } });
        json!({ "metadata": { "name": name }, "spec": { "containers": [container] } })
    };
    cluster.create::<Pod>(pod("a")).await;
    cluster
        .eventually("it is placed", async |it| node_of(it, "a").await.as_deref() == Some("n1"))
        .await;
    let status = cluster.get::<Pod>("a").await.unwrap().status.unwrap();
    let told = status.extended_resource_claim_status.unwrap();
    let mapping = &told.request_mappings[0];
    assert_eq!(
        (mapping.container_name.as_str(), mapping.resource_name.as_str()),
        ("main", "example.com/gpu")
    );
    let claim = cluster.get::<ResourceClaim>(&told.resource_claim_name).await.unwrap();
    assert!(claim.name_any().starts_with("a-extended-resources-"), "{}", claim.name_any());
    let of_claim = claim.status.unwrap();
    assert_eq!(of_claim.reserved_for.unwrap()[0].name, "a");
    let results = of_claim.allocation.unwrap().devices.unwrap().results.unwrap();
    assert_eq!(results[0].request, mapping.request_name);

    cluster.create::<Pod>(pod("b")).await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert_eq!(node_of(&cluster, "b").await, None, "there is one device only");
    cluster.delete::<Pod>("a").await;
    cluster.eventually("the next is placed", async |it| node_of(it, "b").await.is_some()).await;
}
