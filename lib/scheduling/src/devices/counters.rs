//! What is left of the counters that the devices of a pool share: a device that is part of a larger one
//! can be had as long as the other parts leave enough.
//!
//! Upstream: `checkAvailableCounters`, KEP-4815.

use std::collections::{BTreeMap, BTreeSet};

use resources::Quantity;

use super::{Inventory, Offer, capacity::parse, taken::Taken};

/// A counter that the devices of a pool share: driver, pool, set and counter.
type Counter<'a> = (&'a str, &'a str, &'a str, &'a str);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Counters<'a> {
    left: BTreeMap<Counter<'a>, Quantity>,
}

impl<'a> Counters<'a> {
    /// Of the pools that these offers are from.
    pub(super) fn new(inventory: &Inventory<'a>, offers: &[Offer<'a>], taken: &Taken) -> Self {
        let mut counters = Self::default();
        let with = offers.iter().filter(|it| it.consumes().next().is_some());
        let pools: BTreeSet<_> = with.map(Offer::pool).collect();
        for pool in pools {
            for slice in inventory
                .slices
                .iter()
                .map(|it| &it.spec)
                .filter(|it| (it.driver.as_str(), it.pool.name.as_str()) == pool)
            {
                for set in slice.shared_counters.iter().flatten() {
                    for (name, counter) in &set.counters {
                        let left = counters.left.entry((pool.0, pool.1, &set.name, name));
                        let left = left.or_default();
                        *left = left.plus(parse(&counter.value).unwrap_or_default());
                    }
                }
            }
            for offer in inventory.of_pool(pool).filter(|it| taken.is_used(&it.id())) {
                counters.subtract(&offer);
            }
        }
        counters
    }

    fn subtract(&mut self, offer: &Offer<'a>) {
        for (counter, amount) in offer.consumes() {
            let left = self.left.entry(counter).or_default();
            *left = left.minus(amount);
        }
    }

    /// Whether a device can be had beside those that are picked (each named once).
    pub(super) fn allow<'b>(
        &self,
        offer: &Offer<'a>,
        picked: impl Iterator<Item = &'b Offer<'a>> + Clone,
    ) -> bool
    where
        'a: 'b,
    {
        offer.consumes().all(|(counter, amount)| {
            let others = picked.clone().flat_map(Offer::consumes);
            let others = others.filter(|(other, _)| *other == counter);
            let wanted = others.fold(amount, |sum, (_, it)| sum.plus(it));
            self.left.get(&counter).is_some_and(|left| wanted <= *left)
        })
    }
}

impl<'a> Offer<'a> {
    fn pool(&self) -> (&'a str, &'a str) {
        (self.spec.driver.as_str(), self.spec.pool.name.as_str())
    }

    fn consumes(&self) -> impl Iterator<Item = (Counter<'a>, Quantity)> + use<'a> {
        let (driver, pool) = self.pool();
        self.device.consumes_counters.iter().flatten().flat_map(move |set| {
            let counters = set.counters.iter();
            counters.filter_map(move |(name, counter)| {
                let counter_of = (driver, pool, set.counter_set.as_str(), name.as_str());
                Some((counter_of, parse(&counter.value)?))
            })
        })
    }
}
