//! Says when something in a folder changes, by inotify.
//!
//! What changed is not told: whoever waits looks at the folder again. Where the kernel has no watch to
//! give, that is once a second.
//!
//! **Invariant:** a change after [`Watch::add_folders`] ends the next [`Watch::changed`].

use std::{
    fs, io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
use tokio::io::{Interest, unix::AsyncFd};
use tracing::warn;

const PERIOD: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct Watch {
    /// `None` where there is no inotify.
    events: Option<AsyncFd<OwnedFd>>,
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl Watch {
    pub fn new() -> Self {
        let events = open();
        if let Err(error) = &events {
            warn!(%error, "no inotify: looking every second");
        }
        Self { events: events.ok() }
    }

    /// Watches a folder and those in it. What is watched already stays so.
    pub fn add_folders(&mut self, folder: &Path) {
        if !self.add(folder) {
            return;
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|it| it.is_dir()) {
                self.add_folders(&entry.path());
            }
        }
    }

    /// Watches one open folder, and none in it. Where it is by now does not matter.
    pub fn add_open(&mut self, folder: impl AsFd) {
        let path = format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd());
        self.add(Path::new(&path));
    }

    fn add(&mut self, folder: &Path) -> bool {
        let Some(events) = &self.events else { return false };
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            // What a file holds is known when its writer has closed it.
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB;
        match inotify::add_watch(events.get_ref(), folder, flags) {
            Ok(_) => true,
            Err(Errno::NOENT) => false,
            Err(error) => {
                warn!(folder = %folder.display(), %error, "no watch: looking every second");
                self.events = None;
                false
            }
        }
    }

    /// Ends when something has changed since the last time.
    pub async fn changed(&mut self) {
        let Some(events) = &self.events else {
            tokio::time::sleep(PERIOD).await;
            return;
        };
        match events.readable().await {
            Ok(mut ready) => {
                drain(events.get_ref());
                ready.clear_ready();
            }
            Err(_) => tokio::time::sleep(PERIOD).await,
        }
    }
}

#[expect(unsafe_code, reason = "a descriptor is given to the reactor")]
fn open() -> io::Result<AsyncFd<OwnedFd>> {
    let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    // SAFETY: the descriptor is owned, is moved into the `AsyncFd`, and is neither replaced nor
    // closed before the `AsyncFd` is dropped.
    let events = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) };
    events.map_err(io::Error::from)
}

/// What happened is not looked at: the folder is.
fn drain(events: &OwnedFd) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(events, &mut buffer);
    while reader.next().is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_open_folder_is_watched_without_those_in_it() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("d")).unwrap();
        let mut watch = Watch::new();
        watch.add_open(fs::File::open(base.path()).unwrap());
        let soon = Duration::from_millis(50);
        fs::write(base.path().join("d/f"), "").unwrap();
        assert!(tokio::time::timeout(soon, watch.changed()).await.is_err());
        fs::rename(base.path().join("d/f"), base.path().join("f")).unwrap();
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_in_a_new_folder_is_noticed() {
        let base = tempfile::tempdir().unwrap();
        let mut watch = Watch::new();
        watch.add_folders(base.path());
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, watch.changed()).await.is_err());
        fs::create_dir(base.path().join("d")).unwrap();
        watch.changed().await;
        watch.add_folders(base.path());
        fs::write(base.path().join("d/f"), "").unwrap();
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap();
        assert!(tokio::time::timeout(soon, watch.changed()).await.is_err());
        let mut file = fs::File::options().append(true).open(base.path().join("d/f")).unwrap();
        io::Write::write_all(&mut file, b"x").unwrap();
        drop(file);
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap();
    }
}
