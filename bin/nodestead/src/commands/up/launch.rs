//! Starts the daemon, once: binaries first, then the process, then its word that it is ready.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use linux_process::{Identity, Signal};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{failure::Failure, layout::Layout};

/// What the daemon prints once all its listeners answer.
pub(crate) const READY: &str = "ready";

/// Programs that nodes run beside this one, built beside it.
const COMPANIONS: [&str; 2] = ["nodestead-addons", "nodestead-cni"];

/// Copies this program and its companions to where instances and images find them. A running
/// instance keeps the file that it was started with.
pub(crate) fn install_binaries(layout: &Layout) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    fs::create_dir_all(layout.binaries())?;
    for name in COMPANIONS {
        let companion = own.with_file_name(name);
        if !companion.is_file() {
            bail!(Failure::new(
                format!("the program `{}` is missing", companion.display()),
                "build all three: make build",
            ));
        }
        install(&companion, &layout.binaries().join(name))?;
    }
    install(&own, &layout.binaries().join("nodestead"))?;
    Ok(())
}

fn install(from: &Path, to: &Path) -> anyhow::Result<()> {
    if from == to || is_same(from, to)? {
        return Ok(());
    }
    let temporary = to.with_extension("part");
    let made = fs::copy(from, &temporary)
        .and_then(|_| fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)))
        .and_then(|()| fs::rename(&temporary, to));
    if made.is_err() {
        // Half a program is of no use, and may be what fills the disk.
        drop(fs::remove_file(&temporary));
    }
    made.with_context(|| format!("cannot write `{}`", to.display()))
}

fn is_same(from: &Path, to: &Path) -> anyhow::Result<bool> {
    let Ok(there) = fs::metadata(to) else { return Ok(false) };
    if there.len() != fs::metadata(from)?.len() {
        return Ok(false);
    }
    Ok(fs::read(from)? == fs::read(to)?)
}

/// Starts the daemon and returns when it is ready. One that dies, or is not ready within `limit`
/// and is killed then, is an error with its last words.
pub(crate) async fn daemon(layout: &Layout, limit: Duration) -> anyhow::Result<()> {
    let log = File::options().create(true).append(true).open(layout.daemon_log())?;
    let mut command = command(layout, Stdio::from(log));
    // Its own process group: a Ctrl-C that ends `up` leaves the region running.
    command.process_group(0);
    started(command, layout, limit).await.map(drop)
}

/// As [`daemon`], with its log on this process's standard error, and in its process group.
pub(crate) async fn daemon_in_foreground(
    layout: &Layout,
    limit: Duration,
) -> anyhow::Result<Child> {
    started(command(layout, Stdio::inherit()), layout, limit).await
}

async fn started(mut command: Command, layout: &Layout, limit: Duration) -> anyhow::Result<Child> {
    let child = command.spawn();
    let mut child = child.with_context(|| {
        format!("cannot start `{}`", layout.binaries().join("nodestead").display())
    })?;
    let stdout = child.stdout.take().context("the daemon has no output")?;
    let mut line = String::new();
    let mut reader = BufReader::new(stdout);
    let reading = reader.read_line(&mut line);
    let how = match tokio::time::timeout(limit, reading).await {
        Ok(Ok(_)) if line.trim() == READY => return Ok(child),
        Ok(_) => format!("ended at its start ({})", child.wait().await?),
        Err(_) => {
            child.kill().await?;
            format!("was not ready in {limit:?} and has been stopped")
        }
    };
    bail!(Failure::new(
        format!("the daemon {how}:\n{}", tail(&layout.daemon_log())),
        format!("see `{}`", layout.daemon_log().display()),
    ))
}

