//! Starts a Job whenever its schedule says so.
//!
//! Each Job is named after its minute, so that no pass can start one twice.
//!
//! Upstream: `pkg/controller/cronjob`.

mod plan;

use std::sync::Arc;

use controller::{Action, ApplyError, Change, Key, Queue, Recorder, apply, object};
use cron::UnknownZone;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::api::DeleteParams;
use serde_json::json;

use self::plan::{Observed, Plan, Start, Unusable};
use crate::{Context, caches::BY_OWNER};

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    queue: Queue<Key>,
}

pub(crate) async fn run(context: Context) {
    let it = Controller {
        recorder: context.recorder("cronjob-controller"),
        queue: Queue::new(),
        context,
    };
    let queue = it.queue.clone();
    it.context.caches.cron_jobs.subscribe(move |change| queue.add(change.key.clone()));
    let this = it.clone();
    it.context.caches.jobs.subscribe(move |change| this.job_changed(change));
    let queue = it.queue.clone();
    controller::run("cronjob", queue, 5, |key| it.reconcile(key)).await;
}

impl Controller {
    fn job_changed(&self, change: &Change<Job>) {
        let owner = change.latest().and_then(|it| object::controller_of(&**it));
        if let Some(owner) = owner.filter(|it| it.kind == "CronJob") {
            self.queue.add(Key::new(&change.key.namespace, &owner.name));
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ApplyError> {
        let Some(cron) = self.context.caches.cron_jobs.get(&key) else { return Ok(Action::Done) };
        if object::is_terminating(&*cron) {
            return Ok(Action::Done);
        }
        let uid = object::uid(&*cron);
        let jobs = self.context.caches.jobs.indexed(BY_OWNER, &uid);
        let now = self.context.clock.now();
        let observed = Observed { cron: &cron, jobs: &jobs, now };
        let plan = match observed.plan() {
            Ok(plan) => plan,
            Err(error) => {
                // It stays wrong until somebody changes it.
                let (reason, message) = unusable(&cron, &error);
                self.recorder.warn(&*cron, reason, message);
                return Ok(Action::Done);
            }
        };
        self.tell_oddities(&key, &cron, &plan).await?;
        self.apply(&key, &cron, &plan).await?;
        let due = plan.next.map(|at| self.context.clock.until(at));
        Ok(due.map_or(Action::Done, |it| Action::After(it + std::time::Duration::from_millis(1))))
    }

    /// Tells about Jobs that are not as noted. The cache may not show yet what an earlier pass noted,
    /// so the API server is asked first.
    async fn tell_oddities(
        &self,
        key: &Key,
        cron: &CronJob,
        plan: &Plan,
    ) -> Result<(), ApplyError> {
        if plan.missed_many {
            let message = "too many missed start times. Set or decrease \
                           .spec.startingDeadlineSeconds or check clock skew";
            self.recorder.warn(cron, "TooManyMissedTimes", message);
        }
        if cron.spec.schedule.contains("TZ") {
            let message = format!(
                "CRON_TZ or TZ used in schedule {:?} is not officially supported, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more \
                 details",
                cron.spec.schedule
            );
            self.recorder.warn(cron, "UnsupportedSchedule", message);
        }
        if plan.unexpected.is_empty() && plan.missing.is_empty() {
            return Ok(());
        }
        let crons = apply::api::<CronJob>(&self.context.client, &key.namespace);
        let found = crons.get_opt(&key.name).await;
        let found = found.map_err(|it| ApplyError::new::<CronJob>("get", &key.name, it))?;
        let noted = found.and_then(|it| it.status?.active).unwrap_or_default();
        for job in &plan.unexpected {
            if !noted.iter().any(|it| it.uid == job.metadata.uid) {
                let name = job.metadata.name.as_deref().unwrap_or_default();
                let message =
                    format!("Saw a job that the controller did not create or forgot: {name}");
                self.recorder.warn(cron, "UnexpectedJob", message);
            }
        }
        let jobs = apply::api::<Job>(&self.context.client, &key.namespace);
        for name in &plan.missing {
            let is_noted = noted.iter().any(|it| it.name.as_ref() == Some(name));
            if !is_noted {
                continue;
            }
            let job = jobs.get_opt(name).await;
            if job.map_err(|it| ApplyError::new::<Job>("get", name, it))?.is_none() {
                let message = format!("Active job went missing: {name}");
                self.recorder.normal(cron, "MissingJob", message);
            }
        }
        Ok(())
    }

    async fn apply(&self, key: &Key, cron: &CronJob, plan: &Plan) -> Result<(), ApplyError> {
        let jobs = apply::api::<Job>(&self.context.client, &key.namespace);
        for job in plan.clean.iter().chain(&plan.replace) {
            let deleted = apply::delete_with(&jobs, &**job, DeleteParams::background()).await;
            if let Err(error) = deleted {
                let message = format!("Deleted job: {}", error.server_message());
                self.recorder.warn(cron, "FailedDelete", message);
                return Err(error);
            }
            let name = job.metadata.name.as_deref().unwrap_or_default();
            self.recorder.normal(cron, "SuccessfulDelete", format!("Deleted job {name}"));
        }
        let mut active: Vec<_> = plan.active.iter().map(|it| reference(it)).collect();
        active.extend(self.unseen(key, cron, plan).await?);
        let mut last = cron.status.as_ref().and_then(|it| it.last_schedule_time.clone());
        match &plan.start {
            Start::Nothing => {}
            Start::Forbidden => {
                let message = "Not starting job because prior execution is running and \
                     concurrency policy is Forbid";
                self.recorder.normal(cron, "JobAlreadyActive", message);
            }
            Start::Missed { at } => {
                let at = at.strftime("%a, %d %b %Y %H:%M:%S +0000");
                let message = format!("Missed scheduled time to start a job: {at}");
                self.recorder.warn(cron, "MissSchedule", message);
            }
            Start::At(at) => {
                if let Some(job) = self.start(cron, *at).await? {
                    active.push(reference(&job));
                }
                last = Some(object::time(*at));
            }
        }
        for job in &plan.ended {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            let message = format!("Saw completed job: {name}, condition: {}", plan::end_of(job));
            self.recorder.normal(cron, "SawCompletedJob", message);
        }
        let known = cron.status.clone().unwrap_or_default();
        let successful = plan.last_success.map(object::time).or(known.last_successful_time.clone());
        let names =
            |list: &[ObjectReference]| -> Vec<_> { list.iter().map(|it| it.uid.clone()).collect() };
        let is_same = names(known.active.as_deref().unwrap_or_default()) == names(&active)
            && known.last_schedule_time == last
            && known.last_successful_time == successful;
        if is_same {
            return Ok(());
        }
        let status = json!({ "active": active, "lastScheduleTime": last,
            "lastSuccessfulTime": successful });
        let client = &self.context.client;
        let patched =
            apply::patch_status::<CronJob, _>(client, &key.namespace, &key.name, &status).await;
        match patched {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Jobs that were noted as running and are not in the cache: not yet, or they were deleted.
    async fn unseen(
        &self,
        key: &Key,
        cron: &CronJob,
        plan: &Plan,
    ) -> Result<Vec<ObjectReference>, ApplyError> {
        let jobs = apply::api::<Job>(&self.context.client, &key.namespace);
        let mut unseen = Vec::new();
        for noted in &plan.unseen {
            let name = noted.name.as_deref().unwrap_or_default();
            let found = jobs.get_opt(name).await;
            let found = found.map_err(|source| ApplyError::new::<Job>("get", name, source))?;
            if found.is_some_and(|it| it.metadata.uid == noted.uid) {
                unseen.push(noted.clone());
            } else {
                let message = format!("Active job went missing: {name}");
                self.recorder.normal(cron, "MissingJob", message);
            }
        }
        Ok(unseen)
    }

    async fn start(&self, cron: &CronJob, at: Timestamp) -> Result<Option<Job>, ApplyError> {
        let job = new_job(cron, at);
        let name = job.metadata.name.clone().unwrap_or_default();
        match apply::create(&self.context.client, &job).await {
            Ok(job) => {
                self.recorder.normal(cron, "SuccessfulCreate", format!("Created job {name}"));
                Ok(Some(job))
            }
            // An earlier pass made it.
            Err(error) if error.is_already_exists() => Ok(None),
            Err(error) if crate::pods::is_namespace_terminating(&error) => Ok(None),
            Err(error) => {
                let message = format!("Error creating job: {}", error.server_message());
                self.recorder.warn(cron, "FailedCreate", message);
                Err(error)
            }
        }
    }
}

/// What is said about a CronJob that cannot be followed.
fn unusable(cron: &CronJob, error: &Unusable) -> (&'static str, String) {
    match error {
        Unusable::Zone(UnknownZone(name)) => {
            ("UnknownTimeZone", format!("invalid timeZone: {name:?}: unknown time zone {name}"))
        }
        Unusable::Schedule(error) => {
            let schedule = &cron.spec.schedule;
            ("UnparseableSchedule", format!("unparseable schedule: {schedule:?} : {error}"))
        }
    }
}

fn new_job(cron: &CronJob, at: Timestamp) -> Job {
    let template = cron.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.to_owned(), scheduled(cron, at));
    let name = cron.metadata.name.as_deref().unwrap_or_default();
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{}", at.as_second() / 60)),
            namespace: cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![object::controller_reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// The time by the clock of the schedule's zone.
fn scheduled(cron: &CronJob, at: Timestamp) -> String {
    let at = object::time(at).0;
    let zone = cron.spec.time_zone.as_deref().map(|it| cron::zone(Some(it)));
    match zone {
        Some(Ok(zone)) => at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        _ => at.to_string(),
    }
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".into()),
        kind: Some("Job".into()),
        namespace: job.metadata.namespace.clone(),
        name: job.metadata.name.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

type Jobs = [Arc<Job>];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_tells_its_time_by_the_clock_of_its_schedule() {
        let cron = |zone: Option<&str>| -> CronJob {
            let spec = json!({ "schedule": "0 9 * * *", "jobTemplate": {}, "timeZone": zone });
            serde_json::from_value(json!({ "metadata": { "name": "c" }, "spec": spec })).unwrap()
        };
        let at: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let told = |zone| {
            let job = new_job(&cron(zone), at);
            (job.metadata.name.unwrap(), job.metadata.annotations.unwrap()[SCHEDULED].clone())
        };
        assert_eq!(told(None), ("c-29455200".into(), "2026-01-02T00:00:00Z".into()));
        assert_eq!(told(Some("Asia/Tokyo")).1, "2026-01-02T09:00:00+09:00");
    }
}
