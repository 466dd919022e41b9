//! What `metrics.k8s.io` tells of pods.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use resources::Quantity;
use serde::Deserialize;

use super::calculator::Sample;

#[derive(Debug, Deserialize)]
pub(super) struct PodMetricsList {
    #[serde(default)]
    pub(super) items: Vec<PodMetrics>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PodMetrics {
    metadata: kube::api::ObjectMeta,
    timestamp: Timestamp,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Debug, Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, String>,
}

impl PodMetrics {
    /// Nothing, if one of the containers asked for is not known.
    pub(super) fn sample(
        &self,
        resource: &str,
        container: Option<&str>,
    ) -> Option<(String, Sample)> {
        let wanted = self.containers.iter();
        let wanted = wanted.filter(|it| container.is_none_or(|name| name == it.name));
        let mut millis = 0_i64;
        for it in wanted {
            let used = it.usage.get(resource)?.parse::<Quantity>().ok()?;
            millis = millis.saturating_add(used.millis());
        }
        let window = self.window.parse::<jiff::SignedDuration>().unwrap_or_default();
        let window = Duration::try_from(window).unwrap_or_default();
        let name = self.metadata.name.clone()?;
        Some((name, Sample { millis, at: self.timestamp, window }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn samples_are_read_as_the_metrics_api_writes_them() {
        let metrics: PodMetrics = serde_json::from_value(json!({
            "metadata": { "name": "p" }, "timestamp": "1970-01-01T00:01:00Z", "window": "15.5s",
            "containers": [{ "name": "a", "usage": { "cpu": "1500000n", "memory": "2Ki" } },
                { "name": "b", "usage": { "cpu": "10m" } }],
        }))
        .unwrap();
        let (name, sample) = metrics.sample("cpu", None).unwrap();
        assert_eq!((name.as_str(), sample.millis), ("p", 12));
        assert_eq!(sample.window, Duration::from_millis(15_500));
        assert_eq!(metrics.sample("memory", Some("a")).unwrap().1.millis, 2_048_000);
        assert_eq!(metrics.sample("memory", None), None, "of one container it is not known");
    }
}
