//! The API server: durable creates, lists, watch fan-out.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use http::Request;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::{
    Api, Client,
    api::{PostParams, WatchEvent, WatchParams},
};
use serde_json::json;

use crate::{
    region::Region,
    rows::{Row, median, millis, per_second},
};

const CLIENTS: usize = 32;
const CREATES: usize = 5000;
const PODS: usize = 5000;
const WATCHERS: usize = 50;
/// Creates of the rate of events.
const BURST: usize = 500;
const LIMIT: Duration = Duration::from_secs(30);
const NAMESPACE: &str = "bench";

pub(crate) async fn rows(region: &Region) -> anyhow::Result<Vec<Row>> {
    let client = region.client().await?;
    let namespaces = Api::<Namespace>::all(client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    namespaces.create(&PostParams::default(), &namespace).await?;
    let mut rows = vec![creates(region).await?, list(&client).await?];
    rows.extend(fan_out(&client).await?);
    Ok(rows)
}

async fn creates(region: &Region) -> anyhow::Result<Row> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(region.client().await?);
    }
    let started = Instant::now();
    let work = clients.into_iter().enumerate().map(|(lane, client)| async move {
        let api = Api::<ConfigMap>::namespaced(client, NAMESPACE);
        for index in 0..CREATES / CLIENTS {
            let object = serde_json::from_value(json!({
                "metadata": {"name": format!("c-{lane}-{index}")}, "data": {"a": "b"},
            }))?;
            api.create(&PostParams::default(), &object).await?;
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(work).await?;
    let rate = per_second(CREATES / CLIENTS * CLIENTS, started.elapsed());
    Ok(Row::new("durable creates of ConfigMaps, 32 clients", rate, "-", "5,000 per s"))
}

/// 5,000 pods that no scheduler takes, listed as JSON bytes.
async fn list(client: &Client) -> anyhow::Result<Row> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let create = |index| {
        let pods = pods.clone();
        async move { pods.create(&PostParams::default(), &pod(index)).await }
    };
    futures::stream::iter(0..PODS)
        .map(create)
        .buffer_unordered(CLIENTS)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    let mut samples = Vec::new();
    for _ in 0..10 {
        let started = Instant::now();
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let text = client.request_text(Request::get(path).body(Vec::new())?).await?;
        samples.push(started.elapsed());
        anyhow::ensure!(text.len() > PODS * 100, "the list is too short");
    }
    Ok(Row::new("list of 5,000 pods, JSON", millis(median(&samples)), "-", "40 ms"))
}

fn pod(index: usize) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": format!("p-{index}")},
        "spec": {
            "schedulerName": "nobody",
            "containers": [{"name": "a", "image": "busybox:1.35"}],
        },
    }))
    .expect("the literal is a pod")
}

/// 50 watchers; the time until the last of them has seen a change, and how many events a second
/// reach them when changes come as fast as they are made.
async fn fan_out(client: &Client) -> anyhow::Result<Vec<Row>> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let mut watchers = Vec::new();
    let list = api.list_metadata(&kube::api::ListParams::default().limit(1)).await?;
    let version = list.metadata.resource_version.context("a list has a version")?;
    for _ in 0..WATCHERS {
        watchers.push(api.watch(&WatchParams::default(), &version).await?.boxed());
    }
    let mut samples = Vec::new();
    for index in 0..20 {
        let started = Instant::now();
        let name = format!("f-{index}");
        create(&api, &name).await?;
        all_see(&mut watchers, &name).await?;
        samples.push(started.elapsed());
    }
    let started = Instant::now();
    let making = async {
        for index in 0..BURST {
            create(&api, &format!("b-{index}")).await?;
        }
        anyhow::Ok(())
    };
    let last = format!("b-{}", BURST - 1);
    let ((), seen) = tokio::try_join!(making, all_see(&mut watchers, &last))?;
    anyhow::ensure!(seen.iter().all(|it| *it == BURST), "a watcher missed events: {seen:?}");
    let rate = per_second(BURST * WATCHERS, started.elapsed());
    Ok(vec![
        Row::new("create → seen by 50 watchers", millis(median(&samples)), "-", "-"),
        Row::new("events to 50 watchers, one client creating", rate, "-", "-"),
    ])
}

async fn create(api: &Api<ConfigMap>, name: &str) -> anyhow::Result<()> {
    let object = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

type Watcher = BoxStream<'static, kube::Result<WatchEvent<ConfigMap>>>;

/// Every watcher has been told of the object called `name`; an error or an end is no telling. Gives how
/// many objects each was told of until then.
async fn all_see(watchers: &mut [Watcher], name: &str) -> anyhow::Result<Vec<usize>> {
    let sees = watchers.iter_mut().map(async |watcher| {
        let mut seen = 0;
        loop {
            let event = watcher.next().await.context("a watch ended")??;
            let WatchEvent::Added(object) = &event else { continue };
            seen += 1;
            if object.metadata.name.as_deref() == Some(name) {
                return anyhow::Ok(seen);
            }
        }
    });
    let all = futures::future::try_join_all(sees);
    tokio::time::timeout(LIMIT, all).await.context("a watcher saw nothing")?
}
