//! The quality-of-service class of a pod.
//!
//! Upstream: pkg/apis/core/helper/qos.

use serde_json::Value;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn class(spec: &Value) -> &'static str {
    let lists = ["containers", "initContainers"];
    let containers = lists.iter().flat_map(|it| spec[*it].as_array().into_iter().flatten());
    let mut resources: Vec<&Value> = containers.map(|it| &it["resources"]).collect();
    if spec["resources"].is_object() {
        resources = vec![&spec["resources"]];
    }
    let is_set = |value: &Value| match value {
        Value::String(text) => text.chars().any(|it| ('1'..='9').contains(&it)),
        Value::Number(number) => number.as_f64().unwrap_or_default() > 0.0,
        _ => false,
    };
    let names = ["cpu", "memory"];
    let has_any = resources.iter().any(|it| {
        names.iter().any(|name| is_set(&it["requests"][*name]) || is_set(&it["limits"][*name]))
    });
    if !has_any {
        return "BestEffort";
    }
    let is_guaranteed = resources.iter().all(|it| {
        names.iter().all(|name| {
            let (request, limit) = (&it["requests"][*name], &it["limits"][*name]);
            is_set(limit) && (request.is_null() || request == limit)
        })
    });
    if is_guaranteed { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_requests_and_limits_of_all_containers_are_guaranteed() {
        let full = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
        let part = json!({"requests": {"cpu": "1"}});
        let cases = [
            (json!([{"resources": full}]), "Guaranteed"),
            (json!([{"resources": full}, {"resources": part}]), "Burstable"),
            (json!([{"resources": {}}]), "BestEffort"),
            (json!([{"resources": {"requests": {"cpu": "0"}}}]), "BestEffort"),
        ];
        for (containers, expected) in cases {
            assert_eq!(class(&json!({"containers": containers})), expected);
        }
    }
}
