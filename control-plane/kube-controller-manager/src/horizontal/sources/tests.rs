//! Metrics of pods, of objects and from outside, of a server that answers as adapters do.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use http::{Request, Response};
use kube::client::Body;

use super::*;

/// Answers by path; nothing else is there.
fn server(pages: &[(&str, Value)]) -> Client {
    let mut known: BTreeMap<String, Value> =
        pages.iter().map(|(path, page)| ((*path).to_owned(), page.clone())).collect();
    let group = json!({ "name": "custom.metrics.k8s.io", "versions": [
        { "groupVersion": "custom.metrics.k8s.io/v1beta1", "version": "v1beta1" }] });
    // For both kinds of discovery.
    let groups = json!({ "kind": "APIGroupList", "apiVersion": "v1", "metadata": {}, "items": [],
        "groups": if pages.is_empty() { json!([]) } else { json!([group]) } });
    known.insert("/apis".into(), groups);
    let answer = move |request: Request<Body>| {
        let found = known.get(request.uri().path_and_query().unwrap().as_str()).cloned();
        async move {
            let (code, body) = match found {
                Some(page) => (200, page),
                None => (
                    404,
                    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {},
                    "status": "Failure", "reason": "NotFound", "code": 404,
                    "message": "the server could not find the requested resource" }),
                ),
            };
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    };
    Client::new(tower::service_fn(answer), "default")
}

fn pods(count: usize) -> Vec<Arc<Pod>> {
    let pod = |number: usize| {
        let value = json!({ "metadata": { "name": format!("p{number}") }, "status": {
            "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
        Arc::new(serde_json::from_value(value).unwrap())
    };
    (0..count).map(pod).collect()
}

async fn ask(pages: &[(&str, Value)], metric: Value) -> Result<Found, Refusal> {
    let (client, pods) = (server(pages), pods(2));
    let asked = Asked {
        client: &client,
        namespace: "d",
        replicas: (2, 2),
        selector: "app=web",
        pods: &pods,
        tolerances: Tolerances { up: 0.1, down: 0.1 },
        warm_up: WarmUp { initialization: Duration::ZERO, readiness: Duration::ZERO },
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    asked.about(&serde_json::from_value(metric).unwrap()).await
}

fn value(name: &str, value: &str) -> Value {
    json!({ "describedObject": { "kind": "Pod", "name": name }, "metricName": "requests",
        "timestamp": "2026-01-01T00:00:00Z", "value": value })
}

#[tokio::test]
async fn a_metric_of_the_pods_is_averaged_over_them() {
    let path =
        "/apis/custom.metrics.k8s.io/v1beta1/namespaces/d/pods/*/requests?labelSelector=app%3Dweb";
    let list = json!({ "items": [value("p0", "30"), value("p1", "1500m"), value("other", "9k")] });
    let metric = json!({ "type": "Pods", "pods": { "metric": { "name": "requests" },
        "target": { "type": "AverageValue", "averageValue": "5" } } });
    let found = ask(&[(path, list)], metric.clone()).await.ok().unwrap();
    assert_eq!((found.replicas, found.name.as_str()), (7, "pods metric requests"));
    assert_eq!(found.status["pods"]["current"], json!({ "averageValue": "15750m" }));
    let refusal = ask(&[], metric).await.err().unwrap();
    assert_eq!(refusal.reason, "FailedGetPodsMetric");
    assert_eq!(
        refusal.message,
        "unable to get metric requests: unable to fetch metrics from custom metrics API: \
         no custom metrics API (custom.metrics.k8s.io) registered"
    );
    assert!(refusal.told.starts_with("failed to get pods metric value: unable to get metric"));
}

#[tokio::test]
async fn a_metric_of_another_object_is_for_all_pods_together() {
    let path = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/d/services/web/requests";
    let services = json!({ "resource": "services", "singularResource": "service",
        "responseKind": { "group": "", "version": "v1", "kind": "Service" },
        "scope": "Namespaced", "verbs": ["list", "delete", "watch"], "subresources": [] });
    let core = json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {}, "items": [{ "metadata": { "name": "" }, "versions": [
            { "version": "v1", "freshness": "Current", "resources": [services] }] }] });
    let pages = [(path, json!({ "items": [value("web", "40")] })), ("/api", core)];
    let metric = |target: Value| {
        let of = json!({ "apiVersion": "v1", "kind": "Service", "name": "web" });
        json!({ "type": "Object", "object": { "describedObject": of,
            "metric": { "name": "requests" }, "target": target } })
    };
    let all = ask(&pages, metric(json!({ "type": "Value", "value": "10" }))).await.ok().unwrap();
    assert_eq!((all.replicas, all.name.as_str()), (8, "Service metric requests"));
    assert_eq!(all.status["object"]["current"], json!({ "value": "40" }));
    let each = json!({ "type": "AverageValue", "averageValue": "10" });
    let each = ask(&pages, metric(each)).await.ok().unwrap();
    assert_eq!((each.replicas, each.name.as_str()), (4, "external metric requests(nil)"));
    assert_eq!(each.status["object"]["current"], json!({ "averageValue": "20" }));
}

#[tokio::test]
async fn a_metric_from_outside_is_the_sum_of_its_values() {
    let path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/d/queue?labelSelector=name%3Dwork";
    let item = |value: &str| {
        json!({ "metricName": "queue", "metricLabels": {}, "value": value,
        "timestamp": "2026-01-01T00:00:00Z" })
    };
    let metric = json!({ "type": "External", "external": {
        "metric": { "name": "queue", "selector": { "matchLabels": { "name": "work" } } },
        "target": { "type": "AverageValue", "averageValue": "10" } } });
    let list = json!({ "items": [item("20"), item("15")] });
    let found = ask(&[(path, list)], metric.clone()).await.ok().unwrap();
    assert_eq!(found.replicas, 4);
    assert_eq!(
        found.name,
        "external metric queue(&LabelSelector{MatchLabels:map[string]string{name: work,},\
         MatchExpressions:[]LabelSelectorRequirement{},})"
    );
    assert_eq!(found.status["external"]["current"], json!({ "averageValue": "17500m" }));
    let refusal = ask(&[(path, json!({ "items": [] }))], metric).await.err().unwrap();
    assert_eq!(refusal.reason, "FailedGetExternalMetric");
    assert!(refusal.message.ends_with("no metrics returned from external metrics API"));
}
