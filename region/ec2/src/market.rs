//! The market of Spot Instances: what each type costs where, and when there is none.
//!
//! All follows from a seed and the time, so that what has happened can be made to happen again. A
//! price holds for six hours; it is between a quarter and two thirds of the On-Demand price, as AWS's
//! mostly are, and each type has its own level in each zone. Capacity is without end, unless the region was given
//! a seed: then in each hour one in twenty pools (a type in a zone) has none, and who runs there is
//! interrupted.

use instance_types::InstanceType;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

/// How long a price holds, in seconds.
const PRICE_PERIOD: i64 = 6 * 3600;
/// How long a pool has capacity, or has none.
const CAPACITY_PERIOD: i64 = 3600;
/// The share of pools without capacity.
const SHORTAGE: f64 = 0.05;
/// The least that a type costs of its On-Demand price, and how much more it may be.
const LEAST: f64 = 0.28;
const SPREAD: f64 = 0.32;
/// By how much a price goes up and down.
const SWING: f64 = 0.1;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Market {
    seed: u64,
    is_scarce: bool,
}

/// A stretch of time in which nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    number: i64,
    length: i64,
}

impl Period {
    fn at(at: Timestamp, length: i64) -> Self {
        Self { number: at.as_second().div_euclid(length), length }
    }

    pub(crate) fn of_prices(at: Timestamp) -> Self {
        Self::at(at, PRICE_PERIOD)
    }

    pub(crate) fn begin(self) -> Timestamp {
        Timestamp::from_second(self.number.saturating_mul(self.length)).unwrap_or(Timestamp::MIN)
    }

    pub(crate) fn before(self) -> Self {
        Self { number: self.number - 1, ..self }
    }
}

impl Market {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self { seed: seed.unwrap_or(0), is_scarce: seed.is_some() }
    }

    /// US dollars per hour; `None` where the type is not sold.
    pub(crate) fn price(self, facts: &InstanceType, zone: &str, at: Timestamp) -> Option<f64> {
        self.price_in(facts, zone, Period::of_prices(at))
    }

    pub(crate) fn price_in(self, facts: &InstanceType, zone: &str, period: Period) -> Option<f64> {
        let on_demand = facts.price?;
        let level = LEAST + SPREAD * self.draw("level", facts.name, zone, 0);
        let swing = 1.0 + SWING * (2.0 * self.draw("price", facts.name, zone, period.number) - 1.0);
        // Prices have six digits after the point.
        Some((on_demand * level * swing * 1e6).round() / 1e6)
    }

    /// Whether the pool has room at that time.
    pub(crate) fn has_capacity(self, kind: &str, zone: &str, at: Timestamp) -> bool {
        let period = Period::at(at, CAPACITY_PERIOD);
        !self.is_scarce || self.draw("capacity", kind, zone, period.number) >= SHORTAGE
    }

    /// When capacity may be another; never where it has no end.
    pub(crate) fn next_change(self, now: Timestamp) -> Option<Timestamp> {
        let length = SignedDuration::from_secs(CAPACITY_PERIOD);
        self.is_scarce.then(|| Period::at(now, CAPACITY_PERIOD).begin() + length)
    }

    /// Evenly from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "the low bits of a random number do not matter")]
    fn draw(self, what: &str, kind: &str, zone: &str, number: i64) -> f64 {
        let text = format!("{}/{what}/{kind}/{zone}/{number}", self.seed);
        let digest = Sha256::digest(text);
        let bytes: [u8; 8] = std::array::from_fn(|at| digest[at]);
        (u64::from_be_bytes(bytes) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    #[test]
    fn a_seed_says_what_everything_costs_and_when() {
        let facts = instance_types::find("m5.large").unwrap();
        let (one, other) = (Market::new(Some(1)), Market::new(Some(2)));
        let price =
            |market: Market, zone: &str, hours| market.price(facts, zone, at(hours)).unwrap();
        assert_eq!(price(one, "a", 0).to_bits(), price(one, "a", 5).to_bits());
        for (what, another) in [
            ("time", price(one, "a", 6)),
            ("zone", price(one, "b", 0)),
            ("seed", price(other, "a", 0)),
        ] {
            assert!((another - price(one, "a", 0)).abs() > 1e-9, "{what}");
        }
        let on_demand = facts.price.unwrap();
        for hours in 0..100 {
            let share = price(one, "a", hours * 6) / on_demand;
            assert!((0.25..0.67).contains(&share), "{share} at {hours}");
        }
    }

    #[test]
    fn one_pool_in_twenty_is_empty_and_only_where_a_seed_was_given() {
        let count = |market: Market| {
            let hours = 0..2000;
            hours.filter(|it| !market.has_capacity("m5.large", "a", at(*it))).count()
        };
        let empty = count(Market::new(Some(7)));
        assert!((60..140).contains(&empty), "{empty} of 2000");
        assert_eq!(count(Market::new(None)), 0);
        assert_eq!(Market::new(None).next_change(at(1)), None);
        let later = at(1) + SignedDuration::from_mins(59);
        assert_eq!(Market::new(Some(7)).next_change(later), Some(at(2)));
    }
}
