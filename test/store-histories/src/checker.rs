//! Whether some order of a key's operations explains all answers, and keeps to time: what had ended
//! before another began comes before it.
//!
//! A search over what may come next, which remembers where it has been. Operations that change
//! nothing are taken as soon as they fit, where taking them hinders no other. An operation without
//! an answer is taken where it helps, or not at all.
//!
//! Source: Wing and Gong, "Testing and Verifying Concurrent Objects" (1993); Lowe, "Testing for
//! linearizability" (2017), for the memory of visited states. Keys are independent of each other
//! (locality, Herlihy and Wing 1990), so each is checked alone.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use crate::record::{Answer, Ask, Held, Operation};

/// No order explains the answers.
#[derive(Debug)]
pub struct Violation {
    pub key: String,
    /// How many operations were explained at best.
    pub explained: usize,
    /// What could not come next then.
    pub stuck: Vec<Operation>,
    /// What the key held then.
    pub held: Held,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, explained, stuck, held } = self;
        write!(
            f,
            "`{key}`: after {explained} operations it held {held:?}, and none fits: {stuck:?}"
        )
    }
}

/// Checks each key, which held nothing at first.
pub fn check(keys: &BTreeMap<String, Vec<Operation>>) -> Result<(), Violation> {
    keys.iter().try_for_each(|(key, operations)| Search::new(key, operations).run())
}

/// Which operations were taken, and what the key then holds.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    taken: Box<[u64]>,
    held: Held,
}

impl Place {
    fn has(&self, index: usize) -> bool {
        self.taken[index / 64] >> (index % 64) & 1 == 1
    }

    fn take(&mut self, index: usize, held: Held) {
        self.taken[index / 64] |= 1 << (index % 64);
        self.held = held;
    }

    fn count(&self) -> usize {
        self.taken.iter().map(|it| it.count_ones() as usize).sum()
    }
}

struct Search<'a> {
    key: &'a str,
    operations: Vec<Operation>,
    visited: HashSet<Place>,
    best: Place,
}

impl<'a> Search<'a> {
    fn new(key: &'a str, operations: &[Operation]) -> Self {
        // A read without an answer says nothing.
        let known = |it: &&Operation| it.answer.is_some() || it.ask != Ask::Read;
        let operations: Vec<Operation> = operations.iter().filter(known).copied().collect();
        let best = Place { taken: vec![0; operations.len().div_ceil(64)].into(), held: None };
        Self { key, operations, visited: HashSet::new(), best }
    }

    fn run(mut self) -> Result<(), Violation> {
        let mut open = vec![self.best.clone()];
        while let Some(mut place) = open.pop() {
            let mut candidates = self.settle(&mut place);
            if place.count() > self.best.count() {
                self.best = place.clone();
            }
            if self.is_explained(&place) {
                return Ok(());
            }
            if !self.visited.insert(place.clone()) {
                continue;
            }
            // What had ended first is tried first, and what was not answered last.
            candidates.sort_by_key(|it| {
                let operation = &self.operations[*it];
                std::cmp::Reverse((operation.answer.is_none(), operation.ended))
            });
            for index in candidates {
                let Some(held) = after(&self.operations[index], place.held) else { continue };
                let mut next = place.clone();
                next.take(index, held);
                open.push(next);
            }
        }
        let stuck = self.candidates(&self.best).into_iter().map(|it| self.operations[it]).collect();
        let (explained, held) = (self.best.count(), self.best.held);
        Err(Violation { key: self.key.to_owned(), explained, stuck, held })
    }

    /// Takes all that fits, changes nothing, and makes nothing too late; says what else may come next.
    fn settle(&self, place: &mut Place) -> Vec<usize> {
        loop {
            let candidates = self.candidates(place);
            let before = place.count();
            let open = candidates.iter().map(|it| &self.operations[*it]);
            let open = open.filter(|it| it.answer.is_none()).filter_map(|it| it.ended);
            let latest = open.min().unwrap_or(usize::MAX);
            for index in &candidates {
                let operation = &self.operations[*index];
                let is_harmless = is_idle(operation) && operation.began < latest;
                if is_harmless && after(operation, place.held).is_some() {
                    place.take(*index, place.held);
                }
            }
            if place.count() == before {
                return candidates;
            }
        }
    }

    /// What began before anything that is left had ended.
    fn candidates(&self, place: &Place) -> Vec<usize> {
        let left = || (0..self.operations.len()).filter(|it| !place.has(*it));
        let certain = left().map(|it| &self.operations[it]).filter(|it| it.answer.is_some());
        let first_end = certain.filter_map(|it| it.ended).min().unwrap_or(usize::MAX);
        let taken = (0..self.operations.len()).filter(|it| place.has(*it));
        let last_begin = taken.map(|it| self.operations[it].began).max().unwrap_or_default();
        let may_come = |index: &usize| {
            let operation = &self.operations[*index];
            // What must be over by a time can't come after what began later.
            let is_late = operation.ended.is_some_and(|it| it < last_begin);
            operation.began < first_end && !is_late
        };
        left().filter(may_come).collect()
    }

    fn is_explained(&self, place: &Place) -> bool {
        self.operations
            .iter()
            .enumerate()
            .all(|(index, it)| it.answer.is_none() || place.has(index))
    }
}

/// Whether taking it changes nothing.
fn is_idle(operation: &Operation) -> bool {
    matches!(operation.answer, Some(Answer::Found(_) | Answer::Refused))
}

/// What the key holds after the operation; `None` where its answer does not fit.
fn after(operation: &Operation, held: Held) -> Option<Held> {
    match (operation.ask, operation.answer) {
        (Ask::Read, Some(Answer::Found(found))) => (found == held).then_some(held),
        (Ask::Write(to), Some(Answer::Done) | None) => Some(to),
        (Ask::Swap { expected, to }, Some(Answer::Done) | None) => (expected == held).then_some(to),
        (Ask::Swap { expected, .. }, Some(Answer::Refused)) => (expected != held).then_some(held),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
