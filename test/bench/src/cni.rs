//! The CNI plug-in's ADD on a node with a warm pool, its process start included.
//!
//! The node's own binary is executed in the node's network namespace, as its runtime does, against
//! the node's ipamd, for pods that are throw-away namespaces. The floor is the same binary's `VERSION`:
//! a process that starts, reads its input and answers.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::sched::{CloneFlags, setns};
use serde_json::json;

use crate::{
    region::{Region, output},
    rows::{Row, median},
};

/// Fewer than an interface's addresses: the pool stays warm.
const SAMPLES: usize = 20;
/// The pool is filled by then.
const SETTLE: Duration = Duration::from_secs(10);

pub(crate) fn rows(region: &Region) -> anyhow::Result<Vec<Row>> {
    std::thread::sleep(SETTLE);
    let pid = region.instances()?.first().context("no instance")?.pid;
    // A thread's namespace is its own, and the processes that it starts inherit it.
    let measured = std::thread::spawn(move || measure(pid)).join();
    let (add, delete, floor) = measured.ok().context("the measuring thread panicked")??;
    let floor = format!("{} (its VERSION)", shown(floor));
    Ok(vec![
        Row::new(
            "CNI ADD with a warm pool, process start included",
            shown(add),
            floor.clone(),
            "15 ms",
        ),
        Row::new("CNI DEL", shown(delete), floor, "-"),
    ])
}

fn shown(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

fn measure(pid: i64) -> anyhow::Result<(Duration, Duration, Duration)> {
    let node = Node::of(pid)?;
    setns(&File::open(format!("/proc/{pid}/ns/net"))?, CloneFlags::CLONE_NEWNET)?;
    let (mut adds, mut deletes, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..SAMPLES {
        let pod = Netns::new(number)?;
        floors.push(node.run("VERSION", number, &pod)?);
        adds.push(node.run("ADD", number, &pod)?);
        deletes.push(node.run("DEL", number, &pod)?);
    }
    Ok((median(&adds), median(&deletes), median(&floors)))
}

/// Where the node keeps its plug-in and its ipamd.
struct Node {
    program: PathBuf,
    config: String,
}

impl Node {
    fn of(pid: i64) -> anyhow::Result<Self> {
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let socket = ["run/aws-node/ipamd.sock", "var/run/aws-node/ipamd.sock"]
            .map(|it| root.join(it))
            .into_iter()
            .find(|it| it.exists())
            .context("the node has no ipamd")?;
        let config = json!({
            "cniVersion": "0.4.0", "name": "aws-cni", "type": "aws-cni", "vethPrefix": "eni",
            "mtu": "9001", "ipamdSocket": socket,
        });
        Ok(Self { program: root.join("opt/cni/bin/aws-cni"), config: config.to_string() })
    }

    fn run(&self, command: &str, number: usize, pod: &Netns) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let mut child = Command::new(&self.program)
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", format!("bench-{number}"))
            .env("CNI_NETNS", pod.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", format!("K8S_POD_NAMESPACE=bench;K8S_POD_NAME=bench-{number}"))
            .env("CNI_PATH", "/opt/cni/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("its input")?.write_all(self.config.as_bytes())?;
        let done = child.wait_with_output()?;
        let taken = started.elapsed();
        ensure!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stdout));
        Ok(taken)
    }
}

/// A pod's namespace, which goes with the value.
struct Netns(String);

impl Netns {
    fn new(number: usize) -> anyhow::Result<Self> {
        let name = format!("nst-t-bench-{}-{number}", std::process::id());
        output(Command::new("ip").args(["netns", "add", &name]))?;
        Ok(Self(name))
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
    }
}
