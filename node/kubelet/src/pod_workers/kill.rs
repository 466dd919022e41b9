//! Ends containers: hooks first, sidecars last, within the grace that the pod has.
//!
//! Upstream: `killContainer`, `killContainersWithSyncResult` in `kuberuntime_container.go`, and its
//! termination order of sidecars.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use crate::{
    context::Context,
    cri::CriError,
    hooks,
    observed::{RuntimeContainer, RuntimePod, State},
    pod::{Kind, PodExt},
    stop_signal,
    timeline::Phase,
};

/// What a container gets even when its hook has used up the grace.
const LEAST: Duration = Duration::from_secs(2);

/// Ends all containers and sandboxes of a pod.
pub(super) async fn pod(
    context: &Arc<Context>,
    pod: &Arc<Pod>,
    observed: &RuntimePod,
    grace: Duration,
) -> Result<(), CriError> {
    let deadline = Instant::now() + grace;
    let live: Vec<_> =
        observed.containers.iter().filter(|it| !matches!(it.state, State::Exited { .. })).collect();
    let is_sidecar = |it: &RuntimeContainer| {
        pod.find_container(&it.name).is_some_and(|(kind, _)| kind == Kind::Sidecar)
    };
    let (mut sidecars, others): (Vec<_>, Vec<_>) = live.into_iter().partition(|it| is_sidecar(it));
    let message = |it: &RuntimeContainer| format!("Stopping container {}", it.name);
    let kills = others.iter().map(|it| container(context, pod, it, message(it), grace));
    let mut results = join_all(kills).await;
    // Sidecars go in the reverse of the order in which they came.
    let order: Vec<_> = pod.all_containers().into_iter().map(|(_, it)| it.name).collect();
    sidecars.sort_by_key(|it| order.iter().position(|name| *name == it.name));
    for it in sidecars.into_iter().rev() {
        let left = deadline.saturating_duration_since(Instant::now()).max(LEAST.min(grace));
        results.push(container(context, pod, it, message(it), left).await);
    }
    let sandboxes = observed.sandboxes.iter().filter(|it| it.is_ready);
    let stops = sandboxes.map(|it| async {
        let begun = context.timelines.begin();
        let stopped = context.runtime.stop_sandbox(&it.id).await;
        let step = begun.ended(Phase::SandboxStopped).result("StopPodSandbox", &stopped);
        context.timelines.add(&pod.uid(), step);
        stopped
    });
    results.extend(join_all(stops).await);
    results.into_iter().find(is_failure).unwrap_or(Ok(()))
}

fn is_failure(result: &Result<(), CriError>) -> bool {
    result.as_ref().is_err_and(|error| !error.is_not_found())
}

/// Ends one container; `message` is what its event says.
pub(super) async fn container(
    context: &Arc<Context>,
    pod: &Arc<Pod>,
    it: &RuntimeContainer,
    message: String,
    grace: Duration,
) -> Result<(), CriError> {
    if it.is_running() {
        context.recorder.container_normal(pod, &it.name, "Killing", message);
    }
    let (started, begun) = (Instant::now(), context.timelines.begin());
    let hook = pod
        .find_container(&it.name)
        .and_then(|(_, spec)| spec.lifecycle.map(|it| it.pre_stop).map(|hook| (spec.name, hook)));
    if let Some((name, Some(hook))) = hook
        && it.is_running()
        && !grace.is_zero()
    {
        let run = hooks::run(context, pod, &name, &it.id, &hook);
        match tokio::time::timeout(grace, run).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => {
                tracing::warn!(pod = pod.full_name(), name, %error, "a preStop hook failed");
                let message = "PreStopHook failed";
                context.recorder.container_warning(pod, &name, "FailedPreStopHook", message);
            }
        }
    }
    let left = grace.saturating_sub(started.elapsed()).max(LEAST.min(grace));
    let stopped = stop_signal::stop(context, it, left).await;
    let step = begun.ended(Phase::Killed).of(&it.name).result("StopContainer", &stopped);
    context.timelines.add(&pod.uid(), step);
    match stopped {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}
