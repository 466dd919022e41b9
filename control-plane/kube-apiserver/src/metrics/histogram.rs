//! A histogram without locks: an observation is three additions.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// Upper bounds, in rising order.
    bounds: &'static [f64],
    /// How many are within a bound and not within the one before; the last are beyond all.
    within: Box<[AtomicU64]>,
    /// The bits of a float.
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        let within = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, within, sum: AtomicU64::new(0) }
    }

    pub(crate) fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|it| *it < value);
        self.within[at].fetch_add(1, Ordering::Relaxed);
        let added = |sum| Some((f64::from_bits(sum) + value).to_bits());
        let _never_fails = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
    }

    /// Its lines; `labels` may be empty.
    pub(crate) fn write(&self, text: &mut String, name: &str, labels: &str) {
        let more = if labels.is_empty() { String::new() } else { format!("{labels},") };
        let mut count = 0;
        for (at, within) in self.within.iter().enumerate() {
            count += within.load(Ordering::Relaxed);
            let bound = self.bounds.get(at).map_or("+Inf".to_owned(), ToString::to_string);
            text.push_str(&format!("{name}_bucket{{{more}le=\"{bound}\"}} {count}\n"));
        }
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        text.push_str(&format!("{name}_sum{labels} {sum}\n{name}_count{labels} {count}\n"));
    }

    pub(crate) fn count(&self) -> u64 {
        self.within.iter().map(|it| it.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count() == 0
    }
}

/// Observes the seconds until it is dropped.
pub(crate) struct Timed<'a> {
    histogram: &'a Histogram,
    began: Instant,
}

impl<'a> Timed<'a> {
    pub(crate) fn new(histogram: &'a Histogram) -> Self {
        Self { histogram, began: Instant::now() }
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.histogram.observe(self.began.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_a_bound_is_within_all_larger_ones() {
        let histogram = Histogram::new(&[0.5, 1.0]);
        assert!(histogram.is_empty());
        [0.5, 0.75, 3.0].into_iter().for_each(|it| histogram.observe(it));
        let (mut plain, mut labelled) = (String::new(), String::new());
        histogram.write(&mut plain, "a", "");
        let expected = "a_bucket{le=\"0.5\"} 1\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 3\n\
                        a_sum 4.25\na_count 3\n";
        assert_eq!(plain, expected);
        histogram.write(&mut labelled, "a", "b=\"c\"");
        assert!(labelled.contains("a_bucket{b=\"c\",le=\"+Inf\"} 3\na_sum{b=\"c\"} 4.25\n"));
    }
}
