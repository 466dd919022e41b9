//! What a region could leave behind on this machine, of all regions.
//!
//! Processes are told by what ties them to a region, not by their names: its control groups, its programs,
//! the root of one of its instances, a file of its data directory that is open or named (children of the
//! daemon have its log as their standard error).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::region::run;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Traces {
    namespaces: BTreeSet<String>,
    links: BTreeSet<String>,
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    tables: String,
    routes: String,
    rules: String,
    processes: BTreeSet<String>,
}

impl Traces {
    /// What was not there before. What has gone meanwhile was the other region's.
    pub(crate) fn beyond(&self, before: &Self) -> Vec<String> {
        let sets = [
            (&self.namespaces, &before.namespaces),
            (&self.links, &before.links),
            (&self.mounts, &before.mounts),
            (&self.cgroups, &before.cgroups),
            (&self.processes, &before.processes),
        ];
        let mut left: Vec<String> =
            sets.iter().flat_map(|(now, then)| now.difference(then).cloned()).collect();
        for (now, then) in [
            (&self.tables, &before.tables),
            (&self.routes, &before.routes),
            (&self.rules, &before.rules),
        ] {
            left.extend((now != then).then(|| now.clone()));
        }
        left
    }
}

/// What is there now. Processes in instances that were there `before` are another region's business:
/// their probes come and go. `data_dir` is that of the region which is looked for.
pub(crate) fn traces(before: Option<&Traces>, data_dir: &Path) -> anyhow::Result<Traces> {
    let lines = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let cgroups = cgroups(Path::new("/sys/fs/cgroup"));
    let of_others = before.map_or(&cgroups, |it| &it.cgroups).clone();
    Ok(Traces {
        namespaces: lines(run(Command::new("ip").args(["netns", "list"]))?),
        links: lines(run(Command::new("ip").args(["-br", "link"]))?),
        // All of them: a region's data directory may have any name.
        mounts: lines(mounts),
        cgroups,
        tables: run(Command::new("nft").args(["list", "tables"]))?,
        routes: run(Command::new("ip").args(["route", "show", "table", "all"]))?,
        rules: run(Command::new("ip").args(["rule", "show"]))?,
        processes: processes(data_dir, &of_others),
    })
}

/// Regions' processes outside of the instances of these control groups: `PID NAME, WHY`.
fn processes(data_dir: &Path, of_others: &BTreeSet<String>) -> BTreeSet<String> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|it| it.file_name().into_string().ok());
    let pids = pids.filter(|it| *it != own && it.bytes().all(|it| it.is_ascii_digit()));
    pids.filter_map(|pid| {
        let process = Process(Path::new("/proc").join(&pid));
        if process.has_ended() || process.is_of(of_others) {
            return None;
        }
        let tie = process.tie(data_dir)?;
        Some(format!("{pid} {}, {tie}", process.read("comm").trim()))
    })
    .collect()
}

struct Process(PathBuf);

impl Process {
    fn read(&self, file: &str) -> String {
        let bytes = fs::read(self.0.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reaped or not: it has no command line, and is in nobody's group.
    fn has_ended(&self) -> bool {
        self.read("cmdline").is_empty()
    }

    /// Below `/nodestead/` of a hierarchy: which region's, and what.
    fn region(&self) -> Option<String> {
        let cgroup = self.read("cgroup");
        let path = cgroup.lines().find_map(|it| it.split_once("/nodestead/")).map(|it| it.1)?;
        path.split('/').next().map(|id| format!("/nodestead/{id}"))
    }

    fn is_of(&self, others: &BTreeSet<String>) -> bool {
        self.region().is_some_and(|id| others.iter().any(|it| it.ends_with(&id)))
    }

    /// What ties it to a region, if anything does.
    fn tie(&self, data_dir: &Path) -> Option<String> {
        if let Some(region) = self.region() {
            return Some(format!("in the group {region}"));
        }
        let program = fs::read_link(self.0.join("exe")).unwrap_or_default();
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("nodestead") {
            return Some(format!("runs {}", program.display()));
        }
        let is_root = |line: &&str| {
            let target = line.split(' ').nth(4);
            target == Some("/") && line.contains("upperdir=") && line.contains("/instances/")
        };
        if let Some(mount) = self.read("mountinfo").lines().find(is_root) {
            return Some(format!("has the root {mount}"));
        }
        let data_dir = data_dir.display().to_string();
        if self.read("cmdline").contains(&data_dir) {
            return Some("is called with the data directory".to_owned());
        }
        let links = fs::read_dir(self.0.join("fd")).into_iter().flatten().flatten();
        let links = links.map(|it| it.path()).chain([self.0.join("cwd"), self.0.join("root")]);
        let mut open = links.filter_map(|it| fs::read_link(it).ok());
        let open = open.find(|it| it.starts_with(&data_dir))?;
        Some(format!("has {} open", open.display()))
    }
}

fn cgroups(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.display().to_string().contains("nodestead") {
                found.insert(path.display().to_string());
            }
            found.extend(cgroups(&path));
        }
    }
    found
}
