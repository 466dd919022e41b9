//! Resizes of a running pod: promised where the node has room, then given.
//!
//! The pod's group is made large enough first, then the containers are changed, then the group is
//! made as small as it may be: at no time has a container less room above it than it was promised.
//!
//! Upstream: `pkg/kubelet/allocation/allocation_manager.go` (what is promised, the conditions),
//! `doPodResizeAction` in `pkg/kubelet/kuberuntime/kuberuntime_manager.go`.
//!
//! What waits for room is looked at again when a pod has been cleared away or takes less, and every
//! three minutes; who comes first is in [`order`].

pub(super) mod order;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;

use super::{inbox::News, worker::Worker};
use crate::{
    admission::{self, requests::Requests},
    allocation::{self, InProgress, Pending, WHOLE},
    cgroups::Limits,
    observed::RuntimePod,
    plan::{self, KillReason, Plan, Resize},
    pod::PodExt,
    pod_config,
    qos::{self, QosClass},
};

/// Upstream's period of looking again at what waits for room.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(180);

impl Worker {
    /// Promises what the pod wants now, if the node has it. Says whether the promise is a new one.
    pub(super) fn take_up_resize(&mut self, news: &News) -> bool {
        let (desired, allocated) = (&news.desired, &news.pod);
        if allocation::wants_same(desired, allocated) {
            if self.resize.pending.take().is_some() {
                self.inbox.set_waits_for_room(false);
            }
            return false;
        }
        let pending = self.resize_refusal(desired);
        self.inbox.set_waits_for_room(pending.as_ref().is_some_and(|it| it.reason == "Deferred"));
        let is_new = pending != self.resize.pending;
        if let Some(pending) = &pending
            && is_new
        {
            let title = format!("Pod resize {}", pending.reason);
            let message = allocation::message(&title, desired, Some(&pending.message));
            let reason = format!("Resize{}", pending.reason);
            self.context.recorder.warning(desired, &reason, message);
        }
        self.resize.pending = pending;
        if self.resize.pending.is_some() {
            return false;
        }
        self.context.allocations.allocate(desired);
        // What crashed for want of room is not held back any longer.
        for (_, container) in desired.all_containers() {
            self.backoffs.forget(&plan::backoff_key(&container));
        }
        self.inbox.set_allocated(self.context.allocations.applied_to(desired));
        // It may want less than it had.
        self.workers.notify_waiting();
        true
    }

    fn resize_refusal(&self, desired: &Arc<Pod>) -> Option<Pending> {
        let infeasible = |message: String| Some(Pending { reason: "Infeasible", message });
        if desired.is_mirror_or_static() {
            return infeasible("In-place resize of static-pods is not supported".to_owned());
        }
        if let Some(message) = self.pinned(desired) {
            return infeasible(message);
        }
        let allocatable = self.context.machine.allocatable(&self.context.settings.config);
        let wanted = Requests::of(desired);
        for (name, capacity) in [("memory", allocatable.memory), ("cpu", allocatable.cpu_milli)] {
            let requested = wanted.get(name);
            if requested > capacity {
                return infeasible(format!(
                    "Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"
                ));
            }
        }
        let mut all = self.workers.admitted(&desired.uid());
        all.push(self.inbox.pod());
        let ahead = order::ahead_of(desired, self.inbox.waits_since(), self.workers.resizes());
        let lack = |wanted: &Arc<Pod>, all: &[Arc<Pod>]| {
            let others: Vec<_> =
                all.iter().filter(|it| it.uid() != wanted.uid()).cloned().collect();
            let lacks = self.on_ground(|ground| admission::lacks(wanted, &others, ground));
            lacks.into_iter().find(|it| matches!(it.resource.as_str(), "cpu" | "memory"))
        };
        // What they are about to be given is no longer there.
        for first in ahead {
            if lack(&first, &all).is_none() {
                self.workers.notify(&first.uid());
                all.retain(|it| it.uid() != first.uid());
                all.push(first);
            }
        }
        let lacking = lack(desired, &all)?;
        Some(Pending { reason: "Deferred", message: lacking.message() })
    }

    /// What a guaranteed pod has for itself alone is not changed.
    fn pinned(&self, desired: &Pod) -> Option<String> {
        if qos::qos_class(desired) != QosClass::Guaranteed {
            return None;
        }
        let config = &self.context.settings.config;
        let managers = [
            ("cpu", "CPU", &config.cpu_manager_policy, "static"),
            ("memory", "Memory", &config.memory_manager_policy, "Static"),
        ];
        let allocated = self.inbox.pod();
        let mut refusing = managers.into_iter().filter(|(resource, _, policy, pinning)| {
            policy == pinning && allocation::changes(desired, &allocated, resource)
        });
        let (_, manager, policy, _) = refusing.next()?;
        Some(format!(
            "Resize is infeasible for Guaranteed Pods alongside {manager} Manager policy \"{policy}\""
        ))
    }

