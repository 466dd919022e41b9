//! File systems, and what folders use of them.
//!
//! **Invariant:** a walk stays on the file system that it began on and follows no link, so that it
//! counts what is in the folder and nothing else. It has a handful of descriptors however deep and wide
//! the folder is: a container makes folders in folders as it likes.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::{self, File},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
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

/// A folder on the way from the first one to where the walk is.
struct Level {
    /// Its name in the one above; nothing for the first.
    name: OsString,
    inode: u64,
    /// The folders in it that are still to be looked into.
    pending: Vec<OsString>,
}

/// Where a walk is. One folder is open, and the first one; the way between them is known by names and
/// inodes, and gone back by `..`.
struct Walk {
    first: File,
    here: File,
    way: Vec<Level>,
    used: Usage,
    device: u64,
    /// The files with several names that have been counted.
    seen: HashSet<u64>,
}

/// Opens a folder in another one. Whoever writes there may have put a link or a mount in its place.
fn enter(folder: &File, name: &OsStr) -> nix::Result<File> {
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
    let never = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    openat2(folder, name, how.resolve(never)).map(File::from)
}

impl Walk {
    /// Counts something by what is known of it; says whether it is to be looked into.
    fn count(&mut self, meta: &fs::Metadata) -> bool {
        let is_folder = meta.is_dir();
        let is_other = meta.dev() != self.device;
        if is_other || (meta.nlink() > 1 && !is_folder && !self.seen.insert(meta.ino())) {
            return false;
        }
        self.used += Usage { bytes: meta.blocks() * 512, inodes: 1 };
        is_folder
    }

    /// Counts what is in a folder. Of the folders in it the names are kept; a container makes millions
    /// of files.
    fn look_into(&mut self, folder: &File, name: OsString) -> Option<Level> {
        let inode = folder.metadata().ok()?.ino();
        let entries = fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        let mut pending = Vec::new();
        for entry in entries.into_iter().flatten().flatten() {
            if entry.metadata().is_ok_and(|it| self.count(&it)) {
                pending.push(entry.file_name());
            }
        }
        Some(Level { name, inode, pending })
    }

    fn walk(&mut self) {
        while let Some(level) = self.way.last_mut() {
            let Some(name) = level.pending.pop() else {
                self.way.pop();
                self.back();
                continue;
            };
            let Ok(folder) = enter(&self.here, &name) else { continue };
            if let Some(level) = self.look_into(&folder, name).filter(|it| !it.pending.is_empty()) {
                self.way.push(level);
                self.here = folder;
            }
        }
    }

    /// Goes up to the last folder of the way. Where that is not what is above (somebody moved folders),
    /// the way is gone anew from the first folder, as far as it is still there.
    fn back(&mut self) {
        let Some(above) = self.way.last() else { return };
        if let Ok(folder) = enter(&self.here, OsStr::new(".."))
            && is_inode(&folder, above.inode)
        {
            self.here = folder;
            return;
        }
        let Ok(mut here) = self.first.try_clone() else { return self.way.clear() };
        let mut reached = 1;
        for level in self.way.iter().skip(1) {
            match enter(&here, &level.name) {
                Ok(folder) if is_inode(&folder, level.inode) => here = folder,
                _ => break,
            }
            reached += 1;
        }
        self.way.truncate(reached);
        self.here = here;
    }
}

fn is_inode(folder: &File, inode: u64) -> bool {
    folder.metadata().is_ok_and(|it| it.ino() == inode)
}

