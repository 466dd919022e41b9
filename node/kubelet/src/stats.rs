//! What the node and its pods use: one picture for `/stats/summary`, the metrics and eviction.
//!
//! Nothing is sampled in the background. Whoever asks has the kernel read at that moment; only the
//! sizes of volumes, which cost a walk over their files, are kept for `volumeStatsAggPeriod`. Rates
//! are the change since the last question that is at least a second old.
//!
//! Upstream: `pkg/kubelet/stats`, `pkg/kubelet/server/stats`.
//!
//! Deviation: the parts come from the cgroups and `/proc` directly, not from cAdvisor; a first
//! question has no `usageNanoCores`, as a rate takes two. There are no user-defined metrics. How full
//! a server's share (NFS) is, is not told.

mod collect;
pub(crate) mod devices;
pub(crate) mod disk;
pub(crate) mod group;
pub(crate) mod model;
mod network;
pub(crate) mod processes;
mod rates;
mod system;
mod volumes;

use std::{path::Path, sync::Arc};

use api_cri::v1;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};

use self::{
    group::GroupStats,
    model::{
        CpuStats, FsStats, IoStats, MemoryStats, NodeStats, PsiData, PsiStats, Rlimit,
        RuntimeStats, Summary, SwapStats,
    },
    rates::Rates,
    volumes::VolumeSizes,
};
use crate::{context::Context, cri, pod_workers::PodWorkers};

/// Cheap to clone; clones share what is remembered.
#[derive(Clone)]
pub(crate) struct Stats {
    context: Arc<Context>,
    workers: Arc<PodWorkers>,
    rates: Arc<Rates>,
    volumes: Arc<VolumeSizes>,
}

