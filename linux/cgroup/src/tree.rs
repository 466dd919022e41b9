//! One cgroup in all hierarchies: made, filled, emptied, removed.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use linux_process::{Identity, Signal};

use crate::{CgroupError, Hierarchy, Layout, Version};

/// How long those that were killed may take before it is looked again whether they are frozen.
const KILL_AGAIN: Duration = Duration::from_millis(500);

/// A path that means the same cgroup in every hierarchy. Nothing exists until [`Cgroup::create`].
#[derive(Clone, Debug)]
pub struct Cgroup {
    pub(crate) layout: Arc<Layout>,
    path: String,
}

impl Cgroup {
    /// `path` is relative to the hierarchies' roots (`nodestead/stead/i-0abc`).
    pub fn new(layout: Arc<Layout>, path: &str) -> Self {
        Self { layout, path: path.trim_matches('/').to_owned() }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// The cgroup `name` inside this one.
    pub fn child(&self, name: &str) -> Self {
        Self::new(self.layout.clone(), &format!("{}/{name}", self.path))
    }

    /// Its folder in the hierarchy of `controller`, if that is mounted.
    pub fn folder(&self, controller: &str) -> Option<PathBuf> {
        self.layout.folder(controller, &self.path)
    }

    /// Its folders in all hierarchies.
    pub fn folders(&self) -> impl Iterator<Item = (&Hierarchy, PathBuf)> {
        self.layout.hierarchies.iter().map(|it| (it, it.folder(&self.path)))
    }

    pub fn exists(&self) -> bool {
        self.folders().any(|(_, folder)| folder.is_dir())
    }

    /// Makes the cgroup and its parents in every hierarchy, ready to take processes.
    pub fn create(&self) -> Result<(), CgroupError> {
        for hierarchy in &self.layout.hierarchies {
            let mut folder = hierarchy.mount.clone();
            for name in self.path.split('/').filter(|it| !it.is_empty()) {
                prepare_parent(hierarchy, &folder)?;
                let parent = folder.clone();
                folder.push(name);
                match fs::create_dir(&folder) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(failed("create", &folder)(error));
                    }
                    _ => {}
                }
                if hierarchy.version == Version::V1 && hierarchy.controllers.contains("cpuset") {
                    inherit_cpuset(&parent, &folder)?;
                }
            }
        }
        Ok(())
    }

    /// The `cgroup.procs` files of the cgroup: writing `0` to all of them joins it.
    pub fn procs_files(&self) -> Vec<PathBuf> {
        self.folders().map(|(_, folder)| folder.join("cgroup.procs")).collect()
    }

    /// Moves a process and all its threads into the cgroup.
    pub fn add(&self, pid: i32) -> Result<(), CgroupError> {
        for file in self.procs_files() {
            write(&file, &pid.to_string())?;
        }
        Ok(())
    }

    /// The processes in the cgroup and in those below it, from all hierarchies.
    pub fn pids(&self) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        for (_, folder) in self.folders() {
            for folder in descendants(&folder) {
                // A folder that vanishes while it is read has no processes.
                let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
                found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            }
        }
        // 0 stands for a process of a pid namespace that cannot be seen from here.
        found.remove(&0);
        found
    }

    /// Stops (or lets run) everything in the cgroup.
    pub fn freeze(&self, state: Freeze) -> Result<(), CgroupError> {
        let mut folders = self.folders();
        folders.try_for_each(|(hierarchy, folder)| freeze_folder(hierarchy, &folder, state))
    }

    /// The frozen do not die, and what runs in the cgroup may have frozen some in one that it made.
    fn thaw_all(&self) {
        for (hierarchy, folder) in self.folders() {
            for folder in descendants(&folder) {
                // It fails only where nothing was frozen, or is any more.
                drop(freeze_folder(hierarchy, &folder, Freeze::Thawed));
            }
        }
    }

    /// Whether everything in the cgroup and below stands still. Where there is no freezer nothing does.
    pub fn is_frozen(&self) -> bool {
        self.folders().any(|(hierarchy, folder)| match hierarchy.version {
            Version::V1 if !hierarchy.controllers.contains("freezer") => false,
            Version::V1 => {
                let state = fs::read_to_string(folder.join("freezer.state"));
                state.is_ok_and(|it| it.trim() == "FROZEN")
            }
            Version::V2 => {
                let events = fs::read_to_string(folder.join("cgroup.events"));
                events.is_ok_and(|it| it.lines().any(|line| line == "frozen 1"))
            }
        })
    }

    /// Kills every process in the cgroup and below, and waits until all have ended. Meanwhile none is
    /// made, so that what forks for ever ends too.
    pub fn kill(&self, limit: Duration) -> Result<(), CgroupError> {
        let bound = self.folder("pids").map(|it| it.join("pids.max"));
        let earlier = bound.as_ref().and_then(|it| fs::read_to_string(it).ok());
        if earlier.is_some() {
            drop(self.set_pids_limit(0));
        }
        let killed = self.kill_all(limit);
        if let (Some(file), Some(earlier)) = (bound, earlier) {
            // Where it is gone meanwhile there is nothing to bound.
            drop(write(&file, earlier.trim()));
        }
        killed
    }

    fn kill_all(&self, limit: Duration) -> Result<(), CgroupError> {
        let deadline = Instant::now() + limit;
        loop {
            self.thaw_all();
            let pids: Vec<_> = self.pids().into_iter().filter_map(Identity::of).collect();
            let alive: Vec<_> = pids.into_iter().filter(Identity::is_alive).collect();
            if alive.is_empty() {
                return Ok(());
            }
            for process in &alive {
                drop(process.signal(Signal::SIGKILL));
            }
            let left = || deadline.saturating_duration_since(Instant::now());
            let have_ended = alive.iter().all(|it| it.wait(left().min(KILL_AGAIN)));
            if !have_ended && left().is_zero() {
                let count = alive.len();
                return Err(CgroupError::StillBusy { path: self.path.clone(), count });
            }
        }
    }

    /// Removes the cgroup and those below it from every hierarchy. It must hold no process.
    pub fn remove(&self) -> Result<(), CgroupError> {
        for (_, folder) in self.folders() {
            for folder in descendants(&folder).into_iter().rev() {
                remove_folder(&folder)?;
            }
        }
        Ok(())
    }

    /// Removes the parents of the cgroup that are empty now, up to and without the root.
    pub fn remove_empty_parents(&self) {
        for (hierarchy, folder) in self.folders() {
            let parents = folder.ancestors().skip(1);
            for parent in parents.take_while(|it| *it != hierarchy.mount) {
                if fs::remove_dir(parent).is_err() {
                    break;
                }
            }
        }
    }
}

