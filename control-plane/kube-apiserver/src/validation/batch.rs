//! Jobs and CronJobs.
//!
//! Upstream: pkg/apis/batch/validation.

use api_kube::labels::JOB_CONTROLLER_UID;
use serde_json::Value;

use super::{Faults, pod, text};
use crate::status::FieldError;

const JOB_RESTARTS: &[&str] = &["OnFailure", "Never"];

pub(super) fn job(faults: &mut Faults, at: &str, spec: &Value, uid: &str) {
    for field in [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        faults.not_negative(&format!("{at}.{field}"), &spec[field]);
    }
    if spec["completionMode"] == "Indexed" && spec["completions"].is_null() {
        let why = "when completion mode is Indexed";
        faults.add(FieldError::required(format!("{at}.completions"), why));
    }
    if spec["manualSelector"] == true && !spec["selector"].is_object() {
        faults.required(format!("{at}.selector"));
    }
    if spec["manualSelector"] != true && !uid.is_empty() {
        let label = &spec["template"]["metadata"]["labels"][JOB_CONTROLLER_UID];
        if label.as_str().is_some_and(|it| it != uid) {
            let field = format!("{at}.template.metadata.labels");
            let why = format!("must be '{uid}'");
            faults.invalid(field, spec["template"]["metadata"]["labels"].clone(), why);
        }
    }
    template(faults, at, spec);
}

fn template(faults: &mut Faults, at: &str, spec: &Value) {
    if !spec["template"].is_object() {
        faults.required(format!("{at}.template"));
        return;
    }
    let at = format!("{at}.template");
    pod::template(faults, &at, &spec["template"]);
    let policy = text(&spec["template"]["spec"], "restartPolicy");
    if !JOB_RESTARTS.contains(&policy) {
        let field = format!("{at}.spec.restartPolicy");
        if policy.is_empty() {
            faults.add(FieldError::required(field, "valid values: \"OnFailure\", \"Never\""));
        } else {
            faults.add(FieldError::not_supported(field, policy, JOB_RESTARTS));
        }
    }
}

pub(super) fn job_update(faults: &mut Faults, old: &Value, new: &Value) {
    let (before, after) = (&old["spec"], &new["spec"]);
    faults.immutable("spec.selector", &before["selector"], &after["selector"]);
    faults.immutable("spec.completionMode", &before["completionMode"], &after["completionMode"]);
    if before["completionMode"] != "Indexed" {
        faults.immutable("spec.completions", &before["completions"], &after["completions"]);
    }
    // A suspended Job that never started may still be steered to other nodes.
    let is_open = before["suspend"] == true && old["status"]["startTime"].is_null();
    let template = |spec: &Value| {
        let mut template = spec["template"].clone();
        if is_open {
            for pointer in ["/spec", "/metadata"] {
                let open = [
                    "nodeSelector",
                    "tolerations",
                    "affinity",
                    "schedulingGates",
                    "labels",
                    "annotations",
                ];
                if let Some(fields) = template.pointer_mut(pointer).and_then(Value::as_object_mut) {
                    fields.retain(|name, _| !open.contains(&name.as_str()));
                }
            }
        }
        template
    };
    if template(before) != template(after) {
        faults.invalid("spec.template", after["template"].clone(), "field is immutable");
    }
}

pub(super) fn cron_job(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    let schedule = text(spec, "schedule");
    if schedule.is_empty() {
        faults.required("spec.schedule");
    } else if !is_schedule(schedule) {
        let count = schedule.split_whitespace().count();
        let why = format!("Expected exactly 5 fields, found {count}: {schedule}");
        faults.invalid("spec.schedule", schedule, why);
    }
    time_zone(faults, &spec["timeZone"]);
    if text(&object["metadata"], "name").len() > 52 {
        let name = text(&object["metadata"], "name");
        faults.invalid("metadata.name", name, "must be no more than 52 characters");
    }
    let supported = &["Allow", "Forbid", "Replace"];
    faults.one_of("spec.concurrencyPolicy", &spec["concurrencyPolicy"], supported);
    for field in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"]
    {
        faults.not_negative(&format!("spec.{field}"), &spec[field]);
    }
    job(faults, "spec.jobTemplate.spec", &spec["jobTemplate"]["spec"], "");
}

fn time_zone(faults: &mut Faults, zone: &Value) {
    let Some(name) = zone.as_str() else { return };
    let field = "spec.timeZone";
    if name.is_empty() {
        faults.invalid(field, name, "timeZone must be nil or non-empty string");
    } else if name.eq_ignore_ascii_case("local") {
        faults.invalid(
            field,
            name,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        );
    } else if jiff::tz::TimeZone::get(name).is_err() {
        faults.invalid(field, name, format!("unknown time zone {name}"));
    }
}

fn is_schedule(schedule: &str) -> bool {
    let is_named = matches!(
        schedule,
        "@yearly" | "@annually" | "@monthly" | "@weekly" | "@daily" | "@midnight" | "@hourly"
    );
    is_named || schedule.starts_with("@every ") || schedule.split_whitespace().count() == 5
}
