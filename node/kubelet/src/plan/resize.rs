//! Running containers, and pods, whose promised resources are not those that they have.
//!
//! Upstream: `computePodResizeAction` in `pkg/kubelet/kuberuntime/kuberuntime_manager.go`.

use k8s_openapi::api::core::v1::Container;

use super::{Input, Kill, KillReason, Plan, Resize, Start};
use crate::{
    allocation::{WHOLE, difference},
    observed::RuntimeContainer,
    pod::{Kind, PodExt},
    qos,
};

/// Plans the change of what the pod has as a whole.
pub(super) fn plan_pod(input: &Input<'_>, plan: &mut Plan) {
    let Some(actual) = input.actuated.get(WHOLE) else { return };
    let promised = PodExt::spec(input.pod).resources.as_ref();
    plan.resize_pod = !difference(Some(actual), promised).is_empty();
}

/// Plans the change of a running container, in place or with a new start.
pub(super) fn plan(
    input: &Input<'_>,
    kind: Kind,
    container: &Container,
    latest: &RuntimeContainer,
    plan: &mut Plan,
) {
    // A container of which nothing is known was started by another kubelet, as it was to be.
    let Some(actual) = input.actuated.get(&container.name) else { return };
    let changed = difference(Some(actual), container.resources.as_ref());
    let whole = PodExt::spec(input.pod).resources.as_ref();
    let has = qos::effective(Some(actual), input.actuated.get(WHOLE));
    let gets = qos::effective(container.resources.as_ref(), whole);
    if changed.is_empty() && difference(Some(&has), Some(&gets)).is_empty() {
        return;
    }
    let needs_start = |resource: &&str| {
        container
            .resize_policy
            .iter()
            .flatten()
            .any(|it| it.resource_name == **resource && it.restart_policy == "RestartContainer")
    };
    if !changed.iter().any(needs_start) {
        plan.resize.push(Resize { id: latest.id.clone(), name: container.name.clone() });
        return;
    }
    plan.kill.push(Kill {
        id: latest.id.clone(),
        name: container.name.clone(),
        reason: KillReason::Resize,
        message: format!("Container {} resize requires restart", container.name),
        grace: None,
    });
    plan.start.push(Start {
        name: container.name.clone(),
        kind,
        restart_count: latest.restart_count + 1,
        after_exit: None,
    });
}
