//! Prometheus metrics, by upstream's names.

use std::{collections::BTreeMap, fmt::Write};

use parking_lot::Mutex;

/// Counters and gauges of ipamd. Cheap to update, rendered on request.
#[derive(Debug, Default)]
pub struct Metrics {
    values: Mutex<BTreeMap<(&'static str, String), f64>>,
}

/// Every metric with its kind and help text.
const DESCRIBED: &[(&str, &str, &str)] = &[
    ("awscni_add_ip_req_count", "counter", "The number of add IP address requests"),
    ("awscni_assigned_ip_addresses", "gauge", "The number of IP addresses assigned to pods"),
    ("awscni_aws_api_error_count", "counter", "The number of failed calls of AWS APIs"),
    ("awscni_cooling_ip_addresses", "gauge", "The number of IP addresses that rest after use"),
    ("awscni_del_ip_req_count", "counter", "The number of delete IP address requests"),
    ("awscni_ec2api_error_count", "counter", "The number of failed EC2 calls"),
    ("awscni_ec2api_req_count", "counter", "The number of EC2 calls"),
    ("awscni_eni_allocated", "gauge", "The number of ENIs allocated"),
    ("awscni_eni_max", "gauge", "The maximum number of ENIs that can be attached"),
    ("awscni_ip_max", "gauge", "The maximum number of IP addresses that can be allocated"),
    ("awscni_ipamd_error_count", "counter", "The number of errors encountered in ipamd"),
    (
        "awscni_no_available_ip_addresses",
        "counter",
        "The number of pod IP assignments that fail due to no available IP addresses",
    ),
    ("awscni_reconcile_count", "counter", "The number of times ipamd reconciles with IMDS"),
    ("awscni_total_ip_addresses", "gauge", "The total number of IP addresses"),
    ("awscni_total_ipv4_prefixes", "gauge", "The total number of IPv4 prefixes"),
];

impl Metrics {
    pub fn set(&self, name: &'static str, value: usize) {
        #[expect(clippy::cast_precision_loss, reason = "counts of addresses are small")]
        let value = value as f64;
        self.values.lock().insert((name, String::new()), value);
    }

    pub fn count(&self, name: &'static str) {
        self.count_labelled(name, String::new());
    }

    /// `labels` as they are printed: `fn="increaseDatastorePool"`.
    pub fn count_labelled(&self, name: &'static str, labels: String) {
        *self.values.lock().entry((name, labels)).or_default() += 1.0;
    }

    /// The text format. What never happened is shown as 0.
    pub fn render(&self) -> String {
        let values = self.values.lock();
        let mut text = String::new();
        for (name, kind, help) in DESCRIBED {
            let mut line = |rest: std::fmt::Arguments<'_>| {
                writeln!(text, "{rest}").expect("writing to a string does not fail");
            };
            line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
            let mut is_shown = false;
            for ((_, labels), value) in values.iter().filter(|((it, _), _)| it == name) {
                is_shown = true;
                match labels.as_str() {
                    "" => line(format_args!("{name} {value}")),
                    labels => line(format_args!("{name}{{{labels}}} {value}")),
                }
            }
            if !is_shown {
                line(format_args!("{name} 0"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_with_their_labels_and_missing_ones_as_zero() {
        let metrics = Metrics::default();
        metrics.set("awscni_eni_max", 3);
        metrics.count_labelled("awscni_ipamd_error_count", "fn=\"grow\"".into());
        let text = metrics.render();
        assert!(text.contains("\nawscni_eni_max 3\n"), "{text}");
        assert!(text.contains("\nawscni_ipamd_error_count{fn=\"grow\"} 1\n"), "{text}");
        assert!(text.contains("\nawscni_total_ip_addresses 0\n"), "{text}");
    }
}
