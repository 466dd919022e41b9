//! A Deployment of 50 pods, all Ready on one node.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::StreamExt;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

use super::{Bed, LIMIT, floor, is_ready};
use crate::rows::{Row, median, seconds};

const MANY: usize = 50;
/// How often that is done: one after another differ by a tenth.
const TIMES: usize = 3;
/// As many as the floor needs least time with, on two cores.
const AT_ONCE: usize = 4;
/// The addresses of what was deleted before can be used again: the CNI lets them rest for 30 s. Else
/// it would be measured how it waits for new interfaces.
const COOLED: Duration = Duration::from_secs(32);

pub(super) async fn rows(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let deployments = Api::<Deployment>::default_namespaced(bed.client.clone());
    let mut rows = vec![together(bed, &deployments, None).await?];
    if bed.has_crun().await? {
        rows.push(together(bed, &deployments, Some("crun")).await?);
    }
    Ok(rows)
}

/// With the node's runtime, or with the one of a RuntimeClass.
async fn together(
    bed: &Bed,
    deployments: &Api<Deployment>,
    class: Option<&str>,
) -> anyhow::Result<Row> {
    let mut taken = Vec::new();
    for _ in 0..TIMES {
        tokio::time::sleep(COOLED).await;
        taken.push(ready(bed, deployments, "many", MANY, class).await?);
        gone(bed, deployments, "many").await?;
    }
    tokio::time::sleep(COOLED).await;
    let handler = class.unwrap_or_default();
    let floor = floor::together(&bed.socket(), handler, u32::try_from(MANY)?, AT_ONCE).await?;
    let with = class.map(|it| format!(", with {it}")).unwrap_or_default();
    Ok(Row::new(
        format!("Deployment of {MANY} pods, all Ready on one node{with}"),
        seconds(median(&taken)),
        format!("{} (bare CRI calls for {MANY} pods{with}, {AT_ONCE} at once)", seconds(floor)),
        "half of upstream's: 4.3 s where it takes 8.6 s",
    ))
}

pub(super) async fn ready(
    bed: &Bed,
    deployments: &Api<Deployment>,
    name: &str,
    count: usize,
    class: Option<&str>,
) -> anyhow::Result<Duration> {
    let deployment = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": count,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": bed.instance.node},
                    "terminationGracePeriodSeconds": 0,
                    "runtimeClassName": class,
                    "containers": [{
                        "name": "sleep", "image": "busybox:1.35", "command": ["sleep", "100000"],
                    }],
                },
            },
        },
    }))?;
    let config = watcher::Config::default().labels(&format!("app={name}"));
    let mut events = watcher(bed.pods.clone(), config).applied_objects().boxed();
    let started = Instant::now();
    deployments.create(&PostParams::default(), &deployment).await?;
    let mut ready = std::collections::BTreeSet::new();
    while ready.len() < count {
        if started.elapsed() > LIMIT {
            bail!("{} of {count} pods were Ready within {LIMIT:?}", ready.len());
        }
        let event = tokio::time::timeout(LIMIT, events.next()).await;
        let pod: Pod = event.context("no more pods")?.context("the watch ended")??;
        if is_ready(&pod) {
            ready.insert(pod.metadata.name);
        }
    }
    Ok(started.elapsed())
}

pub(super) async fn gone(
    bed: &Bed,
    deployments: &Api<Deployment>,
    name: &str,
) -> anyhow::Result<()> {
    deployments.delete(name, &DeleteParams::default()).await?;
    let deadline = Instant::now() + LIMIT;
    let list = ListParams::default().labels(&format!("app={name}"));
    while !bed.pods.list(&list).await?.items.is_empty() {
        if Instant::now() > deadline {
            bail!("the pods of {name} are not gone within {LIMIT:?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
