//! The steps for init containers and sidecars.
//!
//! They run in their order. A step is passed when an init container has exited with 0, or when a
//! sidecar has started. The last one that was made in the sandbox says how far the pod is; what comes
//! before it has been passed, whatever became of it since: only sidecars are still looked after. Once a
//! regular container has been made, all steps are behind the pod.

use k8s_openapi::api::core::v1::Container;

use super::{Input, Plan, containers, resize, restarts_after};
use crate::{
    observed::{RuntimeContainer, State},
    pod::{Kind, PodExt, init_kind},
};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Regular containers may start.
    Done,
    Waiting,
    /// An init container failed for good.
    Failed,
}

pub(super) fn plan(input: &Input<'_>, sandbox: &str, plan: &mut Plan) -> Progress {
    let spec = PodExt::spec(input.pod);
    let is_past =
        spec.containers.iter().any(|it| input.observed.latest_in(sandbox, &it.name).is_some());
    let init: Vec<&Container> = spec.init_containers.iter().flatten().collect();
    let made = |it: &&Container| input.observed.latest_in(sandbox, &it.name).is_some();
    let newest = init.iter().rposition(made);
    for (index, container) in init.into_iter().enumerate() {
        let latest = input.observed.latest_in(sandbox, &container.name);
        let is_passed = is_past || newest.is_some_and(|it| index < it);
        let step = match init_kind(container) {
            Kind::Sidecar => sidecar(input, container, latest, plan),
            _ if is_passed => Progress::Done,
            _ => once(input, container, latest, plan),
        };
        if step != Progress::Done && !is_passed {
            return step;
        }
    }
    Progress::Done
}

pub(super) fn start(
    input: &Input<'_>,
    kind: Kind,
    container: &Container,
    latest: Option<&RuntimeContainer>,
    plan: &mut Plan,
) {
    // In a new sandbox an init container that had succeeded runs again, and was no failure. It still
    // counts: the one before it may be in the runtime, which knows both by the pod and this number.
    let is_success = |it: &&RuntimeContainer| matches!(it.state, State::Exited { code: 0, .. });
    let succeeded = latest.filter(is_success);
    containers::start_after(input, kind, container, latest.filter(|it| !is_success(it)), plan);
    let started = plan.start.last_mut().filter(|it| it.name == container.name);
    if let (Some(before), Some(start)) = (succeeded, started) {
        start.restart_count = before.restart_count + 1;
    }
}

fn once(
    input: &Input<'_>,
    container: &Container,
    latest: Option<&RuntimeContainer>,
    plan: &mut Plan,
) -> Progress {
    let Some(latest) = latest else {
        start(input, Kind::Init, container, input.observed.latest(&container.name), plan);
        return Progress::Waiting;
    };
    match &latest.state {
        State::Exited { code: 0, .. } => return Progress::Done,
        // Of an init container `Always` means what `OnFailure` does.
        State::Exited { code, .. } if !restarts_after(input.pod, container, *code) => {
            return Progress::Failed;
        }
        State::Running { .. } => return Progress::Waiting,
        _ => {}
    }
    containers::start_after(input, Kind::Init, container, Some(latest), plan);
    Progress::Waiting
}

fn sidecar(
    input: &Input<'_>,
    container: &Container,
    latest: Option<&RuntimeContainer>,
    plan: &mut Plan,
) -> Progress {
    let Some(latest) = latest else {
        start(input, Kind::Sidecar, container, input.observed.latest(&container.name), plan);
        return Progress::Waiting;
    };
    if let State::Running { .. } = latest.state {
        if let Some(kill) = containers::reason_to_kill(input, container, latest) {
            plan.kill.push(kill);
            return Progress::Waiting;
        }
        resize::plan(input, Kind::Sidecar, container, latest, plan);
        let is_started = input.probes.get(&latest.id).is_some_and(|it| it.is_started);
        return if is_started { Progress::Done } else { Progress::Waiting };
    }
    containers::start_after(input, Kind::Sidecar, container, Some(latest), plan);
    Progress::Waiting
}
