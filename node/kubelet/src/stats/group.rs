//! One cgroup's counters, on v1 and v2.
//!
//! Upstream: cAdvisor's `container/libcontainer/handler.go`: the working set is what is used without
//! the inactive file cache.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;

use crate::cgroups::Hierarchy;

/// A cgroup by its path below the mount points.
#[derive(Clone, Debug)]
pub(crate) struct Group<'a> {
    hierarchy: &'a Hierarchy,
    path: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupStats {
    pub cpu_nanos: u64,
    pub cpu_user_nanos: u64,
    pub cpu_system_nanos: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_nanos: u64,
    pub memory_usage: u64,
    pub memory_peak: u64,
    pub working_set: u64,
    pub rss: u64,
    pub cache: u64,
    pub swap: u64,
    pub mapped_file: u64,
    pub active_file: u64,
    pub inactive_file: u64,
    /// What the kernel itself takes for the group.
    pub kernel: u64,
    pub failcnt: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub oom_kills: u64,
    pub memory_limit: Option<u64>,
    /// What the group is pushed back to when memory is short.
    pub memory_reservation: Option<u64>,
    /// Of memory and swap together on v1, of swap alone on v2.
    pub swap_limit: Option<u64>,
    /// Processes and their threads.
    pub threads: u64,
    /// How many there may be.
    pub most_threads: Option<u64>,
    /// Of CPU, memory and I/O; v2 alone tells.
    pub pressures: [Option<Pressure>; 3],
    pub shares: Option<u64>,
    pub quota: Option<u64>,
    pub period: Option<u64>,
}

/// How long processes have waited for something, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    /// At least one of them.
    pub waiting: u64,
    /// All of them at once.
    pub stalled: u64,
    /// The same of the last 10, 60 and 300 seconds, in hundredths of a percent.
    pub waiting_lately: [u32; 3],
    pub stalled_lately: [u32; 3],
}

/// What v1 shows where there is no limit is above this.
const NO_LIMIT: u64 = 1 << 62;

impl<'a> Group<'a> {
    pub(crate) fn new(hierarchy: &'a Hierarchy, path: &Path) -> Self {
        Self { hierarchy, path: path.to_owned() }
    }

    /// The path as cAdvisor names it.
    pub(crate) fn id(&self) -> String {
        format!("/{}", self.path.display())
    }

    /// The group of a container: its id, or a scope of systemd that a runtime has named after it.
    pub(crate) fn container(&self, id: &str) -> Self {
        let of = |name: &str| Self { hierarchy: self.hierarchy, path: self.path.join(name) };
        let own = of(id);
        if own.exists() {
            return own;
        }
        let ending = format!("-{id}.scope");
        let names = self.hierarchy.children(&self.path);
        names.into_iter().find(|it| it.ends_with(&ending)).map_or(own, |it| of(it.as_str()))
    }

    pub(super) fn is_v2(&self) -> bool {
        matches!(self.hierarchy, Hierarchy::V2 { .. })
    }

    pub(super) fn folder(&self, controller: &str) -> Option<PathBuf> {
        self.hierarchy.folder(controller, &self.path)
    }

    pub(crate) fn exists(&self) -> bool {
        self.folder("memory").is_some_and(|it| it.is_dir())
    }

    /// When the group was made, as the kernel's folder tells it.
    pub(super) fn made_at(&self) -> Option<Timestamp> {
        let made = fs::metadata(self.folder("memory")?).ok()?.modified().ok()?;
        made.try_into().ok()
    }

    pub(crate) fn counts_memory(&self) -> bool {
        let Some(folder) = self.folder("memory") else { return false };
        ["memory.current", "memory.usage_in_bytes"].iter().any(|it| folder.join(it).exists())
    }

