//! metrics.k8s.io as clients of the API server see it, over a kubelet that counts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use clock::Clock;
use http::{Request, StatusCode, header};
use kube_apiserver::{ApiServer, Delegate, request::UserInfo};
use lifecycle::Scope;
use metrics_server::{GROUP, MetricsServer, VERSION};
use serde_json::{Value, json};
use tower::ServiceExt;
use transport::{Place, tls};

const ROOT: &str = "/apis/metrics.k8s.io/v1beta1";

struct World {
    api: ApiServer,
    scope: Scope,
    /// How often the kubelet was asked.
    asked: Arc<AtomicU32>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

/// What a kubelet answers.
#[derive(Clone, Copy, PartialEq)]
enum Kubelet {
    Counts,
    /// It was replaced by something that ends no answer.
    Endless,
}

fn endless(scope: &Scope) -> transport::Body {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    drop(scope.spawn("endless", async move {
        while sender.send(bytes::Bytes::from("a 1\n".repeat(1 << 18))).await.is_ok() {}
    }));
    transport::stream(receiver)
}

/// A kubelet over TLS: its container uses a quarter of a core, by the times that it tells.
fn kubelet(kind: Kubelet, scope: &Scope, asked: Arc<AtomicU32>) -> SocketAddr {
    let ca = pki::Ca::new("test").unwrap();
    let profile = pki::Profile {
        cn: "node".to_owned(),
        organizations: Vec::new(),
        sans: vec!["127.0.0.1".to_owned()],
        usages: vec![pki::Usage::Server],
        not_after: Clock::system().now() + Duration::from_secs(3600),
    };
    let config = tls::server(&ca.issue(&profile).unwrap(), None).unwrap();
    let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let connections = scope.clone();
    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
        assert_eq!(request.uri().path(), "/metrics/resource");
        let count = asked.fetch_add(1, Ordering::SeqCst);
        let (millis, labels) = (count * 1000, r#"container="c",namespace="n",pod="p""#);
        let text = format!(
            "node_cpu_usage_seconds_total {} {millis}\n\
             node_memory_working_set_bytes 2097152 {millis}\n\
             container_cpu_usage_seconds_total{{{labels}}} {} {millis}\n\
             container_memory_working_set_bytes{{{labels}}} 1048576 {millis}\n",
            f64::from(count) * 0.5,
            f64::from(count) * 0.25,
        );
        let body = match kind {
            Kubelet::Counts => transport::full(text),
            Kubelet::Endless => endless(&connections),
        };
        async move { Ok::<_, Infallible>(http::Response::new(body)) }
    });
    drop(scope.spawn("kubelet", transport::serve(listener, Some(config), service, scope.clone())));
    address
}

impl World {
    async fn new() -> Self {
        Self::with(Kubelet::Counts).await
    }

    async fn with(kind: Kubelet) -> Self {
        let (scope, asked) = (Scope::new(), Arc::new(AtomicU32::new(0)));
        let address = kubelet(kind, &scope, asked.clone());
        let metrics = MetricsServer::new(Clock::system());
        let mut config = kube_apiserver::Config::new(mvcc::Store::memory(), Clock::system());
        config.proxy.scope = scope.clone();
        config.delegates.push(Delegate::new(GROUP, VERSION, metrics.service()));
        let api = ApiServer::start(config).await.unwrap();
        metrics.connect(api.client(UserInfo::master("metrics-server")));
        let world = Self { api, scope, asked };
        world.post("/api/v1/namespaces", json!({ "metadata": { "name": "n" } })).await;
        let account = json!({ "metadata": { "name": "default" } });
        world.post("/api/v1/namespaces/n/serviceaccounts", account).await;
        let node = json!({ "metadata": { "name": "node", "labels": { "zone": "a" } } });
        world.post("/api/v1/nodes", node).await;
        let status = json!({ "status": {
            "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": address.port() } },
        } });
        world.send("PATCH", "/api/v1/nodes/node/status", &status).await;
        for (name, label) in [("p", "yes"), ("unmeasured", "no")] {
            let pod = json!({
                "metadata": { "name": name, "labels": { "wanted": label } },
                "spec": { "nodeName": "node", "containers": [{ "name": "c", "image": "i" }] },
            });
            world.post("/api/v1/namespaces/n/pods", pod).await;
        }
        world
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
        self.accepting(method, path, body, "application/json").await
    }

    async fn accepting(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        accept: &str,
    ) -> (StatusCode, Value) {
        let kind =
            if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, kind)
            .header(header::ACCEPT, accept)
            .body(transport::full(body.to_string()))
            .unwrap();
        let service = self.api.service_as(UserInfo::master("admin"));
        let (head, body) = service.oneshot(request).await.unwrap().into_parts();
        let body = transport::collect(body, 1 << 24).await.unwrap().unwrap();
        (head.status, serde_json::from_slice(&body).unwrap())
    }

    async fn post(&self, path: &str, body: Value) {
        let (status, answer) = self.send("POST", path, &body).await;
        assert!(status.is_success(), "{answer}");
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send("GET", path, &Value::Null).await
    }
}

