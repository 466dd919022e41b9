//! What it would take to be without some nodes, tried on a copy of the state.
//!
//! Pods that wait have their places found once, for all trials: only where one of them is to be on a
//! node that goes are they packed anew.

use std::collections::BTreeSet;

use super::{Candidate, Destination, Fleet};
use crate::{
    class::Shared,
    engine::{ClassId, Engine},
    explain,
    outcome::{NewClaim, Spelled},
    place::Choice,
    solve::Batch,
    state::{Claim, Place, State},
};

/// What a simulation has shown.
pub(super) struct Trial {
    pub(super) replacements: Vec<NewClaim>,
    pub(super) moves: Vec<(String, Destination)>,
    /// New nodes for pods that wait alone.
    pub(super) others: usize,
}

/// Pods that would have no place, and what each lacks.
pub(super) struct NoPlace(Vec<(String, Lack)>);

enum Lack {
    /// Nothing has room for a pod of that class.
    Room(ClassId),
    Said(String),
}

/// Pods that a sentence names (upstream's).
const MOST_NAMED: usize = 5;

/// Of the pods without a node those that have a place as things are, and the state in which they are
/// there.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) pods: Vec<Shared>,
    classes: Vec<ClassId>,
    settled: State,
    /// Nodes that there are, on which they would be.
    on: BTreeSet<Place>,
}

impl Waiting {
    pub(super) fn new(engine: &mut Engine, start: &State, pending: Vec<Shared>) -> Self {
        let batch = Batch::new(engine, &pending);
        let placed = batch.place(engine, start, Choice::FewestPods).state.placed;
        let pods: Vec<Shared> =
            placed.iter().map(|(pod, ..)| pending[*pod as usize].clone()).collect();
        // The same again, by their places among those that have one.
        let batch = Batch::new(engine, &pods);
        let mut settled = batch.place(engine, start, Choice::FewestPods).state;
        let nodes = settled.nodes.len();
        let on = settled.placed.iter().map(|(.., place)| *place).filter(|it| *it < nodes);
        let on = on.collect();
        // A node that goes may be what had kept others off a place.
        settled.forget_refusals();
        Self { classes: batch.classes().to_vec(), pods, settled, on }
    }
}

impl Fleet {
    /// What it takes to be without these nodes, or which pods would have no place.
    pub(super) fn without(&mut self, nodes: &[Candidate]) -> Result<Trial, NoPlace> {
        let places = nodes.iter().filter_map(|it| self.places.get(&it.name).copied());
        let places: Vec<Place> = places.collect();
        let moving: Vec<Shared> = nodes.iter().flat_map(|it| it.pods.iter().cloned()).collect();
        // Those that wait come first, in either way.
        let first = self.waiting.pods.len();
        let is_own = |pod: u32| (pod as usize) >= first;
        let (mut state, batch) = match places.iter().any(|it| self.waiting.on.contains(it)) {
            false => {
                let batch = Batch::after(&mut self.engine, &self.waiting.classes, &moving);
                (self.waiting.settled.clone(), batch)
            }
            true => {
                let all: Vec<Shared> = self.waiting.pods.iter().chain(&moving).cloned().collect();
                (self.start.clone(), Batch::new(&mut self.engine, &all))
            }
        };
        places.iter().for_each(|it| state.remove_node(&self.engine, *it));
        let placement = batch.place(&mut self.engine, &state, Choice::FewestPods);
        let name = |pod: u32| {
            let pod = &moving[pod as usize - first];
            format!("{}/{}", pod.namespace, pod.name)
        };
        let left_over = placement.left_over.iter().map(|(pod, class)| (*pod, Lack::Room(*class)));
        let ignored = batch.ignored().iter().map(|(pod, why)| (*pod, Lack::Said(why.clone())));
        let left = left_over.chain(ignored).filter(|(pod, _)| is_own(*pod));
        let left: Vec<_> = left.map(|(pod, lack)| (name(pod), lack)).collect();
        if !left.is_empty() {
            return Err(NoPlace(left));
        }
        let state = &placement.state;
        // Those that only hold pods that wait come anyway.
        let is_ours = |claim: &Claim| claim.pods.iter().any(|it| is_own(*it));
        let mut spelled = Spelled::default();
        let mut numbers = vec![None; state.claims.len()];
        let mut replacements = Vec::new();
        for (at, claim) in state.claims.iter().enumerate().filter(|(_, it)| is_ours(it)) {
            numbers[at] = Some(replacements.len());
            replacements.push(NewClaim::new(&self.engine, claim, &mut spelled));
        }
        let mut moves = Vec::new();
        for (pod, _, place) in state.placed.iter().filter(|(pod, ..)| is_own(*pod)) {
            let destination = match place.checked_sub(state.nodes.len()) {
                // Whatever it is on, it is one of ours.
                Some(claim) => numbers[claim].map(Destination::Replacement),
                None => {
                    let node = &self.engine.world.nodes[*place];
                    // A node that is not ready may never be.
                    if !node.is_initialized {
                        let why =
                            format!("would schedule against uninitialized node/{}", node.name);
                        return Err(NoPlace(vec![(name(*pod), Lack::Said(why))]));
                    }
                    Some(Destination::Node(node.name.clone()))
                }
            };
            moves.extend(destination.map(|it| (name(*pod), it)));
        }
        let others = state.claims.len() - replacements.len();
        Ok(Trial { replacements, moves, others })
    }

    /// In upstream's words.
    pub(super) fn sentence(&mut self, no_place: &NoPlace) -> String {
        let NoPlace(pods) = no_place;
        let named = pods.iter().take(MOST_NAMED).map(|(pod, lack)| {
            let why = match lack {
                Lack::Said(why) => why.clone(),
                Lack::Room(class) => self.missed(*class),
            };
            format!("{pod} => {why}")
        });
        let mut sentence =
            format!("Not all pods would schedule, {}", named.collect::<Vec<_>>().join(" "));
        if pods.len() > MOST_NAMED {
            sentence += &format!(" and {} other(s)", pods.len() - MOST_NAMED);
        }
        sentence
    }

    /// Pods of one class miss the same, whichever node they are to leave.
    fn missed(&mut self, class: ClassId) -> String {
        if let Some(known) = self.missed.get(&class) {
            return known.clone();
        }
        let misses = explain::misses(&mut self.engine, &self.start, class);
        let why = explain::nearest(&misses);
        self.missed.insert(class, why.clone());
        why
    }
}
