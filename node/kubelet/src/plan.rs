//! Decides what to do about one pod.
//!
//! [`plan`] is told everything: the pod, what the runtime holds of it, what the probes say, what is
//! held back, and the time. It returns a value and touches nothing, so the whole policy of the
//! kubelet's main loop can be read, and tested, here. The worker applies a plan, observes again and
//! plans again until nothing is left to do.
//!
//! Upstream: `computePodActions` and `computeInitContainerActions` in
//! `pkg/kubelet/kuberuntime/kuberuntime_manager.go` and `kuberuntime_container.go`.
//!
//! **Invariant:** a container is started only when no container of its name is running or may be.
//!
//! Deviation: a container that was created but never started is removed and made anew with the same
//! attempt number; upstream counts it as a restart.

mod containers;
mod init;
mod resize;
mod restart_all;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::{
    allocation::Resources,
    backoff::Backoffs,
    duration,
    observed::{RuntimeContainer, RuntimePod, State},
    pod::{Kind, PodExt, RestartPolicy},
};

/// What the probes know of a container, by container id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProbeState {
    /// The startup probe has succeeded, or there is none and the postStart hook has ended.
    pub is_started: bool,
    pub is_ready: bool,
    /// The liveness or startup probe gave up; the text says which.
    pub failure: Option<ProbeFailure>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbeFailure {
    pub kind: &'static str,
    /// The probe's own grace period.
    pub grace: Option<Duration>,
}

pub(crate) type ProbeStates = BTreeMap<String, ProbeState>;

/// A container of a pod, for the back-off.
pub(crate) type ContainerBackoffs = Backoffs<String>;

pub(crate) struct Input<'a> {
    pub pod: &'a Pod,
    pub observed: &'a RuntimePod,
    pub probes: &'a ProbeStates,
    pub backoffs: &'a ContainerBackoffs,
    /// The resources that containers were last given, by name.
    pub actuated: &'a Resources,
    /// Containers that could not be started, by name.
    pub held: &'a BTreeMap<String, Held>,
    /// At the pace of the ends that are observed, as are the times of those held.
    pub now: Timestamp,
}

/// Why a container is not tried again before its time: its image cannot be had, its configuration
/// cannot be made. The others of its pod go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub waiting: Waiting,
    pub until: Timestamp,
}

