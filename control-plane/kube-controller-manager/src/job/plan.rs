//! How a Job stands, and which pods it needs.
//!
//! Upstream: `job_controller.go` (`syncJob`, `manageJob`, `trackJobStatusAndRemoveFinalizers`),
//! `backoff_utils.go`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::Pod,
};

use super::{pod, status};
use crate::pods;

/// Upstream's `DefaultJobPodFailureBackOff` and `MaxJobPodFailureBackOff`.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LAST_BACKOFF: Duration = Duration::from_secs(600);
/// At most so many pods per pass (`MaxPodCreateDeletePerSync`).
const BURST: usize = 500;
pub(super) const BACKOFF: &str = "BackoffLimitExceeded";
pub(super) const DEADLINE: &str = "DeadlineExceeded";

/// How a Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Complete,
    Failed { reason: &'static str, message: &'static str },
}

/// Pods to make (with their index) and to delete.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<Option<i32>>,
    pub(super) delete: Vec<Arc<Pod>>,
}

/// A Job, its pods, and who is counted how.
#[derive(Debug)]
pub(super) struct Observed<'a> {
    pub(super) job: &'a Job,
    pub(super) spec: JobSpec,
    pub(super) active: Vec<Arc<Pod>>,
    /// Ended pods whose end is not in the status yet.
    pub(super) new_succeeded: Vec<Arc<Pod>>,
    pub(super) new_failed: Vec<Arc<Pod>>,
    /// UIDs that the status notes as ended, and whose pods are still held.
    pub(super) noted_succeeded: Vec<String>,
    pub(super) noted_failed: Vec<String>,
    /// What the status counts after this pass, released pods included.
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) completed: BTreeSet<i32>,
    /// Pods that are on their way out.
    pub(super) terminating: i32,
    owned: &'a [Arc<Pod>],
    pub(super) now: Timestamp,
}

impl<'a> Observed<'a> {
    pub(super) fn new(job: &'a Job, owned: &'a [Arc<Pod>], now: Timestamp) -> Self {
        let known = job.status.clone().unwrap_or_default();
        let uncounted = known.uncounted_terminated_pods.clone().unwrap_or_default();
        let held = |uid: &String| {
            owned.iter().any(|it| it.metadata.uid.as_ref() == Some(uid) && pod::is_held(it))
        };
        let split = |uids: Option<Vec<String>>| {
            let uids = uids.unwrap_or_default();
            let (open, released): (Vec<_>, Vec<_>) = uids.into_iter().partition(held);
            (open, i32::try_from(released.len()).unwrap_or(0))
        };
        let (noted_succeeded, released_succeeded) = split(uncounted.succeeded);
        let (noted_failed, released_failed) = split(uncounted.failed);
        let is_new = |it: &&Arc<Pod>| {
            let uid = object::uid(&***it);
            pod::is_held(it) && !noted_succeeded.contains(&uid) && !noted_failed.contains(&uid)
        };
        let ended = |phase: &str| -> Vec<_> {
            owned.iter().filter(|it| pods::phase(it) == phase).filter(is_new).cloned().collect()
        };
        let (new_succeeded, mut new_failed) = (ended("Succeeded"), ended("Failed"));
        // A pod that is deleted before it ends has failed.
        let stopped =
            owned.iter().filter(|it| object::is_terminating(&***it) && !pods::is_over(it));
        new_failed.extend(stopped.clone().filter(is_new).cloned());
        let mut completed =
            pod::read_indexes(known.completed_indexes.as_deref().unwrap_or_default());
        if pod::is_indexed(job) {
            let done = owned.iter().filter(|it| pods::phase(it) == "Succeeded" && pod::is_held(it));
            completed.extend(done.filter_map(|it| pod::index(it)));
        }
        let mut succeeded = known.succeeded.unwrap_or(0) + released_succeeded;
        if pod::is_indexed(job) {
            succeeded = i32::try_from(completed.len()).unwrap_or(i32::MAX);
        }
        Self {
            job,
            spec: job.spec.clone().unwrap_or_default(),
            active: owned.iter().filter(|it| pods::is_active(it)).cloned().collect(),
            terminating: i32::try_from(stopped.count()).unwrap_or(0),
            new_succeeded,
            new_failed,
            noted_succeeded,
            noted_failed,
            succeeded,
            failed: known.failed.unwrap_or(0) + released_failed,
            completed,
            owned,
            now,
        }
    }

    /// Whether the status (as it was read) says how this pod ended: then it may be released.
    pub(super) fn is_noted(&self, pod: &Pod) -> bool {
        let uid = object::uid(pod);
        self.noted_succeeded.contains(&uid) || self.noted_failed.contains(&uid)
    }

