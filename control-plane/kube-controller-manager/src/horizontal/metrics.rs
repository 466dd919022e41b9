//! What `metrics.k8s.io` tells of pods, and what they have requested.

use std::{collections::BTreeMap, time::Duration};

use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Client;
use resources::{Quantity, container_requests};
use serde::Deserialize;

use super::calculator::Sample;
use crate::discovery::told;

/// By name of pod.
pub(super) type Samples = BTreeMap<String, Sample>;

#[derive(Debug, Deserialize)]
struct PodMetricsList {
    #[serde(default)]
    items: Vec<PodMetrics>,
}

#[derive(Debug, Deserialize)]
struct PodMetrics {
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

/// What each pod of a namespace uses.
pub(super) async fn of(
    client: &Client,
    namespace: &str,
    resource: &str,
    container: Option<&str>,
) -> Result<Samples, String> {
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
    let request = Request::get(path).body(Vec::new()).map_err(|it| it.to_string())?;
    let unable = |it: &str| format!("unable to get metrics for resource {resource}: {it}");
    let answer = client.request::<PodMetricsList>(request).await;
    let list = answer.map_err(|it| {
        unable(&format!("unable to fetch metrics from resource metrics API: {}", told(&it)))
    })?;
    if list.items.is_empty() {
        return Err(unable("no metrics returned from resource metrics API"));
    }
    Ok(list.items.iter().filter_map(|it| it.sample(resource, container)).collect())
}

/// What a pod requests of a resource, in thousandths.
pub(super) fn request(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i64, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let is_sidecar = |it: &&Container| it.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
    let wanted = spec.containers.iter().chain(sidecars);
    let mut sum = 0_i64;
    for it in wanted.filter(|it| container.is_none_or(|name| name == it.name)) {
        let requests = it.resources.as_ref().and_then(|it| it.requests.as_ref());
        if requests.is_none_or(|it| !it.contains_key(resource)) {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            return Err(format!(
                "missing request for {resource} in container {} of Pod {pod}",
                it.name
            ));
        }
        let amount = container_requests(it).amount(resource);
        let millis = if resource == "cpu" { amount } else { amount.saturating_mul(1000) };
        sum = sum.saturating_add(millis);
    }
    Ok(sum)
}

impl PodMetrics {
    /// Nothing, if one of the containers asked for is not known.
    fn sample(&self, resource: &str, container: Option<&str>) -> Option<(String, Sample)> {
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
    use serde_json::{Value, json};

    use super::*;

    fn pod(containers: Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "p" },
            "spec": { "containers": containers } }))
        .unwrap()
    }

    fn container(name: &str, requests: Value) -> Value {
        json!({ "name": name, "resources": { "requests": requests } })
    }

    #[test]
    fn requests_are_summed_and_a_missing_one_is_named() {
        let both = json!([
            container("a", json!({ "cpu": "250m", "memory": "1Ki" })),
            container("b", json!({ "cpu": "1" }))
        ]);
        let pod = pod(both);
        assert_eq!(request(&pod, "cpu", None), Ok(1250));
        assert_eq!(request(&pod, "cpu", Some("a")), Ok(250));
        assert_eq!(request(&pod, "memory", Some("a")), Ok(1_024_000));
        assert_eq!(
            request(&pod, "memory", None).unwrap_err(),
            "missing request for memory in container b of Pod p"
        );
    }

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
