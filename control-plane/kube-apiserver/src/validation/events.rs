//! Events, which are stored as the core group's whichever group they come by.
//!
//! Upstream: pkg/apis/core/validation/events.go.

use serde_json::Value;

use super::{Faults, text};

const LIMIT: usize = 128;
const MESSAGE_LIMIT: usize = 1024;

/// Of the core group, or what both groups ask for.
pub(super) fn event(faults: &mut Faults, event: &Value, is_new: bool) {
    let (own, involved) =
        (text(&event["metadata"], "namespace"), text(&event["involvedObject"], "namespace"));
    let agrees = match involved {
        "" => matches!(own, "" | "default"),
        involved => own == involved,
    };
    if !agrees {
        faults.invalid("involvedObject.namespace", involved, "does not match event.namespace");
    }
    if event["eventTime"].is_null() {
        return;
    }
    let reporting = if is_new { "reportingController" } else { "reportingComponent" };
    faults.text(reporting, &event["reportingComponent"]);
    for (field, value) in [
        ("reportingInstance", text(event, "reportingInstance")),
        ("action", text(event, "action")),
        ("reason", text(event, "reason")),
    ] {
        if value.is_empty() {
            faults.required(field);
        } else if value.len() > LIMIT {
            faults.invalid(field, "", format!("can have at most {LIMIT} characters"));
        }
    }
    if text(event, "message").len() > MESSAGE_LIMIT {
        faults.invalid("message", "", format!("can have at most {MESSAGE_LIMIT} characters"));
    }
}

/// Of events.k8s.io.
pub(super) fn create(faults: &mut Faults, event: &Value) {
    self::event(faults, event, true);
    series(faults, event);
    if event["eventTime"].is_null() {
        faults.required("eventTime");
    }
    let kind = text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        faults.invalid("type", "", format!("has invalid value: {kind}"));
    }
    let source = &event["source"];
    for (field, is_set) in [
        ("firstTimestamp", !event["firstTimestamp"].is_null()),
        ("lastTimestamp", !event["lastTimestamp"].is_null()),
        ("count", event["count"].as_i64().unwrap_or_default() != 0),
        ("source", !text(source, "component").is_empty() || !text(source, "host").is_empty()),
    ] {
        if is_set {
            faults.invalid(field, "", "needs to be unset");
        }
    }
}

fn series(faults: &mut Faults, event: &Value) {
    let series = &event["series"];
    if !series.is_object() {
        return;
    }
    if series["count"].as_i64().unwrap_or_default() < 2 {
        faults.invalid("series.count", "", "should be at least 2");
    }
    if series["lastObservedTime"].is_null() {
        faults.required("series.lastObservedTime");
    }
}

/// By events.k8s.io an event can only go on.
pub(super) fn update(faults: &mut Faults, old: &Value, new: &Value) {
    if old["series"] != new["series"] {
        series(faults, new);
    }
    for (field, shown) in [
        ("involvedObject", "involvedObject"),
        ("reason", "reason"),
        ("message", "message"),
        ("source", "source"),
        ("firstTimestamp", "firstTimestamp"),
        ("lastTimestamp", "lastTimestamp"),
        ("count", "count"),
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
    ] {
        if !is_same(&old[field], &new[field]) {
            faults.immutable(shown, &old[field], &new[field]);
        }
    }
}

/// As upstream's structures are: what is empty is what is not there, and protobuf carries neither.
fn is_same(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            a.keys().chain(b.keys()).all(|it| is_same(&old[it], &new[it]))
        }
        _ => old == new || is_zero(old) && is_zero(new),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Object(fields) => fields.values().all(is_zero),
        _ => false,
    }
}
