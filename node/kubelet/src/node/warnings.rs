//! What a host lacks, told once when the kubelet starts.
//!
//! Upstream: `pkg/kubelet/kubelet_linux.go`, `pkg/kubelet/cm/container_manager_linux.go`,
//! `pkg/kubelet/util/swap`.

use std::{fs, path::Path};

use crate::{cgroups::Hierarchy, context::Context, volumes::mounts};

/// Tells of the node.
pub(super) fn tell(context: &Context) {
    let proc = &context.settings.proc;
    let mounts = fs::read_to_string(proc.join("self/mountinfo")).unwrap_or_default();
    let version = Hierarchy::parse(&mounts).version();
    context.metrics.set("kubelet_cgroup_version", &[], f64::from(version));
    if version == 1 {
        let text = "cgroup v1 support is in maintenance mode, please migrate to cgroup v2";
        context.recorder.node_warning("CgroupV1", text);
    }
    // Who does not want swap does not come here where there is some.
    if has_swap(proc) && !mounts::keeps_from_swap(context.paths.root()) {
        let text = "The tmpfs noswap option is not supported. Memory-backed volumes (e.g. secrets, \
                    emptyDirs, etc.) might be swapped to disk and should no longer be considered \
                    secure.";
        context.recorder.node_warning("PossibleMemoryBackedVolumesOnDisk", text);
    }
}

/// The first line is the table's head.
pub(crate) fn has_swap(proc: &Path) -> bool {
    let swaps = fs::read_to_string(proc.join("swaps")).unwrap_or_default();
    swaps.trim().lines().count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_noticed_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let head = "Filename\tType\tSize\tUsed\tPriority\n";
        assert!(!has_swap(folder.path()));
        for (rest, wanted) in [
            ("", false),
            ("/swapfile file 1 0 -2\n", true),
            ("/dev/zram0 partition 1 0 100\n", true),
        ] {
            fs::write(folder.path().join("swaps"), format!("{head}{rest}")).unwrap();
            assert_eq!(has_swap(folder.path()), wanted, "{rest}");
        }
    }
}
