//! A descriptor that tells that something happened, and can be waited for.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

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

/// A descriptor that is read from and written to without blocking: a terminal, a pipe.
#[derive(Debug)]
pub struct Duplex {
    fd: AsyncFd<OwnedFd>,
}

impl Duplex {
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&fd)? | rustix::fs::OFlags::NONBLOCK;
        rustix::fs::fcntl_setfl(&fd, flags)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: the descriptor is owned, is moved into the `AsyncFd`, and is neither replaced nor
        // closed before the `AsyncFd` is dropped.
        let fd =
            unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)?;
        Ok(Self { fd })
    }

    /// Waits for data, and gives how much there is of it. 0: the other end is gone.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fd.async_io(Interest::READABLE, |fd| {
            rustix::io::read(fd, &mut *buffer).map_err(io::Error::from)
        });
        read.await
    }

    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let write = self.fd.async_io(Interest::WRITABLE, |fd| {
                rustix::io::write(fd, bytes).map_err(io::Error::from)
            });
            bytes = &bytes[write.await?..];
        }
        Ok(())
    }
}

impl AsFd for Duplex {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
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

    #[tokio::test]
    async fn what_is_written_is_read_and_the_end_is_told() {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let (near, far) = (Duplex::new(near.into()).unwrap(), Duplex::new(far.into()).unwrap());
        let mut buffer = [0; 8];
        let wait = Duration::from_millis(50);
        assert!(tokio::time::timeout(wait, far.read(&mut buffer)).await.is_err());
        near.write_all(b"hello").await.unwrap();
        assert_eq!(far.read(&mut buffer).await.unwrap(), 5);
        assert_eq!(&buffer[..5], b"hello");
        drop(near);
        assert_eq!(far.read(&mut buffer).await.unwrap(), 0);
    }
}
