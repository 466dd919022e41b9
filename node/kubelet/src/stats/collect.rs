//! The pods' part of the summary.
//!
//! CPU, memory and processes come from the pod's cgroups where there are some, else from the runtime;
//! the sizes of writable layers come from the runtime, logs and volumes from the disk.

use std::collections::HashMap;

use api_cri::v1;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};

use super::{
    Stats, disk,
    group::{Group, GroupStats},
    io, memory,
    model::{
        ContainerStats, FsStats, PodReference, PodStats, ProcessStats, PvcReference,
        VolumeHealthStats, VolumeStats,
    },
    network, swap,
};
use crate::{
    observed::State,
    pod::{PodExt, PodUid},
};

/// The file systems that the parts of containers are on.
struct FileSystems {
    node: Option<FsStats>,
    container: Option<FsStats>,
}

impl Stats {
    /// The volumes that are not of the pod's own: those of CSI drivers as these tell of them, and those
    /// of the host.
    async fn of_drivers(&self, pod: &Pod, now: Timestamp) -> Vec<VolumeStats> {
        let told = self.context.volumes.of_drivers(pod).await.into_iter();
        let reference = |name| PvcReference { name, namespace: pod.namespace().to_owned() };
        told.map(|(name, claim, it)| VolumeStats {
            fs: FsStats {
                time: Time(now),
                available_bytes: size(it.available_bytes),
                capacity_bytes: size(it.capacity_bytes),
                used_bytes: Some(size(it.used_bytes)),
                inodes_free: size(it.inodes_free),
                inodes: size(it.inodes),
                inodes_used: Some(size(it.inodes_used)),
            },
            name,
            pvc_ref: claim.map(reference),
            volume_health_stats: it.abnormal.map(|abnormal| VolumeHealthStats { abnormal }),
            is_local: false,
        })
        .collect()
    }

    /// The volumes of the node's pods that were claimed.
    pub(crate) async fn claims(&self) -> Vec<VolumeStats> {
        let (pods, now) = (self.workers.pods(), self.context.clock.now());
        let asked = join_all(pods.iter().map(|it| self.of_drivers(it, now))).await;
        asked.into_iter().flatten().filter(|it| it.pvc_ref.is_some()).collect()
    }

