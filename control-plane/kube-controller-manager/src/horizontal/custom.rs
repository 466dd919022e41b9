//! What `custom.metrics.k8s.io` and `external.metrics.k8s.io` tell: of pods, of other objects, and of what
//! is outside of the cluster. Whoever serves these APIs is found by an APIService.
//!
//! Upstream: `k8s.io/metrics/pkg/client`, `podautoscaler/metrics/client.go`.

use std::{collections::BTreeMap, time::Duration};

use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, MetricIdentifier};
use kube::Client;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use resources::Quantity;
use serde::{Deserialize, de::DeserializeOwned};

use super::calculator::Sample;
use crate::discovery::{self, told};

const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";
/// Where a value does not say over which time it was measured.
const WINDOW: Duration = Duration::from_secs(60);
/// What stays as it is in one part of a path.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[derive(Debug, Deserialize)]
struct Values {
    #[serde(default)]
    items: Vec<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Value {
    /// Not of external metrics.
    #[serde(default)]
    described_object: Described,
    timestamp: Option<Timestamp>,
    window_seconds: Option<u64>,
    value: String,
}

impl Value {
    fn millis(&self) -> Result<i64, String> {
        let parsed = self.value.parse::<Quantity>();
        parsed.map(|it| it.millis()).map_err(|_| format!("`{}` is no quantity", self.value))
    }
}

#[derive(Debug, Default, Deserialize)]
struct Described {
    #[serde(default)]
    name: String,
}

/// Of each of the pods that `selector` names.
pub(super) async fn of_pods(
    client: &Client,
    (namespace, selector): (&str, &str),
    metric: &MetricIdentifier,
    now: Timestamp,
) -> Result<BTreeMap<String, Sample>, String> {
    let version = version(client).await.map_err(|it| unable(CUSTOM, &it))?;
    let path = pods_path(version, (namespace, selector), metric)?;
    let values: Values = get(client, path).await.map_err(|it| unable(CUSTOM, &it))?;
    if values.items.is_empty() {
        return Err("no metrics returned from custom metrics API".into());
    }
    let sample = |it: Value| {
        let millis = it.millis()?;
        let window = it.window_seconds.map_or(WINDOW, Duration::from_secs);
        let at = it.timestamp.unwrap_or(now);
        Ok((it.described_object.name, Sample { millis, at, window }))
    };
    values.items.into_iter().map(sample).collect()
}

/// Of one object, in thousandths.
pub(super) async fn of_object(
    client: &Client,
    namespace: &str,
    object: &CrossVersionObjectReference,
    metric: &MetricIdentifier,
) -> Result<i64, String> {
    let fetch = async {
        let version = version(client).await?;
        let api_version = object.api_version.as_deref().unwrap_or_default();
        let kind = discovery::find(client, api_version, &object.kind).await?.name();
        let path = object_path(version, (namespace, &kind, &object.name), metric)?;
        let values: Values = get(client, path).await?;
        match &values.items[..] {
            [only] => only.millis(),
            all => Err(format!(
                "the custom metrics API server returned {} results when we asked for exactly one",
                all.len()
            )),
        }
    };
    fetch.await.map_err(|it: String| unable(CUSTOM, &it))
}

/// The sum of all values that the selector names, in thousandths.
pub(super) async fn external(
    client: &Client,
    namespace: &str,
    metric: &MetricIdentifier,
) -> Result<i64, String> {
    let path = external_path(namespace, metric)?;
    let values: Values = get(client, path).await.map_err(|it| unable(EXTERNAL, &it))?;
    if values.items.is_empty() {
        return Err("no metrics returned from external metrics API".into());
    }
    let mut sum = 0_i64;
    for it in &values.items {
        sum = sum.saturating_add(it.millis()?);
    }
    Ok(sum)
}

fn unable(group: &str, why: &str) -> String {
    let api = group.split('.').next().unwrap_or_default();
    format!("unable to fetch metrics from {api} metrics API: {why}")
}

async fn get<T: DeserializeOwned>(client: &Client, path: String) -> Result<T, String> {
    let request = Request::get(path).body(Vec::new()).map_err(|it| it.to_string())?;
    client.request::<T>(request).await.map_err(|it| told(&it))
}

/// The newest that both sides know.
async fn version(client: &Client) -> Result<&'static str, String> {
    let groups = client.list_api_groups().await.map_err(|it| told(&it))?;
    let group = groups.groups.into_iter().find(|it| it.name == CUSTOM);
    let group = group.ok_or_else(|| format!("no custom metrics API ({CUSTOM}) registered"))?;
    let known = ["v1beta2", "v1beta1"];
    let found = known.into_iter().find(|it| group.versions.iter().any(|has| has.version == *it));
    found.ok_or_else(|| format!("no version of {CUSTOM} that is served is known"))
}

