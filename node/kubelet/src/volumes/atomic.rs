//! Replaces the files of a volume in one step.
//!
//! The files are written into a new folder, and the link `..data` is renamed onto it; what containers
//! see are links through `..data`. So a reader finds the old files or the new ones, never a mixture.
//! The layout is upstream's (`pkg/volume/util/atomic_writer.go`); programs that watch `..data` rely
//! on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
    sync::atomic::AtomicU64,
};

use jiff::Timestamp;
use nix::unistd::{Uid, chown};

use super::ownership::Group;

/// The files of a volume, by their path in it.
pub(super) type Files = BTreeMap<PathBuf, File>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct File {
    pub content: Vec<u8>,
    pub mode: u32,
    /// The user who owns it; root, if none is given.
    pub owner: Option<u32>,
}

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Whether a path may be written in a volume.
pub(super) fn is_valid(path: &Path) -> bool {
    let mut parts = path.components();
    let is_plain = path.components().all(|it| matches!(it, Component::Normal(_)));
    let first = parts.next().map(|it| it.as_os_str().to_string_lossy().into_owned());
    is_plain && first.is_some_and(|it| !it.starts_with(".."))
}

/// Whether something was written into a folder before, in full.
pub(super) fn has_content(folder: &Path) -> bool {
    folder.join(DATA).exists()
}

/// Makes `folder` hold exactly `files`.
pub(super) fn write(
    folder: &Path,
    files: &Files,
    group: Option<Group>,
    now: Timestamp,
) -> io::Result<()> {
    let current = fs::read_link(folder.join(DATA)).ok().map(|it| folder.join(it));
    remove_left_over(folder, current.as_deref())?;
    if current.as_deref().is_some_and(|it| holds(it, files)) {
        // The links may be missing if this process was killed right after the rename.
        return link_names(folder, files);
    }
    // Who looks at the volume sees since when it is as it is.
    let number = entropy::below(u64::from(u32::MAX));
    let fresh = folder.join(now.strftime(&format!("..%Y_%m_%d_%H_%M_%S.{number}")).to_string());
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        let path = fresh.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &file.content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
        if let Some(owner) = file.owner {
            chown(&path, Some(Uid::from_raw(owner)), None)?;
        }
    }
    if let Some(group) = group {
        // Before anybody can see the new ones; containers read them only.
        Group { read_only: true, on_root_mismatch: false, ..group }
            .apply(folder, &AtomicU64::default())?;
    }
    let staged = folder.join(NEW_DATA);
    remove_if_there(&staged)?;
    symlink(fresh.file_name().unwrap_or_default(), &staged)?;
    fs::rename(&staged, folder.join(DATA))?;
    link_names(folder, files)?;
    if let Some(old) = current {
        fs::remove_dir_all(old)?;
    }
    Ok(())
}

/// Folders that a process which was killed did not get to name or to remove.
fn remove_left_over(folder: &Path, current: Option<&Path>) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with("..");
        let is_folder = entry.file_type().is_ok_and(|it| it.is_dir());
        if is_ours && is_folder && Some(path.as_path()) != current {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

/// Whether a folder already holds these files and no others.
fn holds(folder: &Path, files: &Files) -> bool {
    let mut seen = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(entries) = fs::read_dir(&next) else { return false };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(folder).unwrap_or(&path);
            let is_same = files
                .get(inside)
                .is_some_and(|file| fs::read(&path).is_ok_and(|it| it == file.content));
            if !is_same {
                return false;
            }
            seen += 1;
        }
    }
    seen == files.len()
}

/// One link for each first part of a path, and no others.
fn link_names(folder: &Path, files: &Files) -> io::Result<()> {
    let wanted: BTreeSet<_> =
        files.keys().filter_map(|it| it.iter().next()).map(ToOwned::to_owned).collect();
    for name in &wanted {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("..") && !wanted.contains(&name) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter()
            .map(|(path, content)| {
                let content = content.as_bytes().to_vec();
                (PathBuf::from(path), File { content, mode: 0o644, owner: None })
            })
            .collect()
    }

    #[test]
    fn content_is_replaced_as_a_whole_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        write(at, &files(&[("a", "1"), ("d/b", "2")]), None, NOW).unwrap();
        assert_eq!(fs::read_to_string(at.join("d/b")).unwrap(), "2");
        let first = fs::read_link(at.join("..data")).unwrap();
        assert!(first.to_string_lossy().starts_with("..1970_01_01_00_00_00."), "{first:?}");
        write(at, &files(&[("a", "1"), ("d/b", "2")]), None, NOW).unwrap();
        assert_eq!(fs::read_link(at.join("..data")).unwrap(), first, "nothing changed");
        write(at, &files(&[("a", "9")]), None, NOW).unwrap();
        assert_eq!(fs::read_to_string(at.join("a")).unwrap(), "9");
        let mut names: Vec<_> =
            fs::read_dir(at).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names.len(), 3, "a, ..data and its folder: {names:?}");
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_completed() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        write(at, &files(&[("a", "1")]), None, NOW).unwrap();
        fs::create_dir(at.join("..unfinished")).unwrap();
        fs::remove_file(at.join("a")).unwrap();
        write(at, &files(&[("a", "1")]), None, NOW).unwrap();
        assert_eq!(fs::read_to_string(at.join("a")).unwrap(), "1");
        assert!(!at.join("..unfinished").exists());
    }

    #[test]
    fn the_whole_volume_is_the_groups_that_the_pod_names() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        fs::set_permissions(at, fs::Permissions::from_mode(0o777)).unwrap();
        let group = Some(Group { id: 77, read_only: false, on_root_mismatch: true });
        write(at, &files(&[("d/a", "1")]), group, NOW).unwrap();
        let of = |path: &str| {
            let found = fs::metadata(at.join(path)).unwrap();
            (found.gid(), found.mode() & 0o7777)
        };
        assert_eq!(of("."), (77, 0o2777));
        assert_eq!(of("d"), (77, 0o2755));
        assert_eq!(of("d/a"), (77, 0o644));
    }

    #[test]
    fn paths_cannot_leave_the_volume() {
        for path in ["../x", "/etc/passwd", "a/../../x", "..data", ""] {
            assert!(!is_valid(Path::new(path)), "{path}");
        }
        assert!(is_valid(Path::new("a/..b")));
    }
}
