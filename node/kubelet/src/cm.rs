//! Which CPUs, memory and devices of the node a container gets.
//!
//! Pods are admitted one after the other: each manager says from which NUMA nodes it could serve a
//! container, the topology manager decides, the managers give. What is given is in files, so that a
//! kubelet that is started again knows it.
//!
//! Upstream: `pkg/kubelet/cm/container_manager_linux.go`,
//! `pkg/kubelet/cm/internal_container_lifecycle_linux.go`.

pub(crate) mod admission;
mod checkpoint;
pub(crate) mod cpumanager;
pub(crate) mod cpuset;
pub(crate) mod devicemanager;
pub(crate) mod dra;
pub(crate) mod memorymanager;
pub(crate) mod podresources;
pub(crate) mod requests;
pub(crate) mod reservation;
pub(crate) mod topology;
pub(crate) mod topologymanager;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use api_cri::v1;
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodStatus},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::Client;
use lifecycle::Scope;
use parking_lot::Mutex;
use tokio::sync::{MutexGuard, Notify, watch};

use self::{
    cpumanager::{CpuManager, reconcile},
    devicemanager::{DeviceManager, Devices},
    dra::DraManager,
    memorymanager::{MemoryManager, state::Block},
    topology::Topology,
    topologymanager::{TopologyManager, numa::Numa},
};
use crate::{
    cri::Runtime,
    metrics::Metrics,
    node::{StatusWake, capacity::Machine},
    pod::{PodExt, PodUid},
    pod_workers::PodWorkers,
    settings::Settings,
};

pub(crate) struct ContainerManager {
    topology: TopologyManager,
    cpu: Mutex<CpuManager>,
    memory: Mutex<MemoryManager>,
    pub devices: Arc<DeviceManager>,
    pub dra: Arc<DraManager>,
    metrics: Arc<Metrics>,
    /// Held while a pod is admitted.
    turn: tokio::sync::Mutex<()>,
    changed: Arc<Notify>,
    /// Whether the pods of this node are known, and what others left behind is removed.
    is_settled: watch::Sender<bool>,
}

