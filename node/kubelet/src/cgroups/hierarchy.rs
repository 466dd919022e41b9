//! Groups as folders, in the one tree of cgroup v2 or in the trees of v1's controllers.
//!
//! **Invariant:** a limit that the kernel does not offer is left out, never an error of the pod; a
//! group that cannot be made at all is.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use tracing::debug;

use super::Limits;
use crate::qos::{CPU_PERIOD, cpu_weight};

/// Where the controllers are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// Pods have no groups of their own (`cgroupsPerQOS: false`).
    Unused,
    V2 {
        root: PathBuf,
    },
    /// Each mount point with its controllers; runtimes make groups in the others (systemd's own, the
    /// unified tree) too, and leave them.
    V1 {
        mounts: Vec<(PathBuf, Vec<String>)>,
        others: Vec<PathBuf>,
    },
}

/// Takes a limit away.
pub(super) const UNLIMITED: i64 = -1;

const V2_CONTROLLERS: [&str; 5] = ["cpu", "memory", "pids", "cpuset", "hugetlb"];

impl Hierarchy {
    /// Finds what this host has, from `/proc/self/mountinfo`.
    pub(crate) fn detect() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    /// 1 or 2; 0 where there is none.
    pub(crate) fn version(&self) -> u8 {
        match self {
            Self::V2 { .. } => 2,
            Self::V1 { mounts, .. } if !mounts.is_empty() => 1,
            _ => 0,
        }
    }

    pub(crate) fn parse(mountinfo: &str) -> Self {
        let (mut mounts, mut v2) = (Vec::<(PathBuf, Vec<String>)>::new(), None);
        let mut others = Vec::new();
        for line in mountinfo.lines() {
            let Some((front, back)) = line.split_once(" - ") else { continue };
            let Some(point) = front.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut back = back.split(' ');
            let kind = back.next().unwrap_or_default();
            let options = back.nth(1).unwrap_or_default();
            match kind {
                "cgroup2" => v2 = Some(point),
                "cgroup" => {
                    let names = options.split(',').filter(|it| {
                        !matches!(*it, "rw" | "ro") && !it.starts_with("name=") && *it != "xattr"
                    });
                    let names: Vec<_> = names.map(str::to_owned).collect();
                    let is_new = mounts.iter().all(|(_, known)| *known != names);
                    if names.is_empty() {
                        others.push(point);
                    } else if is_new {
                        mounts.push((point, names));
                    }
                }
                _ => {}
            }
        }
        match v2 {
            Some(root) if mounts.is_empty() => Self::V2 { root },
            _ => {
                others.extend(v2);
                Self::V1 { mounts, others }
            }
        }
    }

    pub(super) fn ensure(&self, path: &Path, limits: Limits) -> io::Result<()> {
        match self {
            Self::Unused => Ok(()),
            Self::V2 { root } => {
                make_v2(root, path)?;
                write_v2(&root.join(path), limits);
                Ok(())
            }
            Self::V1 { mounts, .. } => {
                for (mount, controllers) in mounts {
                    make_v1(mount, path, controllers)?;
                    write_v1(&mount.join(path), controllers, limits);
                }
                Ok(())
            }
        }
    }

