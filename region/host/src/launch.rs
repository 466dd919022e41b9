//! The process that becomes an instance: `nodestead run host-launch`.
//!
//! It is started anew for every boot, so that an instance shares nothing with the daemon that
//! wanted it: no session, no descriptor, no cgroup. It joins the instance's cgroup, makes the
//! namespaces, starts PID 1 in them, writes down who that is, and ends.

pub mod command {
    //! The subcommand's flags and its start.

    use std::{io::Write, path::PathBuf};

    use crate::{HostSpec, inside, state};

    /// Start an instance from its description. Used by the daemon; of no use by hand.
    #[derive(Clone, Debug, clap::Args)]
    pub struct Args {
        /// The instance's description.
        #[arg(long)]
        pub spec: PathBuf,
        /// Build the root file system and become init: the second half, inside of the namespaces.
        #[arg(long, hide = true)]
        pub inside: bool,
    }

    pub async fn run(args: Args) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let spec: HostSpec =
            state::load(&args.spec)?.ok_or("the instance's description is gone")?;
        if !args.inside {
            return Ok(super::outside(&spec, &args.spec)?);
        }
        let error = inside::become_init(&spec);
        // Standard output is the launcher's pipe until init takes over.
        writeln!(std::io::stdout(), "{}", telemetry::chain(&error))?;
        Err(error.into())
    }
}

use std::{
    fs::{self, File},
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use linux_cgroup::{Cgroup, CgroupError, Kind, Layout};
use linux_netns::NetnsError;
use linux_process::{EnterError, Fork, Identity, Signal};

use crate::{
    HostSpec,
    inside::{INIT_CGROUP, prepare},
    state::{FileError, State},
};

/// Why an instance did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("failed to prepare the cgroup of `{instance}`")]
    Cgroup {
        instance: String,
        #[source]
        source: CgroupError,
    },
    #[error("failed to open the network namespace of `{instance}`")]
    Netns {
        instance: String,
        #[source]
        source: NetnsError,
    },
    #[error(transparent)]
    File(#[from] FileError),
    #[error("failed to open the console `{}`", path.display())]
    Console {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to start the namespaces of `{instance}`")]
    Spawn {
        instance: String,
        #[source]
        source: EnterError,
    },
    #[error("`{instance}` did not reach its init: {reason}")]
    Inside { instance: String, reason: String },
    #[error("init of `{instance}` ended at once; its console is `{}`", console.display())]
    EndedAtOnce { instance: String, console: PathBuf },
}

/// The console keeps about this much of earlier boots (EC2 keeps 64 KiB).
const CONSOLE_KEPT: u64 = 1 << 20;

fn outside(spec: &HostSpec, spec_file: &Path) -> Result<(), LaunchError> {
    let instance = spec.instance_id.clone();
    // Fails where this process leads a session already, which is as good.
    nix::unistd::setsid().ok();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let cgroups = join_cgroup(spec)
        .map_err(|source| LaunchError::Cgroup { instance: instance.clone(), source })?;
    prepare(spec)?;
    let netns = linux_netns::open(&linux_netns::path(&spec.netns))
        .map_err(|source| LaunchError::Netns { instance: instance.clone(), source })?;
    let console = open_console(&spec.console())
        .map_err(|source| LaunchError::Console { path: spec.console(), source })?;
    let mut command = Command::new(&spec.binary);
    command
        .args(["run", "host-launch", "--inside", "--spec"])
        .arg(spec_file)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(console);
    let mut child = Fork { netns, cgroups }
        .spawn(command)
        .map_err(|source| LaunchError::Spawn { instance: instance.clone(), source })?;
    let mut reason = String::new();
    if let Some(pipe) = &mut child.stdout {
        // The end of the pipe is the beginning of init; a broken pipe says the same.
        pipe.read_to_string(&mut reason).ok();
    }
    let ended = || LaunchError::EndedAtOnce { instance: instance.clone(), console: spec.console() };
    if !reason.trim().is_empty() {
        let reason = reason.trim().to_owned();
        return Err(LaunchError::Inside { instance, reason });
    }
    let init = Identity::of(child.id().cast_signed()).filter(Identity::is_alive);
    let init = init.ok_or_else(ended)?;
    let next = State::load(&spec.folder).ok().flatten().map_or(1, |state| state.boots + 1);
    // Reboots that were asked for while another one was under way are made by that one.
    let boots = spec.boot.max(next);
    let saved =
        State { init, boots, is_netns_fresh: false, is_hibernated: false }.save(&spec.folder);
    if saved.is_err() {
        // An init that nobody can find again must not run on.
        init.signal(Signal::SIGKILL).ok();
        init.wait(Duration::from_secs(5));
    }
    Ok(saved?)
}

/// Joins the instance's cgroup, which is to be the root that the instance sees. On v2 that root must be
/// left again before anything can be started in it: what is returned leads into the group of its init.
fn join_cgroup(spec: &HostSpec) -> Result<Vec<OwnedFd>, CgroupError> {
    let layout = Arc::new(Layout::detect()?);
    let cgroup = Cgroup::new(layout.clone(), &spec.cgroup);
    cgroup.create()?;
    cgroup.set_memory_limit(spec.memory_bytes)?;
    let (region, _) = spec.cgroup.rsplit_once('/').unwrap_or_default();
    let region = Cgroup::new(layout.clone(), region);
    // A cgroup at the top has none around it: the hierarchies' roots are the machine's.
    let around = if region.path().is_empty() { &cgroup } else { &region };
    if !crate::processes::limit(&cgroup, around, spec.memory_bytes)? {
        tracing::warn!(instance = spec.instance_id, "there is no `pids` controller");
    }
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    if usize::try_from(spec.vcpus).unwrap_or(usize::MAX) < machine {
        cgroup.set_cpu_limit(spec.vcpus)?;
    }
    // In the group around it too: what an instance sees as its root, its own root can change.
    if !around.deny_devices_of_machine()? || !cgroup.deny_devices_of_machine()? {
        tracing::warn!(
            instance = spec.instance_id,
            "root may load no eBPF program, which would deny the machine's devices"
        );
    }
    cgroup.add(nix::unistd::getpid().as_raw())?;
    if layout.kind() == Kind::V2 { enter_later(&cgroup.child(INIT_CGROUP)) } else { Ok(Vec::new()) }
}

/// Makes the folder alone: were controllers handed down to it, its parent could hold no process.
fn enter_later(cgroup: &Cgroup) -> Result<Vec<OwnedFd>, CgroupError> {
    let failed =
        |verb, path: &Path, source| CgroupError::File { verb, path: path.to_owned(), source };
    for (_, folder) in cgroup.folders() {
        fs::create_dir_all(&folder).map_err(|source| failed("create", &folder, source))?;
    }
    let open = |path: PathBuf| {
        let file = File::options().write(true).open(&path);
        file.map(OwnedFd::from).map_err(|source| failed("open", &path, source))
    };
    cgroup.procs_files().into_iter().map(open).collect()
}

fn open_console(path: &Path) -> io::Result<File> {
    let is_long = fs::metadata(path).is_ok_and(|it| it.len() > CONSOLE_KEPT);
    if is_long {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    File::options().create(true).append(true).open(path)
}
