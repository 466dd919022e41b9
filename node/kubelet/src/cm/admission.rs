//! Gives a pod what it asks for, or says why it cannot have it.
//!
//! Upstream: `pkg/kubelet/cm/topologymanager/scope_{container,pod,none}.go`,
//! `pkg/kubelet/cm/admission/errors.go`.
//!
//! **Invariant:** a pod that is refused holds nothing.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{
    ContainerManager,
    cpumanager::AllocateCpusError,
    devicemanager::AllocateDevicesError,
    memorymanager::AllocateMemoryError,
    topologymanager::{
        Policy, Scope,
        hint::{Hint, Wish},
    },
};
use crate::pod::PodExt;

/// Why a pod is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AllocateError {
    #[error("Resources cannot be allocated with Topology locality")]
    TopologyAffinity,
    #[error("{0}")]
    SmtAlignment(AllocateCpusError),
    #[error("Allocate failed due to {0}, which is unexpected")]
    Unexpected(String),
}

impl AllocateError {
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::TopologyAffinity => "TopologyAffinityError",
            Self::SmtAlignment(_) => "SMTAlignmentError",
            Self::Unexpected(_) => "UnexpectedAdmissionError",
        }
    }
}

impl From<AllocateCpusError> for AllocateError {
    fn from(error: AllocateCpusError) -> Self {
        match error {
            AllocateCpusError::SmtAlignment { .. } => Self::SmtAlignment(error),
            AllocateCpusError::Take(_) => Self::Unexpected(error.to_string()),
        }
    }
}

impl From<AllocateMemoryError> for AllocateError {
    fn from(error: AllocateMemoryError) -> Self {
        Self::Unexpected(error.to_string())
    }
}

impl From<AllocateDevicesError> for AllocateError {
    fn from(error: AllocateDevicesError) -> Self {
        Self::Unexpected(error.to_string())
    }
}

const ANY: Hint = Hint { affinity: None, is_preferred: true };

impl ContainerManager {
    /// Called in its turn. Asking again for a pod that has everything changes nothing.
    pub(crate) async fn allocate(&self, pod: &Pod) -> Result<(), AllocateError> {
        let begun = tokio::time::Instant::now();
        let result = self.try_allocate(pod).await;
        const TOPOLOGY: [&str; 3] = [
            "kubelet_topology_manager_admission_requests_total",
            "kubelet_topology_manager_admission_errors_total",
            "kubelet_topology_manager_admission_duration_ms",
        ];
        self.count(&TOPOLOGY, result.is_err());
        // Milliseconds, where other families have seconds.
        self.metrics.observe(TOPOLOGY[2], &[], begun.elapsed() * 1000);
        result
    }

    fn count(&self, names: &[&'static str], has_failed: bool) {
        self.metrics.add(names[0], &[], 1.0);
        if has_failed {
            self.metrics.add(names[1], &[], 1.0);
        }
    }

    async fn try_allocate(&self, pod: &Pod) -> Result<(), AllocateError> {
        let mut result = self.allocate_all(pod).await;
        // After a start, what is missing may be held by a pod that is no more. Static pods run
        // whether or not the API can be asked.
        if result.is_err() && !pod.is_mirror_or_static() && !*self.is_settled.borrow() {
            self.release(&pod.uid());
            self.settled().await;
            result = self.allocate_all(pod).await;
        }
        if result.is_err() {
            self.release(&pod.uid());
        } else if self.has_exclusive_cpus(pod, None) {
            // The others have to leave them.
            self.changed.notify_one();
        }
        result
    }

    async fn allocate_all(&self, pod: &Pod) -> Result<(), AllocateError> {
        let spec = PodExt::spec(pod);
        let containers: Vec<&Container> =
            spec.init_containers.iter().flatten().chain(&spec.containers).collect();
        let is_pod_scope = self.topology.scope == Scope::Pod;
        let mut hint = ANY;
        if self.topology.policy != Policy::None && is_pod_scope {
            hint = self.merge(self.pod_wishes(pod, &containers))?;
        }
        for container in containers {
            if self.topology.policy != Policy::None && !is_pod_scope {
                hint = self.merge(self.wishes(pod, container))?;
            }
            self.devices.allocate(pod, container, hint.affinity).await?;
            let given = self.cpu.lock().allocate(pod, container, hint.affinity);
            if given.is_err() || self.has_exclusive_cpus(pod, Some(&container.name)) {
                const CPUS: [&str; 2] = [
                    "kubelet_cpu_manager_pinning_requests_total",
                    "kubelet_cpu_manager_pinning_errors_total",
                ];
                self.count(&CPUS, given.is_err());
            }
            given?;
            let given = self.memory.lock().allocate(pod, container, hint);
            if given.is_err() || self.has_own_memory(pod, container) {
                const MEMORY: [&str; 2] = [
                    "kubelet_memory_manager_pinning_requests_total",
                    "kubelet_memory_manager_pinning_errors_total",
                ];
                self.count(&MEMORY, given.is_err());
            }
            given?;
        }
        Ok(())
    }

    fn has_own_memory(&self, pod: &Pod, container: &Container) -> bool {
        !self.memory.lock().nodes(&pod.uid().0, &container.name).is_empty()
    }

    fn merge(&self, wishes: Vec<Wish>) -> Result<Hint, AllocateError> {
        let (hint, is_admitted) = self.topology.merge(&wishes);
        if is_admitted { Ok(hint) } else { Err(AllocateError::TopologyAffinity) }
    }

    fn wishes(&self, pod: &Pod, container: &Container) -> Vec<Wish> {
        let mut wishes = self.devices.wishes(pod, &[container]);
        wishes.push(self.cpu.lock().wish(pod, container));
        wishes.extend(self.memory.lock().wishes(pod, container));
        wishes
    }

    fn pod_wishes(&self, pod: &Pod, containers: &[&Container]) -> Vec<Wish> {
        // Init containers hand their devices on, so the regular ones are what counts.
        let spec = PodExt::spec(pod);
        let regular: Vec<&Container> = spec.containers.iter().collect();
        let counted = if regular.is_empty() { containers } else { &regular };
        let mut wishes = self.devices.wishes(pod, counted);
        wishes.push(self.cpu.lock().pod_wish(pod));
        wishes.extend(self.memory.lock().pod_wishes(pod));
        wishes
    }
}
