//! Starting a process elsewhere: inside the namespaces of another, or as PID 1 of new ones.
//!
//! Both work on a thread of their own: the kernel takes the new process's namespaces from the
//! thread that forks, and the rest of this process keeps its own.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
    sys::signal::Signal,
};

use crate::Identity;

/// The namespaces that make an isolated host, in the order in which they are entered.
pub const NAMESPACES: [(&str, CloneFlags); 6] = [
    ("net", CloneFlags::CLONE_NEWNET),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// Why a process could not be started in other namespaces.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    #[error("process {pid} is gone")]
    Gone { pid: i32 },
    #[error("failed to open the {kind} namespace of process {pid}")]
    Open {
        kind: &'static str,
        pid: i32,
        #[source]
        source: io::Error,
    },
    #[error("failed to join the cgroup `{}`", path.display())]
    Cgroup {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to start `{program}`")]
    Spawn {
        program: String,
        #[source]
        source: io::Error,
    },
}

/// The way into the namespaces and cgroups of a process. It stays open after the process ends.
#[derive(Debug)]
pub struct Entrance {
    namespaces: Vec<(OwnedFd, CloneFlags)>,
    cgroups: Vec<OwnedFd>,
}

impl Entrance {
    /// Opens all namespaces of `process`, and the `cgroup.procs` files that a visitor will join.
    pub fn open(process: Identity, cgroups: &[PathBuf]) -> Result<Self, EnterError> {
        let pid = process.pid;
        let mut namespaces = Vec::new();
        for (kind, flag) in NAMESPACES {
            let opened = File::open(format!("/proc/{pid}/ns/{kind}"));
            let file = opened.map_err(|source| EnterError::Open { kind, pid, source })?;
            namespaces.push((file.into(), flag));
        }
        if !process.is_alive() {
            return Err(EnterError::Gone { pid });
        }
        let open = |path: &PathBuf| {
            let opened = File::options().write(true).open(path);
            opened
                .map(Into::into)
                .map_err(|source| EnterError::Cgroup { path: path.clone(), source })
        };
        let cgroups = cgroups.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { namespaces, cgroups })
    }

    /// Starts `command` inside. Its program is looked up in the other root file system.
    pub fn spawn(self, mut command: Command) -> Result<Child, EnterError> {
        let program = command.get_program().to_string_lossy().into_owned();
        join_on_exec(&mut command, self.cgroups);
        let namespaces = self.namespaces;
        on_thread(move || {
            // Threads share their root folder; setns(2) wants an own one.
            unshare(CloneFlags::CLONE_FS)?;
            for (namespace, kind) in &namespaces {
                setns(namespace.as_fd(), *kind)?;
            }
            command.spawn()
        })
        .map_err(|source| EnterError::Spawn { program, source })
    }
}

/// A new set of namespaces around a network namespace that exists already.
#[derive(Debug)]
pub struct Fork {
    pub netns: OwnedFd,
    /// `cgroup.procs` files that the caller's process joins once the namespaces are made, and its child
    /// with it: on v2 the visible root hands no controller down while a process is in it.
    pub cgroups: Vec<OwnedFd>,
}

impl Fork {
    /// Starts `command` as PID 1 of new pid, mnt, uts, ipc and cgroup namespaces. The root file
    /// system is still the caller's (privately); the cgroup that the caller is in when it calls becomes
    /// the visible root.
    pub fn spawn(self, mut command: Command) -> Result<Child, EnterError> {
        let program = command.get_program().to_string_lossy().into_owned();
        on_thread(move || {
            setns(&self.netns, CloneFlags::CLONE_NEWNET)?;
            unshare(
                CloneFlags::CLONE_NEWNS
                    | CloneFlags::CLONE_NEWUTS
                    | CloneFlags::CLONE_NEWIPC
                    | CloneFlags::CLONE_NEWCGROUP
                    | CloneFlags::CLONE_NEWPID,
            )?;
            for cgroup in &self.cgroups {
                nix::unistd::write(cgroup, b"0")?;
            }
            command.spawn()
        })
        .map_err(|source| EnterError::Spawn { program, source })
    }
}

