//! Prometheus metrics, by upstream's names and labels.
//!
//! Upstream: `pkg/utils/prometheusmetrics`. Deviation: `awscni_cooling_ip_addresses` is ours.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
};

use parking_lot::Mutex;

/// The upper bounds of a histogram's buckets, in seconds: those of Prometheus' Go client.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counters, gauges, summaries and histograms of ipamd. Cheap to update, rendered on request.
#[derive(Debug, Default)]
pub struct Metrics {
    values: Mutex<BTreeMap<Series, Value>>,
}

type Series = (&'static str, String);

#[derive(Clone, Copy, Debug, Default)]
struct Value {
    /// A summary's or histogram's sum.
    value: f64,
    /// How many samples.
    count: u64,
    /// How many of them were at most each of [`BOUNDS`].
    buckets: [u64; BOUNDS.len()],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Summary,
    /// With labels: what never happened is not shown, as in upstream.
    CounterVec,
    GaugeVec,
    Histogram,
}

use Kind::{Counter, CounterVec, Gauge, GaugeVec, Histogram, Summary};

/// Every metric with its kind and help text.
const DESCRIBED: &[(&str, Kind, &str)] = &[
    ("awscni_add_ip_req_count", Counter, "The number of add IP address requests"),
    ("awscni_assigned_ip_addresses", Gauge, "The number of IP addresses assigned to pods"),
    ("awscni_assigned_ip_per_cidr", GaugeVec, "The number of addresses of a CIDR that pods have"),
    ("awscni_assigned_ip_per_eni", GaugeVec, "The number of addresses of an ENI that pods have"),
    ("awscni_aws_api_error_count", CounterVec, "The number of errors that AWS APIs returned"),
    ("awscni_aws_api_latency_ms", Summary, "How long AWS API calls took, in ms"),
    (
        "awscni_aws_utils_error_count",
        CounterVec,
        "The number of errors that nothing could be done about",
    ),
    ("awscni_connmark_backend", GaugeVec, "What marks connections: 1 for the one in use"),
    ("awscni_connmark_reconcile_total", CounterVec, "How often those rules were put in place"),
    ("awscni_cooling_ip_addresses", Gauge, "The number of IP addresses that rest after use"),
    ("awscni_del_ip_req_count", CounterVec, "The number of delete IP address requests"),
    ("awscni_ec2api_error_count", CounterVec, "The number of EC2 calls that failed"),
    ("awscni_ec2api_req_count", CounterVec, "The number of EC2 calls"),
    ("awscni_eni_allocated", Gauge, "The number of ENIs allocated"),
    ("awscni_eni_max", Gauge, "The number of ENIs that can be attached, less unmanaged ones"),
    ("awscni_force_removed_enis", Counter, "The number of ENIs that went while pods used them"),
    ("awscni_force_removed_ips", Counter, "The number of addresses that went while pods had them"),
    ("awscni_ip_max", Gauge, "The number of IP addresses that the instance can have for pods"),
    ("awscni_ipamd_action_inprogress", GaugeVec, "The number of ipamd actions in progress"),
    ("awscni_ipamd_error_count", CounterVec, "The number of errors encountered in ipamd"),
    (
        "awscni_ipamd_node_initialization_duration_seconds",
        Histogram,
        "How long ipamd took to set its node up when it started",
    ),
    (
        "awscni_ipamd_startup_duration_seconds",
        Histogram,
        "How long ipamd took from its start until it served the plug-in",
    ),
    ("awscni_no_available_ip_addresses", Counter, "The number of pods that got no IP address"),
    ("awscni_pod_eni_error_count", CounterVec, "The number of errors encountered for pod ENIs"),
    ("awscni_reconcile_count", CounterVec, "The number of times ipamd reconciled with IMDS"),
    ("awscni_total_ip_addresses", Gauge, "The total number of IP addresses"),
    ("awscni_total_ipv4_prefixes", Gauge, "The total number of IPv4 prefixes"),
    (
        "awscni_unrecovered_checkpoint_entries",
        Counter,
        "The number of assignments in the checkpoint that fit no interface any more",
    ),
];

/// Labels as they are printed: `fn="increaseDatastorePool"`.
pub fn labels(pairs: &[(&str, &dyn Display)]) -> String {
    let pair = |(name, value): &(&str, &dyn Display)| {
        let value =
            value.to_string().replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        format!("{name}=\"{value}\"")
    };
    pairs.iter().map(pair).collect::<Vec<_>>().join(",")
}

impl Metrics {
    pub fn set(&self, name: &'static str, value: usize) {
        self.set_float(name, String::new(), float(value));
    }

    pub fn set_float(&self, name: &'static str, labels: String, value: f64) {
        self.values.lock().insert((name, labels), Value::of(value));
    }

    /// Puts these values in the place of all that the gauge had.
    pub fn set_all(&self, name: &'static str, of: impl IntoIterator<Item = (String, usize)>) {
        let mut values = self.values.lock();
        values.retain(|(it, _), _| *it != name);
        values.extend(
            of.into_iter().map(|(labels, value)| ((name, labels), Value::of(float(value)))),
        );
    }

    pub fn count(&self, name: &'static str) {
        self.count_labelled(name, String::new());
    }

    /// `labels` as [`labels`] gives them.
    pub fn count_labelled(&self, name: &'static str, labels: String) {
        self.add(name, labels, 1.0);
    }

    /// Changes a gauge or a counter by this much.
    pub fn add(&self, name: &'static str, labels: String, by: f64) {
        self.values.lock().entry((name, labels)).or_default().value += by;
    }

    /// Adds a sample to a summary or a histogram.
    pub fn observe(&self, name: &'static str, labels: String, sample: f64) {
        let mut values = self.values.lock();
        let value = values.entry((name, labels)).or_default();
        value.value += sample;
        value.count += 1;
        for (bucket, bound) in value.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(sample <= bound);
        }
    }

    /// The text format.
    pub fn render(&self) -> String {
        let values = self.values.lock();
        let mut text = String::new();
        for (name, kind, help) in DESCRIBED {
            let shown: Vec<_> = values.iter().filter(|((it, _), _)| it == name).collect();
            let always = matches!(kind, Counter | Gauge);
            if shown.is_empty() && !always {
                continue;
            }
            let mut line = |rest: std::fmt::Arguments<'_>| {
                writeln!(text, "{rest}").expect("writing to a string does not fail");
            };
            line(format_args!("# HELP {name} {help}\n# TYPE {name} {}", kind.name()));
            if shown.is_empty() {
                line(format_args!("{name} 0"));
            }
            for ((_, inner), value) in shown {
                let labels = if inner.is_empty() { String::new() } else { format!("{{{inner}}}") };
                if *kind == Histogram {
                    let comma = if inner.is_empty() { "" } else { "," };
                    for (bound, count) in BOUNDS.iter().zip(value.buckets) {
                        line(format_args!("{name}_bucket{{{inner}{comma}le=\"{bound}\"}} {count}"));
                    }
                    let all = value.count;
                    line(format_args!("{name}_bucket{{{inner}{comma}le=\"+Inf\"}} {all}"));
                }
                if matches!(kind, Summary | Histogram) {
                    line(format_args!("{name}_sum{labels} {}", value.value));
                    line(format_args!("{name}_count{labels} {}", value.count));
                } else {
                    line(format_args!("{name}{labels} {}", value.value));
                }
            }
        }
        text
    }
}

