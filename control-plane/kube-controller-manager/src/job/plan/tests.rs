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
        Observed::new(&job, pods, at(100)).outcome().map(|it| it.reason)
    };
    let reason = |it: &str| Some(it.to_owned());
    let one = || json!({ "completions": 1 });
    assert_eq!(outcome(one(), json!({}), &[simple("a", "Running")]), None);
    assert_eq!(
        outcome(one(), json!({}), &[simple("a", "Succeeded")]),
        reason("CompletionsReached")
    );
    let impatient = json!({ "completions": 1, "backoffLimit": 0 });
    assert_eq!(outcome(impatient, json!({}), &[simple("a", "Failed")]), reason(BACKOFF));
    let short = json!({ "completions": 1, "activeDeadlineSeconds": 60 });
    let started = json!({ "startTime": "1970-01-01T00:00:00Z" });
    assert_eq!(outcome(short, started.clone(), &[simple("a", "Running")]), reason(DEADLINE));
    let endless = json!({ "completions": 1, "activeDeadlineSeconds": i64::MAX });
    assert_eq!(outcome(endless, started, &[simple("a", "Running")]), None);
}

#[test]
fn a_restart_that_reaches_the_limit_ends_the_job() {
    let restarted = |count: i32| -> Arc<Pod> {
        let mut pod = (*simple("a", "Running")).clone();
        let statuses = pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap();
        statuses[0].restart_count = count;
        Arc::new(pod)
    };
    let ends = |policy: &str, limit: i32, count: i32| {
        let mut job = job(json!({ "completions": 1, "backoffLimit": limit }), json!({}));
        let spec = job.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
        spec.restart_policy = Some(policy.into());
        Observed::new(&job, &[restarted(count)], at(100)).outcome().is_some()
    };
    assert_eq!([1, 2, 3].map(|it| ends("OnFailure", 2, it)), [false, true, true]);
    assert_eq!([0, 1].map(|it| ends("OnFailure", 0, it)), [false, true]);
    assert!(!ends("Never", 2, 3), "there each failure has its pod");
}

#[test]
fn a_pod_is_counted_once_and_only_after_it_was_noted_and_released() {
    let fresh = job(json!({ "completions": 2 }), json!({}));
    let pods = [simple("a", "Succeeded")];
    let observed = Observed::new(&fresh, &pods, at(0));
    assert_eq!((observed.new_succeeded.len(), observed.succeeded), (1, 0));
    assert!(!observed.may_go(&pods[0], None), "it is released after the status was written");

    let noted = job(
        json!({ "completions": 2 }),
        json!({ "uncountedTerminatedPods": { "succeeded": ["a"] } }),
    );
    let observed = Observed::new(&noted, &pods, at(0));
    assert_eq!((observed.new_succeeded.len(), observed.succeeded), (0, 0));
    assert!(observed.may_go(&pods[0], None));

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
    let pods = [of_index("a", "Running", 1, 0)];
    let observed = Observed::new(&job, &pods, at(0));
    assert_eq!(observed.plan(None).create, [Slot { index: Some(2), failures: None }]);
}

fn of_index(uid: &str, phase: &str, index: i32, failures: i32) -> Arc<Pod> {
    let annotations = json!({
        "batch.kubernetes.io/job-completion-index": index.to_string(),
        "batch.kubernetes.io/job-index-failure-count": failures.to_string(),
    });
    pod(uid, phase, json!({ "annotations": annotations }))
}

