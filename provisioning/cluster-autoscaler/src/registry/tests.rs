//! What is remembered of groups between passes.

use std::time::Duration;

use super::*;
use crate::testing::{at, group, node, world};

const MINUTE: i64 = 60;

#[test]
fn what_is_asked_for_is_on_its_way_until_it_is_there() {
    let mut wanted = group("a", (0, 5), &["n1"]);
    wanted.target = 3;
    let (options, mut registry) = (Options::default(), Registry::default());
    let seen = world(vec![node("n1")], vec![wanted.clone()], vec![]);
    assert_eq!(registry.observe(&seen, &options, at(0)), []);
    assert_eq!(registry.upcoming(&seen)["a"], 2);
    assert_eq!(registry.of("a").unregistered, 2);
    // One is launched and registered, and not ready yet.
    let mut starting = node("n2");
    starting.metadata.creation_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(30)));
    starting.status.as_mut().unwrap().conditions = None;
    wanted.instances = group("a", (0, 5), &["n1", "n2"]).instances;
    let seen = world(vec![node("n1"), starting], vec![wanted], vec![]);
    registry.observe(&seen, &options, at(MINUTE));
    assert_eq!(registry.upcoming(&seen)["a"], 2);
    assert_eq!(registry.of("a").not_started, 1);
}

#[test]
fn nodes_that_do_not_come_in_time_back_the_group_off_and_are_given_up() {
    let mut wanted = group("a", (0, 5), &["n1"]);
    wanted.target = 2;
    let seen = world(vec![node("n1")], vec![wanted.clone()], vec![]);
    let (options, mut registry) = (Options::default(), Registry::default());
    registry.observe(&seen, &options, at(0));
    registry.grew(&wanted, 1, at(0));
    assert!(registry.is_growing("a"));
    assert_eq!(registry.observe(&seen, &options, at(14 * MINUTE)), []);
    let found = registry.observe(&seen, &options, at(15 * MINUTE));
    let limit = Duration::from_secs(900);
    assert_eq!(
        found,
        [
            Finding::TimedOut { group: "a".into(), limit },
            Finding::TooLarge { group: "a".into(), by: 1 },
        ]
    );
    let can_grow = |registry: &Registry, seconds| registry.can_grow(&wanted, &options, at(seconds));
    assert_eq!(can_grow(&registry, 15 * MINUTE + 1), Err(NotSafe::BackedOff));
    assert_eq!(can_grow(&registry, 20 * MINUTE + 1), Ok(()));
}

#[test]
fn an_instance_that_never_becomes_a_node_is_told() {
    let seen = world(vec![], vec![group("a", (0, 5), &["n1"])], vec![]);
    let (options, mut registry) = (Options::default(), Registry::default());
    assert_eq!(registry.observe(&seen, &options, at(0)), []);
    let found = registry.observe(&seen, &options, at(15 * MINUTE));
    let provider_id = "aws:///z/n1".to_owned();
    assert_eq!(found, [Finding::NeverRegistered { group: "a".into(), provider_id }]);
    assert_eq!(registry.of("a").long_unregistered, 1);
    assert!(registry.upcoming(&seen).is_empty(), "nobody counts on it any more");
}

#[test]
fn a_launch_that_failed_ends_the_wait_and_each_failure_doubles_the_next() {
    let mut wanted = group("a", (0, 5), &[]);
    wanted.target = 1;
    let failure =
        |seconds| Some(crate::world::Failure { at: at(seconds), message: "no room".into() });
    let (options, mut registry) = (Options::default(), Registry::default());
    registry.grew(&wanted, 1, at(0));
    wanted.failure = failure(-10);
    let seen = world(vec![], vec![wanted.clone()], vec![]);
    assert_eq!(registry.observe(&seen, &options, at(5)), [], "it is older than what was asked for");
    wanted.failure = failure(10);
    let seen = world(vec![], vec![wanted.clone()], vec![]);
    let found = registry.observe(&seen, &options, at(11));
    let message = "no room".to_owned();
    assert_eq!(found, [Finding::LaunchFailed { group: "a".into(), missing: 1, message }]);
    assert!(registry.backoffs.is_active("a", at(11 + 5 * MINUTE - 1)));
    assert!(!registry.backoffs.is_active("a", at(11 + 5 * MINUTE)));
    registry.failed("a", Problem::new("x", "y"), &options, at(6 * MINUTE));
    assert!(registry.backoffs.is_active("a", at(16 * MINUTE - 1)));
    registry.failed("a", Problem::new("x", "y"), &options, at(17 * MINUTE));
    registry.failed("a", Problem::new("x", "y"), &options, at(60 * MINUTE));
    assert!(registry.backoffs.is_active("a", at(90 * MINUTE - 1)), "half an hour at most");
    assert!(!registry.backoffs.is_active("a", at(90 * MINUTE)));
    registry.failed("a", Problem::new("x", "y"), &options, at(300 * MINUTE));
    assert!(
        !registry.backoffs.is_active("a", at(305 * MINUTE)),
        "after three hours all is forgotten"
    );
}

#[test]
fn too_many_unready_nodes_stop_everything() {
    let unready = |name: &str| {
        let mut it = node(name);
        it.status.as_mut().unwrap().conditions = None;
        it
    };
    let (options, mut registry) = (Options::default(), Registry::default());
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let seen = |unwell: usize| {
        let nodes = names.iter().enumerate();
        let nodes = nodes.map(|(at, it)| if at < unwell { unready(it) } else { node(it) });
        world(nodes.collect(), vec![group("g", (0, 9), &names)], vec![])
    };
    registry.observe(&seen(3), &options, at(0));
    assert!(registry.is_healthy(&options), "three are fine in any case");
    registry.observe(&seen(4), &options, at(0));
    assert!(!registry.is_healthy(&options), "half of them is not");
    let seen = seen(4);
    assert_eq!(registry.can_grow(&seen.groups[0], &options, at(0)), Err(NotSafe::Unhealthy));
}

#[test]
fn a_group_that_wants_millions_costs_no_more_than_one_that_wants_two() {
    let mut wanted = group("a", (0, 1 << 31), &[]);
    wanted.target = 1 << 31;
    let (options, mut registry) = (Options::default(), Registry::default());
    let seen = |target: i64| {
        let group = Group { target, ..wanted.clone() };
        world(vec![], vec![group], vec![])
    };
    registry.observe(&seen(2), &options, at(0));
    registry.observe(&seen(1 << 31), &options, at(10 * MINUTE));
    registry.observe(&seen(1 << 31), &options, at(15 * MINUTE));
    // Two were missed first, and the others have time yet.
    assert_eq!(registry.of("a").long_unregistered, 2);
    assert_eq!(registry.of("a").unregistered, (1 << 31) - 2);
    assert_eq!(registry.missing["a"].0.len(), 2);
    registry.observe(&seen(1), &options, at(15 * MINUTE));
    assert_eq!((registry.of("a").long_unregistered, registry.of("a").unregistered), (1, 0));
    registry.observe(&seen(0), &options, at(16 * MINUTE));
    assert!(registry.missing["a"].0.is_empty());
}