/// Why the managers cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewContainerManagerError {
    #[error("failed to create the topology manager")]
    Topology(#[from] topologymanager::NewTopologyManagerError),
    #[error("failed to create the CPU manager")]
    Cpu(#[from] cpumanager::NewCpuManagerError),
    #[error("failed to create the memory manager")]
    Memory(#[from] memorymanager::NewMemoryManagerError),
    #[error(transparent)]
    Reservation(#[from] reservation::ReservationError),
    #[error("create ResourceClaim cache")]
    Dra(#[source] checkpoint::CheckpointError),
}

impl ContainerManager {
    pub(crate) fn new(
        settings: &Settings,
        machine: &Machine,
        scope: Scope,
        (client, metrics): (Client, Arc<Metrics>),
    ) -> Result<Self, NewContainerManagerError> {
        let (config, root) = (&settings.config, Path::new(&settings.root_dir));
        let total = u64::try_from(machine.memory).unwrap_or(0);
        let topology = Topology::read(&settings.sys, total);
        let changed = Arc::new(Notify::new());
        let cpu = cpumanager::Config {
            policy: &config.cpu_manager_policy,
            options: &config.cpu_manager_policy_options,
            reserved_milli: reservation::reserved_cpu_milli(config),
            reserved_cpus: reservation::reserved_cpus(config)?,
        };
        let cpu = CpuManager::new(&cpu, topology.clone(), root)?;
        let memory = MemoryManager::new(
            &config.memory_manager_policy,
            &reservation::memory_by_node(config)?,
            &reservation::memory_in_all(config, machine),
            &topology,
            root,
        )?;
        let dra = DraManager::new(dra::Parts {
            client,
            node: &settings.node_name,
            root,
            metrics: metrics.clone(),
            scope: scope.clone(),
            changed: changed.clone(),
        });
        Ok(Self {
            topology: TopologyManager::new(
                &config.topology_manager_policy,
                &config.topology_manager_scope,
                &config.topology_manager_policy_options,
                Numa::of(&topology),
            )?,
            cpu: Mutex::new(cpu),
            memory: Mutex::new(memory),
            dra: Arc::new(dra.map_err(NewContainerManagerError::Dra)?),
            devices: Arc::new(DeviceManager::new(
                root,
                topology.node_ids(),
                scope,
                changed.clone(),
            )),
            metrics,
            turn: tokio::sync::Mutex::default(),
            changed,
            is_settled: watch::channel(false).0,
        })
    }

    /// Pods are admitted one after the other.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Tells the node's status and the pods of changed devices, and moves containers to their CPUs.
    pub(crate) async fn run(
        self: Arc<Self>,
        runtime: Runtime,
        workers: Arc<PodWorkers>,
        wake: StatusWake,
        period: std::time::Duration,
    ) {
        let mut applied = reconcile::Applied::new();
        let is_static = self.cpu.lock().is_static();
        let period = reconcile::period(period);
        loop {
            if is_static {
                let affinity = |uid: &PodUid, container: &str| {
                    // A pod that is not known yet keeps what it has.
                    workers.pod(uid)?;
                    self.cpu.lock().affinity(&uid.0, container).map(ToString::to_string)
                };
                reconcile::apply(&runtime, &mut applied, affinity).await;
                drop(tokio::time::timeout(period, self.changed.notified()).await);
            } else {
                self.changed.notified().await;
            }
            let affected = self.devices.take_affected().into_iter();
            for uid in affected.chain(self.dra.take_affected()) {
                workers.notify(&PodUid(uid));
            }
            wake.wake();
        }
    }

    /// A pod is over: what it had is there for others.
    pub(crate) fn release(&self, uid: &PodUid) {
        self.memory.lock().release(&uid.0);
        self.devices.release(&uid.0);
        if self.cpu.lock().release(&uid.0) {
            self.changed.notify_one();
        }
    }

    /// The pods of this node are known: what the files hold for others is free.
    pub(crate) fn settle(&self, is_known: impl Fn(&PodUid) -> bool) {
        self.remove_stale(is_known);
        self.is_settled.send_replace(true);
    }

    /// Waits until the pods of this node are known.
    pub(crate) async fn settled(&self) {
        // The sender lives in `self`, so this cannot fail.
        drop(self.is_settled.subscribe().wait_for(|it| *it).await);
    }

    /// Takes back what pods have that are no more.
    pub(crate) fn remove_stale(&self, is_known: impl Fn(&PodUid) -> bool) {
        let mut holders = self.devices.pods();
        holders.extend(self.cpu.lock().state.assignments.keys().cloned());
        holders.extend(self.memory.lock().state.assignments.keys().cloned());
        for uid in holders.into_iter().map(PodUid).filter(|it| !is_known(it)) {
            self.release(&uid);
        }
    }

    /// Adds what a container has been given to its configuration.
    pub(crate) async fn apply(
        &self,
        pod: &Pod,
        container: &Container,
        config: &mut v1::ContainerConfig,
    ) -> Result<(), String> {
        let dynamic = self.dra.cdi_devices(pod, container)?.into_iter();
        config.cdi_devices.extend(dynamic.map(|name| v1::CdiDevice { name }));
        let applied = self.devices.apply(pod, container, config).await;
        applied.map_err(|error| error.to_string())?;
        let Some(resources) = config.linux.as_mut().and_then(|it| it.resources.as_mut()) else {
            return Ok(());
        };
        self.pin(pod, container, resources);
        // A new group has none, and crun cannot say so to a v1 hierarchy.
        resources.cpu_quota = resources.cpu_quota.max(0);
        Ok(())
    }

    /// Adds the CPUs and the nodes of memory that a container may use.
    pub(crate) fn pin(
        &self,
        pod: &Pod,
        container: &Container,
        resources: &mut v1::LinuxContainerResources,
    ) {
        let uid = pod.uid().0;
        if let Some(cpus) = self.cpu.lock().affinity(&uid, &container.name) {
            resources.cpuset_cpus = cpus.to_string();
        }
        if self.has_exclusive_cpus(pod, Some(&container.name)) {
            // CPUs of its own are not taken away again by a quota.
            resources.cpu_quota = -1;
        }
        let nodes = self.memory.lock().nodes(&uid, &container.name);
        let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
        resources.cpuset_mems = nodes.join(",");
    }

    /// Whether a container, or any of the pod, has CPUs of its own.
    pub(crate) fn has_exclusive_cpus(&self, pod: &Pod, container: Option<&str>) -> bool {
        let uid = pod.uid().0;
        let cpu = self.cpu.lock();
        match container {
            Some(container) => cpu.state.cpus(&uid, container).is_some(),
            None => cpu.has_exclusive(&uid),
        }
    }

    /// The extended resources of the node: capacity and allocatable.
    pub(crate) fn extended_resources(
        &self,
    ) -> (BTreeMap<String, Quantity>, BTreeMap<String, Quantity>) {
        let counts = self.devices.counts();
        let list = |of: fn(&(usize, usize)) -> usize| {
            let counts = counts.iter();
            counts.map(|(name, it)| (name.clone(), Quantity(of(it).to_string()))).collect()
        };
        (list(|it| it.0), list(|it| it.1))
    }

    /// Tells the health of the devices that a pod's containers have.
    pub(crate) fn add_to_status(&self, pod: &Pod, status: &mut PodStatus) {
        let uid = pod.uid().0;
        let lists = [&mut status.init_container_statuses, &mut status.container_statuses];
        for container in lists.into_iter().flatten().flatten() {
            let mut devices = self.devices.status(&uid, &container.name);
            let mut specs = PodExt::spec(pod).containers.iter();
            if let Some(spec) = specs.find(|it| it.name == container.name) {
                devices.extend(self.dra.status(pod, spec));
            }
            if !devices.is_empty() {
                container.allocated_resources_status = Some(devices);
            }
        }
    }

    /// CPUs, memory and devices that only this container has.
    fn of_container(&self, pod: &Pod, container: &str) -> (Vec<i64>, Vec<Block>, Devices) {
        let uid = pod.uid().0;
        let cpus = self.cpu.lock().state.cpus(&uid, container).cloned().unwrap_or_default();
        let memory = self.memory.lock().state.blocks(&uid, container).cloned().unwrap_or_default();
        let devices = self.devices.of_container(&uid, container);
        (cpus.iter().map(i64::from).collect(), memory, devices)
    }

    fn allocatable(&self) -> (Vec<i64>, Vec<Block>, Devices) {
        let cpus = self.cpu.lock().allocatable();
        let memory = self.memory.lock().allocatable();
        (cpus.iter().map(i64::from).collect(), memory, self.devices.allocatable())
    }
}
