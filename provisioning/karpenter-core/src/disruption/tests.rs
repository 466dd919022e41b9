//! What goes, and what stays, in small clusters.

mod rules;

use api_kube::karpenter::labels;
use k8s_openapi::api::core::v1 as core;
use resources::Amounts;
use serde_json::{Value, json};

use super::*;
use crate::world::Offering;

/// Types of 2, 4, 8, 16 and 32 CPUs, the larger a little cheaper per CPU.
fn types() -> Arc<[InstanceType]> {
    let each = (1..6).map(|power| {
        let cpus: i64 = 1 << power;
        let name = format!("m.{cpus}");
        let price = cpus as f64 * 0.1 * (1.0 - 0.02 * f64::from(power));
        let capacity = Amounts {
            cpu_millis: cpus * 1000,
            memory: cpus << 32,
            pods: 100,
            ephemeral_storage: 20 << 30,
            ..Amounts::default()
        };
        InstanceType {
            labels: [(labels::INSTANCE_TYPE.to_owned(), name.clone())].into(),
            name: name.as_str().into(),
            allocatable: capacity.clone(),
            capacity,
            offerings: vec![Offering::new("a", "on-demand", price)],
        }
    });
    each.collect()
}

fn cluster() -> Snapshot {
    let pool = json!({ "metadata": { "name": "default" },
        "spec": { "disruption": { "budgets": [{ "nodes": "100%" }] } } });
    Snapshot { pools: vec![serde_json::from_value(pool).unwrap()], ..Snapshot::default() }
}

/// A node of so many CPUs, with pods of these.
fn add(snapshot: &mut Snapshot, name: &str, cpus: i64, pods: &[&str]) {
    let kind = types().iter().find(|it| *it.name == *format!("m.{cpus}")).unwrap().clone();
    snapshot.nodes.push(
        serde_json::from_value(json!({
            "metadata": { "name": name, "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {
                labels::NODE_POOL: "default", labels::INITIALIZED: "true", labels::ZONE: "a",
                labels::CAPACITY_TYPE: "on-demand", labels::INSTANCE_TYPE: &*kind.name,
                labels::HOSTNAME: name } },
            "status": { "allocatable": kind.allocatable.to_list(),
                "capacity": kind.capacity.to_list() } }))
        .unwrap(),
    );
    for (at, cpu) in pods.iter().enumerate() {
        snapshot.pods.push(pod(&format!("{name}-{at}"), json!({ "nodeName": name }), cpu));
    }
}

fn pod(name: &str, mut spec: Value, cpu: &str) -> core::Pod {
    spec["containers"] = json!([{ "name": "c", "resources": { "requests": { "cpu": cpu } } }]);
    let unschedulable =
        json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable" }]);
    let metadata = json!({ "name": name, "uid": name, "namespace": "x" });
    let value = json!({ "metadata": metadata, "spec": spec,
        "status": { "conditions": unschedulable } });
    serde_json::from_value(value).unwrap()
}

fn command(snapshot: &Snapshot, gates: Gates) -> Option<Command> {
    let now = "2026-01-02T00:00:00Z".parse().unwrap();
    Fleet::new(snapshot, |_| Some(types()), now, gates).next_command()
}

fn names(command: &Command) -> Vec<&str> {
    command.nodes.iter().map(|it| it.name.as_str()).collect()
}

#[test]
fn a_pod_that_no_node_could_take_holds_up_nothing() {
    let mut snapshot = cluster();
    add(&mut snapshot, "one", 4, &["1"]);
    add(&mut snapshot, "two", 4, &["1"]);
    let before = command(&snapshot, Gates::default()).unwrap();
    snapshot.pods.push(pod("impossible", json!({}), "1000"));
    let after = command(&snapshot, Gates::default()).unwrap();
    assert_eq!(names(&before), names(&after));
}

#[test]
fn no_node_goes_that_a_waiting_pod_could_be_on() {
    let mut snapshot = cluster();
    add(&mut snapshot, "one", 4, &["1"]);
    add(&mut snapshot, "two", 8, &["8"]);
    // Alone, the first could be replaced by one of half its size.
    let found = command(&snapshot, Gates::default()).unwrap();
    assert_eq!((names(&found), found.replacements.len()), (vec!["one"], 1));
    snapshot.pods.push(pod("waits", json!({}), "3"));
    assert!(command(&snapshot, Gates::default()).is_none());
}

