//! How fast nodes are emptied: one per zone and interval.
//!
//! Upstream: `--node-eviction-rate`.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;

/// When each zone lost its last node.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: HashMap<String, Timestamp>,
}

impl Pace {
    /// Takes the zone's turn, or says how long to wait for it.
    pub(super) fn take(
        &mut self,
        zone: &str,
        interval: Duration,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let next = self.last.get(zone).map_or(now, |it| *it + interval);
        if next > now {
            return Err(next.duration_since(now).try_into().unwrap_or(interval));
        }
        self.last.insert(zone.to_owned(), now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_zone_loses_one_node_in_its_interval() {
        let (mut pace, now) = (Pace::default(), Timestamp::UNIX_EPOCH);
        let [four, ten, hundred] = [4, 10, 100].map(Duration::from_secs);
        assert_eq!(pace.take("a", ten, now), Ok(()));
        assert_eq!(pace.take("b", ten, now), Ok(()));
        assert_eq!(pace.take("a", ten, now + four), Err(Duration::from_secs(6)));
        assert_eq!(pace.take("a", hundred, now + ten), Err(Duration::from_secs(90)));
        assert_eq!(pace.take("a", ten, now + ten), Ok(()));
    }
}
