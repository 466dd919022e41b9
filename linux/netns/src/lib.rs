//! Network namespaces: create, enter, list and delete, in iproute2's folder.
//!
//! A named namespace is a bind mount of `/proc/…/ns/net` on a file in `/run/netns`, so it lives
//! without a process and `ip netns` knows it too. As iproute2 does, the folder is made a shared
//! mount first, so that a deletion is seen by every process that shares it; unlike iproute2, that
//! mount goes away again with the last namespace.
//!
//! **Invariant:** the calling thread never changes its own namespace: entering happens on a thread
//! that ends with the closure.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

/// Where iproute2 keeps named namespaces.
pub const DIR: &str = "/run/netns";

/// Why a namespace could not be made, entered or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    #[error("`{name}` is not a name for a network namespace")]
    BadName { name: String },
    #[error("failed to create network namespace `{name}`")]
    Create {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to delete network namespace `{name}`")]
    Delete {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to enter network namespace `{}`", path.display())]
    Enter {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to list network namespaces")]
    List {
        #[source]
        source: io::Error,
    },
}

/// The file that stands for the namespace `name`.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// The namespace that process `pid` is in.
pub fn of_pid(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// Says whether `name` stands for a live namespace (and is not a file that a crash left behind).
pub fn exists(name: &str) -> bool {
    is_namespace(&path(name))
}

/// Makes sure that the namespace `name` exists. Says whether it had to be made.
pub fn create(name: &str) -> Result<bool, NetnsError> {
    check(name)?;
    let failed = |source| NetnsError::Create { name: name.to_owned(), source };
    let _lock = lock().map_err(failed)?;
    share_folder().map_err(failed)?;
    if exists(name) {
        return Ok(false);
    }
    let file = path(name);
    OpenOptions::new().create(true).append(true).open(&file).map_err(failed)?;
    on_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let own = PathBuf::from(format!("/proc/self/task/{}/ns/net", nix::unistd::gettid()));
        mount(Some(&own), &file, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    })
    .map_err(failed)?;
    Ok(true)
}

/// Makes sure that no namespace is called `name`. It ends when nothing else holds it.
pub fn delete(name: &str) -> Result<(), NetnsError> {
    check(name)?;
    let failed = |source| NetnsError::Delete { name: name.to_owned(), source };
    if !Path::new(DIR).exists() {
        return Ok(());
    }
    let _lock = lock().map_err(failed)?;
    let file = path(name);
    loop {
        match umount2(&file, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    unshare_empty_folder();
    Ok(())
}

/// The names of all live namespaces, sorted.
pub fn list() -> Result<Vec<String>, NetnsError> {
    let entries = match fs::read_dir(DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(NetnsError::List { source }),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| exists(name))
        .collect();
    names.sort();
    Ok(names)
}

/// Opens a namespace's file; the descriptor keeps the namespace alive.
pub fn open(path: &Path) -> Result<OwnedFd, NetnsError> {
    let failed = |source| NetnsError::Enter { path: path.to_owned(), source };
    File::open(path).map(Into::into).map_err(failed)
}

/// Runs `work` in the namespace at `path`, on a thread of its own. Blocks until it ends.
pub fn enter<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NetnsError> {
    let namespace = open(path)?;
    on_thread(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })
    .map_err(|source| NetnsError::Enter { path: path.to_owned(), source })
}

fn check(name: &str) -> Result<(), NetnsError> {
    let is_good = !name.is_empty()
        && name.len() < 200
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && !name.starts_with('.');
    if is_good { Ok(()) } else { Err(NetnsError::BadName { name: name.to_owned() }) }
}

fn is_namespace(file: &Path) -> bool {
    const NSFS_MAGIC: i64 = 0x6e73_6673; // linux/magic.h
    #[allow(clippy::useless_conversion, reason = "the type differs between architectures")]
    nix::sys::statfs::statfs(file)
        .is_ok_and(|stat| i64::from(stat.filesystem_type().0) == NSFS_MAGIC)
}

fn lock() -> io::Result<Flock<File>> {
    fs::create_dir_all(DIR)?;
    let folder = File::open(DIR)?;
    Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

fn share_folder() -> io::Result<()> {
    let share = || {
        let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(None::<&str>, DIR, None::<&str>, flags, None::<&str>)
    };
    match share() {
        Err(Errno::EINVAL) => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(DIR), DIR, None::<&str>, flags, None::<&str>)?;
            Ok(share()?)
        }
        other => Ok(other?),
    }
}

fn unshare_empty_folder() {
    let is_empty = fs::read_dir(DIR).is_ok_and(|mut entries| entries.next().is_none());
    if is_empty {
        // Not a mount of its own, or in use: then it stays, which harms nothing.
        umount2(DIR, MntFlags::empty()).ok();
    }
}

fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("netns".to_owned()).spawn(work)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the namespace's thread panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        for name in ["", ".", "../x", "a/b", ".hidden"] {
            assert!(matches!(create(name), Err(NetnsError::BadName { .. })), "{name}");
        }
    }

    #[test]
    fn a_namespace_is_made_once_entered_and_removed_without_a_trace() {
        if !is_root() {
            return;
        }
        let name = format!("nst-t-ns-{}", std::process::id());
        assert!(create(&name).unwrap());
        assert!(!create(&name).unwrap());
        assert!(list().unwrap().contains(&name));
        let inode = |path: PathBuf| fs::read_link(path).unwrap();
        let inside = enter(&path(&name), move || inode("/proc/thread-self/ns/net".into())).unwrap();
        assert_ne!(inside, fs::read_link("/proc/self/ns/net").unwrap());
        delete(&name).unwrap();
        delete(&name).unwrap();
        assert!(!path(&name).exists());
        assert!(matches!(enter(&path(&name), || ()), Err(NetnsError::Enter { .. })));
    }
}
