//! From the end of a container's process to the status that tells of it.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use super::{Bed, floor, is_running, phase, seen};
use crate::{
    memory,
    rows::{Row, median, millis},
};

const SAMPLES: usize = 20;
pub(super) const SETTLE: Duration = Duration::from_millis(500);

pub(super) async fn rows(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let mut samples = Vec::new();
    for index in 0..SAMPLES {
        let name = format!("exit-{index}");
        // A number that no other process on this machine sleeps for.
        let mark = format!("{}", 7_310_000 + index);
        let container = json!({"command": ["sleep", mark]});
        let shims = memory::shims_of(bed.instance.pid);
        let pod = bed.pod(&name, &json!({"restartPolicy": "Never"}), &container)?;
        let mut events = bed.watch(&name);
        bed.create(&pod).await?;
        seen(&mut events, is_running).await?;
        // Its start is over.
        tokio::time::sleep(SETTLE).await;
        let process = process(&mark).context("the container's process")?;
        let started = Instant::now();
        kill(process, Signal::SIGKILL)?;
        let told = seen(&mut events, |pod| phase(pod) == "Failed").await?;
        samples.push(told.duration_since(started));
        bed.delete(&name).await?;
        bed.cleared(shims).await?;
    }
    let floor =
        format!("{} (asking containerd over and over)", millis(floor::exit(&bed.socket()).await?));
    let what = "container's process killed → seen in the pod's status";
    Ok(vec![Row::new(what, millis(median(&samples)), floor, "50 ms")])
}

/// The process whose last argument is `mark`.
pub(super) fn process(mark: &str) -> Option<Pid> {
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse() else { continue };
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if line.trim_end_matches('\0').split('\0').next_back() == Some(mark) {
            return Some(Pid::from_raw(id));
        }
    }
    None
}
