//! Assignments, rest, and what may go back.

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn eni(id: &str, device_number: u32, last: &[u8]) -> AttachedEni {
    let ip = |last: u8| Ipv4Addr::new(192, 168, 0, last);
    AttachedEni {
        id: id.into(),
        mac: format!("02:00:00:00:00:0{device_number}"),
        device_number,
        primary_address: ip(10 + u8::try_from(device_number).unwrap()),
        subnet_id: "subnet-1".into(),
        subnet_cidr: "192.168.0.0/24".parse().unwrap(),
        security_groups: vec![],
        addresses: last.iter().map(|last| ip(*last)).collect(),
        prefixes: BTreeSet::new(),
        is_trunk: false,
    }
}

fn key(container: &str) -> Key {
    Key { network_name: "aws-cni".into(), container_id: container.into(), if_name: "eth0".into() }
}

fn store() -> Datastore {
    let mut store = Datastore::new(Duration::from_secs(30), false);
    store.observe(eni("eni-a", 0, &[10, 20, 21]), NOW);
    store.observe(eni("eni-b", 1, &[11, 30]), NOW);
    store
}

fn assign(store: &mut Datastore, container: &str, now: Timestamp) -> Option<Ipv4Addr> {
    store.assign(&key(container), &PodName::default(), now).map(|it| it.address)
}

#[test]
fn primary_addresses_are_never_given_to_pods() {
    let mut store = store();
    let given: Vec<_> = (0..9).filter_map(|n| assign(&mut store, &n.to_string(), NOW)).collect();
    assert_eq!(given.iter().map(|ip| ip.octets()[3]).collect::<Vec<_>>(), [20, 21, 30]);
}

#[test]
fn a_known_sandbox_gets_the_address_it_has() {
    let mut store = store();
    let first = store.assign(&key("a"), &PodName::default(), NOW);
    assert_eq!(store.assign(&key("a"), &PodName::default(), NOW), first);
    assert_eq!(store.stock().assigned, 1);
}

#[test]
fn an_address_rests_for_thirty_seconds_and_not_one_moment_longer() {
    let mut store = store();
    for container in ["a", "b", "c"] {
        assign(&mut store, container, NOW).unwrap();
    }
    store.release(&key("a"), NOW).unwrap();
    assert_eq!(store.resting(NOW), 1);
    let almost = NOW + Duration::from_secs(30) - Duration::from_nanos(1);
    assert_eq!(assign(&mut store, "d", almost), None);
    assert!(assign(&mut store, "d", NOW + Duration::from_secs(30)).is_some());
}

#[test]
fn releasing_an_unknown_sandbox_changes_nothing() {
    let mut store = store();
    assert_eq!(store.release(&key("a"), NOW), None);
    assert_eq!(store.resting(NOW), 0);
}

#[test]
fn an_address_that_imds_no_longer_shows_stays_with_its_pod_and_goes_after_it() {
    let mut store = store();
    assert_eq!(assign(&mut store, "a", NOW), Some(Ipv4Addr::new(192, 168, 0, 20)));
    store.observe(eni("eni-a", 0, &[10, 21]), NOW);
    assert_eq!(store.stock(), Stock { total: 3, assigned: 1, ..Stock::default() });
    store.release(&key("a"), NOW);
    store.observe(eni("eni-a", 0, &[10, 21]), NOW);
    assert_eq!(store.stock().total, 2);
}

#[test]
fn a_secondary_interfaces_pods_use_its_table() {
    let mut store = store();
    for container in ["a", "b", "c"] {
        assign(&mut store, container, NOW);
    }
    let assigned = store.release(&key("c"), NOW).unwrap();
    assert_eq!((assigned.device_number, assigned.route_table), (1, 2));
    let assigned = store.release(&key("a"), NOW).unwrap();
    assert_eq!((assigned.device_number, assigned.route_table), (0, linux_netlink::TABLE_MAIN));
}

