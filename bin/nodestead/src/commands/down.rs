//! `nodestead down`: stops everything that `up` started, whatever state it is in.
//!
//! Teardown collects: it tries everything and reports all that failed. It needs no daemon: what
//! belongs to a region is found by the region's id, so that it works after a `kill -9` of anything.
//! What was begun is ended, whoever interrupts it; one that was killed is done again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use linux_process::Identity;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli,
    commands::up::lock,
    failure::Failure,
    layout::{Layout, Settings},
    progress::{Progress, Waiting},
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
    // Half a removal helps nobody, and a whole one takes seconds: Ctrl-C does not cut it short.
    let _heard = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    if args.all {
        return everything(args.purge).await;
    }
    if !layout.root().exists() {
        return without_folder(&layout);
    }
    let lock = lock(&layout)?;
    let mut progress = Progress::new(3);
    progress.step("stopping the daemon");
    let mut failures = stop_daemon(&layout);
    progress.step("stopping instances, removing networks");
    failures.extend(sweep::everything(&layout).failures);
    progress.step(if args.purge { "deleting the state" } else { "keeping the state" });
    let mut kept = Vec::new();
    if args.purge && failures.is_empty() {
        match purge_state(&layout).await {
            Ok(others) => kept = others,
            Err(error) => failures.push(error),
        }
    }
    progress.done();
    drop(lock);
    say_kept(&layout, &kept);
    verdict(&failures, "nodestead down")
}

/// The data directory was removed by hand, or never was. What runs is found by the region's id,
/// which follows from the folder's name.
fn without_folder(layout: &Layout) -> anyhow::Result<()> {
    let waiting = Waiting::new("looking for what is left");
    let report = sweep::everything(layout);
    drop(waiting);
    for removed in &report.removed {
        println!("removed {removed}");
    }
    if report.removed.is_empty() && report.failures.is_empty() {
        eprintln!("nothing runs on `{}`", layout.root().display());
    }
    verdict(&report.failures, "nodestead down")
}

/// What keeps the data directory: files that Nodestead did not write.
fn say_kept(layout: &Layout, names: &[String]) {
    if !names.is_empty() {
        let names = names.join(", ");
        eprintln!(
            "kept `{}`: it holds what Nodestead did not write ({names})",
            layout.root().display()
        );
    }
}

