//! `nodestead down`: stops everything that `up` started, whatever state it is in.
//!
//! Teardown collects: it tries everything and reports all that failed. It needs no daemon: what
//! belongs to a region is found by the region's id, so that it works after a `kill -9` of anything.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use linux_process::Identity;
use nix::sys::signal::Signal;

use crate::{
    cli,
    commands::up::lock,
    failure::Failure,
    layout::{Layout, Settings},
    progress::Progress,
    sweep::{
        self,
        machine::{self, Claim, Report},
    },
};

/// How long the daemon may take to end by itself.
const ORDERLY: Duration = Duration::from_secs(10);

pub(crate) async fn run(args: cli::Down) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    if !nix::unistd::geteuid().is_root() {
        bail!(Failure::new("taking a region down takes root", "run it with sudo"));
    }
    if args.all {
        return everything(args.purge).await;
    }
    if !layout.root().exists() {
        eprintln!("nothing runs on `{}`", layout.root().display());
        return Ok(());
    }
    let lock = lock(&layout)?;
    let mut progress = Progress::new(3);
    progress.step("stopping the daemon");
    let mut failures = stop_daemon(&layout);
    progress.step("stopping instances, removing networks");
    failures.extend(sweep::everything(&layout));
    progress.step(if args.purge { "deleting the state" } else { "keeping the state" });
    if args.purge && failures.is_empty() {
        failures.extend(purge_state(&layout).await.err());
    }
    progress.done();
    drop(lock);
    verdict(&failures, "nodestead down")
}

/// Every region of the machine, and what killed runs and tests have left.
async fn everything(purge: bool) -> anyhow::Result<()> {
    let claim = Claim::everything();
    let mut report = Report::default();
    for dir in &claim.data_dirs {
        let layout = Layout::new(dir)?;
        if let Some(daemon) = daemon(&layout) {
            report.removed.push(format!("daemon {} of {}", daemon.pid, dir.display()));
        }
        report.failures.extend(stop_daemon(&layout));
    }
    let swept = machine::remove(&claim);
    report.removed.extend(swept.removed);
    report.failures.extend(swept.failures);
    let is_purged = purge && report.failures.is_empty();
    for dir in claim.data_dirs.iter().filter(|_| is_purged) {
        let done = purge_state(&Layout::new(dir)?).await;
        report.removed.push(format!("the state in {}", dir.display()));
        report.failures.extend(done.err());
    }
    for removed in &report.removed {
        println!("removed {removed}");
    }
    if report.removed.is_empty() && report.failures.is_empty() {
        println!("nothing of Nodestead is on this machine");
    }
    verdict(&report.failures, "nodestead down --all")
}

fn verdict(failures: &[anyhow::Error], again: &str) -> anyhow::Result<()> {
    if failures.is_empty() {
        return Ok(());
    }
    let list: Vec<_> = failures.iter().map(|it| format!("  {it:#}")).collect();
    bail!(Failure::new(
        format!("some of it could not be removed:\n{}", list.join("\n")),
        format!("run `{again}` again; what is gone stays gone"),
    ))
}

fn stop_daemon(layout: &Layout) -> Vec<anyhow::Error> {
    let Some(identity) = daemon(layout) else { return Vec::new() };
    let mut failures = Vec::new();
    for (signal, limit) in [(Signal::SIGTERM, ORDERLY), (Signal::SIGKILL, ORDERLY)] {
        failures.extend(identity.signal(signal).err().map(Into::into));
        if identity.wait(limit) {
            break;
        }
    }
    for file in [layout.daemon_state(), layout.admin_socket()] {
        drop(fs::remove_file(file));
    }
    failures
}

/// The daemon of this data directory, if it is alive.
pub(crate) fn daemon(layout: &Layout) -> Option<Identity> {
    let text = fs::read_to_string(layout.daemon_state()).ok()?;
    let identity: Identity = serde_json::from_str(&text).ok()?;
    identity.is_alive().then_some(identity)
}

/// Deletes what Nodestead wrote, and the folder if nothing else is in it.
async fn purge_state(layout: &Layout) -> anyhow::Result<()> {
    if let Some(etcd) = Settings::load(layout)?.and_then(|it| it.etcd) {
        mvcc::erase(&etcd.config("")?).await.context("deleting the state in etcd")?;
    }
    let folders = [
        layout.binaries(),
        layout.instances(),
        layout.amis(),
        layout.clusters(),
        layout.registry(),
        layout.pki(),
    ];
    for folder in folders.iter().filter(|it| it.exists()) {
        fs::remove_dir_all(folder)?;
    }
    let files: [PathBuf; 7] = [
        layout.settings(),
        layout.daemon_log(),
        layout.daemon_state(),
        layout.kubeconfig(),
        layout.region_store(),
        layout.aws_log(),
        layout.lock(),
    ];
    for file in files.iter().filter(|it| it.exists()) {
        fs::remove_file(file)?;
    }
    // A file of the user's keeps its folder.
    drop(fs::remove_dir(layout.root()));
    Ok(())
}
