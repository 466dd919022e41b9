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
};

use nix::unistd::{Gid, Uid, chown};

/// A file's content and mode, by its path in the volume.
pub(super) type Files = BTreeMap<PathBuf, (Vec<u8>, u32)>;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Whether a path may be written in a volume.
pub(super) fn is_valid(path: &Path) -> bool {
    let mut parts = path.components();
    let is_plain = path.components().all(|it| matches!(it, Component::Normal(_)));
    let first = parts.next().map(|it| it.as_os_str().to_string_lossy().into_owned());
    is_plain && first.is_some_and(|it| !it.starts_with(".."))
}

/// Makes `folder` hold exactly `files`.
pub(super) fn write(
    folder: &Path,
    files: &Files,
    group: Option<u32>,
    owner: Option<u32>,
) -> io::Result<()> {
    let current = fs::read_link(folder.join(DATA)).ok().map(|it| folder.join(it));
    if current.as_deref().is_some_and(|it| holds(it, files)) {
        return Ok(());
    }
    let fresh = folder.join(format!("..{}", entropy::hex(16)));
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, (content, mode)) in files {
        let path = fresh.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content)?;
        let mode = if group.is_some() { mode | 0o440 } else { *mode };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        if group.is_some() || owner.is_some() {
            chown(&path, owner.map(Uid::from_raw), group.map(Gid::from_raw))?;
        }
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
                .is_some_and(|(content, _)| fs::read(&path).is_ok_and(|it| it == *content));
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
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter()
            .map(|(path, content)| (PathBuf::from(path), (content.as_bytes().to_vec(), 0o644)))
            .collect()
    }

    #[test]
    fn content_is_replaced_as_a_whole_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        write(at, &files(&[("a", "1"), ("d/b", "2")]), None, None).unwrap();
        assert_eq!(fs::read_to_string(at.join("d/b")).unwrap(), "2");
        let first = fs::read_link(at.join("..data")).unwrap();
        write(at, &files(&[("a", "1"), ("d/b", "2")]), None, None).unwrap();
        assert_eq!(fs::read_link(at.join("..data")).unwrap(), first, "nothing changed");
        write(at, &files(&[("a", "9")]), None, None).unwrap();
        assert_eq!(fs::read_to_string(at.join("a")).unwrap(), "9");
        let mut names: Vec<_> =
            fs::read_dir(at).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names.len(), 3, "a, ..data and its folder: {names:?}");
    }

    #[test]
    fn paths_cannot_leave_the_volume() {
        for path in ["../x", "/etc/passwd", "a/../../x", "..data", ""] {
            assert!(!is_valid(Path::new(path)), "{path}");
        }
        assert!(is_valid(Path::new("a/..b")));
    }
}
