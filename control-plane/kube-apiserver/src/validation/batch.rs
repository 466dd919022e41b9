//! Jobs and CronJobs.
//!
//! Upstream: pkg/apis/batch/validation.

mod cron;
mod indexes;
mod policies;
mod status;

use std::collections::BTreeMap;

use api_kube::labels;
use serde_json::{Value, json};

pub(super) use self::{
    cron::{check as cron_job, update as cron_job_update},
    status::check as status,
};
use super::{Faults, fields, items, pod, text};
use crate::{resources::meta, selectors::Labels, status::FieldError};

const MODES: &[&str] = &["NonIndexed", "Indexed"];
const REPLACEMENTS: &[&str] = &["Failed", "TerminatingOrFailed"];
/// As many may run, or fail, in an indexed Job.
const MOST: i64 = 100_000;
/// The same of one with so many completions that its status would grow too large.
const MOST_OF_MANY: i64 = 10_000;

pub(super) fn job(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    self::spec(faults, "spec", spec);
    let selector = &spec["selector"];
    if selector.is_object() {
        fields::selector(faults, "spec.selector", selector);
    } else {
        faults.required("spec.selector");
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if selector.is_object() && !selects(selector, labels) {
        let why = "`selector` does not match template `labels`";
        faults.invalid("spec.template.metadata.labels", labels.clone(), why);
    }
}

/// What is asked of new Jobs alone: the last of an indexed one's pods must have a host name.
pub(super) fn created(faults: &mut Faults, object: &Value) {
    generated(faults, object);
    let (name, spec) = (meta(object, "name"), &object["spec"]);
    let completions = spec["completions"].as_i64().unwrap_or_default();
    if spec["completionMode"] == "Indexed" && completions > 0 {
        let last = format!("{name}-{}", completions - 1);
        if !fields::label(&last).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {last}");
            faults.invalid("metadata.name", name, why);
        }
    }
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let labels = labels.as_object().into_iter().flatten();
    let labels: BTreeMap<String, String> =
        labels.map(|(key, it)| (key.clone(), it.as_str().unwrap_or_default().to_owned())).collect();
    Labels::of(selector).map_or(true, |it| it.matches(&labels))
}

/// What the server writes into a Job stands there, whatever the client wrote.
fn generated(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    if spec["manualSelector"] == true || !spec["selector"].is_object() {
        return;
    }
    let (uid, name) = (meta(object, "uid"), meta(object, "name"));
    let expected = [
        ("controller-uid", uid),
        ("job-name", name),
        (labels::JOB_CONTROLLER_UID, uid),
        (labels::JOB_NAME, name),
    ];
    let labels = &spec["template"]["metadata"]["labels"];
    for (key, value) in expected {
        let field = format!("spec.template.metadata.labels[{key}]");
        let why = format!("must be '{value}'");
        match labels[key].as_str() {
            None => faults.add(FieldError::required(field, why)),
            Some(it) if it != value => faults.invalid(field, labels.clone(), why),
            Some(_) => {}
        }
    }
    let all: serde_json::Map<String, Value> =
        expected.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    if !selects(&spec["selector"], &json!(all)) {
        faults.invalid("spec.selector", spec["selector"].clone(), "`selector` not auto-generated");
    }
}

fn spec(faults: &mut Faults, at: &str, spec: &Value) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        faults.not_negative(&format!("{at}.{field}"), &spec[field]);
    }
    if spec["maxFailedIndexes"].is_number() && spec["backoffLimitPerIndex"].is_null() {
        let why = "when maxFailedIndexes is specified";
        faults.add(FieldError::required(format!("{at}.backoffLimitPerIndex"), why));
    }
    if let Some(manager) = spec["managedBy"].as_str() {
        const LONGEST: usize = 63;
        let field = format!("{at}.managedBy");
        fields::domain_prefixed_path(faults, &field, manager);
        if manager.len() > LONGEST {
            faults.add(FieldError::too_long(field, LONGEST));
        }
    }
    modes(faults, at, spec);
    if spec["podFailurePolicy"].is_object() {
        policies::failure(faults, &format!("{at}.podFailurePolicy.rules"), spec);
    }
    if spec["successPolicy"].is_object() {
        policies::success(faults, &format!("{at}.successPolicy"), spec);
    }
    if let Some(policy) = spec["podReplacementPolicy"].as_str() {
        let known: &[&str] =
            if spec["podFailurePolicy"].is_object() { &["Failed"] } else { REPLACEMENTS };
        if !known.contains(&policy) {
            let field = format!("{at}.podReplacementPolicy");
            faults.add(FieldError::not_supported(field, policy, known));
        }
    }
    pod::template(faults, &format!("{at}.template"), &spec["template"]);
    restarts(faults, &format!("{at}.template.spec.restartPolicy"), spec);
}

