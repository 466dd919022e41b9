//! The next step, by stock, limits and time.

use super::*;
use crate::datastore::{AttachedEni, Key, PodName};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const LIMITS: Limits = Limits { max_enis: 3, per_eni: 9, max_pods: 29 };

fn eni(device: u32, count: u8) -> AttachedEni {
    let base = u8::try_from(device).unwrap() * 50;
    let ip = |last: u8| Ipv4Addr::new(192, 168, 0, base + last);
    AttachedEni {
        id: format!("eni-{device}"),
        mac: String::new(),
        device_number: device,
        primary_address: ip(0),
        subnet_id: String::new(),
        subnet_cidr: "192.168.0.0/24".parse().unwrap(),
        security_groups: vec![],
        addresses: (1..=count).map(ip).collect(),
        prefixes: Default::default(),
        is_trunk: false,
    }
}

fn store(counts: &[u8], pods: usize) -> Datastore {
    let mut store = Datastore::new(Duration::from_secs(30), false);
    for (device, count) in (0..).zip(counts) {
        store.observe(eni(device, *count), NOW);
    }
    for pod in 0..pods {
        let key = key(pod);
        store.assign(&key, &PodName::default(), NOW).expect("the test's pool is large enough");
    }
    store
}

fn key(pod: usize) -> Key {
    Key { network_name: "n".into(), container_id: pod.to_string(), if_name: "eth0".into() }
}

fn targets() -> Targets {
    Targets { warm_eni: 1, warm_ip: 0, minimum_ip: 0, warm_prefix: 1, is_prefix_mode: false }
}

fn at(seconds: u64) -> Circumstances {
    Circumstances {
        now: NOW + Duration::from_secs(seconds),
        paused_until: None,
        retry_at: None,
        last_shrink: None,
        is_frozen: false,
        unmanaged_enis: 0,
        is_trunk_awaited: false,
    }
}

fn step(store: &Datastore, targets: &Targets, at: &Circumstances) -> Step {
    plan(store, targets, &LIMITS, at).step
}

#[test]
fn an_existing_interface_is_filled_before_a_new_one_is_made() {
    let empty = step(&store(&[0], 0), &targets(), &at(0));
    assert_eq!(empty, Step::AssignAddresses { eni: "eni-0".into(), count: 9 });
    assert_eq!(step(&store(&[9], 0), &targets(), &at(0)), Step::Settled);
    assert_eq!(step(&store(&[9], 1), &targets(), &at(0)), Step::CreateEni { count: 9 });
    let second = step(&store(&[9, 4], 5), &targets(), &at(0));
    assert_eq!(second, Step::AssignAddresses { eni: "eni-1".into(), count: 5 });
}

#[test]
fn a_full_instance_or_one_that_serves_all_its_pods_does_not_grow() {
    assert_eq!(step(&store(&[9, 9, 9], 27), &targets(), &at(0)), Step::Settled);
    let few = Limits { max_pods: 9, ..LIMITS };
    let settled = plan(&store(&[9], 9), &targets(), &few, &at(0));
    assert_eq!(settled.step, Step::Settled);
    let some = Limits { max_pods: 12, ..LIMITS };
    assert_eq!(plan(&store(&[9], 9), &targets(), &some, &at(0)).step, Step::CreateEni { count: 3 });
}

#[test]
fn after_the_subnet_ran_out_nothing_grows_until_the_pause_is_over() {
    let paused =
        |now| Circumstances { paused_until: Some(NOW + Duration::from_secs(120)), ..at(now) };
    assert_eq!(step(&store(&[0], 0), &targets(), &paused(119)), Step::Settled);
    assert!(step(&store(&[0], 0), &targets(), &paused(120)).is_growth());
}

#[test]
fn in_custom_networking_the_primary_interface_is_not_filled_and_not_counted() {
    let store = |counts| store(counts, 0).without_primary(true);
    assert_eq!(step(&store(&[0]), &targets(), &at(0)), Step::CreateEni { count: 9 });
    assert_eq!(step(&store(&[9]), &targets(), &at(0)), Step::CreateEni { count: 9 });
    assert_eq!(step(&store(&[9, 9]), &targets(), &at(0)), Step::Settled);
    let mut full = store(&[9, 9, 9]);
    for pod in 0..18 {
        let given = full.assign(&key(pod), &PodName::default(), NOW).unwrap();
        assert_ne!(given.device_number, 0, "pod {pod}");
    }
    assert_eq!(full.assign(&key(18), &PodName::default(), NOW), None);
    assert_eq!(step(&full, &targets(), &at(0)), Step::Settled);
}

#[test]
fn interfaces_in_subnets_that_pods_are_kept_out_of_are_neither_filled_nor_counted() {
    let mut store = store(&[9, 9], 0);
    let subnet = store.enis().next().unwrap().attached.subnet_id.clone();
    store.exclude_subnets([subnet].into());
    assert_eq!(step(&store, &targets(), &at(0)), Step::CreateEni { count: 9 });
    assert_eq!(store.assign(&key(0), &PodName::default(), NOW), None);
    store.exclude_subnets(Default::default());
    assert!(store.assign(&key(0), &PodName::default(), NOW).is_some());
}

