//! Deletes Jobs some time after they have ended, with their pods.
//!
//! Upstream: `pkg/controller/ttlafterfinished`.

use std::time::Duration;

use controller::{Action, ApplyError, Key, Queue, apply, object};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::api::DeleteParams;

use crate::{Context, job};

pub(crate) async fn run(context: Context) {
    let queue = Queue::new();
    let on = queue.clone();
    context.caches.jobs.subscribe(move |change| {
        if change.new.as_deref().and_then(due).is_some() {
            on.add(change.key.clone());
        }
    });
    controller::run("ttl-after-finished", queue, 2, |it| reconcile(&context, it)).await;
}

async fn reconcile(context: &Context, key: Key) -> Result<Action, ApplyError> {
    let Some(job) = context.caches.jobs.get(&key) else { return Ok(Action::Done) };
    let Some(due) = due(&job).filter(|_| !object::is_terminating(&*job)) else {
        return Ok(Action::Done);
    };
    let left = context.clock.until(due);
    if !left.is_zero() {
        return Ok(Action::After(left));
    }
    let api = apply::api::<Job>(&context.client, &key.namespace);
    apply::delete_with(&api, &*job, DeleteParams::foreground()).await?;
    Ok(Action::Done)
}

/// When a Job is to be deleted.
fn due(job: &Job) -> Option<Timestamp> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let ended = job::ended_at(job)?;
    Some(clock::later(ended, Duration::from_secs(u64::try_from(seconds).ok()?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_ended_job_with_a_limit_is_due() {
        let job = |ttl: Option<i32>, ended: bool| -> Job {
            let status = if ended { "True" } else { "False" };
            serde_json::from_value(json!({
                "spec": { "template": {}, "ttlSecondsAfterFinished": ttl },
                "status": { "conditions": [{ "type": "Complete", "status": status,
                    "lastTransitionTime": "1970-01-01T00:00:00Z" }] },
            }))
            .unwrap()
        };
        assert_eq!(due(&job(Some(30), true)), Timestamp::from_second(30).ok());
        assert_eq!(due(&job(Some(30), false)), None);
        assert_eq!(due(&job(None, true)), None);
    }
}
