//! What is told of containers whose end nobody saw, when all of their pod has ended.
//!
//! Upstream: `TerminatePod`, `hasPodInitialized` and `initializedContainers` in
//! `pkg/kubelet/status/status_manager.go`.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus};

/// Gives every container that may have run a terminated state.
pub(super) fn fill(init: &mut [ContainerStatus], regular: &mut [ContainerStatus]) {
    if is_initialized(init, regular) {
        regular.iter_mut().for_each(end);
    }
    let last = init.iter().rposition(has_begun).map_or(0, |it| it + 1);
    init[..last].iter_mut().for_each(end);
}

fn is_initialized(init: &[ContainerStatus], regular: &[ContainerStatus]) -> bool {
    let Some(last) = init.last() else { return true };
    let ended = |state: &Option<ContainerState>| {
        let ended = state.as_ref().and_then(|it| it.terminated.as_ref());
        ended.is_some_and(|it| it.exit_code == 0)
    };
    regular.iter().any(has_begun) || ended(&last.state) || ended(&last.last_state)
}

fn has_begun(status: &ContainerStatus) -> bool {
    let is_waiting = status.state.as_ref().is_none_or(|it| it.waiting.is_some());
    let last = status.last_state.as_ref().and_then(|it| it.terminated.as_ref());
    !is_waiting || last.is_some()
}

fn end(status: &mut ContainerStatus) {
    if status.state.as_ref().is_some_and(|it| it.terminated.is_some()) {
        return;
    }
    let terminated = ContainerStateTerminated {
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        exit_code: 137,
        ..ContainerStateTerminated::default()
    };
    status.state =
        Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
}
