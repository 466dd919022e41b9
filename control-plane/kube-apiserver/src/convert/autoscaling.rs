//! HorizontalPodAutoscalers of autoscaling/v1, which knows one metric: how much of its request of CPU a pod
//! uses. The others, behaviour and conditions are in annotations there, in the form that the version had
//! while they were being tried out.
//!
//! Upstream: pkg/apis/autoscaling/v1/conversion.go.

use serde_json::{Map, Value, json};

use crate::resources::Resource;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

pub(super) fn is_v1(resource: &Resource) -> bool {
    resource.is("autoscaling", "horizontalpodautoscalers") && resource.version == "v1"
}

/// From autoscaling/v2, which is stored.
pub(super) fn to_v1(object: &mut Value) {
    let metrics = list(take(object, "spec", "metrics"));
    let current = list(take(object, "status", "currentMetrics"));
    if let Some(share) = metrics.iter().find_map(|it| cpu_share(it, "target")) {
        object["spec"]["targetCPUUtilizationPercentage"] = share;
    }
    if let Some(share) = current.iter().find_map(|it| cpu_share(it, "current")) {
        object["status"]["currentCPUUtilizationPercentage"] = share;
    }
    let others = metrics.iter().filter(|it| cpu_share(it, "target").is_none());
    let others: Vec<Value> = others.map(|it| metric_to_v1(it, Side::Target)).collect();
    // All of them: the share of CPU has a raw value beside it.
    let current: Vec<Value> = current.iter().map(|it| metric_to_v1(it, Side::Current)).collect();
    let conditions = list(take(object, "status", "conditions"));
    let behavior = take(object, "spec", "behavior");
    let kept = [
        (METRICS, Value::from(others)),
        (CURRENT_METRICS, Value::from(current)),
        (CONDITIONS, Value::from(conditions)),
        (BEHAVIOR, behavior.unwrap_or_default()),
    ];
    change_annotations(object, |annotations| {
        for (name, value) in kept {
            annotations.remove(name);
            if !value.is_null() && value != json!([]) {
                annotations.insert(name.into(), value.to_string().into());
            }
        }
    });
}

/// To autoscaling/v2. An annotation that cannot be read says nothing, as upstream.
pub(super) fn from_v1(object: &mut Value) {
    let mut kept = [const { None }; 4];
    change_annotations(object, |annotations| {
        for (name, kept) in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR].iter().zip(&mut kept) {
            let text = annotations.remove(*name);
            *kept = text.and_then(|it| serde_json::from_str::<Value>(it.as_str()?).ok());
        }
    });
    let [metrics, current, conditions, behavior] = kept;
    let share = take(object, "spec", "targetCPUUtilizationPercentage");
    let mut metrics: Vec<Value> =
        list(metrics).iter().map(|it| metric_from_v1(it, Side::Target)).collect();
    metrics.extend(share.map(|share| {
        json!({
            "type": "Resource",
            "resource": {
                "name": "cpu", "target": { "type": "Utilization", "averageUtilization": share },
            },
        })
    }));
    set(object, "spec", "metrics", Value::from(metrics));
    set(object, "spec", "behavior", behavior.unwrap_or_default());
    let share = take(object, "status", "currentCPUUtilizationPercentage");
    let mut current: Vec<Value> =
        list(current).iter().map(|it| metric_from_v1(it, Side::Current)).collect();
    if let Some(share) = share.filter(|_| current.is_empty()) {
        let resource = json!({ "name": "cpu", "current": { "averageUtilization": share } });
        current.push(json!({ "type": "Resource", "resource": resource }));
    }
    set(object, "status", "currentMetrics", Value::from(current));
    set(object, "status", "conditions", Value::from(list(conditions)));
}

/// What is wanted of a metric, and what it is.
#[derive(Clone, Copy)]
enum Side {
    Target,
    Current,
}

