//! StatefulSets, Jobs and CronJobs.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    batch::v1::{CronJob, Job},
    core::v1::{Event, Pod},
};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::{Value, json};

use crate::support::Cluster;

fn job(image: &str, extra: Value) -> Value {
    let mut spec = json!({ "template": { "spec": { "restartPolicy": "Never",
        "containers": [{ "name": "c", "image": image }] } } });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({ "metadata": { "name": "j" }, "spec": spec })
}

fn ended(job: &Job) -> Option<String> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|it| it.type_ == "Complete" || it.type_ == "Failed")
        .map(|it| it.type_.clone())
}

#[tokio::test(start_paused = true)]
async fn a_job_completes_and_is_deleted_after_its_time() {
    let cluster = Cluster::start(1).await;
    let spec = json!({ "completions": 5, "parallelism": 2, "ttlSecondsAfterFinished": 60 });
    cluster.create::<Job>(job("exits", spec)).await;
    cluster
        .eventually("the job is complete", async |it| {
            it.get::<Job>("j").await.as_ref().and_then(ended).as_deref() == Some("Complete")
        })
        .await;
    let status = cluster.get::<Job>("j").await.unwrap().status.unwrap();
    assert_eq!((status.succeeded, status.failed, status.active), (Some(5), None, None));
    let pods = cluster.list::<Pod>().await;
    assert_eq!(pods.len(), 5);
    assert!(pods.iter().all(|it| it.finalizers().is_empty()), "every pod was released");
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert!(cluster.get::<Job>("j").await.is_none());
    assert!(cluster.list::<Pod>().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_keeps_failing_gives_up_at_its_limit() {
    let cluster = Cluster::start(1).await;
    let start = cluster.clock.now();
    cluster.create::<Job>(job("fails", json!({ "backoffLimit": 2 }))).await;
    cluster
        .eventually("the job has failed", async |it| {
            it.get::<Job>("j").await.as_ref().and_then(ended).as_deref() == Some("Failed")
        })
        .await;
    let status = cluster.get::<Job>("j").await.unwrap().status.unwrap();
    assert_eq!(status.failed, Some(3));
    let took = cluster.clock.now().duration_since(start).as_secs();
    assert!(took >= 10, "it waited between its tries, but only {took} s");
}

#[tokio::test(start_paused = true)]
async fn indexes_that_keep_failing_are_given_up_one_by_one_and_fail_the_job_in_the_end() {
    let cluster = Cluster::start(1).await;
    let spec = json!({ "completions": 2, "parallelism": 2, "completionMode": "Indexed",
        "backoffLimitPerIndex": 1 });
    cluster.create::<Job>(job("fails", spec)).await;
    cluster
        .eventually("the job has failed", async |it| {
            it.get::<Job>("j").await.as_ref().and_then(ended).as_deref() == Some("Failed")
        })
        .await;
    let status = cluster.get::<Job>("j").await.unwrap().status.unwrap();
    assert_eq!((status.failed, status.failed_indexes.as_deref()), (Some(4), Some("0,1")));
    let failed = status.conditions.unwrap().into_iter().find(|it| it.type_ == "Failed").unwrap();
    assert_eq!(failed.reason.as_deref(), Some("FailedIndexes"));
    let held = cluster.list::<Pod>().await.iter().filter(|it| !it.finalizers().is_empty()).count();
    assert_eq!(held, 0, "every pod was released");
}

#[tokio::test(start_paused = true)]
async fn a_pod_failure_policy_ends_the_job_at_the_first_failure_that_it_names() {
    let cluster = Cluster::start(1).await;
    let rule = json!({ "action": "FailJob", "onExitCodes": { "operator": "In", "values": [1] } });
    let spec = json!({ "backoffLimit": 6, "podFailurePolicy": { "rules": [rule] } });
    cluster.create::<Job>(job("fails", spec)).await;
    cluster
        .eventually("the job has failed", async |it| {
            it.get::<Job>("j").await.as_ref().and_then(ended).as_deref() == Some("Failed")
        })
        .await;
    let status = cluster.get::<Job>("j").await.unwrap().status.unwrap();
    assert_eq!(status.failed, Some(1));
    let failed = status.conditions.unwrap().into_iter().find(|it| it.type_ == "Failed").unwrap();
    assert_eq!(failed.reason.as_deref(), Some("PodFailurePolicy"));
    let message = failed.message.unwrap();
    assert!(
        message.ends_with("failed with exit code 1 matching FailJob rule at index 0"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cron_jobs_day_has_every_hour_once() {
    // Without nodes, and with Jobs that make no pods: nothing else happens all day.
    let cluster = Cluster::start(0).await;
    let template = json!({ "spec": job("exits", json!({ "suspend": true }))["spec"] });
    let spec = json!({ "schedule": "0 * * * *", "jobTemplate": template });
    cluster.create::<CronJob>(json!({ "metadata": { "name": "tick" }, "spec": spec })).await;
    let start = cluster.clock.now().as_second() / 3600;
    tokio::time::sleep(Duration::from_secs(24 * 3600 + 60)).await;
    let hour = |it: &Job| {
        let minute = it.name_any().strip_prefix("tick-")?.parse::<i64>().ok()?;
        (minute % 60 == 0).then_some(minute / 60)
    };
    let mut hours: Vec<_> = cluster.list::<Job>().await.iter().filter_map(hour).collect();
    hours.sort_unstable();
    assert_eq!(hours, (start + 1..=start + 24).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_runs_its_job_every_minute_and_keeps_three() {
    let cluster = Cluster::start(1).await;
    let template = json!({ "spec": job("exits", json!({}))["spec"] });
    cluster
        .create::<CronJob>(json!({ "metadata": { "name": "tick" },
            "spec": { "schedule": "* * * * *", "jobTemplate": template } }))
        .await;
    tokio::time::sleep(Duration::from_secs(10 * 60)).await;
    let number = |it: &Job| it.name_any().strip_prefix("tick-")?.parse::<i64>().ok();
    let mut minutes: Vec<_> = cluster.list::<Job>().await.iter().filter_map(number).collect();
    minutes.sort_unstable();
    let [first, second, third] = minutes[..] else { panic!("not three jobs: {minutes:?}") };
    assert_eq!((second, third), (first + 1, first + 2), "no minute was left out");
    assert!(cluster.clock.now().as_second() / 60 - third <= 1);
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_grows_is_updated_and_shrinks_in_order() {
    let cluster = Cluster::start(2).await;
    let template = |image: &str| {
        json!({ "metadata": { "labels": { "app": "db" } },
            "spec": { "containers": [{ "name": "c", "image": image }] } })
    };
    cluster
        .create::<StatefulSet>(json!({ "metadata": { "name": "db" }, "spec": { "replicas": 3,
            "serviceName": "db", "selector": { "matchLabels": { "app": "db" } },
            "template": template("one") } }))
        .await;
    let names = async |it: &Cluster| -> Vec<String> {
        let mut names: Vec<_> = it.list::<Pod>().await.iter().map(ResourceExt::name_any).collect();
        names.sort();
        names
    };
    cluster.eventually("three members serve", async |it| it.ready_pods().await == 3).await;
    assert_eq!(names(&cluster).await, ["db-0", "db-1", "db-2"]);
    cluster.patch::<StatefulSet>("db", json!({ "spec": { "template": template("two") } })).await;
    cluster
        .eventually("all are updated", async |it| {
            let set = it.get::<StatefulSet>("db").await.unwrap();
            let status = set.status.unwrap();
            status.updated_replicas == Some(3)
                && status.ready_replicas == Some(3)
                && status.current_revision == status.update_revision
                && status.observed_generation == set.metadata.generation
        })
        .await;
    cluster.patch::<StatefulSet>("db", json!({ "spec": { "replicas": 1 } })).await;
    cluster.eventually("one is left", async |it| names(it).await == ["db-0"]).await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_job_that_is_gone_are_held_by_nothing() {
    let cluster = Cluster::start(1).await;
    cluster.create::<Job>(job("exits", json!({ "parallelism": 3, "completions": 3 }))).await;
    cluster.eventually("its pods are there", async |it| it.list::<Pod>().await.len() == 3).await;
    // The Job goes first.
    cluster.api::<Job>().delete("j", &DeleteParams::background()).await.unwrap();
    cluster.eventually("all are gone", async |it| it.list::<Pod>().await.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_owner_is_taken_away_is_adopted_again() {
    let cluster = Cluster::start(1).await;
    let labels = json!({ "app": "db" });
    cluster
        .create::<StatefulSet>(json!({ "metadata": { "name": "db" }, "spec": {
            "replicas": 1, "serviceName": "db", "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [
                { "name": "c", "image": "one" }] } } } }))
        .await;
    let is_owned = async |it: &Cluster, name: &str| {
        let pod = it.get::<Pod>(name).await;
        pod.is_some_and(|it| !it.owner_references().is_empty())
    };
    cluster.eventually("it runs", async |it| it.ready_pods().await == 1).await;
    cluster.patch::<Pod>("db-0", json!({ "metadata": { "ownerReferences": null } })).await;
    cluster.eventually("it is adopted", async |it| is_owned(it, "db-0").await).await;
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_suspended_job_begins_anew_when_it_goes_on() {
    let cluster = Cluster::start(1).await;
    cluster.create::<Job>(job("runs", json!({}))).await;
    cluster.eventually("its pod runs", async |it| it.ready_pods().await == 1).await;
    let started = async |it: &Cluster| it.get::<Job>("j").await?.status?.start_time;
    let first = started(&cluster).await.unwrap();
    cluster.patch::<Job>("j", json!({ "spec": { "suspend": true } })).await;
    cluster
        .eventually("it is suspended", async |it| {
            let status = it.get::<Job>("j").await.unwrap().status.unwrap();
            let conditions = status.conditions.unwrap_or_default();
            status.active.is_none() && conditions.iter().any(|it| it.type_ == "Suspended")
        })
        .await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(started(&cluster).await.as_ref(), Some(&first));
    cluster.patch::<Job>("j", json!({ "spec": { "suspend": false } })).await;
    cluster
        .eventually("it runs again, from now on", async |it| {
            it.ready_pods().await == 1 && started(it).await.is_some_and(|it| it.0 > first.0)
        })
        .await;
    let status = cluster.get::<Job>("j").await.unwrap().status.unwrap();
    assert_eq!(status.failed, Some(1), "the pod that was stopped");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_a_success_made_needless_is_stopped_and_no_failure() {
    let cluster = Cluster::start(1).await;
    let spec = json!({ "completions": 2, "parallelism": 2, "completionMode": "Indexed",
        "successPolicy": { "rules": [{ "succeededIndexes": "0" }] } });
    cluster.create::<Job>(job("runs", spec)).await;
    cluster.eventually("both run", async |it| it.ready_pods().await == 2).await;
    let pods = cluster.list::<Pod>().await;
    let index = "batch.kubernetes.io/job-completion-index";
    let first = pods.iter().find(|it| it.annotations().get(index).is_some_and(|it| it == "0"));
    let done = json!({ "status": { "phase": "Succeeded" } });
    let patch = kube::api::Patch::Merge(&done);
    let name = first.unwrap().name_any();
    cluster
        .api::<Pod>()
        .patch_status(&name, &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
    cluster
        .eventually("the job is complete", async |it| {
            it.get::<Job>("j").await.as_ref().and_then(ended).as_deref() == Some("Complete")
        })
        .await;
    let status = cluster.get::<Job>("j").await.unwrap().status.unwrap();
    assert_eq!((status.succeeded, status.failed, status.active), (Some(1), None, None));
    let reasons: Vec<_> =
        status.conditions.unwrap().into_iter().filter_map(|it| it.reason).collect();
    assert_eq!(reasons, ["SuccessPolicy", "SuccessPolicy"]);
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_tells_of_a_job_that_was_taken_from_it() {
    let cluster = Cluster::start(1).await;
    let template = json!({ "spec": job("runs", json!({}))["spec"] });
    cluster
        .create::<CronJob>(json!({ "metadata": { "name": "tick" }, "spec": {
            "schedule": "*/30 * * * *", "jobTemplate": template } }))
        .await;
    let active = async |it: &Cluster| -> Vec<String> {
        let status = it.get::<CronJob>("tick").await.and_then(|it| it.status);
        let active = status.and_then(|it| it.active).unwrap_or_default();
        active.into_iter().filter_map(|it| it.name).collect()
    };
    cluster.eventually("a job runs", async |it| active(it).await.len() == 1).await;
    cluster.delete::<Job>(&active(&cluster).await[0]).await;
    cluster.eventually("none is noted", async |it| active(it).await.is_empty()).await;
    cluster
        .eventually("it is told", async |it| {
            let events = it.list::<Event>().await;
            events.iter().any(|it| it.reason.as_deref() == Some("MissingJob"))
        })
        .await;
}