impl Value {
    fn of(value: f64) -> Self {
        Self { value, ..Self::default() }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Counter | CounterVec => "counter",
            Gauge | GaugeVec => "gauge",
            Summary => "summary",
            Histogram => "histogram",
        }
    }
}

fn float(value: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of addresses are small")]
    let value = value as f64;
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_with_their_labels_and_plain_ones_as_zero() {
        let metrics = Metrics::default();
        metrics.set("awscni_eni_max", 3);
        metrics.count_labelled("awscni_ipamd_error_count", labels(&[("fn", &"grow")]));
        metrics.observe(
            "awscni_aws_api_latency_ms",
            labels(&[("api", &"A"), ("error", &false)]),
            2.5,
        );
        let text = metrics.render();
        for line in [
            "awscni_eni_max 3",
            "awscni_ipamd_error_count{fn=\"grow\"} 1",
            "awscni_total_ip_addresses 0",
            "# TYPE awscni_aws_api_latency_ms summary",
            "awscni_aws_api_latency_ms_sum{api=\"A\",error=\"false\"} 2.5",
            "awscni_aws_api_latency_ms_count{api=\"A\",error=\"false\"} 1",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
        assert!(!text.contains("awscni_reconcile_count"), "{text}");
    }

    #[test]
    fn a_histogram_counts_a_sample_in_each_bucket_that_holds_it() {
        let metrics = Metrics::default();
        let name = "awscni_ipamd_node_initialization_duration_seconds";
        for took in [0.07, 12.0] {
            metrics.observe(name, labels(&[("success", &true)]), took);
        }
        let text = metrics.render();
        for line in [
            format!("# TYPE {name} histogram"),
            format!("{name}_bucket{{success=\"true\",le=\"0.05\"}} 0"),
            format!("{name}_bucket{{success=\"true\",le=\"0.1\"}} 1"),
            format!("{name}_bucket{{success=\"true\",le=\"10\"}} 1"),
            format!("{name}_bucket{{success=\"true\",le=\"+Inf\"}} 2"),
            format!("{name}_count{{success=\"true\"}} 2"),
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }

    #[test]
    fn a_gauge_for_what_is_gone_is_gone() {
        let metrics = Metrics::default();
        let of = |eni: &str| (labels(&[("eni", &eni)]), 1);
        metrics.set_all("awscni_assigned_ip_per_eni", [of("eni-1"), of("eni-2")]);
        metrics.set_all("awscni_assigned_ip_per_eni", [of("eni-2")]);
        let text = metrics.render();
        assert!(text.contains("{eni=\"eni-2\"} 1") && !text.contains("eni-1"), "{text}");
    }

    #[test]
    fn quotes_in_a_label_do_not_end_it() {
        assert_eq!(labels(&[("a", &"x\"y\\")]), r#"a="x\"y\\""#);
    }
}