fn per_index(extra: Value) -> Job {
    let mut spec = json!({ "completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "backoffLimitPerIndex": 1, "backoffLimit": i32::MAX });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    job(spec, json!({}))
}

#[test]
fn an_index_is_tried_again_after_its_own_pause_and_then_given_up() {
    let job = per_index(json!({}));
    let pods = [
        of_index("a", "Failed", 0, 0),
        of_index("b", "Running", 1, 0),
        of_index("c", "Failed", 2, 1),
    ];
    let early = Observed::new(&job, &pods, at(9));
    assert!(early.plan(None).create.is_empty());
    assert_eq!(early.next_look(), Some(at(10)));
    let due = Observed::new(&job, &pods, at(10));
    let again = Failures { counted: 1, ignored: 0 };
    assert_eq!(due.plan(None).create, [Slot { index: Some(0), failures: Some(again) }]);
    assert_eq!(due.failed_indexes, BTreeSet::from([2]));
    assert_eq!(due.outcome(), None, "an index is still at work");
    // The first keeps the count of its index; the third is counted.
    let noted: Vec<_> = due.failures_to_note(None).iter().map(|it| object::uid(&**it)).collect();
    assert_eq!(noted, ["c"]);

    let replaced = [pods[0].clone(), of_index("d", "Running", 0, 1)];
    let noted = Observed::new(&job, &replaced, at(10)).failures_to_note(None);
    assert_eq!(noted.len(), 1, "the next one knows the count");
}

#[test]
fn failed_indexes_fail_the_job_when_all_are_over_or_too_many_failed() {
    let ended = [
        of_index("a", "Succeeded", 0, 0),
        of_index("b", "Failed", 1, 1),
        of_index("c", "Succeeded", 2, 0),
    ];
    let outcome = |job: &Job, pods: &[Arc<Pod>]| {
        Observed::new(job, pods, at(100)).outcome().map(|it| it.reason)
    };
    assert_eq!(outcome(&per_index(json!({})), &ended).as_deref(), Some(FAILED_INDEXES));
    let strict = per_index(json!({ "maxFailedIndexes": 0 }));
    assert_eq!(outcome(&strict, &ended[1..2]).as_deref(), Some(TOO_MANY_FAILED_INDEXES));
    let by_policy = per_index(json!({ "backoffLimitPerIndex": 9, "podFailurePolicy": { "rules": [
        { "action": "FailIndex", "onExitCodes": { "operator": "In", "values": [1] } }] } }));
    assert_eq!(Observed::new(&by_policy, &ended, at(0)).failed_indexes, BTreeSet::from([1]));
}

#[test]
fn a_failure_that_is_ignored_is_released_uncounted_and_replaced() {
    let rules = json!([{ "action": "Ignore", "onExitCodes": { "operator": "In", "values": [1] } }]);
    let spec =
        json!({ "completions": 1, "backoffLimit": 0, "podFailurePolicy": { "rules": rules } });
    let job = job(spec, json!({}));
    let pods = [simple("a", "Failed")];
    let observed = Observed::new(&job, &pods, at(100));
    assert_eq!(observed.outcome(), None);
    assert!(observed.failures_to_note(None).is_empty());
    assert!(observed.may_go(&pods[0], None));
    assert_eq!(observed.plan(None).create.len(), 1);
}

#[test]
fn a_pod_on_its_way_out_is_replaced_at_once_or_when_it_has_ended() {
    let leaving = json!({ "deletionTimestamp": "1970-01-01T00:00:00Z" });
    let pods = [pod("a", "Running", leaving)];
    for (policy, expected) in [("TerminatingOrFailed", 1), ("Failed", 0)] {
        let job = job(json!({ "completions": 1, "podReplacementPolicy": policy }), json!({}));
        assert_eq!(creates(&job, &pods, at(100)), expected, "{policy}");
    }
}

#[test]
fn a_success_policy_ends_the_job_before_all_have_succeeded() {
    let job = per_index(json!({ "successPolicy": { "rules": [{ "succeededIndexes": "0" }] } }));
    let pods = [of_index("a", "Succeeded", 0, 0), of_index("b", "Running", 1, 0)];
    let observed = Observed::new(&job, &pods, at(0));
    let outcome = observed.outcome().unwrap();
    assert_eq!((outcome.is_success, outcome.message.as_str()), (true, "Matched rules at index 0"));
    let plan = observed.plan(Some(&outcome));
    assert_eq!((plan.create.len(), plan.delete.len()), (0, 1));
}
