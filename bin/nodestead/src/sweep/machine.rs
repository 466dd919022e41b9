//! Removes all of Nodestead from the machine, whatever the region: `down --all`, `make clean-host`.
//!
//! What is ours is told by what it is: namespaces, links, tables and folders whose names begin with
//! `nst-`; cgroups below `nodestead` or named `nst-t-…` (tests); processes in those cgroups or those
//! namespaces; and daemons and launchers, by the `daemon.json` and the program of their data
//! directory. No process is ever found by its name alone.
//!
//! **Invariant:** twice does no more than once, and nothing that is not claimed is touched.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use linux_cgroup::Cgroup;
use linux_mount::Mount;
use linux_process::{Identity, Signal};

use super::{KILL_LIMIT, ROOT_CGROUP};
use crate::layout::Layout;

/// How long a killed process may take to be gone: on a machine that is starved of CPU, long.
const DEATH_LIMIT: Duration = Duration::from_secs(30);
/// Where tests keep what does not fit into memory.
const SCRATCH: [&str; 2] = ["/tmp", "/var/tmp"];

/// What is to go. Tests claim less than all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// How the names of namespaces, links and tables begin.
    pub(crate) names: String,
    /// How the names of tests' cgroups and folders begin.
    pub(crate) tests: String,
    /// The cgroup of all regions.
    pub(crate) regions: Option<String>,
    /// Data directories, for the mounts below them.
    pub(crate) data_dirs: BTreeSet<PathBuf>,
}

impl Claim {
    /// All of Nodestead on this machine.
    pub(crate) fn everything() -> Self {
        Self {
            names: "nst-".to_owned(),
            tests: "nst-t-".to_owned(),
            regions: Some(ROOT_CGROUP.to_owned()),
            data_dirs: data_dirs(),
        }
    }
}

/// What was done and what could not be.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) removed: Vec<String>,
    pub(crate) failures: Vec<anyhow::Error>,
}

impl Report {
    pub(crate) fn note(&mut self, done: anyhow::Result<Vec<String>>) {
        match done {
            Ok(removed) => self.removed.extend(removed),
            Err(error) => self.failures.push(error),
        }
    }
}

/// Kills, unmounts and removes. Daemons must have been stopped before, or they make it anew.
pub(crate) fn remove(claim: &Claim) -> Report {
    let mut report = Report::default();
    for dir in &claim.data_dirs {
        report.note(starters(dir));
    }
    if claim.regions.is_some() {
        report.note(orphans());
    }
    cgroups(claim, &mut report);
    report.note(processes_in_namespaces(&claim.names));
    for dir in &claim.data_dirs {
        report.note(mounts(dir));
    }
    namespaces(&claim.names, &mut report);
    report.note(way_out(&claim.names));
    for folder in SCRATCH.iter().flat_map(|it| entries(Path::new(it), &claim.tests)) {
        let done = linux_mount::remove_tree(&folder);
        report
            .note(done.map(|()| vec![format!("folder {}", folder.display())]).map_err(Into::into));
    }
    report
}

/// Network namespaces whose names begin like this, and the files of those that are gone: a region that
/// ran in a mount namespace of its own has taken the namespaces with it, and left the names.
pub(super) fn namespaces(prefix: &str, report: &mut Report) {
    let example = linux_netns::path(prefix);
    let entries = example.parent().and_then(|it| fs::read_dir(it).ok());
    let names = entries.into_iter().flatten().flatten();
    let names = names.filter_map(|it| it.file_name().into_string().ok());
    for name in names.filter(|it| it.starts_with(prefix)) {
        let done = linux_netns::delete(&name).map(|()| vec![format!("namespace {name}")]);
        report.note(done.map_err(Into::into));
    }
}

/// What `--egress` put on the machine itself.
pub(super) fn way_out(prefix: &str) -> anyhow::Result<Vec<String>> {
    region_vpc::remove_egress(prefix, None).context("removing the ways out")
}

/// Daemons and launchers of instances that run the program in this data directory. They are in no
/// namespace and no cgroup of ours, and start what is.
pub(super) fn starters(data_dir: &Path) -> anyhow::Result<Vec<String>> {
    kill(|pid| home_of_starter(pid).is_some_and(|it| it == data_dir), "which starts instances")
}

/// Those whose data directory somebody has deleted: nothing else tells of them.
fn orphans() -> anyhow::Result<Vec<String>> {
    kill(|pid| home_of_starter(pid).is_some_and(|it| is_deleted(&it)), "whose region was deleted")
}

fn is_deleted(data_dir: &Path) -> bool {
    !Layout::new(data_dir).is_ok_and(|it| it.settings().is_file())
}

/// The data directory of a process that is a daemon or a launcher of instances.
fn home_of_starter(pid: i32) -> Option<PathBuf> {
    let home = home_of(&fs::read_link(format!("/proc/{pid}/exe")).ok()?)?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&[u8]> = line.split(|it| *it == 0).skip(1).take(2).collect();
    let is_starter =
        words.first() == Some(&&b"daemon"[..]) || words == [&b"run"[..], &b"host-launch"[..]];
    is_starter.then_some(home)
}

