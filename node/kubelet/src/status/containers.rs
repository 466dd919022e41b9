//! The status of one container.

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
        ContainerStateWaiting, ContainerStatus, ContainerUser, VolumeMount, VolumeMountStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::Input;
use crate::{
    observed::{RuntimeContainer, State},
    plan::restarts_after,
    pod::{Kind, PodExt},
    pod_config,
    stop_signal::StopSignal,
};

/// The runtime's name in container ids.
const RUNTIME: &str = "containerd";

pub(super) fn status(input: &Input<'_>, kind: Kind, container: &Container) -> ContainerStatus {
    let latest = input.observed.latest(&container.name);
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        ..ContainerStatus::default()
    };
    match latest {
        Some(latest) => known(input, kind, latest, &mut status),
        None => unknown(input, container, &mut status),
    }
    let waiting = input.waiting.get(&container.name);
    if let Some(waiting) = waiting.filter(|_| !has_ended_for_good(input, container, &status)) {
        hold(&mut status, waiting.reason.clone(), Some(waiting.message.clone()));
    }
    readiness(input, kind, latest, &mut status);
    if latest.is_some() {
        resources(input, container, &mut status);
    }
    // Its field is always there, as upstream's is: clients look into it without asking.
    status.last_state.get_or_insert_default();
    status.volume_mounts =
        container.volume_mounts.as_ref().map(|it| it.iter().map(|it| mount(it, latest)).collect());
    status
}

/// What will not run again waits for nothing, whatever went wrong at its start.
fn has_ended_for_good(input: &Input<'_>, container: &Container, status: &ContainerStatus) -> bool {
    let ended = status.state.as_ref().and_then(|it| it.terminated.as_ref());
    ended.is_some_and(|it| !restarts_after(input.pod, container, it.exit_code))
}

/// What is promised to the container, and what it has: a running one gets to its promise by a resize.
fn resources(input: &Input<'_>, container: &Container, status: &mut ContainerStatus) {
    let is_running = status.state.as_ref().is_some_and(|it| it.running.is_some());
    let actual = input.actuated.get(&container.name).filter(|_| is_running);
    status.resources = actual.cloned().or_else(|| container.resources.clone());
    let allocated = container.resources.as_ref().and_then(|it| it.requests.clone());
    status.allocated_resources = allocated.filter(|it| !it.is_empty());
}

fn mount(it: &VolumeMount, latest: Option<&RuntimeContainer>) -> VolumeMountStatus {
    let is_read_only = it.read_only == Some(true);
    let path = pod_config::container_path(it);
    let is_deep = latest.is_some_and(|latest| latest.recursive_read_only.contains(&path));
    let mode = if is_deep { "Enabled" } else { "Disabled" };
    VolumeMountStatus {
        name: it.name.clone(),
        mount_path: it.mount_path.clone(),
        read_only: is_read_only.then_some(true),
        recursive_read_only: is_read_only.then(|| mode.to_owned()),
        ..VolumeMountStatus::default()
    }
}

fn known(input: &Input<'_>, kind: Kind, latest: &RuntimeContainer, status: &mut ContainerStatus) {
    status.container_id = Some(format!("{RUNTIME}://{}", latest.id));
    status.image_id = latest.image_ref.clone();
    if !latest.image.is_empty() {
        // What runs, which need not be what is wanted by now.
        status.image = latest.image.clone();
    }
    status.restart_count = i32::try_from(latest.restart_count).unwrap_or(i32::MAX);
    status.state = Some(state(input, latest));
    let signal = latest.stop_signal.filter(|_| input.tells_stop_signals);
    status.stop_signal = signal.map(StopSignal::name);
    let user = latest.user.clone();
    status.user = user.map(|it| ContainerUser { linux: Some(it) });
    let previous = input.observed.previous(&latest.name).filter(|_| kind != Kind::Ephemeral);
    status.last_state = previous.map(|it| state(input, it)).filter(|it| it.terminated.is_some());
    if status.last_state.is_none() && latest.restart_count > 0 {
        // The container before this one has been removed; the API remembers how it ended.
        status.last_state = earlier(input, &latest.name).and_then(|it| {
            let ended = it.state.filter(|it| it.terminated.is_some());
            if it.restart_count < status.restart_count { ended } else { it.last_state }
        });
    }
}

fn unknown(input: &Input<'_>, container: &Container, status: &mut ContainerStatus) {
    if let Some(earlier) = earlier(input, &container.name) {
        if input.restarts_all && earlier.state.as_ref().is_some_and(|it| it.waiting.is_none()) {
            removed(&earlier, status);
            return;
        }
        let is_ended = earlier.state.as_ref().is_some_and(|it| it.terminated.is_some());
        if is_ended {
            // It ended, and was removed since.
            *status = ContainerStatus { ready: false, started: Some(false), ..earlier };
            return;
        }
        if earlier.state.as_ref().is_some_and(|it| it.running.is_some()) {
            lost(input, &earlier, status);
            return;
        }
        status.last_state = earlier.last_state;
        status.restart_count = earlier.restart_count;
    }
    let has_init =
        PodExt::spec(input.pod).init_containers.as_ref().is_some_and(|it| !it.is_empty());
    let reason = if has_init { "PodInitializing" } else { "ContainerCreating" };
    hold(status, reason.to_owned(), None);
}

