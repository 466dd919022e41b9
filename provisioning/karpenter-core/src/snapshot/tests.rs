//! What the objects say that decisions are made from.

use api_kube::karpenter::capacity_types;
use serde_json::{Value, json};

use super::*;
use crate::{
    solve::{Effort, solve},
    world::Offering,
};

/// One type in two zones.
fn types() -> Arc<[InstanceType]> {
    let capacity = Amounts { cpu_millis: 4000, memory: 8 << 30, pods: 100, ..Amounts::default() };
    let offering = |zone| Offering::new(zone, capacity_types::ON_DEMAND, 0.1);
    Arc::new([InstanceType {
        name: "m.4".into(),
        allocatable: capacity.clone(),
        capacity,
        offerings: vec![offering("a"), offering("b")],
        ..InstanceType::default()
    }])
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn pool(name: &str, weight: Option<i32>) -> NodePool {
    object(json!({ "metadata": { "name": name }, "spec": { "weight": weight } }))
}

fn pod(spec: &Value) -> core::Pod {
    let mut spec = spec.clone();
    spec["containers"] = json!([{ "name": "c", "resources": { "requests": { "cpu": "1" } } }]);
    object(json!({ "metadata": { "name": "p", "uid": "p", "namespace": "x" }, "spec": spec }))
}

/// The pools of the new nodes, and the zones that these may be in.
fn placed(snapshot: &Snapshot) -> Vec<(String, Vec<String>)> {
    let world = snapshot.world(|_| Some(types()), Pending::Unbound);
    let claims = solve(world, Effort::Improve).claims.into_iter();
    let each = claims.map(|it| {
        let mut zones: Vec<String> = it.options.iter().map(|it| it.zone.to_string()).collect();
        zones.sort();
        (it.pool, zones)
    });
    each.collect()
}

#[test]
fn the_heaviest_pool_is_tried_first_and_of_equal_ones_the_last_by_name() {
    for (pools, expected) in [
        (vec![pool("a", Some(1)), pool("b", Some(10)), pool("c", None)], "b"),
        (vec![pool("a", Some(5)), pool("b", Some(5))], "b"),
        (vec![pool("a", Some(5)), pool("b", None)], "a"),
    ] {
        let pods = vec![pod(&json!({}))];
        let snapshot = Snapshot { pools, pods, ..Snapshot::default() };
        assert_eq!(placed(&snapshot)[0].0, expected);
    }
}

#[test]
fn a_pod_is_placed_where_its_volumes_are_or_may_be() {
    let volume = json!({ "volumes": [{ "name": "v",
        "persistentVolumeClaim": { "claimName": "data" } }] });
    let mut snapshot = Snapshot { pools: vec![pool("a", None)], ..Snapshot::default() };
    snapshot.pods.push(pod(&volume));
    assert!(placed(&snapshot).is_empty(), "its claim is not there");
    let claim = |spec: Value| -> core::PersistentVolumeClaim {
        object(json!({ "metadata": { "name": "data", "namespace": "x" }, "spec": spec }))
    };
    // It is bound: the volume has a zone.
    snapshot.volume_claims = vec![claim(json!({ "volumeName": "pv" }))];
    snapshot.volumes = vec![object(json!({ "metadata": { "name": "pv" }, "spec": {
        "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
            { "key": "topology.ebs.csi.aws.com/zone", "operator": "In", "values": ["b"] }] }] } } } }))];
    assert_eq!(placed(&snapshot)[0].1, ["b"]);
    // It waits for its pod, and its class has zones.
    snapshot.volume_claims = vec![claim(json!({ "storageClassName": "fast" }))];
    let class = |topologies: Value| -> StorageClass {
        object(json!({ "metadata": { "name": "fast" }, "provisioner": "ebs.csi.aws.com",
            "volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies": topologies }))
    };
    let only = json!([{ "matchLabelExpressions": [{ "key": labels::ZONE, "values": ["a"] }] }]);
    snapshot.storage_classes = vec![class(only)];
    assert_eq!(placed(&snapshot)[0].1, ["a"]);
    snapshot.storage_classes = vec![class(Value::Null)];
    assert_eq!(placed(&snapshot)[0].1, ["a", "b"]);
}

#[test]
fn a_node_takes_as_many_volumes_as_its_driver_says_and_a_new_one_any_number() {
    let claim = |name: &str| -> core::PersistentVolumeClaim {
        object(json!({ "metadata": { "name": name, "namespace": "x" },
            "spec": { "storageClassName": "fast" } }))
    };
    let with = |name: &str, claims: &[&str], node: Option<&str>| {
        let volumes: Vec<Value> = claims
            .iter()
            .map(|it| json!({ "name": it, "persistentVolumeClaim": { "claimName": it } }))
            .collect();
        let mut pod = pod(&json!({ "volumes": volumes, "nodeName": node }));
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.uid = Some(name.to_owned());
        pod
    };
    let limit = |count: Value| -> CSINode {
        object(json!({ "metadata": { "name": "n" }, "spec": { "drivers": [
            { "name": "ebs.csi.aws.com", "nodeID": "i", "allocatable": count }] } }))
    };
    let mut snapshot = Snapshot { pools: vec![pool("a", None)], ..Snapshot::default() };
    snapshot.nodes = vec![object(json!({ "metadata": { "name": "n" }, "status": {
        "allocatable": { "cpu": "16", "memory": "64Gi", "pods": "100" } } }))];
    snapshot.storage_classes = vec![object(json!({ "metadata": { "name": "fast" },
        "provisioner": "ebs.csi.aws.com", "volumeBindingMode": "WaitForFirstConsumer" }))];
    snapshot.volume_claims = ["shared", "b", "c"].map(claim).into();
    snapshot.pods = vec![
        with("one", &["shared"], Some("n")),
        with("two", &["shared"], Some("n")),
        with("new", &["b", "c"], None),
    ];
    for (count, is_room) in
        [(json!({ "count": 3 }), true), (json!({ "count": 2 }), false), (Value::Null, true)]
    {
        snapshot.csi_nodes = vec![limit(count.clone())];
        let outcome = solve(snapshot.world(|_| Some(types()), Pending::Unbound), Effort::Improve);
        assert_eq!(outcome.existing.len(), usize::from(is_room), "{count}");
        assert_eq!(outcome.claims.len(), usize::from(!is_room), "{count}");
        let mut requests = outcome.claims.iter().flat_map(|it| it.requests.scalars.keys());
        assert_eq!(requests.next(), None, "nobody can give that");
    }
}
