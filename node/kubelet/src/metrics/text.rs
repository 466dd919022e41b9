//! The Prometheus text format.

use std::fmt::Write;

/// A page of metrics. Samples follow the [`begin`](Self::begin) of their family.
#[derive(Debug, Default)]
pub(crate) struct Exposition(String);

impl Exposition {
    pub(crate) fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let written = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        debug_assert!(written.is_ok(), "writing into memory");
    }

    pub(crate) fn sample<K: AsRef<str>, V: AsRef<str>>(
        &mut self,
        name: &str,
        labels: &[(K, V)],
        value: f64,
    ) {
        self.0.push_str(name);
        self.labels(labels);
        let written = writeln!(self.0, " {value}");
        debug_assert!(written.is_ok(), "writing into memory");
    }

    /// A sample with the time at which it was taken, in milliseconds.
    pub(crate) fn sample_at<K: AsRef<str>, V: AsRef<str>>(
        &mut self,
        name: &str,
        labels: &[(K, V)],
        value: f64,
        at: i64,
    ) {
        self.0.push_str(name);
        self.labels(labels);
        let written = writeln!(self.0, " {value} {at}");
        debug_assert!(written.is_ok(), "writing into memory");
    }

    fn labels<K: AsRef<str>, V: AsRef<str>>(&mut self, labels: &[(K, V)]) {
        if labels.is_empty() {
            return;
        }
        for (index, (key, value)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            self.0.push_str(key.as_ref());
            self.0.push_str("=\"");
            for char in value.as_ref().chars() {
                match char {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        self.0.push('}');
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_escaped() {
        let mut out = Exposition::default();
        out.begin("a", "gauge", "An a.");
        out.sample("a", &[("pod", "p\"\\\n")], 1.5);
        out.sample::<&str, &str>("a", &[], 2.0);
        out.sample_at("a", &[("é", "ü")], 2.0, 7);
        let expected =
            "# HELP a An a.\n# TYPE a gauge\na{pod=\"p\\\"\\\\\\n\"} 1.5\na 2\na{é=\"ü\"} 2 7\n";
        assert_eq!(out.finish(), expected);
    }
}
