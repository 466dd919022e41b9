//! File systems, and what folders use of them.
//!
//! **Invariant:** a walk stays on the file system that it began on and follows no link, so that it
//! counts what is in the folder and nothing else.

use std::{collections::HashSet, os::unix::fs::MetadataExt, path::Path};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

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

/// Walks over a folder. A file with several names is counted once.
pub(crate) fn usage(path: &Path) -> Usage {
    let Ok(root) = std::fs::symlink_metadata(path) else { return Usage::default() };
    let mut seen = HashSet::new();
    let mut used = Usage::default();
    let mut folders = Vec::new();
    let mut count = |entry: &Path, meta: &std::fs::Metadata, folders: &mut Vec<_>| {
        if meta.dev() != root.dev()
            || (meta.nlink() > 1 && !meta.is_dir() && !seen.insert(meta.ino()))
        {
            return;
        }
        used += Usage { bytes: meta.blocks() * 512, inodes: 1 };
        if meta.is_dir() {
            folders.push(entry.to_owned());
        }
    };
    count(path, &root, &mut folders);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if let Ok(meta) = entry.metadata() {
                count(&entry.path(), &meta, &mut folders);
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_is_counted_once_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), vec![1; 64 << 10]).unwrap();
        std::fs::hard_link(at("a"), at("b")).unwrap();
        std::os::unix::fs::symlink("/usr", at("c")).unwrap();
        let used = usage(folder.path());
        assert_eq!(used.inodes, 3, "the folder, the file and the link");
        assert!((64 << 10..100 << 10).contains(&used.bytes), "{}", used.bytes);
        assert_eq!(usage(&at("missing")), Usage::default());
    }
}
