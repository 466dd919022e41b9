//! A pod's status, computed from what the runtime holds.
//!
//! Pure: [`generate`] is told everything and returns the status as it should be in the API.
//!
//! Upstream: `generateAPIPodStatus`, `getPhase`, `convertToAPIContainerStatuses` in
//! `pkg/kubelet/kubelet_pods.go`, `pkg/kubelet/status/generate.go`.
//!
//! **Invariant:** a pod whose phase is `Succeeded` or `Failed` never leaves it.

mod conditions;
mod containers;
mod ended;
pub(crate) mod manager;
mod phase;

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

pub(crate) use self::{conditions::is_restarting, phase::Phase};
use crate::{
    allocation::{ResizeState, Resources, WHOLE},
    observed::RuntimePod,
    plan::{ProbeStates, Waiting},
    pod::{Kind, PodExt},
    qos,
};

pub(crate) struct Input<'a> {
    pub pod: &'a Pod,
    pub observed: &'a RuntimePod,
    pub probes: &'a ProbeStates,
    /// Why containers that should run do not.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// The pod is ended by the kubelet: when it has ended, its phase is failed, with this reason and
    /// message.
    pub verdict: Option<&'a Verdict>,
    /// Everything of the pod has ended and nothing will start.
    pub is_over: bool,
    pub previous: &'a PodStatus,
    pub host_ips: &'a [IpAddr],
    pub messages: &'a BTreeMap<String, String>,
    /// The pod's volumes have been made: nothing but its sandbox is missing for its containers.
    pub is_prepared: bool,
    /// A rule says that all containers start anew, and they have not ended yet.
    pub restarts_all: bool,
    pub resize: &'a ResizeState,
    /// The resources that containers were last given, by name.
    pub actuated: &'a Resources,
    /// Whether statuses tell how containers are asked to end.
    pub tells_stop_signals: bool,
    pub now: Timestamp,
}

/// Why the kubelet ended or refused a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub reason: String,
    pub message: String,
}

/// How the status of a pod that was not admitted begins.
const REJECTED: &str = "Pod was rejected: ";

impl Verdict {
    /// Of a pod that is not admitted.
    pub(crate) fn rejected(reason: &str, message: String) -> Self {
        Self { reason: reason.to_owned(), message: format!("{REJECTED}{message}") }
    }

    fn is_rejection(&self) -> bool {
        self.message.starts_with(REJECTED)
    }

    /// The message as the event has it.
    pub(crate) fn event(&self) -> &str {
        self.message.strip_prefix(REJECTED).unwrap_or(&self.message)
    }

    /// The message of the `DisruptionTarget` condition: of a disruption that the pod had no part in,
    /// so that its retries are not counted.
    pub(crate) fn disruption(&self) -> Option<&str> {
        let is_pressure = self.message.starts_with("The node was low on resource");
        match self.reason.as_str() {
            "Evicted" if is_pressure => Some(&self.message),
            "Terminated" => Some(&self.message),
            "Preempting" => Some("Pod was preempted by Kubelet to accommodate a critical pod."),
            _ => None,
        }
    }
}

pub(crate) fn generate(input: &Input<'_>) -> PodStatus {
    if input.is_over && is_rejected(input) && !conditions::are_told(input.previous) {
        return rejected(input);
    }
    let pod = input.pod;
    let spec = PodExt::spec(pod);
    let init = spec.init_containers.iter().flatten();
    let mut init_statuses: Vec<_> =
        init.map(|it| containers::status(input, crate::pod::init_kind(it), it)).collect();
    let mut statuses: Vec<_> =
        spec.containers.iter().map(|it| containers::status(input, Kind::Regular, it)).collect();
    let mut ephemeral: Vec<_> = pod
        .all_containers()
        .iter()
        .filter(|(kind, _)| *kind == Kind::Ephemeral)
        .map(|(kind, it)| containers::status(input, *kind, it))
        .collect();
    let phase = phase::of(input, &init_statuses, &statuses);
    if input.is_over && !input.verdict.is_some_and(Verdict::is_rejection) {
        ended::fill(&mut init_statuses, &mut statuses);
    }
    if is_rejected(input) {
        // Nothing is said of containers that were never to be; clients show the reason then.
        [&mut init_statuses, &mut statuses, &mut ephemeral].into_iter().for_each(Vec::clear);
    }
    cut_messages([&mut init_statuses, &mut statuses, &mut ephemeral]);
    let (reason, message) = words(input, phase);
    let mut status = PodStatus {
        phase: Some(phase.name().to_owned()),
        reason,
        message,
        start_time: Some(input.previous.start_time.clone().unwrap_or(Time(input.now))),
        qos_class: Some(qos::qos_class(pod).name().to_owned()),
        observed_generation: pod.metadata.generation,
        container_statuses: (!statuses.is_empty()).then_some(statuses),
        init_container_statuses: (!init_statuses.is_empty()).then_some(init_statuses),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        ..PodStatus::default()
    };
    whole(input, &mut status);
    addresses(input, &mut status);
    status.conditions = Some(conditions::all(input, phase, &status));
    keep_others(input.previous, &mut status);
    by_name(&mut status);
    status
}