fn cgroups(claim: &Claim, report: &mut Report) {
    let hierarchies = match linux_cgroup::Layout::detect() {
        Ok(layout) => Arc::new(layout),
        Err(error) => return report.failures.push(error.into()),
    };
    let root = Cgroup::new(hierarchies.clone(), "");
    let mut names: BTreeSet<String> = claim.regions.iter().cloned().collect();
    for (_, folder) in root.folders() {
        let found = entries(&folder, &claim.tests);
        names.extend(found.iter().filter_map(|it| it.file_name()?.to_str().map(str::to_owned)));
    }
    for name in names {
        let cgroup = Cgroup::new(hierarchies.clone(), &name);
        if !cgroup.exists() {
            continue;
        }
        let count = cgroup.pids().len();
        let done = cgroup.kill(KILL_LIMIT).and_then(|()| cgroup.remove());
        let what = format!("cgroup {name} with {count} processes");
        report.note(done.map(|()| vec![what]).map_err(Into::into));
    }
}

/// What runs in one of our namespaces without being in one of our cgroups.
pub(super) fn processes_in_namespaces(prefix: &str) -> anyhow::Result<Vec<String>> {
    let names = linux_netns::list()?;
    let ours: BTreeSet<_> = names
        .iter()
        .filter(|name| name.starts_with(prefix))
        .filter_map(|name| inode(&linux_netns::path(name)))
        .collect();
    let is_ours = |pid: i32| inode(&linux_netns::of_pid(pid)).is_some_and(|it| ours.contains(&it));
    kill(is_ours, "which was in one of our namespaces")
}

/// Kills all that are meant, but not this process.
fn kill(is_meant: impl Fn(i32) -> bool, what: &str) -> anyhow::Result<Vec<String>> {
    let own = std::process::id().cast_signed();
    let mut removed = Vec::new();
    for pid in pids().filter(|pid| *pid != own && is_meant(*pid)) {
        // Found again by PID and start time, so that no other process is meant.
        let Some(process) = Identity::of(pid).filter(|_| is_meant(pid)) else { continue };
        process.signal(Signal::SIGKILL)?;
        anyhow::ensure!(process.wait(DEATH_LIMIT), "process {pid} does not end");
        removed.push(format!("process {pid}, {what}"));
    }
    Ok(removed)
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|it| (it.dev(), it.ino()))
}

/// What is mounted below `dir`. At `dir` itself it is the user's own disk.
pub(super) fn mounts(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = linux_mount::mounts_under(dir)?;
    found.retain(|mount| mount.target != dir);
    linux_mount::unmount_below(dir)?;
    Ok(found.iter().map(|it| format!("mount {}", it.target.display())).collect())
}

/// What is in `folder` under a name that begins like this.
fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_meant = |entry: &fs::DirEntry| {
        entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix))
            && entry.file_type().is_ok_and(|it| it.is_dir())
    };
    found.filter(is_meant).map(|it| it.path()).collect()
}

fn pids() -> impl Iterator<Item = i32> {
    let found = fs::read_dir("/proc").into_iter().flatten().flatten();
    found.filter_map(|it| it.file_name().to_str()?.parse().ok())
}

/// The data directories of this machine's regions, as far as something of them runs: those that a
/// process names, was started from, or has its root in, and the default one. Each holds a region's
/// settings.
pub(super) fn data_dirs() -> BTreeSet<PathBuf> {
    let named = pids().flat_map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
        let home = program.as_deref().and_then(home_of);
        // Programs of instances have other roots, where the path of theirs tells nothing.
        let of_instance = home.as_ref().and_then(|_| {
            let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
            home_of_root(&linux_mount::parse(&mounts))
        });
        named_by(&line).into_iter().chain(home).chain(of_instance)
    });
    let all = named.chain([PathBuf::from(crate::cli::DEFAULT_DATA_DIR)]);
    let known = all.filter_map(|it| Layout::new(&it).ok());
    known.filter(|it| it.settings().is_file()).map(|it| it.root().to_owned()).collect()
}

/// What follows `--data-dir` in a command line, whose words end with a zero byte.
fn named_by(line: &[u8]) -> Option<PathBuf> {
    let line = String::from_utf8_lossy(line);
    let mut words = line.split('\0');
    words
        .by_ref()
        .find_map(|word| match word.strip_prefix("--data-dir") {
            Some("") => Some(None),
            Some(rest) => rest.strip_prefix('=').map(|it| Some(it.to_owned())),
            None => None,
        })?
        .or_else(|| words.next().map(str::to_owned))
        .map(PathBuf::from)
}

/// `DIR` for a program `DIR/bin/nodestead`.
fn home_of(program: &Path) -> Option<PathBuf> {
    let text = program.to_str()?;
    let text = text.strip_suffix(" (deleted)").unwrap_or(text);
    text.strip_suffix("/bin/nodestead").map(PathBuf::from)
}