    pub(super) fn is_finished(&self) -> bool {
        let status = self.job.status.as_ref();
        status.is_some_and(|it| status::ended(it).is_some())
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// All successes that are known, counted or not.
    fn all_succeeded(&self) -> i32 {
        if pod::is_indexed(self.job) {
            return self.succeeded;
        }
        self.succeeded + count(&self.new_succeeded) + as_count(self.noted_succeeded.len())
    }

    fn all_failed(&self) -> i32 {
        self.failed + count(&self.new_failed) + as_count(self.noted_failed.len())
    }

    /// How the Job has ended, as far as the pods say.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        if self.is_finished() {
            return None;
        }
        if let Some(outcome) = self.job.status.as_ref().and_then(status::decided) {
            return Some(outcome);
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.all_failed() > limit || self.restarts() > limit {
            let message = "Job has reached the specified backoff limit";
            return Some(Outcome::Failed { reason: BACKOFF, message });
        }
        if self.deadline().is_some_and(|it| it <= self.now) && !self.is_suspended() {
            let message = "Job was active longer than specified deadline";
            return Some(Outcome::Failed { reason: DEADLINE, message });
        }
        let is_complete = match self.spec.completions {
            // Any success ends a work queue, once the others have ended too.
            None => self.all_succeeded() > 0 && self.active.is_empty(),
            Some(wanted) => {
                self.all_succeeded() >= wanted && (wanted > 0 || self.active.is_empty())
            }
        };
        is_complete.then_some(Outcome::Complete)
    }

    /// With `OnFailure` the kubelet restarts containers in place: these count too.
    fn restarts(&self) -> i32 {
        let policy = self.spec.template.spec.as_ref().and_then(|it| it.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return 0;
        }
        let statuses = self.active.iter().filter_map(|it| it.status.as_ref()).flat_map(|it| {
            let inits = it.init_container_statuses.iter().flatten();
            inits.chain(it.container_statuses.iter().flatten())
        });
        statuses.map(|it| it.restart_count).sum()
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = u64::try_from(self.spec.active_deadline_seconds?).ok()?;
        let started = self.job.status.as_ref()?.start_time.as_ref()?.0;
        Some(clock::later(started, Duration::from_secs(seconds)))
    }

    /// Until when no pod is made because one has failed.
    fn backed_off_until(&self) -> Option<Timestamp> {
        let failures = self.new_failed.iter().chain(self.failed_pods());
        let last = failures.filter_map(|it| ended_at(it)).max()?;
        // A success since then clears the slate.
        let succeeded = self.owned.iter().filter(|it| pods::phase(it) == "Succeeded");
        if succeeded.filter_map(|it| ended_at(it)).max().is_some_and(|it| it > last) {
            return None;
        }
        let rounds = u32::try_from(self.all_failed()).unwrap_or(1).saturating_sub(1).min(10);
        Some(last + FIRST_BACKOFF.saturating_mul(1 << rounds).min(LAST_BACKOFF))
    }

    fn failed_pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.owned.iter().filter(|it| pods::phase(it) == "Failed")
    }

    /// When a pass is due although nothing changes.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        if self.is_finished() || self.is_suspended() {
            return None;
        }
        let times = [self.deadline(), self.backed_off_until()];
        times.into_iter().flatten().filter(|it| *it > self.now).min()
    }

    pub(super) fn plan(&self, outcome: Option<&Outcome>) -> Plan {
        if self.is_finished() || outcome.is_some() || self.is_suspended() {
            return Plan { create: Vec::new(), delete: self.active.clone() };
        }
        let parallelism = usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0);
        let wanted = self.wanted_active(parallelism);
        if self.active.len() > wanted {
            let surplus = self.active.len() - wanted;
            return Plan { create: Vec::new(), delete: self.least_useful(surplus) };
        }
        if self.backed_off_until().is_some_and(|it| it > self.now) {
            return Plan::default();
        }
        // Pods on their way out keep their place until they are gone.
        let leaving = usize::try_from(self.terminating).unwrap_or(0);
        let missing = wanted.saturating_sub(self.active.len() + leaving).min(BURST);
        Plan { create: self.slots(missing), delete: Vec::new() }
    }

    fn wanted_active(&self, parallelism: usize) -> usize {
        match self.spec.completions {
            None if self.all_succeeded() > 0 => self.active.len().min(parallelism),
            None => parallelism,
            Some(completions) => {
                let left = usize::try_from(completions - self.all_succeeded()).unwrap_or(0);
                left.min(parallelism)
            }
        }
    }

    /// The indexes to work on next, or nameless slots.
    fn slots(&self, count: usize) -> Vec<Option<i32>> {
        if !pod::is_indexed(self.job) {
            return vec![None; count];
        }
        let busy: BTreeSet<_> = self.active.iter().filter_map(|it| pod::index(it)).collect();
        let all = 0..self.spec.completions.unwrap_or(0);
        let free = all.filter(|it| !busy.contains(it) && !self.completed.contains(it));
        free.take(count).map(Some).collect()
    }

    fn least_useful(&self, count: usize) -> Vec<Arc<Pod>> {
        let mut ranked = self.active.clone();
        ranked.sort_by_key(|it| {
            (
                pods::node_of(it).is_some(),
                pods::is_ready(it),
                std::cmp::Reverse(object::created_at(&**it)),
            )
        });
        ranked.truncate(count);
        ranked
    }
}

fn count(pods: &[Arc<Pod>]) -> i32 {
    as_count(pods.len())
}

fn as_count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// When the last of its containers ended.
fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.iter().flatten();
    let ends = statuses
        .filter_map(|it| Some(it.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0));
    let deleted = pod.metadata.deletion_timestamp.as_ref().map(|it| it.0);
    let ready = pods::condition(pod, "Ready").and_then(|it| it.last_transition_time.as_ref());
    ends.max().or(deleted).or(ready.map(|it| it.0))
}

#[cfg(test)]
mod tests;