fn restarts(faults: &mut Faults, field: &str, spec: &Value) {
    let policy = text(&spec["template"]["spec"], "restartPolicy");
    match policy {
        // The default, which nobody may have asked for.
        "Always" | "" => {
            let why = "valid values: \"OnFailure\", \"Never\"";
            faults.add(FieldError::required(field, why));
        }
        "OnFailure" if spec["podFailurePolicy"].is_object() => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            faults.invalid(field, policy, why);
        }
        "OnFailure" | "Never" => {}
        _ => faults.add(FieldError::not_supported(field, policy, &["OnFailure", "Never"])),
    }
}

fn modes(faults: &mut Faults, at: &str, spec: &Value) {
    let mode = spec["completionMode"].as_str();
    if let Some(mode) = mode.filter(|it| !MODES.contains(it)) {
        faults.add(FieldError::not_supported(format!("{at}.completionMode"), mode, MODES));
    }
    match mode {
        Some("Indexed") => indexed(faults, at, spec),
        None | Some("NonIndexed") => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(it) = spec[field].as_i64() {
                    let why = "requires indexed completion mode";
                    faults.invalid(format!("{at}.{field}"), it, why);
                }
            }
        }
        Some(_) => {}
    }
}

fn indexed(faults: &mut Faults, at: &str, spec: &Value) {
    let number = |field: &str| spec[field].as_i64();
    let completions = number("completions");
    if completions.is_none() {
        let why = "when completion mode is Indexed";
        faults.add(FieldError::required(format!("{at}.completions"), why));
    }
    let mut at_most = |field: &str, most: i64, why: String| {
        if let Some(it) = number(field).filter(|it| *it > most) {
            faults.invalid(format!("{at}.{field}"), it, why);
        }
    };
    let why = format!("must be less than or equal to {MOST} when completion mode is Indexed");
    at_most("parallelism", MOST, why);
    if let Some(all) = completions {
        at_most("maxFailedIndexes", all, "must be less than or equal to completions".into());
    }
    at_most("maxFailedIndexes", MOST, format!("must be less than or equal to {MOST}"));
    if completions.is_none_or(|it| it <= MOST) || number("backoffLimitPerIndex").is_none() {
        return;
    }
    for field in ["parallelism", "maxFailedIndexes"] {
        let why = format!(
            "must be less than or equal to {MOST_OF_MANY} when completions are above {MOST} and used with backoff limit per index"
        );
        at_most(field, MOST_OF_MANY, why);
    }
    if number("maxFailedIndexes").is_none() {
        let why = format!("must be specified when completions is above {MOST}");
        faults.add(FieldError::required(format!("{at}.maxFailedIndexes"), why));
    }
}

pub(super) fn job_update(faults: &mut Faults, old: &Value, new: &Value) {
    let (before, after) = (&old["spec"], &new["spec"]);
    completions(faults, before, after);
    faults.immutable("spec.selector", &before["selector"], &after["selector"]);
    let (was, is) = (template(old, before), template(old, after));
    if was != is {
        faults.invalid("spec.template", after["template"].clone(), "field is immutable");
    }
    for field in
        ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        faults.immutable(&format!("spec.{field}"), &before[field], &after[field]);
    }
}

/// How many pods an indexed Job wants may change with how many it runs.
fn completions(faults: &mut Faults, before: &Value, after: &Value) {
    let (was, is) = (&before["completions"], &after["completions"]);
    if after["completionMode"] != "Indexed" {
        return faults.immutable("spec.completions", was, is);
    }
    if was != is && !is.is_null() && *is != after["parallelism"] {
        let why = "can only be modified in tandem with spec.parallelism";
        faults.invalid("spec.completions", is.clone(), why);
    }
}

/// The template without what may change: a suspended Job may still be steered to other nodes, and
/// its pods made larger or smaller.
fn template(old: &Value, spec: &Value) -> Value {
    let mut template = spec["template"].clone();
    let mut suspended = items(&old["status"], "conditions")
        .filter(|(_, it)| it["type"] == "Suspended" && it["status"] == "True");
    let never_ran = old["status"]["startTime"].is_null();
    if old["spec"]["suspend"] != true || !never_ran && suspended.next().is_none() {
        return template;
    }
    drop_fields(template.get_mut("metadata"), &["labels", "annotations"]);
    let spec = template.get_mut("spec");
    let Some(spec) = spec else { return template };
    drop_fields(Some(&mut *spec), &["nodeSelector", "tolerations", "schedulingGates"]);
    drop_fields(spec.get_mut("affinity"), &["nodeAffinity"]);
    if spec["affinity"].as_object().is_some_and(serde_json::Map::is_empty) {
        drop_fields(Some(&mut *spec), &["affinity"]);
    }
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            drop_fields(Some(container), &["resources"]);
        }
    }
    template
}

fn drop_fields(object: Option<&mut Value>, names: &[&str]) {
    if let Some(fields) = object.and_then(Value::as_object_mut) {
        fields.retain(|name, _| !names.contains(&name.as_str()));
    }
}