#[test]
fn a_checkpoint_cannot_give_an_address_twice_or_one_that_is_not_there() {
    let mut store = store();
    let row = |container: &str, last| Row {
        key: key(container),
        address: Ipv4Addr::new(192, 168, 0, last),
        pod: PodName::default(),
        since: NOW,
    };
    assert!(store.restore(row("a", 20)));
    assert!(!store.restore(row("b", 20)));
    assert!(!store.restore(row("c", 99)));
    assert_eq!(assign(&mut store, "d", NOW), Some(Ipv4Addr::new(192, 168, 0, 21)));
    assert_eq!(store.assigned(&key("b")), None);
    assert_eq!(store.assigned(&key("c")), None);
}

#[test]
fn an_interface_that_is_out_of_sight_for_a_while_gives_nobodys_address_away() {
    let mut store = store();
    for container in ["a", "b", "c"] {
        assign(&mut store, container, NOW).unwrap();
    }
    store.remove_eni("eni-b");
    assert_eq!(store.stock().assigned, 2);
    // It comes back, and a restart in between reads the same rows.
    let rows: Vec<Row> = store.rows().cloned().collect();
    let mut again = Datastore::new(Duration::from_secs(30), false);
    again.observe(eni("eni-a", 0, &[10, 20, 21]), NOW);
    assert_eq!(rows.into_iter().filter(|row| !again.restore(row.clone())).count(), 1);
    for store in [&mut store, &mut again] {
        store.observe(eni("eni-b", 1, &[11, 30, 31]), NOW);
        assert_eq!(store.assigned(&key("c")).unwrap().address, Ipv4Addr::new(192, 168, 0, 30));
        assert_eq!(assign(store, "d", NOW), Some(Ipv4Addr::new(192, 168, 0, 31)));
        assert_eq!(assign(store, "e", NOW), None);
    }
    // Where it never comes back, its pod's next ADD gets another one, and its DEL leaves nothing.
    store.remove_eni("eni-b");
    assert_eq!(store.release(&key("c"), NOW), None);
    assert_eq!(store.row(&key("c")), None);
    store.release(&key("a"), NOW).unwrap();
    let rested = NOW + Duration::from_secs(30);
    assert_eq!(assign(&mut store, "d", rested), Some(Ipv4Addr::new(192, 168, 0, 20)));
    assert_eq!(store.rows().count(), 2);
}

#[test]
fn only_what_is_free_and_rested_goes_back_to_ec2() {
    let mut store = store();
    for container in ["a", "b"] {
        assign(&mut store, container, NOW);
    }
    store.release(&key("a"), NOW);
    let idle = |store: &Datastore, now| store.idle_addresses(store.eni("eni-a").unwrap(), now);
    assert_eq!(idle(&store, NOW), [] as [Ipv4Addr; 0]);
    let later = NOW + Duration::from_secs(30);
    assert_eq!(idle(&store, later), [Ipv4Addr::new(192, 168, 0, 20)]);
    assert!(!store.is_idle(store.eni("eni-a").unwrap(), later));
    assert!(store.is_idle(store.eni("eni-b").unwrap(), NOW));
}

#[test]
fn in_prefix_mode_pods_get_addresses_of_prefixes_only() {
    let mut store = Datastore::new(Duration::from_secs(30), true);
    let prefix = "192.168.0.32/28".parse().unwrap();
    let attached = AttachedEni { prefixes: [prefix].into(), ..eni("eni-a", 0, &[10, 20]) };
    store.observe(attached, NOW);
    assert_eq!(assign(&mut store, "a", NOW), Some(Ipv4Addr::new(192, 168, 0, 32)));
    let stock = store.stock();
    assert_eq!((stock.total, stock.prefixes, stock.free_prefixes), (16, 1, 0));
    assert_eq!(store.eni("eni-a").unwrap().used_slots(), 2);
}
