//! Finds the NUMA nodes that suit all resources best.
//!
//! Upstream: `HintMerger` in `pkg/kubelet/cm/topologymanager/policy.go`.

use std::cmp::Ordering;

use super::{
    hint::{Hint, NumaMask, Wish},
    numa::Numa,
};

/// How two sets of nodes are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Narrowest,
    Closest,
}

/// The lists to choose from, one per resource.
pub(super) fn lists(wishes: &[Wish]) -> Vec<Vec<Hint>> {
    let any = |is_preferred| vec![Hint { affinity: None, is_preferred }];
    wishes
        .iter()
        .map(|it| match it {
            Wish::Indifferent => any(true),
            Wish::OneOf(hints) if hints.is_empty() => any(false),
            Wish::OneOf(hints) => hints.clone(),
        })
        .collect()
}

/// The best of all combinations of one hint per resource.
pub(super) fn merge(numa: &Numa, lists: &[Vec<Hint>], fit: Fit) -> Hint {
    let all = numa.all();
    let merger = Merger { numa, fit, goal: goal(lists) };
    let mut best: Option<Hint> = None;
    each_combination(lists, &mut Vec::new(), &mut |combination| {
        let candidate = merged(all, combination);
        best = merger.better(best, candidate);
    });
    best.unwrap_or(Hint { affinity: Some(all), is_preferred: false })
}

fn each_combination(lists: &[Vec<Hint>], chosen: &mut Vec<Hint>, visit: &mut impl FnMut(&[Hint])) {
    let Some((first, rest)) = lists.split_first() else {
        visit(chosen);
        return;
    };
    for hint in first {
        chosen.push(*hint);
        each_combination(rest, chosen, visit);
        chosen.pop();
    }
}

/// The nodes that all have in common; preferred only where all want the very same nodes.
fn merged(all: NumaMask, hints: &[Hint]) -> Hint {
    let affinities: Vec<_> = hints.iter().filter_map(|it| it.affinity).collect();
    let is_same = affinities.windows(2).all(|pair| pair[0] == pair[1]);
    Hint {
        affinity: Some(affinities.into_iter().fold(all, NumaMask::and)),
        is_preferred: is_same && hints.iter().all(|it| it.is_preferred),
    }
}

/// How many nodes the resource takes that needs the most, at least.
fn goal(lists: &[Vec<Hint>]) -> u32 {
    let least =
        |hints: &Vec<Hint>| hints.iter().filter_map(|it| it.affinity).map(NumaMask::count).min();
    lists.iter().filter_map(least).max().unwrap_or(0)
}

struct Merger<'a> {
    numa: &'a Numa,
    fit: Fit,
    goal: u32,
}

impl Merger<'_> {
    fn better(&self, current: Option<Hint>, candidate: Hint) -> Option<Hint> {
        let mask = candidate.affinity.unwrap_or_default();
        if mask.count() == 0 {
            return current;
        }
        let Some(current) = current else { return Some(candidate) };
        let wins = match (current.is_preferred, candidate.is_preferred) {
            (false, true) => true,
            (true, false) => false,
            (true, true) => self.is_fitter(candidate, current),
            (false, false) => self.is_nearer_to_goal(candidate, current),
        };
        Some(if wins { candidate } else { current })
    }

    fn is_fitter(&self, candidate: Hint, current: Hint) -> bool {
        let (candidate, current) = (mask(candidate), mask(current));
        match self.fit {
            Fit::Narrowest => candidate.is_narrower_than(current),
            Fit::Closest => self.numa.is_closer(candidate, current),
        }
    }

    /// Of two that nobody prefers: as many nodes as the neediest resource takes, or a little less.
    fn is_nearer_to_goal(&self, candidate: Hint, current: Hint) -> bool {
        let (new, old) = (mask(candidate).count(), mask(current).count());
        match old.cmp(&self.goal) {
            Ordering::Greater => self.is_fitter(candidate, current),
            Ordering::Equal => new == self.goal && self.is_fitter(candidate, current),
            Ordering::Less if new > self.goal => false,
            Ordering::Less => match new.cmp(&old) {
                Ordering::Greater => true,
                Ordering::Less => false,
                Ordering::Equal => self.is_fitter(candidate, current),
            },
        }
    }
}

fn mask(hint: Hint) -> NumaMask {
    hint.affinity.unwrap_or_default()
}
