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
use kube::{Api, api::PostParams};
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
    let slices = Api::<EndpointSlice>::default_namespaced(region.client().await?);
    let apis = Apis { services, slices };
    let few = samples(&apis, &monitor, "few", SAMPLES).await?;
    fill(&apis).await?;
    tokio::time::sleep(SETTLE).await;
    // The proxy has caught up once it shows a Service that was made last.
    samples(&apis, &monitor, "last", 1).await?;
    let many = samples(&apis, &monitor, "many", SAMPLES).await?;
    // Not the same path: kube-proxy starts no program.
    let floor = format!("{} (starting `nft`)", millis(median(&floor)));
    let row = |what: &str, found: &[Duration]| {
        Row::new(what, millis(median(found)), floor.clone(), "20 ms")
    };
    Ok(vec![
        row("Service → rules, few Services", &few),
        row("Service → rules, 1,000 Services", &many),
    ])
}

struct Apis {
    services: Api<Service>,
    slices: Api<EndpointSlice>,
}

impl Apis {
    /// A ready endpoint of the Service of this name, which nobody has to run.
    async fn create_endpoint(&self, name: &str) -> anyhow::Result<()> {
        let slice = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"port": 80, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["198.51.100.7"], "conditions": {"ready": true}}],
        }))?;
        self.slices.create(&PostParams::default(), &slice).await?;
        Ok(())
    }

    async fn create_service(&self, name: &str) -> anyhow::Result<Service> {
        Ok(self.services.create(&PostParams::default(), &service(name)).await?)
    }
}

async fn fill(apis: &Apis) -> anyhow::Result<()> {
    futures::stream::iter(0..OTHERS)
        .map(|index| async move {
            let name = format!("other-{index}");
            apis.create_endpoint(&name).await?;
            apis.create_service(&name).await
        })
        .buffer_unordered(16)
        .try_for_each(|_| async { Ok(()) })
        .await
        .context("the other Services")
}

async fn samples(
    apis: &Apis,
    monitor: &Monitor,
    prefix: &str,
    count: usize,
) -> anyhow::Result<Vec<Duration>> {
    let mut found = Vec::new();
    for index in 0..count {
        let name = format!("{prefix}-{index}");
        apis.create_endpoint(&name).await?;
        let started = Instant::now();
        let made = apis.create_service(&name).await?;
        let address = made.spec.and_then(|it| it.cluster_ip).context("no address")?;
        found.push(monitor.await_address(&address)?.duration_since(started));
    }
    Ok(found)
}

/// Without a selector: its slice is ours.
fn service(name: &str) -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"ports": [{"port": 80}]},
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
