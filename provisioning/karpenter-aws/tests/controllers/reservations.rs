//! Capacity reservations that a class selects: who gets their room, and what becomes of nodes when they end.

use std::time::Duration;

use api_kube::karpenter::{NodeClaim, labels};
use aws_ec2::{
    capacity_reservation::{
        CancelCapacityReservation, CancelCapacityReservationRequest, CreateCapacityReservation,
        CreateCapacityReservationRequest, DescribeCapacityReservations,
        DescribeCapacityReservationsRequest,
    },
    run_instances::{PlacementInput, RunInstances, RunInstancesRequest},
};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{MANY, support::World};

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
    let world = World::new(MANY).await;
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
