//! `subPath`: a part of a volume, mounted by itself.
//!
//! A container may have put a link into the volume that points out of it. The part is therefore
//! opened without following anything that leaves the volume, and the opened file, not the name, is
//! bound to a place that containers cannot write.
//!
//! **Invariant:** what is bound lies inside the volume at the moment it is opened.

use std::{
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::{Mode, mkdirat},
};

use super::mounts;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareSubpathError {
    #[error("subPath `{subpath}` leaves its volume")]
    Escapes { subpath: String },
    #[error("failed to prepare subPath `{subpath}`: {source}")]
    Io {
        subpath: String,
        #[source]
        source: io::Error,
    },
}

pub(super) fn prepare(
    volume: &Path,
    subpath: &str,
    target: &Path,
) -> Result<PathBuf, PrepareSubpathError> {
    let is_plain = Path::new(subpath)
        .components()
        .all(|it| matches!(it, Component::Normal(_) | Component::CurDir));
    if !is_plain {
        return Err(PrepareSubpathError::Escapes { subpath: subpath.to_owned() });
    }
    let failed = |source| PrepareSubpathError::Io { subpath: subpath.to_owned(), source };
    let opened = open_below(volume, Path::new(subpath)).map_err(|error| {
        if error.raw_os_error() == Some(nix::libc::EXDEV) {
            PrepareSubpathError::Escapes { subpath: subpath.to_owned() }
        } else {
            failed(error)
        }
    })?;
    bind(&opened, target).map_err(failed)?;
    Ok(target.to_owned())
}

fn bind(opened: &OwnedFd, target: &Path) -> io::Result<()> {
    let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let is_folder = fs::metadata(&source)?.is_dir();
    if fs::symlink_metadata(target).is_ok() {
        // A mount of an earlier start of this container.
        mounts::unmount_below(target)?;
    } else {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        if is_folder {
            fs::create_dir(target)?;
        } else {
            fs::write(target, [])?;
        }
    }
    mounts::bind(&source, target)
}

/// Opens a path below `volume`, making folders that are not there.
fn open_below(volume: &Path, subpath: &Path) -> io::Result<OwnedFd> {
    let root = open(volume, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
    match open_beneath(&root, subpath) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let mut at = root.try_clone()?;
    for part in subpath.components() {
        let Component::Normal(part) = part else { continue };
        match mkdirat(&at, part, Mode::from_bits_truncate(0o750)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = open_beneath(&at, Path::new(part))?;
    }
    // Once more from the top: a link on the way may have led out.
    open_beneath(&root, subpath)
}

fn open_beneath(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(openat2(root, path, how)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_that_leaves_the_volume_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("v");
        fs::create_dir(&volume).unwrap();
        symlink("/etc", volume.join("absolute")).unwrap();
        symlink("../..", volume.join("upwards")).unwrap();
        fs::create_dir(volume.join("inside")).unwrap();
        symlink("inside", volume.join("fine")).unwrap();
        let target = folder.path().join("t");
        for bad in ["absolute", "absolute/passwd", "upwards", "../x", "/etc"] {
            let error = prepare(&volume, bad, &target).unwrap_err();
            assert!(matches!(error, PrepareSubpathError::Escapes { .. }), "{bad}: {error}");
        }
        assert!(open_below(&volume, Path::new("fine")).is_ok());
        assert!(open_below(&volume, Path::new("new/deep")).is_ok());
        assert!(volume.join("new/deep").is_dir());
    }
}
