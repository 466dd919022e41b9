//! What others ask of this proxy: `/healthz` for the node, `/metrics`, and for load balancers, at a
//! port of each Service with the local policy, whether this node has endpoints.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clock::Clock;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use lifecycle::Scope;
use parking_lot::Mutex;
use serde_json::json;
use tower::service_fn;
use tracing::warn;
use transport::{Body, Place};

use crate::{metrics::Metrics, proxier::LocalCounts, service_map::ServiceName};

/// Shared by the servers.
#[derive(Debug)]
pub struct Health {
    pub metrics: Metrics,
    clock: Clock,
    /// The kernel holds what the API says, as far as is known.
    is_synced: AtomicBool,
    /// A node that is being deleted should get no new connections.
    is_eligible: AtomicBool,
    counts: Mutex<LocalCounts>,
}

impl Health {
    pub fn new(clock: Clock) -> Self {
        Self {
            metrics: Metrics::default(),
            clock,
            is_synced: AtomicBool::new(false),
            is_eligible: AtomicBool::new(true),
            counts: Mutex::default(),
        }
    }

    pub fn set_synced(&self, is_synced: bool) {
        self.is_synced.store(is_synced, Ordering::Relaxed);
    }

    pub fn set_eligible(&self, is_eligible: bool) {
        self.is_eligible.store(is_eligible, Ordering::Relaxed);
    }

    fn is_healthy(&self) -> bool {
        self.is_synced.load(Ordering::Relaxed)
    }
}

/// `/healthz` (also whether the node takes connections) and `/livez`.
pub async fn healthz(
    request: Request<Incoming>,
    health: Arc<Health>,
) -> Result<Response<Body>, Infallible> {
    let is_eligible = health.is_eligible.load(Ordering::Relaxed);
    let is_fine = match request.uri().path() {
        "/healthz" => health.is_healthy() && is_eligible,
        "/livez" => health.is_healthy(),
        _ => return Ok(answer(StatusCode::NOT_FOUND, "text/plain", "not found\n".to_owned())),
    };
    let last = health.metrics.last_sync().map(|it| it.to_string()).unwrap_or_default();
    let now = health.clock.now().to_string();
    let body = json!({ "lastUpdated": last, "currentTime": now, "nodeEligible": is_eligible });
    Ok(answer(status(is_fine), "application/json", body.to_string()))
}

/// `/metrics`, `/proxyMode`, `/healthz`.
pub async fn metrics(
    request: Request<Incoming>,
    health: Arc<Health>,
) -> Result<Response<Body>, Infallible> {
    let text = "text/plain; charset=utf-8";
    Ok(match request.uri().path() {
        "/metrics" => answer(StatusCode::OK, "text/plain; version=0.0.4", health.metrics.render()),
        "/proxyMode" => answer(StatusCode::OK, text, "nftables".to_owned()),
        "/healthz" => answer(StatusCode::OK, text, "ok".to_owned()),
        _ => answer(StatusCode::NOT_FOUND, text, "404 page not found\n".to_owned()),
    })
}

/// The servers for load balancers, one for each port that is asked for.
#[derive(Debug)]
pub struct HealthPorts {
    health: Arc<Health>,
    scope: Scope,
    open: BTreeMap<u16, Scope>,
}

impl HealthPorts {
    pub fn new(health: Arc<Health>, scope: Scope) -> Self {
        Self { health, scope, open: BTreeMap::new() }
    }

    /// Opens and closes ports so that they are those of `counts`.
    pub fn update(&mut self, counts: LocalCounts) {
        self.open.retain(|port, scope| {
            let is_wanted = counts.contains_key(port);
            if !is_wanted {
                scope.cancel();
            }
            is_wanted
        });
        for (port, (service, _)) in &counts {
            if !self.open.contains_key(port) {
                self.listen(*port, service);
            }
        }
        *self.health.counts.lock() = counts;
    }

    fn listen(&mut self, port: u16, service: &ServiceName) {
        let listener = match Place::Here.listen(([0, 0, 0, 0], port).into()) {
            Ok(listener) => listener,
            Err(error) => {
                warn!(port, %service, %error, "cannot listen for health checks");
                return;
            }
        };
        let scope = self.scope.child();
        let health = self.health.clone();
        let service = service_fn(move |_: Request<Incoming>| {
            let health = health.clone();
            async move { Ok::<_, Infallible>(service_health(&health, port)) }
        });
        let served = transport::serve(listener, None, service, scope.clone());
        drop(scope.spawn("service-health", served));
        self.open.insert(port, scope);
    }
}

fn service_health(health: &Health, port: u16) -> Response<Body> {
    let known = health.counts.lock().get(&port).cloned();
    let Some((service, count)) = known else {
        return answer(StatusCode::NOT_FOUND, "text/plain", "not found\n".to_owned());
    };
    let is_healthy = health.is_healthy();
    let body = json!({
        "service": { "namespace": service.namespace, "name": service.name },
        "localEndpoints": count,
        "serviceProxyHealthy": is_healthy,
    });
    let status = status(count > 0 && is_healthy);
    let mut response = answer(status, "application/json", body.to_string());
    let weight = HeaderName::from_static("x-load-balancing-endpoint-weight");
    response.headers_mut().insert(weight, HeaderValue::from(count));
    response
}

fn status(is_fine: bool) -> StatusCode {
    if is_fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
