//! Which pod goes first.
//!
//! Upstream: `rankMemoryPressure`, `rankDiskPressureFunc`, `rankPIDPressure`: pods of which nothing is
//! known, then those above their requests, then by priority, then by how far above they are. Process
//! ids cannot be requested, so there it is priority, then number.

use k8s_openapi::{
    api::core::v1::{Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use super::signal::{Disks, Resource, Signal};
use crate::{
    pod::PodExt,
    qos, quantity,
    stats::model::{FsStats, PodStats, Summary},
};

/// A pod in the order; `index` is its place in the list that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub index: usize,
    pub priority: i32,
    /// `None` when nothing is known of it.
    pub usage: Option<i64>,
    pub requested: i64,
}

pub(super) fn candidates(
    pods: &[Pod],
    summary: &Summary,
    signal: Signal,
    disks: Disks,
) -> Vec<Candidate> {
    let of = |(index, pod): (usize, &Pod)| {
        let stats = summary.pods.iter().find(|it| it.pod_ref.uid == pod.uid().0);
        Candidate {
            index,
            priority: PodExt::spec(pod).priority.unwrap_or(0),
            usage: stats.map(|it| usage(it, signal, disks)),
            requested: requested(pod, signal.resource()),
        }
    };
    pods.iter().enumerate().map(of).collect()
}

pub(super) fn rank(candidates: &mut [Candidate], resource: Resource) {
    candidates.sort_by_key(|it| {
        let usage = it.usage.unwrap_or(0);
        let excess = usage - it.requested;
        let exceeds = match resource {
            Resource::Pids => false,
            _ => excess > 0,
        };
        (it.usage.is_some(), !exceeds, it.priority, std::cmp::Reverse(excess))
    });
}

fn usage(stats: &PodStats, signal: Signal, disks: Disks) -> i64 {
    let signed = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
    match signal.resource() {
        Resource::Memory => signed(stats.memory.as_ref().map_or(0, |it| it.working_set_bytes)),
        Resource::Pids => signed(stats.process_stats.map_or(0, |it| it.process_count)),
        Resource::Disk => signed(disk(stats, signal, disks, |it| it.used_bytes)),
        Resource::Inodes => signed(disk(stats, signal, disks, |it| it.inodes_used)),
    }
}

/// The parts of a pod that are on the file system that is short.
fn disk(
    stats: &PodStats,
    signal: Signal,
    disks: Disks,
    of: impl Fn(&FsStats) -> Option<u64>,
) -> u64 {
    let is_node = signal.is_of_node_fs();
    let with_layers = match disks {
        Disks::One => true,
        Disks::Runtime => !is_node,
        Disks::Images => is_node,
    };
    let with_others = is_node || disks == Disks::One;
    let layers = stats.containers.iter().filter_map(|it| it.rootfs.as_ref());
    let logs = stats.containers.iter().filter_map(|it| it.logs.as_ref());
    let volumes = stats.volume.iter().filter(|it| it.is_local).map(|it| &it.fs);
    let mut sum = 0;
    if with_layers {
        sum += layers.filter_map(&of).sum::<u64>();
    }
    if with_others {
        sum += logs.chain(volumes).filter_map(&of).sum::<u64>();
    }
    sum
}

fn requested(pod: &Pod, resource: Resource) -> i64 {
    match resource {
        Resource::Memory => qos::pod_requests(pod).memory,
        Resource::Disk => {
            let spec = PodExt::spec(pod);
            quantity::sum(spec.containers.iter().map(|it| storage(it.resources.as_ref())))
        }
        Resource::Inodes | Resource::Pids => 0,
    }
}

fn storage(resources: Option<&ResourceRequirements>) -> i64 {
    let requests = resources.and_then(|it| it.requests.as_ref());
    let amount = requests.and_then(|it| it.get("ephemeral-storage"));
    amount.and_then(|it: &Quantity| quantity::value(it)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_more_than_it_asked_for_goes_first_then_who_matters_least() {
        let of = |index, priority, usage, requested| Candidate {
            index,
            priority,
            usage: Some(usage),
            requested,
        };
        let candidates = [
            of(0, 0, 50, 100),
            of(1, 0, 150, 100),
            of(2, 0, 300, 100),
            of(3, 1000, 900, 100),
            Candidate { usage: None, ..of(4, 2000, 0, 0) },
        ];
        let order = |resource| {
            let mut sorted = candidates;
            rank(&mut sorted, resource);
            sorted.map(|it| it.index)
        };
        assert_eq!(order(Resource::Memory), [4, 2, 1, 3, 0]);
        assert_eq!(order(Resource::Pids), [4, 2, 1, 0, 3], "requests say nothing of processes");
    }

    #[test]
    fn only_what_is_on_the_short_file_system_counts() {
        use crate::stats::model::{ContainerStats, VolumeStats};
        let fs = |bytes| FsStats {
            time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
            available_bytes: 0,
            capacity_bytes: 0,
            used_bytes: Some(bytes),
            inodes_free: 0,
            inodes: 0,
            inodes_used: None,
        };
        let container =
            ContainerStats { rootfs: Some(fs(1)), logs: Some(fs(10)), ..ContainerStats::default() };
        let volume = |bytes, is_local| VolumeStats {
            fs: fs(bytes),
            name: String::new(),
            pvc_ref: None,
            volume_health_stats: None,
            is_local,
        };
        let stats = PodStats {
            containers: vec![container],
            volume: vec![volume(100, true), volume(1000, false)],
            ..PodStats::default()
        };
        assert_eq!(usage(&stats, Signal::NodeFs, Disks::One), 111);
        assert_eq!(usage(&stats, Signal::NodeFs, Disks::Runtime), 110);
        assert_eq!(usage(&stats, Signal::ImageFs, Disks::Runtime), 1);
        // Nobody's pod has images.
        assert_eq!(usage(&stats, Signal::NodeFs, Disks::Images), 111);
        assert_eq!(usage(&stats, Signal::ImageFs, Disks::Images), 0);
    }
}