    /// Limits the huge pages of a group: what is not listed, it has none of.
    pub(super) fn limit_hugepages(&self, path: &Path, limits: &BTreeMap<String, i64>) {
        let (group, suffix) = match self {
            Self::Unused => return,
            Self::V2 { root } => (root.join(path), ".max"),
            Self::V1 { mounts, .. } => {
                let hugetlb = mounts.iter().find(|it| it.1.iter().any(|it| it == "hugetlb"));
                let Some((mount, _)) = hugetlb else { return };
                (mount.join(path), ".limit_in_bytes")
            }
        };
        for entry in fs::read_dir(&group).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let size = name.strip_prefix("hugetlb.").and_then(|it| it.strip_suffix(suffix));
            // The reservation has its own file, and the same limit.
            let size = size.map(|it| it.strip_suffix(".rsvd").unwrap_or(it));
            if let Some(size) = size.and_then(|it| it.strip_suffix('B')) {
                // The kernel's `2MB` is the resource's `2Mi`.
                let limit = limits.get(&format!("{size}i")).copied().unwrap_or(0);
                put(&entry.path(), &limit.to_string());
            }
        }
    }

    /// Whether there is a group of this name in every tree that limits something.
    pub(super) fn exists(&self, path: &Path) -> bool {
        match self {
            Self::Unused => false,
            Self::V2 { root } => root.join(path).is_dir(),
            Self::V1 { mounts, .. } => {
                let limiting = mounts.iter().filter(|it| {
                    it.1.iter().any(|it| matches!(it.as_str(), "cpu" | "memory" | "pids"))
                });
                limiting.map(|it| it.0.join(path)).all(|it| it.is_dir())
            }
        }
    }

    pub(crate) fn is_v2(&self) -> bool {
        matches!(self, Self::V2 { .. })
    }

    /// Whether the swap of a group can be limited.
    pub(super) fn has_swap_limit(&self, path: &Path) -> bool {
        match self {
            Self::Unused => false,
            Self::V2 { root } => root.join(path).join("memory.swap.max").exists(),
            Self::V1 { mounts, .. } => mounts
                .iter()
                .filter(|it| it.1.iter().any(|it| it == "memory"))
                .any(|it| it.0.join(path).join("memory.memsw.limit_in_bytes").exists()),
        }
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let mut result = Ok(());
        for root in self.roots() {
            if let Err(error) = remove_tree(&root.join(path)) {
                result = Err(error);
            }
        }
        result
    }

    pub(crate) fn children(&self, path: &Path) -> Vec<String> {
        let Some(root) = self.roots().into_iter().next() else { return Vec::new() };
        let Ok(entries) = fs::read_dir(root.join(path)) else { return Vec::new() };
        entries
            .flatten()
            .filter(|it| it.file_type().is_ok_and(|it| it.is_dir()))
            .map(|it| it.file_name().to_string_lossy().into_owned())
            .collect()
    }

    fn roots(&self) -> Vec<PathBuf> {
        match self {
            Self::Unused => Vec::new(),
            Self::V2 { root } => vec![root.clone()],
            Self::V1 { mounts, others } => {
                mounts.iter().map(|(mount, _)| mount).chain(others).cloned().collect()
            }
        }
    }

    /// The folder of a group in the tree that has a controller.
    pub(crate) fn folder(&self, controller: &str, path: &Path) -> Option<PathBuf> {
        match self {
            Self::Unused => None,
            Self::V2 { root } => Some(root.join(path)),
            Self::V1 { mounts, .. } => mounts
                .iter()
                .find(|(_, all)| all.iter().any(|it| it == controller))
                .map(|(mount, _)| mount.join(path)),
        }
    }
}

