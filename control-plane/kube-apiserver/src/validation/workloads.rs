//! Deployments, ReplicaSets, DaemonSets, StatefulSets, autoscalers, disruption budgets.
//!
//! Upstream: pkg/apis/apps/validation, pkg/apis/policy/validation.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Faults, fields, pod, text};
use crate::{resources::Resource, selectors::Labels, status::FieldError};

pub(super) fn validate(faults: &mut Faults, resource: &Resource, object: &Value) {
    let spec = &object["spec"];
    match resource.plural.as_str() {
        "deployments" => {
            common(faults, spec, "deployment");
            for field in ["minReadySeconds", "revisionHistoryLimit"] {
                faults.not_negative(&format!("spec.{field}"), &spec[field]);
            }
            deployment_strategy(faults, &spec["strategy"]);
            progress(faults, spec);
        }
        "replicasets" => common(faults, spec, "replicaset"),
        "daemonsets" => {
            common(faults, spec, "daemonset");
            let update = &spec["updateStrategy"];
            let supported = &["RollingUpdate", "OnDelete"];
            faults.one_of("spec.updateStrategy.type", &update["type"], supported);
            rolling(faults, "spec.updateStrategy.rollingUpdate", &update["rollingUpdate"]);
        }
        "statefulsets" => {
            common(faults, spec, "statefulset");
            let supported = &["OrderedReady", "Parallel"];
            faults.one_of("spec.podManagementPolicy", &spec["podManagementPolicy"], supported);
        }
        "controllerrevisions" => {
            faults.not_negative("revision", &object["revision"]);
        }
        _ => {}
    }
}

/// Replicas, selector and template, and that they agree.
fn common(faults: &mut Faults, spec: &Value, kind: &str) {
    faults.not_negative("spec.replicas", &spec["replicas"]);
    let selector = &spec["selector"];
    if !selector.is_object() {
        faults.required("spec.selector");
    } else if selector.as_object().is_some_and(|it| it.values().all(is_empty)) {
        let why = format!("empty selector is invalid for {kind}");
        faults.invalid("spec.selector", selector.clone(), why);
    }
    fields::selector(faults, "spec.selector", selector);
    if !spec["template"].is_object() {
        faults.required("spec.template");
        return;
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if selector.is_object() && !matches(selector, labels) {
        let why = "`selector` does not match template `labels`";
        let shown = if labels.is_null() { Value::Null } else { labels.clone() };
        faults.invalid("spec.template.metadata.labels", shown, why);
    }
    pod::template(faults, "spec.template", &spec["template"]);
    let policy = text(&spec["template"]["spec"], "restartPolicy");
    if policy != "Always" && !policy.is_empty() {
        let field = "spec.template.spec.restartPolicy";
        faults.add(FieldError::not_supported(field, policy, &["Always"]));
    }
    if spec["template"]["spec"]["activeDeadlineSeconds"].is_number() {
        let field = "spec.template.spec.activeDeadlineSeconds";
        faults.add(FieldError::forbidden(
            field,
            format!("activeDeadlineSeconds in {kind} is not Supported"),
        ));
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        other => other.is_null(),
    }
}

fn matches(selector: &Value, labels: &Value) -> bool {
    let labels: BTreeMap<String, String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    Labels::of(selector).is_ok_and(|it| it.matches(&labels))
}

fn deployment_strategy(faults: &mut Faults, strategy: &Value) {
    let at = "spec.strategy";
    match text(strategy, "type") {
        "Recreate" if strategy["rollingUpdate"].is_object() => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            faults.add(FieldError::forbidden(format!("{at}.rollingUpdate"), why));
        }
        "Recreate" => {}
        "RollingUpdate" => {
            rolling(faults, &format!("{at}.rollingUpdate"), &strategy["rollingUpdate"]);
        }
        other => {
            let field = format!("{at}.type");
            faults.add(FieldError::not_supported(field, other, &["Recreate", "RollingUpdate"]));
        }
    }
}

