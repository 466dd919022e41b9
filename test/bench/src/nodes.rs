//! A new instance, from the call to a Ready node.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};

use crate::{
    region::{CLUSTER, Region},
    rows::{Row, median, seconds},
};

const SAMPLES: usize = 3;
const LIMIT: Duration = Duration::from_secs(60);
const GONE: Duration = Duration::from_secs(180);

pub(crate) async fn rows(region: &Region) -> anyhow::Result<Vec<Row>> {
    let nodes = Api::<Node>::all(region.client().await?);
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        let started = Instant::now();
        set_desired(region, 4)?;
        let ready = fourth_ready(nodes.clone());
        tokio::time::timeout(LIMIT, ready).await.context("no fourth node")??;
        samples.push(started.elapsed());
        set_desired(region, 3)?;
        tokio::time::timeout(GONE, fourth_gone(&nodes))
            .await
            .context("the fourth node stays")??;
    }
    Ok(vec![Row::new(
        "UpdateNodegroupConfig (the AWS CLI) → RunInstances → node Ready",
        seconds(median(&samples)),
        "EC2: 40 to 90 s",
        "3 s",
    )])
}

/// A node's object goes a while after its instance.
async fn fourth_gone(nodes: &Api<Node>) -> anyhow::Result<()> {
    while nodes.list_metadata(&Default::default()).await?.items.len() > 3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

async fn fourth_ready(nodes: Api<Node>) -> anyhow::Result<()> {
    let mut ready = std::collections::BTreeSet::new();
    let mut events = watcher(nodes, watcher::Config::default()).applied_objects().boxed();
    while ready.len() < 4 {
        let node = events.next().await.context("the watch ended")??;
        if is_ready(&node) {
            ready.insert(node.metadata.name);
        }
    }
    Ok(())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|it| it.conditions.as_ref());
    conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
}

fn set_desired(region: &Region, desired: u32) -> anyhow::Result<()> {
    let target = ["--cluster-name", CLUSTER, "--nodegroup-name", "default"];
    let desired = format!("desiredSize={desired}");
    let change = ["--scaling-config", &desired];
    region.aws(&[&["eks", "update-nodegroup-config"][..], &target, &change].concat())?;
    Ok(())
}
