//! A Job's status: once it has ended it stays so.
//!
//! Upstream: `validateJobStatus`, `ValidateJobStatusUpdate` in pkg/apis/batch/validation.

use std::collections::HashSet;

use serde_json::Value;

use super::indexes;
use crate::{
    status::FieldError,
    validation::{Faults, items, text},
};

const CONDITIONS: &str = "status.conditions";

fn is(job: &Value, condition: &str) -> bool {
    items(&job["status"], "conditions")
        .any(|(_, it)| it["type"] == condition && it["status"] == "True")
}

fn without_value(faults: &mut Faults, why: &str) {
    let mut error = FieldError::invalid(CONDITIONS, Value::Null, why);
    error.is_omitted = true;
    faults.add(error);
}

pub(in crate::validation) fn check(faults: &mut Faults, old: &Value, new: &Value) {
    let status = &new["status"];
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        faults.not_negative(&format!("status.{field}"), &status[field]);
    }
    uncounted(faults, &status["uncountedTerminatedPods"]);
    if status == &old["status"] {
        return;
    }
    combinations(faults, new);
    times(faults, old, new);
    if is(new, "Complete") || is(new, "Failed") {
        finished(faults, status);
    }
    numbers(faults, old, new);
    progress(faults, old, new);
}

fn uncounted(faults: &mut Faults, pods: &Value) {
    let mut seen = HashSet::new();
    for list in ["succeeded", "failed"] {
        for (index, uid) in items(pods, list) {
            let field = format!("status.uncountedTerminatedPods.{list}[{index}]");
            let uid = uid.as_str().unwrap_or_default();
            if uid.is_empty() {
                faults.invalid(field, uid, "must not be empty");
            } else if !seen.insert(uid) {
                faults.add(FieldError::duplicate(field, uid));
            }
        }
    }
}

fn combinations(faults: &mut Faults, job: &Value) {
    for (one, other, why) in [
        ("Complete", "Failed", "cannot set Complete=True and Failed=true conditions"),
        ("Complete", "FailureTarget", "cannot set Complete=True and FailureTarget=true conditions"),
        (
            "SuccessCriteriaMet",
            "Failed",
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        ),
        (
            "SuccessCriteriaMet",
            "FailureTarget",
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
    ] {
        if is(job, one) && is(job, other) {
            without_value(faults, why);
        }
    }
}

fn times(faults: &mut Faults, old: &Value, new: &Value) {
    let (before, after) = (&old["status"], &new["status"]);
    let (was, done) = (&before["completionTime"], &after["completionTime"]);
    let field = "status.completionTime";
    if !done.is_null() && !is(new, "Complete") {
        let why = "cannot set completionTime when there is no Complete=True condition";
        faults.invalid(field, done.clone(), why);
    }
    if done.is_null() && is(new, "Complete") {
        let why = "completionTime is required for Complete jobs";
        faults.add(FieldError::required(field, why));
    }
    let start = text(after, "startTime");
    let instant = |it: &str| it.parse::<jiff::Timestamp>().ok();
    if let (Some(start), Some(end)) = (instant(start), instant(text(after, "completionTime")))
        && end < start
    {
        let why = "completionTime cannot be set before startTime";
        faults.invalid(field, done.clone(), why);
    }
    if !was.is_null() && !done.is_null() && was != done {
        faults.invalid(field, done.clone(), "completionTime cannot be mutated");
    }
    let had = &before["startTime"];
    // The time of one that goes on begins anew, in the same write.
    let may_change = new["spec"]["suspend"] == true || is(old, "Suspended");
    if !had.is_null() && *had != after["startTime"] && !may_change {
        let why = "startTime cannot be removed for unsuspended job";
        faults.add(FieldError::required("status.startTime", why));
    }
}

/// Of a Job that has ended nothing runs and everything is counted.
fn finished(faults: &mut Faults, status: &Value) {
    let number = |field: &str| status[field].as_i64().unwrap_or_default();
    for field in ["active", "terminating"] {
        if number(field) > 0 {
            let why = format!("{field}>0 is invalid for finished job");
            faults.invalid(format!("status.{field}"), number(field), why);
        }
    }
    if status["startTime"].is_null() {
        let why = "startTime is required for finished job";
        faults.add(FieldError::required("status.startTime", why));
    }
    let pods = &status["uncountedTerminatedPods"];
    if items(pods, "failed").chain(items(pods, "succeeded")).next().is_some() {
        let why = "uncountedTerminatedPods needs to be empty for finished job";
        faults.invalid("status.uncountedTerminatedPods", pods.clone(), why);
    }
}

fn numbers(faults: &mut Faults, old: &Value, new: &Value) {
    let (before, after, spec) = (&old["status"], &new["status"], &new["spec"]);
    let number = |status: &Value, field: &str| status[field].as_i64().unwrap_or_default();
    if number(after, "ready") > number(after, "active") {
        let why = "cannot set more ready pods than active";
        faults.invalid("status.ready", number(after, "ready"), why);
    }
    for field in ["failed", "succeeded"] {
        // An indexed Job that is made smaller has fewer that succeeded.
        let may_shrink = field == "succeeded" && spec["completionMode"] == "Indexed";
        if number(after, field) < number(before, field) && !may_shrink {
            let why = format!("cannot decrease the {field} counter");
            faults.invalid(format!("status.{field}"), number(after, field), why);
        }
    }
    let (completed, failed) = (text(after, "completedIndexes"), after["failedIndexes"].as_str());
    let is_indexed = spec["completionMode"] == "Indexed";
    if !completed.is_empty() && !is_indexed {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        faults.invalid("status.completedIndexes", completed, why);
    }
    if let Some(it) = failed.filter(|_| spec["backoffLimitPerIndex"].is_null()) {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        faults.invalid("status.failedIndexes", it, why);
    }
    let Some(completions) = spec["completions"].as_i64().filter(|_| is_indexed) else { return };
    if text(before, "completedIndexes") != completed
        && let Err(why) = indexes::count(completed, completions)
    {
        let why = format!("error parsing completedIndexes: {why}");
        faults.invalid("status.completedIndexes", completed, why);
    }
    let Some(failed) = failed.filter(|it| before["failedIndexes"] != **it) else { return };
    if let Err(why) = indexes::count(failed, completions) {
        let why = format!("error parsing failedIndexes: {why}");
        faults.invalid("status.failedIndexes", failed, why);
    }
    if let Some(index) = indexes::common(completed, failed, completions) {
        let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
        faults.invalid("status.failedIndexes", failed, why);
    }
}

/// What has come about stays, and comes about in order.
fn progress(faults: &mut Faults, old: &Value, new: &Value) {
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if is(old, condition) && !is(new, condition) {
            let why = format!("cannot disable the terminal {condition}=True condition");
            without_value(faults, &why);
        }
    }
    if is(old, "SuccessCriteriaMet") && !is(new, "SuccessCriteriaMet") {
        without_value(faults, "cannot disable the SuccessCriteriaMet=True condition");
    }
    let met = is(new, "SuccessCriteriaMet");
    if is(new, "Failed") && !is(old, "Failed") && !is(new, "FailureTarget") {
        let why = "cannot set Failed=True condition without the FailureTarget=true condition";
        without_value(faults, why);
    }
    if is(new, "Complete") && !is(old, "Complete") && !met {
        let why =
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        without_value(faults, why);
    }
    if is(old, "Complete") && !is(old, "SuccessCriteriaMet") && met {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        without_value(faults, why);
    }
}
