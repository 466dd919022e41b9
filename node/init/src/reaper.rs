//! Starting and reaping: the two halves of being everybody's parent.
//!
//! PID 1 inherits every orphan of its instance and must wait for each, or it stays a zombie. One
//! loop waits for all; whoever started a process is told about its end by that loop, so no other
//! code may wait for a child.

use std::{
    collections::HashMap,
    io,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
};

use linux_process::Identity;
use nix::{
    errno::Errno,
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};
use tokio::{signal::unix::Signal, sync::oneshot};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    waiting: Mutex<HashMap<i32, oneshot::Sender<ExitStatus>>>,
}

/// A process that was started here.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) identity: Identity,
    /// Its end. An error only if the reaper is gone.
    pub(crate) ended: oneshot::Receiver<ExitStatus>,
}

impl Reaper {
    /// Starts a process whose end will be told.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Started> {
        // Held over the start, so that even a process that ends at once is known to the loop.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = command.spawn()?.id().cast_signed();
        let (sender, ended) = oneshot::channel();
        waiting.insert(pid, sender);
        // A zombie still has its identity, and it stays one until the lock is free.
        let identity = Identity::of(pid).unwrap_or(Identity { pid, start_time: 0 });
        Ok(Started { identity, ended })
    }

    /// Waits for every process that has ended, and tells whom it concerns.
    pub(crate) fn reap(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (pid, status) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::from_raw(code << 8)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, ExitStatus::from_raw(signal as i32))
                }
                Err(Errno::EINTR) => continue,
                // No children at all, or none that has ended.
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(sender) = waiting.remove(&pid.as_raw()) {
                // Nobody may be interested any more.
                sender.send(status).ok();
            }
        }
    }

    /// Reaps whenever a child ends. The kernel merges signals, so each one empties the queue.
    pub(crate) async fn run(self: Arc<Self>, mut children: Signal) {
        loop {
            self.reap();
            if children.recv().await.is_none() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_end_of_a_process_is_told_with_its_code() {
        // `waitpid(-1)` is for the whole process: nothing else in these tests starts children.
        let reaper = Reaper::default();
        let mut command = Command::new("sh");
        let mut started = reaper.spawn(command.args(["-c", "exit 7"])).unwrap();
        assert!(started.identity.wait(Duration::from_secs(5)));
        reaper.reap();
        assert_eq!(started.ended.try_recv().unwrap().code(), Some(7));
    }
}
