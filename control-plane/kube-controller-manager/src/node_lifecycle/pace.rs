//! How fast nodes are emptied: one per zone and ten seconds.
//!
//! Upstream: `--node-eviction-rate` (0.1 per second).

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;

const INTERVAL: Duration = Duration::from_secs(10);

/// When each zone may lose its next node.
#[derive(Debug, Default)]
pub(super) struct Pace {
    next: HashMap<String, Timestamp>,
}

impl Pace {
    /// Takes the zone's turn, or says how long to wait for it.
    pub(super) fn take(&mut self, zone: &str, now: Timestamp) -> Result<(), Duration> {
        let next = self.next.get(zone).copied().unwrap_or(now);
        if next > now {
            return Err(next.duration_since(now).try_into().unwrap_or(INTERVAL));
        }
        self.next.insert(zone.to_owned(), now + INTERVAL);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_zone_loses_one_node_in_ten_seconds() {
        let (mut pace, now) = (Pace::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(pace.take("a", now), Ok(()));
        assert_eq!(pace.take("b", now), Ok(()));
        assert_eq!(pace.take("a", now + Duration::from_secs(4)), Err(Duration::from_secs(6)));
        assert_eq!(pace.take("a", now + INTERVAL), Ok(()));
    }
}
