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