/// Stays with the daemon while `work` goes on, and then ends it in an orderly way. A daemon that
/// ends before because it was told to (Ctrl-C reaches both) is as good; any other end is an error.
pub(crate) async fn attend(
    mut daemon: Child,
    work: impl Future<Output = anyhow::Result<()>>,
    limit: Duration,
) -> anyhow::Result<()> {
    let outcome = tokio::select! {
        status = daemon.wait() => match status? {
            status if status.success() => return Ok(()),
            status => bail!("the daemon has ended ({status})"),
        },
        outcome = work => outcome,
    };
    let identity = daemon.id().and_then(|pid| Identity::of(pid.cast_signed()));
    if let Some(identity) = identity {
        identity.signal(Signal::SIGTERM)?;
    }
    if tokio::time::timeout(limit, daemon.wait()).await.is_err() {
        daemon.kill().await?;
        bail!("the daemon did not end in {limit:?} and has been killed");
    }
    outcome
}

fn command(layout: &Layout, log: Stdio) -> Command {
    let mut command = Command::new(layout.binaries().join("nodestead"));
    command
        .arg("daemon")
        .arg("--data-dir")
        .arg(layout.root())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    command
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// The port that was asked for if it is free; without a wish the first free one from `preferred`.
pub(crate) fn free_port(asked: Option<u16>, preferred: u16) -> Result<u16, Failure> {
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    match asked {
        Some(port) if is_free(port) => Ok(port),
        Some(port) => Err(Failure::new(
            format!("port {port} on 127.0.0.1 is in use"),
            "choose another, or leave the flag out to get the next free one",
        )),
        None => (preferred..=u16::MAX)
            .find(|port| is_free(*port))
            .ok_or_else(|| Failure::new("no port on 127.0.0.1 is free", "close some listeners")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A data directory whose daemon is this script.
    fn region(script: &str) -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        fs::create_dir(layout.binaries()).unwrap();
        let program = layout.binaries().join("nodestead");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        (folder, layout)
    }

    #[tokio::test]
    async fn a_daemon_that_hangs_at_its_start_is_stopped_and_its_log_is_shown() {
        let (folder, layout) =
            region("echo $$ > \"$3/pid\"; echo waiting for etcd >&2; exec sleep 600");
        let began = Instant::now();
        let error = daemon(&layout, Duration::from_secs(2)).await.unwrap_err().to_string();
        assert!(began.elapsed() < LIMIT, "it went on");
        assert!(
            error.contains("was not ready in 2s") && error.contains("waiting for etcd"),
            "{error}"
        );
        let pid = fs::read_to_string(folder.path().join("pid")).unwrap().trim().parse().unwrap();
        assert!(linux_process::state(pid).is_none(), "it is still there");
    }

    #[tokio::test]
    async fn a_daemon_that_dies_is_told_with_its_last_words() {
        let (_folder, layout) = region("echo no >&2; exit 3");
        let error = daemon(&layout, LIMIT).await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("no"), "{error}");
    }

    #[tokio::test]
    async fn a_daemon_in_the_foreground_is_ended_in_an_orderly_way_and_its_own_end_is_an_error() {
        let patient = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";
        let (_folder, layout) = region(patient);
        let child = daemon_in_foreground(&layout, LIMIT).await.unwrap();
        attend(child, std::future::ready(Ok(())), LIMIT).await.unwrap();
        let child = daemon_in_foreground(&layout, LIMIT).await.unwrap();
        let failing = std::future::ready(Err(anyhow::anyhow!("no cluster")));
        let error = attend(child, failing, LIMIT).await.unwrap_err();
        assert_eq!(error.to_string(), "no cluster");
        let (_folder, layout) = region("echo ready; exit 4");
        let child = daemon_in_foreground(&layout, LIMIT).await.unwrap();
        let error = attend(child, std::future::pending(), LIMIT).await.unwrap_err();
        assert!(error.to_string().contains("exit status: 4"), "{error}");
    }

    #[test]
    fn a_taken_port_is_refused_when_asked_for_and_skipped_when_not() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(free_port(Some(port), 1).is_err());
        assert_ne!(free_port(None, port).unwrap(), port);
    }
}
