//! The conditions of a pod.
//!
//! **Invariant:** a condition's transition time changes when its status does, and at no other time.

use k8s_openapi::{
    api::core::v1::{ContainerStatus, PodCondition, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{Input, Phase};
use crate::pod::{Kind, PodExt, init_kind};

/// A condition before it has its times: type, status, reason, message.
struct Draft {
    kind: &'static str,
    is_true: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Draft {
    fn yes(kind: &'static str) -> Self {
        Self { kind, is_true: true, reason: None, message: None }
    }

    fn no(kind: &'static str, reason: &'static str, message: Option<String>) -> Self {
        Self { kind, is_true: false, reason: Some(reason), message }
    }
}

pub(super) fn all(input: &Input<'_>, phase: Phase, status: &PodStatus) -> Vec<PodCondition> {
    let containers_ready = containers_ready(input, phase, status);
    let ready = ready(input, &containers_ready);
    let drafts = [sandbox(input), initialized(input, phase, status), ready, containers_ready];
    let mut conditions: Vec<_> = drafts.into_iter().map(|it| finished(input, it)).collect();
    conditions.push(finished(input, Draft::yes("PodScheduled")));
    let sometimes = [disruption(input), restarting(input, phase), pending(input), progress(input)];
    conditions.extend(sometimes.into_iter().flatten().map(|it| finished(input, it)));
    let earlier = input.previous.conditions.iter().flatten();
    // Conditions of others, readiness gates among them, are theirs.
    let is_ours = |it: &PodCondition| {
        PASSING.contains(&it.type_.as_str()) || conditions.iter().any(|own| own.type_ == it.type_)
    };
    let others = earlier.filter(|it| !is_ours(it)).cloned();
    let others: Vec<_> = others.collect();
    conditions.extend(others);
    conditions
}

/// Conditions of ours that go away.
const PASSING: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// The kubelet's own: upstream's `PodConditionByKubelet`.
pub(super) const OURS: [&str; 8] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
    RESTARTING,
];

/// Whether a kubelet has told of a pod how far it is; that it is scheduled, the scheduler tells.
pub(super) fn are_told(status: &PodStatus) -> bool {
    status.conditions.iter().flatten().any(|it| it.type_ == "Initialized")
}

/// What others say of a pod; `None` if they say nothing.
pub(super) fn of_others(status: &PodStatus) -> Option<Vec<PodCondition>> {
    let others = status.conditions.iter().flatten();
    let others: Vec<_> = others.filter(|it| !OURS.contains(&it.type_.as_str())).cloned().collect();
    (!others.is_empty()).then_some(others)
}

fn disruption(input: &Input<'_>) -> Option<Draft> {
    let message = input.verdict.and_then(|it| it.disruption())?.to_owned();
    let reason = Some("TerminationByKubelet");
    Some(Draft { kind: "DisruptionTarget", is_true: true, reason, message: Some(message) })
}

/// Whether a kubelet has told that all of the pod's containers start anew, and nothing else since.
pub(crate) fn is_restarting(status: &PodStatus) -> bool {
    let mut all = status.conditions.iter().flatten();
    all.any(|it| it.type_ == RESTARTING && it.status == "True")
}

const RESTARTING: &str = "AllContainersRestarting";

/// Only of pods that have a rule for it.
fn restarting(input: &Input<'_>, phase: Phase) -> Option<Draft> {
    const KIND: &str = RESTARTING;
    let spec = PodExt::spec(input.pod);
    let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let has_rule = all.any(|it| {
        it.restart_policy_rules.iter().flatten().any(|it| it.action == "RestartAllContainers")
    });
    if !has_rule {
        return None;
    }
    Some(match phase {
        Phase::Succeeded => Draft::no(KIND, "PodCompleted", None),
        Phase::Failed => Draft::no(KIND, "PodFailed", None),
        _ if input.restarts_all => Draft {
            reason: Some("RestartAllContainersStarted"),
            message: Some("container exited with restart policy rule".to_owned()),
            ..Draft::yes(KIND)
        },
        _ => Draft { is_true: false, ..Draft::yes(KIND) },
    })
}

fn pending(input: &Input<'_>) -> Option<Draft> {
    let pending = input.resize.pending.as_ref()?;
    Some(Draft {
        reason: Some(pending.reason),
        message: Some(pending.message.clone()),
        ..Draft::yes("PodResizePending")
    })
}

fn progress(input: &Input<'_>) -> Option<Draft> {
    let progress = input.resize.in_progress.as_ref()?;
    Some(Draft {
        reason: progress.error.as_ref().map(|_| "Error"),
        message: progress.error.clone(),
        ..Draft::yes("PodResizeInProgress")
    })
}

fn finished(input: &Input<'_>, draft: Draft) -> PodCondition {
    let status = if draft.is_true { "True" } else { "False" };
    let earlier = input.previous.conditions.iter().flatten().find(|it| it.type_ == draft.kind);
    let since = earlier
        .filter(|it| it.status == status)
        .and_then(|it| it.last_transition_time.clone())
        .unwrap_or(Time(input.now));
    PodCondition {
        type_: draft.kind.to_owned(),
        status: status.to_owned(),
        reason: draft.reason.map(str::to_owned),
        message: draft.message,
        last_transition_time: Some(since),
        observed_generation: input.pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn sandbox(input: &Input<'_>) -> Draft {
    const KIND: &str = "PodReadyToStartContainers";
    let has_network =
        input.observed.ready_sandbox().is_some_and(|it| it.is_host_network || !it.ips.is_empty());
    // The sandbox is made while the volumes are; what waits for either has not begun.
    let is_true = has_network && (input.is_prepared || !input.observed.containers.is_empty());
    Draft { kind: KIND, is_true, reason: None, message: None }
}

fn initialized(input: &Input<'_>, phase: Phase, status: &PodStatus) -> Draft {
    const KIND: &str = "Initialized";
    let spec = PodExt::spec(input.pod);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    if phase == Phase::Succeeded {
        return Draft { reason: Some("PodCompleted"), ..Draft::yes(KIND) };
    }
    let statuses = status.init_container_statuses.as_deref().unwrap_or_default();
    let has_begun = status.container_statuses.iter().flatten().any(|it| {
        it.state.as_ref().is_some_and(|it| it.running.is_some() || it.terminated.is_some())
    });
    let incomplete = init.iter().zip(statuses).filter(|(container, status)| {
        let is_done = match init_kind(container) {
            Kind::Sidecar => status.started == Some(true),
            _ => status.ready,
        };
        !is_done && !has_begun
    });
    let names: Vec<_> = incomplete.map(|(container, _)| container.name.as_str()).collect();
    if names.is_empty() {
        return Draft::yes(KIND);
    }
    let message = format!("containers with incomplete status: [{}]", names.join(" "));
    Draft::no(KIND, "ContainersNotInitialized", Some(message))
}

fn containers_ready(input: &Input<'_>, phase: Phase, status: &PodStatus) -> Draft {
    const KIND: &str = "ContainersReady";
    match phase {
        Phase::Succeeded => return Draft::no(KIND, "PodCompleted", None),
        Phase::Failed => return Draft::no(KIND, "PodFailed", None),
        _ => {}
    }
    let spec = PodExt::spec(input.pod);
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars
        .zip(status.init_container_statuses.iter().flatten())
        .filter(|(it, _)| init_kind(it) == Kind::Sidecar)
        .map(|(_, status)| status);
    let regular = status.container_statuses.iter().flatten();
    let unready: Vec<&ContainerStatus> = sidecars.chain(regular).filter(|it| !it.ready).collect();
    if unready.is_empty() {
        return Draft::yes(KIND);
    }
    let names: Vec<_> = unready.iter().map(|it| it.name.as_str()).collect();
    let message = format!("containers with unready status: [{}]", names.join(" "));
    Draft::no(KIND, "ContainersNotReady", Some(message))
}

fn ready(input: &Input<'_>, containers: &Draft) -> Draft {
    const KIND: &str = "Ready";
    if !containers.is_true {
        return Draft {
            kind: KIND,
            is_true: false,
            reason: containers.reason,
            message: containers.message.clone(),
        };
    }
    let conditions = input.previous.conditions.as_deref().unwrap_or_default();
    let mut missing = Vec::new();
    for gate in PodExt::spec(input.pod).readiness_gates.iter().flatten() {
        match conditions.iter().find(|it| it.type_ == gate.condition_type) {
            Some(it) if it.status == "True" => {}
            Some(it) => missing.push(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                gate.condition_type, it.status
            )),
            None => missing.push(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
        }
    }
    if missing.is_empty() {
        Draft::yes(KIND)
    } else {
        Draft::no(KIND, "ReadinessGatesNotReady", Some(missing.join(", ")))
    }
}
