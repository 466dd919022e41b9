//! Layouts worked out by hand.

use super::*;

fn place(name: &str, zone: &str, cidr: &str) -> Place {
    let addresses = SubnetAddresses::new(cidr.parse().unwrap()).unwrap();
    Place { name: name.into(), zone: zone.into(), addresses }
}

fn fleet(kind: &str, count: u32) -> Fleet {
    Fleet::of(instance_types::find(kind).unwrap(), count)
}

fn layout(nodes: &[(&str, &str)], pods: &[(&str, &str)]) -> Layout {
    let places = |of: &[(&str, &str)], what: &str| {
        of.iter().map(|(zone, cidr)| place(&format!("{what}-{zone}"), zone, cidr)).collect()
    };
    Layout { nodes: places(nodes, "nodes"), pods: places(pods, "pods") }
}

#[test]
fn max_pods_is_awss_formula_in_each_mode() {
    let of = |kind: &str| Mode::ALL.map(|mode| fleet(kind, 1).max_pods(mode));
    assert_eq!(of("m5.large"), [29, 110, 20, 110]);
    assert_eq!(of("t3.small"), [11, 110, 8, 98]);
    assert_eq!(of("m5.24xlarge"), [737, 250, 688, 250]);
}

#[test]
fn a_24_serves_eight_m5_large_nodes_with_all_their_pods() {
    // 251 addresses; a node with 27 pods takes 3 interfaces of ten.
    let layout = layout(&[("a", "10.0.0.0/24")], &[]);
    let found = simulate(&layout, &[fleet("m5.large", 8)], Mode::Secondary);
    assert_eq!((found.nodes, found.pods, found.idle_addresses), (8, 8 * 27, 80));
    assert!(found.is_enough() && found.exhausted.is_empty());
    assert_eq!(most_nodes(&layout, &fleet("m5.large", 0), Mode::Secondary), 8);
    let found = simulate(&layout, &[fleet("m5.large", 9)], Mode::Secondary);
    assert!(!found.is_enough());
    assert_eq!(found.exhausted.iter().collect::<Vec<_>>(), ["nodes-a"]);
    // Nothing stays free: what is no pod's is an interface's own.
    assert_eq!(found.pods + 9 * 3, 251);
}

#[test]
fn a_24_has_fourteen_whole_blocks_and_single_addresses_break_them() {
    // The first block holds reserved addresses and takes the nodes' own; the last one is broken too.
    let layout = layout(&[("a", "10.0.0.0/24")], &[]);
    let found = simulate(&layout, &[fleet("m5.large", 2)], Mode::Prefix);
    assert_eq!(found.pods, 2 * 108, "seven blocks each, and maxPods ends before them");
    let found = simulate(&layout, &[fleet("m5.large", 3)], Mode::Prefix);
    assert_eq!(found.pods, 14 * 16);
    assert_eq!(found.exhausted.len(), 1);
}

#[test]
fn pods_in_subnets_of_their_own_leave_the_nodes_subnet_alone() {
    let layout = layout(
        &[("a", "10.0.0.0/28"), ("b", "10.0.0.16/28")],
        &[("a", "100.64.0.0/20"), ("b", "100.64.16.0/20")],
    );
    let fleets = [fleet("m5.large", 22)];
    assert_eq!(simulate(&layout, &fleets, Mode::Secondary).pods, 0);
    let found = simulate(&layout, &fleets, Mode::Custom);
    assert_eq!((found.nodes, found.pods), (22, 22 * 18));
    assert!(found.is_enough());
    let found = simulate(&layout, &[fleet("m5.large", 23)], Mode::Custom);
    assert_eq!((found.nodes, found.nodes_wanted), (22, 23));
    assert!(simulate(&layout, &fleets, Mode::CustomPrefix).is_enough());
}

#[test]
fn a_zone_without_a_subnet_for_pods_has_nodes_that_take_none() {
    let layout = layout(&[("a", "10.0.0.0/24"), ("b", "10.0.1.0/24")], &[("a", "100.64.0.0/24")]);
    let found = simulate(&layout, &[fleet("m5.large", 4)], Mode::Custom);
    assert_eq!((found.nodes, found.homeless, found.pods), (4, 2, 36));
}
