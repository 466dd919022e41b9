//! Ends containers: hooks first, sidecars last, within the grace that the pod has.
//!
//! The hooks of all containers run at once; only the stop of a sidecar waits for the containers that
//! come after it, and for no longer than the grace.
//!
//! Upstream: `killContainer`, `killContainersWithSyncResult` in `kuberuntime_container.go`, and its
//! termination order of sidecars.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::{sync::watch, time::Instant};

use crate::{
    context::Context,
    cri::CriError,
    hooks,
    observed::{RuntimeContainer, RuntimePod, State},
    pod::{Kind, PodExt},
    stop_signal,
    timeline::Phase,
};

/// What a container gets even when its hook has used up the grace, or the grace is shorter
/// (`minimumGracePeriodInSeconds`).
pub(crate) const LEAST_GRACE: Duration = Duration::from_secs(2);

/// Ends all containers and sandboxes of a pod.
pub(super) async fn pod(
    context: &Arc<Context>,
    pod: &Arc<Pod>,
    observed: &RuntimePod,
    grace: Duration,
) -> Result<(), CriError> {
    let live: Vec<_> =
        observed.containers.iter().filter(|it| !matches!(it.state, State::Exited { .. })).collect();
    let order: Vec<_> = pod.all_containers();
    let ended = watch::Sender::new(BTreeSet::<&str>::new());
    let kills = live.iter().map(|it| {
        let first: Vec<&str> = live
            .iter()
            .filter(|other| ends_before(&order, &other.name, &it.name))
            .map(|other| other.id.as_str())
            .collect();
        let (ended, mut others) = (&ended, ended.subscribe());
        async move {
            let turn = async {
                let is_it = |gone: &BTreeSet<&str>| first.iter().all(|id| gone.contains(id));
                drop(others.wait_for(is_it).await);
            };
            let message = format!("Stopping container {}", it.name);
            let result = in_turn(context, pod, it, message, grace, turn).await;
            ended.send_modify(|gone| {
                gone.insert(&it.id);
            });
            result
        }
    });
    let mut results = join_all(kills).await;
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

/// Sidecars go after all others, in the reverse of the order in which they came.
fn ends_before(order: &[(Kind, Container)], first: &str, then: &str) -> bool {
    let place = |name: &str| {
        let at = order.iter().position(|(_, it)| it.name == name);
        at.filter(|at| order[*at].0 == Kind::Sidecar)
    };
    match (place(first), place(then)) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(first), Some(then)) => first > then,
    }
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
    in_turn(context, pod, it, message, grace, std::future::ready(())).await
}

/// The same, when its turn has come after its hook, or its grace is over.
async fn in_turn(
    context: &Arc<Context>,
    pod: &Arc<Pod>,
    it: &RuntimeContainer,
    message: String,
    grace: Duration,
    turn: impl Future<Output = ()>,
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
    // Whoever has no turn in time goes together with the others.
    drop(tokio::time::timeout(grace.saturating_sub(started.elapsed()), turn).await);
    let left = grace.saturating_sub(started.elapsed()).max(LEAST_GRACE);
    let stopped = stop_signal::stop(context, it, left).await;
    let step = begun.ended(Phase::Killed).of(&it.name).result("StopContainer", &stopped);
    context.timelines.add(&pod.uid(), step);
    match stopped {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}