/// Clients see containers by their names, and init containers in the order in which they run.
fn by_name(status: &mut PodStatus) {
    let lists = [&mut status.container_statuses, &mut status.ephemeral_container_statuses];
    for list in lists.into_iter().flatten() {
        list.sort_by(|one, other| one.name.cmp(&other.name));
    }
}

/// The status of a pod that was not admitted: of its containers, volumes and addresses there is nothing to
/// tell. Upstream: `rejectPod` in `pkg/kubelet/kubelet.go`.
fn rejected(input: &Input<'_>) -> PodStatus {
    let (reason, message) = words(input, Phase::Failed);
    let mut status = PodStatus {
        phase: Some(Phase::Failed.name().to_owned()),
        reason,
        message,
        start_time: Some(input.previous.start_time.clone().unwrap_or(Time(input.now))),
        qos_class: Some(qos::qos_class(input.pod).name().to_owned()),
        observed_generation: input.pod.metadata.generation,
        conditions: conditions::of_others(input.previous),
        ..PodStatus::default()
    };
    keep_others(input.previous, &mut status);
    status
}

/// Whether the pod was not admitted, by this run of the kubelet or an earlier one.
fn is_rejected(input: &Input<'_>) -> bool {
    let told = input.previous.message.as_deref().unwrap_or_default();
    let was_rejected =
        input.previous.phase.as_deref() == Some(Phase::Failed.name()) && told.starts_with(REJECTED);
    input.verdict.is_some_and(Verdict::is_rejection) || was_rejected
}

/// What is promised to the pod as a whole, and what it has.
fn whole(input: &Input<'_>, status: &mut PodStatus) {
    let Some(promised) = qos::pod_level(input.pod) else { return };
    let requests = promised.requests.clone();
    status.allocated_resources = requests.filter(|it| !it.is_empty());
    let has = input.actuated.get(WHOLE).unwrap_or(promised);
    status.resources = Some(has.clone());
}

/// The reason and message that belong to the phase.
fn words(input: &Input<'_>, phase: Phase) -> (Option<String>, Option<String>) {
    match input.verdict.filter(|_| input.is_over) {
        Some(it) => (Some(it.reason.clone()), Some(it.message.clone())),
        None if input.previous.phase.as_deref() == Some(phase.name()) => {
            (input.previous.reason.clone(), input.previous.message.clone())
        }
        None => (None, None),
    }
}

fn addresses(input: &Input<'_>, status: &mut PodStatus) {
    let hosts = input.host_ips;
    status.host_ip = hosts.first().map(IpAddr::to_string);
    status.host_ips =
        (!hosts.is_empty()).then(|| hosts.iter().map(|it| HostIP { ip: it.to_string() }).collect());
    let own = if input.pod.is_host_network() { hosts } else { input.observed.ips() };
    if own.is_empty() {
        // The address of a pod that has ended stays in its status.
        status.pod_ip = input.previous.pod_ip.clone();
        status.pod_ips = input.previous.pod_ips.clone();
        return;
    }
    status.pod_ip = own.first().map(IpAddr::to_string);
    status.pod_ips = Some(own.iter().map(|it| PodIP { ip: it.to_string() }).collect());
}

/// What others write into the status stays.
pub(crate) fn keep_others(previous: &PodStatus, status: &mut PodStatus) {
    let theirs = previous.clone();
    status.nominated_node_name = theirs.nominated_node_name;
    status.resource_claim_statuses = theirs.resource_claim_statuses;
    status.extended_resource_claim_status = theirs.extended_resource_claim_status;
    status.node_allocatable_resource_claim_statuses =
        theirs.node_allocatable_resource_claim_statuses;
    status.resize = theirs.resize;
}

/// Upstream's `MaxPodTerminationMessageLogLength`: of all containers together.
const MESSAGES_LIMIT: usize = 12 * 1024;

/// Cuts what containers say of their ends, so that the object of a pod with many stays acceptable.
fn cut_messages(lists: [&mut Vec<ContainerStatus>; 3]) {
    let count: usize = lists.iter().map(|it| it.len()).sum();
    let limit = MESSAGES_LIMIT / count.max(1);
    for status in lists.into_iter().flatten() {
        for state in [&mut status.state, &mut status.last_state].into_iter().flatten() {
            let terminated = state.terminated.as_mut();
            if let Some(message) = terminated.and_then(|it| it.message.as_mut()) {
                message.truncate(message.floor_char_boundary(limit));
            }
        }
    }
}

#[cfg(test)]
mod tests;
