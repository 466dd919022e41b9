//! An Indexed Job's indexes: how often each has failed, which may be tried again, and which of them
//! are enough.
//!
//! How often an index has failed is told by an annotation of its pods, so the last failed pod of an
//! index is held until the next one is there.
//!
//! Upstream: `backoff_utils.go`, `indexed_job_utils.go`, `success_policy.go`.

use std::{collections::BTreeSet, sync::Arc};

use controller::object;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};

use super::{
    failures::{Verdict, judge},
    pod,
};

pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// How often an index had failed before a pod was made for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures {
    pub(super) counted: i32,
    pub(super) ignored: i32,
}

impl Failures {
    /// As the annotations of a pod tell.
    pub(super) fn before(pod: &Pod) -> Self {
        let read = |name| object::annotation(pod, name).and_then(|it| it.parse().ok()).unwrap_or(0);
        Self { counted: read(FAILURES), ignored: read(IGNORED) }
    }

    /// With the failure of this pod.
    pub(super) fn after(job: &Job, pod: &Pod) -> Self {
        let before = Self::before(pod);
        match judge(job, pod) {
            Verdict::Ignore => Self { ignored: before.ignored.saturating_add(1), ..before },
            _ => Self { counted: before.counted.saturating_add(1), ..before },
        }
    }

    pub(super) fn all(self) -> i32 {
        self.counted.saturating_add(self.ignored)
    }
}

/// The Job's limit of failures per index, where it has one.
pub(super) fn limit(job: &Job) -> Option<i32> {
    job.spec.as_ref().filter(|_| pod::is_indexed(job))?.backoff_limit_per_index
}

/// Whether the failure of this pod is the end of its index.
pub(super) fn ends_index(job: &Job, pod: &Pod) -> bool {
    let Some(limit) = limit(job) else { return false };
    match judge(job, pod) {
        Verdict::FailIndex => true,
        Verdict::Ignore => false,
        _ => Failures::before(pod).counted >= limit,
    }
}

/// The rule of the success policy that is fulfilled first.
pub(super) fn fulfilled_rule(job: &Job, completed: &BTreeSet<i32>) -> Option<usize> {
    let rules = &job.spec.as_ref()?.success_policy.as_ref()?.rules;
    rules.iter().position(|rule| match (&rule.succeeded_indexes, rule.succeeded_count) {
        (None, None) => false,
        (None, Some(count)) => number(completed.len()) >= count,
        (Some(indexes), count) => {
            let wanted = pod::read_indexes(indexes);
            let there = number(wanted.intersection(completed).count());
            there >= count.unwrap_or_else(|| number(wanted.len()))
        }
    })
}

/// Pods of an index that another pod has too, or that the Job has not (any more). Of several the one
/// that has come furthest stays.
pub(super) fn surplus(active: &[Arc<Pod>], completions: i32) -> Vec<Arc<Pod>> {
    let mut ranked = active.to_vec();
    ranked.sort_by_key(|it| {
        (std::cmp::Reverse(super::plan::usefulness(it)), object::created_at(&**it))
    });
    let mut seen = BTreeSet::new();
    let has_place = |it: &Arc<Pod>| {
        pod::index(it).is_some_and(|index| (0..completions).contains(&index) && seen.insert(index))
    };
    let (_, surplus): (Vec<_>, Vec<_>) = ranked.into_iter().partition(has_place);
    surplus
}

fn number(of: usize) -> i32 {
    i32::try_from(of).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(rules: Value) -> Job {
        serde_json::from_value(json!({ "spec": { "template": {}, "completionMode": "Indexed",
            "successPolicy": { "rules": rules } } }))
        .unwrap()
    }

    #[test]
    fn a_rule_is_fulfilled_by_its_indexes_their_number_or_both() {
        for (what, rules, completed, expected) in [
            ("indexes", json!([{ "succeededIndexes": "0,2" }]), "0,2", Some(0)),
            ("some are missing", json!([{ "succeededIndexes": "0,2" }]), "0,1", None),
            ("a number", json!([{ "succeededCount": 2 }]), "3,4", Some(0)),
            ("too few", json!([{ "succeededCount": 3 }]), "3,4", None),
            (
                "a number of these",
                json!([{ "succeededIndexes": "0-3", "succeededCount": 2 }]),
                "1,3",
                Some(0),
            ),
            (
                "a number, but of others",
                json!([{ "succeededIndexes": "0-3", "succeededCount": 2 }]),
                "1,7,8",
                None,
            ),
            (
                "the second rule",
                json!([{ "succeededIndexes": "9" }, { "succeededCount": 1 }]),
                "0",
                Some(1),
            ),
        ] {
            let completed = pod::read_indexes(completed);
            assert_eq!(fulfilled_rule(&job(rules), &completed), expected, "{what}");
        }
    }

    #[test]
    fn of_two_pods_of_one_index_the_one_that_is_ready_stays() {
        let pod = |name: &str, index: i32, ready: &str| -> Arc<Pod> {
            let value = json!({ "metadata": { "name": name, "annotations": {
                    "batch.kubernetes.io/job-completion-index": index.to_string() } },
                "spec": { "containers": [], "nodeName": "n" },
                "status": { "conditions": [{ "type": "Ready", "status": ready }] } });
            Arc::new(serde_json::from_value(value).unwrap())
        };
        let active =
            [pod("a", 0, "False"), pod("b", 0, "True"), pod("c", 1, "True"), pod("d", 2, "True")];
        let names: Vec<_> =
            surplus(&active, 2).iter().map(|it| it.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["d", "a"]);
    }
}
