//! What must hold of `place`.

use std::sync::Arc;

use api_kube::karpenter::{NodePool, labels};
use k8s_openapi::api::core::v1 as core;
use scheduling::PodInfo;
use serde_json::{Value, json};

use crate::{
    solve::{Effort, solve},
    world::{InstanceType, MinValues, Offering, Pool, Reservation, Used, World},
};

fn kind(name: &str, offering: Offering) -> InstanceType {
    let mut kind =
        InstanceType { name: name.into(), offerings: vec![offering], ..InstanceType::default() };
    kind.labels.insert(labels::INSTANCE_TYPE.to_owned(), name.to_owned());
    for (resource, amount) in [("cpu", 4000), ("memory", 1 << 30), ("pods", 10)] {
        kind.capacity.set(resource, amount);
        kind.allocatable.set(resource, amount);
    }
    kind
}

fn pool(name: &str, weight: i32, requirements: Value, types: Vec<InstanceType>) -> Pool {
    let pool: NodePool = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": {
        "weight": weight, "template": { "spec": { "requirements": requirements,
            "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } } } } }))
    .unwrap();
    Pool::new(&pool, types.into(), Used::default())
}

fn pod() -> Arc<PodInfo> {
    let pod: core::Pod = serde_json::from_value(json!({ "metadata": { "name": "a" }, "spec": {
        "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1" } } }] } }))
    .unwrap();
    Arc::new(PodInfo::new(&pod))
}

#[test]
fn a_pool_whose_reservations_leave_too_few_types_to_choose_from_is_passed_over() {
    let reserved = |id: &str| {
        let reservation = Reservation { id: id.into(), left: 1 };
        Offering::reserved("a", reservation, 1.0)
    };
    // A node is in one reservation at the most: then it is of one type.
    let types = vec![kind("x", reserved("cr-1")), kind("y", reserved("cr-2"))];
    let choosy = |least: u32| json!([{ "key": labels::INSTANCE_TYPE, "operator": "Exists", "minValues": least }]);
    let bought = vec![kind("z", Offering::new("a", "on-demand", 1.0))];
    for (least, expected) in [(1, "choosy"), (2, "other")] {
        let world = World {
            pools: vec![
                pool("choosy", 10, choosy(least), types.clone()),
                pool("other", 1, json!([]), bought.clone()),
            ],
            pods: vec![pod()],
            ..World::default()
        };
        for effort in [Effort::FirstFit, Effort::Improve] {
            let outcome = solve(world.clone(), effort);
            assert!(outcome.unschedulable.is_empty(), "{:?}", outcome.unschedulable);
            assert_eq!(outcome.claims[0].pool, expected);
        }
    }
}

#[test]
fn too_few_values_have_to_do_where_the_policy_says_so_and_the_claim_says_it() {
    let bought = |name: &str| kind(name, Offering::new("a", "on-demand", 1.0));
    let choosy = json!([{ "key": labels::INSTANCE_TYPE, "operator": "Exists", "minValues": 3 }]);
    let world = |min_values: MinValues| World {
        pools: vec![pool("choosy", 10, choosy.clone(), vec![bought("x"), bought("y")])],
        pods: vec![pod()],
        min_values,
        ..World::default()
    };
    for effort in [Effort::FirstFit, Effort::Improve] {
        let strict = solve(world(MinValues::Strict), effort);
        assert!(strict.claims.is_empty());
        let relaxed = solve(world(MinValues::BestEffort), effort);
        let [claim] = relaxed.claims.as_slice() else { panic!("{relaxed:?}") };
        assert!(claim.is_relaxed);
        let asked = claim.requirements.get(labels::INSTANCE_TYPE).and_then(|it| it.min_values);
        assert_eq!(asked, Some(2));
    }
}