fn freeze_folder(hierarchy: &Hierarchy, folder: &Path, state: Freeze) -> Result<(), CgroupError> {
    let (file, value) = match (hierarchy.version, state) {
        (Version::V1, _) if !hierarchy.controllers.contains("freezer") => return Ok(()),
        (Version::V1, Freeze::Frozen) => ("freezer.state", "FROZEN"),
        (Version::V1, Freeze::Thawed) => ("freezer.state", "THAWED"),
        (Version::V2, Freeze::Frozen) => ("cgroup.freeze", "1"),
        (Version::V2, Freeze::Thawed) => ("cgroup.freeze", "0"),
    };
    let file = folder.join(file);
    if file.exists() { write(&file, value) } else { Ok(()) }
}

/// What [`Cgroup::freeze`] brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freeze {
    Frozen,
    Thawed,
}

/// `folder` and every folder below it, parents first.
fn descendants(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|it| it.is_dir());
        todo.extend(entries.flatten().filter(is_folder).map(|entry| entry.path()));
        found.push(folder);
    }
    found
}

fn remove_folder(folder: &Path) -> Result<(), CgroupError> {
    // The kernel lets go of a cgroup a moment after its last process: EBUSY until then.
    const ATTEMPTS: u32 = 200;
    for attempt in 0.. {
        match fs::remove_dir(folder) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && attempt < ATTEMPTS => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(failed("remove", folder)(error)),
        }
    }
    Ok(())
}

/// On v2 a controller is there for a child only when its parent hands it down.
fn prepare_parent(hierarchy: &Hierarchy, parent: &Path) -> Result<(), CgroupError> {
    if hierarchy.version == Version::V1 || hierarchy.controllers.is_empty() {
        return Ok(());
    }
    let file = parent.join("cgroup.subtree_control");
    let available = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    let enabled: BTreeSet<&str> = enabled.split_ascii_whitespace().collect();
    for controller in available.split_ascii_whitespace().filter(|it| !enabled.contains(it)) {
        write(&file, &format!("+{controller}"))?;
    }
    Ok(())
}

