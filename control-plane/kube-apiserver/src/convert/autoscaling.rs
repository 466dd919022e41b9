//! `autoscaling/v1` over what is stored, which is `autoscaling/v2`.
//!
//! The older version has one number, the target of the CPU. What else an autoscaler says is kept
//! for it in annotations, in the form that metrics had then, so that a client which reads and
//! writes in the older version loses nothing. An annotation that cannot be read is dropped.
//!
//! Upstream: pkg/apis/autoscaling/v1/conversion.go.

use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// What a metric is measured against, and what it was measured as.
#[derive(Clone, Copy)]
enum Side {
    Target,
    Current,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Current => "current",
        }
    }
}

/// By source: the older version's field, and where it is now. `*` stands for the side's name.
type Names = &'static [(&'static str, &'static str)];

const SOURCES: [(&str, Names); 5] = [
    ("resource", RESOURCE),
    ("containerResource", RESOURCE),
    (
        "pods",
        &[
            ("metricName", "/metric/name"),
            ("selector", "/metric/selector"),
            ("*AverageValue", "/*/averageValue"),
        ],
    ),
    (
        "object",
        &[
            ("target", "/describedObject"),
            ("metricName", "/metric/name"),
            ("selector", "/metric/selector"),
            ("*Value", "/*/value"),
            ("averageValue", "/*/averageValue"),
        ],
    ),
    (
        "external",
        &[
            ("metricName", "/metric/name"),
            ("metricSelector", "/metric/selector"),
            ("*Value", "/*/value"),
            ("*AverageValue", "/*/averageValue"),
        ],
    ),
];

const RESOURCE: Names = &[
    ("name", "/name"),
    ("container", "/container"),
    ("*AverageUtilization", "/*/averageUtilization"),
    ("*AverageValue", "/*/averageValue"),
];

pub(super) fn from_storage(object: &mut Value) {
    let mut kept = Vec::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let mut metrics = list(spec.remove("metrics"));
        if let Some(at) = metrics.iter().position(is_cpu_target) {
            let target = &metrics.remove(at)["resource"]["target"]["averageUtilization"];
            spec.insert("targetCPUUtilizationPercentage".into(), target.clone());
        }
        kept.push((METRICS, older(&metrics, Side::Target)));
        kept.push((BEHAVIOR, spec.remove("behavior")));
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let metrics = list(status.remove("currentMetrics"));
        let cpu = metrics.iter().find(|it| it["resource"]["name"] == "cpu");
        let used = cpu.map(|it| &it["resource"]["current"]["averageUtilization"]);
        if let Some(used) = used.filter(|it| it.is_number()) {
            status.insert("currentCPUUtilizationPercentage".into(), used.clone());
        }
        kept.push((CURRENT_METRICS, older(&metrics, Side::Current)));
        kept.push((CONDITIONS, status.remove("conditions").filter(|it| *it != json!([]))));
        // Not optional in this version.
        status.entry("currentReplicas").or_insert(0.into());
        status.entry("desiredReplicas").or_insert(0.into());
    }
    for (name, value) in kept {
        if let Some(value) = value {
            object["metadata"]["annotations"][name] = value.to_string().into();
        }
    }
}

pub(super) fn to_storage(object: &mut Value) {
    object["apiVersion"] = "autoscaling/v2".into();
    let (metrics, behavior) = (take(object, METRICS), take(object, BEHAVIOR));
    let (current, conditions) = (take(object, CURRENT_METRICS), take(object, CONDITIONS));
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let target = spec.remove("targetCPUUtilizationPercentage");
        let target = target.filter(Value::is_number).map(cpu_target);
        let all: Vec<Value> = target.into_iter().chain(newer(metrics, Side::Target)).collect();
        if !all.is_empty() {
            spec.insert("metrics".into(), all.into());
        }
        if let Some(behavior) = behavior.filter(Value::is_object) {
            spec.insert("behavior".into(), behavior);
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("currentCPUUtilizationPercentage");
        let current: Vec<Value> = newer(current, Side::Current).collect();
        if !current.is_empty() {
            status.insert("currentMetrics".into(), current.into());
        }
        if let Some(conditions) = conditions.filter(Value::is_array) {
            status.insert("conditions".into(), conditions);
        }
    }
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn is_cpu_target(metric: &Value) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && metric["resource"]["target"]["averageUtilization"].is_number()
}

