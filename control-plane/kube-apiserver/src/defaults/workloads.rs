//! Defaults of what makes pods.

use serde_json::{Value, json};

use super::{at, each, or, or_text, pod, sources};

/// Labels that some types take from their template.
fn labels_from_template(object: &mut Value) {
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    if labels.as_object().is_none_or(serde_json::Map::is_empty) {
        return;
    }
    if object["metadata"]["labels"].as_object().is_none_or(serde_json::Map::is_empty) {
        object["metadata"]["labels"] = labels;
    }
}

pub(super) fn replication_controller(object: &mut Value) {
    labels_from_template(object);
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    let spec = at(object, "spec");
    or(spec, "replicas", json!(1));
    if labels.is_object() {
        or(spec, "selector", labels);
    }
    if spec["template"].is_object() {
        pod::template(at(spec, "template"));
    }
}

pub(super) fn replica_set(object: &mut Value) {
    let spec = at(object, "spec");
    or(spec, "replicas", json!(1));
    pod::template(at(spec, "template"));
}

pub(super) fn deployment(object: &mut Value) {
    let spec = at(object, "spec");
    or(spec, "replicas", json!(1));
    or(spec, "revisionHistoryLimit", json!(10));
    or(spec, "progressDeadlineSeconds", json!(600));
    let strategy = at(spec, "strategy");
    or_text(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = at(strategy, "rollingUpdate");
        or(rolling, "maxUnavailable", json!("25%"));
        or(rolling, "maxSurge", json!("25%"));
    }
    pod::template(at(spec, "template"));
}

pub(super) fn daemon_set(object: &mut Value) {
    let spec = at(object, "spec");
    or(spec, "revisionHistoryLimit", json!(10));
    let strategy = at(spec, "updateStrategy");
    or_text(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = at(strategy, "rollingUpdate");
        or(rolling, "maxUnavailable", json!(1));
        or(rolling, "maxSurge", json!(0));
    }
    pod::template(at(spec, "template"));
}

pub(super) fn stateful_set(object: &mut Value) {
    let spec = at(object, "spec");
    or_text(spec, "podManagementPolicy", "OrderedReady");
    let strategy = at(spec, "updateStrategy");
    if strategy["type"].as_str().unwrap_or_default().is_empty() {
        strategy["type"] = "RollingUpdate".into();
        at(strategy, "rollingUpdate");
    }
    if strategy["type"] == "RollingUpdate" && strategy["rollingUpdate"].is_object() {
        or(at(strategy, "rollingUpdate"), "partition", json!(0));
    }
    let retention = at(spec, "persistentVolumeClaimRetentionPolicy");
    or_text(retention, "whenDeleted", "Retain");
    or_text(retention, "whenScaled", "Retain");
    or(spec, "replicas", json!(1));
    or(spec, "revisionHistoryLimit", json!(10));
    for claim in each(spec, "volumeClaimTemplates") {
        or_text(claim, "apiVersion", "v1");
        or_text(claim, "kind", "PersistentVolumeClaim");
        sources::claim(at(claim, "spec"));
        or(claim, "status", json!({ "phase": "Pending" }));
    }
    pod::template(at(spec, "template"));
}

pub(super) fn job(object: &mut Value) {
    labels_from_template(object);
    let spec = at(object, "spec");
    let (completions, parallelism) = (spec["completions"].clone(), spec["parallelism"].clone());
    if completions.is_null() && parallelism.is_null() {
        spec["completions"] = json!(1);
    }
    or(spec, "parallelism", json!(1));
    or(spec, "completionMode", json!("NonIndexed"));
    or(spec, "suspend", json!(false));
    or(spec, "manualSelector", json!(false));
    or(
        spec,
        "podReplacementPolicy",
        json!(if spec["podFailurePolicy"].is_object() { "Failed" } else { "TerminatingOrFailed" }),
    );
    let default_limit =
        if spec["backoffLimitPerIndex"].is_null() { 6 } else { i64::from(i32::MAX) };
    or(spec, "backoffLimit", json!(default_limit));
    job_template(spec);
}

pub(super) fn cron_job(object: &mut Value) {
    let spec = at(object, "spec");
    or_text(spec, "concurrencyPolicy", "Allow");
    or(spec, "suspend", json!(false));
    or(spec, "successfulJobsHistoryLimit", json!(3));
    or(spec, "failedJobsHistoryLimit", json!(1));
    let template = at(spec, "jobTemplate");
    at(template, "metadata");
    job_template(at(template, "spec"));
}

/// What a CronJob's Job has; the rest it gets when it is made.
fn job_template(spec: &mut Value) {
    for rule in spec.get_mut("podFailurePolicy").into_iter().flat_map(|it| each(it, "rules")) {
        for pattern in each(rule, "onPodConditions") {
            or_text(pattern, "status", "True");
        }
    }
    if spec["template"].is_object() {
        pod::template(at(spec, "template"));
    }
}

pub(super) fn autoscaler(object: &mut Value) {
    let spec = at(object, "spec");
    or(spec, "minReplicas", json!(1));
    if spec["metrics"].as_array().is_none_or(Vec::is_empty) {
        let target = json!({ "type": "Utilization", "averageUtilization": 80 });
        let resource = json!({ "name": "cpu", "target": target });
        spec["metrics"] = json!([{ "type": "Resource", "resource": resource }]);
    }
    if spec["behavior"].is_object() {
        let behavior = at(spec, "behavior");
        rules(at(behavior, "scaleUp"), true);
        rules(at(behavior, "scaleDown"), false);
    }
}

/// How fast an autoscaler goes in a direction.
fn rules(rules: &mut Value, is_up: bool) {
    let percent = json!({ "type": "Percent", "value": 100, "periodSeconds": 15 });
    if is_up {
        let pods = json!({ "type": "Pods", "value": 4, "periodSeconds": 15 });
        or(rules, "stabilizationWindowSeconds", json!(0));
        or(rules, "policies", json!([pods, percent]));
    } else {
        or(rules, "policies", json!([percent]));
    }
    or(rules, "selectPolicy", json!("Max"));
}
