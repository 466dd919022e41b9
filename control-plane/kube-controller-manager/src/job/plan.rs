//! How a Job stands, and which pods it needs.
//!
//! Upstream: `job_controller.go` (`syncJob`, `manageJob`, `trackJobStatusAndRemoveFinalizers`),
//! `backoff_utils.go`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec, JobStatus},
    core::v1::Pod,
};

use super::{
    failures::{Verdict, has_failed, judge, waits_for_the_end},
    indexes::{self, Failures},
    pod, status,
};
use crate::pods;

/// Upstream's `DefaultJobPodFailureBackOff` and `MaxJobPodFailureBackOff`.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LAST_BACKOFF: Duration = Duration::from_secs(600);
/// At most so many pods per pass (`MaxPodCreateDeletePerSync`).
const BURST: usize = 500;
pub(super) const BACKOFF: &str = "BackoffLimitExceeded";
pub(super) const DEADLINE: &str = "DeadlineExceeded";
pub(super) const POLICY: &str = "PodFailurePolicy";
pub(super) const FAILED_INDEXES: &str = "FailedIndexes";
pub(super) const TOO_MANY_FAILED_INDEXES: &str = "MaxFailedIndexesExceeded";

/// How a Job ends, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) is_success: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Outcome {
    fn complete(reason: &str, message: impl Into<String>) -> Self {
        Self { is_success: true, reason: reason.into(), message: message.into() }
    }

    fn failed(reason: &str, message: impl Into<String>) -> Self {
        Self { is_success: false, reason: reason.into(), message: message.into() }
    }
}

/// A pod to make: the index that it works on, and how often that index has failed where this counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) index: Option<i32>,
    pub(super) failures: Option<Failures>,
}

