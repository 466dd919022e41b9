//! For load balancers, at a port of each Service that keeps clients' addresses: whether this node has
//! endpoints of it.
//!
//! Upstream: `pkg/proxy/healthcheck/service_health.go`.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use lifecycle::Scope;
use parking_lot::Mutex;
use serde_json::json;
use tower::service_fn;
use tracing::warn;
use transport::{Body, Place};

use crate::{
    health::{Health, answer, not_found, status},
    proxier::LocalCounts,
    service_map::ServiceName,
};

/// The servers, one for each port that is asked for.
#[derive(Debug)]
pub struct HealthPorts {
    health: Arc<Health>,
    place: Place,
    scope: Scope,
    counts: Arc<Mutex<LocalCounts>>,
    open: BTreeMap<u16, Scope>,
}

/// Ports that could not be opened.
pub type Failed = Vec<(ServiceName, String)>;

impl HealthPorts {
    pub fn new(health: Arc<Health>, place: Place, scope: Scope) -> Self {
        Self { health, place, scope, counts: Arc::default(), open: BTreeMap::new() }
    }

    /// Opens and closes ports so that they are those of `counts`.
    pub fn update(&mut self, counts: LocalCounts) -> Failed {
        self.open.retain(|port, scope| {
            let is_wanted = counts.contains_key(port);
            if !is_wanted {
                scope.cancel();
            }
            is_wanted
        });
        let wanted: Vec<_> =
            counts.iter().map(|(port, (service, _))| (*port, service.clone())).collect();
        *self.counts.lock() = counts;
        let mut failed = Failed::new();
        for (port, service) in wanted {
            if !self.open.contains_key(&port)
                && let Err(error) = self.listen(port)
            {
                warn!(port, %service, %error, "cannot listen for health checks");
                failed.push((service, format!("{port}: {error}")));
            }
        }
        failed
    }

    fn listen(&mut self, port: u16) -> std::io::Result<()> {
        // Both families, where the kernel has both.
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listener = match self.place.listen(both) {
            Err(error) if error.kind() != ErrorKind::AddrInUse => {
                self.place.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?
            }
            other => other?,
        };
        let scope = self.scope.child();
        let (health, counts) = (self.health.clone(), self.counts.clone());
        let service = service_fn(move |_: Request<Incoming>| {
            let known = counts.lock().get(&port).cloned();
            let is_healthy = health.is_healthy();
            async move { Ok::<_, Infallible>(respond(known, is_healthy)) }
        });
        let served = transport::serve(listener, None, service, scope.clone());
        drop(scope.spawn("service-health", served));
        self.open.insert(port, scope);
        Ok(())
    }
}

fn respond(known: Option<(ServiceName, usize)>, is_healthy: bool) -> Response<Body> {
    let Some((service, count)) = known else { return not_found() };
    let body = json!({
        "service": { "namespace": service.namespace, "name": service.name },
        "localEndpoints": count,
        "serviceProxyHealthy": is_healthy,
    });
    let text = serde_json::to_string_pretty(&body).unwrap_or_default();
    let mut response = answer(status(count > 0 && is_healthy), "application/json", text);
    let weight = HeaderName::from_static("x-load-balancing-endpoint-weight");
    response.headers_mut().insert(weight, HeaderValue::from(count));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_without_endpoints_or_with_a_stuck_proxy_is_left_out() {
        let name = ServiceName { namespace: "default".into(), name: "web".into() };
        for (count, is_healthy, code) in [(2, true, 200), (0, true, 503), (2, false, 503)] {
            let response = respond(Some((name.clone(), count)), is_healthy);
            assert_eq!(response.status().as_u16(), code);
            let weight = &response.headers()["x-load-balancing-endpoint-weight"];
            assert_eq!(weight, count.to_string().as_str());
            let body = transport::collect(response.into_body(), 4096).await.unwrap().unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["service"]["name"], "web");
            assert_eq!(body["localEndpoints"], count);
            assert_eq!(body["serviceProxyHealthy"], is_healthy);
        }
        assert_eq!(respond(None, true).status().as_u16(), 404);
    }
}
