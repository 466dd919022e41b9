//! Ranges of addresses of Services, from the first one to the last address in them.

use k8s_openapi::api::{
    core::v1::Service,
    networking::v1::{IPAddress, ServiceCIDR},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use crate::support::Cluster;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

async fn ready(cluster: &Cluster, name: &str) -> Option<(String, String)> {
    let api = Api::<ServiceCIDR>::all(cluster.client.clone());
    let range = api.get_opt(name).await.unwrap()?;
    assert!(range.finalizers().iter().any(|it| it == FINALIZER) || range.status.is_none());
    let conditions = range.status?.conditions?;
    let ready = conditions.into_iter().find(|it| it.type_ == "Ready")?;
    Some((ready.status, ready.reason))
}

#[tokio::test(start_paused = true)]
async fn a_range_is_ready_and_stays_until_its_last_address_is_free() {
    let cluster = Cluster::start(1).await;
    let ranges = Api::<ServiceCIDR>::all(cluster.client.clone());
    let range = json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["203.0.113.0/24"] } });
    let range = serde_json::from_value(range).unwrap();
    ranges.create(&PostParams::default(), &range).await.unwrap();
    let is = |status: &str, reason: &str| Some((status.to_owned(), reason.to_owned()));
    cluster.eventually("it is ready", async |it| ready(it, "more").await == is("True", "")).await;
    let service = json!({ "metadata": { "name": "a" },
        "spec": { "clusterIP": "203.0.113.10", "ports": [{ "port": 80 }] } });
    cluster.create::<Service>(service).await;

    ranges.delete("more", &DeleteParams::default()).await.unwrap();
    cluster
        .eventually("it is held", async |it| ready(it, "more").await == is("False", "Terminating"))
        .await;
    cluster.api::<Service>().delete("a", &DeleteParams::default()).await.unwrap();
    cluster
        .eventually("it is gone", async |it| {
            let ranges = Api::<ServiceCIDR>::all(it.client.clone());
            ranges.get_opt("more").await.unwrap().is_none()
        })
        .await;
    let addresses = Api::<IPAddress>::all(cluster.client.clone());
    assert!(addresses.get_opt("203.0.113.10").await.unwrap().is_none());
    cluster
        .eventually("the configured one is held too", async |it| {
            let ranges = Api::<ServiceCIDR>::all(it.client.clone());
            let own = ranges.get("kubernetes").await.unwrap();
            own.finalizers().iter().any(|it| it == FINALIZER)
        })
        .await;
}
