//! Prometheus metrics, by upstream's names.
//!
//! Upstream: `pkg/proxy/metrics`, as mode nftables registers them. Deviation: passes are for both
//! families at once, so each family's histogram has the same durations.

mod histogram;

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;

use self::histogram::Histogram;
use crate::proxier::NoLocal;

/// A family's number in arrays, and its label.
pub const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// What the proxier counts.
#[derive(Debug)]
pub struct Metrics {
    families: Vec<Family>,
    pub endpoint_changes: Changes,
    pub service_changes: Changes,
    pub failures: AtomicU64,
    /// By status.
    healthz: Mutex<BTreeMap<u16, u64>>,
    livez: Mutex<BTreeMap<u16, u64>>,
}

#[derive(Debug, Default)]
pub struct Changes {
    pub pending: AtomicU64,
    pub total: AtomicU64,
}

impl Changes {
    /// One more, which waits for a pass.
    pub fn add(&self) {
        self.pending.fetch_add(1, Relaxed);
        self.total.fetch_add(1, Relaxed);
    }
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    sync: Histogram,
    full: Histogram,
    partial: Histogram,
    programming: Histogram,
    reconciler: Histogram,
    deleted_flows: AtomicU64,
    times: Mutex<Times>,
    no_local: Mutex<NoLocal>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    queued: Option<Timestamp>,
    synced: Option<Timestamp>,
}

/// A pass that was applied.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    pub took: Duration,
    pub is_full: bool,
    pub at: Timestamp,
}

impl Metrics {
    /// For the first so many of [`FAMILIES`].
    pub fn new(families: usize) -> Self {
        let family = |name: &&'static str| Family {
            name,
            sync: Histogram::of_syncs(),
            full: Histogram::of_syncs(),
            partial: Histogram::of_syncs(),
            programming: Histogram::of_programming(),
            reconciler: Histogram::of_syncs(),
            deleted_flows: AtomicU64::new(0),
            times: Mutex::default(),
            no_local: Mutex::default(),
        };
        Self {
            families: FAMILIES.iter().take(families).map(family).collect(),
            endpoint_changes: Changes::default(),
            service_changes: Changes::default(),
            failures: AtomicU64::new(0),
            healthz: Mutex::default(),
            livez: Mutex::default(),
        }
    }

    pub fn queued(&self, at: Timestamp) {
        self.families.iter().for_each(|family| family.times.lock().queued = Some(at));
    }

    pub fn synced(&self, pass: Pass, no_local: impl Iterator<Item = NoLocal>) {
        for (family, no_local) in self.families.iter().zip(no_local) {
            family.sync.observe(pass.took);
            let kind = if pass.is_full { &family.full } else { &family.partial };
            kind.observe(pass.took);
            family.times.lock().synced = Some(pass.at);
            *family.no_local.lock() = no_local;
        }
        self.endpoint_changes.pending.store(0, Relaxed);
        self.service_changes.pending.store(0, Relaxed);
    }

    /// So long after what caused it, a change is in the kernel.
    pub fn programmed(&self, is_ipv4: bool, took: Duration) {
        if let Some(family) = self.families.get(usize::from(!is_ipv4)) {
            family.programming.observe(took);
        }
    }

    pub fn reconciled(&self, is_ipv4: bool, took: Duration, deleted: usize) {
        if let Some(family) = self.families.get(usize::from(!is_ipv4)) {
            family.reconciler.observe(took);
            family.deleted_flows.fetch_add(deleted as u64, Relaxed);
        }
    }

    pub fn answered_healthz(&self, status: u16) {
        *self.healthz.lock().entry(status).or_default() += 1;
    }

    pub fn answered_livez(&self, status: u16) {
        *self.livez.lock().entry(status).or_default() += 1;
    }

    /// The text format.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (name, help, select) in HISTOGRAMS {
            head(&mut out, name, help, "histogram");
            for family in &self.families {
                let labels = format!("ip_family=\"{}\"", family.name);
                select(family).render(name, &labels, &mut out);
            }
        }
        for (name, help, kind, select) in FAMILY_VALUES {
            head(&mut out, name, help, kind);
            for family in &self.families {
                let value = select(family);
                line(&mut out, format_args!("{name}{{ip_family=\"{}\"}} {value}", family.name));
            }
        }
        self.render_no_local(&mut out);
        self.render_totals(&mut out);
        out
    }

    fn render_no_local(&self, out: &mut String) {
        let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
        let help = "Number of services with a Local traffic policy and no endpoints";
        head(out, name, help, "gauge");
        for family in &self.families {
            let counts = *family.no_local.lock();
            for (policy, count) in [("external", counts.external), ("internal", counts.internal)] {
                let labels = format!("ip_family=\"{}\",traffic_policy=\"{policy}\"", family.name);
                line(out, format_args!("{name}{{{labels}}} {count}"));
            }
        }
    }

    fn render_totals(&self, out: &mut String) {
        let failures = self.failures.load(Relaxed);
        let name = "kubeproxy_sync_proxy_rules_nftables_sync_failures_total";
        head(out, name, "Cumulative proxy nftables sync failures", "counter");
        for family in &self.families {
            line(out, format_args!("{name}{{ip_family=\"{}\"}} {failures}", family.name));
        }
        for (name, help, kind, value) in [
            (
                "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
                "Pending proxy rules Endpoint changes",
                "gauge",
                &self.endpoint_changes.pending,
            ),
            (
                "kubeproxy_sync_proxy_rules_endpoint_changes_total",
                "Cumulative proxy rules Endpoint changes",
                "counter",
                &self.endpoint_changes.total,
            ),
            (
                "kubeproxy_sync_proxy_rules_service_changes_pending",
                "Pending proxy rules Service changes",
                "gauge",
                &self.service_changes.pending,
            ),
            (
                "kubeproxy_sync_proxy_rules_service_changes_total",
                "Cumulative proxy rules Service changes",
                "counter",
                &self.service_changes.total,
            ),
        ] {
            head(out, name, help, kind);
            line(out, format_args!("{name} {}", value.load(Relaxed)));
        }
        for (name, help, counts) in [
            (
                "kubeproxy_proxy_healthz_total",
                "Cumulative proxy healthz HTTP status",
                &self.healthz,
            ),
            ("kubeproxy_proxy_livez_total", "Cumulative proxy livez HTTP status", &self.livez),
        ] {
            head(out, name, help, "counter");
            for (status, count) in &*counts.lock() {
                line(out, format_args!("{name}{{code=\"{status}\"}} {count}"));
            }
        }
    }
}

