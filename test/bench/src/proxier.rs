//! The proxier alone, with the kernel of a throw-away network namespace: what a change costs with few
//! and with many Services, and what the whole table costs.

use std::{
    fs::File,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use kube_proxy::{
    compile::{LocalDetector, NodePorts, Options},
    endpoint_slices::{Here, Slice, reduce},
    proxier::Proxier,
    service_map::{ServiceName, ports_of},
};
use linux_nftables::{Family, Nft};
use nix::sched::{CloneFlags, setns};
use serde_json::json;

use crate::rows::{Row, median, micros, seconds};

const FEW: usize = 10;
const MANY: usize = 10_000;
const ENDPOINTS: usize = 10;
const SAMPLES: usize = 40;

pub(crate) async fn rows() -> anyhow::Result<Vec<Row>> {
    let (few, many) = (measured(FEW).await?, measured(MANY).await?);
    let row = |what: &str, few: &[Duration], many: &[Duration]| {
        let floor = format!("{} ({FEW} Services)", micros(median(few)));
        Row::new(format!("{what}, 10,000 Services × 10"), micros(median(many)), floor, "20 ms")
    };
    let whole = format!("{} ({FEW} Services)", micros(few.whole));
    Ok(vec![
        row("endpoint replaced → kernel", &few.replaced, &many.replaced),
        row("endpoint added or removed → kernel", &few.resized, &many.resized),
        row("Service added or removed → kernel", &few.service, &many.service),
        Row::new("whole table, 10,000 Services × 10", seconds(many.whole), whole, "3 s"),
    ])
}

#[derive(Debug, Default)]
struct Measured {
    whole: Duration,
    /// The number of endpoints stays.
    replaced: Vec<Duration>,
    resized: Vec<Duration>,
    service: Vec<Duration>,
}

/// As the proxier runs: on threads that are in its network namespace.
async fn measured(services: usize) -> anyhow::Result<Measured> {
    let netns = Netns::new(services)?;
    let file = File::open(netns.path())?;
    let work = move || {
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(measure(services))
    };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || sender.send(work()));
    let found = receiver.await.context("the measuring thread died")?;
    ensure!(thread.join().is_ok_and(|sent| sent.is_ok()), "the measuring thread died");
    found
}

async fn measure(services: usize) -> anyhow::Result<Measured> {
    let options = Options {
        family: Family::Ip,
        masquerade_mark: 0x4000,
        masquerade_all: false,
        local: LocalDetector::Nobody,
        node_ports: NodePorts::All,
        node_ip: None,
        service_cidrs: Vec::new(),
    };
    let here = Here { node: "node".into(), zone: None };
    let mut proxier = Proxier::new(Nft::here(), here, vec![options]);
    for number in 0..services {
        add(&mut proxier, number)?;
    }
    let mut measured = Measured { whole: sync(&mut proxier).await?, ..Measured::default() };
    // The chains for these numbers of endpoints are there after the first time.
    for count in [ENDPOINTS - 1, ENDPOINTS] {
        proxier.set_slice(&name(7), "a", Some(slice(7, count, 0)?));
        sync(&mut proxier).await?;
    }
    for round in 0..SAMPLES {
        proxier.set_slice(&name(7), "a", Some(slice(7, ENDPOINTS, round % 2 * 100)?));
        measured.replaced.push(sync(&mut proxier).await?);
    }
    for round in 0..SAMPLES {
        proxier.set_slice(&name(7), "a", Some(slice(7, ENDPOINTS - round % 2, 0)?));
        measured.resized.push(sync(&mut proxier).await?);
    }
    for round in 0..SAMPLES {
        match round % 2 {
            0 => add(&mut proxier, services)?,
            _ => drop(proxier.set_service(&name(services), Vec::new())),
        }
        measured.service.push(sync(&mut proxier).await?);
    }
    Ok(measured)
}

async fn sync(proxier: &mut Proxier) -> anyhow::Result<Duration> {
    let started = Instant::now();
    proxier.plan().apply(proxier.nft()).await?;
    Ok(started.elapsed())
}

fn name(number: usize) -> ServiceName {
    ServiceName { namespace: "default".into(), name: format!("s{number}") }
}

fn add(proxier: &mut Proxier, number: usize) -> anyhow::Result<()> {
    let service = serde_json::from_value(json!({
        "metadata": { "namespace": "default", "name": format!("s{number}") },
        "spec": {
            "clusterIP": format!("10.100.{}.{}", number / 256, number % 256),
            "ports": [{ "port": 80 }],
        },
    }))?;
    proxier.set_service(&name(number), ports_of(&service));
    proxier.set_slice(&name(number), "a", Some(slice(number, ENDPOINTS, 0)?));
    Ok(())
}

fn slice(number: usize, count: usize, first: usize) -> anyhow::Result<Slice> {
    let endpoints: Vec<_> = (first..first + count)
        .map(|n| json!({ "addresses": [format!("192.168.{}.{}", number / 256 % 256, n + 1)] }))
        .collect();
    let slice = serde_json::from_value(json!({
        "metadata": { "namespace": "default", "labels": { "kubernetes.io/service-name": "x" } },
        "addressType": "IPv4",
        "ports": [{ "name": "", "port": 8000 + number % 1000 }],
        "endpoints": endpoints,
    }))?;
    reduce(&slice).map(|(_, slice)| slice).context("the slice is of a Service")
}

struct Netns(String);

impl Netns {
    fn new(number: usize) -> anyhow::Result<Self> {
        let name = format!("nst-t-bench-{}-{number}", std::process::id());
        let status = Command::new("ip").args(["netns", "add", &name]).status()?;
        ensure!(status.success(), "cannot make network namespaces here");
        Ok(Self(name))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
    }
}
