//! Room that is kept: who gets it, who does not, and what becomes of it.

use std::time::Duration;

use aws_ec2::{
    capacity_reservation::{
        CancelCapacityReservation, CancelCapacityReservationRequest, CapacityReservation,
        CapacityReservationSpecification, CapacityReservationTarget, CreateCapacityReservation,
        CreateCapacityReservationRequest, DescribeCapacityReservations,
        DescribeCapacityReservationsRequest, ModifyCapacityReservation,
        ModifyCapacityReservationRequest,
    },
    fleet::{
        CapacityReservationOptionsRequest, CreateFleet, CreateFleetRequest,
        FleetLaunchTemplateConfigRequest, FleetLaunchTemplateOverridesRequest,
        OnDemandOptionsRequest, TargetCapacitySpecificationRequest,
    },
    instance::{DescribeInstances, DescribeInstancesRequest, Instance},
    instance_state::{
        StartInstances, StartInstancesRequest, StopInstances, StopInstancesRequest,
        TerminateInstances, TerminateInstancesRequest,
    },
    launch_template::{CreateLaunchTemplate, CreateLaunchTemplateRequest},
    launch_template_request::RequestLaunchTemplateData,
    run_instances::{
        InstanceMarketOptionsRequest, LaunchTemplateSpecification, PlacementInput, RunInstances,
        RunInstancesRequest,
    },
};

use super::support::*;
use crate::records::HostReport;

fn wanted(count: i64) -> CreateCapacityReservationRequest {
    CreateCapacityReservationRequest {
        instance_type: "m5.large".to_owned(),
        instance_platform: "Linux/UNIX".to_owned(),
        availability_zone: text("us-east-1a"),
        instance_count: count,
        ..Default::default()
    }
}

async fn reserve(region: &Region, request: CreateCapacityReservationRequest) -> String {
    let made = region.call::<CreateCapacityReservation>(request).await.capacity_reservation;
    made.unwrap().capacity_reservation_id.unwrap()
}

async fn described(region: &Region, id: &str) -> CapacityReservation {
    let request = DescribeCapacityReservationsRequest {
        capacity_reservation_ids: vec![id.to_owned()],
        ..Default::default()
    };
    region.call::<DescribeCapacityReservations>(request).await.capacity_reservations.remove(0)
}

async fn available(region: &Region, id: &str) -> i64 {
    described(region, id).await.available_instance_count.unwrap()
}

/// A launch into the zone of the reservations.
fn launch_in(zone: &str) -> RunInstancesRequest {
    let placement = PlacementInput { availability_zone: text(zone), ..Default::default() };
    RunInstancesRequest { placement: Some(placement), ..launch() }
}

fn preferring(preference: Option<&str>, target: Option<&str>) -> RunInstancesRequest {
    let target = target.map(|id| CapacityReservationTarget {
        capacity_reservation_id: text(id),
        ..Default::default()
    });
    let wanted = CapacityReservationSpecification {
        capacity_reservation_preference: preference.map(str::to_owned),
        capacity_reservation_target: target,
    };
    RunInstancesRequest {
        capacity_reservation_specification: Some(wanted),
        ..launch_in("us-east-1a")
    }
}

fn id(instance: &Instance) -> String {
    instance.instance_id.clone().unwrap()
}