#[test]
fn a_waiting_pod_keeps_the_place_that_the_pods_of_a_going_node_would_need() {
    let mut snapshot = cluster();
    add(&mut snapshot, "one", 4, &["2"]);
    add(&mut snapshot, "two", 4, &["2"]);
    assert_eq!(command(&snapshot, Gates::default()).unwrap().moves.len(), 1);
    // It may be on either; on the other there is no room for two then.
    snapshot.pods.push(pod("waits", json!({}), "1"));
    let found = command(&snapshot, Gates::default());
    let moves = found.map(|it| it.moves).unwrap_or_default();
    assert!(!moves.iter().any(|(_, to)| matches!(to, Destination::Node(_))), "{moves:?}");
}

#[test]
fn pods_that_wait_need_not_be_placed_anew_for_each_node_that_may_go() {
    let mut snapshot = cluster();
    add(&mut snapshot, "room", 16, &["8"]);
    add(&mut snapshot, "one", 4, &["3"]);
    for at in 0..5 {
        snapshot.pods.push(pod(&format!("waits-{at}"), json!({}), "1"));
    }
    let now = "2026-01-02T00:00:00Z".parse().unwrap();
    let mut fleet = Fleet::new(&snapshot, |_| Some(types()), now, Gates::default());
    let found = fleet.next_command().unwrap();
    // Those that wait, and what was on the node, fit beside each other.
    assert_eq!(names(&found), ["one"]);
    assert_eq!(found.moves, [("x/one-0".to_owned(), Destination::Node("room".to_owned()))]);
    snapshot.pods.push(pod("waits-more", json!({}), "1"));
    assert!(command(&snapshot, Gates::default()).is_none(), "all the room is taken");
}

/// The types, of which one of 4 CPUs has room in a reservation.
fn with_reservation(left: u32) -> Arc<[InstanceType]> {
    let reservation = crate::world::Reservation { id: "cr-1".into(), left };
    let types = types();
    let each = types.iter().cloned().map(|mut it| {
        if &*it.name == "m.4" {
            it.offerings.push(Offering::reserved("a", reservation.clone(), it.offerings[0].price));
        }
        it
    });
    each.collect()
}

#[test]
fn a_node_gives_way_to_one_that_is_paid_for_already_where_there_is_room_for_it() {
    let mut snapshot = cluster();
    add(&mut snapshot, "one", 4, &["4"]);
    let now = "2026-01-02T00:00:00Z".parse().unwrap();
    let decide = |left: u32| {
        let types = with_reservation(left);
        Fleet::new(&snapshot, |_| Some(types.clone()), now, Gates::default()).next_command()
    };
    let found = decide(1).unwrap();
    assert_eq!((found.nodes.len(), found.replacements.len()), (1, 1));
    let all = found.replacements[0].to_api();
    for (key, value) in
        [(labels::CAPACITY_TYPE, "reserved"), (labels::CAPACITY_RESERVATION_ID, "cr-1")]
    {
        let of_key = all.iter().find(|it| it.key == key).unwrap();
        assert_eq!(of_key.values, [value]);
    }
    assert!(decide(0).is_none());
}

#[test]
fn a_repacking_is_cheaper_whatever_the_new_nodes_become() {
    let mut snapshot = cluster();
    for at in 0..9 {
        add(&mut snapshot, &format!("node-{at}"), 8, &["2500m", "2500m"]);
    }
    let gates = Gates { repacking: true, ..Gates::default() };
    let mut fleet = {
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        Fleet::new(&snapshot, |_| Some(types()), now, gates)
    };
    let now: f64 = fleet.candidates.iter().filter_map(|it| it.price).sum();
    let found = repack::repack(&mut fleet).unwrap();
    let going: f64 = found.nodes.iter().filter_map(|it| it.price).sum();
    let dearest = |it: &NewClaim| it.options.iter().map(|it| it.price).fold(0.0, f64::max);
    let worst: f64 = found.replacements.iter().map(dearest).sum();
    assert!(worst <= 0.9 * going + 1e-9, "{worst} of {going} of {now}");
    assert_eq!((found.nodes.len(), found.replacements.len()), (9, 2));
    assert_eq!(found.moves.len(), 2 * found.nodes.len(), "every pod has a place");
}
