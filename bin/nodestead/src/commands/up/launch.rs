//! Starts the daemon, once: binaries first, then the process, then its word that it is ready.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail};

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
    fs::copy(from, &temporary)
        .with_context(|| format!("cannot write `{}`", temporary.display()))?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755))?;
    Ok(fs::rename(temporary, to)?)
}

fn is_same(from: &Path, to: &Path) -> anyhow::Result<bool> {
    let Ok(there) = fs::metadata(to) else { return Ok(false) };
    if there.len() != fs::metadata(from)?.len() {
        return Ok(false);
    }
    Ok(fs::read(from)? == fs::read(to)?)
}

/// Starts the daemon and returns when it is ready; a daemon that dies is an error with its last
/// words.
pub(crate) fn daemon(layout: &Layout) -> anyhow::Result<()> {
    let log = File::options().create(true).append(true).open(layout.daemon_log())?;
    let mut child = spawn(layout, Stdio::from(log))?;
    let stdout = child.stdout.take().context("the daemon has no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim() == READY {
        return Ok(());
    }
    let status = child.wait()?;
    bail!(Failure::new(
        format!("the daemon ended at its start ({status}):\n{}", tail(&layout.daemon_log())),
        format!("see `{}`", layout.daemon_log().display()),
    ))
}

fn spawn(layout: &Layout, log: Stdio) -> anyhow::Result<Child> {
    let binary: PathBuf = layout.binaries().join("nodestead");
    let mut command = Command::new(&binary);
    command
        .arg("daemon")
        .arg("--data-dir")
        .arg(layout.root())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // Its own process group: a Ctrl-C that ends `up` leaves the region running.
        .process_group(0);
    command.spawn().with_context(|| format!("cannot start `{}`", binary.display()))
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
    use super::*;

    #[test]
    fn a_taken_port_is_refused_when_asked_for_and_skipped_when_not() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(free_port(Some(port), 1).is_err());
        assert_ne!(free_port(None, port).unwrap(), port);
    }
}
