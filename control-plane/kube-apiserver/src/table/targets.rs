//! What an autoscaler's metrics are, and what they are to be: the column `TARGETS`.
//!
//! Upstream: `formatHPAMetrics` in `pkg/printers/internalversion`.

use serde_json::Value;

use super::text::{NONE, items, text};

/// So many are shown, the rest is counted.
const MOST: usize = 2;

/// Where each kind of metric is in specification and status, and whether its resource is named.
const KINDS: [(&str, bool); 5] = [
    ("resource", true),
    ("containerResource", true),
    ("pods", false),
    ("object", false),
    ("external", false),
];

pub(super) fn shown(autoscaler: &Value) -> String {
    let current = items(autoscaler, "/status/currentMetrics");
    let metrics = items(autoscaler, "/spec/metrics");
    let all: Vec<_> = metrics
        .iter()
        .enumerate()
        .map(|(index, metric)| one(metric, current.get(index).unwrap_or(&Value::Null)))
        .collect();
    match all.len() {
        0 => NONE.into(),
        count if count > MOST => {
            format!("{} + {} more...", all[..MOST].join(", "), count - MOST)
        }
        _ => all.join(", "),
    }
}

fn one(metric: &Value, status: &Value) -> String {
    let known = KINDS.into_iter().find(|(kind, _)| metric[*kind].is_object());
    let Some((kind, is_named)) = known else { return "<unknown>".into() };
    let (target, current) = (&metric[kind]["target"], &status[kind]["current"]);
    let pair = if let Some(wanted) = target["averageUtilization"].as_i64() {
        let now = current["averageUtilization"].as_i64();
        let now = now.map_or_else(|| "<unknown>".into(), |it| format!("{it}%"));
        format!("{now}/{wanted}%")
    } else {
        let is_average = target["averageValue"].is_string();
        let field = if is_average { "/averageValue" } else { "/value" };
        let now = Some(text(current, field)).filter(|it| !it.is_empty()).unwrap_or("<unknown>");
        let is_said = is_average && matches!(kind, "object" | "external");
        format!("{now}/{}{}", text(target, field), if is_said { " (avg)" } else { "" })
    };
    if is_named { format!("{}: {pair}", text(&metric[kind], "/name")) } else { pair }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_metric_is_shown_as_upstream_shows_it() {
        let cpu = json!({ "resource": { "name": "cpu", "target": { "averageUtilization": 80 } } });
        let pods = json!({ "pods": { "target": { "averageValue": "5" } } });
        let queue = json!({ "external": { "target": { "averageValue": "10" } } });
        let hits = json!({ "object": { "target": { "value": "30" } } });
        let of = |metrics: &[&Value], status: Value| {
            shown(
                &json!({ "spec": { "metrics": metrics }, "status": { "currentMetrics": status } }),
            )
        };
        let now =
            json!([{ "type": "" }, { "external": { "current": { "averageValue": "7500m" } } }]);
        assert_eq!(of(&[&cpu, &queue], now), "cpu: <unknown>/80%, 7500m/10 (avg)");
        let now = json!([{ "object": { "current": { "value": "60" } } }]);
        assert_eq!(of(&[&hits, &pods], now.clone()), "60/30, <unknown>/5");
        assert_eq!(of(&[&hits, &pods, &cpu], now), "60/30, <unknown>/5 + 1 more...");
        assert_eq!(of(&[], json!([])), NONE);
    }
}
