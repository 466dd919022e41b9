//! An API server in memory, for targets that send it requests: with objects of several kinds, one of
//! them custom.

use http::{Request, header};
use kube_apiserver::{ApiServer, Config, request::UserInfo};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt;
use transport::Body;

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LONGEST_ANSWER: usize = 64 << 20;

/// A server, and the one thread that runs it.
pub(crate) struct Server {
    runtime: Runtime,
    api: ApiServer,
}

thread_local! {
    static SERVER: Server = Server::start();
}

/// Lets `body` at this thread's server.
pub(crate) fn with<T>(body: impl FnOnce(&Server) -> T) -> T {
    SERVER.with(body)
}

impl Server {
    fn start() -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().build().expect("a runtime");
        let config = Config::new(mvcc::Store::memory(), clock::Clock::system());
        let api = runtime.block_on(ApiServer::start(config)).expect("a server");
        let server = Self { runtime, api };
        server.fill();
        server
    }

    fn fill(&self) {
        let labels = json!({"app": "a"});
        let pod = json!({"containers": [{"name": "a", "image": "x:1", "args": ["p", "q"],
            "env": [{"name": "X", "value": "1"}], "ports": [{"containerPort": 1}]}]});
        let template = json!({"metadata": {"labels": labels}, "spec": pod});
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}]}});
        let named =
            |spec: Value| json!({"metadata": {"name": "p", "labels": labels}, "spec": spec});
        let map = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}, "data": {"a": "1"}});
        let spaced = "/api/v1/namespaces/default";
        for (path, object) in [
            (format!("{spaced}/serviceaccounts"), json!({"metadata": {"name": "default"}})),
            ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions".into(), definition),
            (format!("{spaced}/pods"), named(pod)),
            (format!("{spaced}/services"), named(json!({"ports": [{"port": 80}]}))),
            (
                "/apis/apps/v1/namespaces/default/deployments".into(),
                named(json!({"selector": {"matchLabels": labels}, "template": template})),
            ),
            ("/apis/example.com/v1/namespaces/default/things".into(), named(json!({"x": [1, 2]}))),
            (MAPS.into(), map("p", json!({"app": "a"}))),
            (MAPS.into(), map("q", json!({"app": "b", "tier": "x", "n": "5"}))),
            (MAPS.into(), map("r", json!({}))),
        ] {
            let (code, answer) = self.send("POST", &path, "application/json", &object.to_string());
            assert!(code == 201 || code == 409, "{path}: {answer}");
        }
    }

    /// The code and the body of an answer. `None` for what is no request at all.
    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        media: &str,
        body: impl Into<bytes::Bytes>,
    ) -> Option<(u16, Value)> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::CONTENT_TYPE, media);
        let request = request.body(transport::full(body)).ok()?;
        let service = self.api.service_as(UserInfo::master("admin"));
        self.runtime.block_on(async {
            let (head, body) = service.oneshot(request).await.ok()?.into_parts();
            let body = transport::collect(body, LONGEST_ANSWER).await.ok().flatten()?;
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            Some((head.status.as_u16(), body))
        })
    }

    pub(crate) fn send(&self, method: &str, path: &str, media: &str, body: &str) -> (u16, Value) {
        let sent = self.try_send(method, path, media, body.to_owned());
        sent.expect("a request with an answer")
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, "application/json", "")
    }

    /// Begins a watch: its code, and its stream.
    pub(crate) fn watch(&self, path: &str) -> Option<(u16, Body)> {
        let request = Request::get(path).body(transport::empty()).ok()?;
        let service = self.api.service_as(UserInfo::master("admin"));
        let response = self.runtime.block_on(service.oneshot(request)).ok()?;
        Some((response.status().as_u16(), response.into_body()))
    }

    /// What has come of a stream by now; whether it has ended.
    pub(crate) fn read(&self, body: &mut Body, text: &mut Vec<u8>) -> bool {
        use futures::FutureExt;
        use http_body_util::BodyExt;
        let _entered = self.runtime.enter();
        loop {
            match body.frame().now_or_never() {
                None => return false,
                Some(None | Some(Err(_))) => return true,
                Some(Some(Ok(frame))) => {
                    text.extend_from_slice(&frame.into_data().unwrap_or_default());
                }
            }
        }
    }
}

/// The first line of an input, and the rest.
pub(crate) fn first_line(data: &[u8]) -> (String, &[u8]) {
    let end = data.iter().position(|it| *it == b'\n').unwrap_or(data.len());
    let rest = data.get(end + 1..).unwrap_or_default();
    (String::from_utf8_lossy(&data[..end]).into_owned(), rest)
}

/// Where an object of this resource is.
pub(crate) fn path_of(resource: &str) -> String {
    match resource {
        "deployments" => "/apis/apps/v1/namespaces/default/deployments".to_owned(),
        "things" => "/apis/example.com/v1/namespaces/default/things".to_owned(),
        "pods" | "services" => format!("/api/v1/namespaces/default/{resource}"),
        _ => MAPS.to_owned(),
    }
}
