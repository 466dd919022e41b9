//! Places all pods of a batch: first-fit decreasing, as upstream, and then cheaper where that can be.
//!
//! Upstream's order is by CPU, then memory, both largest first. A pod that finds no place gives up a
//! preference and goes to the end of the queue; the queue ends when a whole round places nobody.
//! [`solve`] then tries a few other ways to choose among the same places, over all types and over
//! those that the lower bound is made of, and keeps the cheapest outcome that leaves no more pods
//! over: never dearer than first-fit decreasing.

use std::collections::VecDeque;

use crate::{
    bits::Bits,
    bound,
    catalog::number,
    class,
    engine::{ClassId, Engine},
    explain::{self, Miss},
    outcome::{NewClaim, Outcome, Spelled, Unschedulable},
    place::{self, Choice},
    state::State,
    world::World,
};

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// First-fit decreasing alone.
    FirstFit,
    /// And what may be cheaper.
    Improve,
}

/// Which nodes to make for the world's pods, and which pods go to nodes that there are.
pub fn solve(world: World, effort: Effort) -> Outcome {
    let mut engine = Engine::new(world);
    let pods = std::mem::take(&mut engine.world.pods);
    let base = Batch::new(&mut engine, &pods);
    let start = State::new(&engine);
    let barren = explain::barren(&engine);
    Outcome { barren, ..base.solve(&mut engine, &start, effort) }
}

/// Pods to be placed together, with their classes.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    classes: Vec<ClassId>,
    /// Why a pod cannot be considered at all.
    ignored: Vec<(u32, String)>,
    order: Vec<u32>,
}

/// Where everybody went.
pub(crate) struct Placement {
    pub(crate) state: State,
    /// With the class at which each was given up.
    pub(crate) left_over: Vec<(u32, ClassId)>,
}

impl Batch {
    pub(crate) fn new(engine: &mut Engine, pods: &[class::Shared]) -> Self {
        Self::after(engine, &[], pods)
    }

    /// Of pods that come after others, whose classes these are and which have their places.
    pub(crate) fn after(engine: &mut Engine, before: &[ClassId], pods: &[class::Shared]) -> Self {
        let mut classes = before.to_vec();
        classes.extend(pods.iter().map(|it| engine.class_of(it)));
        let mut ignored = Vec::new();
        let mut order = Vec::new();
        let first = number(before.len());
        for (at, pod) in (first..).zip(pods.iter()) {
            match class::unsatisfiable(pod) {
                Some(why) => ignored.push((at, why)),
                None => order.push(at),
            }
        }
        order.sort_by(|a, b| {
            let (a, b) = (&pods[(*a - first) as usize], &pods[(*b - first) as usize]);
            b.requests
                .cpu_millis
                .cmp(&a.requests.cpu_millis)
                .then(b.requests.memory.cmp(&a.requests.memory))
                .then(a.started.cmp(&b.started))
                .then_with(|| a.uid.cmp(&b.uid))
        });
        Self { classes, ignored, order }
    }

    /// Of the pods before it, and then of its own.
    pub(crate) fn classes(&self) -> &[ClassId] {
        &self.classes
    }

    /// Pods that cannot be considered at all, and why.
    pub(crate) fn ignored(&self) -> &[(u32, String)] {
        &self.ignored
    }

    /// Places all pods in one way, into a copy of `start`.
    pub(crate) fn place(&self, engine: &mut Engine, start: &State, choice: Choice) -> Placement {
        let mut state = start.clone();
        let mut queue: VecDeque<(u32, ClassId, u64)> =
            self.order.iter().map(|it| (*it, self.classes[*it as usize], u64::MAX)).collect();
        // How often something has changed that may let a pod in that was refused.
        let mut progress = 0_u64;
        while let Some((pod, class, refused_at)) = queue.pop_front() {
            if refused_at == progress {
                queue.push_front((pod, class, refused_at));
                break;
            }
            if place::place(engine, &mut state, pod, class, choice).is_some() {
                progress += 1;
                continue;
            }
            match engine.relaxed(class) {
                Some(next) => {
                    progress += 1;
                    queue.push_back((pod, next, u64::MAX));
                }
                None => queue.push_back((pod, class, progress)),
            }
        }
        let left_over = queue.into_iter().map(|(pod, class, _)| (pod, class)).collect();
        Placement { state, left_over }
    }

