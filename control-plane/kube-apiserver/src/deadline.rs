//! How long a request may take: what its client says by `?timeout=`, but never longer than the
//! server allows.
//!
//! Upstream: k8s.io/apiserver/pkg/endpoints/filters/request_deadline.go.

use std::time::Duration;

use component_config::duration;

use crate::{request::query_value, status::Status};

/// Upstream's `--request-timeout`, for requests that are no watches and go no further than here.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

pub(crate) fn of(query: &str) -> Result<Duration, Status> {
    let Some(text) = query_value(query, "timeout").filter(|it| !it.is_empty()) else {
        return Ok(LONGEST);
    };
    let asked = duration::read(&text).map_err(|error| {
        Status::bad_request(format!("invalid timeout specified in the request URL - {error}"))
    })?;
    match asked.get() {
        // None is as good as not said.
        Duration::ZERO => Ok(LONGEST),
        asked => Ok(asked.min(LONGEST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_shorten_its_time_and_not_lengthen_it() {
        for (query, milliseconds) in [
            ("", 60_000),
            ("timeout=", 60_000),
            ("timeout=0s", 60_000),
            ("timeout=5s", 5000),
            ("timeout=250ms", 250),
            ("timeout=1h", 60_000),
        ] {
            assert_eq!(of(query).unwrap(), Duration::from_millis(milliseconds), "{query}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        let refused = of("timeout=invalid").unwrap_err();
        assert_eq!(refused.code, 400);
        assert!(refused.message.starts_with("invalid timeout specified in the request URL"));
    }
}