/// All of the pod's containers have been removed, to start anew. How each of them ended is not told.
fn removed(earlier: &ContainerStatus, status: &mut ContainerStatus) {
    let reason = Some("RestartingAllContainers".to_owned());
    let message = Some("The container is removed because RestartAllContainers in place".to_owned());
    status.restart_count = earlier.restart_count + 1;
    status.last_state = Some(ContainerState {
        terminated: Some(ContainerStateTerminated {
            reason: reason.clone(),
            message: message.clone(),
            exit_code: 137,
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    });
    let waiting = Some(ContainerStateWaiting { reason, message });
    status.state = Some(ContainerState { waiting, ..ContainerState::default() });
}

/// The API says that it ran, and the runtime has never heard of it.
fn lost(input: &Input<'_>, earlier: &ContainerStatus, status: &mut ContainerStatus) {
    // A pod that is being deleted does not start it again.
    let restarts = i32::from(!input.pod.is_terminating());
    status.restart_count = earlier.restart_count + restarts;
    status.last_state = Some(ContainerState {
        terminated: Some(ContainerStateTerminated {
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some(
                "The container could not be located when the pod was deleted.  The container used to be Running".to_owned(),
            ),
            exit_code: 137,
            container_id: earlier.container_id.clone(),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    });
    hold(status, "ContainerCreating".to_owned(), None);
}

/// The status that the API holds.
fn earlier(input: &Input<'_>, name: &str) -> Option<ContainerStatus> {
    let previous = input.previous;
    let lists = [
        &previous.init_container_statuses,
        &previous.container_statuses,
        &previous.ephemeral_container_statuses,
    ];
    lists.into_iter().flatten().flatten().find(|it| it.name == name).cloned()
}

/// Waiting with a reason; how it ended before moves to the last state.
fn hold(status: &mut ContainerStatus, reason: String, message: Option<String>) {
    let is_running = status.state.as_ref().is_some_and(|it| it.running.is_some());
    if is_running {
        return;
    }
    if let Some(state) = status.state.take().filter(|it| it.terminated.is_some()) {
        status.last_state = Some(state);
    }
    let waiting = ContainerStateWaiting {
        reason: Some(reason),
        message: message.filter(|it| !it.is_empty()),
    };
    status.state = Some(ContainerState { waiting: Some(waiting), ..ContainerState::default() });
}

fn state(input: &Input<'_>, it: &RuntimeContainer) -> ContainerState {
    let mut state = ContainerState::default();
    match &it.state {
        State::Created => {
            let reason = Some("ContainerCreating".to_owned());
            state.waiting = Some(ContainerStateWaiting { reason, message: None });
        }
        State::Running { started } => {
            state.running = Some(ContainerStateRunning { started_at: Some(Time(*started)) });
        }
        State::Exited { started, finished, code, reason, message } => {
            let of_file = input.messages.get(&it.id).filter(|it| !it.is_empty());
            let message = of_file.cloned().or_else(|| some(message));
            state.terminated = Some(ContainerStateTerminated {
                exit_code: *code,
                reason: some(reason),
                message,
                started_at: Some(Time(*started)),
                finished_at: Some(Time(*finished)),
                container_id: Some(format!("{RUNTIME}://{}", it.id)),
                signal: None,
            });
        }
        State::Unknown => {
            state.terminated = Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                message: Some(
                    "The container could not be located when the pod was terminated".to_owned(),
                ),
                container_id: Some(format!("{RUNTIME}://{}", it.id)),
                ..ContainerStateTerminated::default()
            });
        }
    }
    state
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn readiness(
    input: &Input<'_>,
    kind: Kind,
    latest: Option<&RuntimeContainer>,
    status: &mut ContainerStatus,
) {
    let is_running = status.state.as_ref().is_some_and(|it| it.running.is_some());
    let probe = latest.and_then(|it| input.probes.get(&it.id)).cloned().unwrap_or_default();
    match kind {
        Kind::Init => {
            // An init container is ready when it has done its work.
            let ended = status.state.as_ref().and_then(|it| it.terminated.as_ref());
            status.ready = ended.is_some_and(|it| it.exit_code == 0);
            status.started = Some(is_running);
        }
        Kind::Ephemeral => {
            status.ready = false;
            status.started = None;
        }
        Kind::Regular | Kind::Sidecar => {
            status.started = Some(is_running && probe.is_started);
            status.ready = is_running && probe.is_started && probe.is_ready;
        }
    }
}
