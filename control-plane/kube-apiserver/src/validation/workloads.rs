//! Deployments, ReplicaSets, DaemonSets, StatefulSets, ReplicationControllers, disruption budgets.
//!
//! Upstream: pkg/apis/apps/validation, pkg/apis/policy/validation.

mod status;

use std::collections::BTreeMap;

use serde_json::Value;

pub(super) use self::status::check as status;
use super::{Faults, fields, pod, text};
use crate::{resources::Resource, selectors::Labels, status::FieldError};

pub(super) fn validate(faults: &mut Faults, resource: &Resource, object: &Value) {
    let spec = &object["spec"];
    match resource.plural.as_str() {
        "deployments" => {
            common(faults, spec, "deployment", "ReplicaSet");
            deployment_strategy(faults, &spec["strategy"]);
            faults.not_negative("spec.minReadySeconds", &spec["minReadySeconds"]);
            faults.not_negative("spec.revisionHistoryLimit", &spec["revisionHistoryLimit"]);
            progress(faults, spec);
        }
        "replicasets" => {
            // Upstream calls it a deployment, too.
            common(faults, spec, "deployment", "ReplicaSet");
            faults.not_negative("spec.minReadySeconds", &spec["minReadySeconds"]);
        }
        "daemonsets" => {
            common(faults, spec, "daemonset", "DaemonSet");
            faults.not_negative("spec.minReadySeconds", &spec["minReadySeconds"]);
            daemon_strategy(faults, &spec["updateStrategy"]);
            faults.not_negative("spec.revisionHistoryLimit", &spec["revisionHistoryLimit"]);
        }
        "statefulsets" => stateful_set(faults, spec),
        "controllerrevisions" => {
            if object["data"].is_null() {
                faults.add(FieldError::required("data", "data is mandatory"));
            }
            faults.not_negative("revision", &object["revision"]);
        }
        _ => {}
    }
}

/// Replicas, selector and template, and that they agree.
fn common(faults: &mut Faults, spec: &Value, kind: &str, told: &str) {
    selected(faults, spec, kind);
    pod::template(faults, "spec.template", &spec["template"]);
    always_running(faults, spec, told);
}

