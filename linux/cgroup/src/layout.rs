//! Which cgroup hierarchies this machine has, and where.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::CgroupError;

/// The interface that a hierarchy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// What the machine as a whole has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    V1,
    V2,
    /// v1 controllers, beside a v2 hierarchy that has none.
    Hybrid,
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub mount: PathBuf,
    pub version: Version,
    /// `cpu`, `memory`, …, or `name=systemd`. Empty for a v2 hierarchy without controllers.
    pub controllers: BTreeSet<String>,
}

/// All hierarchies of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub hierarchies: Vec<Hierarchy>,
}

/// Everything that v1 can mount; the other words in a hierarchy's options are flags.
const CONTROLLERS: [&str; 13] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

impl Layout {
    /// Reads the mount table.
    pub fn detect() -> Result<Self, CgroupError> {
        let failed = |source| CgroupError::Layout { source };
        let table = fs::read_to_string("/proc/thread-self/mountinfo").map_err(failed)?;
        let mut layout = Self::parse(&table);
        for hierarchy in &mut layout.hierarchies {
            if hierarchy.version == Version::V2 {
                hierarchy.controllers = v2_controllers(&hierarchy.mount).map_err(failed)?;
            }
        }
        if layout.hierarchies.is_empty() { Err(CgroupError::NoHierarchy) } else { Ok(layout) }
    }

    /// The hierarchies in the text of a `mountinfo` file; v2 controllers are not told there.
    pub fn parse(mountinfo: &str) -> Self {
        let mut layout = Self { hierarchies: Vec::new() };
        for found in mountinfo.lines().filter_map(parse_line) {
            let is_known = layout.hierarchies.iter().any(|known| {
                known.version == found.version && known.controllers == found.controllers
            });
            if !is_known {
                layout.hierarchies.push(found);
            }
        }
        layout
    }

    pub fn kind(&self) -> Kind {
        let v1 = self.hierarchies.iter().any(|it| it.version == Version::V1);
        let v2 = self.hierarchies.iter().any(|it| it.version == Version::V2);
        match (v1, v2) {
            (true, true) => Kind::Hybrid,
            (true, false) => Kind::V1,
            (false, _) => Kind::V2,
        }
    }

    /// The hierarchy that `controller` is attached to.
    pub fn hierarchy(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|it| it.controllers.contains(controller))
    }

    /// The folder of the cgroup `path` in the hierarchy of `controller`.
    pub fn folder(&self, controller: &str, path: &str) -> Option<PathBuf> {
        self.hierarchy(controller).map(|it| it.folder(path))
    }
}

impl Hierarchy {
    /// The folder of the cgroup `path`, which is relative to the hierarchy's root.
    pub fn folder(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }
}

fn v2_controllers(mount: &Path) -> io::Result<BTreeSet<String>> {
    let text = fs::read_to_string(mount.join("cgroup.controllers"))?;
    Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
}

fn parse_line(line: &str) -> Option<Hierarchy> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, mount) = (left.next()?, left.next()?);
    // A part of a hierarchy, bound elsewhere, is not the hierarchy. The whole of it, seen from a
    // cgroup namespace further down, is shown as the way up.
    if root.split('/').any(|name| !name.is_empty() && name != "..") {
        return None;
    }
    let mut right = right.split(' ');
    let (kind, options) = (right.next()?, right.nth(1)?);
    let version = match kind {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let controllers = options
        .split(',')
        .filter(|it| {
            version == Version::V1 && (CONTROLLERS.contains(it) || it.starts_with("name="))
        })
        .map(str::to_owned)
        .collect();
    Some(Hierarchy { mount: mount.into(), version, controllers })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 30 0:30 /docker /mnt/elsewhere rw - cgroup cgroup rw,memory
36 30 0:29 /../.. /second rw - cgroup cgroup rw,cpu,cpuacct
";

    #[test]
    fn a_hybrid_machine_has_each_hierarchy_once() {
        let layout = Layout::parse(HYBRID);
        assert_eq!(layout.kind(), Kind::Hybrid);
        assert_eq!(layout.hierarchies.len(), 4);
        let cpu = layout.folder("cpuacct", "/a/b").unwrap();
        assert_eq!(cpu, Path::new("/sys/fs/cgroup/cpu,cpuacct/a/b"));
        let memory = layout.folder("memory", "a").unwrap();
        assert_eq!(memory, Path::new("/sys/fs/cgroup/memory/a"));
    }

    #[test]
    fn a_machine_with_one_unified_hierarchy_is_v2() {
        let layout = Layout::parse("30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert_eq!(layout.kind(), Kind::V2);
    }
}
