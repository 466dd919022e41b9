//! A histogram of durations.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

#[derive(Debug)]
pub(super) struct Histogram {
    /// Upper bounds in seconds, and how many were at the most so long.
    buckets: Vec<(f64, AtomicU64)>,
    count: AtomicU64,
    microseconds: AtomicU64,
}

impl Histogram {
    /// From 1 ms on, fifteen times doubled.
    pub(super) fn of_syncs() -> Self {
        Self::new((0..15).map(|power| f64::from(1 << power) / 1000.0))
    }

    /// Upstream's bounds, from a quarter of a second to five minutes.
    pub(super) fn of_programming() -> Self {
        let seconds = |from: u32, step: u32, count: u32| {
            (0..count).map(move |number| f64::from(from + number * step))
        };
        let short = [0.0, 0.25, 0.5].into_iter();
        Self::new(
            short.chain(seconds(1, 1, 59)).chain(seconds(60, 5, 12)).chain(seconds(120, 30, 7)),
        )
    }

    fn new(bounds: impl Iterator<Item = f64>) -> Self {
        Self {
            buckets: bounds.map(|bound| (bound, AtomicU64::new(0))).collect(),
            count: AtomicU64::new(0),
            microseconds: AtomicU64::new(0),
        }
    }

    pub(super) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        for (_, count) in self.buckets.iter().filter(|(bound, _)| seconds <= *bound) {
            count.fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(micros, Relaxed);
    }

    pub(super) fn render(&self, name: &str, labels: &str, out: &mut String) {
        let mut line = |rest: std::fmt::Arguments<'_>| {
            writeln!(out, "{name}{rest}").expect("writing to a string does not fail");
        };
        for (bound, count) in &self.buckets {
            let count = count.load(Relaxed);
            line(format_args!("_bucket{{{labels},le=\"{bound}\"}} {count}"));
        }
        let count = self.count.load(Relaxed);
        line(format_args!("_bucket{{{labels},le=\"+Inf\"}} {count}"));
        let sum = Duration::from_micros(self.microseconds.load(Relaxed));
        line(format_args!("_sum{{{labels}}} {}", sum.as_secs_f64()));
        line(format_args!("_count{{{labels}}} {count}"));
    }
}