/// What to do, in this order: kill, then the sandbox, then the starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Everything of the pod has to go first; the text is the reason.
    pub kill_pod: Option<&'static str>,
    /// A new sandbox of this attempt.
    pub create_sandbox: Option<u32>,
    pub kill: Vec<Kill>,
    /// Containers that stand in the way of others.
    pub remove: Vec<String>,
    /// Running containers that get other resources.
    pub resize: Vec<Resize>,
    /// The pod as a whole gets other resources.
    pub resize_pod: bool,
    /// A container's exit makes all of them start anew.
    pub restart_all: Option<Trigger>,
    pub start: Vec<Start>,
    /// Why a container that should run does not, for the status.
    pub waiting: BTreeMap<String, Waiting>,
    /// When to look again although nothing happens.
    pub again_at: Option<Timestamp>,
    /// Nothing runs and nothing will.
    pub is_complete: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kill {
    pub id: String,
    pub name: String,
    pub reason: KillReason,
    pub message: String,
    pub grace: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resize {
    pub id: String,
    pub name: String,
}

/// The exit that a rule answers with a start of everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trigger {
    /// For the back-off.
    pub key: String,
    pub finished: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillReason {
    Liveness,
    Startup,
    SpecChanged,
    Unknown,
    /// Its new resources need a new start.
    Resize,
    RestartAll,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Start {
    pub name: String,
    pub kind: Kind,
    pub restart_count: u32,
    /// When the container that this one follows ended, for the back-off.
    pub after_exit: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub reason: String,
    pub message: String,
}

pub(crate) fn plan(input: &Input<'_>) -> Plan {
    let mut plan = Plan::default();
    match sandbox_need(input) {
        SandboxNeed::None => {
            if let Some(plan) = restart_all::plan(input) {
                return plan;
            }
            resize::plan_pod(input, &mut plan);
            let sandbox = input.observed.sandboxes[0].id.clone();
            in_sandbox(input, &sandbox, &mut plan);
        }
        SandboxNeed::Create { attempt, reason } => new_sandbox(input, attempt, reason, &mut plan),
    }
    plan
}

enum SandboxNeed {
    None,
    Create { attempt: u32, reason: &'static str },
}

fn sandbox_need(input: &Input<'_>) -> SandboxNeed {
    let sandboxes = &input.observed.sandboxes;
    let Some(newest) = sandboxes.first() else {
        return SandboxNeed::Create { attempt: 0, reason: "no sandbox" };
    };
    let attempt = newest.attempt + 1;
    let create = |reason| SandboxNeed::Create { attempt, reason };
    if sandboxes.iter().filter(|it| it.is_ready).count() > 1 {
        return create("more than one sandbox is ready");
    }
    if !newest.is_ready {
        return create("the sandbox is not ready");
    }
    if newest.is_host_network != input.pod.is_host_network() {
        return create("the sandbox is in the wrong network namespace");
    }
    if !newest.is_host_network && newest.ips.is_empty() {
        return create("the sandbox has no address");
    }
    SandboxNeed::None
}

fn new_sandbox(input: &Input<'_>, attempt: u32, reason: &'static str, plan: &mut Plan) {
    let observed = input.observed;
    let has_run = attempt != 0 && !observed.containers.is_empty();
    let wanted = |container: &Container| match observed.latest(&container.name) {
        Some(latest) if has_run => match latest.state {
            State::Exited { code, .. } => restarts_after(input.pod, container, code),
            State::Created => true,
            // It is killed with its sandbox.
            State::Running { .. } | State::Unknown => restarts_after(input.pod, container, 137),
        },
        _ => true,
    };
    let spec = PodExt::spec(input.pod);
    let is_wanted = spec.containers.iter().any(wanted);
    if observed.has_live_parts() {
        plan.kill_pod = Some(reason);
    }
    if !is_wanted {
        plan.is_complete = true;
        return;
    }
    plan.create_sandbox = Some(attempt);
    // The first step only: what follows is planned when it is seen to run.
    match spec.init_containers.iter().flatten().next() {
        Some(first) => {
            init::start(
                input,
                crate::pod::init_kind(first),
                first,
                observed.latest(&first.name),
                plan,
            );
        }
        None => {
            for container in spec.containers.iter().filter(|it| wanted(it)) {
                containers::start(input, Kind::Regular, container, plan);
            }
        }
    }
}

fn in_sandbox(input: &Input<'_>, sandbox: &str, plan: &mut Plan) {
    let spec = PodExt::spec(input.pod);
    let progress = init::plan(input, sandbox, plan);
    // A debugger may come at any time, also while the pod initializes.
    containers::plan_ephemeral(input, plan);
    match progress {
        init::Progress::Waiting => return,
        init::Progress::Failed => {
            plan.is_complete = true;
            return;
        }
        init::Progress::Done => {}
    }
    let mut kept = 0;
    for container in &spec.containers {
        kept += usize::from(containers::plan(input, container, plan));
    }
    if kept == 0 {
        // Sidecars do not keep a pod alive.
        *plan = Plan { is_complete: true, ..Plan::default() };
    }
}

/// Whether a container that is not running has to be started (again).
pub(crate) fn should_restart(pod: &Pod, container: &Container, latest: &RuntimeContainer) -> bool {
    if pod.is_terminating() {
        return false;
    }
    match &latest.state {
        State::Running { .. } => false,
        State::Created | State::Unknown => true,
        State::Exited { code, .. } => restarts_after(pod, container, *code),
    }
}

/// The container's own policy and rules come before the pod's.
pub(crate) fn restarts_after(pod: &Pod, container: &Container, code: i32) -> bool {
    if let Some(action) = restart_all::matching_action(container, code) {
        return action == "Restart" || action == restart_all::ACTION;
    }
    let policy = match container.restart_policy.as_deref() {
        Some(own) => RestartPolicy::parse(Some(own)),
        None => pod.restart_policy(),
    };
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    }
}

/// Why a container waits after its end.
pub(crate) const CRASH_LOOP: &str = "CrashLoopBackOff";

/// The key under which a container's failures are counted.
pub(crate) fn backoff_key(container: &Container) -> String {
    format!("{}_{}", container.name, crate::labels::container_hash(container))
}

/// `back-off 10s restarting failed container=c pod=p_ns(uid)`
fn crash_loop(pod: &Pod, container: &Container, delay: Duration) -> Waiting {
    Waiting {
        reason: CRASH_LOOP.to_owned(),
        message: format!(
            "back-off {} restarting failed container={} pod={}",
            duration::format(delay),
            container.name,
            pod.full_name()
        ),
    }
}

impl Plan {
    pub(crate) fn look_again_at(&mut self, at: Timestamp) {
        self.again_at = Some(self.again_at.map_or(at, |it| it.min(at)));
    }
}

#[cfg(test)]
mod tests;
