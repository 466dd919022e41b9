//! A machine that is a group of another one: an instance, a node in a container. The kernel's log is the
//! other's there, and tells what is nobody's business here; but of its own group each is told by the
//! group itself.
//!
//! A limit that is met further down (a pod's, a container's) is none of the machine's.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use linux_process::Watched;
use rustix::event::{EventfdFlags, eventfd};

use crate::cgroups::Hierarchy;

/// Where the root of this cgroup namespace is, if its memory can be limited.
pub(super) fn root() -> Option<PathBuf> {
    Hierarchy::detect().ok()?.folder("memory", Path::new(""))
}

/// Tells when processes of a group are killed because the group as a whole has no more memory.
#[derive(Debug)]
pub(super) enum Group {
    V1 { event: Watched, _control: File },
    V2 { file: File, changed: Watched, seen: u64 },
}

impl Group {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let of_v1 = folder.join("memory.oom_control");
        if of_v1.exists() {
            let control = File::open(of_v1)?;
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
            let registry = folder.join("cgroup.event_control");
            OpenOptions::new().write(true).open(registry)?.write_all(line.as_bytes())?;
            return Ok(Self::V1 { event: Watched::readable(event)?, _control: control });
        }
        // Without `.local` it would be of the groups below as well.
        let mut file = File::open(folder.join("memory.events.local"))?;
        let seen = times(&mut file)?;
        let changed = Watched::urgent(file.try_clone()?.into())?;
        Ok(Self::V2 { file, changed, seen })
    }

    /// Ends when it has happened once more.
    pub(super) async fn ran_out(&mut self) -> io::Result<()> {
        match self {
            Self::V1 { event, .. } => event.happened().await,
            Self::V2 { file, changed, seen } => loop {
                changed.happened().await?;
                // To read it is to wait for the next change.
                let now = times(file)?;
                if std::mem::replace(seen, now) < now {
                    return Ok(());
                }
            },
        }
    }
}

/// How often the group's own limit was met and nothing could be given back.
fn times(file: &mut File) -> io::Result<u64> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    let count = text.lines().find_map(|it| it.strip_prefix("oom ")?.parse().ok());
    count.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_out_is_counted_and_not_who_was_killed() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n").unwrap();
        assert_eq!(times(&mut file).unwrap(), 4);
        assert_eq!(times(&mut file).unwrap(), 4, "from its beginning");
    }
}