/// Every region of the machine, and what killed runs and tests have left.
async fn everything(purge: bool) -> anyhow::Result<()> {
    let claim = Claim::everything();
    let mut report = Report::default();
    let mut progress = Progress::new(3);
    progress.step("stopping the daemons of all regions");
    for dir in &claim.data_dirs {
        let layout = Layout::new(dir)?;
        if let Some(daemon) = daemon(&layout) {
            report.removed.push(format!("daemon {} of {}", daemon.pid, dir.display()));
        }
        report.failures.extend(stop_daemon(&layout));
    }
    progress.step("stopping instances, removing networks and what was left");
    let swept = machine::remove(&claim);
    report.removed.extend(swept.removed);
    report.failures.extend(swept.failures);
    let is_purged = purge && report.failures.is_empty();
    progress.step(if purge { "deleting the state" } else { "keeping the state" });
    for dir in claim.data_dirs.iter().filter(|_| is_purged) {
        let layout = Layout::new(dir)?;
        match purge_state(&layout).await {
            Ok(kept) => {
                report.removed.push(format!("the state in {}", dir.display()));
                say_kept(&layout, &kept);
            }
            Err(error) => report.failures.push(error),
        }
    }
    progress.done();
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

/// Ends the daemon, if there is one, and removes what says that there is.
fn stop_daemon(layout: &Layout) -> Vec<anyhow::Error> {
    let mut failures = Vec::new();
    if let Some(identity) = daemon(layout) {
        for (signal, limit) in [(Signal::SIGTERM, ORDERLY), (Signal::SIGKILL, ORDERLY)] {
            failures.extend(identity.signal(signal).err().map(Into::into));
            if identity.wait(limit) {
                break;
            }
        }
        if identity.is_alive() {
            failures.push(anyhow::anyhow!("the daemon, process {}, does not end", identity.pid));
            return failures;
        }
    }
    // Left behind by one that was killed, too.
    for file in [layout.daemon_state(), layout.admin_socket()] {
        failures.extend(remove_file(&file).err());
    }
    failures
}

fn remove_file(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// The daemon of this data directory, if it is alive.
pub(crate) fn daemon(layout: &Layout) -> Option<Identity> {
    let text = fs::read_to_string(layout.daemon_state()).ok()?;
    let identity: Identity = serde_json::from_str(&text).ok()?;
    identity.is_alive().then_some(identity)
}

/// A disk that somebody has mounted there for the region stays.
fn remove_root(root: &Path) -> io::Result<()> {
    match fs::remove_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
        done => done,
    }
}

/// Deletes what Nodestead wrote, and the folder if nothing else is in it; gives what else there is.
async fn purge_state(layout: &Layout) -> anyhow::Result<Vec<String>> {
    match Settings::load(layout) {
        Ok(known) => {
            if let Some(etcd) = known.and_then(|it| it.etcd) {
                mvcc::erase(&etcd.config("")?).await.context("deleting the state in etcd")?;
            }
        }
        // Nothing else says where it was.
        Err(error) => {
            eprintln!("Note: {error}: if the region's state was in etcd, it is there still");
        }
    }
    let folders = [
        layout.binaries(),
        layout.instances(),
        layout.consoles(),
        layout.amis(),
        layout.clusters(),
        layout.registry(),
        layout.pki(),
    ];
    for folder in folders.iter().filter(|it| it.exists()) {
        fs::remove_dir_all(folder)?;
    }
    let files: [PathBuf; 10] = [
        layout.settings(),
        layout.daemon_log(),
        layout.daemon_state(),
        layout.admin_socket(),
        layout.kubeconfig(),
        layout.region_store(),
        layout.root_key(),
        layout.aws_log(),
        layout.aws_log_before(),
        layout.lock(),
    ];
    for file in &files {
        remove_file(file)?;
        // What a write that was cut short has left.
        remove_file(&file.with_extension("part"))?;
    }
    let others = fs::read_dir(layout.root())?;
    let others: Vec<String> =
        others.flatten().map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    if others.is_empty() {
        remove_root(layout.root())?;
    }
    Ok(others)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// As after `kill -9` of the daemon: nobody removed its socket, and its log had been turned.
    fn killed_region(folder: &Path) -> Layout {
        let layout = Layout::new(folder).unwrap();
        fs::create_dir_all(layout.pki()).unwrap();
        let files = [layout.aws_log(), layout.aws_log_before(), layout.region_store()];
        for file in files.into_iter().chain([layout.root_key()]) {
            fs::write(file, "x").unwrap();
        }
        fs::write(layout.root().join("settings.part"), "cut sh").unwrap();
        fs::create_dir(layout.consoles()).unwrap();
        fs::write(layout.consoles().join("i-0"), "shown").unwrap();
        let gone = Identity { pid: std::process::id().cast_signed(), start_time: 1 };
        fs::write(layout.daemon_state(), serde_json::to_vec(&gone).unwrap()).unwrap();
        drop(UnixListener::bind(layout.admin_socket()).unwrap());
        layout
    }

    #[tokio::test]
    async fn a_region_whose_settings_are_damaged_can_be_removed() {
        for damaged in [&b"{"[..], &[0xff, 0xfe]] {
            let parent = tempfile::tempdir().unwrap();
            let layout = killed_region(&parent.path().join("region"));
            fs::write(layout.settings(), damaged).unwrap();
            let refused = Settings::load(&layout).unwrap_err();
            assert!(refused.downcast_ref::<Failure>().is_some(), "{refused:#}");
            assert_eq!(purge_state(&layout).await.unwrap(), Vec::<String>::new());
            assert!(!layout.root().exists());
        }
    }

    #[tokio::test]
    async fn nothing_of_a_region_whose_daemon_was_killed_stays_after_a_purge() {
        let parent = tempfile::tempdir().unwrap();
        let layout = killed_region(&parent.path().join("region"));
        assert!(stop_daemon(&layout).is_empty());
        assert!(!layout.admin_socket().exists() && !layout.daemon_state().exists());
        assert_eq!(purge_state(&layout).await.unwrap(), Vec::<String>::new());
        assert!(!layout.root().exists());
    }

    #[tokio::test]
    async fn a_file_of_the_users_keeps_the_folder_and_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let layout = killed_region(&parent.path().join("region"));
        fs::write(layout.root().join("notes.txt"), "mine").unwrap();
        stop_daemon(&layout);
        assert_eq!(purge_state(&layout).await.unwrap(), ["notes.txt"]);
        assert!(layout.root().join("notes.txt").exists());
    }
}
