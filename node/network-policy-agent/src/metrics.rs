//! Prometheus metrics, by upstream's names: what was dropped in each direction, and beyond upstream
//! for which policies.
//!
//! The kernel counts in the chains that drop. They come and go with their policies, so what they
//! had counted is taken over before they go.

use std::{collections::BTreeMap, fmt::Write};

use linux_nftables::Count;
use network_policy::Direction;
use parking_lot::Mutex;

use crate::ruleset::Dropping;

/// The word in a name, what is counted, and where that is.
type Kind = (&'static str, &'static str, fn(&Count) -> u64);

#[derive(Debug, Default)]
pub struct Metrics {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What each chain is for.
    drops: BTreeMap<String, Dropping>,
    /// What each had counted when it was read last.
    last: BTreeMap<String, Count>,
    totals: BTreeMap<Dropping, Count>,
    failures: u64,
    lost: u64,
}

impl Metrics {
    /// Takes over what the chains have counted.
    pub fn take(&self, counts: &BTreeMap<String, Count>) {
        let state = &mut *self.state.lock();
        for (chain, count) in counts {
            let Some(dropping) = state.drops.get(chain) else { continue };
            let last = state.last.insert(chain.clone(), *count).unwrap_or_default();
            // A chain that was made anew began at nothing.
            let is_same = last.packets <= count.packets && last.bytes <= count.bytes;
            let last = if is_same { last } else { Count::default() };
            let total = state.totals.entry(dropping.clone()).or_default();
            total.packets += count.packets - last.packets;
            total.bytes += count.bytes - last.bytes;
        }
    }

    /// What the chains of the table that is now in the kernel are for.
    pub fn applied(&self, drops: BTreeMap<String, Dropping>) {
        let mut state = self.state.lock();
        state.last.retain(|chain, _| drops.contains_key(chain));
        state.drops = drops;
    }

    /// The kernel refused a table.
    pub fn failed(&self) {
        self.state.lock().failures += 1;
    }

    /// Some verdicts were not logged.
    pub fn lost(&self) {
        self.state.lock().lost += 1;
    }

    /// The text format.
    pub fn render(&self) -> String {
        let state = self.state.lock();
        let mut text = String::new();
        let kinds: [Kind; 2] =
            [("count", "packets", |it| it.packets), ("bytes", "bytes", |it| it.bytes)];
        for (word, unit, value) in kinds {
            let name = format!("network_policy_drop_{word}_total");
            let help = format!("Total number of {unit} dropped by network policy agent");
            header(&mut text, &name, &help);
            for direction in [Direction::Egress, Direction::Ingress] {
                let all = state.totals.iter().filter(|(it, _)| it.direction == direction);
                let sum: u64 = all.map(|(_, count)| value(count)).sum();
                line(&mut text, &format!("{name}{{direction=\"{}\"}} {sum}", word_of(direction)));
            }
            let name = format!("network_policy_drop_by_policy_{word}_total");
            let help = format!("Total number of {unit} dropped, by the policies that isolate");
            header(&mut text, &name, &help);
            for (dropping, count) in &state.totals {
                let policies: Vec<String> =
                    dropping.policies.iter().map(ToString::to_string).collect();
                let labels = format!(
                    "direction=\"{}\",policies=\"{}\"",
                    word_of(dropping.direction),
                    policies.join(",")
                );
                line(&mut text, &format!("{name}{{{labels}}} {}", value(count)));
            }
        }
        for (name, help, value) in [
            (
                "network_policy_apply_failures_total",
                "Rulesets that the kernel refused",
                state.failures,
            ),
            (
                "network_policy_event_logs_lost_total",
                "Times that verdicts came faster than they could be logged",
                state.lost,
            ),
        ] {
            header(&mut text, name, help);
            line(&mut text, &format!("{name} {value}"));
        }
        text
    }
}

pub(crate) fn word_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

fn header(text: &mut String, name: &str, help: &str) {
    line(text, &format!("# HELP {name} {help}\n# TYPE {name} counter"));
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use controller::Key;

    use super::*;

    fn dropping(direction: Direction, names: &[&str]) -> Dropping {
        let policies = names.iter().map(|name| Key::new("x", *name)).collect();
        Dropping { direction, policies }
    }

    fn counts(all: &[(&str, u64)]) -> BTreeMap<String, Count> {
        let count = |packets| Count { packets, bytes: packets * 100 };
        all.iter().map(|(name, packets)| ((*name).to_owned(), count(*packets))).collect()
    }

    #[test]
    fn drops_are_counted_by_direction_and_by_policy_while_chains_come_and_go() {
        let metrics = Metrics::default();
        let one = dropping(Direction::Ingress, &["p"]);
        let both = dropping(Direction::Ingress, &["p", "q"]);
        metrics.applied([("to-1".to_owned(), one.clone())].into());
        metrics.take(&counts(&[("to-1", 3), ("forward", 9)]));
        metrics.take(&counts(&[("to-1", 5)]));
        // Another chain takes its place, and then it comes back and counts from nothing.
        metrics.applied([("to-2".to_owned(), both)].into());
        metrics.take(&counts(&[("to-2", 2)]));
        metrics.applied([("to-1".to_owned(), one)].into());
        metrics.take(&counts(&[("to-1", 7)]));
        let text = metrics.render();
        for wanted in [
            "# TYPE network_policy_drop_count_total counter",
            "network_policy_drop_count_total{direction=\"ingress\"} 14",
            "network_policy_drop_count_total{direction=\"egress\"} 0",
            "network_policy_drop_bytes_total{direction=\"ingress\"} 1400",
            "network_policy_drop_by_policy_count_total{direction=\"ingress\",policies=\"x/p\"} 12",
            "network_policy_drop_by_policy_bytes_total{direction=\"ingress\",policies=\"x/p,x/q\"} \
             200",
            "network_policy_event_logs_lost_total 0",
        ] {
            assert!(text.lines().any(|it| it == wanted), "{wanted}\n{text}");
        }
    }

    #[test]
    fn a_chain_that_counts_less_than_before_was_made_anew() {
        let metrics = Metrics::default();
        metrics.applied([("to-1".to_owned(), dropping(Direction::Egress, &["p"]))].into());
        metrics.take(&counts(&[("to-1", 5)]));
        metrics.take(&counts(&[("to-1", 2)]));
        let text = metrics.render();
        assert!(text.contains("network_policy_drop_count_total{direction=\"egress\"} 7"), "{text}");
    }
}
