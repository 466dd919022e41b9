//! A container's exit that starts all of the pod anew, in the sandbox and with the volumes it has.
//!
//! First everything that runs is ended, without hooks and with the least grace that a container has.
//! Then what has ended is removed, the container that caused it last, so that a kubelet that is killed
//! in between goes on where this one was. After that the pod begins with its init containers, as if it were new.
//!
//! Upstream: `RestartAllContainersOnContainerExits` (KEP-5532).
//!
//! Deviation: a container that causes it again and again is held back like one that crashes.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;

use super::{Input, Kill, KillReason, Plan, Trigger, backoff_key, crash_loop};
use crate::{
    observed::{RuntimeContainer, State},
    pod::{Kind, PodExt},
};

pub(super) const ACTION: &str = "RestartAllContainers";

/// What the first rule that fits an exit says.
pub(super) fn matching_action(container: &Container, code: i32) -> Option<&str> {
    let fits = |rule: &&k8s_openapi::api::core::v1::ContainerRestartRule| {
        let Some(on) = &rule.exit_codes else { return false };
        let is_listed = on.values.iter().flatten().any(|it| *it == code);
        match on.operator.as_str() {
            "In" => is_listed,
            "NotIn" => !is_listed,
            _ => false,
        }
    };
    let rule = container.restart_policy_rules.iter().flatten().find(fits)?;
    Some(rule.action.as_str())
}

pub(super) fn plan(input: &Input<'_>) -> Option<Plan> {
    if input.pod.is_terminating() {
        return None;
    }
    let sandbox = &input.observed.sandboxes.first()?.id;
    let spec = PodExt::spec(input.pod);
    let all: Vec<&Container> =
        spec.init_containers.iter().flatten().chain(&spec.containers).collect();
    let trigger = all.iter().find_map(|container| {
        let latest = input.observed.latest_in(sandbox, &container.name)?;
        let State::Exited { code, finished, .. } = latest.state else { return None };
        let is_it = matching_action(container, code) == Some(ACTION);
        is_it.then_some((*container, latest, finished))
    });
    let (container, cause, finished) = trigger?;
    let key = backoff_key(container);
    if let Some((delay, until)) = input.backoffs.held(&key, finished, input.now) {
        let mut plan = Plan::default();
        plan.waiting.insert(container.name.clone(), crash_loop(input.pod, container, delay));
        plan.look_again_at(until);
        return Some(plan);
    }
    let mut plan = Plan { restart_all: Some(Trigger { key, finished }), ..Plan::default() };
    let concerned = |it: &&RuntimeContainer| {
        let kind = input.pod.find_container(&it.name).map(|(kind, _)| kind);
        kind != Some(Kind::Ephemeral)
    };
    let own: Vec<_> = input.observed.containers.iter().filter(concerned).collect();
    let live = own.iter().filter(|it| !matches!(it.state, State::Exited { .. }));
    plan.kill = live.map(|it| kill(it)).collect();
    if plan.kill.is_empty() {
        plan.remove = own.iter().map(|it| it.id.clone()).filter(|it| *it != cause.id).collect();
        plan.remove.push(cause.id.clone());
    }
    Some(plan)
}

fn kill(it: &RuntimeContainer) -> Kill {
    Kill {
        id: it.id.clone(),
        name: it.name.clone(),
        reason: KillReason::RestartAll,
        message: format!("Stopping container {}", it.name),
        grace: Some(Duration::ZERO),
    }
}