fn make_v2(root: &Path, path: &Path) -> io::Result<()> {
    let mut at = root.to_owned();
    for part in path {
        // A controller is available below a group when the group says so.
        for controller in V2_CONTROLLERS {
            put(&at.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
        at.push(part);
        make_folder(&at)?;
    }
    Ok(())
}

fn make_v1(mount: &Path, path: &Path, controllers: &[String]) -> io::Result<()> {
    let is_cpuset = controllers.iter().any(|it| it == "cpuset");
    let mut at = mount.to_owned();
    for part in path {
        let parent = at.clone();
        at.push(part);
        make_folder(&at)?;
        if is_cpuset {
            // A new cpuset is empty, and nothing can run in an empty one.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let own = fs::read_to_string(at.join(file)).unwrap_or_default();
                if own.trim().is_empty() {
                    let inherited = fs::read_to_string(parent.join(file)).unwrap_or_default();
                    put(&at.join(file), inherited.trim());
                }
            }
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn write_v2(group: &Path, limits: Limits) {
    if let Some(shares) = limits.shares {
        put(&group.join("cpu.weight"), &cpu_weight(shares).to_string());
    }
    let text = |it: i64| if it == UNLIMITED { "max".to_owned() } else { it.to_string() };
    if let Some(quota) = limits.quota.filter(is_limit) {
        let period = limits.period.unwrap_or(CPU_PERIOD);
        put(&group.join("cpu.max"), &format!("{} {period}", text(quota)));
    }
    if let Some(memory) = limits.memory.filter(is_limit) {
        put(&group.join("memory.max"), &text(memory));
    }
    if let Some(pids) = limits.pids {
        put(&group.join("pids.max"), &pids.to_string());
    }
}

fn is_limit(limit: &i64) -> bool {
    *limit > 0 || *limit == UNLIMITED
}

fn write_v1(group: &Path, controllers: &[String], limits: Limits) {
    for controller in controllers {
        match controller.as_str() {
            "cpu" => {
                if let Some(shares) = limits.shares {
                    put(&group.join("cpu.shares"), &shares.to_string());
                }
                if let Some(quota) = limits.quota.filter(is_limit) {
                    let period = limits.period.unwrap_or(CPU_PERIOD);
                    put(&group.join("cpu.cfs_period_us"), &period.to_string());
                    put(&group.join("cpu.cfs_quota_us"), &quota.to_string());
                }
            }
            "memory" => {
                if let Some(memory) = limits.memory.filter(is_limit) {
                    put(&group.join("memory.limit_in_bytes"), &memory.to_string());
                }
            }
            "pids" => {
                if let Some(pids) = limits.pids {
                    put(&group.join("pids.max"), &pids.to_string());
                }
            }
            _ => {}
        }
    }
}

fn put(path: &Path, value: &str) {
    if let Err(error) = fs::write(path, value) {
        debug!(path = %path.display(), value, %error, "a cgroup file was not written");
    }
}

/// Removes a group and those below it; only folders can be removed in a cgroup tree.
fn remove_tree(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_controllers_are_found_in_both_versions() {
        let v1 = "30 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n\
                  31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  32 24 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                  33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let Hierarchy::V1 { mounts, others } = Hierarchy::parse(v1) else { panic!("hybrid is v1") };
        assert_eq!((mounts.len(), others.len()), (2, 2));
        assert_eq!(mounts[0].1, ["cpu", "cpuacct"]);
        let v2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(Hierarchy::parse(v2), Hierarchy::V2 { root: "/sys/fs/cgroup".into() });
    }

    #[test]
    fn a_tree_of_cgroup_v2_gets_weights_quotas_and_huge_pages() {
        let folder = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy::V2 { root: folder.path().to_owned() };
        let path = Path::new("kubepods/burstable/pod1");
        let limits = Limits {
            shares: Some(1024),
            quota: Some(25_000),
            period: Some(50_000),
            memory: Some(1 << 20),
            pids: Some(64),
        };
        hierarchy.ensure(path, limits).unwrap();
        let group = folder.path().join(path);
        let files =
            ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max", "hugetlb.1GB.max", "hugetlb.2MB.current"];
        for name in files {
            fs::write(group.join(name), "max").unwrap();
        }
        hierarchy.limit_hugepages(path, &[("2Mi".to_owned(), 4 << 20)].into());
        let read = |name: &str| fs::read_to_string(group.join(name)).unwrap();
        assert_eq!(read("cpu.weight"), "100");
        assert_eq!(read("cpu.max"), "25000 50000");
        assert_eq!((read("memory.max").as_str(), read("pids.max").as_str()), ("1048576", "64"));
        assert_eq!(read("hugetlb.2MB.max"), "4194304");
        assert_eq!(read("hugetlb.2MB.rsvd.max"), "4194304");
        assert_eq!(
            (read("hugetlb.1GB.max").as_str(), read("hugetlb.2MB.current").as_str()),
            ("0", "max")
        );
        let above = fs::read_to_string(folder.path().join("kubepods/cgroup.subtree_control"));
        assert_eq!(above.unwrap(), "+hugetlb", "the last that was enabled");
        assert!(hierarchy.exists(path) && !hierarchy.exists(Path::new("system.slice")));
        assert!(!hierarchy.has_swap_limit(path));
    }

    #[test]
    fn groups_are_made_with_their_limits_and_removed_with_their_children() {
        let folder = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy::V1 {
            mounts: vec![(folder.path().to_owned(), vec!["cpu".to_owned(), "cpuset".to_owned()])],
            others: Vec::new(),
        };
        fs::write(folder.path().join("cpuset.cpus"), "0-1\n").unwrap();
        let limits = Limits { shares: Some(102), quota: Some(5000), ..Limits::default() };
        hierarchy.ensure(Path::new("kubepods/pod1"), limits).unwrap();
        let group = folder.path().join("kubepods/pod1");
        assert_eq!(fs::read_to_string(group.join("cpu.shares")).unwrap(), "102");
        assert_eq!(fs::read_to_string(group.join("cpuset.cpus")).unwrap(), "0-1");
        assert_eq!(hierarchy.children(Path::new("kubepods")), ["pod1"]);
    }
}
