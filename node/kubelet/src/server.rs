//! The kubelet's server on port 10250, its read-only port, and its health check on 10248.
//!
//! Upstream: `pkg/kubelet/server/server.go`.
//!
//! **Invariant:** on 10250 nothing is answered before the caller is known and allowed.
//!
//! Deviation: `/debug/pprof` and `/debug/flags/v` are refused as where they are switched off: there is no
//! profiler, and the log level is set at the start. `/explain` is ours.

mod auth;
mod cadvisor;
mod channels;
mod checkpoint;
mod container_logs;
mod health;
mod idle;
mod listings;
mod log_options;
mod log_query;
mod metrics;
mod resource_metrics;
mod service_logs;
mod spdy;
mod streams;
mod system_logs;
mod tls;
mod websocket;
mod zpages;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;
use tower::Service;
use transport::{Body, Place};

use self::{auth::Auth, health::Health};
use crate::{
    certificates::serving::Serving, config::KubeletConfiguration, context::Context,
    metrics::Metrics, pod_workers::PodWorkers, stats::Stats,
};

/// What a server lets everybody see, and what it lets those see who are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ReadWrite,
    ReadOnly,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::ReadWrite => "readwrite",
            Self::ReadOnly => "readonly",
        }
    }
}

#[derive(Clone)]
pub(crate) struct Server {
    context: Arc<Context>,
    workers: Arc<PodWorkers>,
    stats: Stats,
    auth: Arc<Auth>,
    kind: Kind,
    started: Timestamp,
}

/// Opens the ports that are configured and serves until the scope ends.
pub(crate) fn start(
    context: &Arc<Context>,
    workers: &Arc<PodWorkers>,
    stats: &Stats,
    serving: Arc<Serving>,
) -> std::io::Result<()> {
    let config = &context.settings.config;
    let server = Server {
        context: context.clone(),
        workers: workers.clone(),
        stats: stats.clone(),
        auth: Arc::new(Auth::new(context.clone())),
        kind: Kind::ReadWrite,
        started: context.clock.now(),
    };
    let scope = context.scope.clone();
    if config.enable_server {
        let listener = Place::Here.listen(address(&config.address, config.port)?)?;
        let tls = tls::config(context, serving)?;
        let main = transport::serve(listener, Some(tls), server.clone(), scope.clone());
        drop(scope.spawn("server", main));
    }
    if config.read_only_port != 0 {
        let listener = Place::Here.listen(address(&config.address, config.read_only_port)?)?;
        let read_only = Server { kind: Kind::ReadOnly, ..server };
        let serving = transport::serve(listener, None, read_only, scope.clone());
        drop(scope.spawn("read-only-server", serving));
    }
    if config.healthz_port != 0 {
        let at = address(&config.healthz_bind_address, config.healthz_port)?;
        let listener = Place::Here.listen(at)?;
        let health =
            Health { heartbeat: context.heartbeat.clone(), metrics: context.metrics.clone() };
        let health = tower::service_fn(move |request: Request<Incoming>| {
            let path = request.uri().path().trim_matches('/').to_owned();
            let parts: Vec<&str> = path.split('/').collect();
            let answer = health.answer(&parts, request.uri().query());
            async move { Ok::<_, Infallible>(answer) }
        });
        drop(scope.spawn("healthz", transport::serve(listener, None, health, scope.clone())));
    }
    Ok(())
}

/// Whether the ports that are configured can be had.
pub(crate) fn check(config: &KubeletConfiguration) -> std::io::Result<()> {
    let ports = [
        (config.enable_server, &config.address, config.port),
        (config.read_only_port != 0, &config.address, config.read_only_port),
        (config.healthz_port != 0, &config.healthz_bind_address, config.healthz_port),
    ];
    for (_, ip, port) in ports.into_iter().filter(|(is_wanted, ..)| *is_wanted) {
        drop(Place::Here.listen(address(ip, port)?)?);
    }
    Ok(())
}

fn address(ip: &str, port: u16) -> std::io::Result<SocketAddr> {
    let ip = ip.parse().map_err(|it: std::net::AddrParseError| {
        std::io::Error::new(std::io::ErrorKind::InvalidInput, it)
    })?;
    Ok(SocketAddr::new(ip, port))
}

impl Service<Request<Incoming>> for Server {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move { Ok(server.counted(request).await) })
    }
}

