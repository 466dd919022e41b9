//! Metrics by upstream's names.
//!
//! Upstream: `metrics/metrics.go`, `proposals/metrics.md`. Deviation: no summary of quantiles, no GPU
//! counters and no labels of GPUs and drivers, nothing of node autoprovisioning, of other clouds or of
//! what upstream's simulation alone has (`overflowing_controllers_count`, `binpacking_heterogeneity`,
//! `max_node_skip_eval_duration_seconds`, `node_removal_latency_seconds`), no metrics of client-go or the
//! Go runtime.

use std::{collections::BTreeMap, fmt::Write};

use parking_lot::Mutex;

const PREFIX: &str = "cluster_autoscaler";
const BUCKETS: [f64; 21] = [
    0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 12.5, 15.0, 17.5, 20.0, 22.5, 25.0, 27.5, 30.0,
    50.0, 75.0, 100.0, 1000.0,
];

/// Every metric: name, kind, what it says, and its labels, if any, with commas between them.
const FAMILIES: [(&str, &str, &str, &str); 28] = [
    (
        "cluster_safe_to_autoscale",
        "gauge",
        "Whether the cluster is healthy enough for scaling.",
        "",
    ),
    ("nodes_count", "gauge", "Number of nodes in the cluster.", "state"),
    ("node_groups_count", "gauge", "Number of node groups that are scaled.", "node_group_type"),
    ("node_group_min_count", "gauge", "Least number of nodes of a group.", "node_group"),
    ("node_group_max_count", "gauge", "Most nodes of a group.", "node_group"),
    ("node_group_target_count", "gauge", "Nodes that a group is to have.", "node_group"),
    (
        "node_group_healthiness",
        "gauge",
        "Whether a group is healthy enough for scaling.",
        "node_group",
    ),
    (
        "node_group_backoff_status",
        "gauge",
        "Whether a group is left alone after a failure.",
        "node_group,reason",
    ),
    ("unschedulable_pods_count", "gauge", "Number of pods without a place, by type.", "type"),
    ("max_nodes_count", "gauge", "Most nodes that the cluster may have.", ""),
    (
        "cluster_cpu_current_cores",
        "gauge",
        "Cores in the cluster, without nodes that are leaving.",
        "",
    ),
    ("cpu_limits_cores", "gauge", "Least and most cores of the cluster.", "direction"),
    ("cluster_memory_current_bytes", "gauge", "Bytes of memory in the cluster, likewise.", ""),
    ("memory_limits_bytes", "gauge", "Least and most bytes of memory of the cluster.", "direction"),
    ("node_taints_count", "gauge", "Taints of the cluster's nodes.", "type"),
    ("last_activity", "gauge", "When a part of the loop last ran.", "activity"),
    ("errors_total", "counter", "Passes that failed, by the kind of error.", "type"),
    ("scaled_up_nodes_total", "counter", "Nodes that were added.", ""),
    ("failed_scale_ups_total", "counter", "Increases that failed.", "reason"),
    ("failed_node_creations_total", "counter", "Nodes that did not come.", "reason"),
    ("scaled_down_nodes_total", "counter", "Nodes that were removed.", "reason"),
    ("evicted_pods_total", "counter", "Pods that were evicted.", "eviction_result"),
    ("unneeded_nodes_count", "gauge", "Nodes that are not needed.", ""),
    ("unremovable_nodes_count", "gauge", "Nodes that cannot be removed.", "reason"),
    ("pending_node_deletions", "gauge", "Nodes that are on their way out.", ""),
    ("scale_down_in_cooldown", "gauge", "Whether nodes are not removed for a while.", ""),
    (
        "old_unregistered_nodes_removed_count",
        "counter",
        "Instances removed that never became nodes.",
        "",
    ),
    (
        "skipped_scale_events_count",
        "counter",
        "Increases that limits kept from being made.",
        "direction,reason",
    ),
];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<(&'static str, String), f64>,
    durations: BTreeMap<&'static str, Histogram>,
}

#[derive(Debug, Default)]
struct Histogram {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Metrics {
    pub(crate) fn set(&self, name: &'static str, label: &str, value: f64) {
        self.0.lock().values.insert((name, label.to_owned()), value);
    }

