//! Writes, lists and deletions, one after the other and beside each other.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use http::Request;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use super::{NAMESPACE, Server};
use crate::rows::{Row, median, micros, millis, per_second};

const CLIENTS: usize = 32;
const CREATES: usize = 10_000;
const PODS: usize = 5000;
const LISTS: usize = 10;
/// Writes beside which reads are measured.
const WRITES_PER_SECOND: u64 = 1000;
const WINDOW: Duration = Duration::from_secs(5);

/// 2 KB each, acknowledged when they are on the disk.
pub(super) async fn creates(server: &Server) -> anyhow::Result<Row> {
    let taken = create_many(server, "c", CREATES, 2048).await?;
    let what = "durable creates of 2 KB, 32 clients, an API server alone";
    Ok(Row::new(what, per_second(CREATES, taken), "-", "5,000 per s"))
}

/// Small objects, so that there are many.
pub(super) async fn fill(server: &Server, count: usize) -> anyhow::Result<()> {
    create_many(server, "stored", count, 64).await?;
    Ok(())
}

async fn create_many(
    server: &Server,
    prefix: &str,
    count: usize,
    size: usize,
) -> anyhow::Result<Duration> {
    let clients = server.clients(CLIENTS).await?;
    let data = "x".repeat(size);
    let started = Instant::now();
    let lanes = clients.into_iter().enumerate().map(|(lane, client)| {
        let data = &data;
        async move {
            let api = Api::<ConfigMap>::namespaced(client, NAMESPACE);
            for index in (lane..count).step_by(CLIENTS) {
                create(&api, &format!("{prefix}-{index}"), data).await?;
            }
            anyhow::Ok(())
        }
    });
    futures::future::try_join_all(lanes).await?;
    Ok(started.elapsed())
}

pub(super) async fn create(api: &Api<ConfigMap>, name: &str, data: &str) -> kube::Result<()> {
    let object = json!({"metadata": {"name": name}, "data": {"a": data}});
    let object = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// 5,000 pods that no node has: listed as JSON and as protobuf, then deleted as a collection.
pub(super) async fn pods(server: &Server) -> anyhow::Result<Vec<Row>> {
    let client = server.client().await?;
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let one = |index| {
        let pods = pods.clone();
        async move { pods.create(&PostParams::default(), &pod(index)).await }
    };
    let all = futures::stream::iter(0..PODS).map(one).buffer_unordered(CLIENTS);
    all.try_for_each(|_| async { Ok(()) }).await?;
    let json = list(&client, "application/json").await?;
    let protobuf = list(&client, "application/vnd.kubernetes.protobuf").await;
    let started = Instant::now();
    pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    let left = pods.list_metadata(&ListParams::default()).await?.items.len();
    anyhow::ensure!(left == 0, "{left} pods are left");
    let deleted = started.elapsed();
    Ok(vec![
        Row::new("list of 5,000 pods, JSON, an API server alone", millis(json), "-", "40 ms"),
        match protobuf {
            Ok(taken) => Row::new("– protobuf", millis(taken), "-", "25 ms"),
            Err(error) => Row::missing("– protobuf", &error),
        },
        Row::new("deletecollection of 5,000 pods", millis(deleted), "-", "3 s"),
    ])
}

/// The bytes as they come; reading them is the client's affair.
async fn list(client: &Client, accept: &str) -> anyhow::Result<Duration> {
    let mut samples = Vec::new();
    for _ in 0..LISTS {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let request = Request::get(path).header("accept", accept).body(Vec::new())?;
        let started = Instant::now();
        let answer = client.send(request.map(Into::into)).await?;
        let kind = answer.headers().get("content-type").cloned();
        let kind = kind.as_ref().and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
        let body = http_body_util::BodyExt::collect(answer.into_body()).await?.to_bytes();
        samples.push(started.elapsed());
        anyhow::ensure!(kind == accept, "the answer is `{kind}`");
        anyhow::ensure!(body.len() > PODS * 100, "the list is too short");
    }
    Ok(median(&samples))
}

fn pod(index: usize) -> Pod {
    let container = json!({"name": "a", "image": "busybox:1.35"});
    let pod =
        json!({"metadata": {"name": format!("p-{index}")}, "spec": {"containers": [container]}});
    serde_json::from_value(pod).expect("the literal is a pod")
}

/// One client reads the same object again and again while others write a thousand a second.
pub(super) async fn reads_beside_writes(server: &Server) -> anyhow::Result<Row> {
    let reader = Api::<ConfigMap>::namespaced(server.client().await?, NAMESPACE);
    let quiet = percentile_99(&read(&reader).await?);
    let writers = server.clients(CLIENTS).await?;
    let writing = write_steadily(writers);
    let (written, samples) = tokio::try_join!(writing, read(&reader))?;
    let what = format!("p99 of a get beside {} of creates", per_second(written, WINDOW));
    Ok(Row::new(what, micros(percentile_99(&samples)), micros(quiet), "10 ms at 1,000 per s"))
}

async fn read(api: &Api<ConfigMap>) -> anyhow::Result<Vec<Duration>> {
    let begun = Instant::now();
    let mut samples = Vec::new();
    while begun.elapsed() < WINDOW {
        let started = Instant::now();
        api.get("c-0").await?;
        samples.push(started.elapsed());
    }
    Ok(samples)
}

/// How many were acknowledged within the window.
async fn write_steadily(clients: Vec<Client>) -> anyhow::Result<usize> {
    let begun = tokio::time::Instant::now();
    let lanes = u32::try_from(clients.len())?;
    let pause = Duration::from_secs(1) * lanes / u32::try_from(WRITES_PER_SECOND)?;
    let writers = clients.into_iter().enumerate().map(async |(lane, client)| {
        let api = Api::<ConfigMap>::namespaced(client, NAMESPACE);
        let offset = pause * u32::try_from(lane)? / lanes;
        let mut ticks = tokio::time::interval_at(begun + offset, pause);
        let mut count = 0;
        while begun.elapsed() < WINDOW {
            ticks.tick().await;
            create(&api, &format!("w-{lane}-{count}"), "b").await?;
            count += 1;
        }
        anyhow::Ok(count)
    });
    Ok(futures::future::try_join_all(writers).await?.into_iter().sum())
}

fn percentile_99(samples: &[Duration]) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
}
