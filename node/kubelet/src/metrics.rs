//! Counters, gauges and histograms under upstream's names, as Prometheus text.
//!
//! Names, kinds and helps are in one table ([`families`]); a name that is not there cannot be counted.
//!
//! Upstream: `pkg/kubelet/metrics/metrics.go`.

mod families;
pub(crate) mod text;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use self::{
    families::{FAMILIES, Kind},
    text::Exposition,
};
use crate::pod::PodExt;

type Labels = Vec<(&'static str, String)>;

/// One series of a histogram.
#[derive(Clone, Debug, Default)]
struct Histogram {
    /// Per bucket, not cumulative; the last is beyond all of them.
    counts: Vec<u64>,
    sum: f64,
}

#[derive(Clone, Debug)]
enum Value {
    Number(f64),
    Histogram(Histogram),
}

#[derive(Default)]
pub(crate) struct Metrics {
    series: Mutex<BTreeMap<(&'static str, Labels), Value>>,
}

impl Metrics {
    /// Raises a counter.
    pub(crate) fn add(&self, name: &'static str, labels: &[(&'static str, &str)], by: f64) {
        self.change(name, labels, |it| *it += by);
    }

    /// Sets a gauge.
    pub(crate) fn set(&self, name: &'static str, labels: &[(&'static str, &str)], to: f64) {
        self.change(name, labels, |it| *it = to);
    }

    fn change(
        &self,
        name: &'static str,
        labels: &[(&'static str, &str)],
        change: impl FnOnce(&mut f64),
    ) {
        debug_assert!(find(name).is_some(), "{name} is in the table");
        let mut series = self.series.lock();
        let value = series.entry((name, owned(labels))).or_insert(Value::Number(0.0));
        if let Value::Number(number) = value {
            change(number);
        }
    }

    /// Notes a duration.
    pub(crate) fn observe(
        &self,
        name: &'static str,
        labels: &[(&'static str, &str)],
        took: Duration,
    ) {
        let Some(Kind::Histogram(buckets)) = find(name) else {
            debug_assert!(false, "{name} is a histogram of the table");
            return;
        };
        let seconds = took.as_secs_f64();
        let mut series = self.series.lock();
        let value = series
            .entry((name, owned(labels)))
            .or_insert_with(|| Value::Histogram(Histogram::default()));
        if let Value::Histogram(histogram) = value {
            histogram.counts.resize(buckets.len() + 1, 0);
            let at = buckets.iter().position(|it| seconds <= *it).unwrap_or(buckets.len());
            histogram.counts[at] += 1;
            histogram.sum += seconds;
        }
    }

    /// The values that a label of a name has had.
    pub(crate) fn label_values(&self, name: &str, label: &str) -> Vec<String> {
        let series = self.series.lock();
        let own = series.keys().filter(|(of, _)| *of == name);
        let labels = own.flat_map(|(_, labels)| labels).filter(|(key, _)| *key == label);
        labels.map(|(_, value)| value.clone()).collect()
    }

    /// Removes the series of a name that tell of this pod, when it is gone.
    pub(crate) fn forget(&self, name: &str, pod: &Pod) {
        let of_pod = [("namespace", pod.namespace()), ("pod", pod.name())];
        let is_it = |labels: &Labels| {
            of_pod.iter().all(|(key, value)| labels.iter().any(|it| it.0 == *key && it.1 == *value))
        };
        self.series.lock().retain(|(of, labels), _| *of != name || !is_it(labels));
    }

    /// Begins families anew.
    pub(crate) fn reset(&self, is_it: impl Fn(&str) -> bool) {
        self.series.lock().retain(|(name, _), _| !is_it(name));
    }

    /// Copies what is kept to where it lies together; see [`crate::memory`].
    pub(crate) fn repack(&self) {
        let mut series = self.series.lock();
        *series = series.clone();
    }

    /// Writes what was counted, of the families that are wanted.
    pub(crate) fn write(&self, out: &mut Exposition, is_wanted: impl Fn(&str) -> bool) {
        let series = self.series.lock().clone();
        for family in FAMILIES.iter().filter(|it| is_wanted(it.name)) {
            let own: Vec<_> = series.iter().filter(|((name, _), _)| *name == family.name).collect();
            if own.is_empty() && !family.is_bare {
                continue;
            }
            out.begin(family.name, family.kind.name(), family.help);
            if own.is_empty() {
                out.sample::<&str, &str>(family.name, &[], 0.0);
            }
            for ((name, labels), value) in own {
                match (value, family.kind) {
                    (Value::Number(number), _) => out.sample(name, labels, *number),
                    (Value::Histogram(it), Kind::Histogram(buckets)) => {
                        histogram(out, name, labels, it, buckets);
                    }
                    (Value::Histogram(_), _) => {}
                }
            }
        }
    }
}

fn histogram(
    out: &mut Exposition,
    name: &str,
    labels: &Labels,
    histogram: &Histogram,
    buckets: &[f64],
) {
    let mut total = 0;
    for (index, count) in histogram.counts.iter().enumerate() {
        total += count;
        let bound = buckets.get(index).map_or_else(|| "+Inf".to_owned(), f64::to_string);
        let mut labels = labels.clone();
        labels.push(("le", bound));
        out.sample(&format!("{name}_bucket"), &labels, total as f64);
    }
    out.sample(&format!("{name}_sum"), labels, histogram.sum);
    out.sample(&format!("{name}_count"), labels, total as f64);
}

fn find(name: &str) -> Option<Kind> {
    FAMILIES.iter().find(|it| it.name == name).map(|it| it.kind)
}

fn owned(labels: &[(&'static str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_written_in_prometheus_text() {
        let metrics = Metrics::default();
        metrics.add("kubelet_evictions", &[("eviction_signal", "memory.available")], 1.0);
        metrics.add("kubelet_evictions", &[("eviction_signal", "memory.available")], 1.0);
        let labels = [("operation_type", "Status")];
        let name = "kubelet_runtime_operations_duration_seconds";
        metrics.observe(name, &labels, Duration::from_millis(6));
        metrics.observe(name, &labels, Duration::from_secs(3600));
        let mut out = Exposition::default();
        metrics.write(&mut out, |_| true);
        let text = out.finish();
        assert!(
            text.contains("kubelet_evictions{eviction_signal=\"memory.available\"} 2\n"),
            "{text}"
        );
        assert!(text.contains(&format!("# TYPE {name} histogram\n")));
        assert!(
            text.contains(&format!("{name}_bucket{{operation_type=\"Status\",le=\"+Inf\"}} 2\n"))
        );
        assert!(text.contains(&format!("{name}_count{{operation_type=\"Status\"}} 2\n")));
        assert!(text.contains("\nkubelet_started_pods_total 0\n"), "nothing was started yet");
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".to_owned());
        pod.metadata.namespace = Some("n".to_owned());
        for name in ["p", "q"] {
            metrics.add("prober_probe_total", &[("pod", name), ("namespace", "n")], 1.0);
        }
        metrics.forget("prober_probe_total", &pod);
        let mut out = Exposition::default();
        metrics.write(&mut out, |it| it == "prober_probe_total");
        let text = out.finish();
        assert!(text.contains("pod=\"q\"") && !text.contains("pod=\"p\""), "{text}");
    }
}