fn selected(faults: &mut Faults, spec: &Value, kind: &str) {
    faults.not_negative("spec.replicas", &spec["replicas"]);
    let selector = &spec["selector"];
    if selector.is_object() {
        fields::selector(faults, "spec.selector", selector);
    } else {
        faults.required("spec.selector");
    }
    let is_empty = |it: &serde_json::Map<String, Value>| it.values().all(fields::is_unset);
    if selector.as_object().is_some_and(is_empty) {
        let why = format!("empty selector is invalid for {kind}");
        faults.invalid("spec.selector", selector.clone(), why);
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if selector.is_object() && !matches(selector, labels) {
        let why = "`selector` does not match template `labels`";
        faults.invalid("spec.template.metadata.labels", labels.clone(), why);
    }
}

fn always_running(faults: &mut Faults, spec: &Value, told: &str) {
    let template = &spec["template"]["spec"];
    let policy = text(template, "restartPolicy");
    if policy != "Always" {
        let field = "spec.template.spec.restartPolicy";
        faults.add(FieldError::not_supported(field, policy, &["Always"]));
    }
    if template["activeDeadlineSeconds"].is_number() {
        let why = format!("activeDeadlineSeconds in {told} is not Supported");
        faults.forbidden("spec.template.spec.activeDeadlineSeconds", why);
    }
}

fn matches(selector: &Value, labels: &Value) -> bool {
    let labels: BTreeMap<String, String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    // A selector that cannot be read was told already.
    Labels::of(selector).is_ok_and(|it| it.matches(&labels)) || Labels::of(selector).is_err()
}

/// Of a StatefulSet's pods no more is looked at than their labels: its claims become volumes.
fn stateful_set(faults: &mut Faults, spec: &Value) {
    let policy = text(spec, "podManagementPolicy");
    match policy {
        "" => faults.required("spec.podManagementPolicy"),
        "OrderedReady" | "Parallel" => {}
        _ => {
            let why = "must be 'OrderedReady' or 'Parallel'";
            faults.invalid("spec.podManagementPolicy", policy, why);
        }
    }
    stateful_strategy(faults, "spec.updateStrategy", &spec["updateStrategy"]);
    let retention = &spec["persistentVolumeClaimRetentionPolicy"];
    for field in ["whenDeleted", "whenScaled"] {
        let policy = text(retention, field);
        if retention.is_object() && !matches!(policy, "Retain" | "Delete") {
            let at = format!("spec.persistentVolumeClaimRetentionPolicy.{field}");
            faults.add(FieldError::not_supported(at, policy, &["Retain", "Delete"]));
        }
    }
    faults.not_negative("spec.minReadySeconds", &spec["minReadySeconds"]);
    faults.not_negative("spec.ordinals.start", &spec["ordinals"]["start"]);
    faults.not_negative("spec.revisionHistoryLimit", &spec["revisionHistoryLimit"]);
    selected(faults, spec, "statefulset");
    pod::template_metadata(faults, "spec.template", &spec["template"]);
    always_running(faults, spec, "StatefulSet");
}

fn stateful_strategy(faults: &mut Faults, at: &str, strategy: &Value) {
    let rolling = &strategy["rollingUpdate"];
    match text(strategy, "type") {
        "" => faults.required(at),
        "OnDelete" if rolling.is_object() => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            faults.invalid(format!("{at}.rollingUpdate"), rolling.clone(), why);
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            faults.not_negative(&format!("{at}.rollingUpdate.partition"), &rolling["partition"]);
            let (most, field) =
                (&rolling["maxUnavailable"], format!("{at}.rollingUpdate.maxUnavailable"));
            if !most.is_null() {
                fields::int_or_percent(faults, &field, most);
                if share(most) == 0 {
                    faults.invalid(&*field, most.clone(), "cannot be 0");
                }
                at_most_all(faults, &field, most);
            }
        }
        _ => faults.invalid(at, strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

fn deployment_strategy(faults: &mut Faults, strategy: &Value) {
    let at = "spec.strategy";
    let rolling = &strategy["rollingUpdate"];
    match text(strategy, "type") {
        "Recreate" if rolling.is_object() => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            faults.forbidden(format!("{at}.rollingUpdate"), why);
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let at = format!("{at}.rollingUpdate");
            both(faults, &at, rolling);
            let field = format!("{at}.maxUnavailable");
            let down = &rolling["maxUnavailable"];
            if share(down) == 0 && share(&rolling["maxSurge"]) == 0 {
                faults.invalid(&*field, down.clone(), "may not be 0 when `maxSurge` is 0");
            }
            at_most_all(faults, &field, down);
        }
        _ => {
            let known = &["Recreate", "RollingUpdate"];
            faults.add(FieldError::not_supported(at, strategy.clone(), known));
        }
    }
}

fn daemon_strategy(faults: &mut Faults, strategy: &Value) {
    let at = "spec.updateStrategy";
    let rolling = &strategy["rollingUpdate"];
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_object() => faults.required(format!("{at}.rollingUpdate")),
        "RollingUpdate" => {
            let at = format!("{at}.rollingUpdate");
            both(faults, &at, rolling);
            let (down, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
            at_most_all(faults, &format!("{at}.maxUnavailable"), down);
            at_most_all(faults, &format!("{at}.maxSurge"), surge);
            match (share(down) != 0, share(surge) != 0) {
                (true, true) => {
                    let why = "may not be set when maxUnavailable is non-zero";
                    faults.invalid(format!("{at}.maxSurge"), surge.clone(), why);
                }
                (false, false) => {
                    let why = "cannot be 0 when maxSurge is 0";
                    faults.add(FieldError::required(format!("{at}.maxUnavailable"), why));
                }
                _ => {}
            }
        }
        _ => {
            let known = &["RollingUpdate", "OnDelete"];
            faults.add(FieldError::not_supported(at, strategy.clone(), known));
        }
    }
}

fn both(faults: &mut Faults, at: &str, rolling: &Value) {
    for field in ["maxUnavailable", "maxSurge"] {
        if !rolling[field].is_null() {
            fields::int_or_percent(faults, &format!("{at}.{field}"), &rolling[field]);
        }
    }
}

/// The number, of a percentage that before the sign.
fn share(value: &Value) -> i64 {
    let percent = value.as_str().and_then(|it| it.trim_end_matches('%').parse().ok());
    value.as_i64().or(percent).unwrap_or_default()
}

fn at_most_all(faults: &mut Faults, field: &str, value: &Value) {
    if value.as_str().is_some_and(|it| it.ends_with('%')) && share(value) > 100 {
        faults.invalid(field, value.clone(), "must not be greater than 100%");
    }
}

fn progress(faults: &mut Faults, spec: &Value) {
    let deadline = &spec["progressDeadlineSeconds"];
    faults.not_negative("spec.progressDeadlineSeconds", deadline);
    let least = spec["minReadySeconds"].as_i64().unwrap_or_default();
    if let Some(seconds) = deadline.as_i64().filter(|it| *it <= least) {
        let why = "must be greater than minReadySeconds";
        faults.invalid("spec.progressDeadlineSeconds", seconds, why);
    }
}

pub(super) fn replication_controller(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    faults.not_negative("spec.minReadySeconds", &spec["minReadySeconds"]);
    let selector = &spec["selector"];
    if selector.as_object().is_none_or(serde_json::Map::is_empty) {
        faults.required("spec.selector");
    }
    faults.not_negative("spec.replicas", &spec["replicas"]);
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
    always_running(faults, spec, "ReplicationController");
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
                faults.forbidden("spec", why);
            }
        }
        "controllerrevisions" => faults.immutable("data", &old["data"], &new["data"]),
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
            at_most_all(faults, &format!("spec.{field}"), value);
        }
    }
    fields::selector(faults, "spec.selector", &spec["selector"]);
    let policy = text(spec, "unhealthyPodEvictionPolicy");
    let supported = &["AlwaysAllow", "IfHealthyBudget"];
    if spec["unhealthyPodEvictionPolicy"].is_string() && !supported.contains(&policy) {
        let field = "spec.unhealthyPodEvictionPolicy";
        faults.add(FieldError::not_supported(field, policy, supported));
    }
}
