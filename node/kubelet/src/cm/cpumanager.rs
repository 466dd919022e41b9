//! Gives containers CPUs of their own (policy `static`): those of Guaranteed pods that ask for whole
//! CPUs. All others share what is left.
//!
//! Everything here is a computation on [`State`]; [`reconcile`] brings it to the runtime.
//!
//! Upstream: `pkg/kubelet/cm/cpumanager`.
//!
//! **Invariant:** no CPU is in two assignments of different pods, nor in an assignment and in the shared
//! pool. The file is written before a container can run with what it says.

mod assignment;
mod distribute;
mod options;
pub(crate) mod reconcile;
pub(crate) mod state;

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use tracing::error;

pub(crate) use self::{
    assignment::TakeCpusError,
    options::{Options, ParseOptionsError},
};
use self::{
    assignment::take_packed,
    distribute::take_distributed,
    state::{FILE, State},
};
use super::{
    checkpoint::{self, CheckpointError},
    cpuset::CpuSet,
    requests,
    topology::Topology,
    topologymanager::{
        self,
        hint::{Hint, NumaMask, Wish},
    },
};
use crate::pod::{Kind, PodExt, init_kind};

pub(crate) struct CpuManager {
    policy: Policy,
    topology: Topology,
    pub state: State,
    file: PathBuf,
    /// CPUs of init containers that have ended when the others run, of the pod being admitted.
    reusable: Option<(String, CpuSet)>,
}

enum Policy {
    None,
    Static { options: Options, reserved: CpuSet },
}

/// Why the manager cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewCpuManagerError {
    #[error("unknown policy: \"{0}\"")]
    Policy(String),
    #[error(transparent)]
    Options(#[from] ParseOptionsError),
    #[error(
        "[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero"
    )]
    NothingReserved,
    #[error(
        "[cpumanager] unable to reserve the required amount of CPUs (size of {reserved} did not equal {wanted})"
    )]
    Reserve { reserved: CpuSet, wanted: usize },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("{0}")]
    State(String),
}

/// Why a container does not get its CPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AllocateCpusError {
    #[error(
        "SMT Alignment Error: requested {requested} cpus not multiple cpus per core = {per_core}"
    )]
    SmtAlignment { requested: usize, per_core: usize },
    #[error(transparent)]
    Take(#[from] TakeCpusError),
}

/// What the configuration says of CPUs.
pub(crate) struct Config<'a> {
    pub policy: &'a str,
    pub options: &'a std::collections::BTreeMap<String, String>,
    /// Thousandths of kube-reserved and system-reserved together.
    pub reserved_milli: i64,
    pub reserved_cpus: CpuSet,
}

impl CpuManager {
    pub(crate) fn new(
        config: &Config<'_>,
        topology: Topology,
        root: &Path,
    ) -> Result<Self, NewCpuManagerError> {
        let policy = match config.policy {
            "" | "none" => Policy::None,
            "static" => static_policy(config, &topology)?,
            other => return Err(NewCpuManagerError::Policy(other.to_owned())),
        };
        let file = root.join(FILE);
        let name = policy.name();
        let state = State::load(&file, name)?.unwrap_or_default();
        let mut manager = Self { policy, topology, state, file, reusable: None };
        manager.validate().map_err(NewCpuManagerError::State)?;
        manager.save();
        Ok(manager)
    }

    pub(crate) fn is_static(&self) -> bool {
        matches!(self.policy, Policy::Static { .. })
    }

