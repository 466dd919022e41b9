//! Who may use a volume that containers write to.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use nix::unistd::{Gid, chown};

/// An `emptyDir`: open to every user of the pod, and inherited by its group where there is one.
pub(super) fn open_to_all(path: &Path, group: Option<u32>) -> io::Result<()> {
    let mut mode = 0o777;
    if let Some(group) = group {
        chown(path, None, Some(Gid::from_raw(group)))?;
        mode |= 0o2000;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