impl Side {
    fn field(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Current => "current",
        }
    }

    /// Version 1's name of a value, by source and by version 2's name.
    fn v1_name(self, source: &str, value: &str) -> String {
        match (source, value) {
            ("object", "averageValue") => value.to_owned(),
            _ => format!("{}{}{}", self.field(), value[..1].to_uppercase(), &value[1..]),
        }
    }
}

const VALUES: [&str; 3] = ["averageUtilization", "averageValue", "value"];
const SOURCES: [&str; 5] = ["resource", "containerResource", "pods", "object", "external"];

/// Version 1's names of a metric's name and of its selector.
fn metric_names(source: &str) -> (&'static str, &'static str) {
    ("metricName", if source == "external" { "metricSelector" } else { "selector" })
}

fn metric_to_v1(metric: &Value, side: Side) -> Value {
    let mut converted = json!({ "type": metric["type"] });
    for source in SOURCES {
        let Some(from) = metric[source].as_object() else { continue };
        let mut to = Map::new();
        let (name, selector) = metric_names(source);
        for (field, value) in from {
            match field.as_str() {
                "metric" => {
                    to.insert(name.into(), value["name"].clone());
                    insert(&mut to, selector, value["selector"].clone());
                }
                "describedObject" => insert(&mut to, "target", value.clone()),
                field if field == side.field() => {
                    for known in VALUES {
                        insert(&mut to, &side.v1_name(source, known), value[known].clone());
                    }
                }
                other => insert(&mut to, other, value.clone()),
            }
        }
        converted[source] = to.into();
    }
    converted
}

fn metric_from_v1(metric: &Value, side: Side) -> Value {
    let mut converted = json!({ "type": metric["type"] });
    for source in SOURCES {
        let Some(mut from) = metric[source].as_object().cloned() else { continue };
        let mut to = Map::new();
        let mut values = Map::new();
        for known in VALUES {
            let value = from.remove(&side.v1_name(source, known));
            insert(&mut values, known, value.unwrap_or_default());
        }
        let kind = VALUES.iter().zip(["Utilization", "AverageValue", "Value"]);
        let kind = kind.into_iter().find(|(value, _)| values.contains_key(**value));
        if let (Side::Target, Some((_, kind))) = (side, kind) {
            values.insert("type".into(), kind.into());
        }
        let (name, selector) = metric_names(source);
        if let Some(name) = from.remove(name) {
            let mut identifier = json!({ "name": name });
            if let Some(selector) = from.remove(selector) {
                identifier["selector"] = selector;
            }
            to.insert("metric".into(), identifier);
        }
        if source == "object"
            && let Some(target) = from.remove("target")
        {
            to.insert("describedObject".into(), target);
        }
        to.extend(from);
        to.insert(side.field().into(), values.into());
        converted[source] = to.into();
    }
    converted
}

/// The share of its request of CPU that is wanted or used.
fn cpu_share(metric: &Value, side: &str) -> Option<Value> {
    let is_cpu = metric["type"] == "Resource" && metric["resource"]["name"] == "cpu";
    let share = &metric["resource"][side]["averageUtilization"];
    (is_cpu && !share.is_null()).then(|| share.clone())
}

fn insert(to: &mut Map<String, Value>, field: &str, value: Value) {
    if !value.is_null() {
        to.insert(field.to_owned(), value);
    }
}

fn take(object: &mut Value, part: &str, field: &str) -> Option<Value> {
    object.get_mut(part)?.as_object_mut()?.remove(field)
}

