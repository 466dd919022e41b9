//! Rows of the table, and the median.

use std::time::Duration;

use comfy_table::{Table, presets::ASCII_MARKDOWN};

/// One line: what, how much, the floor measured in the same run, the budget of DESIGN §7.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    what: String,
    measured: String,
    floor: String,
    budget: String,
}

impl Row {
    pub(crate) fn new(
        what: impl Into<String>,
        measured: impl Into<String>,
        floor: impl Into<String>,
        budget: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            measured: measured.into(),
            floor: floor.into(),
            budget: budget.into(),
        }
    }

    /// What could not be measured, and why.
    pub(crate) fn missing(what: &str, error: &anyhow::Error) -> Self {
        Self::new(what, format!("not measured: {error:#}"), "-", "-")
    }
}

pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["what", "measured", "floor", "budget"]);
    for row in rows {
        table.add_row([&row.what, &row.measured, &row.floor, &row.budget]);
    }
    table
}

/// The median of what was measured; zero of nothing.
pub(crate) fn median(samples: &[Duration]) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

pub(crate) fn millis(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1000.0)
}

pub(crate) fn per_second(count: usize, taken: Duration) -> String {
    // A count of operations is far below the 52 bits that a float keeps exactly.
    let count = u32::try_from(count).map_or(f64::INFINITY, f64::from);
    format!("{:.0} per s", count / taken.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let samples = [3, 1, 2].map(Duration::from_secs);
        assert_eq!(median(&samples), Duration::from_secs(2));
        assert_eq!(median(&[]), Duration::ZERO);
    }
}

pub(crate) fn micros(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}
