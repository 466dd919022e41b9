//! NodePools that are as large as they say, whatever pods there are.

use api_kube::karpenter::{NodeClaim, NodePool};
use aws_ec2::capacity_reservation::{CreateCapacityReservation, CreateCapacityReservationRequest};
use karpenter_aws::{Config, FeatureGates};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::{
    MANY,
    support::{Fate, World, object},
};

async fn world(is_open: bool) -> World {
    let gates = FeatureGates { static_capacity: is_open, ..FeatureGates::default() };
    let world = World::with(MANY, Config { gates, ..Config::new("stead") }).await;
    make_fixed(&world).await;
    world
}

async fn make_fixed(world: &World) {
    let pool: NodePool = object(json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": { "name": "fixed" },
        "spec": { "replicas": 2, "template": { "spec": {
            "requirements": [
                { "key": "karpenter.k8s.aws/instance-category", "operator": "In", "values": ["m"] },
                { "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"] }],
            "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass",
                "name": "default" } } } } }));
    world.node_pools().create(&PostParams::default(), &pool).await.unwrap();
}

async fn launched(world: &World) -> Vec<String> {
    let claims = world.claims().await.into_iter();
    let there =
        claims.filter(|it| it.is_true("Launched") && it.metadata.deletion_timestamp.is_none());
    there.map(|it| it.name().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_static_pool_has_its_nodes_without_any_pod_and_shrinks_when_it_is_told_to() {
    let world = world(true).await;
    world
        .until("there are two", || async { (launched(&world).await.len() == 2).then_some(()) })
        .await;
    for claim in world.claims().await {
        world.join(&claim).await;
    }
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    assert_eq!(launched(&world).await.len(), 2, "they are empty, and stay");
    let patch = json!({ "spec": { "replicas": 1 } });
    let patched =
        world.node_pools().patch("fixed", &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.unwrap();
    world
        .until("one is left", || async {
            world.end_instances().await;
            (world.claims().await.len() == 1 && world.instances().await.len() == 1).then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_drifted_node_of_a_static_pool_is_replaced_before_it_goes() {
    let world = world(true).await;
    world
        .until("there are two", || async { (launched(&world).await.len() == 2).then_some(()) })
        .await;
    let before = launched(&world).await;
    for claim in world.claims().await {
        world.join(&claim).await;
    }
    let patch = json!({ "spec": { "template": { "metadata": { "labels": { "team": "red" } } } } });
    let patched =
        world.node_pools().patch("fixed", &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.unwrap();
    let joined = std::cell::RefCell::new(before.clone());
    world
        .until("both are replaced", || async {
            world.end_instances().await;
            for claim in world.claims().await {
                let is_new = !joined.borrow().iter().any(|it| it == claim.name());
                if is_new && claim.is_true("Launched") {
                    let there = launched(&world).await.len();
                    assert!((2..=3).contains(&there), "{there} nodes");
                    joined.borrow_mut().push(claim.name().to_owned());
                    world.join(&claim).await;
                }
            }
            let now = launched(&world).await;
            (now.len() == 2 && now.iter().all(|it| !before.contains(it))).then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_drifted_node_of_a_static_pool_stays_where_the_limit_leaves_no_room_for_another() {
    let world = world(true).await;
    world
        .until("there are two", || async { (launched(&world).await.len() == 2).then_some(()) })
        .await;
    for claim in world.claims().await {
        world.join(&claim).await;
    }
    let before = launched(&world).await;
    let patch = |limit: &str| {
        json!({ "spec": { "limits": { "nodes": limit },
            "template": { "metadata": { "labels": { "team": "red" } } } } })
    };
    let limit = async |limit: &str| {
        let patch = Patch::Merge(patch(limit));
        world.node_pools().patch("fixed", &PatchParams::default(), &patch).await.unwrap();
    };
    limit("2").await;
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    assert_eq!(launched(&world).await, before);
    for claim in world.claims().await {
        assert_eq!(claim.condition("Drifted").unwrap().reason, "NodePoolDrifted");
    }
    limit("3").await;
    world
        .until("a third is made", || async { (launched(&world).await.len() == 3).then_some(()) })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_static_pool_takes_no_more_room_of_a_reservation_than_there_is() {
    let gates = FeatureGates { static_capacity: true, ..FeatureGates::default() };
    let world = World::with(MANY, Config { gates, ..Config::new("stead") }).await;
    let request = CreateCapacityReservationRequest {
        instance_type: "m5.4xlarge".to_owned(),
        instance_platform: "Linux/UNIX".to_owned(),
        availability_zone: Some("us-east-1b".to_owned()),
        instance_count: 1,
        ..Default::default()
    };
    let made = world.aws.call::<CreateCapacityReservation>(request).await.unwrap();
    let id = made.capacity_reservation.unwrap().capacity_reservation_id;
    let parameters = PatchParams::default();
    let patch = json!({ "spec": { "capacityReservationSelectorTerms": [{ "id": id }] } });
    world.classes().patch("default", &parameters, &Patch::Merge(&patch)).await.unwrap();
    let is_found = || async {
        let status = world.classes().get("default").await.unwrap().status?;
        (!status.capacity_reservations.is_empty()).then_some(())
    };
    world.until("the class has found it", is_found).await;
    make_fixed(&world).await;
    let requirements = json!([
        { "key": "karpenter.k8s.aws/instance-category", "operator": "In", "values": ["m"] },
        { "key": "karpenter.sh/capacity-type", "operator": "In",
            "values": ["on-demand", "reserved"] }]);
    let patch = json!({ "spec": { "template": { "spec": { "requirements": requirements } } } });
    world.node_pools().patch("fixed", &parameters, &Patch::Merge(&patch)).await.unwrap();
    world
        .until("there are two", || async { (launched(&world).await.len() == 2).then_some(()) })
        .await;
    let claims = world.claims().await;
    let capacity =
        |it: &NodeClaim| it.metadata.labels.as_ref().unwrap()["karpenter.sh/capacity-type"].clone();
    let mut all: Vec<_> = claims.iter().map(capacity).collect();
    all.sort();
    assert_eq!(all, ["on-demand", "reserved"]);
    // None was made that had to go again.
    let made = world.config.metrics.render();
    let count = made.lines().filter(|it| it.starts_with("karpenter_nodeclaims_created_total{"));
    let total: f64 = count.filter_map(|it| it.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    assert!((total - 2.0).abs() < f64::EPSILON, "{made}");
}

#[tokio::test(start_paused = true)]
async fn a_static_pool_that_gets_no_instances_holds_up_no_pod() {
    let gates = FeatureGates { static_capacity: true, ..FeatureGates::default() };
    let world = World::with(MANY, Config { gates, ..Config::new("stead") }).await;
    let wait = std::time::Duration::from_secs(200);
    world.meet("CreateFleet", Fate::Late(wait));
    world.meet("CreateFleet", Fate::Late(wait));
    make_fixed(&world).await;
    world
        .until("the pool has its claims", || async {
            (world.claims().await.len() == 2).then_some(())
        })
        .await;
    // Both calls are on their way.
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    world.pending("web", "1").await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    let launched = launched(&world).await;
    assert!(launched.len() == 1 && launched[0].starts_with("default-"), "{launched:?}");
}

#[tokio::test(start_paused = true)]
async fn a_static_pool_has_no_nodes_while_the_gate_is_shut() {
    let world = world(false).await;
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert!(world.claims().await.is_empty());
}
