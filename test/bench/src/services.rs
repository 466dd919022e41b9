//! From a Service to the rules in a node's kernel, with 1,000 other Services.
//!
//! `nft monitor` in the instance's network namespace prints each committed change; the time runs
//! from before the API call to the line that holds the new Service's address.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, api::PostParams};
use serde_json::json;

use crate::{
    region::Region,
    rows::{Row, median, millis},
};

const OTHERS: usize = 1000;
const SAMPLES: usize = 20;
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) async fn rows(region: &Region) -> anyhow::Result<Vec<Row>> {
    let services = Api::<Service>::default_namespaced(region.client().await?);
    let instance = region.instances()?.first().cloned().context("no instance")?;
    let empty = samples(&services, instance.pid, "few").await?;
    fill(&services).await?;
    let full = samples(&services, instance.pid, "many").await?;
    Ok(vec![
        Row::new("Service → rules, few Services", millis(median(&empty)), "-", "20 ms"),
        Row::new("Service → rules, 1,000 Services", millis(median(&full)), "-", "20 ms"),
    ])
}

async fn fill(services: &Api<Service>) -> anyhow::Result<()> {
    let create = |index| {
        let services = services.clone();
        async move { services.create(&PostParams::default(), &service(&format!("other-{index}"))).await }
    };
    futures::stream::iter(0..OTHERS)
        .map(create)
        .buffer_unordered(16)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    // The proxies catch up before anything is measured: until a change is seen alone again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok(())
}

async fn samples(services: &Api<Service>, pid: i64, prefix: &str) -> anyhow::Result<Vec<Duration>> {
    let monitor = Monitor::start(pid)?;
    let mut found = Vec::new();
    for index in 0..SAMPLES {
        let started = Instant::now();
        let made =
            services.create(&PostParams::default(), &service(&format!("{prefix}-{index}"))).await?;
        let address = made.spec.and_then(|it| it.cluster_ip).context("no address")?;
        found.push(monitor.await_address(&address)?.duration_since(started));
    }
    Ok(found)
}

/// A Service without endpoints: kube-proxy programs a rejecting entry for it.
fn service(name: &str) -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"selector": {"app": "none"}, "ports": [{"port": 80}]},
    }))
    .expect("the literal is a Service")
}

struct Monitor {
    child: Child,
    lines: mpsc::Receiver<(Instant, String)>,
}

impl Monitor {
    fn start(pid: i64) -> anyhow::Result<Self> {
        let mut child = Command::new("nsenter")
            .args(["--target", &pid.to_string(), "--net", "--"])
            // Its output is a pipe here, which it would fill before it writes.
            .args(["stdbuf", "--output=L", "nft", "monitor"])
            .stdout(Stdio::piped())
            .spawn()
            .context("nsenter")?;
        let stdout = child.stdout.take().context("no output")?;
        let (sender, lines) = mpsc::sync_channel(100_000);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines })
    }

    fn await_address(&self, address: &str) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + LIMIT;
        while let Ok((seen, line)) =
            self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if line.contains(address) {
                return Ok(seen);
            }
        }
        bail!("no rule for {address} within {LIMIT:?}")
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