/// A v1 cpuset without CPUs and memory nodes refuses processes.
fn inherit_cpuset(parent: &Path, folder: &Path) -> Result<(), CgroupError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = folder.join(name);
        let current = fs::read_to_string(&file).map_err(failed("read", &file))?;
        if current.trim().is_empty() {
            let from = parent.join(name);
            let value = fs::read_to_string(&from).map_err(failed("read", &from))?;
            write(&file, value.trim())?;
        }
    }
    Ok(())
}

pub(crate) fn write(file: &Path, value: &str) -> Result<(), CgroupError> {
    fs::write(file, value).map_err(failed("write", file))
}

pub(crate) fn failed<'a>(
    verb: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> CgroupError + 'a {
    move |source| CgroupError::File { verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_tree_is_made_filled_killed_and_removed_without_a_trace() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let layout = Arc::new(Layout::detect().unwrap());
        let name = format!("nst-t-cg-{}/a/b", std::process::id());
        let cgroup = Cgroup::new(layout, &name);
        cgroup.create().unwrap();
        cgroup.create().unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        cgroup.add(pid).unwrap();
        assert!(cgroup.pids().contains(&pid));
        assert!(cgroup.memory_stats().is_some());
        assert!(cgroup.cpu_stats().is_some());
        cgroup.set_memory_limit(64 << 20).unwrap();
        cgroup.deny_devices_of_machine().unwrap();
        assert!(!cgroup.is_frozen());
        cgroup.freeze(Freeze::Frozen).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while !cgroup.is_frozen() {
            assert!(Instant::now() < deadline, "it does not freeze");
            std::thread::sleep(Duration::from_millis(1));
        }
        cgroup.freeze(Freeze::Thawed).unwrap();
        assert!(!cgroup.is_frozen());
        cgroup.freeze(Freeze::Frozen).unwrap();
        cgroup.kill(Duration::from_secs(5)).unwrap();
        child.wait().unwrap();
        cgroup.remove().unwrap();
        cgroup.remove().unwrap();
        cgroup.remove_empty_parents();
        assert!(!cgroup.exists());
    }

    #[test]
    fn what_is_frozen_further_below_is_killed_too() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let layout = Arc::new(Layout::detect().unwrap());
        let cgroup = Cgroup::new(layout, &format!("nst-t-cg-below-{}", std::process::id()));
        let below = cgroup.child("a").child("b");
        below.create().unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        below.add(child.id().cast_signed()).unwrap();
        below.freeze(Freeze::Frozen).unwrap();
        cgroup.kill(Duration::from_secs(5)).unwrap();
        child.wait().unwrap();
        cgroup.remove().unwrap();
        assert!(!cgroup.exists());
    }

    /// Each forks two, and those do the same: a thousand, if nothing keeps them from it. It begins when it
    /// is told to, so that it is in its cgroup.
    const BOMB: &str = "bomb() { if [ $1 -gt 0 ]; then bomb $(($1-1)) & bomb $(($1-1)) & fi; \
                        sleep 60; }; read line; bomb 9";

    #[test]
    fn a_fork_bomb_fills_its_cgroup_and_nothing_else() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let layout = Arc::new(Layout::detect().unwrap());
        let cgroup = Cgroup::new(layout, &format!("nst-t-cg-bomb-{}/i", std::process::id()));
        cgroup.create().unwrap();
        let most = 40;
        if cgroup.set_pids_limit(most).unwrap() {
            let mut bash = Command::new("bash");
            bash.args(["-c", BOMB]).stdin(Stdio::piped()).stderr(Stdio::null());
            let mut bomb = bash.spawn().unwrap();
            cgroup.add(bomb.id().cast_signed()).unwrap();
            bomb.stdin.take().unwrap().write_all(b"\n").unwrap();
            let refusals = || {
                let file = cgroup.folder("pids").unwrap().join("pids.events");
                let text = fs::read_to_string(file).unwrap_or_default();
                text.split_whitespace().nth(1).and_then(|it| it.parse::<u64>().ok()).unwrap_or(0)
            };
            let deadline = Instant::now() + Duration::from_secs(20);
            while refusals() == 0 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(refusals() > 0, "nothing was refused");
            assert!(cgroup.pids().len() <= 40, "{:?}", cgroup.pids());
            // Whoever is outside forks on.
            assert!(Command::new("true").status().unwrap().success());
            cgroup.kill(Duration::from_secs(20)).unwrap();
            bomb.wait().unwrap();
            let bound = fs::read_to_string(cgroup.folder("pids").unwrap().join("pids.max"));
            assert_eq!(bound.unwrap().trim(), most.to_string());
        }
        cgroup.remove().unwrap();
        cgroup.remove_empty_parents();
    }
}
