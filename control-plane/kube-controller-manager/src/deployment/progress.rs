//! Whether a rollout makes progress, and since when it does not.
//!
//! Upstream: `progress.go`.

use std::time::Duration;

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};

use super::plan::replicas;

pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(super) const COMPLETE: &str = "NewReplicaSetAvailable";

/// The deadline, where the Deployment has one.
pub(super) fn deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.as_ref().and_then(|it| it.progress_deadline_seconds);
    // The largest number stands for "no deadline".
    let seconds = seconds.unwrap_or(600);
    (seconds != i32::MAX).then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

pub(super) fn condition<'a>(
    status: &'a DeploymentStatus,
    kind: &str,
) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|it| it.type_ == kind)
}

/// Whether the new numbers are better than the old ones.
pub(super) fn is_progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let count = |it: Option<i32>| it.unwrap_or(0);
    let old_pods = |it: &DeploymentStatus| count(it.replicas) - count(it.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || old_pods(new) < old_pods(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

pub(super) fn is_done(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = Some(replicas(deployment));
    let or_zero = |it: Option<i32>| Some(it.unwrap_or(0));
    or_zero(status.updated_replicas) == wanted
        && or_zero(status.replicas) == wanted
        && or_zero(status.available_replicas) == wanted
}

/// Whether the last sign of progress is older than the deadline.
pub(super) fn has_timed_out(
    deployment: &Deployment,
    last: Option<&DeploymentCondition>,
    now: Timestamp,
) -> bool {
    let Some(last) = last else { return false };
    if last.reason.as_deref() == Some(COMPLETE) {
        return false;
    }
    if last.reason.as_deref() == Some(TIMED_OUT) {
        return true;
    }
    let since = last.last_update_time.as_ref().or(last.last_transition_time.as_ref());
    match (deadline(deployment), since) {
        (Some(deadline), Some(since)) => since.0 + deadline < now,
        _ => false,
    }
}

/// When to look whether the deadline has passed.
pub(super) fn next_check(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let last = condition(status, PROGRESSING)?;
    let reason = last.reason.as_deref();
    if reason == Some(COMPLETE) || reason == Some(TIMED_OUT) || object::is_terminating(deployment) {
        return None;
    }
    let deadline = last.last_update_time.as_ref()?.0 + deadline(deployment)?;
    let left = Duration::try_from(deadline.duration_since(now)).unwrap_or_default();
    Some(left + Duration::from_secs(1))
}