impl Server {
    async fn counted(&self, request: Request<Incoming>) -> Response<Body> {
        let (method, path) = (method_label(request.method()), label(request.uri().path()));
        let long = matches!(path, "exec" | "attach" | "portForward").to_string();
        let labels = [
            ("long_running", long.as_str()),
            ("method", method),
            ("path", path),
            ("server_type", self.kind.name()),
        ];
        let metrics = &self.context.metrics;
        metrics.add("kubelet_http_requests_total", &labels, 1.0);
        let _one = InFlight::of(metrics, labels);
        let started = Instant::now();
        let is_head = request.method() == Method::HEAD;
        let mut response = match self.kind {
            Kind::ReadWrite => self.answer(request).await,
            Kind::ReadOnly => self.answer_anybody(request).await,
        };
        metrics.observe("kubelet_http_requests_duration_seconds", &labels, started.elapsed());
        if is_head {
            // In HTTP/2 a body after it is a fault.
            *response.body_mut() = transport::empty();
        }
        response
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if let Err(refusal) = self.auth.check(&request).await {
            return refusal;
        }
        let path = request.uri().path().trim_matches('/').to_owned();
        let parts: Vec<&str> = path.split('/').collect();
        let query = request.uri().query().map(str::to_owned);
        let query = query.as_deref();
        if let Some(answer) = self.readable(request.method(), &parts, query).await {
            return answer;
        }
        if let Some(refusal) = self.disabled(&parts) {
            return refusal;
        }
        match (request.method(), parts.as_slice()) {
            (&Method::GET, ["configz"]) => {
                json_answer(&json!({ "kubeletconfig": self.context.settings.config.shown() }))
            }
            (&Method::GET, ["flagz"]) => self.flagz(request.headers()),
            (&Method::GET, ["statusz"]) => self.statusz(request.headers()),
            (&Method::GET, ["runningpods"]) => self.running_pods(),
            (&Method::GET, ["containerLogs", namespace, pod, container]) => {
                self.container_logs(namespace, pod, container, query).await
            }
            (&Method::GET, ["logs", ..]) => self.system_logs(&request).await,
            (&Method::DELETE, ["metrics", "slis"]) => self.reset_slis(),
            (
                &Method::POST,
                ["run", namespace, pod, container] | ["run", namespace, pod, _, container],
            ) => self.run(namespace, pod, container, query).await,
            (_, ["exec" | "attach" | "portForward", ..]) => self.stream(request, &parts).await,
            (&Method::GET, ["explain", "pods", namespace, name]) => self.explain(namespace, name),
            (&Method::POST, ["checkpoint", namespace, pod, container]) => {
                self.checkpoint(namespace, pod, container, query).await
            }
            (_, parts) => allowed(parts).map_or_else(not_found, not_allowed),
        }
    }

    fn health(&self) -> Health {
        let Context { heartbeat, metrics, .. } = &*self.context;
        Health { heartbeat: heartbeat.clone(), metrics: metrics.clone() }
    }

    fn explain(&self, namespace: &str, name: &str) -> Response<Body> {
        match self.context.timelines.find(namespace, name) {
            Some(timeline) => json_answer(&json!(timeline)),
            None => {
                let message = format!("pod \"{namespace}/{name}\" is not known to this kubelet\n");
                text(StatusCode::NOT_FOUND, message)
            }
        }
    }

    async fn answer_anybody(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().trim_matches('/').to_owned();
        let parts: Vec<&str> = path.split('/').collect();
        let query = request.uri().query().map(str::to_owned);
        let answer = self.readable(request.method(), &parts, query.as_deref()).await;
        answer.unwrap_or_else(|| match parts.as_slice() {
            ["pods"] | ["stats", "summary"] => not_allowed("GET"),
            _ => not_found(),
        })
    }

    /// What the read-only port shows too.
    async fn readable(
        &self,
        method: &Method,
        parts: &[&str],
        query: Option<&str>,
    ) -> Option<Response<Body>> {
        // What upstream's router does not know of is answered whatever the method.
        let (is_get, is_reset) = (method == Method::GET, method == Method::DELETE);
        Some(match parts {
            ["healthz", ..] => self.health().answer(parts, query),
            ["pods"] if is_get => self.pods(),
            ["stats", "summary"] if is_get => self.summary(query).await,
            ["metrics"] => self.metrics().await,
            ["metrics", "resource"] => self.metrics_resource().await,
            ["metrics", "cadvisor"] => self.metrics_cadvisor().await,
            ["metrics", "probes"] => self.metrics_probes(),
            ["metrics", "slis"] if !is_reset => self.metrics_slis(),
            _ => return None,
        })
    }

    /// What is switched off is said to be; there is no profiler, and the log's level is set at the start.
    fn disabled(&self, parts: &[&str]) -> Option<Response<Body>> {
        let config = &self.context.settings.config;
        let is_debugging = matches!(
            parts,
            ["run" | "exec" | "attach" | "portForward" | "containerLogs", ..]
                | ["runningpods" | "logs", ..]
                | ["debug", "pprof", ..]
        );
        let message = match parts {
            _ if is_debugging && !config.enable_debugging_handlers => {
                "Debug endpoints are disabled.\n"
            }
            ["logs", ..] if !config.enable_system_log_handler => "logs endpoint is disabled.\n",
            ["debug", "pprof", ..] => "profiling endpoint is disabled.\n",
            ["debug", "flags", "v"] => "flags endpoint is disabled.\n",
            _ => return None,
        };
        Some(text(StatusCode::METHOD_NOT_ALLOWED, message))
    }

