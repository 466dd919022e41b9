//! The cgroup tree of pods: `kubepods/{burstable,besteffort}/pod<UID>`, on v1 and v2.
//!
//! The runtime puts containers below a pod's group. The groups hold what belongs to the pod as a
//! whole: its CPU shares and quota, its memory limit, its number of processes.
//!
//! Upstream: `pkg/kubelet/cm`. Deviation: the driver is `cgroupfs` also where systemd runs.

mod hierarchy;

use std::{
    io,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Pod;
use tracing::debug;

pub(crate) use self::hierarchy::Hierarchy;
use crate::{
    pod::{PodExt, PodUid},
    qos::{self, QosClass},
    stats::group::Group,
};

pub(crate) struct Cgroups {
    hierarchy: Hierarchy,
    root: PathBuf,
    pids_limit: i64,
}

/// What a group is allowed; zero or `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub shares: Option<i64>,
    pub quota: Option<i64>,
    pub memory: Option<i64>,
    pub pids: Option<i64>,
}

impl Cgroups {
    pub(crate) fn new(hierarchy: Hierarchy, root: &str, pids_limit: i64) -> Self {
        let root = PathBuf::from(root.trim_start_matches('/')).join("kubepods");
        Self { hierarchy, root, pids_limit }
    }

    /// Makes the groups above pods.
    pub(crate) fn prepare(&self, allocatable: Limits) -> io::Result<()> {
        self.hierarchy.ensure(&self.root, allocatable)?;
        let least = Limits { shares: Some(2), ..Limits::default() };
        for class in [QosClass::Burstable, QosClass::BestEffort] {
            self.hierarchy.ensure(&self.class(class), least)?;
        }
        Ok(())
    }

    fn class(&self, class: QosClass) -> PathBuf {
        match class {
            QosClass::Guaranteed => self.root.clone(),
            QosClass::Burstable => self.root.join("burstable"),
            QosClass::BestEffort => self.root.join("besteffort"),
        }
    }

    fn pod(&self, class: QosClass, uid: &PodUid) -> PathBuf {
        self.class(class).join(format!("pod{uid}"))
    }

    /// The pod's group as CRI names it.
    pub(crate) fn parent(&self, pod: &Pod) -> String {
        if self.hierarchy == Hierarchy::Unused {
            return String::new();
        }
        format!("/{}", self.pod(qos::qos_class(pod), &pod.uid()).display())
    }

    pub(crate) fn ensure_pod(&self, pod: &Pod) -> io::Result<()> {
        let path = self.pod(qos::qos_class(pod), &pod.uid());
        self.hierarchy.ensure(&path, pod_limits(pod, self.pids_limit))
    }

    /// What a pod's group is allowed.
    pub(crate) fn limits_of(&self, pod: &Pod) -> Limits {
        pod_limits(pod, self.pids_limit)
    }

    /// Changes what the group of a running pod is allowed; what has no limit loses the one it had.
    pub(crate) fn set_pod(&self, pod: &Pod, limits: Limits) -> io::Result<()> {
        let path = self.pod(qos::qos_class(pod), &pod.uid());
        let unlimited = |it: Option<i64>| it.filter(|it| *it > 0).or(Some(hierarchy::UNLIMITED));
        let limits =
            Limits { quota: unlimited(limits.quota), memory: unlimited(limits.memory), ..limits };
        self.hierarchy.ensure(&path, limits)
    }

    /// Removes a pod's group and what is left below it. Says whether all of it is gone: processes
    /// that were killed a moment ago still hold theirs.
    pub(crate) fn remove_pod(&self, uid: &PodUid) -> bool {
        let mut is_gone = true;
        for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            if let Err(error) = self.hierarchy.remove(&self.pod(class, uid)) {
                debug!(%uid, %error, "a pod's cgroup is not empty yet");
                is_gone = false;
            }
        }
        is_gone
    }

    /// The pods that have a group.
    pub(crate) fn pods(&self) -> Vec<PodUid> {
        [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort]
            .into_iter()
            .flat_map(|class| self.hierarchy.children(&self.class(class)))
            .filter_map(|name| name.strip_prefix("pod").map(|it| PodUid(it.to_owned())))
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
        self.group(&self.pod(qos::qos_class(pod), &pod.uid()))
    }
}

fn pod_limits(pod: &Pod, pids_limit: i64) -> Limits {
    let requests = qos::pod_requests(pod);
    let (limits, all_cpu, all_memory) = qos::pod_limits(pod);
    let pids = (pids_limit > 0).then_some(pids_limit);
    match qos::qos_class(pod) {
        QosClass::BestEffort => Limits { shares: Some(2), pids, ..Limits::default() },
        _ => Limits {
            shares: Some(qos::cpu_shares(requests.cpu_milli)),
            quota: all_cpu.then(|| qos::cpu_quota(limits.cpu_milli)),
            memory: all_memory.then_some(limits.memory),
            pids,
        },
    }
}
