//! Whether a Job is due, and which old ones go.
//!
//! Upstream: `syncCronJob`, `cleanupFinishedJobs`, `nextScheduleTime`. Of several times that were
//! missed only the last counts.

use std::{sync::Arc, time::Duration};

use controller::object;
use cron::{Dialect, ParseError, Schedule, UnknownZone};
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{CronJob, Job, JobStatus},
    core::v1::ObjectReference,
};

use super::Jobs;

/// More missed times than this are not counted one by one.
const MANY: usize = 100_000;
/// More than this are worth a warning.
const TOO_MANY: usize = 100;

pub(super) struct Observed<'a> {
    pub(super) cron: &'a CronJob,
    pub(super) jobs: &'a Jobs,
    pub(super) now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Start {
    Nothing,
    At(Timestamp),
    /// The one before still runs.
    Forbidden,
    /// It is too late for the starting deadline.
    Missed {
        at: Timestamp,
    },
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) start: Start,
    /// Running Jobs that make way (`Replace`).
    pub(super) replace: Vec<Arc<Job>>,
    /// Ended Jobs beyond the history limits.
    pub(super) clean: Vec<Arc<Job>>,
    /// Jobs that run.
    pub(super) active: Vec<Arc<Job>>,
    /// Noted as running, and not among the Jobs.
    pub(super) unseen: Vec<ObjectReference>,
    /// Jobs that were noted as running and have ended.
    pub(super) ended: Vec<Arc<Job>>,
    pub(super) last_success: Option<Timestamp>,
    /// Jobs that run and were not noted.
    pub(super) unexpected: Vec<Arc<Job>>,
    /// Names of Jobs that were noted as running and are not there.
    pub(super) missing: Vec<String>,
    /// So many times were missed that a clock may be wrong.
    pub(super) missed_many: bool,
    /// When to look again.
    pub(super) next: Option<Timestamp>,
}

/// Why a CronJob cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error(transparent)]
    Schedule(#[from] ParseError),
    #[error(transparent)]
    Zone(#[from] UnknownZone),
}

impl Observed<'_> {
    pub(super) fn plan(&self) -> Result<Plan, Unusable> {
        let spec = self.cron.spec.clone();
        let schedule = Schedule::parse(&spec.schedule, Dialect::KUBERNETES)?;
        let zone = cron::zone(spec.time_zone.as_deref())?;
        let (ended, running): (Vec<_>, Vec<_>) =
            self.jobs.iter().cloned().partition(|it| is_ended(it));
        let (due, missed) = self.due(&schedule, &zone);
        let is_suspended = spec.suspend == Some(true);
        let deadline = spec.starting_deadline_seconds.and_then(|it| u64::try_from(it).ok());
        let policy = spec.concurrency_policy.as_deref();
        let start = match due {
            None => Start::Nothing,
            Some(_) if is_suspended => Start::Nothing,
            Some(at)
                if deadline
                    .is_some_and(|it| clock::later(at, Duration::from_secs(it)) < self.now) =>
            {
                Start::Missed { at }
            }
            Some(_) if policy == Some("Forbid") && !running.is_empty() => Start::Forbidden,
            Some(at) => Start::At(at),
        };
        let replaces = matches!(start, Start::At(_)) && policy == Some("Replace");
        let noted = self.cron.status.as_ref().and_then(|it| it.active.clone()).unwrap_or_default();
        let was_active = |it: &Arc<Job>| noted.iter().any(|noted| noted.uid == it.metadata.uid);
        let successes = ended.iter().filter(|it| end_of(it) == "Complete");
        let last_success = successes.filter_map(|it| it.status.as_ref()?.completion_time.as_ref());
        let is_there = |uid: &Option<String>| self.jobs.iter().any(|it| it.metadata.uid == *uid);
        let missing = noted.iter().filter(|it| !is_there(&it.uid));
        Ok(Plan {
            unexpected: running.iter().filter(|it| !was_active(it)).cloned().collect(),
            missing: missing.filter_map(|it| it.name.clone()).collect(),
            missed_many: !is_suspended && missed > TOO_MANY,
            last_success: last_success.map(|it| it.0).max(),
            clean: clean(
                &ended,
                spec.successful_jobs_history_limit,
                spec.failed_jobs_history_limit,
            ),
            replace: if replaces { running.clone() } else { Vec::new() },
            active: if replaces { Vec::new() } else { running },
            unseen: noted.iter().filter(|it| !self.is_there(it)).cloned().collect(),
            ended: ended.iter().filter(|it| was_active(it)).cloned().collect(),
            next: if is_suspended { None } else { schedule.next(self.now, &zone) },
            start,
        })
    }

    fn is_there(&self, noted: &ObjectReference) -> bool {
        self.jobs.iter().any(|it| it.metadata.uid == noted.uid)
    }

    /// The last time that should have started a Job and has not, and how many of them could still be
    /// started.
    fn due(&self, schedule: &Schedule, zone: &jiff::tz::TimeZone) -> (Option<Timestamp>, usize) {
        let created = object::created_at(self.cron);
        let last = self.cron.status.as_ref().and_then(|it| it.last_schedule_time.as_ref());
        let mut earliest = last.map_or(created, |it| it.0);
        let deadline = self.cron.spec.starting_deadline_seconds;
        let mut startable = Timestamp::MIN;
        if let Some(seconds) = deadline.and_then(|it| u64::try_from(it).ok()) {
            // What is older could not be started any more; one is kept for saying so.
            let kept = Duration::from_secs(seconds.saturating_add(24 * 3600));
            let limit = clock::earlier(self.now, kept);
            earliest = earliest.max(limit);
            startable = clock::earlier(self.now, Duration::from_secs(seconds));
        }
        let (mut due, mut missed) = (None, 0);
        for _ in 0..MANY {
            match schedule.next(earliest, zone) {
                Some(at) if at <= self.now => {
                    due = Some(at);
                    missed += usize::from(at > startable);
                    earliest = at;
                }
                _ => break,
            }
        }
        (due, missed)
    }
}