    pub(super) async fn pods(
        &self,
        pods: &[Pod],
        now: Timestamp,
        with_disks: bool,
    ) -> Vec<PodStats> {
        self.retain(pods);
        let told = self.context.runtime.container_stats().await.unwrap_or_default();
        let told: HashMap<String, v1::ContainerStats> = told
            .into_iter()
            .filter_map(|it| Some((it.attributes.as_ref()?.id.clone(), it)))
            .collect();
        let systems = match with_disks {
            true => FileSystems {
                node: disk::file_system(self.context.paths.root(), now),
                container: self.container_fs(now).await,
            },
            false => FileSystems { node: None, container: None },
        };
        // Side by side, so that they wait together for what hangs.
        let asked = pods.iter().map(|pod| self.pod(pod, &told, &systems, now));
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// `None` for a pod of which nothing runs.
    async fn pod(
        &self,
        pod: &Pod,
        told: &HashMap<String, v1::ContainerStats>,
        systems: &FileSystems,
        now: Timestamp,
    ) -> Option<PodStats> {
        let uid = pod.uid();
        let observed = self.workers.observed(&uid)?;
        let sandbox = observed.ready_sandbox()?;
        let group = self.context.cgroups.pod_group(pod);
        let mut containers = Vec::new();
        for container in observed.containers.iter().filter(|it| it.is_running()) {
            let State::Running { started } = container.state else { continue };
            let told = told.get(&container.id);
            let stats = self.container_group(&group, &container.id, told);
            containers.push(ContainerStats {
                name: container.name.clone(),
                start_time: Some(Time(started)),
                cpu: Some(self.cpu(&container.id, &stats, now)),
                memory: Some(memory(&stats, now)),
                io: io(&stats, now),
                rootfs: systems.container.as_ref().map(|fs| rootfs(fs, told)),
                logs: match &systems.node {
                    Some(fs) => Some(self.logs(pod, &container.name, fs).await),
                    None => None,
                },
                swap: Some(swap(&stats, now)),
                id: container.id.clone(),
                image: container.image.clone(),
            });
        }
        let stats = match group.exists() {
            true => group.read(),
            false => sum(&containers),
        };
        let process = group.first_process().map(|it| it.to_string());
        let network = process
            .filter(|_| !sandbox.is_host_network)
            .and_then(|pid| network::of_process(&self.context.settings.proc, &pid, now));
        let mut volume = match systems.node {
            Some(_) => self.volumes.of(pod, &self.context.paths, now).await,
            None => Vec::new(),
        };
        volume.extend(self.of_drivers(pod, now).await);
        Some(PodStats {
            pod_ref: PodReference {
                name: pod.name().to_owned(),
                namespace: pod.namespace().to_owned(),
                uid: uid.0.clone(),
            },
            start_time: self.start_time(&uid),
            cpu: Some(self.cpu(&uid.0, &stats, now)),
            memory: Some(memory(&stats, now)),
            io: io(&stats, now),
            network,
            ephemeral_storage: systems.node.as_ref().map(|it| ephemeral(it, &containers, &volume)),
            process_stats: Some(ProcessStats { process_count: stats.threads }),
            volume,
            containers,
            swap: Some(swap(&stats, now)),
        })
    }

    fn start_time(&self, uid: &PodUid) -> Option<Time> {
        self.context.statuses.get(uid)?.start_time
    }

    /// A container's own group, or what the runtime says of it.
    pub(crate) fn container_group(
        &self,
        pod: &Group<'_>,
        id: &str,
        told: Option<&v1::ContainerStats>,
    ) -> GroupStats {
        let group = pod.container(id);
        if group.exists() {
            return group.read();
        }
        let value = |it: Option<v1::UInt64Value>| it.map_or(0, |it| it.value);
        let cpu = told.and_then(|it| it.cpu.as_ref());
        let memory = told.and_then(|it| it.memory.as_ref());
        GroupStats {
            cpu_nanos: value(cpu.and_then(|it| it.usage_core_nano_seconds)),
            working_set: value(memory.and_then(|it| it.working_set_bytes)),
            memory_usage: value(memory.and_then(|it| it.working_set_bytes)),
            ..GroupStats::default()
        }
    }

    async fn logs(&self, pod: &Pod, container: &str, fs: &FsStats) -> FsStats {
        let folder = self.context.paths.pod_logs(pod).join(container);
        let walking = tokio::task::spawn_blocking(move || disk::usage(&folder));
        let used = walking.await.unwrap_or_default();
        FsStats { used_bytes: Some(used.bytes), inodes_used: Some(used.inodes), ..fs.clone() }
    }
}

fn rootfs(fs: &FsStats, told: Option<&v1::ContainerStats>) -> FsStats {
    let layer = told.and_then(|it| it.writable_layer.as_ref());
    FsStats {
        used_bytes: layer.and_then(|it| it.used_bytes).map(|it| it.value),
        inodes_used: layer.and_then(|it| it.inodes_used).map(|it| it.value),
        ..fs.clone()
    }
}

/// A size as a driver tells it.
fn size(told: i64) -> u64 {
    u64::try_from(told).unwrap_or_default()
}

/// What a pod takes of the node's disk: layers, logs, and the volumes that are on it.
fn ephemeral(fs: &FsStats, containers: &[ContainerStats], volumes: &[VolumeStats]) -> FsStats {
    let parts = containers.iter().flat_map(|it| [&it.rootfs, &it.logs]).flatten();
    let parts = parts.chain(volumes.iter().filter(|it| it.is_local).map(|it| &it.fs));
    let (mut bytes, mut inodes) = (0, 0);
    for part in parts {
        bytes += part.used_bytes.unwrap_or(0);
        inodes += part.inodes_used.unwrap_or(0);
    }
    FsStats { used_bytes: Some(bytes), inodes_used: Some(inodes), ..fs.clone() }
}

fn sum(containers: &[ContainerStats]) -> GroupStats {
    let mut sum = GroupStats::default();
    for container in containers {
        sum.cpu_nanos += container.cpu.as_ref().map_or(0, |it| it.usage_core_nano_seconds);
        let memory = container.memory.as_ref();
        sum.working_set += memory.map_or(0, |it| it.working_set_bytes);
        sum.memory_usage += memory.map_or(0, |it| it.usage_bytes);
    }
    sum
}