type SelectHistogram = for<'a> fn(&'a Family) -> &'a Histogram;
type SelectNumber = fn(&Family) -> f64;

const HISTOGRAMS: [(&str, &str, SelectHistogram); 5] = [
    ("kubeproxy_sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", |it| {
        &it.sync
    }),
    (
        "kubeproxy_sync_full_proxy_rules_duration_seconds",
        "SyncProxyRules latency in seconds for full resyncs",
        |it| &it.full,
    ),
    (
        "kubeproxy_sync_partial_proxy_rules_duration_seconds",
        "SyncProxyRules latency in seconds for partial resyncs",
        |it| &it.partial,
    ),
    (
        "kubeproxy_network_programming_duration_seconds",
        "In Cluster Network Programming Latency in seconds",
        |it| &it.programming,
    ),
    (
        "kubeproxy_conntrack_reconciler_sync_duration_seconds",
        "ReconcileConntrackFlowsLatency latency in seconds",
        |it| &it.reconciler,
    ),
];

const FAMILY_VALUES: [(&str, &str, &str, SelectNumber); 4] = [
    (
        "kubeproxy_conntrack_reconciler_deleted_entries_total",
        "Cumulative conntrack flows deleted by conntrack reconciler",
        "counter",
        |it| it.deleted_flows.load(Relaxed) as f64,
    ),
    (
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "The last time proxy rules were successfully synced",
        "gauge",
        |it| seconds(it.times.lock().synced),
    ),
    (
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
        "The last time a sync of proxy rules was queued",
        "gauge",
        |it| seconds(it.times.lock().queued),
    ),
    // Every pass is one transaction: there is nothing left to clean up afterwards.
    (
        "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
        "Cumulative proxy nftables cleanup failures",
        "counter",
        |_| 0.0,
    ),
];

fn seconds(time: Option<Timestamp>) -> f64 {
    time.map_or(0.0, |it| it.as_microsecond() as f64 / 1e6)
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    line(out, format_args!("# HELP {name} [ALPHA] {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

fn line(out: &mut String, rest: std::fmt::Arguments<'_>) {
    writeln!(out, "{rest}").expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_counted_for_each_family_and_by_its_kind() {
        let metrics = Metrics::new(2);
        metrics.service_changes.add();
        let at = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(5);
        let pass = Pass { took: Duration::from_millis(3), is_full: false, at };
        let no_local = NoLocal { internal: 1, external: 2 };
        metrics.synced(pass, [no_local, NoLocal::default()].into_iter());
        metrics.answered_healthz(503);
        let text = metrics.render();
        let has = |line: &str| assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
        has(
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.002\"} 0",
        );
        has(
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv6\",le=\"0.004\"} 1",
        );
        has("kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1");
        has("kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 0");
        has("kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 5");
        has("kubeproxy_sync_proxy_rules_service_changes_total 1");
        has("kubeproxy_sync_proxy_rules_service_changes_pending 0");
        has("kubeproxy_sync_proxy_rules_no_local_endpoints_total\
             {ip_family=\"IPv4\",traffic_policy=\"external\"} 2");
        has("kubeproxy_proxy_healthz_total{code=\"503\"} 1");
    }
}
