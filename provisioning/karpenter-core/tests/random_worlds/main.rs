//! Random worlds: whatever is decided, no constraint is violated, no limit exceeded, and nothing is
//! dearer than first-fit decreasing or cheaper than the bound.
//!
//! The validator is independent of the solver: it makes Nodes of the answer, puts the pods on them
//! one after the other, and asks the scheduler's own predicates (`lib/scheduling`) each time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use api_kube as _;

mod draw;
mod fleet;
mod moves;
mod validator;

use karpenter_core::{Effort, solve};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_constraint_is_ever_violated(seed in any::<u64>()) {
        let world = draw::world(seed);
        for effort in [Effort::FirstFit, Effort::Improve] {
            let outcome = solve(world.clone(), effort);
            validator::check(&world, &outcome).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn improving_is_never_dearer_and_nothing_beats_the_bound(seed in any::<u64>()) {
        let world = draw::world(seed);
        let first = solve(world.clone(), Effort::FirstFit);
        let better = solve(world, Effort::Improve);
        prop_assert!(better.unschedulable.len() <= first.unschedulable.len());
        if better.unschedulable.len() == first.unschedulable.len() {
            prop_assert!(better.price <= first.price + 1e-9);
        }
        prop_assert!(first.lower_bound <= first.price + 1e-6, "{} {}", first.lower_bound, first.price);
        let (bound, price) = (better.lower_bound, better.price);
        prop_assert!(bound <= price + 1e-6, "{bound} {price}");
        prop_assert!((better.first_fit_price - first.price).abs() < 1e-9);
    }

    #[test]
    fn the_same_world_is_decided_in_the_same_way(seed in any::<u64>()) {
        let world = draw::world(seed);
        let (a, b) = (solve(world.clone(), Effort::Improve), solve(world, Effort::Improve));
        prop_assert_eq!(format!("{a:?}"), format!("{b:?}"));
    }

    #[test]
    fn command_after_command_keeps_to_the_budgets_and_comes_to_an_end(seed in any::<u64>()) {
        fleet::Run::new(seed).run_to_its_end().map_err(TestCaseError::fail)?;
    }
}