fn pods_path(
    version: &str,
    (namespace, selector): (&str, &str),
    metric: &MetricIdentifier,
) -> Result<String, String> {
    let name = part(&metric.name)?;
    let path = format!("/apis/{CUSTOM}/{version}/namespaces/{namespace}/pods/*/{name}");
    Ok(with_selectors(path, &[("labelSelector", selector), ("metricLabelSelector", &own(metric)?)]))
}

fn object_path(
    version: &str,
    (namespace, kind, object): (&str, &str, &str),
    metric: &MetricIdentifier,
) -> Result<String, String> {
    let (object, name) = (part(object)?, part(&metric.name)?);
    // A namespace is not in itself.
    let path = match kind {
        "namespaces" => format!("/apis/{CUSTOM}/{version}/namespaces/{object}/metrics/{name}"),
        _ => format!("/apis/{CUSTOM}/{version}/namespaces/{namespace}/{kind}/{object}/{name}"),
    };
    Ok(with_selectors(path, &[("metricLabelSelector", &own(metric)?)]))
}

fn external_path(namespace: &str, metric: &MetricIdentifier) -> Result<String, String> {
    let path = format!("/apis/{EXTERNAL}/v1beta1/namespaces/{namespace}/{}", part(&metric.name)?);
    Ok(with_selectors(path, &[("labelSelector", &own(metric)?)]))
}

/// A name is one part of a path that is asked for with this controller's rights.
fn part(name: &str) -> Result<String, String> {
    if matches!(name, "" | "." | "..") {
        return Err(format!("'{name}' is no name of a metric"));
    }
    Ok(utf8_percent_encode(name, PART).to_string())
}

fn own(metric: &MetricIdentifier) -> Result<String, String> {
    let Some(selector) = &metric.selector else { return Ok(String::new()) };
    let selector = controller::selector(Some(selector));
    Ok(selector.ok_or("the metric's selector is not valid")?.to_string())
}

fn with_selectors(path: String, selectors: &[(&str, &str)]) -> String {
    let given = selectors.iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<_> =
        given.map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, PART))).collect();
    if pairs.is_empty() { path } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metric(name: &str, selector: serde_json::Value) -> MetricIdentifier {
        serde_json::from_value(json!({ "name": name, "selector": selector })).unwrap()
    }

    #[test]
    fn each_kind_of_metric_has_its_path() {
        let plain = metric("requests", json!(null));
        let chosen = metric("a/b", json!({ "matchLabels": { "verb": "GET" } }));
        let pods = |it| pods_path("v1beta2", ("d", "app in (a,b)"), it).unwrap();
        assert_eq!(
            pods(&plain),
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/d/pods/*/requests\
             ?labelSelector=app%20in%20%28a%2Cb%29"
        );
        assert!(pods(&chosen).ends_with(
            "/a%2Fb?labelSelector=app%20in%20%28a%2Cb%29&metricLabelSelector=verb%3DGET"
        ));
        let of = |kind| object_path("v1beta1", ("d", kind, "web"), &plain).unwrap();
        assert_eq!(
            of("ingresses.networking.k8s.io"),
            "/apis/custom.metrics.k8s.io/v1beta1/namespaces/d/ingresses.networking.k8s.io/web/requests"
        );
        assert_eq!(
            of("namespaces"),
            "/apis/custom.metrics.k8s.io/v1beta1/namespaces/web/metrics/requests"
        );
        assert_eq!(
            external_path("d", &chosen).unwrap(),
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/d/a%2Fb?labelSelector=verb%3DGET"
        );
    }

    #[test]
    fn no_name_leads_to_another_path() {
        assert!(part("..").is_err() && part("").is_err());
        assert_eq!(part("../x?y#z%").unwrap(), "..%2Fx%3Fy%23z%25");
    }
}