    /// Keeps the condition of a resize that is under way, and tells when it begins and ends.
    pub(super) fn note_resize(&mut self, pod: &Arc<Pod>, plan: &Plan) {
        let recorder = &self.context.recorder;
        match (is_resizing(plan), &self.resize.in_progress) {
            (true, None) => {
                let message = allocation::message("Pod resize started", pod, None);
                recorder.normal(pod, "ResizeStarted", message);
                self.resize.in_progress = Some(InProgress::default());
            }
            (false, Some(_)) => {
                let message = allocation::message("Pod resize completed", pod, None);
                recorder.normal(pod, "ResizeCompleted", message);
                self.resize.in_progress = None;
            }
            _ => {}
        }
    }

    /// Makes the pod's group large enough for what containers have and for what they get.
    pub(super) fn widen(&self, pod: &Arc<Pod>) -> Result<(), String> {
        let (new, old) = (self.group_limits(pod), self.group_limits(&self.as_actuated(pod)));
        let set = self.context.cgroups.set_pod(pod, wider(old, new));
        set.map_err(|error| format!("failed to set the pod's cgroup: {error}"))
    }

    /// Makes the pod's group what its containers have.
    pub(super) fn settle_group(&self, pod: &Arc<Pod>) -> Result<(), String> {
        let set = self.context.cgroups.set_pod(pod, self.group_limits(pod));
        set.map_err(|error| format!("failed to set the pod's cgroup: {error}"))
    }

    /// A pod with CPUs of its own has no quota.
    fn group_limits(&self, pod: &Pod) -> Limits {
        let limits = self.context.cgroups.limits_of(pod);
        let has_own = self.context.cm.has_exclusive_cpus(pod, None);
        Limits { quota: limits.quota.filter(|_| !has_own), ..limits }
    }

    /// The pod as its containers run.
    fn as_actuated(&self, pod: &Pod) -> Pod {
        let actuated = self.context.allocations.actuated(&pod.uid());
        let mut pod = pod.clone();
        allocation::put(&mut pod, &actuated);
        pod
    }

    /// Changes running containers. Says whether all of them could be.
    pub(super) async fn resize_containers(
        &mut self,
        pod: &Arc<Pod>,
        plan: &Plan,
        observed: &RuntimePod,
    ) -> bool {
        for resize in &plan.resize {
            let is_there = observed.containers.iter().any(|it| it.id == resize.id);
            if !is_there {
                continue;
            }
            if let Err(message) = self.resize_one(pod, resize).await {
                self.fail_resize(pod, message);
                return false;
            }
        }
        true
    }

    pub(super) fn fail_resize(&mut self, pod: &Arc<Pod>, message: String) {
        let known = self.resize.in_progress.as_ref().and_then(|it| it.error.as_ref());
        if known != Some(&message) {
            let text = allocation::message("Pod resize error", pod, Some(&message));
            self.context.recorder.warning(pod, "ResizeError", text);
        }
        self.resize.in_progress = Some(InProgress { error: Some(message) });
    }

    async fn resize_one(&self, pod: &Arc<Pod>, resize: &Resize) -> Result<(), String> {
        let Some((_, container)) = pod.find_container(&resize.name) else { return Ok(()) };
        let context = &self.context;
        let actuated = context.allocations.actuated(&pod.uid());
        let limit = |own, whole| qos::limits(Some(&qos::effective(own, whole))).memory;
        let old = limit(actuated.get(&container.name), actuated.get(WHOLE));
        let new =
            limit(container.resources.as_ref(), PodExt::spec(pod.as_ref()).resources.as_ref());
        if new > 0 && (old == 0 || new < old) {
            self.check_shrink(resize, new).await?;
        }
        let mut resources = pod_config::resources(pod, &container, context.machine.memory);
        context.cm.pin(pod, &container, &mut resources);
        context.cgroups.complete(pod, &container, &mut resources);
        let updated = context.runtime.update_container_resources(&resize.id, resources).await;
        updated
            .map_err(|error| format!("failed to resize container \"{}\": {error}", resize.name))?;
        context.allocations.actuate(pod, &container);
        Ok(())
    }

    /// The kernel would kill at once what uses more than it may.
    async fn check_shrink(&self, resize: &Resize, limit: i64) -> Result<(), String> {
        let usage = match self.context.runtime.container_memory(&resize.id).await {
            Ok(usage) => usage,
            Err(error) if error.is_unimplemented() => None,
            Err(error) => return Err(format!("cannot decrease memory limits: {error}")),
        };
        let Some(usage) = usage.and_then(|it| i64::try_from(it).ok()) else { return Ok(()) };
        if usage < limit {
            return Ok(());
        }
        Err(format!(
            "cannot decrease memory limits: attempting to set container \"{}\" memory limit ({limit}) below current usage ({usage})",
            resize.name
        ))
    }
}

pub(super) fn is_resizing(plan: &Plan) -> bool {
    plan.resize_pod
        || !plan.resize.is_empty()
        || plan.kill.iter().any(|it| it.reason == KillReason::Resize)
}

/// No limit is wider than any.
fn wider(a: Limits, b: Limits) -> Limits {
    let most = |a: Option<i64>, b: Option<i64>| a.zip(b).map(|(a, b)| a.max(b));
    Limits {
        shares: most(a.shares, b.shares).or(b.shares),
        quota: most(a.quota, b.quota),
        memory: most(a.memory, b.memory),
        pids: b.pids,
        period: b.period,
    }
}
