//! The status of a Job: counts, and how it ended.

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods};
use serde_json::{Value, json};

use super::{
    indexes,
    plan::{Observed, Outcome},
    pod,
};
use crate::pods;

pub(super) fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|it| it.type_ == kind)
}

/// The condition by which a Job has ended for good.
pub(crate) fn ended(status: &JobStatus) -> Option<&JobCondition> {
    let kinds = ["Complete", "Failed"];
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|it| kinds.contains(&it.type_.as_str()) && it.status == "True")
}

/// An end that was decided earlier, and waits for the last pods to be counted.
pub(super) fn decided(status: &JobStatus) -> Option<Outcome> {
    let of = |kind, is_success| {
        let condition = condition(status, kind).filter(|it| it.status == "True")?;
        let reason = condition.reason.clone().unwrap_or_default();
        let message = condition.message.clone().unwrap_or_default();
        Some(Outcome { is_success, reason, message })
    };
    of("SuccessCriteriaMet", true).or_else(|| of("FailureTarget", false))
}

pub(super) fn status(observed: &Observed, outcome: Option<&Outcome>) -> JobStatus {
    let known = observed.job.status.clone().unwrap_or_default();
    let mut status = JobStatus {
        active: nonzero(observed.active.len()),
        ready: Some(as_count(observed.active.iter().filter(|it| pods::is_ready(it)).count())),
        terminating: Some(observed.terminating),
        succeeded: Some(observed.succeeded).filter(|it| *it != 0),
        failed: Some(observed.failed).filter(|it| *it != 0),
        completed_indexes: pod::is_indexed(observed.job)
            .then(|| pod::write_indexes(&observed.completed))
            .filter(|it| !it.is_empty()),
        failed_indexes: indexes::limit(observed.job)
            .map(|_| pod::write_indexes(&observed.failed_indexes)),
        uncounted_terminated_pods: Some(uncounted(observed, outcome)),
        ..known
    };
    set_start(observed, &mut status);
    if let Some(outcome) = outcome {
        end(observed, outcome, &mut status);
    }
    status
}

fn uncounted(observed: &Observed, outcome: Option<&Outcome>) -> UncountedTerminatedPods {
    let list = |noted: &[String], new: &[std::sync::Arc<k8s_openapi::api::core::v1::Pod>]| {
        let new = new.iter().map(|it| object::uid(&**it));
        Some(noted.iter().cloned().chain(new).collect::<Vec<_>>()).filter(|it| !it.is_empty())
    };
    UncountedTerminatedPods {
        succeeded: list(&observed.noted_succeeded, &observed.new_succeeded),
        failed: list(&observed.noted_failed, &observed.failures_to_note(outcome)),
    }
}

fn set_start(observed: &Observed, status: &mut JobStatus) {
    if observed.is_finished() {
        return;
    }
    let is_suspended = observed.is_suspended();
    let was = condition(status, "Suspended").map(|it| it.status == "True");
    if is_suspended {
        if was != Some(true) {
            set(status, "Suspended", "True", "JobSuspended", "Job suspended", observed.now);
        }
        return;
    }
    if was == Some(true) {
        set(status, "Suspended", "False", "JobResumed", "Job resumed", observed.now);
        // Its time begins anew.
        status.start_time = None;
    }
    if status.start_time.is_none() {
        status.start_time = Some(object::time(observed.now));
    }
}

/// First it is said how the Job will end; it has ended when every pod is gone or counted.
fn end(observed: &Observed, outcome: &Outcome, status: &mut JobStatus) {
    let uncounted = status.uncounted_terminated_pods.as_ref();
    let is_counted = uncounted.is_none_or(|it| it.succeeded.is_none() && it.failed.is_none());
    let is_settled = is_counted && observed.active.is_empty() && observed.terminating == 0;
    let now = observed.now;
    let (decided, ended) = if outcome.is_success {
        ("SuccessCriteriaMet", "Complete")
    } else {
        ("FailureTarget", "Failed")
    };
    if condition(status, decided).is_none() {
        set(status, decided, "True", &outcome.reason, &outcome.message, now);
    }
    if is_settled {
        set(status, ended, "True", &outcome.reason, &outcome.message, now);
        if outcome.is_success {
            status.completion_time = Some(object::time(now));
        }
    }
}

fn set(
    status: &mut JobStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|it| it.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(object::time(now)),
        last_transition_time: Some(object::time(now)),
    });
}

fn nonzero(count: usize) -> Option<i32> {
    Some(as_count(count)).filter(|it| *it != 0)
}

fn as_count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// As a merge patch: what is left out of the status is taken away.
pub(super) fn patch(status: &JobStatus) -> Value {
    let mut patch = json!(status);
    for field in ["active", "succeeded", "failed", "startTime", "completedIndexes"] {
        if patch.get(field).is_none() {
            patch[field] = Value::Null;
        }
    }
    for field in ["succeeded", "failed"] {
        if patch["uncountedTerminatedPods"].get(field).is_none() {
            patch["uncountedTerminatedPods"][field] = Value::Null;
        }
    }
    patch
}

/// When a Job ended, if it has.
pub(crate) fn ended_at(job: &Job) -> Option<Timestamp> {
    let condition = ended(job.status.as_ref()?)?;
    condition.last_transition_time.as_ref().map(|it| it.0)
}
