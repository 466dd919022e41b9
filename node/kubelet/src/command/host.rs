//! What a kubelet does to the host that it is started on, and what it demands of it.
//!
//! Upstream: `setupKernelTunables` in `pkg/kubelet/cm/container_manager_linux.go`, the lock file of
//! `cmd/kubelet/app/server.go`.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use linux_process::Watched;
use nix::fcntl::{Flock, FlockArg};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tracing::{info, warn};

use super::Args;
use crate::{cgroups::Hierarchy, node::has_swap, settings::Settings};

/// Kernel settings, and what a kubelet expects of them.
const TUNABLES: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Why this host cannot be a node. The messages are upstream's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum HostError {
    #[error(
        "running with swap on is not supported, please disable swap or set --fail-swap-on flag to false"
    )]
    Swap,
    #[error(
        "kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is in maintenance mode"
    )]
    CgroupV1,
    #[error("invalid kernel flag: {name}, expected value: {expected}, actual value: {actual}")]
    Tunable { name: &'static str, expected: &'static str, actual: String },
}

/// Whether the host can be a node. Changes nothing.
pub(super) fn check(settings: &Settings) -> Result<(), HostError> {
    let config = &settings.config;
    if config.fail_swap_on && has_swap(&settings.proc) {
        return Err(HostError::Swap);
    }
    let is_v1 = matches!(Hierarchy::detect(), Ok(Hierarchy::V1 { .. }));
    if config.fail_cgroup_v1 && is_v1 {
        return Err(HostError::CgroupV1);
    }
    match config.protect_kernel_defaults {
        true => tunables(&settings.proc.join("sys"), true),
        false => Ok(()),
    }
}

/// Sets what is to be set.
pub(super) fn prepare(settings: &Settings) -> Result<(), HostError> {
    let config = &settings.config;
    tunables(&settings.proc.join("sys"), config.protect_kernel_defaults)?;
    let score = config.oom_score_adj.to_string();
    if let Err(error) = std::fs::write(settings.proc.join("self/oom_score_adj"), &score) {
        warn!(score, %error, "the kubelet's OOM score was not set");
    }
    raise_open_files(config.max_open_files);
    Ok(())
}

fn tunables(sys: &Path, is_protected: bool) -> Result<(), HostError> {
    for (name, expected) in TUNABLES {
        let path = sys.join(name);
        let Ok(actual) = std::fs::read_to_string(&path) else { continue };
        let actual = actual.trim().to_owned();
        if actual == expected {
            continue;
        }
        if is_protected {
            return Err(HostError::Tunable { name, expected, actual });
        }
        info!(name, expected, actual, "updating a kernel setting");
        if let Err(error) = std::fs::write(&path, expected) {
            warn!(name, %error, "a kernel setting was not updated");
        }
    }
    Ok(())
}

fn raise_open_files(wanted: i64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok(wanted) = u64::try_from(wanted) else { return };
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted));
    // Without the right to raise the hard limit, it is the most that can be had.
    if raised.is_err()
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard)
    {
        warn!(wanted, %error, "the limit of open files was not raised");
    }
}

/// The lock file, held.
pub(super) struct Lock {
    _held: Option<Flock<File>>,
    contention: Option<Watched>,
}

/// How often a lock that somebody holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(500);

pub(super) async fn acquire_lock(args: &Args) -> io::Result<Lock> {
    let Some(path) = &args.lock_file else { return Ok(Lock { _held: None, contention: None }) };
    info!(path = %path.display(), "acquiring the file lock");
    let held = lock(path).await?;
    let contention = args.exit_on_lock_contention.then(|| watch(path)).transpose()?;
    Ok(Lock { _held: Some(held), contention })
}

async fn lock(path: &PathBuf) -> io::Result<Flock<File>> {
    loop {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(held),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => tokio::time::sleep(LOCK_RETRY).await,
            Err((_, errno)) => return Err(errno.into()),
        }
    }
}

fn watch(path: &Path) -> io::Result<Watched> {
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&events, path, WatchFlags::OPEN | WatchFlags::DELETE_SELF)?;
    Watched::readable(events)
}

impl Lock {
    /// Ends when another process has opened the lock file; never, if that does not matter.
    pub(super) async fn contended(&self) {
        match &self.contention {
            Some(events) if events.happened().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_settings_are_set_or_insisted_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vm/overcommit_memory");
        std::fs::create_dir(folder.path().join("vm")).unwrap();
        std::fs::write(&path, "0\n").unwrap();
        let error = tunables(folder.path(), true).unwrap_err().to_string();
        let expected =
            "invalid kernel flag: vm/overcommit_memory, expected value: 1, actual value: 0";
        assert_eq!(error, expected);
        tunables(folder.path(), false).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1");
        tunables(folder.path(), true).unwrap();
    }

    #[tokio::test]
    async fn a_lock_is_given_up_when_another_wants_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let args = Args {
            lock_file: Some(path.clone()),
            exit_on_lock_contention: true,
            ..Args::default()
        };
        let lock = acquire_lock(&args).await.unwrap();
        let other = File::options().write(true).open(&path).unwrap();
        assert!(Flock::lock(other, FlockArg::LockExclusiveNonblock).is_err(), "it is held");
        tokio::time::timeout(Duration::from_secs(5), lock.contended()).await.unwrap();
    }
}
