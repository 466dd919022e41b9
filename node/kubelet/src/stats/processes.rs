//! The processes of a cgroup, and the files that they have open.
//!
//! Upstream: cAdvisor's `processStatsFromProcs`: the group's own processes, not those below it.

use std::{fs, path::Path};

use super::group::{Group, text};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessStats {
    pub processes: u64,
    pub descriptors: u64,
    pub sockets: u64,
    /// The soft limit of the first one, -1 where there is none.
    pub most_open_files: Option<i64>,
}

impl Group<'_> {
    /// What a process does not show, or what ends meanwhile, does not count.
    pub(crate) fn processes(&self, proc: &Path) -> ProcessStats {
        let folder = self.folder("cpu").or_else(|| self.folder("memory"));
        let Some(folder) = folder else { return ProcessStats::default() };
        let listed = text(&folder.join("cgroup.procs"));
        let mut stats = ProcessStats::default();
        // A zero is a process of a namespace that this one cannot see.
        for pid in listed.lines().filter(|it| *it != "0") {
            let own = proc.join(pid);
            stats.processes += 1;
            let open = fs::read_dir(own.join("fd")).into_iter().flatten().flatten();
            for target in open.map(|it| fs::read_link(it.path())) {
                stats.descriptors += 1;
                let is_socket = target.is_ok_and(|it| it.to_string_lossy().starts_with("socket"));
                stats.sockets += u64::from(is_socket);
            }
            if stats.most_open_files.is_none() {
                stats.most_open_files = most_open_files(&text(&own.join("limits")));
            }
        }
        stats
    }
}

/// Of a line `Max open files  1024  4096  files`.
fn most_open_files(limits: &str) -> Option<i64> {
    let line = limits.lines().find_map(|it| it.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(-1),
        soft => soft.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::cgroups::Hierarchy;

    #[test]
    fn files_and_sockets_of_a_groups_own_processes_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (root, proc) = (folder.path().join("v2"), folder.path().join("proc"));
        fs::create_dir_all(root.join("p")).unwrap();
        fs::write(root.join("p/cgroup.procs"), "0\n7\n8\n").unwrap();
        for pid in ["7", "8"] {
            let open = proc.join(pid).join("fd");
            fs::create_dir_all(&open).unwrap();
            symlink("/dev/null", open.join("0")).unwrap();
            symlink("socket:[123]", open.join("3")).unwrap();
        }
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n";
        fs::write(proc.join("7/limits"), limits).unwrap();
        let hierarchy = Hierarchy::V2 { root };
        let stats = Group::new(&hierarchy, Path::new("p")).processes(&proc);
        let wanted =
            ProcessStats { processes: 2, descriptors: 4, sockets: 2, most_open_files: Some(1024) };
        assert_eq!(stats, wanted);
        assert_eq!(most_open_files("Max open files unlimited unlimited files"), Some(-1));
    }
}