    /// How many processes the kernel has killed for their memory; `None` where it does not say.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        let file = if self.is_v2() { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.folder("memory")?.join(file)).ok()?;
        Some(field(&text, "oom_kill"))
    }

    /// The processes of the group and of those below it.
    pub(crate) fn first_process(&self) -> Option<i32> {
        first_process(&self.folder("memory").or_else(|| self.folder("pids"))?)
    }

    pub(crate) fn read(&self) -> GroupStats {
        match self.hierarchy {
            Hierarchy::Unused => GroupStats::default(),
            Hierarchy::V2 { root } => read_v2(&root.join(&self.path)),
            Hierarchy::V1 { .. } => self.read_v1(),
        }
    }

    fn read_v1(&self) -> GroupStats {
        let mut stats = GroupStats::default();
        if let Some(folder) = self.folder("memory") {
            let text = text(&folder.join("memory.stat"));
            let own = |name: &str| field(&text, &format!("total_{name}"));
            stats.memory_usage = number(&folder.join("memory.usage_in_bytes")).unwrap_or(0);
            stats.memory_peak = number(&folder.join("memory.max_usage_in_bytes")).unwrap_or(0);
            stats.working_set = stats.memory_usage.saturating_sub(own("inactive_file"));
            stats.rss = own("rss");
            stats.cache = own("cache");
            stats.swap = own("swap");
            stats.mapped_file = own("mapped_file");
            stats.active_file = own("active_file");
            stats.inactive_file = own("inactive_file");
            stats.kernel = number(&folder.join("memory.kmem.usage_in_bytes")).unwrap_or(0);
            stats.page_faults = own("pgfault");
            stats.major_page_faults = own("pgmajfault");
            stats.failcnt = number(&folder.join("memory.failcnt")).unwrap_or(0);
            stats.oom_kills = field(&self::text(&folder.join("memory.oom_control")), "oom_kill");
            let limit = |file: &str| number(&folder.join(file)).filter(|it| *it < NO_LIMIT);
            stats.memory_limit = limit("memory.limit_in_bytes");
            stats.memory_reservation = limit("memory.soft_limit_in_bytes");
            stats.swap_limit = swap_limit(&folder.join("memory.memsw.limit_in_bytes"));
        }
        if let Some(folder) = self.folder("cpuacct") {
            stats.cpu_nanos = number(&folder.join("cpuacct.usage")).unwrap_or(0);
            let text = text(&folder.join("cpuacct.stat"));
            // In hundredths of a second.
            stats.cpu_user_nanos = field(&text, "user") * 10_000_000;
            stats.cpu_system_nanos = field(&text, "system") * 10_000_000;
        }
        if let Some(folder) = self.folder("cpu") {
            let text = text(&folder.join("cpu.stat"));
            stats.periods = field(&text, "nr_periods");
            stats.throttled_periods = field(&text, "nr_throttled");
            stats.throttled_nanos = field(&text, "throttled_time");
            stats.shares = number(&folder.join("cpu.shares"));
            // `-1`, no quota, is no number here.
            stats.quota = number(&folder.join("cpu.cfs_quota_us"));
            stats.period = number(&folder.join("cpu.cfs_period_us"));
        }
        if let Some(folder) = self.folder("pids") {
            stats.threads = number(&folder.join("pids.current")).unwrap_or(0);
            stats.most_threads = number(&folder.join("pids.max"));
        }
        stats
    }
}