/// `DIR` for an instance's root, an overlay whose upper layer is `DIR/instances/ID/upper`.
fn home_of_root(mounts: &[Mount]) -> Option<PathBuf> {
    let root = mounts.iter().find(|it| it.kind == "overlay" && it.target == Path::new("/"))?;
    let upper = root.super_options.iter().find_map(|it| it.strip_prefix("upperdir="))?;
    let instances = Path::new(upper.strip_suffix("/upper")?).parent()?;
    instances.parent().filter(|_| instances.ends_with("instances")).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    #[test]
    fn a_data_directory_is_known_by_a_command_line_and_by_a_program() {
        let named = |words: &[&str]| named_by(words.join("\0").as_bytes());
        assert_eq!(named(&["x", "daemon", "--data-dir", "/a b", "-v"]), Some("/a b".into()));
        assert_eq!(named(&["x", "up", "--data-dir=/c"]), Some("/c".into()));
        assert_eq!(named(&["x", "--data-dirs", "/c"]), None);
        assert_eq!(named(&["x", "--data-dir"]), None);
        assert_eq!(home_of(Path::new("/d/bin/nodestead (deleted)")), Some("/d".into()));
        assert_eq!(home_of(Path::new("/usr/bin/nodestead-cni")), None);
    }

    #[test]
    fn a_data_directory_is_known_by_the_root_of_an_instance() {
        let of = |options: &str| {
            let line = format!("122 93 0:44 / / rw shared:5 - overlay overlay {options}\n");
            home_of_root(&linux_mount::parse(&line))
        };
        let upper = "rw,lowerdir=/a\\040b/ami/x,upperdir=/a\\040b/instances/i-1/upper,workdir=/w";
        assert_eq!(of(upper), Some("/a b".into()));
        assert_eq!(of("rw,lowerdir=/l,upperdir=/a/snapshots/1/fs,workdir=/w"), None);
        assert_eq!(of("rw,lowerdir=/l"), None);
    }

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    impl Killed {
        fn new(program: &str, args: &[&str]) -> Self {
            Self(Command::new(program).args(args).spawn().unwrap())
        }

        fn has_ended(&mut self) -> bool {
            self.0.try_wait().unwrap().is_some()
        }
    }

    #[test]
    fn a_daemon_whose_data_directory_was_deleted_is_known_by_its_program() {
        let home = tempfile::tempdir().unwrap();
        let (path, program) = (home.path().to_owned(), home.path().join("bin/nodestead"));
        fs::create_dir(path.join("bin")).unwrap();
        fs::copy("/usr/bin/tail", &program).unwrap();
        fs::write(path.join("settings.json"), "{}").unwrap();
        let daemon =
            Killed::new(program.to_str().unwrap(), &["daemon", "--follow", "--quiet", "/dev/null"]);
        let pid = daemon.0.id().cast_signed();
        // Until it is that program, it is this one.
        while home_of_starter(pid).is_none() {
            std::thread::yield_now();
        }
        assert_eq!(home_of_starter(pid).as_deref(), Some(&*path));
        assert!(!is_deleted(&path));
        home.close().unwrap();
        assert_eq!(home_of_starter(pid).as_deref(), Some(&*path));
        assert!(is_deleted(&path));
        assert_eq!(home_of_starter(std::process::id().cast_signed()), None);
    }

    /// What a killed run leaves: a namespace with a process in it, a cgroup with one, a mount.
    #[test]
    fn what_a_killed_run_leaves_is_found_and_goes_and_nothing_else() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not run: it takes root");
            return;
        }
        let name = format!("nst-t-clean-{}", std::process::id());
        let claim = Claim {
            names: name.clone(),
            tests: name.clone(),
            regions: None,
            data_dirs: BTreeSet::new(),
        };
        let netns = format!("{name}-a");
        linux_netns::create(&netns).unwrap();
        let path = linux_netns::path(&netns);
        let net = format!("--net={}", path.display());
        let mut inside = Killed::new("nsenter", &[&net, "sleep", "600"]);
        let mut stranger = Killed::new("sleep", &["600"]);
        let mut member = Killed::new("sleep", &["600"]);
        let cgroup =
            Cgroup::new(Arc::new(linux_cgroup::Layout::detect().unwrap()), &format!("{name}/i"));
        cgroup.create().unwrap();
        cgroup.add(member.0.id().cast_signed()).unwrap();
        let folder = Path::new("/var/tmp").join(&name);
        fs::create_dir_all(folder.join("mnt")).unwrap();
        linux_mount::tmpfs(&folder.join("mnt"), "size=1m").unwrap();
        while inode(&linux_netns::of_pid(inside.0.id().cast_signed())) != inode(&path) {
            std::thread::yield_now();
        }

        // Of a namespace that went with the mount namespace which held it.
        fs::write(linux_netns::path(&format!("{name}-gone")), "").unwrap();

        let report = remove(&claim);
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        assert_eq!(report.removed.len(), 5, "{:?}", report.removed);
        assert!(!linux_netns::path(&format!("{name}-gone")).exists());
        assert!(inside.has_ended() && member.has_ended());
        assert!(!stranger.has_ended(), "it is nobody's");
        assert!(!linux_netns::exists(&netns) && !cgroup.exists() && !folder.exists());
        let again = remove(&claim);
        assert!(again.removed.is_empty() && again.failures.is_empty(), "{again:?}");
    }
}
