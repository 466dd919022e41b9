//! Capacity reservations that a class selects: who gets their room, and what becomes of nodes when they end.

use std::time::Duration;

use api_kube::karpenter::{NodeClaim, labels};
use aws_ec2::{
    capacity_reservation::{
        CancelCapacityReservation, CancelCapacityReservationRequest, CreateCapacityReservation,
        CreateCapacityReservationRequest, DescribeCapacityReservations,
        DescribeCapacityReservationsRequest, ModifyCapacityReservation,
        ModifyCapacityReservationRequest,
    },
    run_instances::{PlacementInput, RunInstances, RunInstancesRequest},
};
use karpenter_aws::{Config, FeatureGates};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    MANY,
    support::{Fate, World},
};

/// Room for so many of a type that is not the cheapest.
async fn reserve(world: &World, count: i64) -> String {
    let request = CreateCapacityReservationRequest {
        instance_type: "m5.4xlarge".to_owned(),
        instance_platform: "Linux/UNIX".to_owned(),
        availability_zone: Some("us-east-1b".to_owned()),
        instance_count: count,
        ..Default::default()
    };
    let made = world.aws.call::<CreateCapacityReservation>(request).await.unwrap();
    made.capacity_reservation.unwrap().capacity_reservation_id.unwrap()
}

async fn left(world: &World, id: &str) -> i64 {
    let request = DescribeCapacityReservationsRequest {
        capacity_reservation_ids: vec![id.to_owned()],
        ..Default::default()
    };
    let found = world.aws.call::<DescribeCapacityReservations>(request).await.unwrap();
    found.capacity_reservations[0].available_instance_count.unwrap()
}

async fn select(world: &World, terms: Value) {
    let patch = json!({ "spec": { "capacityReservationSelectorTerms": terms } });
    let parameters = PatchParams::default();
    world.classes().patch("default", &parameters, &Patch::Merge(&patch)).await.unwrap();
}

/// A world whose pool may use the reservation, once its class has found it.
async fn world(count: i64) -> (World, String) {
    world_with(FeatureGates::default(), count).await
}

async fn world_with(gates: FeatureGates, count: i64) -> (World, String) {
    let world = World::with(MANY, Config { gates, ..Config::new("stead") }).await;
    world
        .require(json!([
            { "key": labels::INSTANCE_CATEGORY, "operator": "In", "values": ["m"] },
            { "key": labels::CAPACITY_TYPE, "operator": "In",
                "values": ["on-demand", "reserved"] }]))
        .await;
    let id = reserve(&world, count).await;
    select(&world, json!([{ "id": id }])).await;
    let is_found = || async {
        let status = world.classes().get("default").await.unwrap().status?;
        (status.capacity_reservations.first()?.id == id).then_some(())
    };
    world.until("the class has found it", is_found).await;
    (world, id)
}

fn label<'a>(claim: &'a NodeClaim, key: &str) -> Option<&'a str> {
    claim.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