#[test]
fn after_a_refusal_nothing_is_asked_until_the_next_try_is_due() {
    let refused = |now| Circumstances { retry_at: Some(NOW + Duration::from_secs(2)), ..at(now) };
    assert_eq!(step(&store(&[0], 0), &targets(), &refused(1)), Step::Settled);
    assert!(step(&store(&[0], 0), &targets(), &refused(2)).is_growth());
}

#[test]
fn an_interface_is_given_back_when_it_is_old_idle_and_not_needed() {
    let idle = store(&[9, 9], 0);
    assert_eq!(step(&idle, &targets(), &at(59)), Step::Settled);
    assert_eq!(step(&idle, &targets(), &at(60)), Step::DeleteEni { eni: "eni-1".into() });
    assert_eq!(step(&store(&[9, 9], 1), &targets(), &at(60)), Step::Settled);
    let recently = Circumstances { last_shrink: Some(NOW + Duration::from_secs(50)), ..at(60) };
    assert_eq!(step(&idle, &targets(), &recently), Step::Settled);
}

#[test]
fn a_resting_address_keeps_its_interface() {
    let mut store = store(&[9, 9], 10);
    let later = NOW + Duration::from_secs(90);
    (0..10).for_each(|pod| drop(store.release(&key(pod), later)));
    assert_eq!(step(&store, &targets(), &at(100)), Step::Settled);
    assert_eq!(step(&store, &targets(), &at(120)), Step::DeleteEni { eni: "eni-1".into() });
}

#[test]
fn addresses_over_a_target_go_back_from_the_last_interface_first() {
    let counted = Targets { warm_ip: 2, minimum_ip: 3, ..targets() };
    assert_eq!(
        step(&store(&[9, 4], 0), &counted, &at(60)),
        Step::DeleteEni { eni: "eni-1".into() }
    );
    let Step::UnassignAddresses { eni, addresses } = step(&store(&[9], 0), &counted, &at(60))
    else {
        panic!("nine are six more than three");
    };
    assert_eq!((eni.as_str(), addresses.len()), ("eni-0", 6));
}

#[test]
fn a_frozen_node_neither_grows_nor_shrinks() {
    let frozen = Circumstances { is_frozen: true, ..at(60) };
    assert_eq!(step(&store(&[0], 0), &targets(), &frozen), Step::Settled);
    assert_eq!(step(&store(&[9, 9], 0), &targets(), &frozen), Step::Settled);
}

/// The primary interface with one pod's and one nobody's of the kind before: a place for each.
fn after_a_switch(to_prefixes: bool) -> Datastore {
    let prefixes = ["192.168.0.208/28", "192.168.0.224/28"].map(|it| it.parse().unwrap());
    let old = match to_prefixes {
        true => eni(0, 2),
        false => AttachedEni { prefixes: prefixes.into(), ..eni(0, 0) },
    };
    let mut before = Datastore::new(Duration::from_secs(30), !to_prefixes);
    before.observe(old.clone(), NOW);
    before.assign(&key(0), &PodName::default(), NOW).unwrap();
    let mut store = Datastore::new(Duration::from_secs(30), to_prefixes);
    store.observe(old, NOW);
    before.rows().for_each(|row| assert!(store.restore(row.clone())));
    store
}

#[test]
fn blocks_that_no_pod_is_in_go_back_once_prefix_mode_is_off() {
    let mut store = after_a_switch(false);
    let prefix = |text: &str| vec![text.parse().unwrap()];
    let give = |prefixes| Step::UnassignPrefixes { eni: "eni-0".into(), prefixes };
    assert_eq!(step(&store, &targets(), &at(0)), give(prefix("192.168.0.224/28")));
    // Once in half a minute: pods do not wait for it.
    let recently = Circumstances { last_shrink: Some(NOW), ..at(29) };
    assert!(step(&store, &targets(), &recently).is_growth());
    // The pod's own goes when the pod is gone and its address has rested.
    store.take_prefixes("eni-0", &prefix("192.168.0.224/28"));
    store.release(&key(0), NOW + Duration::from_secs(60));
    assert!(step(&store, &targets(), &at(89)).is_growth());
    assert_eq!(step(&store, &targets(), &at(90)), give(prefix("192.168.0.208/28")));
}

#[test]
fn single_addresses_that_no_pod_has_go_back_once_prefix_mode_is_on() {
    let store = after_a_switch(true);
    let on = Targets { is_prefix_mode: true, ..targets() };
    let free = store.idle_addresses(store.eni("eni-0").unwrap(), NOW);
    assert_eq!(free.len(), 1);
    assert_eq!(
        step(&store, &on, &at(0)),
        Step::UnassignAddresses { eni: "eni-0".into(), addresses: free }
    );
}
