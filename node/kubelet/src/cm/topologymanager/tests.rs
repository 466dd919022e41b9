//! Tests of the topology manager: which hints go together, and what each policy makes of them.

use super::*;
use crate::cm::topology::tests::machine;

fn manager(policy: &str) -> TopologyManager {
    let numa = Numa::of(&machine(1, 2, 2));
    TopologyManager::new(policy, "container", &BTreeMap::new(), numa).unwrap()
}

fn hint(nodes: &[u32], is_preferred: bool) -> Hint {
    Hint { affinity: Some(NumaMask::of(nodes.iter().copied())), is_preferred }
}

fn one_of(hints: &[(&[u32], bool)]) -> Wish {
    Wish::OneOf(hints.iter().map(|(nodes, it)| hint(nodes, *it)).collect())
}

#[test]
fn resources_of_one_node_meet_there() {
    let wishes = [
        one_of(&[(&[0], true), (&[1], true), (&[0, 1], false)]),
        one_of(&[(&[1], true), (&[0, 1], false)]),
        Wish::Indifferent,
    ];
    for policy in ["best-effort", "restricted", "single-numa-node"] {
        assert_eq!(manager(policy).merge(&wishes), (hint(&[1], true), true), "{policy}");
    }
}

#[test]
fn resources_of_different_nodes_are_refused_by_the_strict_policies_only() {
    let wishes = [one_of(&[(&[0], true)]), one_of(&[(&[1], true)])];
    assert_eq!(manager("best-effort").merge(&wishes), (hint(&[0, 1], false), true));
    assert!(!manager("restricted").merge(&wishes).1);
    assert!(!manager("single-numa-node").merge(&wishes).1);
}

#[test]
fn what_needs_two_nodes_is_restricted_but_not_single() {
    let wishes = [one_of(&[(&[0, 1], true)])];
    assert_eq!(manager("restricted").merge(&wishes), (hint(&[0, 1], true), true));
    assert!(!manager("single-numa-node").merge(&wishes).1);
}

#[test]
fn what_cannot_be_had_at_all_is_refused() {
    let wishes = [one_of(&[(&[0], true)]), Wish::OneOf(Vec::new())];
    assert_eq!(manager("best-effort").merge(&wishes), (hint(&[0], false), true));
    assert!(!manager("restricted").merge(&wishes).1);
}

#[test]
fn without_wishes_single_numa_node_has_no_affinity() {
    let any = Hint { affinity: None, is_preferred: true };
    assert_eq!(manager("single-numa-node").merge(&[Wish::Indifferent]), (any, true));
}

#[test]
fn among_unpreferred_hints_the_neediest_resource_sets_the_size() {
    // One resource takes both nodes at least, so the other is not squeezed into one.
    let wishes = [one_of(&[(&[0, 1], false)]), one_of(&[(&[0], false), (&[0, 1], false)])];
    assert_eq!(manager("best-effort").merge(&wishes).0, hint(&[0, 1], false));
}

#[test]
fn unknown_names_are_refused_in_upstreams_words() {
    let new = |policy: &str, scope: &str, option: Option<(&str, &str)>| {
        let options = option.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
        TopologyManager::new(policy, scope, &options, Numa::default()).unwrap_err().to_string()
    };
    assert_eq!(new("x", "pod", None), "unknown policy: \"x\"");
    assert_eq!(new("none", "node", None), "unknown scope: \"node\"");
    let unknown = new("none", "pod", Some(("fast", "true")));
    assert_eq!(unknown, "unknown Topology Manager Policy option: \"fast\"");
}

#[test]
fn closer_nodes_win_where_that_is_asked_for() {
    let mut topology = machine(1, 3, 1);
    let near = [(0, [10, 40, 40]), (1, [40, 10, 11]), (2, [40, 11, 10])];
    for (id, distances) in near {
        topology.nodes.get_mut(&id).unwrap().distances = distances.to_vec();
    }
    let options = |value: &str| {
        [("prefer-closest-numa-nodes".to_owned(), value.to_owned())].into_iter().collect()
    };
    let wishes = [one_of(&[(&[0, 1], true), (&[1, 2], true)])];
    for (value, nodes) in [("true", [1, 2]), ("false", [0, 1])] {
        let numa = Numa::of(&topology);
        let manager = TopologyManager::new("restricted", "pod", &options(value), numa).unwrap();
        assert_eq!(manager.merge(&wishes).0, hint(&nodes, true), "{value}");
    }
}
