//! The cgroup tree of pods: `kubepods/{burstable,besteffort}/pod<UID>`, on v1 and v2, or slices of
//! systemd.
//!
//! The runtime puts containers below a pod's group. The groups hold what belongs to the pod as a
//! whole: its CPU shares and quota, its memory limit, its number of processes.
//!
//! Upstream: `pkg/kubelet/cm`.
//!
//! Deviation: the driver is the configuration's; the runtime is not asked for its own (`RuntimeConfig`,
//! which containerd 1.6 does not have).

mod hierarchy;
mod names;
mod orders;
pub(crate) mod systemd;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use api_cri::v1;
use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use tracing::{debug, warn};

pub(crate) use self::hierarchy::Hierarchy;
use self::{
    names::{Driver, Names},
    systemd::Slices,
};
use crate::{
    config::KubeletConfiguration,
    node::capacity::Machine,
    pod::{PodExt, PodUid},
    qos::{self, Cfs, QosClass},
    quantity,
    stats::group::Group,
};

pub(crate) struct Cgroups {
    hierarchy: Hierarchy,
    names: Names,
    root: PathBuf,
    /// Where the driver is systemd.
    slices: Option<Slices>,
    pids_limit: i64,
    cfs: Cfs,
    kills_single_processes: bool,
    /// Memory and swap of the node, where containers may use swap (`LimitedSwap`).
    swap: Option<(i64, i64)>,
}

/// A group for the system's own processes that is to be limited, and is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to enforce {kind} Reserved Cgroup Limits on \"{group}\": \"{group}\" cgroup does not exist"
)]
pub(crate) struct EnforceError {
    kind: &'static str,
    group: String,
}

/// What a group is allowed; zero or `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub shares: Option<i64>,
    pub quota: Option<i64>,
    /// Microseconds that the quota is for.
    pub period: Option<i64>,
    pub memory: Option<i64>,
    pub pids: Option<i64>,
}

impl Cgroups {
    pub(crate) fn new(hierarchy: Hierarchy, root: &str, pids_limit: i64) -> Self {
        let names = Names::new(Driver::Cgroupfs, root);
        let (root, cfs) = (names.root(), Cfs::default());
        let (slices, kills_single_processes, swap) = (None, false, None);
        Self { hierarchy, names, root, slices, pids_limit, cfs, kills_single_processes, swap }
    }

    /// The same groups as slices of systemd.
    pub(crate) fn with_slices(mut self, slices: Slices, root: &str) -> Self {
        self.names = Names::new(Driver::Systemd, root);
        self.root = self.names.root();
        self.slices = Some(slices);
        self
    }

    /// `cpuCFSQuota`, `cpuCFSQuotaPeriod`, `singleProcessOOMKill` and `memorySwap`.
    pub(crate) fn configured(mut self, config: &KubeletConfiguration, machine: &Machine) -> Self {
        let period = i64::try_from(config.cpu_cfs_quota_period.0.as_micros());
        let period = period.unwrap_or(qos::CPU_PERIOD);
        self.cfs = Cfs { is_enforced: config.cpu_cfs_quota, period };
        // With cgroup v1 the kernel knows nothing else.
        self.kills_single_processes =
            config.single_process_oom_kill.unwrap_or(!self.hierarchy.is_v2());
        let is_limited = config.memory_swap.swap_behavior == "LimitedSwap";
        self.swap = is_limited.then_some((machine.memory, machine.swap));
        self
    }

    /// Makes the groups above pods.
    pub(crate) async fn prepare(&self, allocatable: Limits) -> io::Result<()> {
        self.ensure(&self.root, allocatable).await?;
        let least = Limits { shares: Some(2), ..Limits::default() };
        for class in [QosClass::Burstable, QosClass::BestEffort] {
            self.ensure(&self.names.class(class), least).await?;
        }
        Ok(())
    }

