//! 500 pods made and deleted: what is left of them.

use std::{fmt, fs, time::Duration};

use anyhow::bail;
use futures::{StreamExt, TryStreamExt};
use kube::api::ListParams;
use serde_json::json;

use super::{Bed, LIMIT, is_running, seen};
use crate::{memory, rows::Row};

const LIVES: usize = 500;
const AT_ONCE: usize = 8;

pub(super) async fn rows(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    live(bed, "warm", 50).await?;
    let before = Traces::of(bed)?;
    live(bed, "life", LIVES).await?;
    let after = Traces::of(bed)?;
    Ok(vec![Row::new(
        format!("what {LIVES} pods created and deleted leave on their node"),
        format!("{after}"),
        format!("{before} (before)"),
        "no growth",
    )])
}

async fn live(bed: &Bed, prefix: &str, count: usize) -> anyhow::Result<()> {
    let one = |index| async move {
        let name = format!("{prefix}-{index}");
        let pod = bed.pod(&name, &json!({}), &json!({}))?;
        let mut events = bed.watch(&name);
        bed.create(&pod).await?;
        seen(&mut events, is_running).await?;
        bed.delete(&name).await
    };
    futures::stream::iter(0..count)
        .map(one)
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    let deadline = std::time::Instant::now() + LIMIT;
    let list = ListParams::default().labels("bench=pods");
    while !bed.pods.list(&list).await?.items.is_empty() {
        if std::time::Instant::now() > deadline {
            bail!("the pods are not gone within {LIMIT:?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // What is cleared away beside the API object.
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok(())
}

/// What a pod could leave behind on its node.
struct Traces {
    kubelet_mib: f64,
    descriptors: usize,
    shims: usize,
    mounts: usize,
    cgroups: usize,
}

impl Traces {
    fn of(bed: &Bed) -> anyhow::Result<Self> {
        let node = bed.instance.pid;
        let kubelet = memory::kubelet_of(node)?;
        let mounts = fs::read_to_string(format!("/proc/{node}/mounts"))?;
        let listed = fs::read_dir(format!("/proc/{kubelet}/fd"))?;
        let cgroups = format!("/proc/{node}/root/sys/fs/cgroup");
        Ok(Self {
            kubelet_mib: memory::resident_mib(kubelet),
            descriptors: listed.count(),
            shims: memory::shims_of(node),
            mounts: mounts.lines().count(),
            cgroups: folders(&cgroups),
        })
    }
}

fn folders(path: &str) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            count += 1 + folders(&entry.path().display().to_string());
        }
    }
    count
}

impl fmt::Display for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kubelet_mib, descriptors, shims, mounts, cgroups } = self;
        write!(
            f,
            "kubelet {kubelet_mib:.1} MiB, {descriptors} descriptors; {shims} shims, {mounts} mounts, {cgroups} cgroups"
        )
    }
}