async fn launched(world: &World, count: usize) -> Vec<NodeClaim> {
    world
        .until(&format!("{count} are launched"), || async {
            let claims = world.claims().await.into_iter();
            let there: Vec<_> = claims.filter(|it| it.is_true("Launched")).collect();
            (there.len() == count).then_some(there)
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn reserved_room_is_used_first_and_no_more_of_it_than_there_is() {
    let (world, id) = world(1).await;
    world.pending("web", "1").await;
    let first = launched(&world, 1).await.remove(0);
    assert_eq!(label(&first, labels::INSTANCE_TYPE), Some("m5.4xlarge"));
    assert_eq!(label(&first, labels::ZONE), Some("us-east-1b"));
    assert_eq!(label(&first, labels::CAPACITY_TYPE), Some("reserved"));
    assert_eq!(label(&first, labels::CAPACITY_RESERVATION_ID), Some(id.as_str()));
    assert_eq!(label(&first, labels::CAPACITY_RESERVATION_TYPE), Some("default"));
    assert_eq!(world.instances().await[0].capacity_reservation_id.as_ref(), Some(&id));
    assert_eq!(left(&world, &id).await, 0);
    // What does not fit beside it is bought, at once.
    world.pending("more", "15500m").await;
    let both = launched(&world, 2).await;
    let other = both.iter().find(|it| it.name() != first.name()).unwrap();
    assert_eq!(label(other, labels::CAPACITY_TYPE), Some("on-demand"));
    assert_eq!(label(other, labels::CAPACITY_RESERVATION_ID), None);
    let name = world.join(&first).await;
    world.claim_that_is("Initialized").await;
    let node = world.node(&name).await.unwrap();
    assert_eq!(node.metadata.labels.unwrap()[labels::CAPACITY_TYPE], "reserved");
}

#[tokio::test(start_paused = true)]
async fn several_pods_at_once_share_out_the_room_that_there_is() {
    let (world, id) = world(2).await;
    for pod in ["a", "b", "c"] {
        world.pending(pod, "15").await;
    }
    let all = launched(&world, 3).await;
    let reserved = all.iter().filter(|it| label(it, labels::CAPACITY_TYPE) == Some("reserved"));
    assert_eq!(reserved.count(), 2);
    assert_eq!(left(&world, &id).await, 0);
}

#[tokio::test(start_paused = true)]
async fn who_finds_that_the_room_is_taken_is_given_another_node() {
    let (world, id) = world(1).await;
    // Somebody else is faster; Karpenter has not looked since.
    let image = region_ec2::seed::releases().last().unwrap().image_id();
    let request = RunInstancesRequest {
        image_id: Some(image),
        instance_type: Some("m5.4xlarge".to_owned()),
        placement: Some(PlacementInput {
            availability_zone: Some("us-east-1b".to_owned()),
            ..Default::default()
        }),
        min_count: 1,
        max_count: 1,
        ..Default::default()
    };
    world.aws.call::<RunInstances>(request).await.unwrap();
    assert_eq!(left(&world, &id).await, 0);
    world.pending("web", "1").await;
    let claim = launched(&world, 1).await.remove(0);
    assert_eq!(label(&claim, labels::CAPACITY_TYPE), Some("on-demand"));
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_reservation_ends_goes_on_as_on_demand() {
    let (world, id) = world(1).await;
    world.pending("web", "14").await;
    let claim = launched(&world, 1).await.remove(0);
    let name = world.join(&claim).await;
    world.claim_that_is("Initialized").await;
    let now = kube::api::DeleteParams::default().grace_period(0);
    world.pods().delete("web", &now).await.unwrap();
    world.running("web", &name, "14").await;
    let request = CancelCapacityReservationRequest { capacity_reservation_id: id, dry_run: None };
    world.aws.call::<CancelCapacityReservation>(request).await.unwrap();
    world
        .until("the claim and the node say so", || async {
            let claim = world.claims().await.remove(0);
            let node = world.node(&name).await?.metadata.labels?;
            let is_said = label(&claim, labels::CAPACITY_TYPE) == Some("on-demand")
                && label(&claim, labels::CAPACITY_RESERVATION_ID).is_none()
                && node[labels::CAPACITY_TYPE] == "on-demand"
                && !node.contains_key(labels::CAPACITY_RESERVATION_ID);
            is_said.then_some(())
        })
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!world.claims().await[0].is_true("Drifted"));
}

#[tokio::test(start_paused = true)]
async fn a_node_in_a_reservation_that_its_class_no_longer_selects_has_drifted() {
    let (world, id) = world(1).await;
    world.pending("web", "14").await;
    let claim = launched(&world, 1).await.remove(0);
    let name = world.join(&claim).await;
    world.claim_that_is("Initialized").await;
    // It is not empty, so that nothing else takes it away.
    let now = kube::api::DeleteParams::default().grace_period(0);
    world.pods().delete("web", &now).await.unwrap();
    world.running("web", &name, "14").await;
    // Karpenter has to have seen in which reservation it is.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!world.claims().await[0].is_true("Drifted"));
    let hash = |claim: &NodeClaim| {
        claim.metadata.annotations.as_ref().unwrap()["karpenter.k8s.aws/ec2nodeclass-hash"].clone()
    };
    let before = hash(&claim);
    select(&world, json!([{ "tags": { "team": "another" } }])).await;
    let drifted = world.claim_that_is("Drifted").await;
    assert_eq!(drifted.condition("Drifted").unwrap().reason, "CapacityReservationDrift");
    assert_eq!(hash(&drifted), before, "selectors are no part of the class's hash");
    assert_eq!(label(&drifted, labels::CAPACITY_RESERVATION_ID), Some(id.as_str()));
    let status = world.classes().get("default").await.unwrap().status.unwrap();
    assert!(status.capacity_reservations.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reservation_that_was_cancelled_or_is_forgotten_is_not_asked_for_twice() {
    for since in [Duration::ZERO, Duration::from_secs(3660)] {
        let (world, id) = world(1).await;
        // Until then Karpenter believes that it is there.
        world.meet("DescribeCapacityReservations", Fate::Late(Duration::from_secs(3 * 3600)));
        tokio::time::sleep(Duration::from_secs(15)).await;
        let request =
            CancelCapacityReservationRequest { capacity_reservation_id: id, dry_run: None };
        world.aws.call::<CancelCapacityReservation>(request).await.unwrap();
        tokio::time::sleep(since).await;
        world.pending("web", "1").await;
        let wait = Duration::from_secs(60);
        let claim = tokio::time::timeout(wait, launched(&world, 1)).await.expect("it is bought");
        assert_eq!(label(&claim[0], labels::CAPACITY_TYPE), Some("on-demand"), "{since:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn room_that_a_claim_is_to_have_is_there_for_no_other() {
    let gates = FeatureGates { static_capacity: true, ..FeatureGates::default() };
    let (world, _) = world_with(gates, 1).await;
    // What is on its way nobody can look up.
    let late = Duration::from_secs(3600);
    world.meet("DescribeCapacityReservations", Fate::Late(late));
    world.meet("CreateFleet", Fate::Late(Duration::from_secs(120)));
    tokio::time::sleep(Duration::from_secs(15)).await;
    let mut pool = world.node_pools().get("default").await.unwrap();
    pool.metadata = kube::core::ObjectMeta { name: Some("fixed".to_owned()), ..Default::default() };
    pool.spec.replicas = Some(1);
    world.node_pools().create(&Default::default(), &pool).await.unwrap();
    let is_made = || async { (!world.claims().await.is_empty()).then_some(()) };
    world.until("the static pool has its claim", is_made).await;
    world.pending("web", "1").await;
    let bought = launched(&world, 1).await.remove(0);
    assert_eq!(label(&bought, labels::CAPACITY_TYPE), Some("on-demand"));
    let both = launched(&world, 2).await;
    let reserved = both.iter().filter(|it| label(it, labels::CAPACITY_TYPE) == Some("reserved"));
    assert_eq!(reserved.count(), 1);
    let made = world.config.metrics.render();
    let of_pods =
        "karpenter_nodeclaims_created_total{reason=\"provisioned\",nodepool=\"default\"} 1\n";
    assert!(made.contains(of_pods), "{made}");
}

#[tokio::test(start_paused = true)]
async fn a_bought_node_that_an_open_reservation_has_taken_in_has_not_drifted() {
    let gates = FeatureGates { reserved_capacity: false, ..FeatureGates::default() };
    let mut world = World::with(MANY, Config { gates, ..Config::new("stead") }).await;
    world.pending("web", "14").await;
    let claim = launched(&world, 1).await.remove(0);
    let (kind, zone) = (label(&claim, labels::INSTANCE_TYPE), label(&claim, labels::ZONE));
    let request = CreateCapacityReservationRequest {
        instance_type: kind.unwrap().to_owned(),
        instance_platform: "Linux/UNIX".to_owned(),
        availability_zone: zone.map(str::to_owned),
        instance_count: 1,
        ..Default::default()
    };
    let name = world.join(&claim).await;
    world.claim_that_is("Initialized").await;
    let now = kube::api::DeleteParams::default().grace_period(0);
    world.pods().delete("web", &now).await.unwrap();
    world.running("web", &name, "14").await;
    world.aws.call::<CreateCapacityReservation>(request).await.unwrap();
    assert!(world.instances().await[0].capacity_reservation_id.is_some(), "it has taken it in");
    world.config.gates = FeatureGates::default();
    world.start();
    tokio::time::sleep(Duration::from_secs(120)).await;
    let claim = world.claims().await.remove(0);
    assert!(!claim.is_true("Drifted"), "{:?}", claim.condition("Drifted"));
    assert_eq!(label(&claim, labels::CAPACITY_TYPE), Some("on-demand"));
}

/// What this region sells as a reservation is a Capacity Block to Karpenter.
fn sell_blocks(world: &World) {
    let kind = |it: &str| format!("<reservationType>{it}</reservationType>");
    world.rewrite("DescribeCapacityReservations", &kind("default"), &kind("capacity-block"));
}

#[tokio::test(start_paused = true)]
async fn a_node_in_a_capacity_block_is_drained_forty_minutes_before_its_end() {
    let (world, id) = world(1).await;
    world.pending("web", "14").await;
    let claim = launched(&world, 1).await.remove(0);
    let name = world.join(&claim).await;
    world.claim_that_is("Initialized").await;
    let now = kube::api::DeleteParams::default().grace_period(0);
    world.pods().delete("web", &now).await.unwrap();
    world.running("web", &name, "14").await;
    world.forbid_evictions().await;
    sell_blocks(&world);
    let request = ModifyCapacityReservationRequest {
        capacity_reservation_id: id.clone(),
        end_date_type: Some("limited".to_owned()),
        end_date: Some("2026-11-29T12:46:00Z".to_owned()),
        ..Default::default()
    };
    world.aws.call::<ModifyCapacityReservation>(request).await.unwrap();
    let state = async || {
        let status = world.classes().get("default").await.unwrap().status.unwrap();
        status.capacity_reservations[0].state.clone().unwrap()
    };
    let is_leaving = async || {
        let claims = world.claims().await;
        let found = claims.iter().find(|it| it.metadata.name == claim.metadata.name);
        found.is_none_or(|it| it.metadata.deletion_timestamp.is_some())
    };
    // It is noon, and a little later.
    tokio::time::sleep(Duration::from_secs(4 * 60)).await;
    assert!(!is_leaving().await);
    assert_eq!(state().await, "active");
    tokio::time::sleep(Duration::from_secs(4 * 60)).await;
    assert!(is_leaving().await, "{:#?}", world.claims().await);
    assert_eq!(state().await, "expiring");
}

#[tokio::test(start_paused = true)]
async fn what_is_a_capacity_block_is_launched_as_one() {
    let (world, _) = world(1).await;
    sell_blocks(&world);
    // Until it has looked again.
    tokio::time::sleep(Duration::from_secs(15)).await;
    world.pending("web", "1").await;
    // This region has none, and says so.
    let why = world
        .until("the claim says why its launch was refused", || async {
            let claim = world.claims().await.into_iter().next()?;
            Some(claim.condition("Launched")?.message.clone()).filter(|it| !it.is_empty())
        })
        .await;
    assert!(why.contains("Capacity Blocks"), "{why}");
    let claim = world.claims().await.remove(0);
    let mut wanted = claim.spec.requirements.iter();
    let kind = wanted.find(|it| it.key == labels::CAPACITY_RESERVATION_TYPE);
    assert!(kind.is_none_or(|it| it.values == ["capacity-block"]), "{kind:?}");
}

#[tokio::test(start_paused = true)]
async fn a_class_that_selects_a_reservation_that_is_not_there_is_ready_without_it() {
    let world = World::new(MANY).await;
    select(&world, json!([{ "id": "cr-0123456789abcdef0" }])).await;
    world.pending("web", "1").await;
    let claim = launched(&world, 1).await.remove(0);
    assert_eq!(label(&claim, labels::CAPACITY_TYPE), Some("on-demand"));
    let status = world.classes().get("default").await.unwrap().status.unwrap();
    assert!(status.capacity_reservations.is_empty());
    let ready = status.conditions.iter().find(|it| it.type_ == "CapacityReservationsReady");
    assert_eq!(ready.unwrap().status, "True");
}