    /// A slice is systemd's first; what systemd does not write is written beside it.
    async fn ensure(&self, path: &Path, limits: Limits) -> io::Result<()> {
        if let Some(slices) = &self.slices {
            slices.ensure(path, limits).await.map_err(io::Error::other)?;
        }
        self.hierarchy.ensure(path, limits)
    }

    /// Of a group that is there.
    fn change(&self, path: &Path, limits: Limits) -> io::Result<()> {
        if let Some(slices) = &self.slices {
            slices.set(path, limits);
        }
        self.hierarchy.ensure(path, limits)
    }

    /// Limits the groups that the system and the kubelet itself run in (`enforceNodeAllocatable`).
    pub(crate) fn enforce_reserved(
        &self,
        config: &KubeletConfiguration,
    ) -> Result<(), EnforceError> {
        let lists = [
            ("System", "system-reserved", &config.system_reserved_cgroup, &config.system_reserved),
            ("Kube", "kube-reserved", &config.kube_reserved_cgroup, &config.kube_reserved),
        ];
        for (kind, key, group, reserved) in lists {
            let is_listed = |key: &str| config.enforce_node_allocatable.iter().any(|it| it == key);
            let is_all = is_listed(key);
            if !is_all && !is_listed(&format!("{key}-compressible")) {
                continue;
            }
            let path = self.names.given(group);
            if !self.hierarchy.exists(&path) {
                return Err(EnforceError { kind, group: group.clone() });
            }
            let limits = reserved_limits(reserved, is_all);
            if let Err(error) = self.change(&path, limits) {
                debug!(group, %error, "a group of the system was not limited");
            }
        }
        Ok(())
    }

    /// The Burstable group weighs what its pods ask for together.
    pub(crate) fn update_qos(&self, pods: &[Arc<Pod>]) {
        let shares = Some(qos::burstable_shares(pods.iter().map(AsRef::as_ref)));
        let path = self.names.class(QosClass::Burstable);
        if let Err(error) = self.change(&path, Limits { shares, ..Limits::default() }) {
            warn!(
                %error, group = %path.display(),
                "the weight of the Burstable group was not changed; look whether the group is there and can be written to"
            );
        }
    }

    /// What the node's configuration says for every container. With cgroup v1 no container has swap
    /// beyond its memory limit.
    pub(crate) fn complete(
        &self,
        pod: &Pod,
        container: &Container,
        resources: &mut v1::LinuxContainerResources,
    ) {
        if resources.cpu_quota > 0 && self.cfs != Cfs::default() {
            // Computed for the usual period.
            let milli = resources.cpu_quota * 1000 / qos::CPU_PERIOD;
            resources.cpu_quota = self.cfs.quota(milli);
        }
        resources.cpu_period = if self.cfs.is_enforced { self.cfs.period } else { 0 };
        if self.hierarchy.is_v2() && !self.kills_single_processes {
            resources.unified.insert("memory.oom.group".to_owned(), "1".to_owned());
        }
        if !self.hierarchy.has_swap_limit(&self.root) {
            return;
        }
        if self.hierarchy.is_v2() {
            let swap = self
                .swap
                .map_or(0, |(memory, swap)| qos::limited_swap(pod, container, memory, swap));
            resources.unified.insert("memory.swap.max".to_owned(), swap.to_string());
        } else {
            resources.memory_swap_limit_in_bytes = resources.memory_limit_in_bytes;
        }
    }

    /// The pod's group as CRI names it.
    pub(crate) fn parent(&self, pod: &Pod) -> String {
        if self.hierarchy == Hierarchy::Unused {
            return String::new();
        }
        format!("/{}", self.names.pod(qos::qos_class(pod), &pod.uid()).display())
    }

