//! Who may use the files of a volume: `fsGroup`.
//!
//! The root of the volume is changed last, so that a walk that was cut short is not taken for a
//! finished one by `OnRootMismatch`. A container that runs may use the volume already, so the walk goes
//! by descriptors: a folder that becomes a link meanwhile leads nowhere.
//!
//! Upstream: `pkg/volume/volume_linux.go`.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use k8s_openapi::api::core::v1::Pod;
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat},
    sys::stat::{Mode, SFlag, fstat},
    unistd::{Gid, fchownat},
};

use crate::pod::PodExt;

/// Nothing is read or begun by opening it so: it may be a device or a pipe.
const OPEN: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The group that a volume's files are given to, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub id: u32,
    pub read_only: bool,
    /// Do nothing if the root of the volume is as wanted.
    pub on_root_mismatch: bool,
}

/// Levels of folders in a volume: a container may have made more than the stack has room for.
const DEEPEST: usize = 512;

impl Group {
    /// What a pod asks for, of a volume that it can write.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let context = PodExt::spec(pod).security_context.as_ref()?;
        let id = u32::try_from(context.fs_group?).ok()?;
        let policy = context.fs_group_change_policy.as_deref();
        Some(Self { id, read_only: false, on_root_mismatch: policy == Some("OnRootMismatch") })
    }

    fn mode(self, is_folder: bool) -> u32 {
        let files = if self.read_only { 0o440 } else { 0o660 };
        // What is made in a folder belongs to its group.
        if is_folder { files | 0o2110 } else { files }
    }

    /// `done` is how many files have been given to the group.
    pub(super) fn apply(self, root: &Path, done: &AtomicU64) -> io::Result<()> {
        let found = fs::symlink_metadata(root)?;
        let wanted = self.mode(found.is_dir());
        let fits = found.gid() == self.id && found.mode() & wanted == wanted;
        if self.on_root_mismatch && fits {
            return Ok(());
        }
        self.walk(&open(root, OPEN, Mode::empty())?, 0, done)
    }

    /// Children first. What was opened is changed and not what has its name by then, and links are
    /// changed, not followed.
    fn walk(self, opened: &OwnedFd, depth: usize, done: &AtomicU64) -> io::Result<()> {
        // A walk by paths (upstream's) ends like this too.
        if depth > DEEPEST {
            return Err(Errno::ENAMETOOLONG.into());
        }
        // The way to what a descriptor without rights stands for.
        let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
        let found = fstat(opened)?;
        let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
        let is_folder = kind == SFlag::S_IFDIR;
        if is_folder {
            for entry in fs::read_dir(&path)? {
                match openat(opened, entry?.file_name().as_os_str(), OPEN, Mode::empty()) {
                    // A container that runs may remove files meanwhile.
                    Err(Errno::ENOENT) => {}
                    child => self.walk(&child?, depth + 1, done)?,
                }
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
        let group = Some(Gid::from_raw(self.id));
        fchownat(opened, "", None, group, AtFlags::AT_EMPTY_PATH)?;
        if kind == SFlag::S_IFLNK {
            return Ok(());
        }
        let mode = found.st_mode & 0o7777 | self.mode(is_folder);
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }
}

/// Opens the root of a volume to every user of the pod. In memory nobody removes what is another's, as in
/// every tmpfs.
pub(super) fn open_to_all(path: &Path, is_memory: bool) -> io::Result<()> {
    let mode = if is_memory { 0o1777 } else { 0o777 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn all_files_of_a_volume_are_given_to_the_group_and_links_are_not_followed() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let (root, outside) = (base.path().join("v"), base.path().join("outside"));
        fs::create_dir_all(root.join("d")).unwrap();
        fs::write(&outside, "").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(root.join("d/f"), "").unwrap();
        fs::set_permissions(root.join("d/f"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&outside, root.join("link")).unwrap();
        let done = AtomicU64::new(0);
        let group = Group { id: 4711, read_only: false, on_root_mismatch: true };
        group.apply(&root, &done).unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 4, "the root, a folder, a file and a link");
        let of = |path: &Path| {
            let it = fs::symlink_metadata(path).unwrap();
            (it.gid(), it.mode() & 0o7777)
        };
        assert_eq!(of(&root.join("d/f")), (4711, 0o660));
        assert_eq!(of(&root.join("d")), (4711, 0o2775));
        assert_eq!(of(&root.join("link")).0, 4711);
        assert_eq!(of(&outside), (0, 0o600));
        // Now the root is as wanted, so the policy leaves the rest alone.
        fs::set_permissions(root.join("d/f"), fs::Permissions::from_mode(0o600)).unwrap();
        group.apply(&root, &done).unwrap();
        assert_eq!(of(&root.join("d/f")).1, 0o600);
        Group { on_root_mismatch: false, ..group }.apply(&root, &done).unwrap();
        assert_eq!(of(&root.join("d/f")).1, 0o660);
    }
}