fn is_ended(job: &Job) -> bool {
    !end_of(job).is_empty()
}

/// `Complete`, `Failed` or nothing.
pub(super) fn end_of(job: &Job) -> &str {
    let status: Option<&JobStatus> = job.status.as_ref();
    let mut conditions = status.into_iter().flat_map(|it| it.conditions.iter().flatten());
    let end = conditions
        .find(|it| (it.type_ == "Complete" || it.type_ == "Failed") && it.status == "True");
    end.map_or("", |it| it.type_.as_str())
}

fn clean(ended: &[Arc<Job>], successes: Option<i32>, failures: Option<i32>) -> Vec<Arc<Job>> {
    let surplus = |kind: &str, limit: i32| {
        let mut jobs: Vec<_> = ended
            .iter()
            .filter(|it| end_of(it) == kind && !object::is_terminating(&***it))
            .cloned()
            .collect();
        jobs.sort_by_key(|it| (object::created_at(&**it), it.metadata.name.clone()));
        let surplus = jobs.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        jobs.truncate(surplus);
        jobs
    };
    let mut all = surplus("Complete", successes.unwrap_or(3));
    all.extend(surplus("Failed", failures.unwrap_or(1)));
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cron(spec: Value, last: Value) -> CronJob {
        let mut full = json!({ "schedule": "0 * * * *", "jobTemplate": {} });
        for (key, value) in spec.as_object().unwrap() {
            full[key] = value.clone();
        }
        serde_json::from_value(json!({
            "metadata": { "name": "c", "creationTimestamp": "2026-01-01T00:30:00Z" },
            "spec": full, "status": { "lastScheduleTime": last },
        }))
        .unwrap()
    }

    fn job(name: &str, end: &str) -> Arc<Job> {
        let conditions =
            if end.is_empty() { json!([]) } else { json!([{ "type": end, "status": "True" }]) };
        let value = json!({ "metadata": { "name": name, "uid": name }, "status": { "conditions": conditions } });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: &str) -> Plan {
        Observed { cron, jobs, now: now.parse().unwrap() }.plan().unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_last_missed_time_starts_a_job() {
        let fresh = cron(json!({}), Value::Null);
        assert_eq!(plan(&fresh, &[], "2026-01-01T00:59:59Z").start, Start::Nothing);
        let due = plan(&fresh, &[], "2026-01-01T01:00:00Z");
        assert_eq!(due.start, Start::At(at("2026-01-01T01:00:00Z")));
        assert_eq!(due.next, Some(at("2026-01-01T02:00:00Z")));
        let late = plan(&fresh, &[], "2026-01-01T05:10:00Z");
        assert_eq!(late.start, Start::At(at("2026-01-01T05:00:00Z")));
        let done = cron(json!({}), json!("2026-01-01T05:00:00Z"));
        assert_eq!(plan(&done, &[], "2026-01-01T05:10:00Z").start, Start::Nothing);
        let suspended = cron(json!({ "suspend": true }), Value::Null);
        assert_eq!(plan(&suspended, &[], "2026-01-01T05:10:00Z").start, Start::Nothing);
    }

    #[test]
    fn a_starting_deadline_lets_a_time_pass() {
        let strict = cron(json!({ "startingDeadlineSeconds": 60 }), Value::Null);
        let missed = Start::Missed { at: at("2026-01-01T01:00:00Z") };
        assert_eq!(plan(&strict, &[], "2026-01-01T01:02:00Z").start, missed);
        let started = Start::At(at("2026-01-01T01:00:00Z"));
        assert_eq!(plan(&strict, &[], "2026-01-01T01:00:59Z").start, started);
        let endless = cron(json!({ "startingDeadlineSeconds": i64::MAX }), Value::Null);
        assert_eq!(plan(&endless, &[], "2026-01-01T01:59:00Z").start, started);
    }

    #[test]
    fn the_concurrency_policy_decides_about_a_job_that_still_runs() {
        let running = [job("a", "")];
        let now = "2026-01-01T01:00:00Z";
        let with = |policy: &str| {
            plan(&cron(json!({ "concurrencyPolicy": policy }), Value::Null), &running, now)
        };
        assert!(matches!(with("Allow").start, Start::At(_)));
        assert_eq!(with("Forbid").start, Start::Forbidden);
        let replaced = with("Replace");
        assert!(matches!(replaced.start, Start::At(_)));
        assert_eq!((replaced.replace.len(), replaced.active.len()), (1, 0));
    }

    #[test]
    fn history_is_kept_within_its_limits() {
        let jobs = [
            job("a", "Complete"),
            job("b", "Complete"),
            job("c", "Failed"),
            job("d", "Failed"),
            job("e", ""),
        ];
        let cron = cron(json!({ "successfulJobsHistoryLimit": 1 }), json!("2026-01-01T01:00:00Z"));
        let clean = plan(&cron, &jobs, "2026-01-01T01:00:00Z").clean;
        let names: Vec<_> = clean.iter().map(|it| it.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["a", "c"]);
    }

    #[test]
    fn jobs_that_nobody_noted_and_notes_of_jobs_that_are_gone_are_seen() {
        let mut cron = cron(json!({}), json!("2026-01-01T01:00:00Z"));
        let noted = |name: &str| ObjectReference {
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..Default::default()
        };
        cron.status.as_mut().unwrap().active = Some(vec![noted("a"), noted("gone")]);
        let jobs = [job("a", ""), job("b", ""), job("c", "Complete")];
        let plan = plan(&cron, &jobs, "2026-01-01T01:00:00Z");
        let unexpected: Vec<_> =
            plan.unexpected.iter().map(|it| it.metadata.name.clone()).collect();
        assert_eq!(unexpected, [Some("b".to_owned())]);
        assert_eq!(plan.missing, ["gone"]);
    }

    #[test]
    fn more_than_a_hundred_missed_times_are_too_many_unless_a_deadline_lets_them_pass() {
        let every_minute = |mut spec: Value| {
            spec["schedule"] = "* * * * *".into();
            cron(spec, json!("2026-01-01T01:00:00Z"))
        };
        let missed = |spec: Value, now: &str| plan(&every_minute(spec), &[], now).missed_many;
        assert!(!missed(json!({}), "2026-01-01T02:40:00Z"));
        assert!(missed(json!({}), "2026-01-01T02:41:00Z"));
        assert!(!missed(json!({ "suspend": true }), "2026-01-01T02:41:00Z"));
        let bounded = json!({ "startingDeadlineSeconds": 600 });
        assert!(!missed(bounded, "2026-01-01T02:41:00Z"));
    }
}
