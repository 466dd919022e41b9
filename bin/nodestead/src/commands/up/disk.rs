//! Whether the data directory's disk has room for nodes.
//!
//! All nodes of a region see the machine's disk. A kubelet whose images have less than 15 % of it
//! left sets `DiskPressure`, and its node takes no pods: better said before than found out after.

use std::path::Path;

use crate::failure::Failure;

/// The kubelet's default `imagefs.available` threshold.
const WANTED_PERCENT: u64 = 15;

/// What a region takes before any image is pulled: its programs, the AMI, the add-ons' images.
const LEAST: u64 = 1 << 30;

/// Refuses a disk that has no room for a new region, before anything is written to it.
pub(super) fn check(folder: &Path) -> Result<(), Failure> {
    let there = folder.ancestors().find(|it| it.exists());
    let Some(disk) = there.and_then(|it| rustix::fs::statvfs(it).ok()) else { return Ok(()) };
    room(folder, disk.f_blocks, disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn room(folder: &Path, blocks: u64, bytes: u64) -> Result<(), Failure> {
    if blocks == 0 || bytes >= LEAST {
        return Ok(());
    }
    let what = format!(
        "the disk of `{}` has {} MiB left; a region needs {} MiB",
        folder.display(),
        bytes >> 20,
        LEAST >> 20
    );
    Err(Failure::new(what, "make room, or use a --data-dir on another disk"))
}

/// What to tell before `up` begins, if anything.
pub(super) fn warning(folder: &Path) -> Option<String> {
    let there = folder.ancestors().find(|it| it.exists())?;
    let disk = rustix::fs::statvfs(there).ok()?;
    let text = too_full(disk.f_blocks, disk.f_bavail)?;
    Some(format!("warning: the disk of `{}` {text}", folder.display()))
}

fn too_full(capacity: u64, available: u64) -> Option<String> {
    let is_enough =
        u128::from(available) * 100 >= u128::from(capacity) * u128::from(WANTED_PERCENT);
    if capacity == 0 || is_enough {
        return None;
    }
    let used = 100 - u128::from(available) * 100 / u128::from(capacity);
    Some(format!(
        "is {used} % full: kubelets want {WANTED_PERCENT} % free, so nodes will be under \
         DiskPressure and take no pods\n  next: make room, or use a --data-dir on another disk"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_too_full_when_a_kubelet_would_say_so() {
        assert_eq!(too_full(1000, 150), None);
        assert!(too_full(1000, 149).unwrap().starts_with("is 86 % full"), "rounded up");
        assert!(too_full(u64::MAX, 0).unwrap().starts_with("is 100 % full"));
        assert_eq!(too_full(0, 0), None, "a file system that has no size, like /proc");
    }

    #[test]
    fn a_disk_without_room_for_a_region_is_refused_at_once() {
        let folder = Path::new("/x");
        assert!(room(folder, 0, 0).is_ok(), "a file system that has no size, like /proc");
        assert!(room(folder, 10, LEAST).is_ok());
        let error = room(folder, 10, 40 << 20).unwrap_err();
        assert_eq!(error.to_string(), "the disk of `/x` has 40 MiB left; a region needs 1024 MiB");
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_where_it_will_be() {
        assert_eq!(warning(Path::new("/proc/no/such/folder")), None);
    }
}
