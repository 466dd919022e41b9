//! Which process: PID and start time.

use std::{fs, io, os::fd::OwnedFd, time::Duration};

use nix::sys::signal::Signal;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

/// A process that can be found again, or found gone, by another process at a later time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    pub pid: i32,
    /// Clock ticks between the machine's boot and the process's start: field 22 of proc(5)'s stat.
    pub start_time: u64,
}

/// A signal that could not be sent. A process that is gone is not an error.
#[derive(Debug, thiserror::Error)]
#[error("failed to send {signal} to process {pid}")]
pub struct SignalError {
    pub pid: i32,
    pub signal: Signal,
    #[source]
    pub source: io::Error,
}

impl Identity {
    /// The process that has `pid` now.
    pub fn of(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, start_time: stat.start_time })
    }

    /// This process.
    pub fn own() -> Self {
        let pid = nix::unistd::getpid().as_raw();
        Self::of(pid).unwrap_or(Self { pid, start_time: 0 })
    }

    /// Says whether the process still runs. A zombie does not.
    pub fn is_alive(&self) -> bool {
        stat(self.pid)
            .is_some_and(|it| it.start_time == self.start_time && !matches!(it.state, 'Z' | 'X'))
    }

    /// Sends `signal` to this process and no other. Says whether there was one to send it to.
    pub fn signal(&self, signal: Signal) -> Result<bool, SignalError> {
        let Some(pidfd) = self.pidfd() else { return Ok(false) };
        let number = rustix::process::Signal::from_named_raw(signal as i32);
        let failed = |source| SignalError { pid: self.pid, signal, source };
        let number = number.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        match pidfd_send_signal(&pidfd, number) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Waits until the process has ended, for at most `limit`. Says whether it has.
    pub fn wait(&self, limit: Duration) -> bool {
        let Some(pidfd) = self.pidfd() else { return true };
        let timeout = Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut waited = [PollFd::new(&pidfd, PollFlags::IN)];
        loop {
            match poll(&mut waited, Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => {}
                _ => return !self.is_alive(),
            }
        }
    }

    /// Ends when the process has ended.
    pub async fn ended(&self) -> io::Result<()> {
        let Some(pidfd) = self.pidfd() else { return Ok(()) };
        // SAFETY: the descriptor is owned, is moved into the `AsyncFd`, and is neither replaced nor
        // closed before the `AsyncFd` is dropped.
        let pidfd = unsafe { AsyncFd::register(pidfd) }.map_err(io::Error::from)?;
        pidfd.readable().await.map(drop)
    }

    /// A descriptor that becomes readable when the process ends; `None` when it is gone already.
    pub fn pidfd(&self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Checked after opening: from here on the descriptor cannot come to mean another process.
        self.is_alive().then_some(pidfd)
    }
}

pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) start_time: u64,
}

pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(line: &str) -> Option<Stat> {
    // The command's name may hold spaces and parentheses: the last one closes it.
    let rest = &line[line.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        start_time: fields.get(22 - 3)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 1";
        let stat = parse(line).unwrap();
        assert_eq!((stat.state, stat.start_time), ('S', 12345));
        assert!(parse("garbage").is_none());
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let own = Identity::own();
        assert!(own.is_alive());
        let stranger = Identity { start_time: own.start_time + 1, ..own };
        assert!(!stranger.is_alive());
        assert!(!stranger.signal(Signal::SIGKILL).unwrap());
        assert!(stranger.wait(Duration::ZERO));
    }

    #[test]
    fn an_ended_process_is_seen_as_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let identity = Identity::of(child.id().cast_signed()).unwrap();
        assert!(!identity.wait(Duration::ZERO));
        assert!(identity.signal(Signal::SIGKILL).unwrap());
        assert!(identity.wait(Duration::from_secs(5)));
        child.wait().unwrap();
        assert!(!identity.signal(Signal::SIGTERM).unwrap());
    }
}
