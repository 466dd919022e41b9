//! Which thresholds are met, for how long, and what follows.
//!
//! Pure: told the observations and the time.
//!
//! Upstream: `synchronize` in `pkg/kubelet/eviction/eviction_manager.go`.
//!
//! **Invariant:** a threshold that was met stays met until its minimum reclaim is free again.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{
    observe::Observations,
    signal::{Resource, Signal},
    threshold::Threshold,
};
use crate::node::Pressure;

pub(super) struct Manager {
    thresholds: Vec<Threshold>,
    transition: Duration,
    /// By the threshold's place.
    first_observed: HashMap<usize, Instant>,
    is_met: Vec<bool>,
    last_pressed: [Option<Instant>; 3],
}

/// What a round has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub pressure: Pressure,
    /// The thresholds that ask for action now, the most urgent first.
    pub reclaim: Vec<Threshold>,
}

impl Manager {
    pub(super) fn new(thresholds: Vec<Threshold>, transition: Duration) -> Self {
        let is_met = vec![false; thresholds.len()];
        Self {
            thresholds,
            transition,
            first_observed: HashMap::new(),
            is_met,
            last_pressed: [None; 3],
        }
    }

    pub(super) fn thresholds(&self) -> &[Threshold] {
        &self.thresholds
    }

    /// Nothing was met in the last round.
    pub(super) fn is_quiet(&self) -> bool {
        !self.is_met.contains(&true)
    }

    pub(super) fn step(&mut self, observed: &Observations, now: Instant) -> Step {
        let crossed: Vec<usize> = (0..self.thresholds.len())
            .filter(|at| {
                let threshold = &self.thresholds[*at];
                is_below(threshold, observed, Threshold::limit)
                    || (self.is_met[*at] && is_below(threshold, observed, Threshold::goal))
            })
            .collect();
        self.first_observed.retain(|at, _| crossed.contains(at));
        let mut due = Vec::new();
        self.is_met.fill(false);
        for at in &crossed {
            let since = *self.first_observed.entry(*at).or_insert(now);
            if now.duration_since(since) >= self.thresholds[*at].grace {
                self.is_met[*at] = true;
                due.push(self.thresholds[*at].clone());
            }
        }
        // Memory before everything else; otherwise in the order of the configuration.
        due.sort_by_key(|it| !matches!(it.signal, Signal::Memory | Signal::AllocatableMemory));
        let pressure = self.pressure(&crossed, now);
        Step { pressure, reclaim: due }
    }

    fn pressure(&mut self, crossed: &[usize], now: Instant) -> Pressure {
        for at in crossed {
            let index = match self.thresholds[*at].signal.resource() {
                Resource::Memory => 0,
                Resource::Disk | Resource::Inodes => 1,
                Resource::Pids => 2,
            };
            self.last_pressed[index] = Some(now);
        }
        let held = |last: Option<Instant>| {
            last.is_some_and(|it| it == now || now.duration_since(it) < self.transition)
        };
        let [memory, disk, pids] = self.last_pressed.map(held);
        Pressure { memory, disk, pids, filling: false }
    }

    /// Whether all that is free now is enough for every threshold and its minimum reclaim.
    pub(super) fn is_satisfied(&self, observed: &Observations) -> bool {
        !self.thresholds.iter().any(|it| is_below(it, observed, Threshold::goal))
    }
}

fn is_below(
    threshold: &Threshold,
    observed: &Observations,
    amount: impl Fn(&Threshold, i64) -> i64,
) -> bool {
    let Some(it) = observed.signals.get(&threshold.signal) else { return false };
    it.available < amount(threshold, it.capacity)
}

#[cfg(test)]
mod tests {
    use super::{super::observe::Observation, *};

    fn threshold(signal: Signal, value: &str, grace: u64, reclaim: Option<&str>) -> Threshold {
        Threshold {
            signal,
            value: value.to_owned(),
            grace: Duration::from_secs(grace),
            minimum_reclaim: reclaim.map(str::to_owned),
        }
    }

    fn observed(memory: i64, disk: i64) -> Observations {
        let of = |available| Observation { available, capacity: 1000 };
        let signals = [(Signal::Memory, of(memory)), (Signal::NodeFs, of(disk))].into();
        Observations { signals, ..Observations::default() }
    }

    #[test]
    fn a_hard_threshold_acts_at_once_and_exactly_below_it() {
        let hard = threshold(Signal::Memory, "100", 0, None);
        let mut manager = Manager::new(vec![hard], Duration::from_secs(300));
        let now = Instant::now();
        assert!(manager.step(&observed(100, 1000), now).reclaim.is_empty());
        assert!(manager.is_quiet());
        let step = manager.step(&observed(99, 1000), now);
        assert_eq!(step.reclaim.len(), 1);
        assert!(step.pressure.memory && !step.pressure.disk);
    }

    #[test]
    fn a_soft_threshold_presses_at_once_and_acts_after_its_grace() {
        let soft = threshold(Signal::Memory, "50%", 60, None);
        let mut manager = Manager::new(vec![soft], Duration::from_secs(300));
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let step = manager.step(&observed(400, 1000), at(0));
        assert!(step.pressure.memory && step.reclaim.is_empty());
        assert!(manager.step(&observed(400, 1000), at(59)).reclaim.is_empty());
        assert_eq!(manager.step(&observed(400, 1000), at(60)).reclaim.len(), 1);
        assert!(manager.step(&observed(600, 1000), at(70)).reclaim.is_empty());
        assert!(manager.step(&observed(400, 1000), at(80)).reclaim.is_empty(), "it counts anew");
    }

    #[test]
    fn pressure_outlives_its_cause_by_the_transition_period() {
        let hard = threshold(Signal::NodeFs, "10%", 0, None);
        let mut manager = Manager::new(vec![hard], Duration::from_secs(300));
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(manager.step(&observed(1000, 99), at(0)).pressure.disk);
        assert!(manager.step(&observed(1000, 500), at(299)).pressure.disk);
        assert!(!manager.step(&observed(1000, 500), at(300)).pressure.disk);
    }

    #[test]
    fn what_was_met_stays_met_until_the_minimum_is_reclaimed() {
        let hard = threshold(Signal::Memory, "100", 0, Some("50"));
        let mut manager = Manager::new(vec![hard], Duration::from_secs(300));
        let now = Instant::now();
        assert!(manager.step(&observed(120, 1000), now).reclaim.is_empty());
        assert_eq!(manager.step(&observed(90, 1000), now).reclaim.len(), 1);
        assert_eq!(manager.step(&observed(149, 1000), now).reclaim.len(), 1);
        assert!(!manager.is_satisfied(&observed(149, 1000)));
        assert!(manager.step(&observed(150, 1000), now).reclaim.is_empty());
    }

    #[test]
    fn memory_is_reclaimed_before_disk() {
        let both = vec![
            threshold(Signal::NodeFs, "10%", 0, None),
            threshold(Signal::Memory, "10%", 0, None),
        ];
        let mut manager = Manager::new(both, Duration::ZERO);
        let step = manager.step(&observed(1, 1), Instant::now());
        let order: Vec<_> = step.reclaim.iter().map(|it| it.signal).collect();
        assert_eq!(order, [Signal::Memory, Signal::NodeFs]);
    }
}
