//! All instances of a region on this machine: started, found, stopped, removed.
//!
//! Every operation is idempotent and begins with what is there, so it can be repeated after a crash
//! at any line.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use linux_cgroup::{Cgroup, CgroupError, Layout};
use linux_mount::MountError;
use linux_netns::NetnsError;
use linux_process::{Identity, Signal, SignalError};

use crate::{
    HostSpec, Remains, power,
    spec::console_of,
    state::{self, FileError, State, make_folder},
};

/// How long a launch may take, on a machine with a lot to do.
const LAUNCH_LIMIT: Duration = Duration::from_secs(60);
/// How long the processes of an instance may take to end once they are killed.
const KILL_LIMIT: Duration = Duration::from_secs(20);
/// How often init is asked to end.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Looks after the instances whose folders are in one folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hosts {
    folder: PathBuf,
    layout: Arc<Layout>,
}

/// What an instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Its PID 1 runs.
    Running(Identity),
    /// Its processes are there and stand still.
    Hibernated(Identity),
    /// It was started once and runs no more: shut down from outside, or without power.
    Stopped,
    /// It switched itself off.
    PoweredOff,
    /// It has never been started.
    Prepared,
}

/// One instance, as found on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub spec: HostSpec,
    pub condition: Condition,
    pub boots: u64,
}

