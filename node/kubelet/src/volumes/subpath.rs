//! `subPath`: a part of a volume, mounted by itself.
//!
//! A container may have put a link into the volume that points out of it. The part is therefore
//! opened without following anything that leaves the volume, and the opened file, not the name, is
//! bound to a place that containers cannot write.
//!
//! **Invariant:** what is bound lies inside the volume at the moment it is opened.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::{Mode, fstat, mkdirat},
};

use super::mounts;
use crate::paths::make_private;

/// What is told to the pod's owner names nothing of the host; the causes are for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareSubpathError {
    #[error("error SubPath `{subpath}` must not be an absolute path")]
    Absolute { subpath: String },
    #[error("unable to provision SubPath `{subpath}`: must not contain '..'")]
    Backsteps { subpath: String },
    #[error("failed to create subPath directory")]
    Create {
        #[source]
        source: io::Error,
    },
    #[error("failed to prepare subPath")]
    Prepare {
        #[source]
        source: io::Error,
    },
}

pub(super) fn prepare(
    volume: &Path,
    subpath: &str,
    target: &Path,
) -> Result<PathBuf, PrepareSubpathError> {
    if Path::new(subpath).is_absolute() {
        return Err(PrepareSubpathError::Absolute { subpath: subpath.to_owned() });
    }
    if Path::new(subpath).components().any(|it| it == Component::ParentDir) {
        return Err(PrepareSubpathError::Backsteps { subpath: subpath.to_owned() });
    }
    let failed = |source| PrepareSubpathError::Prepare { source };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(volume, flags, Mode::empty()).map_err(|it| failed(it.into()))?;
    let opened = match open_beneath(&root, Path::new(subpath)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_below(&root, Path::new(subpath))
                .map_err(|source| PrepareSubpathError::Create { source })?
        }
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            open_by_host_names(&root, volume, subpath).map_err(|_| failed(error))?
        }
        result => result.map_err(failed)?,
    };
    bind(&opened, target).map_err(failed)?;
    Ok(target.to_owned())
}

fn bind(opened: &OwnedFd, target: &Path) -> io::Result<()> {
    let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let is_folder = fs::metadata(&source)?.is_dir();
    if fs::symlink_metadata(target).is_ok() {
        // A mount of an earlier start of this container.
        mounts::unmount_below(target)?;
    }
    // What was a file then may be a folder now.
    match fs::symlink_metadata(target) {
        Ok(found) if found.is_dir() && !is_folder => fs::remove_dir(target)?,
        Ok(found) if !found.is_dir() && is_folder => fs::remove_file(target)?,
        _ => {}
    }
    if fs::symlink_metadata(target).is_err() {
        if let Some(parent) = target.parent() {
            make_private(parent)?;
        }
        if is_folder {
            fs::create_dir(target)?;
        } else {
            fs::write(target, [])?;
        }
    }
    mounts::bind(&source, target)
}

/// Opens a path below `root`, making folders that are not there. They are as open as the root of the
/// volume is, so that whoever may write to the volume may write to its part.
fn make_below(root: &OwnedFd, subpath: &Path) -> io::Result<OwnedFd> {
    let mode = Mode::from_bits_truncate(fstat(root)?.st_mode & 0o7777);
    let mut at = root.try_clone()?;
    for part in subpath.components() {
        let Component::Normal(part) = part else { continue };
        let is_new = match mkdirat(&at, part, mode) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(error) => return Err(error.into()),
        };
        at = open_beneath(&at, Path::new(part))?;
        if is_new {
            // Whatever the process's mask took away.
            let opened = PathBuf::from(format!("/proc/self/fd/{}", at.as_raw_fd()));
            fs::set_permissions(opened, fs::Permissions::from_mode(mode.bits()))?;
        }
    }
    // Once more from the top: a link on the way may have led out.
    open_beneath(root, subpath)
}

/// A link may say by the host's names, or by a way around, what is in the volume all the same. Where it
/// leads is looked up first, and opened then without following any link.
fn open_by_host_names(root: &OwnedFd, volume: &Path, subpath: &str) -> io::Result<OwnedFd> {
    let leads_to = volume.join(subpath).canonicalize()?;
    let inside = leads_to.strip_prefix(volume.canonicalize()?).map_err(io::Error::other)?;
    // Of the volume itself nothing is left.
    let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
    open_how(root, inside, ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS)
}

fn open_beneath(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    open_how(root, path, ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

fn open_how(root: &OwnedFd, path: &Path, resolve: ResolveFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
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
        let ask = |it: &str| prepare(&volume, it, &target);
        for bad in ["absolute", "absolute/passwd", "upwards", "upwards/new"] {
            let error = ask(bad).unwrap_err();
            // Nothing of the host is told.
            assert_eq!(error.to_string(), "failed to prepare subPath", "{bad}");
        }
        assert!(matches!(ask("a/../../x"), Err(PrepareSubpathError::Backsteps { .. })));
        assert!(matches!(ask("/etc"), Err(PrepareSubpathError::Absolute { .. })));
        let root = open(&volume, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        let opened = open_beneath(&root, Path::new("fine")).unwrap();
        // No program that is started meanwhile gets it.
        let flags = nix::fcntl::fcntl(&opened, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & nix::libc::FD_CLOEXEC, nix::libc::FD_CLOEXEC);
    }

    #[test]
    fn a_link_that_leads_into_the_volume_by_the_hosts_names_is_followed() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (volume, target) = (folder.path().join("v"), folder.path().join("t"));
        fs::create_dir_all(volume.join("releases/1")).unwrap();
        fs::write(volume.join("releases/1/page"), "one").unwrap();
        fs::create_dir(folder.path().join("v-other")).unwrap();
        symlink(volume.join("releases/1"), volume.join("current")).unwrap();
        symlink("../v/releases", volume.join("around")).unwrap();
        symlink(folder.path().join("v-other"), volume.join("beside")).unwrap();
        for subpath in ["current", "around/1"] {
            prepare(&volume, subpath, &target).unwrap();
            assert_eq!(fs::read_to_string(target.join("page")).unwrap(), "one", "{subpath}");
        }
        prepare(&volume, "current/page", &target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "one");
        prepare(&volume, "beside", &target).unwrap_err();
        mounts::unmount_below(&target).unwrap();
    }

    #[test]
    fn what_was_a_file_may_be_a_folder_at_the_next_start() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (volume, target) = (folder.path().join("v"), folder.path().join("t"));
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("part"), "file").unwrap();
        prepare(&volume, "part", &target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "file");
        fs::remove_file(volume.join("part")).unwrap();
        fs::create_dir_all(volume.join("part/below")).unwrap();
        prepare(&volume, "part", &target).unwrap();
        assert!(target.join("below").is_dir());
        fs::remove_dir_all(volume.join("part")).unwrap();
        fs::write(volume.join("part"), "again").unwrap();
        prepare(&volume, "part", &target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "again");
        mounts::unmount_below(&target).unwrap();
    }

    #[test]
    fn a_part_that_is_made_is_as_open_as_the_volume() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let root = open(folder.path(), OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        make_below(&root, Path::new("new/deep")).unwrap();
        for made in ["new", "new/deep"] {
            let mode = fs::metadata(folder.path().join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o777, "{made}");
        }
    }
}