/// Has the new process put itself into cgroups before it runs anything.
fn join_on_exec(command: &mut Command, cgroups: Vec<OwnedFd>) {
    let join = move || {
        for cgroup in &cgroups {
            nix::unistd::write(cgroup, b"0")?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed: `join` calls write(2)
    // on descriptors that were opened before, and allocates nothing.
    unsafe { command.pre_exec(join) };
}

/// Makes `terminal` the controlling terminal of the process that `command` starts, in a session of
/// its own.
pub fn on_terminal(command: &mut Command, terminal: OwnedFd) {
    let attach = move || {
        nix::unistd::setsid()?;
        // SAFETY: TIOCSCTTY takes an integer argument and touches no memory of ours; the
        // descriptor is owned by this closure.
        let result = unsafe { nix::libc::ioctl(terminal.as_raw_fd(), nix::libc::TIOCSCTTY, 0) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: setsid(2) and ioctl(2) are async-signal-safe, and `attach` allocates nothing.
    unsafe { command.pre_exec(attach) };
}

/// Has the kernel kill what `command` starts when the thread that starts it ends, at the latest with
/// this process, whatever ends it: for work that nobody would wait for any more. The thread has to wait.
pub fn end_with_starter(command: &mut Command) {
    let starter = nix::unistd::getpid();
    let tie = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // It may have ended before it was asked for.
        if nix::unistd::getppid() == starter { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: prctl(2) and getppid(2) are async-signal-safe, and `tie` allocates nothing.
    unsafe { command.pre_exec(tie) };
}

fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("namespaces".to_owned()).spawn(work)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the namespaces' thread panicked")))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Stdio};

    use super::*;

    #[test]
    fn a_process_started_inside_shares_the_namespaces_and_the_caller_keeps_its_own() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let own = std::fs::read_link("/proc/self/ns/uts").unwrap();
        let mut host =
            Fork { netns: File::open("/proc/self/ns/net").unwrap().into(), cgroups: Vec::new() }
                .spawn({
                    let mut command = Command::new("sleep");
                    command.arg("60");
                    command
                })
                .unwrap();
        let identity = Identity::of(host.id().cast_signed()).unwrap();
        let mut command = Command::new("readlink");
        command.arg("/proc/self/ns/uts").stdout(Stdio::piped());
        let visitor = Entrance::open(identity, &[]).unwrap().spawn(command).unwrap();
        let output = visitor.wait_with_output().unwrap();
        let theirs = std::fs::read_link(format!("/proc/{}/ns/uts", identity.pid)).unwrap();
        host.kill().unwrap();
        host.wait().unwrap();
        // The new pid namespace has no /proc of its own here, so `self` may not resolve: then the
        // output is empty, which is still not the caller's.
        let seen = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_ne!(seen, own.to_string_lossy());
        assert!(seen.is_empty() || seen == theirs.to_string_lossy());
        assert_eq!(std::fs::read_link("/proc/self/ns/uts").unwrap(), own);
    }

    #[test]
    fn what_is_to_end_with_its_starter_is_killed_then_and_not_before() {
        let (over, waits) = std::sync::mpsc::channel::<()>();
        let starter = std::thread::spawn(move || {
            let mut command = Command::new("sleep");
            command.arg("600");
            end_with_starter(&mut command);
            let mut child = command.spawn().unwrap();
            waits.recv().ok();
            assert!(child.try_wait().unwrap().is_none(), "its starter is there");
            child
        });
        over.send(()).unwrap();
        let ended = starter.join().unwrap().wait().unwrap();
        assert_eq!(ended.signal(), Some(Signal::SIGKILL as i32));
    }

    #[test]
    fn an_entrance_to_a_dead_process_is_refused() {
        let stranger = Identity { start_time: 1, ..Identity::own() };
        assert!(matches!(Entrance::open(stranger, &[]), Err(EnterError::Gone { .. })));
    }
}
