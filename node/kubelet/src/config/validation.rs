//! What upstream refuses, in its words.
//!
//! Numbers are checked as they were written, before they are put into types that could not hold them.
//!
//! Upstream: `pkg/kubelet/apis/config/validation`.
//!
//! Deviation: feature gates that nobody knows are accepted; upstream refuses them.

mod rules;

use std::time::Duration;

use serde_json::Value;

pub(super) use self::rules::validate;
use crate::duration;

/// A field, its flag, and the numbers it may have.
struct Range {
    field: &'static str,
    flag: &'static str,
    least: i64,
    most: i64,
    /// The end of upstream's message, which differs from field to field.
    must: &'static str,
}

const NEGATIVE: &str = "must not be a negative number";
const MAX: i64 = i64::MAX;

const RANGES: &[Range] = &[
    of("eventBurst", "event-burst", 0, MAX, NEGATIVE),
    of("eventRecordQPS", "event-qps", 0, MAX, NEGATIVE),
    of("healthzPort", "healthz-port", 0, 65535, "must be between 1 and 65535, inclusive"),
    of(
        "imageGCHighThresholdPercent",
        "image-gc-high-threshold",
        0,
        100,
        "must be between 0 and 100, inclusive",
    ),
    of(
        "imageGCLowThresholdPercent",
        "image-gc-low-threshold",
        0,
        100,
        "must be between 0 and 100, inclusive",
    ),
    of("iptablesDropBit", "iptables-drop-bit", 0, 31, "must be between 0 and 31, inclusive"),
    of(
        "iptablesMasqueradeBit",
        "iptables-masquerade-bit",
        0,
        31,
        "must be between 0 and 31, inclusive",
    ),
    of("kubeAPIBurst", "kube-api-burst", 0, MAX, NEGATIVE),
    of("kubeAPIQPS", "kube-api-qps", 0, MAX, NEGATIVE),
    of("nodeStatusMaxImages", "node-status-max-images", -1, MAX, "must be -1 or greater"),
    of("maxOpenFiles", "max-open-files", 0, MAX, NEGATIVE),
    of("maxPods", "max-pods", 0, MAX, NEGATIVE),
    of("oomScoreAdj", "oom-score-adj", -1000, 1000, "must be between -1000 and 1000, inclusive"),
    of("podsPerCore", "pods-per-core", 0, MAX, NEGATIVE),
    of("port", "port", 1, 65535, "must be between 1 and 65535, inclusive"),
    of("readOnlyPort", "read-only-port", 0, 65535, "must be between 0 and 65535, inclusive"),
    of("registryBurst", "registry-burst", 0, MAX, NEGATIVE),
    of("registryPullQPS", "registry-qps", 0, MAX, NEGATIVE),
    of("maxParallelImagePulls", "", 1, MAX, "must be a positive number"),
];

const fn of(
    field: &'static str,
    flag: &'static str,
    least: i64,
    most: i64,
    must: &'static str,
) -> Range {
    Range { field, flag, least, most, must }
}

/// A field that was written with what it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid configuration: {field}{why}")]
pub(super) struct OutOfRange {
    pub field: &'static str,
    why: String,
}

/// What is wrong with the numbers and durations that were written.
pub(super) fn numbers(written: &Value) -> Vec<OutOfRange> {
    let mut wrong = Vec::new();
    for range in RANGES {
        let Some(number) = written[range.field].as_i64() else { continue };
        if number < range.least || number > range.most {
            let flag =
                if range.flag.is_empty() { String::new() } else { format!(" (--{})", range.flag) };
            let Range { field, must, .. } = range;
            wrong.push(OutOfRange { field, why: format!("{flag} {number} {must}") });
        }
    }
    let least = [
        ("nodeLeaseDurationSeconds", 0, "must be greater than 0"),
        ("containerLogMaxFiles", 2, "must be greater than 1"),
        ("containerLogMaxWorkers", 1, "must be greater than or equal to 1"),
    ];
    for (field, least, must) in least {
        if written[field].as_i64().is_some_and(|it| it < least) {
            wrong.push(OutOfRange { field, why: format!(" {must}") });
        }
    }
    durations(written, &mut wrong);
    wrong
}

/// Only where upstream says something about a negative one: everywhere else it is no duration.
fn durations(written: &Value, wrong: &mut Vec<OutOfRange>) {
    let negative = |field: &str| {
        let text = written[field].as_str()?.strip_prefix('-')?;
        duration::parse(text).filter(|it| !it.is_zero()).map(duration::format)
    };
    for field in ["imageMinimumGCAge", "imageMaximumGCAge"] {
        if let Some(given) = negative(field) {
            wrong.push(OutOfRange { field, why: format!(" -{given} must not be negative") });
        }
    }
    for field in ["shutdownGracePeriod", "shutdownGracePeriodCriticalPods"] {
        if let Some(given) = negative(field) {
            let must = "must be either zero or otherwise >= 1 sec";
            wrong.push(OutOfRange { field, why: format!(" {{-{given}}} {must}") });
        }
    }
    let field = "draManagerReconcilePeriod";
    if let Some(given) = negative(field) {
        wrong.push(OutOfRange { field, why: format!(" -{given} must be greater than zero") });
    }
    let field = "containerLogMonitorInterval";
    let interval = written[field].as_str();
    let is_short = interval.and_then(duration::parse).is_some_and(|it| it < Duration::from_secs(3));
    if is_short || negative(field).is_some() {
        let must = "must be a positive time duration greater than or equal to 3s";
        wrong.push(OutOfRange { field, why: format!(" {must}") });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused_in_upstreams_words() {
        let cases = [
            (
                json!({ "port": 65536 }),
                "port (--port) 65536 must be between 1 and 65535, inclusive",
            ),
            (json!({ "maxPods": -1 }), "maxPods (--max-pods) -1 must not be a negative number"),
            (
                json!({ "nodeStatusMaxImages": -2 }),
                "nodeStatusMaxImages (--node-status-max-images) -2 must be -1 or greater",
            ),
            (
                json!({ "maxParallelImagePulls": 0 }),
                "maxParallelImagePulls 0 must be a positive number",
            ),
            (
                json!({ "oomScoreAdj": 1001 }),
                "oomScoreAdj (--oom-score-adj) 1001 must be between -1000 and 1000, inclusive",
            ),
            (json!({ "containerLogMaxFiles": 1 }), "containerLogMaxFiles must be greater than 1"),
            (json!({ "imageMinimumGCAge": "-1m" }), "imageMinimumGCAge -1m0s must not be negative"),
            (
                json!({ "containerLogMonitorInterval": "2s" }),
                "containerLogMonitorInterval must be a positive time duration greater than or equal to 3s",
            ),
        ];
        for (written, message) in cases {
            let wrong: Vec<_> = numbers(&written).iter().map(ToString::to_string).collect();
            assert_eq!(wrong, [format!("invalid configuration: {message}")]);
        }
        assert!(numbers(&json!({ "port": 1, "nodeStatusMaxImages": -1 })).is_empty());
    }
}
