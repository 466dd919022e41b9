//! How a Job stands, and what it does next.

use serde_json::{Value, json};

use super::*;

fn job(spec: Value, status: Value) -> Job {
    let mut full = json!({ "template": { "spec": { "containers": [{ "name": "c" }],
        "restartPolicy": "Never" } }, "backoffLimit": 6 });
    for (key, value) in spec.as_object().unwrap() {
        full[key] = value.clone();
    }
    serde_json::from_value(json!({ "metadata": { "name": "j", "uid": "j" }, "spec": full,
        "status": status }))
    .unwrap()
}

fn pod(uid: &str, phase: &str, extra: Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": { "name": uid, "uid": uid, "finalizers": [pod::FINALIZER] },
        "status": { "phase": phase, "containerStatuses": [{ "name": "c", "image": "", "imageID": "",
            "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 1, "finishedAt": "1970-01-01T00:00:00Z" } } }] },
    });
    for (key, inner) in extra.as_object().unwrap() {
        value["metadata"][key] = inner.clone();
    }
    Arc::new(serde_json::from_value(value).unwrap())
}

fn simple(uid: &str, phase: &str) -> Arc<Pod> {
    pod(uid, phase, json!({}))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn creates(job: &Job, pods: &[Arc<Pod>], now: Timestamp) -> usize {
    let observed = Observed::new(job, pods, now);
    observed.plan(observed.outcome().as_ref()).create.len()
}

#[test]
fn pods_are_made_as_far_as_completions_and_parallelism_ask() {
    for (what, spec, pods, expected) in [
        ("one", json!({ "completions": 1, "parallelism": 1 }), vec![], 1),
        ("two at a time", json!({ "completions": 5, "parallelism": 2 }), vec![], 2),
        (
            "the last one",
            json!({ "completions": 3, "parallelism": 3 }),
            vec![simple("a", "Succeeded"), simple("b", "Succeeded")],
            1,
        ),
        (
            "enough",
            json!({ "completions": 2, "parallelism": 2 }),
            vec![simple("a", "Running"), simple("b", "Running")],
            0,
        ),
        ("a work queue", json!({ "parallelism": 2 }), vec![simple("a", "Running")], 1),
        (
            "a work queue that is empty",
            json!({ "parallelism": 2 }),
            vec![simple("a", "Running"), simple("b", "Succeeded")],
            0,
        ),
        ("suspended", json!({ "completions": 1, "suspend": true }), vec![], 0),
    ] {
        assert_eq!(creates(&job(spec, json!({})), &pods, at(100)), expected, "{what}");
    }
}

#[test]
fn each_failure_makes_the_next_try_wait_longer() {
    let job = job(json!({ "completions": 1 }), json!({}));
    let once = [simple("a", "Failed")];
    assert_eq!((creates(&job, &once, at(9)), creates(&job, &once, at(10))), (0, 1));
    let twice = [simple("a", "Failed"), simple("b", "Failed")];
    assert_eq!((creates(&job, &twice, at(19)), creates(&job, &twice, at(20))), (0, 1));
    assert_eq!(Observed::new(&job, &twice, at(5)).next_look(), Some(at(20)));
}

#[test]
fn a_job_ends_by_success_by_failures_or_by_its_deadline() {
    let outcome = |spec, status, pods: &[Arc<Pod>]| {
        let job = job(spec, status);
        Observed::new(&job, pods, at(100)).outcome().map(|it| match it {
            Outcome::Complete => "complete",
            Outcome::Failed { reason, .. } => reason,
        })
    };
    let one = || json!({ "completions": 1 });
    assert_eq!(outcome(one(), json!({}), &[simple("a", "Running")]), None);
    assert_eq!(outcome(one(), json!({}), &[simple("a", "Succeeded")]), Some("complete"));
    let impatient = json!({ "completions": 1, "backoffLimit": 0 });
    assert_eq!(outcome(impatient, json!({}), &[simple("a", "Failed")]), Some(BACKOFF));
    let short = json!({ "completions": 1, "activeDeadlineSeconds": 60 });
    let started = json!({ "startTime": "1970-01-01T00:00:00Z" });
    assert_eq!(outcome(short, started.clone(), &[simple("a", "Running")]), Some(DEADLINE));
    let endless = json!({ "completions": 1, "activeDeadlineSeconds": i64::MAX });
    assert_eq!(outcome(endless, started, &[simple("a", "Running")]), None);
}

#[test]
fn a_pod_is_counted_once_and_only_after_it_was_noted_and_released() {
    let fresh = job(json!({ "completions": 2 }), json!({}));
    let pods = [simple("a", "Succeeded")];
    let observed = Observed::new(&fresh, &pods, at(0));
    assert_eq!((observed.new_succeeded.len(), observed.succeeded), (1, 0));
    assert!(!observed.is_noted(&pods[0]), "it is released after the status was written");

    let noted = job(
        json!({ "completions": 2 }),
        json!({ "uncountedTerminatedPods": { "succeeded": ["a"] } }),
    );
    let observed = Observed::new(&noted, &pods, at(0));
    assert_eq!((observed.new_succeeded.len(), observed.succeeded), (0, 0));
    assert!(observed.is_noted(&pods[0]));

    let released = [pod("a", "Succeeded", json!({ "finalizers": [] }))];
    for pods in [&released[..], &[]] {
        let observed = Observed::new(&noted, pods, at(0));
        assert_eq!((observed.succeeded, observed.noted_succeeded.len()), (1, 0));
    }
}

#[test]
fn an_indexed_job_works_on_the_indexes_that_are_left() {
    let spec = json!({ "completions": 4, "parallelism": 2, "completionMode": "Indexed" });
    let job = job(spec, json!({ "completedIndexes": "0", "succeeded": 1 }));
    let annotations = json!({ "annotations": { "batch.kubernetes.io/job-completion-index": "1" } });
    let pods = [pod("a", "Running", annotations)];
    let observed = Observed::new(&job, &pods, at(0));
    assert_eq!(observed.plan(None).create, [Some(2)]);
}
