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
    region::{Region, output},
    rows::{Row, seconds},
};

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn rows(region: &Region) -> anyhow::Result<Vec<Row>> {
    let nodes = Api::<Node>::all(region.client().await?);
    let started = Instant::now();
    set_desired(region, 4)?;
    tokio::time::timeout(LIMIT, fourth_ready(nodes)).await.context("no fourth node")??;
    let taken = started.elapsed();
    set_desired(region, 3)?;
    Ok(vec![Row::new(
        "UpdateNodegroupConfig → RunInstances → node Ready",
        seconds(taken),
        "EC2: 40 to 90 s",
        "3 s",
    )])
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
    let exports = region.nodestead(&["env"])?;
    let mut command = std::process::Command::new("sh");
    let script = format!(
        "{exports}\naws eks update-nodegroup-config --cluster-name stead --nodegroup-name default \
         --scaling-config desiredSize={desired}"
    );
    output(command.args(["-c", &script]))?;
    Ok(())
}
