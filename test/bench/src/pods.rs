//! A pod from its creation to Running, beside the bare CRI calls for the same pod.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::StreamExt;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

use crate::{
    region::{Instance, Region},
    rows::{Row, median, millis, seconds},
};

mod floor;

const SAMPLES: usize = 20;
const MANY: i32 = 25;
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn rows(region: &Region) -> anyhow::Result<Vec<Row>> {
    region.load_images()?;
    let client = region.client().await?;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let instance = region.instances()?.first().cloned().context("no instance")?;
    // The image is on the node, and everything has run once, before anything is measured.
    one(&pods, &instance, 0).await?;
    let mut samples = Vec::new();
    for index in 1..=SAMPLES {
        samples.push(one(&pods, &instance, index).await?);
    }
    let floor = match floor::measure(&socket(&instance)).await {
        Ok(floor) => millis(floor),
        Err(error) => format!("not measured: {error:#}"),
    };
    let deployments = Api::<Deployment>::default_namespaced(client);
    let together = many(&deployments, &pods, &instance).await?;
    Ok(vec![
        Row::new(
            "pod created → Running, one by one",
            millis(median(&samples)),
            format!("{floor} (bare CRI calls)"),
            "floor + 60 ms",
        ),
        Row::new(
            format!("Deployment of {MANY} pods, all Running on one node"),
            seconds(together),
            "-",
            "half of upstream (8.6 s for 50)",
        ),
    ])
}

/// The instance's containerd, through its root.
fn socket(instance: &Instance) -> String {
    format!("/proc/{}/root/run/containerd/containerd.sock", instance.pid)
}

async fn one(pods: &Api<Pod>, instance: &Instance, index: usize) -> anyhow::Result<Duration> {
    let name = format!("single-{index}");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "nodeName": instance.node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "sleep", "image": "busybox:1.35", "command": ["sleep", "100000"],
            }],
        },
    }))?;
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher(pods.clone(), config).applied_objects().boxed();
    let started = Instant::now();
    let parameters = PostParams::default();
    let (made, seen) = tokio::join!(pods.create(&parameters, &pod), async {
        while let Some(event) = events.next().await {
            let phase = event.ok().and_then(|it| it.status?.phase);
            if phase.as_deref() == Some("Running") {
                return Some(started.elapsed());
            }
        }
        None
    });
    made?;
    pods.delete(&name, &DeleteParams::default().grace_period(0)).await?;
    seen.context("the watch ended")
}

async fn many(
    deployments: &Api<Deployment>,
    pods: &Api<Pod>,
    instance: &Instance,
) -> anyhow::Result<Duration> {
    let deployment = serde_json::from_value(json!({
        "metadata": {"name": "many"},
        "spec": {
            "replicas": MANY,
            "selector": {"matchLabels": {"app": "many"}},
            "template": {
                "metadata": {"labels": {"app": "many"}},
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": instance.node},
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "sleep", "image": "busybox:1.35", "command": ["sleep", "100000"],
                    }],
                },
            },
        },
    }))?;
    let config = watcher::Config::default().labels("app=many");
    let mut events = watcher(pods.clone(), config).applied_objects().boxed();
    let started = Instant::now();
    deployments.create(&PostParams::default(), &deployment).await?;
    let mut running = std::collections::BTreeSet::new();
    while running.len() < usize::try_from(MANY)? {
        if started.elapsed() > LIMIT {
            bail!("{} of {MANY} pods ran within {LIMIT:?}", running.len());
        }
        let event = tokio::time::timeout(LIMIT, events.next()).await?.context("the watch ended")?;
        let pod = event?;
        if pod.status.and_then(|it| it.phase).as_deref() == Some("Running") {
            running.insert(pod.metadata.name);
        }
    }
    let taken = started.elapsed();
    deployments.delete("many", &DeleteParams::default()).await?;
    Ok(taken)
}
