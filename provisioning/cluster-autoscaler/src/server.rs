//! `/metrics` and `/health-check`.
//!
//! Upstream: `main.go`, `metrics/liveness.go`. A loop that has not run for `--max-inactivity`, or not
//! without an error for `--max-failing-time`, is not healthy: the kubelet restarts the pod then.

use std::{convert::Infallible, sync::Arc, time::Duration};

use clock::Clock;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use jiff::Timestamp;
use parking_lot::Mutex;
use transport::Body;

use crate::metrics::Metrics;

/// When the loop last ran.
#[derive(Debug)]
pub(crate) struct Liveness {
    clock: Clock,
    max_inactivity: Duration,
    max_failing: Duration,
    /// The last pass, and the last that succeeded; none before the loop is this process's.
    last: Mutex<Option<(Timestamp, Timestamp)>>,
}

impl Liveness {
    pub(crate) fn new(clock: Clock, max_inactivity: Duration, max_failing: Duration) -> Self {
        Self { clock, max_inactivity, max_failing, last: Mutex::new(None) }
    }

    pub(crate) fn ran(&self, is_success: bool) {
        let now = self.clock.now();
        let mut last = self.last.lock();
        let succeeded = last.map_or(now, |(_, it)| if is_success { now } else { it });
        *last = Some((now, succeeded));
    }

    fn complaint(&self) -> Option<String> {
        let (active, succeeded) = (*self.last.lock())?;
        let now = self.clock.now();
        if active + self.max_inactivity < now {
            return Some(format!("Error: last activity more than {active} ago"));
        }
        (succeeded + self.max_failing < now)
            .then(|| format!("Error: last successful activity more than {succeeded} ago"))
    }
}

/// Answers one request.
pub(crate) async fn serve<B>(
    request: Request<B>,
    metrics: Arc<Metrics>,
    liveness: Arc<Liveness>,
) -> Result<Response<Body>, Infallible> {
    let (status, kind, text) = match request.uri().path() {
        "/metrics" => {
            (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.render())
        }
        "/health-check" => match liveness.complaint() {
            None => (StatusCode::OK, "text/plain; charset=utf-8", "OK".to_owned()),
            Some(text) => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", text),
        },
        _ => {
            (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n".to_owned())
        }
    };
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stands_still_or_keeps_failing_is_not_healthy() {
        let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let liveness = Liveness::new(clock, minutes(10), minutes(15));
        assert_eq!(liveness.complaint(), None, "it has not begun");
        liveness.ran(true);
        tokio::time::sleep(minutes(11)).await;
        assert!(liveness.complaint().is_some());
        liveness.ran(false);
        assert_eq!(liveness.complaint(), None);
        tokio::time::sleep(minutes(5)).await;
        liveness.ran(false);
        assert!(liveness.complaint().is_some(), "sixteen minutes without success");
    }
}
