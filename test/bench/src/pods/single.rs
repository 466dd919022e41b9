//! A pod from its creation to Running, one by one, beside the bare CRI calls for the same pod.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Bed, floor, is_running, seen};
use crate::{
    memory,
    rows::{Row, median, millis},
};

const SAMPLES: usize = 20;

pub(super) async fn rows(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let probe = json!({"readinessProbe": {"exec": {"command": ["true"]}}});
    let bare = json!({"automountServiceAccountToken": false});
    let mut rows = Vec::new();
    // The node has the image before anything is measured, the bare calls included.
    one(bed, "first", &bare, &json!({})).await?;
    let floor = floor::measure(&bed.socket(), "").await?;
    let text = format!("{} (bare CRI calls)", millis(floor));
    let ordinary = measure(bed, "single", &json!({}), &probe).await?;
    let what = "pod with token volume and probe: created → Running, one by one";
    rows.push(Row::new(what, millis(ordinary), text.clone(), "floor + 60 ms"));
    let plain = measure(bed, "plain", &bare, &json!({})).await?;
    rows.push(Row::new("pod without volumes: created → Running", millis(plain), text, "250 ms"));
    if bed.has_crun().await? {
        let row = crun(bed, &probe).await;
        rows.push(row.unwrap_or_else(|error| Row::missing("the first, with crun", &error)));
    }
    Ok(rows)
}

/// The same pod with the other runtime, by its RuntimeClass.
async fn crun(bed: &Bed, probe: &Value) -> anyhow::Result<Row> {
    let floor = floor::measure(&bed.socket(), "crun").await?;
    let spec = json!({"runtimeClassName": "crun"});
    let taken = measure(bed, "crun", &spec, probe).await?;
    let floor = format!("{} (bare CRI calls, crun)", millis(floor));
    Ok(Row::new("the first, with crun", millis(taken), floor, "floor + 60 ms"))
}

async fn measure(
    bed: &Bed,
    name: &str,
    spec: &Value,
    container: &Value,
) -> anyhow::Result<Duration> {
    // Everything has run once before anything is measured.
    one(bed, &format!("{name}-warm"), spec, container).await?;
    let mut samples = Vec::new();
    for index in 0..SAMPLES {
        samples.push(one(bed, &format!("{name}-{index}"), spec, container).await?);
    }
    Ok(median(&samples))
}

async fn one(bed: &Bed, name: &str, spec: &Value, container: &Value) -> anyhow::Result<Duration> {
    let pod = bed.pod(name, spec, container)?;
    let shims = memory::shims_of(bed.instance.pid);
    let mut events = bed.watch(name);
    let started = Instant::now();
    let (made, running) = tokio::join!(bed.create(&pod), seen(&mut events, is_running));
    made?;
    bed.delete(name).await?;
    bed.cleared(shims).await?;
    Ok(running?.duration_since(started))
}