fn rolling(faults: &mut Faults, at: &str, rolling: &Value) {
    if !rolling.is_object() {
        return;
    }
    for field in ["maxUnavailable", "maxSurge"] {
        if !rolling[field].is_null() {
            fields::int_or_percent(faults, &format!("{at}.{field}"), &rolling[field]);
        }
    }
    let is_zero = |value: &Value| *value == 0 || *value == "0%" || value.is_null();
    if is_zero(&rolling["maxUnavailable"]) && is_zero(&rolling["maxSurge"]) {
        let why = "may not be 0 when `maxSurge` is 0";
        faults.invalid(format!("{at}.maxUnavailable"), rolling["maxUnavailable"].clone(), why);
    }
}

fn progress(faults: &mut Faults, spec: &Value) {
    let deadline = &spec["progressDeadlineSeconds"];
    faults.not_negative("spec.progressDeadlineSeconds", deadline);
    let least = spec["minReadySeconds"].as_i64().unwrap_or_default();
    if let Some(seconds) = deadline.as_i64().filter(|it| *it <= least && *it >= 0) {
        let why = "must be greater than minReadySeconds";
        faults.invalid("spec.progressDeadlineSeconds", seconds, why);
    }
}

pub(super) fn replication_controller(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    faults.not_negative("spec.replicas", &spec["replicas"]);
    let selector = &spec["selector"];
    if selector.as_object().is_none_or(serde_json::Map::is_empty) {
        faults.required("spec.selector");
    }
    if !spec["template"].is_object() {
        faults.required("spec.template");
        return;
    }
    let labels = &spec["template"]["metadata"]["labels"];
    let agrees =
        selector.as_object().is_none_or(|it| it.iter().all(|(key, value)| labels[key] == *value));
    if !agrees {
        let why = "`selector` does not match template `labels`";
        faults.invalid("spec.template.metadata.labels", labels.clone(), why);
    }
    pod::template(faults, "spec.template", &spec["template"]);
}

/// What no update may change.
pub(super) fn update(faults: &mut Faults, resource: &Resource, old: &Value, new: &Value) {
    let (before, after) = (&old["spec"], &new["spec"]);
    match resource.plural.as_str() {
        "deployments" | "replicasets" | "daemonsets" => {
            faults.immutable("spec.selector", &before["selector"], &after["selector"]);
        }
        "statefulsets" => {
            const OPEN: [&str; 7] = [
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            ];
            let closed = |spec: &Value| {
                let mut spec = spec.clone();
                if let Some(fields) = spec.as_object_mut() {
                    fields.retain(|name, _| !OPEN.contains(&name.as_str()));
                }
                spec
            };
            if closed(before) != closed(after) {
                let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
                faults.add(FieldError::forbidden("spec", why));
            }
        }
        "controllerrevisions" => faults.immutable("data", &old["data"], &new["data"]),
        _ => {}
    }
}

pub(super) fn autoscaler(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    let target = &spec["scaleTargetRef"];
    faults.text("spec.scaleTargetRef.kind", &target["kind"]);
    faults.text("spec.scaleTargetRef.name", &target["name"]);
    let (least, most) = (spec["minReplicas"].as_i64(), spec["maxReplicas"].as_i64());
    if let Some(least) = least.filter(|it| *it < 1) {
        faults.invalid("spec.minReplicas", least, "must be greater than or equal to 1");
    }
    match most.unwrap_or_default() {
        most if most < 1 => faults.invalid("spec.maxReplicas", most, "must be greater than 0"),
        most if least.is_some_and(|it| most < it) => {
            faults.invalid(
                "spec.maxReplicas",
                most,
                "must be greater than or equal to `minReplicas`",
            );
        }
        _ => {}
    }
}

pub(super) fn budget(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    let (least, most) = (&spec["minAvailable"], &spec["maxUnavailable"]);
    if !least.is_null() && !most.is_null() {
        let why = "minAvailable and maxUnavailable cannot be both set";
        faults.invalid("spec", spec.clone(), why);
    }
    for (field, value) in [("minAvailable", least), ("maxUnavailable", most)] {
        if !value.is_null() {
            fields::int_or_percent(faults, &format!("spec.{field}"), value);
        }
    }
    fields::selector(faults, "spec.selector", &spec["selector"]);
    let policy = text(spec, "unhealthyPodEvictionPolicy");
    let supported = &["AlwaysAllow", "IfHealthyBudget"];
    if !policy.is_empty() && !supported.contains(&policy) {
        let field = "spec.unhealthyPodEvictionPolicy";
        faults.add(FieldError::not_supported(field, policy, supported));
    }
}
