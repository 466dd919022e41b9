//! A program run on an instance, as `nodestead shell` does.

use std::{
    io,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use linux_cgroup::{Kind, Layout};
use linux_process::{EnterError, Entrance, Identity};
use rustix::{
    fs::{Mode, OFlags},
    pty::OpenptFlags,
};

use crate::{Condition, HostError, Hosts, Observed, inside::INIT_CGROUP};

/// Why a program could not be run on an instance.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("instance `{id}` is not running")]
    NotRunning { id: String },
    #[error("no program was named")]
    NoProgram,
    #[error("failed to enter instance `{id}`")]
    Enter {
        id: String,
        #[source]
        source: EnterError,
    },
    #[error("failed to open a terminal for instance `{id}`")]
    Terminal {
        id: String,
        #[source]
        source: io::Error,
    },
}

impl Hosts {
    /// Starts `argv` on a running instance, with the given standard streams.
    pub fn exec(&self, id: &str, argv: &[String], streams: [Stdio; 3]) -> Result<Child, ExecError> {
        let (_, entrance, mut command) = self.enter(id, argv)?;
        let [stdin, stdout, stderr] = streams;
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        entrance.spawn(command).map_err(|source| ExecError::Enter { id: id.to_owned(), source })
    }

    /// Starts `argv` on a running instance on a terminal of its own. The descriptor is the
    /// terminal's other end: what is typed goes in, what is shown comes out.
    pub fn exec_on_terminal(
        &self,
        id: &str,
        argv: &[String],
    ) -> Result<(Child, OwnedFd), ExecError> {
        let failed = |source| ExecError::Terminal { id: id.to_owned(), source };
        let (init, entrance, mut command) = self.enter(id, argv)?;
        let pty = open_terminal(init).map_err(failed)?;
        let clone = || pty.inner.try_clone().map_err(failed);
        command.stdin(clone()?).stdout(clone()?).stderr(clone()?).env("TERM", "xterm-256color");
        linux_process::on_terminal(&mut command, clone()?);
        let child = entrance.spawn(command);
        let child = child.map_err(|source| ExecError::Enter { id: id.to_owned(), source })?;
        Ok((child, pty.outer))
    }

    fn enter(&self, id: &str, argv: &[String]) -> Result<(Identity, Entrance, Command), ExecError> {
        let observed = self.find(id)?.ok_or(HostError::Unknown { id: id.to_owned() })?;
        let Observed { spec, condition: Condition::Running(init), .. } = observed else {
            return Err(ExecError::NotRunning { id: id.to_owned() });
        };
        let [program, args @ ..] = argv else { return Err(ExecError::NoProgram) };
        let cgroup = self.cgroup(&spec);
        let is_v2 = Layout::detect().is_ok_and(|layout| layout.kind() == Kind::V2);
        let cgroup = if is_v2 { cgroup.child(INIT_CGROUP) } else { cgroup };
        let entrance = Entrance::open(init, &cgroup.procs_files())
            .map_err(|source| ExecError::Enter { id: id.to_owned(), source })?;
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .env(
                "PATH",
                "/opt/nodestead/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", "/root")
            .env("USER", "root")
            .env("LANG", "C.UTF-8");
        Ok((init, entrance, command))
    }
}

struct Terminal {
    outer: OwnedFd,
    inner: OwnedFd,
}

/// Opens a terminal of the instance's own `/dev/pts`, so that programs inside find it by its name.
fn open_terminal(init: Identity) -> io::Result<Terminal> {
    let multiplexer = format!("/proc/{}/root/dev/pts/ptmx", init.pid);
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let outer = rustix::fs::open(multiplexer, flags, Mode::empty())?;
    rustix::pty::unlockpt(&outer)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let inner = rustix::pty::ioctl_tiocgptpeer(&outer, flags)?;
    Ok(Terminal { outer, inner })
}