    /// A pod with CPUs of its own has no quota.
    pub(crate) async fn ensure_pod(&self, pod: &Pod, has_exclusive_cpus: bool) -> io::Result<()> {
        let path = self.names.pod(qos::qos_class(pod), &pod.uid());
        let mut limits = pod_limits(pod, self.pids_limit, self.cfs);
        if has_exclusive_cpus {
            limits.quota = None;
        }
        self.ensure(&path, limits).await?;
        self.hierarchy.limit_hugepages(&path, &qos::pod_hugepages(pod));
        Ok(())
    }

    /// What a pod's group is allowed.
    pub(crate) fn limits_of(&self, pod: &Pod) -> Limits {
        pod_limits(pod, self.pids_limit, self.cfs)
    }

    /// Changes what the group of a running pod is allowed; what has no limit loses the one it had.
    pub(crate) fn set_pod(&self, pod: &Pod, limits: Limits) -> io::Result<()> {
        let path = self.names.pod(qos::qos_class(pod), &pod.uid());
        let unlimited = |it: Option<i64>| it.filter(|it| *it > 0).or(Some(hierarchy::UNLIMITED));
        let limits =
            Limits { quota: unlimited(limits.quota), memory: unlimited(limits.memory), ..limits };
        self.change(&path, limits)
    }

    /// Removes a pod's group and what is left below it. Says whether all of it is gone: processes
    /// that were killed a moment ago still hold theirs.
    pub(crate) fn remove_pod(&self, uid: &PodUid) -> bool {
        let mut is_gone = true;
        for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            let path = self.names.pod(class, uid);
            let is_there = self.hierarchy.folder("memory", &path).is_some_and(|it| it.exists());
            if let Some(slices) = self.slices.as_ref().filter(|_| is_there) {
                slices.stop(&path);
            }
            let removed = self.hierarchy.remove(&path);
            if let Err(error) = &removed {
                debug!(%uid, %error, "a pod's cgroup is not empty yet");
            }
            is_gone &= removed.is_ok();
        }
        is_gone
    }

    /// The pods that have a group.
    pub(crate) fn pods(&self) -> Vec<PodUid> {
        [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort]
            .into_iter()
            .flat_map(|class| {
                let all = self.hierarchy.children(&self.names.class(class)).into_iter();
                all.filter_map(move |name| self.names.pod_of(class, &name))
            })
            .collect()
    }

    pub(crate) fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// The group that holds all pods.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A group for reading; the empty path is the whole of what this kubelet sees.
    pub(crate) fn group(&self, path: &Path) -> Group<'_> {
        Group::new(&self.hierarchy, path)
    }

    pub(crate) fn pod_group(&self, pod: &Pod) -> Group<'_> {
        self.group(&self.names.pod(qos::qos_class(pod), &pod.uid()))
    }
}

fn reserved_limits(reserved: &BTreeMap<String, String>, is_all: bool) -> Limits {
    let amount = |name: &str| reserved.get(name).map(|it| Quantity(it.clone()));
    let shares = amount("cpu").and_then(|it| quantity::milli(&it)).map(qos::cpu_shares);
    let whole = |name: &str| amount(name).and_then(|it| quantity::value(&it)).filter(|_| is_all);
    Limits { shares, memory: whole("memory"), pids: whole("pid"), ..Limits::default() }
}

fn pod_limits(pod: &Pod, pids_limit: i64, cfs: Cfs) -> Limits {
    let requests = qos::pod_requests(pod);
    let (limits, all_cpu, all_memory) = qos::pod_limits(pod);
    let pids = (pids_limit > 0).then_some(pids_limit);
    match qos::qos_class(pod) {
        QosClass::BestEffort => Limits { shares: Some(2), pids, ..Limits::default() },
        _ => Limits {
            shares: Some(qos::cpu_shares(requests.cpu_milli)),
            quota: all_cpu.then(|| cfs.quota(limits.cpu_milli)),
            period: Some(cfs.period),
            memory: all_memory.then_some(limits.memory),
            pids,
        },
    }
}

#[cfg(test)]
mod tests;
