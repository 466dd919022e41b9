//! Prometheus metrics, by upstream's names.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;

/// Upper bounds in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];

/// What the proxier counts.
#[derive(Debug, Default)]
pub struct Metrics {
    sync: Histogram,
    pub failures: AtomicU64,
    pub services: AtomicU64,
    last: Mutex<Option<Timestamp>>,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    microseconds: AtomicU64,
}

impl Metrics {
    /// A pass that was applied.
    pub fn synced(&self, took: Duration, at: Timestamp) {
        let seconds = took.as_secs_f64();
        for (bucket, bound) in self.sync.buckets.iter().zip(BUCKETS) {
            if seconds <= bound {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.sync.count.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sync.microseconds.fetch_add(micros, Ordering::Relaxed);
        *self.last.lock() = Some(at);
    }

    pub fn last_sync(&self) -> Option<Timestamp> {
        *self.last.lock()
    }

    /// The text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut line = |rest: std::fmt::Arguments<'_>| {
            writeln!(text, "{rest}").expect("writing to a string does not fail");
        };
        let name = "kubeproxy_sync_proxy_rules_duration_seconds";
        line(format_args!("# HELP {name} SyncProxyRules latency in seconds"));
        line(format_args!("# TYPE {name} histogram"));
        for (bucket, bound) in self.sync.buckets.iter().zip(BUCKETS) {
            let count = bucket.load(Ordering::Relaxed);
            line(format_args!("{name}_bucket{{le=\"{bound}\"}} {count}"));
        }
        let count = self.sync.count.load(Ordering::Relaxed);
        line(format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        let sum = Duration::from_micros(self.sync.microseconds.load(Ordering::Relaxed));
        line(format_args!("{name}_sum {}", sum.as_secs_f64()));
        line(format_args!("{name}_count {count}"));
        let failures = self.failures.load(Ordering::Relaxed);
        let name = "kubeproxy_sync_proxy_rules_nftables_sync_failures_total";
        line(format_args!("# TYPE {name} counter\n{name} {failures}"));
        let name = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";
        let last = self.last_sync().map_or(0, Timestamp::as_second);
        line(format_args!("# TYPE {name} gauge\n{name} {last}"));
        let name = "kubeproxy_sync_proxy_rules_services";
        let services = self.services.load(Ordering::Relaxed);
        line(format_args!("# TYPE {name} gauge\n{name} {services}"));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_counted_in_every_bucket_that_holds_it() {
        let metrics = Metrics::default();
        metrics.synced(Duration::from_millis(15), Timestamp::UNIX_EPOCH);
        let text = metrics.render();
        assert!(text.contains("_bucket{le=\"0.01\"} 0\n"), "{text}");
        assert!(text.contains("_bucket{le=\"0.02\"} 1\n"), "{text}");
        assert!(text.contains("_bucket{le=\"+Inf\"} 1\n"), "{text}");
    }
}