    pub(crate) fn add(&self, name: &'static str, label: &str, value: f64) {
        *self.0.lock().values.entry((name, label.to_owned())).or_default() += value;
    }

    /// Forgets what a gauge says, before it is set anew.
    pub(crate) fn clear(&self, name: &str) {
        self.0.lock().values.retain(|(it, _), _| *it != name);
    }

    pub(crate) fn took(&self, function: &'static str, seconds: f64) {
        let mut state = self.0.lock();
        let histogram = state.durations.entry(function).or_default();
        for (count, bound) in histogram.counts.iter_mut().zip(BUCKETS) {
            *count += u64::from(seconds <= bound);
        }
        histogram.count += 1;
        histogram.sum += seconds;
    }

    /// The Prometheus text format.
    pub(crate) fn render(&self) -> String {
        let state = self.0.lock();
        let mut out = String::new();
        for (name, kind, help, label) in FAMILIES {
            let samples: Vec<_> = state.values.iter().filter(|((it, _), _)| *it == name).collect();
            if samples.is_empty() {
                continue;
            }
            line(&mut out, format_args!("# HELP {PREFIX}_{name} [ALPHA] {help}"));
            line(&mut out, format_args!("# TYPE {PREFIX}_{name} {kind}"));
            for ((_, values), value) in samples {
                let labels = labelled(label, values);
                line(&mut out, format_args!("{PREFIX}_{name}{labels} {value}"));
            }
        }
        let name = format!("{PREFIX}_function_duration_seconds");
        line(&mut out, format_args!("# HELP {name} [ALPHA] Time taken by parts of the loop."));
        line(&mut out, format_args!("# TYPE {name} histogram"));
        for (function, histogram) in &state.durations {
            for (bound, count) in BUCKETS.iter().zip(histogram.counts) {
                line(
                    &mut out,
                    format_args!("{name}_bucket{{function=\"{function}\",le=\"{bound}\"}} {count}"),
                );
            }
            let (count, sum) = (histogram.count, histogram.sum);
            line(
                &mut out,
                format_args!("{name}_bucket{{function=\"{function}\",le=\"+Inf\"}} {count}"),
            );
            line(&mut out, format_args!("{name}_sum{{function=\"{function}\"}} {sum}"));
            line(&mut out, format_args!("{name}_count{{function=\"{function}\"}} {count}"));
        }
        out
    }
}

/// Users choose the names of groups.
/// Several labels have their values on lines of their own.
fn labelled(names: &str, values: &str) -> String {
    if names.is_empty() {
        return String::new();
    }
    let pair = |(name, value): (&str, &str)| format!("{name}=\"{}\"", escaped(value));
    let pairs: Vec<String> = match names.contains(',') {
        true => names.split(',').zip(values.split('\n')).map(pair).collect(),
        false => vec![pair((names, values))],
    };
    format!("{{{}}}", pairs.join(","))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = writeln!(out, "{text}");
    debug_assert!(written.is_ok(), "writing into memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_upstreams_names() {
        let metrics = Metrics::default();
        metrics.add("scaled_up_nodes_total", "", 2.0);
        metrics.add("scaled_down_nodes_total", "empty", 1.0);
        metrics.set("node_group_max_count", "a \"b\"\\", 3.0);
        metrics.add("skipped_scale_events_count", "up\nCpuResourceLimit", 1.0);
        metrics.took("main", 0.2);
        let page = metrics.render();
        assert!(page.contains("\ncluster_autoscaler_scaled_up_nodes_total 2\n"), "{page}");
        assert!(page.contains("cluster_autoscaler_scaled_down_nodes_total{reason=\"empty\"} 1\n"));
        let skipped = "skipped_scale_events_count{direction=\"up\",reason=\"CpuResourceLimit\"} 1";
        assert!(page.contains(skipped), "{page}");
        let of_group = r#"cluster_autoscaler_node_group_max_count{node_group="a \"b\"\\"} 3"#;
        assert!(page.contains(of_group), "{page}");
        let bucket =
            "cluster_autoscaler_function_duration_seconds_bucket{function=\"main\",le=\"0.5\"} 1";
        assert!(page.contains(bucket), "{page}");
    }
}
