//! Removes a folder, and never what is mounted in it.
//!
//! A mount may arrive while the folder is taken away: the pod that is being ended was just being
//! started. What is in it belongs to others. Folders are therefore opened one by one, in a way that
//! does not cross into another mount, and what is opened is emptied. A container makes folders as deep as
//! it likes: what lies deeper than [`DEEPEST`] is moved up first, so that neither the stack nor open files
//! run out.
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
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, renameat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, unlinkat},
};

/// Levels of folders that are open at once.
const DEEPEST: usize = 128;

/// Fails at a mount point. A folder that is not there is removed.
pub(super) fn all_below_no_mount(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    match open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(Errno::ENOENT) => Ok(()),
        opened => remove(&opened?, name, None).map(drop),
    }
}

/// The uppermost folder, for one that is not it, and how far below it is.
type Above<'a> = Option<(&'a OwnedFd, usize)>;

/// Says whether something was moved up instead.
fn remove(parent: &OwnedFd, name: &OsStr, above: Above<'_>) -> io::Result<bool> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(false),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = open_child(parent, name)?;
    if let Some((top, DEEPEST)) = above {
        renameat(parent, name, top, entropy::uuid().as_str())?;
        return Ok(true);
    }
    let (top, depth) = above.unwrap_or((&folder, 0));
    let mut has_moved = false;
    loop {
        let mut has_moved_now = false;
        for entry in fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))? {
            has_moved_now |= remove(&folder, &entry?.file_name(), Some((top, depth + 1)))?;
        }
        has_moved |= has_moved_now;
        // What was moved came to the uppermost one, whose list may not have shown it.
        if above.is_some() || !has_moved_now {
            break;
        }
    }
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(has_moved),
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
    fn folders_go_however_deep_a_container_has_made_them() {
        let root = tempfile::tempdir().unwrap();
        let pod = root.path().join("pod");
        fs::create_dir(&pod).unwrap();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut folder = open(&pod, flags, Mode::empty()).unwrap();
        for _level in 0..20_000 {
            nix::sys::stat::mkdirat(&folder, "a", Mode::S_IRWXU).unwrap();
            folder = nix::fcntl::openat(&folder, "a", flags, Mode::empty()).unwrap();
        }
        all_below_no_mount(&pod).unwrap();
        assert!(!pod.exists());
    }

    #[test]
    fn a_mount_point_is_not_entered() {
        let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        let error = open_child(&root, OsStr::new("proc")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::CrossesDevices);
    }
}