    async fn summary(&self, query: Option<&str>) -> Response<Body> {
        let with_disks = !query_flag(query, "only_cpu_and_memory");
        let summary = self.stats.summary(with_disks).await;
        json_answer(&json!(summary))
    }
}

/// Counts a request until it is answered, or until nobody waits for the answer any more.
struct InFlight<'a> {
    metrics: &'a Metrics,
    labels: [(&'static str, &'a str); 4],
}

impl<'a> InFlight<'a> {
    const NAME: &'static str = "kubelet_http_inflight_requests";

    fn of(metrics: &'a Metrics, labels: [(&'static str, &'a str); 4]) -> Self {
        metrics.add(Self::NAME, &labels, 1.0);
        Self { metrics, labels }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.metrics.add(Self::NAME, &self.labels, -1.0);
    }
}

/// A path as the metrics name it: nothing that the caller chose, or there would be a series for each.
fn label(path: &str) -> &'static str {
    const PARTS: [&str; 16] = [
        "metrics",
        "healthz",
        "pods",
        "stats",
        "runningpods",
        "containerLogs",
        "logs",
        "run",
        "exec",
        "attach",
        "portForward",
        "checkpoint",
        "configz",
        "flagz",
        "statusz",
        "debug",
    ];
    let mut parts = path.trim_matches('/').split('/');
    match (parts.next().unwrap_or_default(), parts.next()) {
        ("metrics", Some("cadvisor")) => "metrics/cadvisor",
        ("metrics", Some("probes")) => "metrics/probes",
        ("metrics", Some("resource")) => "metrics/resource",
        ("metrics", Some(_)) => "other",
        ("explain", _) => "explain",
        (first, _) => PARTS.into_iter().find(|it| *it == first).unwrap_or("other"),
    }
}

/// Methods that nobody knows are counted together, too.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    KNOWN.into_iter().find(|it| *it == method.as_str()).unwrap_or("other")
}

/// The methods of a path that is there.
fn allowed(parts: &[&str]) -> Option<&'static str> {
    match parts {
        ["pods" | "runningpods" | "configz" | "flagz" | "statusz"] | ["stats", "summary"] => {
            Some("GET")
        }
        ["logs", ..] | ["containerLogs", _, _, _] => Some("GET"),
        ["run" | "checkpoint", _, _, _] | ["run", _, _, _, _] => Some("POST"),
        _ => None,
    }
}

/// As the router of upstream's says it.
fn not_allowed(methods: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn text(status: StatusCode, body: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(transport::full(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

fn json_answer(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(transport::full(value.to_string()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// The values of a query parameter, decoded.
fn query_values(query: Option<&str>, name: &str) -> Vec<String> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key) == name).then(|| decode(value))
        })
        .collect()
}

fn query_flag(query: Option<&str>, name: &str) -> bool {
    query_values(query, name).first().is_some_and(|it| it == "1" || it == "true")
}

fn has_query(query: Option<&str>, name: &str) -> bool {
    !query_values(query, name).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_from_the_query_in_order() {
        let query = Some("command=sh&command=-c&command=echo+a%26b&input=1&tty=false");
        assert_eq!(query_values(query, "command"), ["sh", "-c", "echo a&b"]);
        assert!(query_flag(query, "input") && !query_flag(query, "tty"));
        assert!(has_query(Some("verbose"), "verbose") && !has_query(None, "verbose"));
    }

    #[test]
    fn a_request_that_nobody_waits_for_any_more_is_under_way_no_more() {
        use crate::metrics::text::Exposition;
        let metrics = Metrics::default();
        let counted = || {
            let mut page = Exposition::default();
            metrics.write(&mut page, |name| name == InFlight::NAME);
            page.finish().trim().lines().last().unwrap().to_owned()
        };
        let labels = [
            ("long_running", "false"),
            ("method", "GET"),
            ("path", "metrics"),
            ("server_type", "readwrite"),
        ];
        let one = InFlight::of(&metrics, labels);
        assert!(counted().ends_with(" 1"), "{:?}", counted());
        drop(one);
        assert!(counted().ends_with(" 0"), "{:?}", counted());
    }

    #[test]
    fn paths_are_counted_without_the_names_in_them() {
        assert_eq!(label("/exec/ns/pod/c"), "exec");
        assert_eq!(label("/metrics/cadvisor"), "metrics/cadvisor");
        assert_eq!(label("/../../etc/passwd"), "other");
        // Whatever a stranger asks for: it is counted before it is known who asks.
        for path in ["/metrics/a", "/nothing", "/podsx"] {
            assert_eq!(label(path), "other", "{path}");
        }
        assert_eq!((label("/healthz/a"), label("/stats/a")), ("healthz", "stats"));
        let invented = Method::from_bytes(b"BREW").unwrap();
        assert_eq!((method_label(&Method::GET), method_label(&invented)), ("GET", "other"));
    }
}
