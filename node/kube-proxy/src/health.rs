//! Whether this proxy keeps up, and whether its node should get connections: `/healthz`, `/livez`.
//!
//! It is healthy unless a change has waited for longer than two sync periods. A node that is being
//! deleted, by whoever, is not eligible: load balancers that ask `/healthz` send it no more.
//!
//! Upstream: `pkg/proxy/healthcheck/proxy_health.go`.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use clock::Clock;
use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use jiff::Timestamp;
use parking_lot::Mutex;
use transport::Body;

use crate::metrics::Metrics;

/// What a cluster autoscaler puts on a node that it is about to remove.
pub const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Shared by the servers.
#[derive(Debug)]
pub struct Health {
    pub metrics: Metrics,
    pub clock: Clock,
    limit: Duration,
    is_eligible: AtomicBool,
    progress: Mutex<Progress>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Since when the oldest change has been waiting.
    waiting: Option<Timestamp>,
    updated: Option<Timestamp>,
}

impl Health {
    /// `limit`: for how long a change may wait.
    pub fn new(clock: Clock, metrics: Metrics, limit: Duration) -> Self {
        Self {
            metrics,
            clock,
            limit,
            is_eligible: AtomicBool::new(true),
            progress: Mutex::default(),
        }
    }

    /// A change has come.
    pub fn queued(&self) {
        let now = self.clock.now();
        self.metrics.queued(now);
        self.progress.lock().waiting.get_or_insert(now);
    }

    /// The kernel holds what the API says.
    pub fn updated(&self) {
        *self.progress.lock() = Progress { waiting: None, updated: Some(self.clock.now()) };
    }

    pub fn set_eligible(&self, is_eligible: bool) {
        self.is_eligible.store(is_eligible, Relaxed);
    }

    pub fn is_healthy(&self) -> bool {
        self.state().0
    }

    /// Also when it was updated last.
    fn state(&self) -> (bool, Option<Timestamp>) {
        let Progress { waiting, updated } = *self.progress.lock();
        let now = self.clock.now();
        let is_late = waiting.is_some_and(|since| {
            Duration::try_from(now.duration_since(since)).is_ok_and(|it| it >= self.limit)
        });
        // While it starts up it is healthy.
        (updated.is_none() || !is_late, updated)
    }

    /// The answer to `/healthz` and `/livez`.
    fn answer(&self, path: &str) -> Option<Response<Body>> {
        let (is_healthy, updated) = self.state();
        let is_eligible = self.is_eligible.load(Relaxed);
        let now = self.clock.now();
        let is_fine = match path {
            "/healthz" => is_healthy && is_eligible,
            "/livez" => is_healthy,
            _ => return None,
        };
        let updated = if is_fine { Some(now) } else { updated };
        let status = status(is_fine);
        let mut body = format!(
            "{{\"lastUpdated\": {:?},\"currentTime\": {:?}",
            shown(updated),
            shown(Some(now))
        );
        if path == "/healthz" {
            self.metrics.answered_healthz(status.as_u16());
            body.push_str(&format!(", \"nodeEligible\": {is_eligible}"));
        } else {
            self.metrics.answered_livez(status.as_u16());
        }
        body.push('}');
        Some(answer(status, "application/json", body))
    }
}

/// A time as Go prints it.
fn shown(time: Option<Timestamp>) -> String {
    match time {
        None => "0001-01-01 00:00:00 +0000 UTC".to_owned(),
        Some(time) => time.strftime("%Y-%m-%d %H:%M:%S.%9f +0000 UTC").to_string(),
    }
}

/// `/healthz` and `/livez`.
pub async fn healthz<B>(
    request: Request<B>,
    health: Arc<Health>,
) -> Result<Response<Body>, Infallible> {
    Ok(health.answer(request.uri().path()).unwrap_or_else(not_found))
}

pub(crate) fn not_found() -> Response<Body> {
    let text = "404 page not found\n".to_owned();
    answer(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", text)
}

pub(crate) fn status(is_fine: bool) -> StatusCode {
    if is_fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

pub(crate) fn answer(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    let headers: [(HeaderName, &'static str); 2] =
        [(CONTENT_TYPE, kind), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(health: &Health, path: &str) -> (u16, String) {
        let response = health.answer(path).unwrap();
        let status = response.status().as_u16();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let body = transport::collect(response.into_body(), 4096).await.unwrap().unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn health() -> Health {
        let clock = Clock::simulated("2026-01-02T03:04:05Z".parse().unwrap());
        Health::new(clock, Metrics::new(1), Duration::from_secs(60))
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_is_healthy_until_a_change_has_waited_for_too_long() {
        let health = health();
        health.queued();
        assert_eq!(ask(&health, "/healthz").await.0, 200, "while it starts up");
        health.updated();
        tokio::time::advance(Duration::from_secs(3600)).await;
        let (status, body) = ask(&health, "/healthz").await;
        assert_eq!(status, 200, "nothing waits");
        assert_eq!(
            body,
            "{\"lastUpdated\": \"2026-01-02 04:04:05.000000000 +0000 UTC\",\
             \"currentTime\": \"2026-01-02 04:04:05.000000000 +0000 UTC\", \"nodeEligible\": true}"
        );
        health.queued();
        tokio::time::advance(Duration::from_secs(59)).await;
        health.queued();
        assert_eq!(ask(&health, "/livez").await.0, 200);
        tokio::time::advance(Duration::from_secs(1)).await;
        let (status, body) = ask(&health, "/livez").await;
        assert_eq!(status, 503);
        assert!(body.starts_with("{\"lastUpdated\": \"2026-01-02 03:04:05.0"), "{body}");
        assert!(!body.contains("nodeEligible"), "{body}");
        health.updated();
        assert_eq!(ask(&health, "/healthz").await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_being_deleted_is_alive_and_gets_no_connections() {
        let health = health();
        health.set_eligible(false);
        let (status, body) = ask(&health, "/healthz").await;
        assert_eq!(status, 503);
        assert!(body.ends_with("\"nodeEligible\": false}"), "{body}");
        assert_eq!(ask(&health, "/livez").await.0, 200);
    }
}
