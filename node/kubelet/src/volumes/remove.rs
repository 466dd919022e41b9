//! Removes a folder, and never what is mounted in it.
//!
//! A mount may arrive while the folder is taken away: the pod that is being ended was just being
//! started. What is in it belongs to others. Folders are therefore opened one by one, in a way that
//! does not cross into another mount, and what is opened is emptied.
//!
//! Upstream: `RemoveAllOneFilesystem` in `pkg/util/removeall`; this one sees bind mounts of the same
//! file system too.

use std::{
    ffi::OsStr,
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, unlinkat},
};

/// Fails at a mount point. A folder that is not there is removed.
pub(super) fn all_below_no_mount(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    match open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(Errno::ENOENT) => Ok(()),
        opened => remove(&opened?, name),
    }
}

fn remove(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = open_child(parent, name)?;
    for entry in fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))? {
        remove(&folder, &entry?.file_name())?;
    }
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn open_child(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(parent, name, how).map_err(|error| match error {
        Errno::EXDEV => io::Error::new(
            io::ErrorKind::CrossesDevices,
            format!("{} is a mount point", name.display()),
        ),
        error => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_and_what_its_links_lead_to_stays() {
        let root = tempfile::tempdir().unwrap();
        let (folder, other) = (root.path().join("pod"), root.path().join("other"));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/file"), "").unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "").unwrap();
        std::os::unix::fs::symlink(&other, folder.join("a/link")).unwrap();
        all_below_no_mount(&folder).unwrap();
        assert!(!folder.exists() && other.join("kept").exists());
        all_below_no_mount(&folder).unwrap();
    }

    #[test]
    fn a_mount_point_is_not_entered() {
        let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        let error = open_child(&root, OsStr::new("proc")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::CrossesDevices);
    }
}