fn set(object: &mut Value, part: &str, field: &str, value: Value) {
    if !value.is_null() && value != json!([]) {
        object[part][field] = value;
    }
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// There are none where nothing is in them.
fn change_annotations(object: &mut Value, change: impl FnOnce(&mut Map<String, Value>)) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if let Some(annotations) = annotations.as_object_mut() {
        change(annotations);
    }
    if *annotations == json!({}) {
        metadata.remove("annotations");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One metric of every source, as autoscaling/v2 has it.
    fn v2() -> Value {
        let name =
            |name: &str| json!({ "name": name, "selector": { "matchLabels": { "a": "b" } } });
        json!({
            "metadata": { "name": "h", "annotations": { "mine": "1" } },
            "spec": {
                "maxReplicas": 5,
                "behavior": { "scaleDown": { "stabilizationWindowSeconds": 1 } },
                "metrics": [
                    { "type": "Resource", "resource": {
                        "name": "memory", "target": { "type": "AverageValue", "averageValue": "1Mi" },
                    } },
                    { "type": "ContainerResource", "containerResource": {
                        "name": "cpu", "container": "c",
                        "target": { "type": "Utilization", "averageUtilization": 7 },
                    } },
                    { "type": "Pods", "pods": {
                        "metric": name("p"), "target": { "type": "AverageValue", "averageValue": "2" },
                    } },
                    { "type": "Object", "object": {
                        "describedObject": { "kind": "Service", "name": "s", "apiVersion": "v1" },
                        "metric": name("o"), "target": { "type": "Value", "value": "3" },
                    } },
                    { "type": "External", "external": {
                        "metric": name("e"), "target": { "type": "AverageValue", "averageValue": "4" },
                    } },
                    { "type": "Resource", "resource": {
                        "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 60 },
                    } },
                ],
            },
            "status": {
                "desiredReplicas": 2,
                "conditions": [{ "type": "AbleToScale", "status": "True" }],
                "currentMetrics": [{ "type": "Resource", "resource": {
                    "name": "cpu", "current": { "averageUtilization": 50, "averageValue": "5m" },
                } }],
            },
        })
    }

    #[test]
    fn what_version_1_does_not_know_is_kept_in_annotations_and_comes_back() {
        let mut object = v2();
        to_v1(&mut object);
        assert_eq!(object["spec"], json!({"maxReplicas": 5, "targetCPUUtilizationPercentage": 60}));
        let status = json!({"desiredReplicas": 2, "currentCPUUtilizationPercentage": 50});
        assert_eq!(object["status"], status);
        let kept = |name: &str| -> Value {
            serde_json::from_str(object["metadata"]["annotations"][name].as_str().unwrap()).unwrap()
        };
        assert_eq!(
            kept(METRICS)[3]["object"],
            json!({
                "target": { "kind": "Service", "name": "s", "apiVersion": "v1" }, "metricName": "o",
                "selector": { "matchLabels": { "a": "b" } }, "targetValue": "3",
            })
        );
        let external = kept(METRICS)[4]["external"].clone();
        assert_eq!(
            (&external["metricName"], &external["targetAverageValue"]),
            (&json!("e"), &json!("4"))
        );
        assert!(external["metricSelector"].is_object(), "{external}");
        assert_eq!(kept(CURRENT_METRICS)[0]["resource"]["currentAverageUtilization"], 50);
        from_v1(&mut object);
        assert_eq!(object, v2());
    }

    #[test]
    fn an_autoscaler_of_version_1_alone_is_one_of_a_share_of_cpu() {
        let mut object = json!({
            "metadata": { "annotations": { METRICS: "{", BEHAVIOR: "{}x" } },
            "spec": { "targetCPUUtilizationPercentage": 80 },
            "status": { "currentCPUUtilizationPercentage": 10 },
        });
        from_v1(&mut object);
        let resource = |side: &str, values: Value| json!([{ "type": "Resource", "resource": { "name": "cpu", side: values } }]);
        let target = json!({ "type": "Utilization", "averageUtilization": 80 });
        assert_eq!(object["spec"], json!({ "metrics": resource("target", target) }));
        let current = resource("current", json!({ "averageUtilization": 10 }));
        assert_eq!(object["status"], json!({ "currentMetrics": current }));
        assert_eq!(object["metadata"], json!({}));
    }
}
