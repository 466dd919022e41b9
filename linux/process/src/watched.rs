//! A descriptor that tells that something happened, and can be waited for.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// An eventfd, an inotify queue, a pressure file.
#[derive(Debug)]
pub struct Watched {
    fd: AsyncFd<OwnedFd>,
    interest: Interest,
}

impl Watched {
    /// Waits for data to read.
    pub fn readable(fd: OwnedFd) -> io::Result<Self> {
        Self::new(fd, Interest::READABLE)
    }

    /// Waits for what the kernel calls priority, as pressure files (PSI) tell it.
    pub fn urgent(fd: OwnedFd) -> io::Result<Self> {
        Self::new(fd, Interest::PRIORITY)
    }

    fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        // SAFETY: the descriptor is owned, is moved into the `AsyncFd`, and is neither replaced nor
        // closed before the `AsyncFd` is dropped.
        let fd =
            unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)?;
        Ok(Self { fd, interest })
    }

    /// Ends when something has happened since the last time.
    pub async fn happened(&self) -> io::Result<()> {
        self.fd.ready(self.interest).await?.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Duration};

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_told_once() {
        let (reader, mut writer) = io::pipe().unwrap();
        let watched = Watched::readable(reader.into()).unwrap();
        let wait = Duration::from_millis(50);
        assert!(tokio::time::timeout(wait, watched.happened()).await.is_err());
        writer.write_all(b"x").unwrap();
        tokio::time::timeout(Duration::from_secs(5), watched.happened()).await.unwrap().unwrap();
        assert!(tokio::time::timeout(wait, watched.happened()).await.is_err());
    }
}
