//! What the parts of the node use that are no pods, and all pods together: `systemContainers`.
//!
//! Upstream: `pkg/kubelet/server/stats/summary_sys_containers.go`.
//!
//! Deviation: `kubelet` and `runtime` are their processes alone, without shims, wherever they are; upstream
//! tells of the cgroups that `kubeletCgroups` and `--runtime-cgroups` name, which on EKS are those of the
//! units.

use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Stats,
    group::{self, Group},
    io, memory,
    model::{ContainerStats, MemoryStats},
    swap,
};

impl Stats {
    pub(super) async fn system_containers(&self, now: Timestamp) -> Vec<ContainerStats> {
        let config = &self.context.settings.config;
        let runtime = api_cri::server_pid(&config.container_runtime_endpoint).await;
        let all_pods = self.context.cgroups.group(self.context.cgroups.root());
        let pods = self.group("pods", &all_pods, now).map(|pods| {
            let allocatable = self.context.machine.allocatable_absolute(config);
            let allocatable = u64::try_from(allocatable).unwrap_or(0);
            let memory = pods.memory.map(|it| MemoryStats {
                available_bytes: Some(allocatable.saturating_sub(it.working_set_bytes)),
                ..it
            });
            ContainerStats { memory, ..pods }
        });
        let system = Some(config.system_cgroups.trim_start_matches('/'));
        let system = system.filter(|it| !it.is_empty()).map(Path::new);
        let misc = system.and_then(|it| self.group("misc", &self.context.cgroups.group(it), now));
        let kubelet = self.process("kubelet", "self", now);
        let runtime = runtime.and_then(|it| self.process("runtime", &it.to_string(), now));
        [pods, kubelet, runtime, misc].into_iter().flatten().collect()
    }

    fn group(&self, name: &str, group: &Group<'_>, now: Timestamp) -> Option<ContainerStats> {
        if !group.exists() {
            return None;
        }
        let stats = group.read();
        Some(ContainerStats {
            name: name.to_owned(),
            start_time: group.made_at().map(Time),
            cpu: Some(self.cpu(&format!("system/{name}"), &stats, now)),
            memory: Some(memory(&stats, now)),
            io: io(&stats, now),
            swap: Some(swap(&stats, now)),
            ..ContainerStats::default()
        })
    }

    fn process(&self, name: &str, pid: &str, now: Timestamp) -> Option<ContainerStats> {
        let proc = &self.context.settings.proc;
        let stats = group::process(proc, pid)?;
        let began = self.boot_time().zip(group::process_start(proc, pid));
        Some(ContainerStats {
            name: name.to_owned(),
            start_time: began.map(|(boot, after)| Time(boot + after)),
            cpu: Some(self.cpu(&format!("system/{name}"), &stats, now)),
            memory: Some(memory(&stats, now)),
            swap: Some(swap(&stats, now)),
            ..ContainerStats::default()
        })
    }
}
