//! How often callers were known and let in, and what it took to find out.
//!
//! Upstream: k8s.io/apiserver/pkg/endpoints/filters/metrics.go.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{head, histogram::Histogram};

/// From a millisecond to 16 s.
const SHORT: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];

/// Attempts by what came of them, and what they took.
#[derive(Debug)]
struct Attempts<const N: usize> {
    results: [&'static str; N],
    counts: [AtomicU64; N],
    took: [Histogram; N],
}

impl<const N: usize> Attempts<N> {
    fn new(results: [&'static str; N]) -> Self {
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        Self { results, counts, took: std::array::from_fn(|_| Histogram::new(SHORT)) }
    }

    fn count(&self, result: &str, took: Duration) {
        let Some(at) = self.results.iter().position(|it| *it == result) else { return };
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.took[at].observe(took.as_secs_f64());
    }

    fn write(&self, text: &mut String, total: (&str, &str), seconds: (&str, &str)) {
        head(text, total.0, "counter", total.1);
        for (result, count) in self.results.iter().zip(&self.counts) {
            let (name, count) = (total.0, count.load(Ordering::Relaxed));
            text.push_str(&format!("{name}{{result=\"{result}\"}} {count}\n"));
        }
        head(text, seconds.0, "histogram", seconds.1);
        for (result, took) in self.results.iter().zip(&self.took).filter(|it| !it.1.is_empty()) {
            took.write(text, seconds.0, &format!("result=\"{result}\""));
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Access {
    authentications: Attempts<3>,
    authorizations: Attempts<4>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            authentications: Attempts::new(["success", "failure", "error"]),
            authorizations: Attempts::new(["allowed", "denied", "no-opinion", "error"]),
        }
    }
}

impl Access {
    /// `success`, `failure` where there were no credentials, or `error` where they were not good.
    pub(crate) fn authenticated(&self, result: &'static str, took: Duration) {
        self.authentications.count(result, took);
    }

    /// `allowed`, `denied`, or `no-opinion`, which is refused too.
    pub(crate) fn authorized(&self, result: &'static str, took: Duration) {
        self.authorizations.count(result, took);
    }

    pub(super) fn write(&self, text: &mut String) {
        self.authentications.write(
            text,
            ("authentication_attempts", "Counter of authenticated attempts."),
            (
                "authentication_duration_seconds",
                "Authentication duration in seconds broken out by result.",
            ),
        );
        self.authorizations.write(
            text,
            (
                "authorization_attempts_total",
                "Counter of authorization attempts broken down by result. It can be either \
                 'allowed', 'denied', 'no-opinion' or 'error'.",
            ),
            (
                "authorization_duration_seconds",
                "Authorization duration in seconds broken out by result.",
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_told_by_what_came_of_them() {
        let access = Access::default();
        access.authenticated("success", Duration::from_millis(3));
        access.authorized("no-opinion", Duration::from_millis(3));
        let mut text = String::new();
        access.write(&mut text);
        for line in [
            "authentication_attempts{result=\"success\"} 1",
            "authentication_attempts{result=\"error\"} 0",
            "authentication_duration_seconds_bucket{result=\"success\",le=\"0.004\"} 1",
            "authorization_attempts_total{result=\"no-opinion\"} 1",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}:\n{text}");
        }
    }
}
