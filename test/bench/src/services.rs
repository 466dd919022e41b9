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
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::json;

use crate::{
    region::{Region, output},
    rows::{Row, median, millis},
};

const OTHERS: usize = 1000;
const SAMPLES: usize = 20;
const LIMIT: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) async fn rows(region: &Region) -> anyhow::Result<Vec<Row>> {
    let services = Api::<Service>::default_namespaced(region.client().await?);
    let instance = region.instances()?.first().cloned().context("no instance")?;
    let monitor = Monitor::start(instance.pid)?;
    let floor = monitor.floor()?;
    let few = samples(&services, &monitor, "few", SAMPLES).await?;
    fill(&services).await?;
    settle(region).await?;
    // The proxy has caught up once it shows a Service that was made last.
    samples(&services, &monitor, "last", 1).await?;
    let many = samples(&services, &monitor, "many", SAMPLES).await?;
    let floor = format!("{} (`nft` alone)", millis(median(&floor)));
    let row = |what: &str, found: &[Duration]| {
        Row::new(what, millis(median(found)), floor.clone(), "20 ms")
    };
    Ok(vec![
        row("Service → rules, few Services", &few),
        row("Service → rules, 1,000 Services", &many),
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
        .await
        .context("the other Services")
}

/// The control plane is done with what was filled in: each Service has its slice.
async fn settle(region: &Region) -> anyhow::Result<()> {
    let slices = Api::<EndpointSlice>::default_namespaced(region.client().await?);
    let deadline = Instant::now() + LIMIT;
    while slices.list_metadata(&ListParams::default()).await?.items.len() < OTHERS {
        if Instant::now() > deadline {
            bail!("the other Services have no slices within {LIMIT:?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(SETTLE).await;
    Ok(())
}

async fn samples(
    services: &Api<Service>,
    monitor: &Monitor,
    prefix: &str,
    count: usize,
) -> anyhow::Result<Vec<Duration>> {
    let mut found = Vec::new();
    for index in 0..count {
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

/// `nft monitor` in an instance's network namespace, and a table of its own there.
struct Monitor {
    pid: String,
    child: Child,
    lines: mpsc::Receiver<(Instant, String)>,
}

const TABLE: &str = "nodestead-bench";

impl Monitor {
    fn start(pid: i64) -> anyhow::Result<Self> {
        let pid = pid.to_string();
        let mut child = inside(&pid)
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
        let monitor = Self { pid, child, lines };
        monitor.await_attached()?;
        Ok(monitor)
    }

    /// Until it shows a change, it may not be listening yet.
    fn await_attached(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            self.nft(&format!("add table ip {TABLE}; delete table ip {TABLE}"))?;
            if self.lines.recv_timeout(Duration::from_millis(100)).is_ok() {
                return self.nft(&format!(
                    "add table ip {TABLE}; add set ip {TABLE} a {{ type ipv4_addr; }}"
                ));
            }
        }
        bail!("`nft monitor` shows nothing within {LIMIT:?}")
    }

    /// One element, put in by `nft` itself and seen by the monitor.
    fn floor(&self) -> anyhow::Result<Vec<Duration>> {
        let mut found = Vec::new();
        for index in 0..SAMPLES {
            let address = format!("192.0.2.{}", index + 1);
            let started = Instant::now();
            self.nft(&format!("add element ip {TABLE} a {{ {address} }}"))?;
            found.push(self.await_address(&address)?.duration_since(started));
        }
        Ok(found)
    }

    fn nft(&self, commands: &str) -> anyhow::Result<()> {
        output(inside(&self.pid).args(["nft", commands])).map(drop)
    }

    fn await_address(&self, address: &str) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + LIMIT;
        while let Ok((seen, line)) =
            self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if line.split([' ', ',']).any(|word| word == address) {
                return Ok(seen);
            }
        }
        bail!("no rule for {address} within {LIMIT:?}")
    }
}

/// A command in the network namespace of an instance.
fn inside(pid: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", pid, "--net", "--"]);
    command
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.nft(&format!("delete table ip {TABLE}")));
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