impl Stats {
    pub(crate) fn new(context: Arc<Context>, workers: Arc<PodWorkers>) -> Self {
        let period = context.settings.config.volume_stats_agg_period.0;
        Self {
            context,
            workers,
            rates: Arc::default(),
            volumes: Arc::new(VolumeSizes::new(period)),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    /// The whole picture. `with_disks` false leaves out what only disks tell.
    pub(crate) async fn summary(&self, with_disks: bool) -> Summary {
        let now = self.context.clock.now();
        let pods = self.workers.pods();
        let (node, pods) =
            tokio::join!(self.node(now, with_disks), self.pods(&pods, now, with_disks));
        Summary { node, pods }
    }

    pub(crate) async fn node(&self, now: Timestamp, with_disks: bool) -> NodeStats {
        let context = &self.context;
        let capacity = u64::try_from(context.machine.memory).unwrap_or(0);
        let stats = self.node_group();
        let runtime = match with_disks {
            true => Some(self.runtime_fs(now).await),
            false => None,
        };
        NodeStats {
            node_name: context.settings.node_name.clone(),
            system_containers: self.system_containers(now).await,
            start_time: self.boot_time().map(Time),
            cpu: Some(self.cpu("node", &stats, now)),
            memory: Some(MemoryStats {
                available_bytes: Some(capacity.saturating_sub(stats.working_set)),
                ..memory(&stats, now)
            }),
            io: io(&stats, now),
            network: network::of_process(&context.settings.proc, "self", now),
            fs: disk::file_system(context.paths.root(), now),
            runtime,
            rlimit: self.rlimit(now),
            swap: Some(SwapStats {
                swap_available_bytes: Some(self.all_swap().saturating_sub(stats.swap)),
                ..swap(&stats, now)
            }),
        }
    }

    /// The machine's, which may be given more at any time.
    fn all_swap(&self) -> u64 {
        let meminfo = group::text(&self.context.settings.proc.join("meminfo"));
        let total = crate::node::capacity::meminfo_bytes(&meminfo, "SwapTotal");
        total.and_then(|it| it.try_into().ok()).unwrap_or(0)
    }

    /// The node's own group; a machine's root group does not count its memory on cgroup v2.
    pub(crate) fn node_group(&self) -> GroupStats {
        let group = self.context.cgroups.group(Path::new(""));
        let mut stats = group.read();
        if !group.counts_memory() {
            let meminfo = self.context.settings.proc.join("meminfo");
            group::from_meminfo(&mut stats, &std::fs::read_to_string(meminfo).unwrap_or_default());
        }
        stats
    }

    async fn runtime_fs(&self, now: Timestamp) -> RuntimeStats {
        let told = self.context.runtime.file_systems().await.unwrap_or_default();
        let of = |told: Option<v1::FilesystemUsage>| used(&told?, now);
        RuntimeStats { image_fs: of(told.images), container_fs: of(told.containers) }
    }

    /// The file system that containers write to.
    pub(crate) async fn container_fs(&self, now: Timestamp) -> Option<FsStats> {
        let told = self.context.runtime.file_systems().await.ok()?;
        used(&told.containers?, now)
    }

    fn rlimit(&self, now: Timestamp) -> Option<Rlimit> {
        let proc = &self.context.settings.proc;
        let read = |name: &str| std::fs::read_to_string(proc.join(name)).ok();
        let maxpid = most_pids(proc)?;
        let loadavg = read("loadavg")?;
        let curproc = loadavg.split(' ').nth(3)?.split_once('/')?.1.parse().ok()?;
        Some(Rlimit { time: Time(now), maxpid, curproc })
    }

    fn boot_time(&self) -> Option<Timestamp> {
        let stat = std::fs::read_to_string(self.context.settings.proc.join("stat")).ok()?;
        let line = stat.lines().find_map(|it| it.strip_prefix("btime "))?;
        Timestamp::from_second(line.trim().parse().ok()?).ok()
    }

    fn cpu(&self, key: &str, stats: &GroupStats, now: Timestamp) -> CpuStats {
        CpuStats {
            time: Time(now),
            usage_nano_cores: self.rates.nano_cores(key, stats.cpu_nanos, now),
            usage_core_nano_seconds: stats.cpu_nanos,
            psi: psi(stats, 0),
        }
    }

    /// Forgets what belongs to pods that are gone.
    pub(crate) fn retain(&self, pods: &[Pod]) {
        use crate::pod::PodExt;
        self.volumes.retain(|uid| pods.iter().any(|it| it.uid() == *uid));
    }
}

fn swap(stats: &GroupStats, now: Timestamp) -> SwapStats {
    SwapStats {
        time: Time(now),
        swap_available_bytes: stats.swap_limit.map(|it| it.saturating_sub(stats.swap)),
        swap_usage_bytes: stats.swap,
    }
}

fn memory(stats: &GroupStats, now: Timestamp) -> MemoryStats {
    MemoryStats {
        time: Time(now),
        available_bytes: stats.memory_limit.map(|it| it.saturating_sub(stats.working_set)),
        usage_bytes: stats.memory_usage,
        working_set_bytes: stats.working_set,
        rss_bytes: stats.rss,
        page_faults: stats.page_faults,
        major_page_faults: stats.major_page_faults,
        psi: psi(stats, 1),
    }
}

fn io(stats: &GroupStats, now: Timestamp) -> Option<IoStats> {
    Some(IoStats { time: Time(now), psi: psi(stats, 2)? })
}

/// What was waited for: by its place among the pressures of a group.
fn psi(stats: &GroupStats, at: usize) -> Option<PsiStats> {
    let pressure = stats.pressures[at]?;
    let data = |total, lately: [u32; 3]| {
        let [avg10, avg60, avg300] = lately.map(|it| f64::from(it) / 100.0);
        PsiData { total, avg10, avg60, avg300 }
    };
    Some(PsiStats {
        full: data(pressure.stalled, pressure.stalled_lately),
        some: data(pressure.waiting, pressure.waiting_lately),
    })
}

/// How many processes there can be.
pub(crate) fn most_pids(proc: &Path) -> Option<i64> {
    let read = |name: &str| std::fs::read_to_string(proc.join("sys/kernel").join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<i64>().ok();
    let most = number("pid_max")?;
    // A limit on threads binds first where it is lower.
    Some(number("threads-max").map_or(most, |it| it.min(most)))
}

/// A file system of the runtime's, and what it uses of it.
fn used(told: &v1::FilesystemUsage, now: Timestamp) -> Option<FsStats> {
    let fs = disk::file_system(cri::mountpoint(told)?, now)?;
    Some(FsStats {
        used_bytes: told.used_bytes.as_ref().map(|it| it.value),
        inodes_used: told.inodes_used.as_ref().map(|it| it.value),
        ..fs
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_waited_for_is_told_where_the_kernel_tells() {
        let cpu = group::Pressure {
            waiting: 7000,
            stalled: 5000,
            waiting_lately: [150, 7, 0],
            stalled_lately: [0; 3],
        };
        let stats = GroupStats { pressures: [Some(cpu), None, None], ..GroupStats::default() };
        let told = serde_json::to_value(psi(&stats, 0)).unwrap();
        let none = serde_json::json!({ "total": 5000, "avg10": 0.0, "avg60": 0.0, "avg300": 0.0 });
        let some = serde_json::json!({ "total": 7000, "avg10": 1.5, "avg60": 0.07, "avg300": 0.0 });
        assert_eq!(told, serde_json::json!({ "full": none, "some": some }));
        assert!(io(&stats, Timestamp::UNIX_EPOCH).is_none() && psi(&stats, 1).is_none());
    }
}
