//! Mounts: binds, overlays, private file systems, propagation, `pivot_root`, and their removal.
//!
//! Each function does one kernel operation and names the place in its error. What is mounted is
//! read from `mountinfo`, never remembered, so that a crash between two operations is repaired by
//! doing them again.

mod table;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, umount2},
};

use rustix::mount::{FsOpenFlags, fsopen};

pub use self::table::{Mount, mounts, mounts_under, parse};
pub use nix::mount::MsFlags as Flags;

/// A mount operation that the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("failed to mount {what} on `{}`", target.display())]
    Mount {
        what: String,
        target: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to unmount `{}`", target.display())]
    Unmount {
        target: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to make `{}` the root", target.display())]
    Pivot {
        target: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to read the mount table")]
    Table {
        #[source]
        source: io::Error,
    },
}

/// How mount events spread between namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Shared,
    Slave,
}

/// Binds `source` on `target`, which must exist and be of the same kind.
pub fn bind(source: &Path, target: &Path) -> Result<(), MountError> {
    raw(Some(source), target, None, MsFlags::MS_BIND, None)
}

/// Binds `source` and everything mounted below it on `target`.
pub fn bind_recursive(source: &Path, target: &Path) -> Result<(), MountError> {
    raw(Some(source), target, None, MsFlags::MS_BIND | MsFlags::MS_REC, None)
}

/// Binds `source` on `target` so that nothing can be written through `target`.
pub fn bind_readonly(source: &Path, target: &Path) -> Result<(), MountError> {
    bind(source, target)?;
    remount_readonly(target)
}

/// Makes the mount at `target` read-only, here only: other mounts of the same file system stay.
pub fn remount_readonly(target: &Path) -> Result<(), MountError> {
    // A remount must keep the flags that the mount has, or a locked one refuses it.
    let kept = table::flags_of(target).map_err(|source| MountError::Table { source })?;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | kept;
    raw(None, target, None, flags, None)
}

/// Mounts a new file system of kind `kind` with `options` (`mode=755,size=64m`).
pub fn filesystem(
    kind: &str,
    target: &Path,
    flags: MsFlags,
    options: &str,
) -> Result<(), MountError> {
    raw(Some(Path::new(kind)), target, Some(kind), flags, Some(options))
}

/// Mounts an empty file system in memory.
pub fn tmpfs(target: &Path, options: &str) -> Result<(), MountError> {
    filesystem("tmpfs", target, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, options)
}

/// Whether the kernel can mount file systems of `kind`. One that is a module of the kernel is loaded by
/// the question, as it would be by a mount: `/proc/filesystems` lists those that are loaded alone.
pub fn is_known(kind: &str) -> bool {
    fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).is_ok() || is_listed(kind)
}

/// For who may not mount: a user, a container with few rights.
fn is_listed(kind: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|it| it.split('\t').next_back() == Some(kind))
}

/// Lays `upper` over the layers of `lower`, of which the first is uppermost; changes go to `upper`.
/// `work` is the kernel's own folder beside it.
pub fn overlay(
    lower: &[&Path],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> Result<(), MountError> {
    let lower: Vec<String> = lower.iter().map(|it| escape(it)).collect();
    let (lower, upper, work) = (lower.join(":"), escape(upper), escape(work));
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    filesystem("overlay", target, MsFlags::empty(), &options)
}

/// Sets the propagation of `target` and of everything below it.
pub fn propagate(target: &Path, propagation: Propagation) -> Result<(), MountError> {
    let kind = match propagation {
        Propagation::Private => MsFlags::MS_PRIVATE,
        Propagation::Shared => MsFlags::MS_SHARED,
        Propagation::Slave => MsFlags::MS_SLAVE,
    };
    raw(None, target, None, kind | MsFlags::MS_REC, None)
}

/// Makes `root` (a mount point) the root of this mount namespace, and lets go of the old one.
pub fn pivot_root(root: &Path) -> Result<(), MountError> {
    let failed = |errno: Errno| MountError::Pivot { target: root.to_owned(), source: errno.into() };
    nix::unistd::chdir(root).map_err(failed)?;
    // Stacking the old root on the new one needs no folder to put it in: pivot_root(2), NOTES.
    nix::unistd::pivot_root(".", ".").map_err(failed)?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed)?;
    nix::unistd::chdir("/").map_err(failed)
}