    /// What was written by an earlier run must fit this machine and this configuration.
    fn validate(&mut self) -> Result<(), String> {
        let Policy::Static { options, reserved } = &self.policy else { return Ok(()) };
        let strict = options.strict_cpu_reservation;
        let mut expected = self.topology.all();
        if strict {
            expected = expected.difference(reserved);
        }
        let state = &mut self.state;
        if state.default.is_empty() {
            if !state.assignments.is_empty() {
                return Err("default cpuset cannot be empty".to_owned());
            }
            state.default = expected;
            return Ok(());
        }
        let shared = &state.default;
        if strict && !reserved.is_disjoint(shared) {
            return Err(format!(
                "some of strictly reserved cpus: \"{reserved}\" are present in defaultCpuSet: \"{shared}\""
            ));
        }
        if !strict && !reserved.is_subset(shared) {
            return Err(format!(
                "not all reserved cpus: \"{reserved}\" are present in defaultCpuSet: \"{shared}\""
            ));
        }
        let mut known = shared.clone();
        for (pod, containers) in &state.assignments {
            for (container, cpus) in containers {
                if !cpus.is_disjoint(shared) {
                    return Err(format!(
                        "pod: {pod}, container: {container} cpuset: \"{cpus}\" overlaps with default cpuset \"{shared}\""
                    ));
                }
                known = known.union(cpus);
            }
        }
        if known != expected {
            return Err(format!(
                "current set of available CPUs \"{expected}\" doesn't match with CPUs in state \"{known}\""
            ));
        }
        Ok(())
    }

    fn save(&self) {
        if let Err(error) = checkpoint::write(&self.file, &self.state.encode(self.policy.name())) {
            error!(file = %self.file.display(), %error, "the CPU manager's state was not written");
        }
    }

    /// The CPUs that a container runs on; `None` where nothing is restricted.
    pub(crate) fn affinity(&self, pod: &str, container: &str) -> Option<&CpuSet> {
        let set = self.state.cpus(pod, container).unwrap_or(&self.state.default);
        (!set.is_empty()).then_some(set)
    }

    pub(crate) fn has_exclusive(&self, pod: &str) -> bool {
        self.state.assignments.contains_key(pod)
    }

    /// What could be given exclusively on an empty node.
    pub(crate) fn allocatable(&self) -> CpuSet {
        match &self.policy {
            Policy::None => CpuSet::default(),
            Policy::Static { reserved, .. } => self.topology.all().difference(reserved),
        }
    }

    fn available(&self) -> CpuSet {
        match &self.policy {
            Policy::None => CpuSet::default(),
            Policy::Static { reserved, .. } => self.state.default.difference(reserved),
        }
    }

    fn reusable_of(&self, pod: &str) -> CpuSet {
        self.reusable.as_ref().filter(|it| it.0 == pod).map(|it| it.1.clone()).unwrap_or_default()
    }

    pub(crate) fn allocate(
        &mut self,
        pod: &Pod,
        container: &Container,
        hint: Option<NumaMask>,
    ) -> Result<(), AllocateCpusError> {
        let Policy::Static { options, .. } = &self.policy else { return Ok(()) };
        let count = requests::exclusive_cpus(pod, container);
        if count == 0 {
            return Ok(());
        }
        let per_core = self.topology.cpus_per_core();
        if options.full_pcpus_only && !count.is_multiple_of(per_core) {
            return Err(AllocateCpusError::SmtAlignment { requested: count, per_core });
        }
        let uid = pod.uid().0;
        if let Some(cpus) = self.state.cpus(&uid, &container.name).cloned() {
            self.note_reusable(&uid, pod, container, &cpus);
            return Ok(());
        }
        let cpus = self.choose(&uid, count, hint)?;
        self.state.default = self.state.default.difference(&cpus);
        let containers = self.state.assignments.entry(uid.clone()).or_default();
        containers.insert(container.name.clone(), cpus.clone());
        self.note_reusable(&uid, pod, container, &cpus);
        self.save();
        Ok(())
    }

    /// From the nodes of the hint as far as they have some, the rest from elsewhere.
    fn choose(
        &self,
        uid: &str,
        count: usize,
        hint: Option<NumaMask>,
    ) -> Result<CpuSet, TakeCpusError> {
        let available = self.available().union(&self.reusable_of(uid));
        let mut cpus = CpuSet::default();
        if let Some(hint) = hint {
            let nodes = self.topology.in_nodes(|it| hint.contains(it));
            let aligned = available.intersection(&nodes);
            cpus = self.take(&aligned, count.min(aligned.len()))?;
        }
        let rest = self.take(&available.difference(&cpus), count - cpus.len())?;
        Ok(cpus.union(&rest))
    }

    fn take(&self, available: &CpuSet, count: usize) -> Result<CpuSet, TakeCpusError> {
        match &self.policy {
            Policy::Static { options, .. } => take(options, &self.topology, available, count),
            Policy::None => Ok(CpuSet::default()),
        }
    }