#[tokio::test]
async fn nodes_and_pods_are_measured_when_somebody_asks_and_not_again_at_once() {
    let world = World::new().await;
    assert_eq!(world.asked.load(Ordering::SeqCst), 0, "idle costs nothing");
    let (_, nodes) = world.get(&format!("{ROOT}/nodes")).await;
    assert_eq!(nodes["kind"], "NodeMetricsList");
    let node = &nodes["items"][0];
    assert_eq!(node["usage"], json!({ "cpu": "500m", "memory": "2Mi" }), "{nodes}");
    assert_eq!((&node["window"], &node["metadata"]["labels"]["zone"]), (&json!("1s"), &json!("a")));
    assert_eq!(world.asked.load(Ordering::SeqCst), 2);

    let (_, pods) = world.get(&format!("{ROOT}/pods")).await;
    assert_eq!(pods["items"].as_array().unwrap().len(), 1, "one was not measured: {pods}");
    let containers = json!([{ "name": "c", "usage": { "cpu": "250m", "memory": "1Mi" } }]);
    assert_eq!(pods["items"][0]["containers"], containers);
    let (_, pod) = world.get(&format!("{ROOT}/namespaces/n/pods/p")).await;
    assert_eq!((&pod["kind"], &pod["containers"]), (&json!("PodMetrics"), &containers));
    let (_, none) = world.get(&format!("{ROOT}/namespaces/n/pods?labelSelector=wanted%3Dno")).await;
    assert_eq!(none["items"], json!([]));
    assert_eq!(world.asked.load(Ordering::SeqCst), 2, "what is known is not asked for again");

    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let (_, table) = world.accepting("GET", &format!("{ROOT}/pods"), &Value::Null, table).await;
    assert_eq!(table["rows"][0]["cells"], json!(["p", "250m", "1Mi", "1s"]));
}

#[tokio::test]
async fn a_kubelet_that_never_ends_is_read_to_a_limit_and_then_left_alone() {
    let world = World::with(Kubelet::Endless).await;
    for _ in 0..2 {
        let (status, nodes) = world.get(&format!("{ROOT}/nodes")).await;
        assert_eq!((status, &nodes["items"]), (StatusCode::OK, &json!([])));
        assert_eq!(world.asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_served_is_refused_as_upstream_does() {
    let world = World::new().await;
    let (status, error) = world.get(&format!("{ROOT}/namespaces/n/pods/none")).await;
    let message = "podmetrics.metrics.k8s.io \"n/none\" not found";
    assert_eq!((status, error["message"].as_str()), (StatusCode::NOT_FOUND, Some(message)));
    let (status, _) = world.send("DELETE", &format!("{ROOT}/nodes/node"), &Value::Null).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    let (status, error) = world.get(&format!("{ROOT}/pods?labelSelector=%21%21")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");
    assert_eq!(world.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_group_is_discovered_and_has_its_api_service() {
    let world = World::new().await;
    let (_, groups) = world.get("/apis").await;
    let groups = groups["groups"].as_array().unwrap();
    assert!(groups.iter().any(|it| it["name"] == GROUP), "{groups:?}");
    let (_, list) = world.get(ROOT).await;
    let names: Vec<_> =
        list["resources"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["nodes", "pods"]);
    assert_eq!(list["resources"][1]["verbs"], json!(["get", "list"]));
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let (_, service) = world.get(&format!("{services}/v1beta1.metrics.k8s.io")).await;
    assert_eq!(service["status"]["conditions"][0]["status"], "True", "{service}");
    // Nobody without rights gets through.
    let request = Request::get(format!("{ROOT}/nodes")).body(transport::empty()).unwrap();
    let stranger = world.api.service_as(UserInfo::new("stranger", &[]));
    assert_eq!(stranger.oneshot(request).await.unwrap().status(), StatusCode::FORBIDDEN);
}