fn cpu_target(percent: Value) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percent});
    json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
}

/// An annotation's value, which goes from the annotations.
fn take(object: &mut Value, name: &str) -> Option<Value> {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut)?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    let text = annotations.remove(name)?;
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

/// The metrics in the older version's form; nothing where there are none.
fn older(metrics: &[Value], side: Side) -> Option<Value> {
    let each = |metric: &Value| {
        let mut made = json!({"type": metric["type"]});
        for (source, names) in SOURCES {
            let found = &metric[source];
            if !found.is_object() {
                continue;
            }
            let mut fields = Map::new();
            for (name, pointer) in names {
                if let Some(value) = found.pointer(&of(pointer, side)) {
                    fields.insert(camel(name, side), value.clone());
                }
            }
            made[source] = fields.into();
        }
        made
    };
    let all: Vec<Value> = metrics.iter().map(each).collect();
    (!all.is_empty()).then(|| all.into())
}

/// The metrics of an annotation as they are stored.
fn newer(metrics: Option<Value>, side: Side) -> impl Iterator<Item = Value> {
    list(metrics).into_iter().map(move |metric| {
        let mut made = json!({"type": metric["type"]});
        for (source, names) in SOURCES {
            if !metric[source].is_object() {
                continue;
            }
            let mut fields = json!({});
            for (name, pointer) in names {
                let value = &metric[source][camel(name, side)];
                if !value.is_null() {
                    put(&mut fields, &of(pointer, side), value.clone());
                }
            }
            if matches!(side, Side::Target) {
                fields["target"]["type"] = kind(&fields["target"]).into();
            }
            made[source] = fields;
        }
        made
    })
}

fn kind(target: &Value) -> &'static str {
    if target.get("averageUtilization").is_some() {
        "Utilization"
    } else if target.get("averageValue").is_some() {
        "AverageValue"
    } else {
        "Value"
    }
}

/// `/*/value` of a side.
fn of(pointer: &str, side: Side) -> String {
    pointer.replace('*', side.name())
}

/// `*AverageValue` of a side: `targetAverageValue`.
fn camel(name: &str, side: Side) -> String {
    name.replace('*', side.name())
}

fn put(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for part in pointer.split('/').skip(1) {
        place = &mut place[part];
    }
    *place = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Value {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a", "annotations": {"own": "1"}},
            "spec": {
                "maxReplicas": 3,
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 60}}},
                    {"type": "Object", "object": {
                        "describedObject": {"kind": "Service", "name": "s"},
                        "metric": {"name": "hits"}, "target": {"type": "Value", "value": "5"}}},
                    {"type": "Pods", "pods": {"metric": {"name": "p", "selector": {}},
                        "target": {"type": "AverageValue", "averageValue": "7"}}},
                ],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}},
            },
            "status": {
                "currentReplicas": 1, "desiredReplicas": 2,
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                    "current": {"averageUtilization": 30, "averageValue": "3m"}}}],
                "conditions": [{"type": "AbleToScale", "status": "True"}],
            },
        })
    }

    #[test]
    fn the_older_version_has_the_cpu_in_a_field_and_the_rest_in_annotations() {
        let mut object = stored();
        from_storage(&mut object);
        assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], 60);
        assert_eq!(object["status"]["currentCPUUtilizationPercentage"], 30);
        assert!(
            object["spec"].get("metrics").is_none() && object["spec"].get("behavior").is_none()
        );
        let annotations = &object["metadata"]["annotations"];
        let metrics: Value = serde_json::from_str(annotations[METRICS].as_str().unwrap()).unwrap();
        assert_eq!(
            metrics[0],
            json!({"type": "Object", "object": {"target": {"kind": "Service", "name": "s"},
                "metricName": "hits", "targetValue": "5"}})
        );
        assert_eq!(annotations["own"], "1");
    }

    #[test]
    fn what_is_read_and_written_in_the_older_version_stays_what_it_was() {
        let mut object = stored();
        from_storage(&mut object);
        to_storage(&mut object);
        assert_eq!(object, stored());
    }

    #[test]
    fn an_annotation_that_is_no_json_is_dropped() {
        let mut object = json!({"metadata": {"annotations": {METRICS: "{"}}, "spec": {}});
        to_storage(&mut object);
        assert_eq!(object, json!({"apiVersion": "autoscaling/v2", "metadata": {}, "spec": {}}));
    }
}