/// An operation on an instance that failed. Each can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("failed to find the machine's cgroups")]
    Layout {
        #[source]
        source: CgroupError,
    },
    #[error(
        "`{}` is on an overlay file system, which cannot hold another one: choose a data directory \
         on a disk (ext4, xfs) or in memory (tmpfs)",
        folder.display()
    )]
    FileSystem { folder: PathBuf },
    #[error(transparent)]
    File(#[from] FileError),
    #[error("failed to list `{}`", folder.display())]
    List {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{id}` is not the name of an instance")]
    BadId { id: String },
    #[error("there is no instance `{id}` on this machine")]
    Unknown { id: String },
    #[error("failed to make the network namespace of `{id}`")]
    Netns {
        id: String,
        #[source]
        source: NetnsError,
    },
    #[error("failed to run the launcher `{}`", program.display())]
    Launcher {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to start `{id}`: {reason}")]
    Launch { id: String, reason: String },
    #[error("failed to signal init of `{id}`")]
    Signal {
        id: String,
        #[source]
        source: SignalError,
    },
    #[error("failed to clear the cgroup of `{id}`")]
    Cgroup {
        id: String,
        #[source]
        source: CgroupError,
    },
    #[error(
        "the processes of `{id}` do not stand still: there is no freezer, or one of them waits in the kernel"
    )]
    NotFrozen { id: String },
    #[error("failed to remove the files of `{id}`")]
    Remove {
        id: String,
        #[source]
        source: MountError,
    },
    #[error("failed to wait for the end of `{id}`")]
    Wait {
        id: String,
        #[source]
        source: io::Error,
    },
}

impl Hosts {
    /// `folder` holds one folder per instance; it must be on a file system that overlays can use.
    pub fn new(folder: &Path) -> Result<Self, HostError> {
        make_folder(folder)?;
        let stat = nix::sys::statfs::statfs(folder)
            .map_err(|errno| HostError::List { folder: folder.to_owned(), source: errno.into() })?;
        if stat.filesystem_type() == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC {
            return Err(HostError::FileSystem { folder: folder.to_owned() });
        }
        let layout = Layout::detect().map_err(|source| HostError::Layout { source })?;
        Ok(Self { folder: folder.to_owned(), layout: Arc::new(layout) })
    }

    /// The folder of an instance: what [`HostSpec::folder`] must be.
    pub fn folder_of(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    /// Makes the instance's folder and network namespace, so that the VPC can put interfaces in
    /// before it boots.
    pub async fn prepare(&self, spec: &HostSpec) -> Result<(), HostError> {
        let (hosts, spec) = (self.clone(), spec.clone());
        blocking(move || hosts.prepare_now(&spec)).await
    }

    /// Makes sure that the instance runs: one that hibernates goes on where it was. Says whether it had
    /// to be started.
    pub async fn ensure(&self, spec: &HostSpec) -> Result<bool, HostError> {
        let (hosts, spec) = (self.clone(), spec.clone());
        blocking(move || hosts.ensure_now(&spec)).await
    }

    /// Shuts the instance down: init gets `grace` to end in order, then the power goes. One that
    /// hibernates is not woken for that.
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<(), HostError> {
        let (hosts, id) = (self.clone(), id.to_owned());
        blocking(move || hosts.stop_now(&id, grace)).await
    }

    /// Shuts the instance down and starts it again. Its interfaces are gone until the VPC is applied
    /// the next time, as after [`Hosts::prepare`].
    pub async fn reboot(&self, spec: &HostSpec, grace: Duration) -> Result<(), HostError> {
        let (hosts, spec) = (self.clone(), spec.clone());
        blocking(move || {
            hosts.stop_now(&spec.instance_id, grace)?;
            hosts.ensure_now(&spec).map(drop)
        })
        .await
    }

    /// Removes the instance with all that it had, whatever is left of it and readable. One that does
    /// not exist is no error.
    pub async fn terminate(&self, remains: &Remains) -> Result<(), HostError> {
        let (hosts, remains) = (self.clone(), remains.clone());
        blocking(move || hosts.terminate_now(&remains)).await
    }

    /// Writes down anew what cannot be read of an instance. Where that is who its PID 1 is, what runs
    /// of it is killed, and it is as one that was never started; its disk stays as it is.
    pub async fn mend(&self, spec: &HostSpec) -> Result<(), HostError> {
        let (hosts, spec) = (self.clone(), spec.clone());
        blocking(move || hosts.mend_now(&spec)).await
    }

    /// All instances on this machine, by id; of one whose folder is damaged nothing is known.
    pub fn observe(&self) -> Result<BTreeMap<String, Result<Observed, HostError>>, HostError> {
        let failed = |source| HostError::List { folder: self.folder.clone(), source };
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(id) = name.to_str() else { continue };
            if let Some(observed) = self.find(id).transpose() {
                found.insert(id.to_owned(), observed);
            }
        }
        Ok(found)
    }

    /// One instance; `None` when there is none of that id.
    pub fn find(&self, id: &str) -> Result<Option<Observed>, HostError> {
        check(id)?;
        let folder = self.folder_of(id);
        let Some(spec) = state::load::<HostSpec>(&spec_file(&folder))? else { return Ok(None) };
        let state = State::load(&folder)?;
        let condition = match state {
            None => Condition::Prepared,
            Some(state) if state.init.is_alive() && state.is_hibernated => {
                Condition::Hibernated(state.init)
            }
            Some(state) if state.init.is_alive() => Condition::Running(state.init),
            Some(_) if power::is_switched_off(&spec.upper()) => Condition::PoweredOff,
            Some(_) => Condition::Stopped,
        };
        Ok(Some(Observed { spec, condition, boots: state.map_or(0, |it| it.boots) }))
    }

    /// Ends when the instance's PID 1 has ended, for whatever reason. At once when it does not run.
    pub async fn ended(&self, id: &str) -> Result<(), HostError> {
        let found = self.find(id)?.map(|it| it.condition);
        let Some(Condition::Running(init) | Condition::Hibernated(init)) = found else {
            return Ok(());
        };
        init.ended().await.map_err(|source| HostError::Wait { id: id.to_owned(), source })
    }

    /// Ends when the instance has begun to switch itself off; never for one that does not.
    pub async fn switches_off(&self, id: &str) {
        match self.find(id) {
            Ok(Some(observed)) => {
                let booted = self.booted_at(id).unwrap_or(SystemTime::UNIX_EPOCH);
                power::switches_off(&observed.spec.upper(), booted).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// What tells this boot of the instance from the others (`/proc/sys/kernel/random/boot_id`).
    pub fn boot_id(&self, id: &str) -> Option<String> {
        check(id).ok()?;
        let text = fs::read_to_string(self.folder_of(id).join("facts/boot_id")).ok()?;
        Some(text.trim().to_owned())
    }

    /// When this boot of the instance began.
    pub fn booted_at(&self, id: &str) -> Option<SystemTime> {
        check(id).ok()?;
        fs::metadata(self.folder_of(id).join("facts/boot_id")).ok()?.modified().ok()
    }

    /// What the instance's console has shown, at most the last `limit` bytes.
    pub fn console(&self, id: &str, limit: usize) -> Result<String, HostError> {
        check(id)?;
        let path = console_of(&self.folder_of(id));
        match fs::read(&path) {
            Ok(bytes) => {
                let tail = &bytes[bytes.len().saturating_sub(limit)..];
                Ok(String::from_utf8_lossy(tail).into_owned())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(FileError::io("read", &path)(error).into()),
        }
    }

    pub(crate) fn cgroup(&self, spec: &HostSpec) -> Cgroup {
        Cgroup::new(self.layout.clone(), &spec.cgroup)
    }

    fn prepare_now(&self, spec: &HostSpec) -> Result<(), HostError> {
        let id = &spec.instance_id;
        check(id)?;
        make_folder(&spec.folder)?;
        state::save(&spec_file(&spec.folder), spec)?;
        let failed = |source| HostError::Netns { id: id.clone(), source };
        let used = State::load(&spec.folder)?
            .filter(|state| !state.is_netns_fresh && !state.init.is_alive());
        if let Some(state) = used {
            // No address, route or rule of an earlier boot survives on a real machine either. The
            // VPC puts the interfaces into the new one.
            linux_netns::delete(&spec.netns).map_err(failed)?;
            linux_netns::create(&spec.netns).map_err(failed)?;
            State { is_netns_fresh: true, ..state }.save(&spec.folder)?;
        }
        linux_netns::create(&spec.netns).map(drop).map_err(failed)
    }

    fn ensure_now(&self, spec: &HostSpec) -> Result<bool, HostError> {
        let id = &spec.instance_id;
        check(id)?;
        match self.find(id)?.map(|it| it.condition) {
            Some(Condition::Running(_)) => return Ok(false),
            Some(Condition::Hibernated(_)) => return self.resume(spec).map(|()| false),
            _ => {}
        }
        self.prepare_now(spec)?;
        // What a launcher that died in the middle may have left.
        self.clear_cgroup(&spec.remains())?;
        let output = launch(spec)?;
        if output.status.success() {
            return Ok(true);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let reason = match said.trim() {
            "" => output.status.to_string(),
            said => said.to_owned(),
        };
        Err(HostError::Launch { id: id.clone(), reason })
    }

    fn stop_now(&self, id: &str, grace: Duration) -> Result<(), HostError> {
        let Some(observed) = self.find(id)? else { return Ok(()) };
        if let Condition::Running(init) = observed.condition {
            let failed = |source| HostError::Signal { id: id.to_owned(), source };
            if !ends_when_asked(&init, grace).map_err(failed)? {
                init.signal(Signal::SIGKILL).map_err(failed)?;
                init.wait(KILL_LIMIT);
            }
        }
        self.clear_cgroup(&observed.spec.remains())
    }

    fn terminate_now(&self, remains: &Remains) -> Result<(), HostError> {
        let id = &remains.instance_id;
        check(id)?;
        // PID 1 is in the cgroup, with all that it has started.
        self.clear_cgroup(remains)?;
        linux_netns::delete(&remains.netns)
            .map_err(|source| HostError::Netns { id: id.clone(), source })?;
        // The description goes last, with the folder: until then a repetition finds everything.
        remove_folder(id, &self.folder_of(id))
    }

    fn mend_now(&self, spec: &HostSpec) -> Result<(), HostError> {
        check(&spec.instance_id)?;
        make_folder(&spec.folder)?;
        if State::load(&spec.folder).is_err() {
            self.clear_cgroup(&spec.remains())?;
            State::forget(&spec.folder)?;
        }
        Ok(state::save(&spec_file(&spec.folder), spec)?)
    }

    fn clear_cgroup(&self, remains: &Remains) -> Result<(), HostError> {
        let failed = |source| HostError::Cgroup { id: remains.instance_id.clone(), source };
        let cgroup = Cgroup::new(self.layout.clone(), &remains.cgroup);
        cgroup.kill(KILL_LIMIT).map_err(failed)?;
        cgroup.remove().map_err(failed)?;
        cgroup.remove_empty_parents();
        Ok(())
    }
}

fn spec_file(folder: &Path) -> PathBuf {
    folder.join("spec.json")
}

/// An id becomes a part of paths.
fn check(id: &str) -> Result<(), HostError> {
    let is_good = !id.is_empty()
        && id.len() < 64
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_good { Ok(()) } else { Err(HostError::BadId { id: id.to_owned() }) }
}

fn remove_folder(id: &str, folder: &Path) -> Result<(), HostError> {
    // Something else in its place goes too.
    if fs::symlink_metadata(folder).is_ok_and(|it| !it.is_dir()) {
        return fs::remove_file(folder).map_err(|it| FileError::io("remove", folder)(it).into());
    }
    linux_mount::remove_tree(folder)
        .map_err(|source| HostError::Remove { id: id.to_owned(), source })
}

fn launch(spec: &HostSpec) -> Result<std::process::Output, HostError> {
    let failed = |source| HostError::Launcher { program: spec.binary.clone(), source };
    let child = Command::new(&spec.binary)
        .args(["run", "host-launch", "--spec"])
        .arg(spec_file(&spec.folder))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let launcher = Identity::of(child.id().cast_signed());
    // The launcher ends by itself; one that hangs is killed, and its pipe then ends.
    let watch = std::thread::spawn(move || {
        let Some(launcher) = launcher else { return };
        if !launcher.wait(LAUNCH_LIMIT) {
            launcher.signal(Signal::SIGKILL).ok();
        }
    });
    let output = child.wait_with_output().map_err(failed);
    watch.join().ok();
    output
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Whether init has ended in order. It is asked again and again: the kernel drops what it is told
/// before it listens, as PID 1 of its namespace.
fn ends_when_asked(init: &Identity, grace: Duration) -> Result<bool, SignalError> {
    let mut left = grace;
    while !left.is_zero() {
        init.signal(Signal::SIGTERM)?;
        if init.wait(left.min(ASK_AGAIN)) {
            return Ok(true);
        }
        left = left.saturating_sub(ASK_AGAIN);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn an_init_that_did_not_listen_yet_is_asked_again() {
        let script = "trap 'trap \"exit 0\" TERM' TERM; echo; while :; do sleep 0.01; done";
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0]).unwrap();
        let init = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        let asked = std::thread::spawn(move || ends_when_asked(&init, Duration::from_secs(60)));
        assert!(child.wait().unwrap().success());
        assert!(asked.join().unwrap().unwrap());
    }

    #[test]
    fn an_id_that_would_leave_the_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let Ok(hosts) = Hosts::new(folder.path()) else { return };
        for id in ["", "..", "a/b", "i-0abc/../../x"] {
            assert!(matches!(hosts.find(id), Err(HostError::BadId { .. })), "{id}");
        }
        assert_eq!(hosts.find("i-0abc").unwrap(), None);
    }
}
