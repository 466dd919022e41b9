//! Claims from templates, and what becomes of them.

use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{ResourceClaim, ResourceClaimTemplate},
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::Cluster;

fn devices() -> Value {
    let exactly = json!({ "deviceClassName": "gpu" });
    json!({ "devices": { "requests": [{ "name": "gpu", "exactly": exactly }] } })
}

async fn only_claim(cluster: &Cluster) -> Option<ResourceClaim> {
    cluster.list::<ResourceClaim>().await.into_iter().next()
}

#[tokio::test(start_paused = true)]
async fn a_pod_gets_a_claim_of_its_own_from_a_template_and_loses_it_when_it_is_over() {
    let cluster = Cluster::start(1).await;
    let template = json!({ "metadata": { "name": "t" },
        "spec": { "metadata": { "labels": { "a": "b" } }, "spec": devices() } });
    let container = json!({ "name": "c", "image": "exits",
        "resources": { "claims": [{ "name": "gpu" }] } });
    // Placed by hand: nothing is allocated here.
    let pod = json!({ "metadata": { "name": "p" }, "spec": {
        "containers": [container], "restartPolicy": "Never", "schedulerName": "none",
        "resourceClaims": [{ "name": "gpu", "resourceClaimTemplateName": "t" }] } });
    cluster.create::<Pod>(pod).await;
    cluster
        .eventually("an event tells that the template is missing", async |it| {
            let events = it.list::<k8s_openapi::api::core::v1::Event>().await;
            events.iter().any(|it| it.reason.as_deref() == Some("FailedResourceClaimCreation"))
        })
        .await;
    cluster.create::<ResourceClaimTemplate>(template).await;
    cluster
        .eventually("the pod is told its claim", async |it| {
            let told = it.get::<Pod>("p").await.unwrap().status.unwrap_or_default();
            let told = told.resource_claim_statuses.unwrap_or_default();
            let name = told.first().and_then(|it| it.resource_claim_name.clone());
            let claim = only_claim(it).await;
            name.is_some() && name == claim.map(|it| it.name_any())
        })
        .await;
    let claim = only_claim(&cluster).await.unwrap();
    assert!(claim.name_any().starts_with("p-gpu-"), "{}", claim.name_any());
    assert_eq!(claim.labels()["a"], "b");

    // As the scheduler and a kubelet do.
    let uid = cluster.get::<Pod>("p").await.unwrap().uid().unwrap();
    let consumer = json!({ "resource": "pods", "name": "p", "uid": uid });
    let status = json!({ "allocation": {}, "reservedFor": [consumer] });
    let api = cluster.api::<ResourceClaim>();
    let name = claim.name_any();
    let finalizers = json!(["resource.kubernetes.io/delete-protection"]);
    cluster
        .patch::<ResourceClaim>(&name, json!({ "metadata": { "finalizers": finalizers } }))
        .await;
    let patch = Patch::Merge(json!({ "status": status }));
    api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert!(only_claim(&cluster).await.unwrap().status.unwrap().allocation.is_some());
    let over = Patch::Merge(json!({ "status": { "phase": "Succeeded" } }));
    cluster.api::<Pod>().patch_status("p", &PatchParams::default(), &over).await.unwrap();
    cluster.eventually("the claim is gone", async |it| only_claim(it).await.is_none()).await;
}

fn slice(node: &str, devices: &[&str]) -> Value {
    let devices: Vec<_> = devices.iter().map(|it| json!({ "name": it })).collect();
    json!({ "metadata": { "name": node }, "spec": { "driver": "gpu.example.com", "nodeName": node,
        "devices": devices,
        "pool": { "name": node, "generation": 1, "resourceSliceCount": 1 } } })
}

fn pod(name: &str) -> Value {
    let container = json!({ "name": "c", "image": "runs",
        "resources": { "claims": [{ "name": "gpu" }] } });
    json!({ "metadata": { "name": name }, "spec": { "containers": [container],
        "resourceClaims": [{ "name": "gpu", "resourceClaimTemplateName": "t" }] } })
}

#[tokio::test(start_paused = true)]
async fn pods_go_where_their_devices_are_and_the_next_waits_for_one() {
    let cluster = Cluster::start(2).await;
    let put = async |kind: &str, object: Value| cluster.put_cluster(kind, object).await;
    let expression = "device.driver == 'gpu.example.com'";
    put(
        "DeviceClass",
        json!({ "metadata": { "name": "gpu" },
        "spec": { "selectors": [{ "cel": { "expression": expression } }] } }),
    )
    .await;
    put("ResourceSlice", slice("n1", &["g0"])).await;
    let template = json!({ "metadata": { "name": "t" }, "spec": { "spec": devices() } });
    cluster.create::<ResourceClaimTemplate>(template).await;
    cluster.create::<Pod>(pod("a")).await;
    let node = async |name: &str| cluster.get::<Pod>(name).await.and_then(|it| it.spec?.node_name);
    cluster.eventually("a is placed", async |_| node("a").await.as_deref() == Some("n1")).await;
    let claim = only_claim(&cluster).await.unwrap();
    let status = claim.status.clone().unwrap();
    let result = status.allocation.unwrap().devices.unwrap().results.unwrap().remove(0);
    assert_eq!((result.device.as_str(), result.request.as_str()), ("g0", "gpu"));
    assert_eq!(status.reserved_for.unwrap()[0].name, "a");
    assert_eq!(claim.finalizers(), ["resource.kubernetes.io/delete-protection"]);

    cluster.create::<Pod>(pod("b")).await;
    let waits = "0/2 nodes are available: 2 cannot allocate all claims.";
    cluster
        .eventually("b waits", async |it| {
            let pod = it.get::<Pod>("b").await.unwrap();
            let conditions = pod.status.and_then(|it| it.conditions).unwrap_or_default();
            let told = conditions.into_iter().find(|it| it.type_ == "PodScheduled");
            told.and_then(|it| it.message).is_some_and(|it| it.starts_with(waits))
        })
        .await;
    cluster.delete::<Pod>("a").await;
    cluster.eventually("b is placed", async |_| node("b").await.as_deref() == Some("n1")).await;
    put("ResourceSlice", slice("n0", &["g0"])).await;
    cluster.create::<Pod>(pod("d")).await;
    cluster.eventually("d is placed", async |_| node("d").await.as_deref() == Some("n0")).await;
}
