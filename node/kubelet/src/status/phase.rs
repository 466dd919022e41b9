//! The phase of a pod.

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus};

use super::Input;
use crate::{
    plan::restarts_after,
    pod::{Kind, PodExt, init_kind},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

pub(super) fn of(
    input: &Input<'_>,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> Phase {
    match input.previous.phase.as_deref() {
        Some("Failed") => return Phase::Failed,
        Some("Succeeded") => return Phase::Succeeded,
        _ => {}
    }
    if input.verdict.is_some() && input.is_over {
        return Phase::Failed;
    }
    match of_containers(input, init, regular) {
        // A pod that is being ended stays as it was until all of it has ended: to others its end means
        // that what it used is free.
        Phase::Succeeded | Phase::Failed if !input.is_over => Phase::Running,
        // It ended before it ran. What waits for its end would wait for ever.
        Phase::Pending | Phase::Running if input.is_over && !input.pod.is_mirror_or_static() => {
            Phase::Failed
        }
        phase => phase,
    }
}

fn of_containers(
    input: &Input<'_>,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> Phase {
    let spec = PodExt::spec(input.pod);
    let counts = Counts::of(input, spec.containers.iter().zip(regular));
    before_containers(input, init, &counts).unwrap_or_else(|| counts.phase(input))
}

/// While init containers are at work the pod is pending; when one fails for good it has failed.
fn before_containers(
    input: &Input<'_>,
    init: &[ContainerStatus],
    counts: &Counts,
) -> Option<Phase> {
    let spec = PodExt::spec(input.pod);
    let has_begun = counts.running + counts.stopped > 0;
    for (container, status) in spec.init_containers.iter().flatten().zip(init) {
        let is_sidecar = init_kind(container) == Kind::Sidecar;
        let state = status.state.clone().unwrap_or_default();
        let last = status.last_state.as_ref().and_then(|it| it.terminated.as_ref());
        match (state.terminated.as_ref().or(last), is_sidecar) {
            (Some(ended), false) if ended.exit_code != 0 => {
                let is_final = !restarts_after(input.pod, container, ended.exit_code);
                if is_final && state.terminated.is_some() {
                    return Some(if input.is_over { Phase::Failed } else { Phase::Pending });
                }
                if !has_begun && state.running.is_none() {
                    return Some(Phase::Pending);
                }
            }
            _ => {}
        }
        let is_passed = match is_sidecar {
            true => status.started == Some(true) || has_begun,
            false => state.terminated.is_some_and(|it| it.exit_code == 0) || has_begun,
        };
        if !is_passed {
            return Some(Phase::Pending);
        }
    }
    None
}

#[derive(Debug, Default)]
struct Counts {
    waiting: usize,
    running: usize,
    stopped: usize,
    succeeded: usize,
    /// Stopped, and to be started again.
    returning: usize,
}

impl Counts {
    fn of<'a>(
        input: &Input<'_>,
        all: impl Iterator<Item = (&'a Container, &'a ContainerStatus)>,
    ) -> Self {
        let mut counts = Self::default();
        for (container, status) in all {
            let last = status.last_state.as_ref().and_then(|it| it.terminated.as_ref());
            match status.state.as_ref() {
                Some(ContainerState { running: Some(_), .. }) => counts.running += 1,
                Some(ContainerState { terminated: Some(ended), .. }) => {
                    counts.stopped += 1;
                    counts.succeeded += usize::from(ended.exit_code == 0);
                    let returns = restarts_after(input.pod, container, ended.exit_code);
                    counts.returning += usize::from(returns);
                }
                Some(ContainerState { waiting: Some(_), .. }) if last.is_some() => {
                    counts.stopped += 1;
                    counts.returning += 1;
                }
                _ => counts.waiting += 1,
            }
        }
        counts
    }

    fn phase(&self, input: &Input<'_>) -> Phase {
        if self.waiting > 0 {
            return Phase::Pending;
        }
        if self.running > 0 {
            return Phase::Running;
        }
        if self.stopped == 0 {
            return Phase::Pending;
        }
        let is_ending = input.pod.is_terminating();
        if self.returning > 0 && !is_ending {
            return Phase::Running;
        }
        if self.succeeded == self.stopped { Phase::Succeeded } else { Phase::Failed }
    }
}
