//! `/metrics`: what was asked and how it was answered.
//!
//! Deviation: the names are ours.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use parking_lot::Mutex;
use transport::Body;

use crate::cache::Cache;

/// Counts by the status of the answer, and the time that answers took in all.
#[derive(Debug, Default)]
pub struct Metrics {
    answers: Mutex<(BTreeMap<u16, u64>, Duration)>,
}

impl Metrics {
    pub fn count(&self, status: StatusCode, took: Duration) {
        let mut answers = self.answers.lock();
        *answers.0.entry(status.as_u16()).or_default() += 1;
        answers.1 += took;
    }

    fn render(&self, held: usize) -> String {
        let answers = self.answers.lock();
        let mut lines = vec!["# TYPE pod_identity_agent_requests_total counter".to_owned()];
        lines.extend(answers.0.iter().map(|(code, count)| {
            format!("pod_identity_agent_requests_total{{code=\"{code}\"}} {count}")
        }));
        let count: u64 = answers.0.values().sum();
        lines.extend([
            "# TYPE pod_identity_agent_request_seconds summary".to_owned(),
            format!("pod_identity_agent_request_seconds_sum {}", answers.1.as_secs_f64()),
            format!("pod_identity_agent_request_seconds_count {count}"),
            "# TYPE pod_identity_agent_cached_credentials gauge".to_owned(),
            format!("pod_identity_agent_cached_credentials {held}\n"),
        ]);
        lines.join("\n")
    }
}

/// Answers `/metrics`.
pub async fn answer(
    request: Request<Incoming>,
    metrics: Arc<Metrics>,
    cache: Arc<Cache>,
) -> Result<Response<Body>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/metrics" => (StatusCode::OK, metrics.render(cache.len())),
        _ => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    };
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_status() {
        let metrics = Metrics::default();
        for status in [StatusCode::OK, StatusCode::OK, StatusCode::FORBIDDEN] {
            metrics.count(status, Duration::from_millis(500));
        }
        let text = metrics.render(7);
        for wanted in [
            "pod_identity_agent_requests_total{code=\"200\"} 2\n",
            "pod_identity_agent_requests_total{code=\"403\"} 1\n",
            "pod_identity_agent_request_seconds_sum 1.5\n",
            "pod_identity_agent_cached_credentials 7\n",
        ] {
            assert!(text.contains(wanted), "{wanted}{text}");
        }
    }
}
