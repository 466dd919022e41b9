//! A thousand watchers, and what a large cluster's objects take.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use http::Request;
use http_body_util::{BodyDataStream, BodyExt};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::{
    Api,
    api::{ListParams, PostParams, WatchEvent, WatchParams},
    client::Body,
};
use serde_json::json;

use super::{NAMESPACE, Server, loads::create};
use crate::{
    memory::resident_mib,
    rows::{Row, median, millis},
};

/// Watchers of one connection: servers bound how many streams one may carry.
const STREAMS: usize = 50;
const CONNECTIONS: usize = 20;
const WRITES: usize = 20;
const LIMIT: Duration = Duration::from_secs(30);
const NODES: usize = 1000;
const PODS: usize = 10_000;
const LANES: usize = 32;

type Watcher<K> = BoxStream<'static, kube::Result<WatchEvent<K>>>;

/// From a write until the last of 1,000 watchers has the event's bytes; reading them is the client's
/// affair, as with lists.
pub(super) async fn watchers(server: &Server) -> anyhow::Result<Row> {
    let api = Api::<ConfigMap>::namespaced(server.client().await?, NAMESPACE);
    let list = api.list_metadata(&ListParams::default().limit(1)).await?;
    let version = list.metadata.resource_version.context("a list has a version")?;
    let mut watchers = Vec::new();
    for client in server.clients(CONNECTIONS).await? {
        for _ in 0..STREAMS {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
            let path = format!("{path}?watch=true&resourceVersion={version}");
            let answer = client.send(Request::get(path).body(Vec::new())?.map(Into::into)).await?;
            anyhow::ensure!(answer.status() == 200, "a watch was refused");
            watchers.push(answer.into_body().into_data_stream());
        }
    }
    let mut samples = Vec::new();
    for index in 0..WRITES {
        let name = format!("f-{index}");
        let started = Instant::now();
        create(&api, &name, "b").await?;
        let seen = watchers.iter_mut().map(|it| sees(it, &name));
        let all = futures::future::try_join_all(seen);
        tokio::time::timeout(LIMIT, all).await.context("a watcher saw nothing")??;
        samples.push(started.elapsed());
    }
    let what = format!("one write → seen by {} watchers", watchers.len());
    Ok(Row::new(what, millis(median(&samples)), "-", "20 ms"))
}

/// Reads to the end of the event of the object with that name.
async fn sees(watcher: &mut BodyDataStream<Body>, name: &str) -> anyhow::Result<()> {
    let (mut event, name) = (Vec::new(), format!("\"name\":\"{name}\""));
    while let Some(bytes) = watcher.next().await {
        event.extend_from_slice(&bytes?);
        let is_whole = event.ends_with(b"\n");
        if is_whole && std::str::from_utf8(&event)?.contains(&name) {
            return Ok(());
        }
    }
    anyhow::bail!("a watch ended")
}

/// The server's resident memory with the objects of 1,000 nodes and their 10,000 pods, each node's
/// pods being watched as a kubelet does.
pub(super) async fn memory(server: &Server) -> anyhow::Result<Row> {
    let client = server.client().await?;
    let nodes = Api::<Node>::all(client.clone());
    let made = futures::stream::iter(0..NODES).map(|index| {
        let nodes = nodes.clone();
        async move { nodes.create(&PostParams::default(), &node(index)).await }
    });
    made.buffer_unordered(LANES).try_for_each(|_| async { Ok(()) }).await?;
    let mut watchers: Vec<Watcher<Pod>> = Vec::new();
    for (lane, client) in server.clients(CONNECTIONS).await?.into_iter().enumerate() {
        let pods = Api::<Pod>::all(client);
        for index in 0..STREAMS {
            let selector = format!("spec.nodeName=node-{}", lane * STREAMS + index);
            let parameters = WatchParams::default().fields(&selector);
            watchers.push(pods.watch(&parameters, "0").await?.boxed());
        }
    }
    let pods = Api::<Pod>::namespaced(client, NAMESPACE);
    let made = futures::stream::iter(0..PODS).map(|index| {
        let pods = pods.clone();
        async move { pods.create(&PostParams::default(), &pod(index)).await }
    });
    made.buffer_unordered(LANES).try_for_each(|_| async { Ok(()) }).await?;
    // Every watcher has its node's ten.
    let all = watchers.iter_mut().map(async |watcher| {
        for _ in 0..PODS / NODES {
            watcher.next().await.context("a watch ended")??;
        }
        anyhow::Ok(())
    });
    let all = futures::future::try_join_all(all);
    tokio::time::timeout(LIMIT, all).await.context("a watcher missed pods")??;
    let mib = resident_mib(server.pid());
    let what = "an API server with 1,000 nodes, 10,000 pods and a watch for each node";
    Ok(Row::new(what, format!("{mib:.0} MiB resident"), "-", "1 GiB"))
}

/// About as large as one that a kubelet has filled in.
fn node(index: usize) -> Node {
    let conditions = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"].map(|kind| {
        json!({
            "type": kind, "status": "False", "reason": "KubeletHasSufficientMemory",
            "message": "kubelet has sufficient memory available",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    });
    let images = (0..20).map(|it| {
        json!({"names": [format!("registry.example/image-{it}:v1.2.3")], "sizeBytes": 1_000_000})
    });
    let images = images.collect::<Vec<_>>();
    serde_json::from_value(json!({
        "metadata": {"name": format!("node-{index}")},
        "status": {
            "capacity": {"cpu": "4", "memory": "16Gi", "pods": "58"},
            "conditions": conditions, "images": images,
        },
    }))
    .expect("the literal is a node")
}

fn pod(index: usize) -> Pod {
    let variables = (0..10).map(|it| json!({"name": format!("VARIABLE_{it}"), "value": "a value"}));
    let variables = variables.collect::<Vec<_>>();
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("pod-{index}"),
            "labels": {"app": "web", "pod-template-hash": "6b7f8c9d"},
        },
        "spec": {
            "nodeName": format!("node-{}", index % NODES),
            "containers": [{
                "name": "web", "image": "registry.example/web:v1.2.3", "env": variables,
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            }],
        },
    }))
    .expect("the literal is a pod")
}
