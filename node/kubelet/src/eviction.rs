//! Ends pods before the node runs out of memory, disk or process ids.
//!
//! The node is measured every ten seconds. Below a hard threshold the node says that it is under
//! pressure, and one pod is ended per round: the one that uses most beyond what it asked for, of the
//! lowest priority. The condition stays for the transition period after the pressure has gone.
//!
//! Upstream: `pkg/kubelet/eviction`. Deviation: hard thresholds only; memory is measured from
//! `/proc/meminfo`.

pub(crate) mod local_storage;

use std::{fs, path::Path, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tracing::warn;

use crate::{
    context::Context,
    node::{
        Pressure, StatusWake,
        capacity::{meminfo_bytes, threshold},
    },
    pod::{PodExt, PodUid},
    pod_workers::PodWorkers,
    qos,
    status::Verdict,
};

const PERIOD: Duration = Duration::from_secs(10);

/// What is scarce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Memory,
    Disk,
    Inodes,
    Pids,
}

impl Resource {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "ephemeral-storage",
            Self::Inodes => "inodes",
            Self::Pids => "pids",
        }
    }
}

/// One signal: what is left, and of how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    pub resource: Resource,
    pub signal: &'static str,
    pub available: i64,
    pub capacity: i64,
}

/// A pod as a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub uid: PodUid,
    pub priority: i32,
    pub usage: i64,
    pub requested: i64,
}

pub(crate) struct Eviction {
    pub context: Arc<Context>,
    pub workers: Arc<PodWorkers>,
    pub pressure: watch::Sender<Pressure>,
    pub wake: StatusWake,
}

impl Eviction {
    pub(crate) async fn run(self) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut until = [None; 3];
        loop {
            ticks.tick().await;
            let scarce = self.scarce();
            self.tell(&scarce, &mut until);
            if let Some((measure, limit)) = scarce.first() {
                self.evict_one(*measure, *limit);
            }
        }
    }

    /// The signals that are below their thresholds.
    fn scarce(&self) -> Vec<(Measure, i64)> {
        let config = &self.context.settings.config;
        let measures = measure(&self.context);
        measures
            .into_iter()
            .filter_map(|it| {
                let limit = threshold(config.eviction_hard.get(it.signal)?, it.capacity)?;
                (it.available < limit).then_some((it, limit))
            })
            .collect()
    }

    fn tell(&self, scarce: &[(Measure, i64)], until: &mut [Option<Instant>; 3]) {
        let hold = self.context.settings.config.eviction_pressure_transition_period.0;
        let is = |list: &[Resource]| scarce.iter().any(|(it, _)| list.contains(&it.resource));
        let now = [
            is(&[Resource::Memory]),
            is(&[Resource::Disk, Resource::Inodes]),
            is(&[Resource::Pids]),
        ];
        for (until, is_pressed) in until.iter_mut().zip(now) {
            if is_pressed {
                *until = Some(Instant::now() + hold);
            }
        }
        let held = |index: usize| until[index].is_some_and(|it| Instant::now() < it);
        let pressure = Pressure { memory: held(0), disk: held(1), pids: held(2) };
        let is_new =
            self.pressure.send_if_modified(|known| std::mem::replace(known, pressure) != pressure);
        if is_new {
            self.wake.wake();
        }
    }

    fn evict_one(&self, measure: Measure, limit: i64) {
        let resource = measure.resource.name();
        let message = format!("Attempting to reclaim {resource}");
        self.context.recorder.node_warning("EvictionThresholdMet", message);
        let pods = self.workers.pods();
        let mut candidates: Vec<_> =
            pods.iter().filter(|it| !it.is_critical()).map(|it| self.candidate(it)).collect();
        rank(&mut candidates);
        let Some(first) = candidates.first() else {
            warn!(resource, "no pod can be evicted");
            return;
        };
        let message = format!(
            "The node was low on resource: {resource}. Threshold quantity: {limit}, available: {}. ",
            measure.available
        );
        if let Some(pod) = pods.iter().find(|it| it.uid() == first.uid) {
            self.context.recorder.warning(pod, "Evicted", message.clone());
        }
        let verdict = Verdict { reason: "Evicted".to_owned(), message };
        self.workers.evict(&first.uid, verdict, Some(0));
    }

    fn candidate(&self, pod: &Pod) -> Candidate {
        let usage = self.context.cgroups.pod_usage(pod).working_set;
        Candidate {
            uid: pod.uid(),
            priority: PodExt::spec(pod).priority.unwrap_or(0),
            usage: i64::try_from(usage).unwrap_or(i64::MAX),
            requested: qos::pod_requests(pod).memory,
        }
    }
}

/// The first goes first: those over their request, then the lowest priority, then the largest excess.
pub(crate) fn rank(candidates: &mut [Candidate]) {
    candidates.sort_by_key(|it| {
        let excess = it.usage - it.requested;
        (excess <= 0, it.priority, std::cmp::Reverse(excess))
    });
}

fn measure(context: &Context) -> Vec<Measure> {
    let mut measures = Vec::new();
    let proc = &context.settings.proc;
    let meminfo = fs::read_to_string(proc.join("meminfo")).unwrap_or_default();
    if let Some(available) = meminfo_bytes(&meminfo, "MemAvailable") {
        measures.push(Measure {
            resource: Resource::Memory,
            signal: "memory.available",
            available,
            capacity: context.machine.memory,
        });
    }
    measures.extend(disk(context.paths.root()));
    let number = |name: &str| -> Option<i64> {
        fs::read_to_string(proc.join(name)).ok()?.trim().parse().ok()
    };
    let running = fs::read_to_string(proc.join("loadavg"))
        .ok()
        .and_then(|it| it.split(' ').nth(3)?.split_once('/')?.1.parse::<i64>().ok());
    if let Some((limit, running)) = number("sys/kernel/pid_max").zip(running) {
        measures.push(Measure {
            resource: Resource::Pids,
            signal: "pid.available",
            available: limit - running,
            capacity: limit,
        });
    }
    measures
}

fn disk(path: &Path) -> Vec<Measure> {
    let Ok(stat) = nix::sys::statvfs::statvfs(path) else { return Vec::new() };
    let size = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    vec![
        Measure {
            resource: Resource::Disk,
            signal: "nodefs.available",
            available: size(stat.blocks_available() * stat.fragment_size()),
            capacity: size(stat.blocks() * stat.fragment_size()),
        },
        Measure {
            resource: Resource::Inodes,
            signal: "nodefs.inodesFree",
            available: size(stat.files_free()),
            capacity: size(stat.files()),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_more_than_it_asked_for_goes_first_then_who_matters_least() {
        let of = |uid: &str, priority, usage, requested| Candidate {
            uid: PodUid(uid.to_owned()),
            priority,
            usage,
            requested,
        };
        let mut candidates = [
            of("within", 0, 50, 100),
            of("over", 0, 150, 100),
            of("far over", 0, 300, 100),
            of("over but important", 1000, 900, 100),
        ];
        rank(&mut candidates);
        let order: Vec<_> = candidates.iter().map(|it| it.uid.0.as_str()).collect();
        assert_eq!(order, ["far over", "over", "over but important", "within"]);
    }
}
