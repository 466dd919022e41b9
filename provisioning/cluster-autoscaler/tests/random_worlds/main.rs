//! Random worlds: whatever is decided, no group goes beyond its sizes and no cluster beyond its
//! limits; a pod that a group grows for would run there, and one that none grows for would not; a
//! node that goes was not needed for long enough, nothing keeps it, and its pods have another place.
//!
//! The validator is independent of the decisions: it shares no code with them, and none with the
//! scheduler's predicates.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use api_kube as _;

mod draw;
mod rules;
mod validator;

use cluster_autoscaler::{Registry, scale_down, scale_up};
use proptest::prelude::*;

use crate::draw::{Drawn, start};

fn grown(drawn: &Drawn) -> scale_up::ScaleUp {
    let (world, options) = (&drawn.world, &drawn.options);
    let mut registry = Registry::default();
    registry.observe(world, options, start());
    let (templates, cluster) = (drawn.templates(), drawn.cluster());
    let question = scale_up::Question {
        world,
        registry: &registry,
        options,
        priorities: None,
        templates: &templates,
        cluster: &cluster,
        now: start(),
        lot: drawn.lot,
    };
    scale_up::plan(question, &world.pending)
}

/// Passes half an hour apart, each with the memory of the one before; every plan.
fn shrunk(drawn: &Drawn) -> Vec<(scale_down::Memory, jiff::Timestamp, scale_down::ScaleDown)> {
    let mut memory = drawn.memory.clone();
    let mut plans = Vec::new();
    for pass in 0..3 {
        let now = start() + std::time::Duration::from_secs(1800 * pass);
        let question = scale_down::Question {
            world: &drawn.world,
            memory: &memory,
            options: &drawn.options,
            now,
        };
        let plan = scale_down::plan(question);
        plans.push((memory.clone(), now, plan.clone()));
        memory.unneeded = plan.unneeded;
        memory.rechecks = plan.rechecks;
    }
    plans
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn groups_grow_within_their_limits_for_pods_that_would_run_there(seed in any::<u64>()) {
        let drawn = draw::growing(seed);
        validator::growth(&drawn, &grown(&drawn)).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn nodes_go_that_nothing_keeps_and_whose_pods_have_another_place(seed in any::<u64>()) {
        let drawn = draw::shrinking(seed);
        for (memory, now, plan) in shrunk(&drawn) {
            validator::removals(&drawn, &memory, now, &plan).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn the_same_world_is_decided_in_the_same_way(seed in any::<u64>()) {
        let (growing, shrinking) = (draw::growing(seed), draw::shrinking(seed));
        prop_assert_eq!(format!("{:?}", grown(&growing)), format!("{:?}", grown(&growing)));
        let told = |drawn: &Drawn| {
            let plans = shrunk(drawn).into_iter().map(|(_, _, it)| format!("{it:?}"));
            plans.collect::<Vec<_>>()
        };
        prop_assert_eq!(told(&shrinking), told(&shrinking));
    }
}

/// Worlds in which nothing ever happens would show nothing.
#[test]
fn the_worlds_are_such_that_things_happen_and_are_kept_from_happening() {
    let mut seen = std::collections::BTreeMap::<&str, usize>::new();
    for seed in 0..400 {
        let drawn = draw::growing(seed);
        let plan = grown(&drawn);
        *seen.entry("grows").or_default() += usize::from(!plan.increases.is_empty());
        *seen.entry("helpless").or_default() += usize::from(!plan.helpless.is_empty());
        let is_at_most = |it: &scale_up::Increase| it.to == it.max;
        *seen.entry("at its most").or_default() +=
            usize::from(plan.increases.iter().any(is_at_most));
        let drawn = draw::shrinking(seed);
        for (_, _, plan) in shrunk(&drawn) {
            *seen.entry("empty").or_default() +=
                plan.removals.iter().filter(|it| !it.is_drain()).count();
            *seen.entry("drained").or_default() +=
                plan.removals.iter().filter(|it| it.is_drain()).count();
            for why in plan.unremovable.values() {
                *seen.entry(why.name()).or_default() += 1;
            }
        }
    }
    for wanted in [
        "grows",
        "helpless",
        "at its most",
        "empty",
        "drained",
        "BlockedByPod",
        "NoPlaceToMovePods",
        "NodeGroupMinSizeReached",
        "NotUnderutilized",
        "NotUnneededLongEnough",
        "NotAutoscaled",
        "MinimalResourceLimitExceeded",
        "ScaleDownDisabledAnnotation",
    ] {
        assert!(seen.get(wanted).is_some_and(|it| *it > 5), "{wanted}: {seen:?}");
    }
}