fn read_v2(folder: &Path) -> GroupStats {
    let memory = text(&folder.join("memory.stat"));
    let cpu = text(&folder.join("cpu.stat"));
    let events = text(&folder.join("memory.events"));
    let usage = number(&folder.join("memory.current")).unwrap_or(0);
    let max = text(&folder.join("cpu.max"));
    let mut max = max.split_whitespace().map(|it| it.parse().ok());
    GroupStats {
        cpu_nanos: field(&cpu, "usage_usec") * 1000,
        cpu_user_nanos: field(&cpu, "user_usec") * 1000,
        cpu_system_nanos: field(&cpu, "system_usec") * 1000,
        periods: field(&cpu, "nr_periods"),
        throttled_periods: field(&cpu, "nr_throttled"),
        throttled_nanos: field(&cpu, "throttled_usec") * 1000,
        memory_usage: usage,
        memory_peak: number(&folder.join("memory.peak")).unwrap_or(0),
        working_set: usage.saturating_sub(field(&memory, "inactive_file")),
        rss: field(&memory, "anon"),
        cache: field(&memory, "file"),
        swap: number(&folder.join("memory.swap.current")).unwrap_or(0),
        mapped_file: field(&memory, "file_mapped"),
        active_file: field(&memory, "active_file"),
        inactive_file: field(&memory, "inactive_file"),
        kernel: field(&memory, "kernel"),
        failcnt: field(&events, "max"),
        page_faults: field(&memory, "pgfault"),
        major_page_faults: field(&memory, "pgmajfault"),
        oom_kills: field(&events, "oom_kill"),
        memory_limit: number(&folder.join("memory.max")),
        memory_reservation: number(&folder.join("memory.high")),
        swap_limit: swap_limit(&folder.join("memory.swap.max")),
        threads: number(&folder.join("pids.current")).unwrap_or(0),
        most_threads: number(&folder.join("pids.max")),
        pressures: ["cpu", "memory", "io"]
            .map(|it| pressure(&text(&folder.join(format!("{it}.pressure"))))),
        shares: number(&folder.join("cpu.weight")).map(shares),
        quota: max.next().flatten(),
        period: max.next().flatten(),
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, in microseconds, and the same of `full`.
fn pressure(text: &str) -> Option<Pressure> {
    let total = |kind: &str| {
        let line = text.lines().find(|it| it.starts_with(kind))?;
        line.rsplit_once("total=")?.1.trim().parse::<u64>().ok()
    };
    let lately = |kind: &str| {
        let line = text.lines().find(|it| it.starts_with(kind)).unwrap_or_default();
        ["avg10=", "avg60=", "avg300="].map(|name| {
            let part = line.split_whitespace().find_map(|it| it.strip_prefix(name));
            part.and_then(|it| it.replace('.', "").parse().ok()).unwrap_or(0)
        })
    };
    Some(Pressure {
        waiting: total("some ")? * 1000,
        // Older kernels have no `full` of the CPU.
        stalled: total("full ").unwrap_or(0) * 1000,
        waiting_lately: lately("some "),
        stalled_lately: lately("full "),
    })
}

/// The v1 shares that a v2 weight stands for.
fn shares(weight: u64) -> u64 {
    2 + weight.saturating_sub(1) * 262_142 / 9999
}

/// The memory of a whole machine, where its root group does not count it.
pub(super) fn from_meminfo(stats: &mut GroupStats, meminfo: &str) {
    let bytes = |name: &str| {
        crate::node::capacity::meminfo_bytes(meminfo, name)
            .and_then(|it| u64::try_from(it).ok())
            .unwrap_or(0)
    };
    stats.memory_usage = bytes("MemTotal").saturating_sub(bytes("MemFree"));
    stats.working_set = stats.memory_usage.saturating_sub(bytes("Inactive(file)"));
    stats.rss = bytes("AnonPages");
    stats.cache = bytes("Cached");
    stats.swap = bytes("SwapTotal").saturating_sub(bytes("SwapFree"));
}

/// A field of a process's `stat`, by its number in proc(5); from the third on.
fn of_process(stat: &str, index: usize) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(index - 3)?.parse().ok()
}

/// How long after the machine's start a process began.
pub(super) fn process_start(proc: &Path, pid: &str) -> Option<Duration> {
    // In hundredths of a second.
    Some(Duration::from_millis(of_process(&text(&proc.join(pid).join("stat")), 22)? * 10))
}

/// One process alone; `self` for whoever wants to know what the kubelet costs.
pub(crate) fn process(proc: &Path, pid: &str) -> Option<GroupStats> {
    let stat = text(&proc.join(pid).join("stat"));
    let at = |index: usize| of_process(&stat, index);
    let ticks = at(14)? + at(15)?;
    let rss = at(24)? * 4096;
    let status = text(&proc.join(pid).join("status"));
    let swap = crate::node::capacity::meminfo_bytes(&status, "VmSwap");
    Some(GroupStats {
        cpu_nanos: ticks * 10_000_000,
        swap: swap.and_then(|it| it.try_into().ok()).unwrap_or(0),
        memory_usage: rss,
        working_set: rss,
        rss,
        page_faults: at(10)?,
        major_page_faults: at(12)?,
        ..GroupStats::default()
    })
}

fn first_process(folder: &Path) -> Option<i32> {
    let own = text(&folder.join("cgroup.procs"));
    // A zero is a process of a namespace that this one cannot see.
    if let Some(pid) = own.lines().filter_map(|it| it.parse().ok()).find(|it| *it > 0) {
        return Some(pid);
    }
    let entries = fs::read_dir(folder).ok()?.flatten();
    let folders = entries.filter(|it| it.file_type().is_ok_and(|it| it.is_dir()));
    folders.into_iter().find_map(|it| first_process(&it.path()))
}

pub(super) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Where the kernel does not know the file, no group has any.
fn swap_limit(path: &Path) -> Option<u64> {
    if path.exists() { number(path).filter(|it| *it < NO_LIMIT) } else { Some(0) }
}

fn field(text: &str, name: &str) -> u64 {
    let found = text.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(' '));
    found.and_then(|it| it.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn both_versions_tell_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (v1, v2) = (folder.path().join("v1"), folder.path().join("v2"));
        put(
            &v1.join("kubepods/p"),
            &[
                ("memory.usage_in_bytes", "1000\n"),
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.stat", "rss 1\ntotal_rss 600\ntotal_inactive_file 300\ntotal_swap 20\n"),
                ("memory.memsw.limit_in_bytes", "500\n"),
                ("cpuacct.usage", "5000000\n"),
                ("cpu.cfs_quota_us", "-1\n"),
                ("pids.current", "3\n"),
            ],
        );
        put(
            &v2.join("kubepods/p"),
            &[
                ("memory.current", "1000\n"),
                ("memory.max", "max\n"),
                ("memory.stat", "anon 600\ninactive_file 300\n"),
                ("memory.swap.current", "20\n"),
                ("memory.swap.max", "500\n"),
                ("cpu.stat", "usage_usec 5000\n"),
                ("cpu.max", "max 100000\n"),
                ("pids.current", "3\n"),
                (
                    "cpu.pressure",
                    "some avg10=1.50 avg60=0.07 avg300=0.00 total=7\nfull avg10=0.00 total=5\n",
                ),
            ],
        );
        let names = ["memory", "cpu", "cpuacct", "pids"].map(str::to_owned).to_vec();
        let hierarchies = [
            Hierarchy::V1 { mounts: vec![(v1, names)], others: Vec::new() },
            Hierarchy::V2 { root: v2 },
        ];
        for hierarchy in hierarchies {
            let group = Group::new(&hierarchy, Path::new("kubepods/p"));
            let stats = group.read();
            assert_eq!((stats.memory_usage, stats.working_set, stats.rss), (1000, 700, 600));
            assert_eq!((stats.cpu_nanos, stats.threads), (5_000_000, 3));
            assert_eq!((stats.memory_limit, stats.quota), (None, None));
            assert_eq!((stats.swap, stats.swap_limit), (20, Some(500)));
            let cpu = group.is_v2().then_some(Pressure {
                waiting: 7000,
                stalled: 5000,
                waiting_lately: [150, 7, 0],
                stalled_lately: [0; 3],
            });
            assert_eq!(stats.pressures, [cpu, None, None]);
        }
    }

    #[test]
    fn a_kernel_that_limits_no_swap_gives_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.swap.max");
        assert_eq!(swap_limit(&file), Some(0));
        for (text, limit) in [("max\n", None), ("9223372036854771712\n", None), ("0\n", Some(0))] {
            fs::write(&file, text).unwrap();
            assert_eq!(swap_limit(&file), limit, "{text}");
        }
    }

    #[test]
    fn a_weight_is_told_as_shares() {
        assert_eq!(shares(1), 2);
        assert_eq!(shares(10_000), 262_144);
    }
}