    /// What an init container holds is there again for the containers after it.
    fn note_reusable(&mut self, uid: &str, pod: &Pod, container: &Container, cpus: &CpuSet) {
        let known = self.reusable_of(uid);
        let mut inits = PodExt::spec(pod).init_containers.iter().flatten();
        let is_init = inits.any(|it| it.name == container.name && init_kind(it) == Kind::Init);
        let now = if is_init { known.union(cpus) } else { known.difference(cpus) };
        self.reusable = Some((uid.to_owned(), now));
    }

    /// Gives back what a pod holds. Says whether the shared pool has changed.
    pub(crate) fn release(&mut self, uid: &str) -> bool {
        if self.reusable.as_ref().is_some_and(|it| it.0 == uid) {
            self.reusable = None;
        }
        let Some(containers) = self.state.assignments.remove(uid) else { return false };
        for cpus in containers.values() {
            self.state.default = self.state.default.union(cpus);
        }
        self.save();
        true
    }

    pub(crate) fn wish(&self, pod: &Pod, container: &Container) -> Wish {
        let count = requests::exclusive_cpus(pod, container);
        if !self.is_static() || count == 0 {
            return Wish::Indifferent;
        }
        let uid = pod.uid().0;
        match self.state.cpus(&uid, &container.name) {
            Some(cpus) if cpus.len() != count => Wish::OneOf(Vec::new()),
            Some(cpus) => Wish::OneOf(self.hints(cpus, &CpuSet::default(), count)),
            None => Wish::OneOf(self.hints(&self.available(), &self.reusable_of(&uid), count)),
        }
    }

    pub(crate) fn pod_wish(&self, pod: &Pod) -> Wish {
        let count = requests::pod_exclusive_cpus(pod);
        if !self.is_static() || count == 0 {
            return Wish::Indifferent;
        }
        let uid = pod.uid().0;
        let mut held = CpuSet::default();
        let spec = PodExt::spec(pod);
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            if let Some(cpus) = self.state.cpus(&uid, &container.name) {
                if cpus.len() != requests::exclusive_cpus(pod, container) {
                    return Wish::OneOf(Vec::new());
                }
                held = held.union(cpus);
            }
        }
        if held.len() == count {
            return Wish::OneOf(self.hints(&held, &CpuSet::default(), count));
        }
        let reusable = self.reusable_of(&uid).union(&held);
        Wish::OneOf(self.hints(&self.available(), &reusable, count))
    }

    fn hints(&self, available: &CpuSet, reusable: &CpuSet, count: usize) -> Vec<Hint> {
        let inside = |mask: NumaMask| self.topology.in_nodes(|it| mask.contains(it));
        topologymanager::hints(
            &self.topology.node_ids(),
            |mask| inside(mask).len() >= count,
            |mask| {
                let inside = inside(mask);
                reusable.is_subset(&inside)
                    && available.intersection(&inside).union(reusable).len() >= count
            },
        )
    }
}

impl Policy {
    fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Static { .. } => "static",
        }
    }
}

fn take(
    options: &Options,
    topology: &Topology,
    available: &CpuSet,
    count: usize,
) -> Result<CpuSet, TakeCpusError> {
    if options.distribute_across_numa {
        let group = if options.full_pcpus_only { topology.cpus_per_core() } else { 1 };
        return take_distributed(topology, available, count, group);
    }
    take_packed(topology, available, count)
}

fn static_policy(config: &Config<'_>, topology: &Topology) -> Result<Policy, NewCpuManagerError> {
    let options = Options::parse(config.options)?;
    if config.reserved_milli <= 0 {
        return Err(NewCpuManagerError::NothingReserved);
    }
    let wanted = usize::try_from(config.reserved_milli).unwrap_or(0).div_ceil(1000);
    let reserved = if config.reserved_cpus.is_empty() {
        take(&options, topology, &topology.all(), wanted).unwrap_or_default()
    } else {
        config.reserved_cpus.clone()
    };
    if reserved.len() != wanted {
        return Err(NewCpuManagerError::Reserve { reserved, wanted });
    }
    Ok(Policy::Static { options, reserved })
}

#[cfg(test)]
mod tests;
