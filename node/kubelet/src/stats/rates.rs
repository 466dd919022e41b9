//! How fast a counter of CPU time grows.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;

/// A rate over less says nothing.
const LEAST: Duration = Duration::from_secs(1);
/// Counters that nobody has asked for since are forgotten.
const KEPT: Duration = Duration::from_secs(600);

struct Sample {
    at: Timestamp,
    nanos: u64,
    rate: Option<u64>,
}

#[derive(Default)]
pub(super) struct Rates {
    samples: Mutex<HashMap<String, Sample>>,
}

impl Rates {
    /// Notes a counter, and says how much it has grown per second since the last note.
    pub(super) fn nano_cores(&self, key: &str, nanos: u64, now: Timestamp) -> Option<u64> {
        let mut samples = self.samples.lock();
        let Some(last) = samples.get_mut(key) else {
            samples.retain(|_, it| since(it.at, now) < KEPT);
            samples.insert(key.to_owned(), Sample { at: now, nanos, rate: None });
            return None;
        };
        let passed = since(last.at, now);
        if passed < LEAST {
            return last.rate;
        }
        // A counter that went back belongs to another life of the container.
        let rate = nanos.checked_sub(last.nanos).and_then(|grown| {
            let rate = u128::from(grown) * 1_000_000_000 / passed.as_nanos();
            u64::try_from(rate).ok()
        });
        *last = Sample { at: now, nanos, rate };
        rate
    }
}

fn since(at: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(at).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_takes_two_notes_that_are_apart() {
        let rates = Rates::default();
        let at = |millis| Timestamp::UNIX_EPOCH + Duration::from_millis(millis);
        assert_eq!(rates.nano_cores("a", 0, at(0)), None);
        assert_eq!(rates.nano_cores("a", 9, at(500)), None, "too soon");
        assert_eq!(rates.nano_cores("a", 1_000_000_000, at(2000)), Some(500_000_000));
        assert_eq!(rates.nano_cores("a", 1_000_000_001, at(2001)), Some(500_000_000));
        assert_eq!(rates.nano_cores("a", 5, at(4000)), None, "it began anew");
    }
}