/// Pods to make and to delete.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<Slot>,
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
    /// Indexes that are not tried again.
    pub(super) failed_indexes: BTreeSet<i32>,
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
        let news = |test: &dyn Fn(&Pod) -> bool| -> Vec<_> {
            owned.iter().filter(|it| test(it)).filter(is_new).cloned().collect()
        };
        let stopped =
            owned.iter().filter(|it| object::is_terminating(&***it) && !pods::is_over(it));
        let completed = completed(job, &known, owned);
        let mut succeeded = known.succeeded.unwrap_or(0) + released_succeeded;
        if pod::is_indexed(job) {
            succeeded = as_count(completed.len());
        }
        Self {
            job,
            spec: job.spec.clone().unwrap_or_default(),
            active: owned.iter().filter(|it| pods::is_active(it)).cloned().collect(),
            terminating: as_count(stopped.count()),
            new_succeeded: news(&|it| pods::phase(it) == "Succeeded"),
            new_failed: news(&|it| has_failed(job, it)),
            noted_succeeded,
            noted_failed,
            succeeded,
            failed: known.failed.unwrap_or(0) + released_failed,
            failed_indexes: failed_indexes(job, &known, owned),
            completed,
            owned,
            now,
        }
    }

    /// Whether the status (as it was read) says how this pod ended.
    fn is_noted(&self, pod: &Pod) -> bool {
        let uid = object::uid(pod);
        self.noted_succeeded.contains(&uid) || self.noted_failed.contains(&uid)
    }

    /// Whether a pod may be released: it is counted, or it never will be.
    pub(super) fn may_go(&self, pod: &Pod, outcome: Option<&Outcome>) -> bool {
        if is_stopped_by_success(pod, outcome) {
            return true;
        }
        let uid = pod.metadata.uid.as_ref();
        let is_held_back = || self.held_back(outcome).any(|it| it.metadata.uid.as_ref() == uid);
        let is_ignored = || has_failed(self.job, pod) && !self.is_counted(pod) && !is_held_back();
        self.is_noted(pod) || is_ignored()
    }

    /// Whether the failure of this pod is one of the Job's.
    fn is_counted(&self, pod: &Pod) -> bool {
        judge(self.job, pod) != Verdict::Ignore
    }

    /// The failed pods that the status notes from now on.
    pub(super) fn failures_to_note(&self, outcome: Option<&Outcome>) -> Vec<Arc<Pod>> {
        let held: BTreeSet<_> =
            self.held_back(outcome).filter_map(|it| it.metadata.uid.clone()).collect();
        let is_due = |it: &&Arc<Pod>| {
            self.is_counted(it)
                && !is_stopped_by_success(it, outcome)
                && it.metadata.uid.as_ref().is_none_or(|uid| !held.contains(uid))
        };
        self.new_failed.iter().filter(is_due).cloned().collect()
    }

    /// The failed pods that are still to be replaced: they know how often their index has failed.
    fn held_back(&self, outcome: Option<&Outcome>) -> impl Iterator<Item = &Arc<Pod>> {
        let is_over = self.is_finished() || outcome.is_some();
        let last = if is_over { BTreeMap::new() } else { self.last_failed() };
        last.into_values()
    }

    /// Of each index that is to be tried again and has no pod, the last one that failed.
    fn last_failed(&self) -> BTreeMap<i32, &Arc<Pod>> {
        let mut last = BTreeMap::<i32, &Arc<Pod>>::new();
        if indexes::limit(self.job).is_none() {
            return last;
        }
        let busy: BTreeSet<_> = self.active.iter().filter_map(|it| pod::index(it)).collect();
        for it in self.owned.iter().filter(|it| pod::is_held(it) && has_failed(self.job, it)) {
            let Some(index) = pod::index(it) else { continue };
            let sets = [&busy, &self.completed, &self.failed_indexes];
            if sets.iter().any(|set| set.contains(&index)) {
                continue;
            }
            let is_later =
                |known: &Arc<Pod>| Failures::before(known).all() < Failures::before(it).all();
            if last.get(&index).is_none_or(|known| is_later(known)) {
                last.insert(index, it);
            }
        }
        last
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
        let new = self.new_failed.iter().filter(|it| self.is_counted(it)).count();
        self.failed + as_count(new) + as_count(self.noted_failed.len())
    }

    /// How the Job has ended, as far as the pods say.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        if self.is_finished() {
            return None;
        }
        if let Some(outcome) = self.job.status.as_ref().and_then(status::decided) {
            return Some(outcome);
        }
        self.failure().or_else(|| self.success())
    }

    fn failure(&self) -> Option<Outcome> {
        let mut failed = self.owned.iter().filter(|it| has_failed(self.job, it));
        let by_policy = failed.find_map(|it| match judge(self.job, it) {
            Verdict::FailJob(message) => Some(message),
            _ => None,
        });
        if let Some(message) = by_policy {
            return Some(Outcome::failed(POLICY, message));
        }
        let limit = self.backoff_limit();
        // The restart that reaches the limit ends the Job; of pods it is the one that exceeds it.
        let restarts = self.restarts();
        if self.all_failed() > limit || (restarts > 0 && restarts >= limit) {
            return Some(Outcome::failed(BACKOFF, "Job has reached the specified backoff limit"));
        }
        if self.deadline().is_some_and(|it| it <= self.now) && !self.is_suspended() {
            let message = "Job was active longer than specified deadline";
            return Some(Outcome::failed(DEADLINE, message));
        }
        let failed = as_count(self.failed_indexes.len());
        if self.spec.max_failed_indexes.is_some_and(|it| failed > it) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(Outcome::failed(TOO_MANY_FAILED_INDEXES, message));
        }
        let are_all_over = failed + self.succeeded >= self.spec.completions.unwrap_or(i32::MAX);
        (failed > 0 && are_all_over)
            .then(|| Outcome::failed(FAILED_INDEXES, "Job has failed indexes"))
    }

    /// Without a limit of its own, a Job whose indexes have one is not ended by their sum.
    fn backoff_limit(&self) -> i32 {
        let default = if indexes::limit(self.job).is_some() { i32::MAX } else { 6 };
        self.spec.backoff_limit.unwrap_or(default)
    }

    fn success(&self) -> Option<Outcome> {
        if let Some(rule) = indexes::fulfilled_rule(self.job, &self.completed) {
            return Some(Outcome::complete(
                "SuccessPolicy",
                format!("Matched rules at index {rule}"),
            ));
        }
        let is_complete = match self.spec.completions {
            // Any success ends a work queue, once the others have ended too.
            None => self.all_succeeded() > 0 && self.active.is_empty(),
            Some(wanted) => {
                self.all_succeeded() >= wanted && (wanted > 0 || self.active.is_empty())
            }
        };
        is_complete.then(|| {
            Outcome::complete("CompletionsReached", "Reached expected number of succeeded pods")
        })
    }

    /// With `OnFailure` the kubelet restarts containers in place: these count too.
    fn restarts(&self) -> i32 {
        let policy = self.spec.template.spec.as_ref().and_then(|it| it.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return 0;
        }
        let running = self.owned.iter().filter(|it| !pods::is_over(it));
        let statuses = running.filter_map(|it| it.status.as_ref()).flat_map(|it| {
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
        if indexes::limit(self.job).is_some() {
            return None;
        }
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
        let of_indexes = self.last_failed().into_values().map(|it| retry_at(it));
        times.into_iter().flatten().chain(of_indexes).filter(|it| *it > self.now).min()
    }

    pub(super) fn plan(&self, outcome: Option<&Outcome>) -> Plan {
        if self.is_finished() || outcome.is_some() || self.is_suspended() {
            return Plan { create: Vec::new(), delete: self.active.clone() };
        }
        let surplus = self.surplus_of_indexes();
        if !surplus.is_empty() {
            return Plan { create: Vec::new(), delete: surplus };
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
        // Pods on their way out keep their place where their end is waited for.
        let leaving = if waits_for_the_end(self.job) { self.terminating } else { 0 };
        let leaving = usize::try_from(leaving).unwrap_or(0);
        let missing = wanted.saturating_sub(self.active.len() + leaving).min(BURST);
        Plan { create: self.slots(missing), delete: Vec::new() }
    }

    fn surplus_of_indexes(&self) -> Vec<Arc<Pod>> {
        if !pod::is_indexed(self.job) {
            return Vec::new();
        }
        indexes::surplus(&self.active, self.spec.completions.unwrap_or(0))
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
    fn slots(&self, count: usize) -> Vec<Slot> {
        if !pod::is_indexed(self.job) {
            return vec![Slot::default(); count];
        }
        let last = self.last_failed();
        let has_limit = indexes::limit(self.job).is_some();
        let slot = |index: i32| {
            let replaced = last.get(&index);
            if replaced.is_some_and(|it| retry_at(it) > self.now) {
                return None;
            }
            let failures = replaced.map(|it| Failures::after(self.job, it)).unwrap_or_default();
            Some(Slot { index: Some(index), failures: has_limit.then_some(failures) })
        };
        self.free_indexes().filter_map(slot).take(count).collect()
    }

    /// Those that nobody works on and that are neither done nor given up.
    fn free_indexes(&self) -> impl Iterator<Item = i32> {
        let mut taken: BTreeSet<_> = self.active.iter().filter_map(|it| pod::index(it)).collect();
        if waits_for_the_end(self.job) {
            let leaving = self.owned.iter().filter(|it| !pods::is_over(it));
            taken.extend(leaving.filter_map(|it| pod::index(it)));
        }
        let all = 0..self.spec.completions.unwrap_or(0);
        all.filter(move |it| {
            !taken.contains(it) && !self.completed.contains(it) && !self.failed_indexes.contains(it)
        })
    }

    fn least_useful(&self, count: usize) -> Vec<Arc<Pod>> {
        let mut ranked = self.active.clone();
        ranked.sort_by_key(|it| (usefulness(it), std::cmp::Reverse(object::created_at(&**it))));
        ranked.truncate(count);
        ranked
    }
}

/// A pod that was stopped because the Job needs it no more is no failure.
fn is_stopped_by_success(pod: &Pod, outcome: Option<&Outcome>) -> bool {
    outcome.is_some_and(|it| it.is_success) && !pods::is_over(pod)
}

/// How far a pod has come.
pub(super) fn usefulness(pod: &Pod) -> (bool, bool) {
    (pods::node_of(pod).is_some(), pods::is_ready(pod))
}

/// The indexes that the status knows as done, and those that its pods have done since.
fn completed(job: &Job, known: &JobStatus, owned: &[Arc<Pod>]) -> BTreeSet<i32> {
    let mut completed = pod::read_indexes(known.completed_indexes.as_deref().unwrap_or_default());
    if pod::is_indexed(job) {
        let done = owned.iter().filter(|it| pods::phase(it) == "Succeeded" && pod::is_held(it));
        completed.extend(done.filter_map(|it| pod::index(it)));
        // An elastic Job may have become smaller.
        let completions = job.spec.as_ref().and_then(|it| it.completions).unwrap_or(0);
        completed.retain(|it| (0..completions).contains(it));
    }
    completed
}

fn failed_indexes(job: &Job, known: &JobStatus, owned: &[Arc<Pod>]) -> BTreeSet<i32> {
    if indexes::limit(job).is_none() {
        return BTreeSet::new();
    }
    let completions = job.spec.as_ref().and_then(|it| it.completions).unwrap_or(0);
    let mut failed = pod::read_indexes(known.failed_indexes.as_deref().unwrap_or_default());
    let last = owned
        .iter()
        .filter(|it| pod::is_held(it) && has_failed(job, it) && indexes::ends_index(job, it));
    failed.extend(last.filter_map(|it| pod::index(it)));
    failed.retain(|it| (0..completions).contains(it));
    failed
}

/// When the index of a pod that failed is tried again.
fn retry_at(failed: &Pod) -> Timestamp {
    let rounds = u32::try_from(Failures::before(failed).all()).unwrap_or(0).min(10);
    let pause = FIRST_BACKOFF.saturating_mul(1 << rounds).min(LAST_BACKOFF);
    ended_at(failed).map_or(Timestamp::UNIX_EPOCH, |it| it + pause)
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