async fn instance(region: &Region, id: &str) -> Instance {
    let request =
        DescribeInstancesRequest { instance_ids: vec![id.to_owned()], ..Default::default() };
    let mut found = region.call::<DescribeInstances>(request).await.reservations;
    found.remove(0).instances.remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_fits_takes_the_room_of_an_open_reservation_until_it_ends() {
    let region = region();
    let reservation = reserve(&region, wanted(1)).await;
    let other = region.run(launch_in("us-east-1b")).await.remove(0);
    assert_eq!(other.capacity_reservation_id, None, "it is in another zone");
    let first = region.run(launch_in("us-east-1a")).await.remove(0);
    assert_eq!(first.capacity_reservation_id.as_ref(), Some(&reservation));
    let second = region.run(launch_in("us-east-1a")).await.remove(0);
    assert_eq!(second.capacity_reservation_id, None, "it is full");
    assert_eq!(available(&region, &reservation).await, 0);
    let terminate =
        TerminateInstancesRequest { instance_ids: vec![id(&first)], ..Default::default() };
    region.call::<TerminateInstances>(terminate).await;
    region.report(&id(&first), &HostReport::Terminated);
    assert_eq!(available(&region, &reservation).await, 1);
    let filters = vec![filter("capacity-reservation-id", &[&reservation])];
    let request = DescribeInstancesRequest { filters, ..Default::default() };
    let found = region.call::<DescribeInstances>(request).await.reservations;
    assert_eq!(id(&found[0].instances[0]), id(&first));
}

#[tokio::test(start_paused = true)]
async fn a_launch_is_let_into_the_reservations_that_it_asks_for_and_no_others() {
    let region = region();
    let targeted =
        CreateCapacityReservationRequest { instance_match_criteria: text("targeted"), ..wanted(1) };
    let targeted = reserve(&region, targeted).await;
    let open = reserve(&region, wanted(1)).await;
    let none = region.run(preferring(Some("none"), None)).await.remove(0);
    assert_eq!(none.capacity_reservation_id, None);
    let only = region.run(preferring(Some("capacity-reservations-only"), None)).await.remove(0);
    assert_eq!(only.capacity_reservation_id.as_ref(), Some(&open));
    let full = region.code::<RunInstances>(preferring(Some("capacity-reservations-only"), None));
    assert_eq!(full.await, "ReservationCapacityExceeded");
    let named = region.run(preferring(None, Some(&targeted))).await.remove(0);
    assert_eq!(named.capacity_reservation_id.as_ref(), Some(&targeted));
    let said = named.capacity_reservation_specification.unwrap();
    let said = said.capacity_reservation_target.and_then(|it| it.capacity_reservation_id);
    assert_eq!(said.as_ref(), Some(&targeted));
    let full = region.code::<RunInstances>(preferring(None, Some(&targeted))).await;
    assert_eq!(full, "ReservationCapacityExceeded");
    let market = InstanceMarketOptionsRequest { market_type: text("spot"), ..Default::default() };
    let spot = RunInstancesRequest {
        instance_market_options: Some(market),
        ..preferring(None, Some(&open))
    };
    let elsewhere = RunInstancesRequest {
        placement: launch_in("us-east-1b").placement,
        ..preferring(None, Some(&open))
    };
    for (request, code) in [
        (preferring(None, Some("cr-0123456789abcdef0")), "InvalidCapacityReservationId.NotFound"),
        (preferring(None, Some("cr-x")), "InvalidCapacityReservationId.Malformed"),
        (preferring(Some("open"), Some(&open)), "InvalidParameterCombination"),
        (preferring(Some("sometimes"), None), "InvalidParameterValue"),
        (spot, "InvalidParameterCombination"),
        (elsewhere, "InvalidParameterValue"),
    ] {
        assert_eq!(region.code::<RunInstances>(request).await, code);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_there_for_nobody_else() {
    let region = with_capacity(2);
    let reservation = reserve(&region, wanted(1)).await;
    let more = region.code::<CreateCapacityReservation>(wanted(2)).await;
    assert_eq!(more, "InsufficientInstanceCapacity");
    let other = region.run(launch_in("us-east-1b")).await.remove(0);
    let refused = region.code::<RunInstances>(launch_in("us-east-1b")).await;
    assert_eq!(refused, "InsufficientInstanceCapacity");
    let own = region.run(launch_in("us-east-1a")).await.remove(0);
    assert_eq!(own.capacity_reservation_id.as_ref(), Some(&reservation));
    assert_ne!(id(&own), id(&other));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_counts_against_the_quota() {
    let region = region();
    // Of 1152 vCPUs, 1150.
    let large = CreateCapacityReservationRequest { instance_count: 575, ..wanted(1) };
    let reservation = reserve(&region, large).await;
    region.run(launch_in("us-east-1b")).await;
    let over = region.code::<RunInstances>(launch_in("us-east-1b")).await;
    assert_eq!(over, "VcpuLimitExceeded");
    assert_eq!(region.code::<CreateCapacityReservation>(wanted(1)).await, "VcpuLimitExceeded");
    let own = region.run(launch_in("us-east-1a")).await.remove(0);
    assert_eq!(own.capacity_reservation_id.as_ref(), Some(&reservation));
}

#[tokio::test(start_paused = true)]
async fn instances_go_on_without_a_reservation_that_ends_or_is_cancelled() {
    let region = region();
    let limited = CreateCapacityReservationRequest {
        end_date: text("2026-11-23T13:00:00Z"),
        end_date_type: text("limited"),
        ..wanted(1)
    };
    let limited = reserve(&region, limited).await;
    let first = region.run(launch_in("us-east-1a")).await.remove(0);
    assert_eq!(first.capacity_reservation_id.as_ref(), Some(&limited));
    let due = region.ec2.settle().unwrap().unwrap();
    assert_eq!(due.to_string(), "2026-11-23T13:00:00Z");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    region.ec2.settle().unwrap();
    let ended = described(&region, &limited).await;
    assert_eq!(
        (ended.state.as_deref(), ended.available_instance_count),
        (Some("expired"), Some(0))
    );
    assert_eq!(instance(&region, &id(&first)).await.capacity_reservation_id, None);
    // The first is running, and takes a place of a reservation that is open to it.
    let cancelled = reserve(&region, wanted(2)).await;
    let second = region.run(launch_in("us-east-1a")).await.remove(0);
    assert_eq!(second.capacity_reservation_id.as_ref(), Some(&cancelled));
    let cancel = CancelCapacityReservationRequest {
        capacity_reservation_id: cancelled.clone(),
        dry_run: None,
    };
    region.call::<CancelCapacityReservation>(cancel.clone()).await;
    assert_eq!(described(&region, &cancelled).await.state.as_deref(), Some("cancelled"));
    assert_eq!(instance(&region, &id(&second)).await.capacity_reservation_id, None);
    assert_eq!(
        region.code::<CancelCapacityReservation>(cancel).await,
        "InvalidCapacityReservationState"
    );
    assert_eq!(
        region.code::<RunInstances>(preferring(None, Some(&cancelled))).await,
        "InvalidCapacityReservationState"
    );
    // What has ended is forgotten in time.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    region.ec2.settle().unwrap();
    let request = DescribeCapacityReservationsRequest::default();
    let left = region.call::<DescribeCapacityReservations>(request).await.capacity_reservations;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reservation_is_changed_within_what_is_used_and_what_there_is() {
    let region = with_capacity(3);
    let reservation = reserve(&region, wanted(2)).await;
    region.run(launch_in("us-east-1a")).await;
    region.run(launch_in("us-east-1a")).await;
    let change = |it: fn(&mut ModifyCapacityReservationRequest)| {
        let mut request = ModifyCapacityReservationRequest {
            capacity_reservation_id: reservation.clone(),
            ..Default::default()
        };
        it(&mut request);
        request
    };
    for (request, code) in [
        (change(|it| it.instance_count = Some(1)), "InvalidParameterValue"),
        (change(|it| it.instance_count = Some(0)), "InvalidParameterValue"),
        (change(|it| it.instance_count = Some(4)), "InsufficientInstanceCapacity"),
        (change(|it| it.end_date_type = text("limited")), "MissingParameter"),
        (change(|it| it.end_date = text("2020-01-01T00:00:00Z")), "InvalidParameterValue"),
        (change(|it| it.instance_match_criteria = text("closed")), "InvalidParameterValue"),
    ] {
        assert_eq!(region.code::<ModifyCapacityReservation>(request).await, code);
    }
    let request = change(|it| {
        it.instance_count = Some(3);
        it.end_date = text("2026-11-30T00:00:00Z");
        it.end_date_type = text("limited");
    });
    region.call::<ModifyCapacityReservation>(request).await;
    let found = described(&region, &reservation).await;
    assert_eq!((found.total_instance_count, found.available_instance_count), (Some(3), Some(1)));
    assert_eq!(found.end_date.as_deref(), Some("2026-11-30T00:00:00.000Z"));
    region
        .call::<ModifyCapacityReservation>(change(|it| it.end_date_type = text("unlimited")))
        .await;
    assert_eq!(described(&region, &reservation).await.end_date, None);
}

#[tokio::test(start_paused = true)]
async fn who_may_use_a_reservation_changes_only_while_nobody_uses_it() {
    let region = region();
    let reservation = reserve(&region, wanted(1)).await;
    let criteria = |it: &str| ModifyCapacityReservationRequest {
        capacity_reservation_id: reservation.clone(),
        instance_match_criteria: text(it),
        ..Default::default()
    };
    region.call::<ModifyCapacityReservation>(criteria("targeted")).await;
    let bought = region.run(launch_in("us-east-1a")).await.remove(0);
    assert_eq!(bought.capacity_reservation_id, None);
    // It runs, and is of this kind.
    region.call::<ModifyCapacityReservation>(criteria("open")).await;
    let taken = instance(&region, &id(&bought)).await.capacity_reservation_id;
    assert_eq!(taken.as_ref(), Some(&reservation));
    let refused = region.code::<ModifyCapacityReservation>(criteria("targeted")).await;
    assert_eq!(refused, "InvalidParameterValue");
    region.call::<ModifyCapacityReservation>(criteria("open")).await;
}

#[tokio::test(start_paused = true)]
async fn running_instances_of_its_kind_are_in_an_open_reservation_from_when_it_is_made() {
    let region = with_capacity(6);
    let first = region.run(launch_in("us-east-1a")).await.remove(0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = region.run(launch_in("us-east-1a")).await.remove(0);
    let elsewhere = region.run(launch_in("us-east-1b")).await.remove(0);
    let unwilling = region.run(preferring(Some("none"), None)).await.remove(0);
    let targeted =
        CreateCapacityReservationRequest { instance_match_criteria: text("targeted"), ..wanted(1) };
    reserve(&region, targeted).await;
    let of = async |it: &Instance| instance(&region, &id(it)).await.capacity_reservation_id;
    assert_eq!(of(&first).await, None);
    let reservation = reserve(&region, wanted(1)).await;
    assert_eq!(of(&first).await.as_ref(), Some(&reservation), "the oldest");
    assert_eq!(of(&second).await, None, "it is full");
    // The machine has room for one more.
    let request = ModifyCapacityReservationRequest {
        capacity_reservation_id: reservation.clone(),
        instance_count: Some(3),
        ..Default::default()
    };
    region.call::<ModifyCapacityReservation>(request).await;
    assert_eq!(of(&second).await.as_ref(), Some(&reservation));
    assert_eq!((of(&elsewhere).await, of(&unwilling).await), (None, None));
    assert_eq!(available(&region, &reservation).await, 1);
    let full = region.code::<RunInstances>(launch_in("us-east-1b")).await;
    assert_eq!(full, "InsufficientInstanceCapacity");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_instance_gives_its_room_back_and_takes_what_there_is_when_it_starts() {
    let region = region();
    let reservation = reserve(&region, wanted(1)).await;
    let first = id(&region.run(preferring(None, Some(&reservation))).await[0]);
    region.report(&first, &HostReport::Started);
    let ids = || vec![first.clone()];
    region
        .call::<StopInstances>(StopInstancesRequest { instance_ids: ids(), ..Default::default() })
        .await;
    region.report(&first, &HostReport::Stopped);
    assert_eq!(available(&region, &reservation).await, 1);
    let second = id(&region.run(launch_in("us-east-1a")).await[0]);
    let start = || StartInstancesRequest { instance_ids: ids(), ..Default::default() };
    let full = region.code::<StartInstances>(start()).await;
    assert_eq!(full, "ReservationCapacityExceeded");
    let terminate =
        TerminateInstancesRequest { instance_ids: vec![second.clone()], ..Default::default() };
    region.call::<TerminateInstances>(terminate).await;
    region.report(&second, &HostReport::Terminated);
    region.call::<StartInstances>(start()).await;
    assert_eq!(instance(&region, &first).await.capacity_reservation_id, Some(reservation));
}

#[tokio::test(start_paused = true)]
async fn a_fleet_uses_reservations_first_where_it_is_told_to_and_a_template_may_name_one() {
    let region = region();
    let subnet = region.subnets().await[0].subnet_id.clone().unwrap();
    let large =
        CreateCapacityReservationRequest { instance_type: "m5.4xlarge".to_owned(), ..wanted(1) };
    let reservation = reserve(&region, large).await;
    let template = async |name: &str, target: Option<String>| {
        let wanted = target.map(|it| CapacityReservationSpecification {
            capacity_reservation_target: Some(CapacityReservationTarget {
                capacity_reservation_id: Some(it),
                ..Default::default()
            }),
            ..Default::default()
        });
        let request = CreateLaunchTemplateRequest {
            launch_template_name: name.to_owned(),
            launch_template_data: RequestLaunchTemplateData {
                image_id: Some(image_id()),
                capacity_reservation_specification: wanted,
                ..Default::default()
            },
            ..Default::default()
        };
        region.call::<CreateLaunchTemplate>(request).await;
    };
    template("plain", None).await;
    let fleet = |template: &str, types: &[&str], is_first: bool| {
        let overrides = types.iter().map(|it| FleetLaunchTemplateOverridesRequest {
            instance_type: text(it),
            subnet_id: Some(subnet.clone()),
            ..Default::default()
        });
        let options = is_first.then(|| CapacityReservationOptionsRequest {
            usage_strategy: text("use-capacity-reservations-first"),
        });
        CreateFleetRequest {
            r#type: text("instant"),
            launch_template_configs: vec![FleetLaunchTemplateConfigRequest {
                launch_template_specification: Some(LaunchTemplateSpecification {
                    launch_template_name: text(template),
                    ..Default::default()
                }),
                overrides: overrides.collect(),
            }],
            target_capacity_specification: Some(TargetCapacitySpecificationRequest {
                total_target_capacity: 2,
                default_target_capacity_type: text("on-demand"),
                ..Default::default()
            }),
            on_demand_options: Some(OnDemandOptionsRequest {
                capacity_reservation_options: options,
                ..Default::default()
            }),
            ..Default::default()
        }
    };
    let types = |made: &aws_ec2::fleet::CreateFleetResult| {
        let each = made
            .instances
            .iter()
            .flat_map(|it| it.instance_ids.iter().map(|_| it.instance_type.clone().unwrap()));
        each.collect::<Vec<_>>()
    };
    let both = ["m5.4xlarge", "m5.large"];
    let made = region.call::<CreateFleet>(fleet("plain", &both, false)).await;
    assert_eq!(types(&made), ["m5.large", "m5.large"]);
    let made = region.call::<CreateFleet>(fleet("plain", &both, true)).await;
    assert_eq!(types(&made), ["m5.4xlarge", "m5.large"]);
    assert_eq!(available(&region, &reservation).await, 0);
    // The other one is of a template that goes nowhere else.
    template("named", Some(reservation)).await;
    let made = region.call::<CreateFleet>(fleet("named", &both[..1], false)).await;
    assert!(made.instances.is_empty());
    assert_eq!(made.errors[0].error_code.as_deref(), Some("ReservationCapacityExceeded"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_reserved_is_refused() {
    let region = region();
    let with = |change: fn(&mut CreateCapacityReservationRequest)| {
        let mut request = wanted(1);
        change(&mut request);
        request
    };
    for (request, code) in [
        (with(|it| it.instance_count = 0), "InvalidParameterValue"),
        (with(|it| it.instance_count = 1001), "InvalidParameterValue"),
        (with(|it| it.instance_type = "m5.nothing".to_owned()), "InvalidParameterValue"),
        (with(|it| it.instance_type = "m7g.large".to_owned()), "UnsupportedOperation"),
        (with(|it| it.instance_platform = "Windows".to_owned()), "UnsupportedOperation"),
        (with(|it| it.availability_zone = text("us-east-1x")), "InvalidParameterValue"),
        (with(|it| it.availability_zone = None), "MissingParameter"),
        (with(|it| it.availability_zone_id = text("use1-az1")), "InvalidParameterCombination"),
        (with(|it| it.tenancy = text("dedicated")), "UnsupportedOperation"),
        (with(|it| it.start_date = text("2027-01-01T00:00:00Z")), "UnsupportedOperation"),
        (with(|it| it.end_date_type = text("unlimited")), ""),
        (with(|it| it.dry_run = Some(true)), "DryRunOperation"),
    ] {
        if code.is_empty() {
            reserve(&region, request).await;
        } else {
            assert_eq!(region.code::<CreateCapacityReservation>(request).await, code);
        }
    }
    let again = CreateCapacityReservationRequest { client_token: text("t"), ..wanted(1) };
    let first = reserve(&region, again.clone()).await;
    assert_eq!(reserve(&region, again).await, first, "the same call again makes no other");
}