/// Unmounts what is mounted on `target`; what is in use stays, and is an error.
pub fn unmount(target: &Path) -> Result<(), MountError> {
    umount2(target, MntFlags::UMOUNT_NOFOLLOW)
        .map_err(|errno| MountError::Unmount { target: target.to_owned(), source: errno.into() })
}

/// Unmounts everything at and below `folder`, deepest first. Nothing mounted is no error.
pub fn unmount_tree(folder: &Path) -> Result<(), MountError> {
    unmount_all(|| mounts_under(folder))
}

/// The same without `folder` itself, which may be where somebody has mounted a disk for it.
pub fn unmount_below(folder: &Path) -> Result<(), MountError> {
    unmount_all(|| {
        let mut below = mounts_under(folder)?;
        below.retain(|mount| mount.target != folder);
        Ok(below)
    })
}

fn unmount_all(find: impl Fn() -> io::Result<Vec<Mount>>) -> Result<(), MountError> {
    // One pass per layer of stacked mounts; each pass removes at least one or fails.
    loop {
        let mut below = find().map_err(|source| MountError::Table { source })?;
        if below.is_empty() {
            return Ok(());
        }
        below.reverse();
        for mount in below {
            match umount2(&mount.target, MntFlags::MNT_DETACH) {
                // Gone with one that covered it.
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(errno) => {
                    return Err(MountError::Unmount { target: mount.target, source: errno.into() });
                }
            }
        }
    }
}

/// Removes `folder` and all that is in it, after unmounting what is mounted there: a deletion must
/// never reach through a mount into somebody else's files.
pub fn remove_tree(folder: &Path) -> Result<(), MountError> {
    unmount_tree(folder)?;
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(MountError::Unmount { target: folder.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn raw(
    source: Option<&Path>,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<(), MountError> {
    nix::mount::mount(source, target, kind, flags, options).map_err(|errno| {
        let what = match (kind, source) {
            (Some(kind), _) => kind.to_owned(),
            (None, Some(source)) => format!("`{}`", source.display()),
            (None, None) => format!("flags {flags:?}"),
        };
        MountError::Mount { what, target: target.to_owned(), source: errno.into() }
    })
}

/// Overlay splits its options at commas and its lower layers at colons.
fn escape(path: &Path) -> String {
    let mut out = String::new();
    for char in path.display().to_string().chars() {
        if matches!(char, '\\' | ',' | ':') {
            out.push('\\');
        }
        out.push(char);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_colon_is_one_lower_layer() {
        assert_eq!(escape(Path::new("/a:b,c")), "/a\\:b\\,c");
    }

    #[test]
    fn a_file_system_is_known_to_root_and_to_users() {
        assert!(is_known("tmpfs") && is_listed("tmpfs") && is_listed("proc"));
        assert!(!is_known("nst-t-none") && !is_listed("nodev"));
    }

    #[test]
    fn removing_a_tree_unmounts_first_and_spares_what_was_mounted() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let (kept, gone) = (base.path().join("kept"), base.path().join("gone"));
        fs::create_dir_all(gone.join("inner")).unwrap();
        fs::create_dir_all(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        tmpfs(&gone, "size=1m").unwrap();
        fs::create_dir_all(gone.join("inner")).unwrap();
        bind(&kept, &gone.join("inner")).unwrap();
        bind_readonly(&kept, &gone.join("inner")).unwrap();
        assert!(fs::write(gone.join("inner/new"), "x").is_err());
        remove_tree(&gone).unwrap();
        remove_tree(&gone).unwrap();
        assert!(kept.join("file").exists());
        assert!(!gone.exists());
    }
}
