//! Whether this machine can carry a region: checked before anything is changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{failure::Failure, room};

/// Programs that instances run from the host's `/usr`, and the Debian package of each.
const PROGRAMS: [(&str, &str); 4] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
];

/// What was found; a value, so that the verdict can be tested without a machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) is_root: bool,
    pub(crate) missing_packages: Vec<&'static str>,
    pub(crate) has_overlay: bool,
    pub(crate) has_namespaces: bool,
    pub(crate) has_cgroups: bool,
    /// Groups of instances can have their own limits of memory, CPU and processes.
    pub(crate) hands_down_controllers: bool,
}

impl Machine {
    pub(crate) fn observe() -> Self {
        let has = |program: &str| folders().iter().any(|folder| folder.join(program).is_file());
        let missing = PROGRAMS.iter().filter(|(program, _)| !has(program));
        let cgroups = Path::new("/sys/fs/cgroup");
        let namespaces = ["net", "mnt", "pid", "uts", "ipc"];
        Self {
            is_root: nix::unistd::geteuid().is_root(),
            missing_packages: missing.map(|(_, package)| *package).collect(),
            has_overlay: linux_mount::is_known("overlay"),
            has_namespaces: namespaces
                .iter()
                .all(|it| Path::new("/proc/self/ns").join(it).exists()),
            has_cgroups: ["cgroup.controllers", "memory", "cpu"]
                .iter()
                .any(|it| cgroups.join(it).exists()),
            hands_down_controllers: hands_down_controllers(cgroups),
        }
    }

    /// The first thing that stands in the way, with the way out.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        if !self.is_root {
            return Err(Failure::new(
                "bringing a region up takes root: it makes namespaces, links and cgroups",
                "run it with sudo",
            ));
        }
        if !self.missing_packages.is_empty() {
            let packages = self.missing_packages.join(" ");
            return Err(Failure::new(
                format!("this machine lacks: {packages}"),
                format!("install them: apt-get update && apt-get install -y {packages}"),
            ));
        }
        let features = [
            (self.has_namespaces, "namespaces (net, mnt, pid, uts, ipc)"),
            (self.has_overlay, "the overlay file system"),
            (self.has_cgroups, "cgroups, mounted on /sys/fs/cgroup"),
        ];
        if let Some((_, feature)) = features.iter().find(|(is_there, _)| !is_there) {
            return Err(Failure::new(
                format!("this kernel lacks {feature}"),
                "use a kernel that has it; in a container, run it privileged",
            ));
        }
        if !self.hands_down_controllers {
            return Err(Failure::new(
                "the processes of this container are in the root of its cgroups, which therefore \
                 hands down no controller",
                "start the container with the host's cgroups (`docker run --privileged --cgroupns \
                 host …`), or move them: mkdir /sys/fs/cgroup/init; for p in $(cat \
                 /sys/fs/cgroup/cgroup.procs); do echo $p > /sys/fs/cgroup/init/cgroup.procs; done",
            ));
        }
        Ok(())
    }
}

/// With cgroup v2 a group with processes hands no controller down. The machine's own root may; that of
/// a container, which a cgroup namespace shows as the root, may not.
fn hands_down_controllers(root: &Path) -> bool {
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
    let (offered, enabled) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    let is_enabled = |name: &str| enabled.split_whitespace().any(|it| it == name);
    let mut wanted = offered.split_whitespace().filter(|it| ["cpu", "memory", "pids"].contains(it));
    // The machine's root has no such file.
    let is_machine = !root.join("cgroup.events").exists();
    is_machine || read("cgroup.procs").trim().is_empty() || wanted.all(is_enabled)
}

/// Refuses more nodes than the machine can hold, whatever their type: instances share its memory,
/// but each needs some for itself.
pub(crate) fn check_room(nodes: u32) -> Result<(), Failure> {
    let room = room::instances();
    if usize::try_from(nodes).is_ok_and(|it| it <= room) {
        return Ok(());
    }
    Err(Failure::usage(
        format!("this machine has room for {room} instances, not for {nodes}"),
        format!(
            "ask for fewer nodes; an instance takes about {} MiB of memory at rest",
            room::MIB_PER_INSTANCE
        ),
    ))
}

fn folders() -> Vec<PathBuf> {
    let standard = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
    standard.into_iter().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able() -> Machine {
        Machine {
            is_root: true,
            missing_packages: Vec::new(),
            has_overlay: true,
            has_namespaces: true,
            has_cgroups: true,
            hands_down_controllers: true,
        }
    }

    #[test]
    fn a_container_whose_processes_are_in_the_root_of_its_cgroups_is_told_so() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        assert!(hands_down_controllers(root.path()), "cgroup v1");
        put("cgroup.controllers", "cpuset cpu memory pids\n");
        put("cgroup.subtree_control", "\n");
        put("cgroup.procs", "1\n");
        assert!(hands_down_controllers(root.path()), "the machine's");
        put("cgroup.events", "populated 1\n");
        assert!(!hands_down_controllers(root.path()));
        put("cgroup.procs", "");
        assert!(hands_down_controllers(root.path()), "they are in a group below");
        put("cgroup.procs", "1\n");
        put("cgroup.subtree_control", "cpu memory pids\n");
        assert!(hands_down_controllers(root.path()), "somebody has seen to it");
    }

    #[test]
    fn a_machine_that_has_everything_is_accepted() {
        assert!(able().verdict().is_ok());
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let packages = vec!["containerd", "runc", "conntrack"];
        let install = "apt-get install -y containerd runc conntrack";
        let privileged = "in a container, run it privileged";
        for (machine, what, next) in [
            (Machine { is_root: false, ..able() }, "takes root", "sudo"),
            (
                Machine { missing_packages: packages, ..able() },
                "containerd runc conntrack",
                install,
            ),
            (Machine { has_namespaces: false, ..able() }, "lacks namespaces", privileged),
            (Machine { has_overlay: false, ..able() }, "lacks the overlay", privileged),
            (Machine { has_cgroups: false, ..able() }, "lacks cgroups", privileged),
            (
                Machine { hands_down_controllers: false, ..able() },
                "hands down no controller",
                "--cgroupns host",
            ),
        ] {
            let refused = machine.verdict().unwrap_err();
            assert!(refused.to_string().contains(what), "{refused}");
            assert!(refused.next().contains(next), "{refused}: {}", refused.next());
        }
    }
}