/// Walks over a folder, or looks at a file. A file with several names is counted once.
pub(crate) fn usage(path: &Path) -> Usage {
    let Ok(root) = fs::symlink_metadata(path) else { return Usage::default() };
    let alone = Usage { bytes: root.blocks() * 512, inodes: 1 };
    if !root.is_dir() {
        return alone;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = open(path, flags, Mode::empty()).map(File::from);
    let Ok((first, here)) = opened.and_then(|it| Ok((enter(&it, OsStr::new("."))?, it))) else {
        return alone;
    };
    let (way, seen) = (Vec::new(), HashSet::new());
    let mut walk = Walk { first, here, way, used: alone, device: root.dev(), seen };
    if let Ok(folder) = walk.here.try_clone() {
        let level = walk.look_into(&folder, OsString::new());
        walk.way.extend(level);
    }
    walk.walk();
    walk.used
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sys::stat::mkdirat;

    use super::*;

    fn opened(path: &Path) -> File {
        File::open(path).unwrap()
    }

    /// A folder in a folder and so on, with a file of a mebibyte in the last.
    fn deep(levels: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut at = opened(folder.path());
        let name = "x".repeat(200);
        for _level in 0..levels {
            mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
            at = enter(&at, OsStr::new(&name)).unwrap();
        }
        // By the open folder the way to it is short.
        let file = format!("/proc/self/fd/{}/file", at.as_raw_fd());
        fs::write(file, vec![1; 1 << 20]).unwrap();
        folder
    }

    #[test]
    fn what_lies_deeper_than_any_path_is_counted_too() {
        let folder = deep(100);
        let used = usage(folder.path());
        assert_eq!(used.inodes, 102, "the folder, a hundred in it, and the file");
        assert!(used.bytes >= 1 << 20, "{}", used.bytes);
        // What is not a folder is counted by itself.
        let own = folder.path().join("own");
        fs::write(&own, vec![1; 1 << 16]).unwrap();
        assert_eq!(usage(&own).inodes, 1);
    }

    /// Runs itself where few files may be open.
    #[test]
    fn a_handful_of_descriptors_is_enough_however_deep_a_folder_is() {
        const FOLDER: &str = "NODESTEAD_TEST_DEEP_FOLDER";
        if let Some(folder) = std::env::var_os(FOLDER) {
            assert_eq!(usage(Path::new(&folder)).inodes, 402);
            return;
        }
        let folder = deep(400);
        let name =
            "stats::disk::tests::a_handful_of_descriptors_is_enough_however_deep_a_folder_is";
        let ran = Command::new("sh")
            .args(["-c", "ulimit -n 24; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--test-threads=1"])
            .env(FOLDER, folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    fn folders_beside_each_other_on_every_level_are_all_looked_into() {
        let folder = tempfile::tempdir().unwrap();
        for way in ["a/b/c", "a/b/d", "a/e/f/g", "h/i", "h/j/k"] {
            fs::create_dir_all(folder.path().join(way)).unwrap();
            fs::write(folder.path().join(way).join("file"), "").unwrap();
        }
        assert_eq!(usage(folder.path()).inodes, 12 + 5);
    }

    #[test]
    fn a_walk_whose_folder_was_moved_goes_on_where_it_came_from() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/b/c")).unwrap();
        let level = |name: &str, path: &str| Level {
            name: name.into(),
            inode: fs::metadata(at(path)).unwrap().ino(),
            pending: Vec::new(),
        };
        let mut walk = Walk {
            first: opened(folder.path()),
            here: opened(&at("a/b/c")),
            way: vec![level("", ""), level("a", "a"), level("b", "a/b")],
            used: Usage::default(),
            device: 0,
            seen: HashSet::new(),
        };
        fs::rename(at("a/b/c"), at("c")).unwrap();
        walk.back();
        assert!(is_inode(&walk.here, walk.way[2].inode));
        // What is above it is gone as well.
        walk.here = opened(&at("c"));
        fs::rename(at("a/b"), at("b")).unwrap();
        walk.back();
        assert_eq!(walk.way.len(), 2);
        assert!(is_inode(&walk.here, walk.way[1].inode));
    }

    #[test]
    fn a_folder_that_becomes_a_link_is_not_looked_into() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/usr", folder.path().join("was-a-folder")).unwrap();
        for path in ["was-a-folder", "was-a-folder/bin"] {
            assert!(enter(&opened(folder.path()), OsStr::new(path)).is_err());
        }
        let error = enter(&opened(Path::new("/")), OsStr::new("proc")).unwrap_err();
        assert_eq!(error, nix::errno::Errno::EXDEV, "nor what is mounted there");
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
