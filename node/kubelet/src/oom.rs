//! Tells of the node when the kernel had to kill a process because the whole machine ran out of memory:
//! the event `SystemOOM`. What a container's own limit kills is in its status.
//!
//! Upstream: `pkg/kubelet/oom/oom_watcher_linux.go`, cAdvisor's `utils/oomparser`.
//!
//! Deviation: upstream reads the kernel's log from its beginning, and tells everything again after each
//! start; here only what happens from the start on is told. Where the log is another machine's (in an
//! instance, in a container) it is not read: what is told there is that the instance as a whole ran out
//! of memory, and not who was killed.

mod group;
mod record;

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use linux_process::Watched;
use rustix::{
    fs::{OFlags, SeekFrom},
    io::Errno,
};
use tracing::{debug, warn};

use self::{
    group::Group,
    record::{Kill, Parser},
};
use crate::context::Context;

/// The kernel's own number of the machine's first cgroup namespace (`PROC_CGROUP_INIT_INO`).
const FIRST_NAMESPACE: u64 = 0xEFFF_FFFB;
/// The kernel gives one record at a time, and none is longer.
const LONGEST: usize = 8192;

/// Who tells of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemoryKills {
    /// The kernel's log, which is about this node.
    Log(PathBuf),
    /// The group that is the whole machine.
    Group(PathBuf),
}

impl MemoryKills {
    /// The kernel's log, unless it is about a machine that has this node for a guest.
    pub(crate) fn of_host(proc: &Path) -> Option<Self> {
        if is_own_log(proc) {
            return Some(Self::Log(PathBuf::from("/dev/kmsg")));
        }
        group::root().map(Self::Group)
    }
}

fn is_own_log(proc: &Path) -> bool {
    fs::metadata(proc.join("self/ns/cgroup")).is_ok_and(|it| it.ino() == FIRST_NAMESPACE)
}

/// Listens until the kubelet ends.
pub(crate) async fn watch(context: Arc<Context>) {
    let Some(source) = &context.settings.memory_kills else { return };
    let tell = |text: String| context.recorder.node_warning("SystemOOM", text);
    let watched = match source {
        MemoryKills::Log(path) => follow(path, tell).await,
        MemoryKills::Group(folder) => listen(folder, tell).await,
    };
    if let Err(error) = watched {
        warn!(?source, %error, "what the kernel kills for memory is not told");
    }
}

async fn follow(path: &Path, tell: impl Fn(String)) -> io::Result<()> {
    let mut log = Log::open(path)?;
    loop {
        let kill = log.next().await?;
        if kill.group.is_none() {
            tell(message(&kill));
        } else {
            debug!(?kill, "a group ran out of memory");
        }
    }
}

async fn listen(folder: &Path, tell: impl Fn(String)) -> io::Result<()> {
    let mut group = Group::open(folder)?;
    loop {
        group.ran_out().await?;
        tell(message(&Kill { group: None, victim: None }));
    }
}

fn message(kill: &Kill) -> String {
    match &kill.victim {
        Some((process, pid)) => {
            format!("System OOM encountered, victim process: {process}, pid: {pid}")
        }
        None => "System OOM encountered".to_owned(),
    }
}

/// `/dev/kmsg`, from its end on.
struct Log {
    file: fs::File,
    written: Watched,
    parser: Parser,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(flags.cast_signed()).open(path)?;
        match rustix::fs::seek(&file, SeekFrom::End(0)) {
            // A pipe has no end yet.
            Ok(_) | Err(Errno::SPIPE) => {}
            Err(error) => return Err(error.into()),
        }
        let written = Watched::readable(file.try_clone()?.into())?;
        Ok(Self { file, written, parser: Parser::default() })
    }

    async fn next(&mut self) -> io::Result<Kill> {
        loop {
            match self.read() {
                Ok(Some(kill)) => return Ok(kill),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.written.happened().await?;
                }
                // Records were overwritten before they were read; the next read is of what is left.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&mut self) -> io::Result<Option<Kill>> {
        let mut buffer = [0; LONGEST];
        let read = self.file.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut found = None;
        for line in String::from_utf8_lossy(&buffer[..read]).lines() {
            found = self.parser.take(line).or(found);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
