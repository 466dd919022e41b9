//! How many addresses of each subnet were taken, and when: what a forecast is made of.
//!
//! A sample is noted whenever the number changes, at most one a second for each subnet, and kept for
//! [`KEPT`]. In memory: a region that starts again begins a new history.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use jiff::Timestamp;

use crate::state::State;

const KEPT: Duration = Duration::from_secs(6 * 3600);
const FINEST: Duration = Duration::from_secs(1);
const MOST: usize = 2048;

/// So many addresses were taken from then on (delegated prefixes count sixteen).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub at: Timestamp,
    pub taken: u32,
}

/// The samples of all subnets, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct History(BTreeMap<String, VecDeque<Sample>>);

impl History {
    /// Notes what is taken now.
    pub(crate) fn note(&mut self, state: &State, now: Timestamp) {
        let mut taken: BTreeMap<&str, u32> =
            state.subnets.iter().map(|it| (it.id.as_str(), 0)).collect();
        for eni in state.network_interfaces.iter() {
            let blocks = u32::try_from(eni.prefixes.len() * 16).unwrap_or(u32::MAX);
            let single = u32::try_from(eni.secondary_addresses.len()).unwrap_or(u32::MAX);
            if let Some(count) = taken.get_mut(eni.subnet_id.as_str()) {
                *count += 1 + single + blocks;
            }
        }
        self.0.retain(|subnet, _| taken.contains_key(subnet.as_str()));
        for (subnet, taken) in taken {
            self.add(subnet, Sample { at: now, taken });
        }
    }

    fn add(&mut self, subnet: &str, sample: Sample) {
        let samples = self.0.entry(subnet.to_owned()).or_default();
        let is_fresh =
            samples.len() > 1 && samples.back().is_some_and(|last| sample.at < last.at + FINEST);
        match samples.back_mut() {
            Some(last) if last.taken == sample.taken => return,
            // A burst is one step; the first sample stays, as what the burst began from.
            Some(last) if is_fresh => last.taken = sample.taken,
            _ => samples.push_back(sample),
        }
        while samples.len() > MOST || samples.front().is_some_and(|it| it.at + KEPT < sample.at) {
            samples.pop_front();
        }
    }

    pub(crate) fn of(&self, subnet: &str) -> Vec<Sample> {
        self.0.get(subnet).map(|it| it.iter().copied().collect()).unwrap_or_default()
    }
}
