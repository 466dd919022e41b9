//! File systems, and what folders use of them.
//!
//! **Invariant:** a walk stays on the file system that it began on and follows no link, so that it
//! counts what is in the folder and nothing else.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};

use super::model::FsStats;

/// How large and how full the file system of a path is.
pub(crate) fn file_system(path: &Path, now: Timestamp) -> Option<FsStats> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let size = stat.fragment_size();
    Some(FsStats {
        time: Time(now),
        available_bytes: stat.blocks_available() * size,
        capacity_bytes: stat.blocks() * size,
        used_bytes: Some(stat.blocks().saturating_sub(stat.blocks_free()) * size),
        inodes_free: stat.files_free(),
        inodes: stat.files(),
        inodes_used: Some(stat.files().saturating_sub(stat.files_free())),
    })
}

/// What a folder holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub bytes: u64,
    pub inodes: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

/// A folder that is still to be looked into: its way below one that is open.
struct Folder {
    base: Arc<OwnedFd>,
    path: PathBuf,
}

/// Below a longer way the walk begins anew: a container makes folders as deep as it likes, and the
/// kernel takes no path of 4,096 bytes.
const LONGEST: usize = 2048;

impl Folder {
    /// Whoever writes there may have put a link or a mount in its place meanwhile.
    fn open(&self) -> nix::Result<OwnedFd> {
        let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
        let never = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
        openat2(&*self.base, &self.path, how.resolve(never | ResolveFlag::RESOLVE_BENEATH))
    }

    fn child(&self, opened: &Arc<OwnedFd>, name: OsString) -> Self {
        if self.path.as_os_str().len() + name.len() < LONGEST {
            return Self { base: self.base.clone(), path: self.path.join(name) };
        }
        Self { base: opened.clone(), path: name.into() }
    }
}

/// Walks over a folder, or looks at a file. A file with several names is counted once.
///
/// What is remembered of the way are folders only: a container makes millions of files.
pub(crate) fn usage(path: &Path) -> Usage {
    let Ok(root) = fs::symlink_metadata(path) else { return Usage::default() };
    let mut seen = HashSet::new();
    let mut used = Usage::default();
    // Says whether it is to be looked into.
    let mut count = |meta: &fs::Metadata| {
        let is_folder = meta.is_dir();
        let is_other = meta.dev() != root.dev();
        if is_other || (meta.nlink() > 1 && !is_folder && !seen.insert(meta.ino())) {
            return false;
        }
        used += Usage { bytes: meta.blocks() * 512, inodes: 1 };
        is_folder
    };
    let mut folders = Vec::new();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    if count(&root)
        && let Ok(opened) = open(path, flags, Mode::empty())
    {
        folders.push(Folder { base: Arc::new(opened), path: ".".into() });
    }
    while let Some(folder) = folders.pop() {
        let Ok(opened) = folder.open().map(Arc::new) else { continue };
        let entries = fs::read_dir(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        for entry in entries.into_iter().flatten().flatten() {
            if entry.metadata().is_ok_and(|it| count(&it)) {
                folders.push(folder.child(&opened, entry.file_name()));
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use nix::{fcntl::openat, sys::stat::mkdirat};

    use super::*;

    #[test]
    fn what_lies_deeper_than_any_path_is_counted_too() {
        let folder = tempfile::tempdir().unwrap();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut at = open(folder.path(), flags, Mode::empty()).unwrap();
        let name = "x".repeat(200);
        for _level in 0..100 {
            mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
            at = openat(&at, name.as_str(), flags, Mode::empty()).unwrap();
        }
        // The way to it is 20,000 bytes long; by the open folder it is not.
        let file = format!("/proc/self/fd/{}/file", at.as_raw_fd());
        fs::write(file, vec![1; 1 << 20]).unwrap();
        let used = usage(folder.path());
        assert_eq!(used.inodes, 102, "the folder, a hundred in it, and the file");
        assert!(used.bytes >= 1 << 20, "{}", used.bytes);
        // What is not a folder is counted by itself.
        let own = folder.path().join("own");
        fs::write(&own, vec![1; 1 << 16]).unwrap();
        assert_eq!(usage(&own).inodes, 1);
    }

    #[test]
    fn a_folder_that_becomes_a_link_is_not_looked_into() {
        let folder = tempfile::tempdir().unwrap();
        let base = open(folder.path(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        std::os::unix::fs::symlink("/usr", folder.path().join("was-a-folder")).unwrap();
        let base = Arc::new(base);
        for path in ["was-a-folder", "was-a-folder/bin", ".."] {
            let path = path.into();
            assert!(Folder { base: base.clone(), path }.open().is_err());
        }
    }

    #[test]
    fn a_file_with_two_names_is_counted_once_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), vec![1; 64 << 10]).unwrap();
        fs::hard_link(at("a"), at("b")).unwrap();
        std::os::unix::fs::symlink("/usr", at("c")).unwrap();
        let used = usage(folder.path());
        assert_eq!(used.inodes, 3, "the folder, the file and the link");
        assert!((64 << 10..100 << 10).contains(&used.bytes), "{}", used.bytes);
        assert_eq!(usage(&at("missing")), Usage::default());
    }
}
