//! How often EC2 may be called: a bucket of tokens for each action, as AWS has for each account and
//! region. A call takes one; what comes while there is none is refused with `RequestLimitExceeded`.
//!
//! Upstream: "Request throttling for the Amazon EC2 API".
//! Deviation: the buckets of the categories alone, none of the larger or smaller ones that single
//! actions have; the number of resources that a call makes does not count.

use std::collections::HashMap;

use clock::Clock;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

/// What a call takes, so that tokens come by the nanosecond: however fast a client asks, no part is lost.
const TOKEN: u64 = 1_000_000_000;
/// How the names of actions begin that change nothing.
const READING: [&str; 4] = ["Describe", "Get", "List", "Search"];

/// Tokens at most, and new ones in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    most: u64,
    per_second: u64,
}

/// The account's buckets.
#[derive(Debug)]
pub(crate) struct Rates {
    clock: Clock,
    /// By action, and whether everything was asked for at once.
    buckets: Mutex<HashMap<(String, bool), Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u64,
    at: Timestamp,
}

impl Rates {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, buckets: Mutex::default() }
    }

    /// Whether this call may be made; if so, it counts.
    pub(crate) fn admit(&self, action: &str, parameters: &Value) -> bool {
        let is_reading = READING.iter().any(|it| action.starts_with(it));
        let is_of_all = is_reading && parameters.as_object().is_none_or(serde_json::Map::is_empty);
        let size = match (is_reading, is_of_all) {
            (true, false) => Size { most: 100, per_second: 20 },
            (true, true) => Size { most: 50, per_second: 10 },
            (false, _) => Size { most: 50, per_second: 5 },
        };
        let now = self.clock.now();
        let mut buckets = self.buckets.lock();
        let full = Bucket { left: size.most * TOKEN, at: now };
        let bucket = buckets.entry((action.to_owned(), is_of_all)).or_insert(full);
        bucket.fill(size, now);
        let is_admitted = bucket.left >= TOKEN;
        if is_admitted {
            bucket.left -= TOKEN;
        }
        is_admitted
    }
}

impl Bucket {
    fn fill(&mut self, size: Size, now: Timestamp) {
        let passed = u64::try_from(now.duration_since(self.at).as_nanos()).unwrap_or(0);
        let more = passed.saturating_mul(size.per_second);
        self.left = self.left.saturating_add(more).min(size.most * TOKEN);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn admitted(rates: &Rates, action: &str, parameters: &Value) -> usize {
        (0..1000).take_while(|_| rates.admit(action, parameters)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn each_action_has_a_bucket_that_fills_by_its_kind() {
        let rates = Rates::new(Clock::simulated(Timestamp::UNIX_EPOCH));
        let (some, all) = (json!({ "MaxResults": 5 }), json!({}));
        assert_eq!(admitted(&rates, "DescribeSubnets", &some), 100);
        assert_eq!(admitted(&rates, "DescribeVpcs", &some), 100, "another action's");
        assert_eq!(admitted(&rates, "DescribeSubnets", &all), 50, "all at once: a smaller one");
        assert_eq!(admitted(&rates, "CreateNetworkInterface", &all), 50);
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(admitted(&rates, "DescribeSubnets", &some), 30);
        assert_eq!(admitted(&rates, "CreateNetworkInterface", &some), 7);
        // Half a token was left; and no bucket grows beyond its size.
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(admitted(&rates, "CreateNetworkInterface", &some), 1);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(admitted(&rates, "DescribeSubnets", &some), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_rests_gets_what_its_bucket_gets() {
        let rates = Rates::new(Clock::simulated(Timestamp::UNIX_EPOCH));
        let some = json!({ "MaxResults": 5 });
        let mut admitted = 0;
        for _call in 0..4000 {
            admitted += usize::from(rates.admit("DescribeSubnets", &some));
            tokio::time::advance(Duration::from_micros(500)).await;
        }
        assert!((139..=140).contains(&admitted), "100, and 20 in each of two seconds: {admitted}");
    }
}
