//! Whether the data directory's disk has room for nodes.
//!
//! All nodes of a region see the machine's disk. A kubelet whose images have less than 15 % of it
//! left sets `DiskPressure`, and its node takes no pods: better said before than found out after.

use std::path::Path;

/// The kubelet's default `imagefs.available` threshold.
const WANTED_PERCENT: u64 = 15;

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
    fn a_folder_that_is_not_there_yet_is_judged_by_where_it_will_be() {
        assert_eq!(warning(Path::new("/proc/no/such/folder")), None);
    }
}
