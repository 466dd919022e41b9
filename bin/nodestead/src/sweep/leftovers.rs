//! What regions that do not run have left on this machine: looked at, not touched.
//!
//! Everything carries its region's id, so what belongs to a region without a daemon is found without
//! one: after a `down` that was killed half way, and after a daemon that was killed, whose instances
//! run on until the next `up` or `down`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use linux_cgroup::Cgroup;
use serde::Serialize;

use super::{ROOT_CGROUP, machine, netns_prefix};
use crate::layout::Layout;

/// Of one region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Leftovers {
    pub(crate) id: String,
    /// Where its state is, if that is known: names alone do not tell.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) cgroups: Vec<String>,
    /// In those cgroups.
    pub(crate) processes: usize,
    pub(crate) links: Vec<String>,
    pub(crate) mounts: Vec<PathBuf>,
}

/// All that is there, but for that of regions whose daemon runs. `asked` is a data directory to
/// recognize.
pub(crate) fn find(asked: &Layout) -> anyhow::Result<Vec<Leftovers>> {
    let layouts = layouts(asked);
    let living: BTreeSet<String> = layouts
        .values()
        .filter(|it| crate::commands::down::daemon(it).is_some())
        .map(Layout::id)
        .collect();
    let mut found = Findings::default();
    for name in linux_netns::list()? {
        found.add(id_in(&name), |it| it.namespaces.push(name.clone()));
    }
    for name in names_in(Path::new("/sys/class/net")) {
        found.add(id_in(&name), |it| it.links.push(name.clone()));
    }
    for (id, path, processes) in cgroups() {
        found.add(Some(id), |it| {
            it.cgroups.push(path.clone());
            it.processes = processes;
        });
    }
    for (id, layout) in &layouts {
        let mut mounts = linux_mount::mounts_under(layout.root())?;
        mounts.retain(|it| it.target != layout.root());
        for mount in mounts {
            found.add(Some(id.clone()), |it| it.mounts.push(mount.target.clone()));
        }
    }
    let dead = found.0.into_values().filter(|it| !living.contains(&it.id));
    Ok(dead
        .map(|it| {
            let data_dir = layouts.get(&it.id).map(|it| it.root().to_owned());
            Leftovers { data_dir, ..it }
        })
        .collect())
}

#[derive(Default)]
struct Findings(BTreeMap<String, Leftovers>);

impl Findings {
    fn add(&mut self, id: Option<String>, note: impl FnOnce(&mut Leftovers)) {
        let Some(id) = id else { return };
        let of_region = || Leftovers { id: id.clone(), ..Leftovers::default() };
        note(self.0.entry(id.clone()).or_insert_with(of_region));
    }
}

/// Data directories that something tells of, by the ids of their regions.
fn layouts(asked: &Layout) -> BTreeMap<String, Layout> {
    let known = machine::data_dirs().into_iter().chain([asked.root().to_owned()]);
    let known = known.filter_map(|it| Layout::new(&it).ok());
    known.map(|it| (it.id(), it)).collect()
}

/// `nst-ID-…`, with six hexadecimal digits; tests have other names.
fn id_in(name: &str) -> Option<String> {
    let id = name.strip_prefix("nst-")?.get(..6)?;
    let is_id = id.bytes().all(|it| it.is_ascii_hexdigit()) && name.starts_with(&netns_prefix(id));
    is_id.then(|| id.to_owned())
}

/// Regions' cgroups: their ids, paths, and how many processes are in them.
fn cgroups() -> Vec<(String, String, usize)> {
    let Ok(hierarchies) = linux_cgroup::Layout::detect().map(Arc::new) else { return Vec::new() };
    let root = Cgroup::new(hierarchies.clone(), ROOT_CGROUP);
    let mut ids = BTreeSet::new();
    for (_, folder) in root.folders() {
        let folders = names_in(&folder).into_iter().filter(|it| folder.join(it).is_dir());
        ids.extend(folders.filter(|it| id_in(&netns_prefix(it)).is_some()));
    }
    let of = |id: String| {
        let cgroup = Cgroup::new(hierarchies.clone(), &super::cgroup_path(&id));
        (id, cgroup.path().to_owned(), cgroup.pids().len())
    };
    ids.into_iter().map(of).collect()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|it| it.file_name().into_string().ok()).collect()
}

impl Leftovers {
    /// `2 namespaces, 1 cgroup with 3 processes`
    pub(crate) fn summary(&self) -> String {
        let of = |count: usize, what: &str| match count {
            0 => None,
            1 => Some(format!("1 {what}")),
            _ => Some(format!("{count} {what}s")),
        };
        let cgroups = of(self.cgroups.len(), "cgroup").map(|it| match self.processes {
            0 => it,
            1 => format!("{it} with 1 process"),
            count => format!("{it} with {count} processes"),
        });
        let parts = [
            of(self.namespaces.len(), "namespace"),
            cgroups,
            of(self.links.len(), "link"),
            of(self.mounts.len(), "mount"),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// What removes it.
    pub(crate) fn way_out(&self) -> String {
        match &self.data_dir {
            Some(dir) => format!("`nodestead down --data-dir {}`", dir.display()),
            None => {
                "`nodestead down --data-dir` with the folder that it had, or `nodestead down --all`, \
                 which removes every region of this machine"
                    .to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regions_id_is_read_out_of_names_and_tests_have_none() {
        assert_eq!(id_in("nst-0a1b2c-vpc-1").as_deref(), Some("0a1b2c"));
        for other in ["nst-t-i-00", "nst-0a1b2", "nst-0a1b2cx", "eth0", "nst-aé-x-y"] {
            assert_eq!(id_in(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_killed_down_leaves_is_told_with_its_way_out_until_down_ends_it() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not run: it takes root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        let mine = || find(&layout).unwrap().into_iter().find(|it| it.id == layout.id());
        assert_eq!(mine(), None);
        let netns = format!("{}vpc-1", netns_prefix(&layout.id()));
        linux_netns::create(&netns).unwrap();
        let hierarchies = Arc::new(linux_cgroup::Layout::detect().unwrap());
        let cgroup =
            Cgroup::new(hierarchies, &format!("{}/i-1", super::super::cgroup_path(&layout.id())));
        cgroup.create().unwrap();
        let below = layout.root().join("instances");
        fs::create_dir(&below).unwrap();
        linux_mount::tmpfs(&below, "size=1m").unwrap();

        let told = mine().unwrap();
        assert_eq!(told.summary(), "1 namespace, 1 cgroup, 1 mount");
        assert_eq!(told.data_dir.as_deref(), Some(layout.root()));
        assert!(told.way_out().ends_with(&format!("--data-dir {}`", layout.root().display())));
        // A daemon that runs has its region: this process stands for it.
        let own = linux_process::Identity::own();
        fs::write(layout.daemon_state(), serde_json::to_vec(&own).unwrap()).unwrap();
        assert_eq!(mine(), None);
        fs::remove_file(layout.daemon_state()).unwrap();
        // Of a folder that nobody knows any more.
        let stranger = tempfile::tempdir().unwrap();
        let elsewhere = find(&Layout::new(stranger.path()).unwrap()).unwrap();
        let unknown = elsewhere.into_iter().find(|it| it.id == layout.id()).unwrap();
        assert!(unknown.data_dir.is_none() && unknown.way_out().contains("--all"));

        let report = super::super::everything(&layout);
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        assert_eq!(mine(), None);
    }
}
