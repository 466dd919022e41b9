//! The steps for regular and ephemeral containers.

use k8s_openapi::api::core::v1::Container;

use super::{
    Input, Kill, KillReason, Plan, Start, backoff_key, crash_loop, resize, should_restart,
};
use crate::{
    labels,
    observed::{RuntimeContainer, State},
    pod::{Kind, PodExt},
};

/// Plans one regular container. Says whether it keeps the pod alive.
pub(super) fn plan(input: &Input<'_>, container: &Container, plan: &mut Plan) -> bool {
    let Some(latest) = input.observed.latest(&container.name) else {
        start(input, Kind::Regular, container, plan);
        return true;
    };
    if let State::Running { .. } = latest.state {
        match reason_to_kill(input, container, latest) {
            None => resize::plan(input, Kind::Regular, container, latest, plan),
            Some(kill) => {
                let is_failure = kill.reason != KillReason::SpecChanged;
                // A killed container exits with an error, whatever its code will be.
                if !is_failure || super::restarts_after(input.pod, container, 137) {
                    plan.kill.push(kill);
                } else {
                    plan.kill.push(kill);
                    return false;
                }
            }
        }
        return true;
    }
    if !should_restart(input.pod, container, latest) {
        return false;
    }
    start(input, Kind::Regular, container, plan);
    true
}

/// Ephemeral containers are started once, and never again.
pub(super) fn plan_ephemeral(input: &Input<'_>, plan: &mut Plan) {
    let listed = PodExt::spec(input.pod).ephemeral_containers.as_ref();
    for (kind, container) in input.pod.all_containers() {
        let is_new = listed.is_some() && input.observed.latest(&container.name).is_none();
        if kind == Kind::Ephemeral && is_new {
            start(input, kind, &container, plan);
        }
    }
}

/// Why a running container must be killed and started anew.
pub(super) fn reason_to_kill(
    input: &Input<'_>,
    container: &Container,
    latest: &RuntimeContainer,
) -> Option<Kill> {
    let kill = |reason, message: String, grace| {
        Some(Kill { id: latest.id.clone(), name: latest.name.clone(), reason, message, grace })
    };
    if !latest.hash.is_empty() && latest.hash != labels::container_hash(container) {
        let message = format!("Container {} definition changed, will be restarted", container.name);
        return kill(KillReason::SpecChanged, message, None);
    }
    let failure = input.probes.get(&latest.id)?.failure.as_ref()?;
    let reason = if failure.kind == "startup" { KillReason::Startup } else { KillReason::Liveness };
    let verb =
        if super::restarts_after(input.pod, container, 137) { ", will be restarted" } else { "" };
    kill(
        reason,
        format!("Container {} failed {} probe{verb}", container.name, failure.kind),
        failure.grace,
    )
}

/// Starts a container, or says that it is held back.
pub(super) fn start(input: &Input<'_>, kind: Kind, container: &Container, plan: &mut Plan) {
    let latest = input.observed.latest(&container.name);
    start_after(input, kind, container, latest, plan);
}

/// `latest` is the container that this one follows.
pub(super) fn start_after(
    input: &Input<'_>,
    kind: Kind,
    container: &Container,
    latest: Option<&RuntimeContainer>,
    plan: &mut Plan,
) {
    if let Some(held) = input.held.get(&container.name).filter(|it| input.now < it.until) {
        plan.waiting.insert(container.name.clone(), held.waiting.clone());
        plan.look_again_at(held.until);
        return;
    }
    let mut restart_count = latest.map_or(0, |it| it.restart_count + 1);
    let mut after_exit = None;
    match latest.map(|it| (it, &it.state)) {
        Some((latest, State::Created)) => {
            restart_count = latest.restart_count;
            plan.remove.push(latest.id.clone());
        }
        Some((latest, State::Unknown)) => plan.kill.push(Kill {
            id: latest.id.clone(),
            name: latest.name.clone(),
            reason: KillReason::Unknown,
            message: format!("Container {} is in an unknown state", container.name),
            grace: None,
        }),
        Some((_, State::Exited { finished, .. })) => {
            after_exit = Some(*finished);
            let held = input.backoffs.held(&backoff_key(container), *finished, input.now);
            if let Some((delay, until)) = held {
                let waiting = crash_loop(input.pod, container, delay);
                plan.waiting.insert(container.name.clone(), waiting);
                plan.look_again_at(until);
                return;
            }
        }
        Some((_, State::Running { .. })) | None => {}
    }
    plan.start.push(Start { name: container.name.clone(), kind, restart_count, after_exit });
}
