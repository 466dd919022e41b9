//! Metrics in the Prometheus text format.
//!
//! A component says once which families it has; whoever counts something names the family and its
//! labels. A family that nobody counted in is not on the page.

use std::{collections::BTreeMap, fmt::Write};

use parking_lot::Mutex;

/// What a family holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets, in rising order.
    Histogram(&'static [f64]),
}

/// A family: its name, what it holds, and what it says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Family(pub &'static str, pub Kind, pub &'static str);

/// Names and values, in the order in which they are written.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// See the module.
#[derive(Debug)]
pub struct Metrics {
    families: &'static [Family],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<(&'static str, String), f64>,
    histograms: BTreeMap<(&'static str, String), Histogram>,
}

/// Observations. The bounds are the family's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// How many are within each bound.
    within: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Metrics {
    pub fn new(families: &'static [Family]) -> Self {
        Self { families, state: Mutex::default() }
    }

    /// Counts.
    pub fn add(&self, name: &'static str, labels: Labels<'_>, by: f64) {
        *self.state.lock().values.entry((name, text(labels))).or_default() += by;
    }

    /// Says how much there is now.
    pub fn set(&self, name: &'static str, labels: Labels<'_>, value: f64) {
        self.state.lock().values.insert((name, text(labels)), value);
    }

    /// Adds an observation to a histogram.
    pub fn observe(&self, name: &'static str, labels: Labels<'_>, value: f64) {
        let bounds = self.families.iter().find_map(|it| match it.1 {
            Kind::Histogram(bounds) if it.0 == name => Some(bounds),
            _ => None,
        });
        let bounds = bounds.unwrap_or_default();
        let mut state = self.state.lock();
        state.histograms.entry((name, text(labels))).or_default().observe(bounds, value);
    }

    /// Adds what somebody else has observed.
    pub(crate) fn gather(&self, name: &'static str, labels: Labels<'_>, more: &Histogram) {
        self.state.lock().histograms.entry((name, text(labels))).or_default().add(more);
    }

    /// The page.
    pub fn render(&self) -> String {
        let (state, mut page) = (self.state.lock(), String::new());
        for Family(name, kind, help) in self.families {
            let values = state.values.iter().filter(|((it, _), _)| it == name);
            let histograms = state.histograms.iter().filter(|((it, _), _)| it == name);
            let mut lines = String::new();
            for ((_, labels), value) in values {
                line(&mut lines, format_args!("{name}{} {value}", braced(labels, "")));
            }
            for ((_, labels), it) in histograms {
                it.render(&mut lines, name, labels, kind);
            }
            if lines.is_empty() {
                continue;
            }
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            line(&mut page, format_args!("# HELP {name} {help}"));
            line(&mut page, format_args!("# TYPE {name} {kind}"));
            page.push_str(&lines);
        }
        page
    }
}

impl Histogram {
    pub(crate) fn observe(&mut self, bounds: &[f64], value: f64) {
        self.within.resize(bounds.len(), 0);
        for (within, bound) in self.within.iter_mut().zip(bounds) {
            *within += u64::from(value <= *bound);
        }
        self.count += 1;
        self.sum += value;
    }

    /// Both have the same bounds.
    pub(crate) fn add(&mut self, other: &Self) {
        self.within.resize(self.within.len().max(other.within.len()), 0);
        for (within, more) in self.within.iter_mut().zip(&other.within) {
            *within += more;
        }
        self.count += other.count;
        self.sum += other.sum;
    }

    fn render(&self, page: &mut String, name: &str, labels: &str, kind: &Kind) {
        if let Kind::Histogram(bounds) = kind {
            // Where nothing was observed yet, there are none.
            let within = self.within.iter().chain(std::iter::repeat(&0));
            for (bound, within) in bounds.iter().zip(within) {
                let labels = braced(labels, &format!("le=\"{bound}\""));
                line(page, format_args!("{name}_bucket{labels} {within}"));
            }
        }
        let all = braced(labels, "le=\"+Inf\"");
        line(page, format_args!("{name}_bucket{all} {}", self.count));
        let labels = braced(labels, "");
        line(page, format_args!("{name}_sum{labels} {}", self.sum));
        line(page, format_args!("{name}_count{labels} {}", self.count));
    }
}

fn line(page: &mut String, line: std::fmt::Arguments<'_>) {
    let written = writeln!(page, "{line}");
    debug_assert!(written.is_ok(), "writing into memory");
}

fn text(labels: Labels<'_>) -> String {
    let escaped = |it: &str| it.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    labels.collect::<Vec<_>>().join(",")
}

fn braced(labels: &str, more: &str) -> String {
    match (labels, more) {
        ("", "") => String::new(),
        ("", only) | (only, "") => format!("{{{only}}}"),
        (labels, more) => format!("{{{labels},{more}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILIES: &[Family] = &[
        Family("tries_total", Kind::Counter, "Tries."),
        Family("waiting", Kind::Gauge, "Waiting."),
        Family("took_seconds", Kind::Histogram(&[0.5, 2.0]), "Durations."),
        Family("unused", Kind::Gauge, "Nothing."),
    ];

    #[test]
    fn what_was_counted_is_on_the_page_in_the_order_of_the_families() {
        let metrics = Metrics::new(FAMILIES);
        metrics.observe("took_seconds", &[("result", "ok")], 0.5);
        metrics.observe("took_seconds", &[("result", "ok")], 9.0);
        metrics.add("tries_total", &[("by", "a\"b")], 1.0);
        metrics.add("tries_total", &[("by", "a\"b")], 2.0);
        metrics.set("waiting", &[], 4.0);
        metrics.set("waiting", &[], 3.0);
        let expected = "# HELP tries_total Tries.\n# TYPE tries_total counter\n\
             tries_total{by=\"a\\\"b\"} 3\n\
             # HELP waiting Waiting.\n# TYPE waiting gauge\nwaiting 3\n\
             # HELP took_seconds Durations.\n# TYPE took_seconds histogram\n\
             took_seconds_bucket{result=\"ok\",le=\"0.5\"} 1\n\
             took_seconds_bucket{result=\"ok\",le=\"2\"} 1\n\
             took_seconds_bucket{result=\"ok\",le=\"+Inf\"} 2\n\
             took_seconds_sum{result=\"ok\"} 9.5\ntook_seconds_count{result=\"ok\"} 2\n";
        assert_eq!(metrics.render(), expected);
    }
}
