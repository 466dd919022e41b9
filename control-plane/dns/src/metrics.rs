//! Prometheus metrics, by CoreDNS's names.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

/// Counters of the server.
#[derive(Debug, Default)]
pub struct Metrics {
    pub udp: AtomicU64,
    pub tcp: AtomicU64,
    pub forwarded: AtomicU64,
    pub unanswered: AtomicU64,
}

impl Metrics {
    /// The text format.
    pub fn render(&self) -> String {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut text = String::new();
        let rows = [
            ("coredns_dns_requests_total", "{proto=\"udp\"}", get(&self.udp)),
            ("coredns_dns_requests_total", "{proto=\"tcp\"}", get(&self.tcp)),
            ("coredns_forward_requests_total", "", get(&self.forwarded)),
            ("coredns_forward_unanswered_total", "", get(&self.unanswered)),
        ];
        let mut last = "";
        for (name, labels, value) in rows {
            if name != last {
                writeln!(text, "# TYPE {name} counter").expect("a string takes everything");
                last = name;
            }
            writeln!(text, "{name}{labels} {value}").expect("a string takes everything");
        }
        text
    }
}