    pub(crate) fn solve(&self, engine: &mut Engine, start: &State, effort: Effort) -> Outcome {
        let first = self.place(engine, start, Choice::FewestPods);
        let first_fit = cost(engine, &first.state);
        let bound = bound::lower(engine, start, &first);
        let first_fit_left_over = first.left_over.len();
        let mut best = first;
        let mut best_cost = first_fit;
        if effort == Effort::Improve && !best.state.claims.is_empty() {
            for (choice, is_narrow) in [
                (Choice::LeastPrice, false),
                (Choice::FewestPods, true),
                (Choice::LeastPrice, true),
            ] {
                if best_cost <= bound.price * 1.000_001 {
                    break;
                }
                let kept = is_narrow.then(|| engine.narrow(&bound.support));
                let other = self.place(engine, start, choice);
                let other_cost = cost(engine, &other.state);
                if let Some(kept) = kept {
                    engine.widen(kept);
                }
                let (a, b) = (other.left_over.len(), best.left_over.len());
                if a < b || (a == b && other_cost < best_cost - 1e-9) {
                    (best, best_cost) = (other, other_cost);
                }
            }
        }
        // The bound is for the pods that have a place.
        let lower_bound = match first_fit_left_over {
            0 => bound.price,
            _ => bound::lower(engine, start, &best).price,
        };
        let outcome = self.outcome(engine, &best);
        Outcome { first_fit_price: first_fit, first_fit_left_over, lower_bound, ..outcome }
    }

    fn outcome(&self, engine: &mut Engine, placement: &Placement) -> Outcome {
        let state = &placement.state;
        let mut spelled = Spelled::default();
        let claims: Vec<NewClaim> =
            state.claims.iter().map(|it| NewClaim::new(engine, it, &mut spelled)).collect();
        let mut existing = Vec::new();
        let mut order = Vec::new();
        for (pod, _, place) in &state.placed {
            order.push(*pod as usize);
            if *place < state.nodes.len() {
                existing.push((*pod as usize, *place));
            }
        }
        let mut unschedulable: Vec<Unschedulable> = Vec::new();
        for (pod, why) in &self.ignored {
            let misses = Vec::new();
            unschedulable.push(Unschedulable { pod: *pod as usize, reason: why.clone(), misses });
        }
        let mut known: Vec<(ClassId, Vec<Miss>)> = Vec::new();
        for (pod, class) in &placement.left_over {
            let misses = match known.iter().find(|(it, _)| it == class) {
                Some((_, misses)) => misses.clone(),
                None => {
                    let misses = explain::misses(engine, state, *class);
                    known.push((*class, misses.clone()));
                    misses
                }
            };
            let reason = explain::nearest(&misses);
            unschedulable.push(Unschedulable { pod: *pod as usize, reason, misses });
        }
        unschedulable.sort_by_key(|it| it.pod);
        Outcome {
            price: claims.iter().map(NewClaim::price).sum(),
            claims,
            existing,
            order,
            unschedulable,
            ..Outcome::default()
        }
    }
}

/// What the new nodes cost together, each at its cheapest option.
pub(crate) fn cost(engine: &Engine, state: &State) -> f64 {
    state.claims.iter().map(|it| engine.catalogs[it.pool].price(&it.options)).sum()
}

impl Engine {
    /// Leaves only these options to new nodes. Returns what there was.
    fn narrow(&mut self, to: &[Bits]) -> Vec<Bits> {
        let kept = (0..self.catalogs.len()).map(|pool| self.set(pool, 0).options.clone()).collect();
        for (pool, options) in to.iter().enumerate() {
            let mut narrow = self.set(pool, 0).options.clone();
            // A pool that the bound does not use keeps all it has: some pods may fit nowhere else.
            if narrow.keep(options) {
                self.set_base(pool, narrow);
            }
        }
        kept
    }

    fn widen(&mut self, kept: Vec<Bits>) {
        for (pool, options) in kept.into_iter().enumerate() {
            self.set_base(pool, options);
        }
    }
}
