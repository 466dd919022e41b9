//! Placement groups: what each strategy refuses, and where instances are in them.

use aws_ec2::{
    fleet::{
        CreateFleet, CreateFleetRequest, FleetLaunchTemplateConfigRequest,
        FleetLaunchTemplateOverridesRequest, TargetCapacitySpecificationRequest,
    },
    instance::{DescribeInstances, DescribeInstancesRequest, Instance},
    instance_state::{
        StartInstances, StartInstancesRequest, StopInstances, StopInstancesRequest,
        TerminateInstances, TerminateInstancesRequest,
    },
    launch_template::{CreateLaunchTemplate, CreateLaunchTemplateRequest},
    launch_template_request::{LaunchTemplatePlacementRequest, RequestLaunchTemplateData},
    placement_group::{
        CreatePlacementGroup, CreatePlacementGroupRequest, DeletePlacementGroup,
        DeletePlacementGroupRequest, DescribePlacementGroups, DescribePlacementGroupsRequest,
        PlacementGroup,
    },
    run_instances::{
        LaunchTemplateSpecification, Placement, PlacementInput, RunInstances, RunInstancesRequest,
    },
};

use super::support::*;
use crate::records::HostReport;

async fn make(region: &Region, name: &str, strategy: &str) -> PlacementGroup {
    let request = CreatePlacementGroupRequest {
        group_name: text(name),
        strategy: text(strategy),
        ..Default::default()
    };
    region.call::<CreatePlacementGroup>(request).await.placement_group.unwrap()
}

async fn described(
    region: &Region,
    request: DescribePlacementGroupsRequest,
) -> Vec<PlacementGroup> {
    region.call::<DescribePlacementGroups>(request).await.placement_groups
}

fn into(group: &str, count: i64) -> RunInstancesRequest {
    let placement = PlacementInput {
        group_name: text(group),
        availability_zone: text("us-east-1a"),
        ..Default::default()
    };
    RunInstancesRequest {
        placement: Some(placement),
        min_count: count,
        max_count: count,
        ..launch()
    }
}

fn in_zone(group: &str, zone: &str) -> RunInstancesRequest {
    let mut request = into(group, 1);
    request.placement.as_mut().unwrap().availability_zone = text(zone);
    request
}

fn placed(instance: &Instance) -> &Placement {
    instance.placement.as_ref().unwrap()
}

fn id(instance: &Instance) -> String {
    instance.instance_id.clone().unwrap()
}

fn delete(name: &str) -> DeletePlacementGroupRequest {
    DeletePlacementGroupRequest { dry_run: None, group_name: name.to_owned() }
}

#[tokio::test(start_paused = true)]
async fn groups_are_made_described_and_deleted_by_their_names() {
    let region = region();
    let near = make(&region, "near", "cluster").await;
    make(&region, "apart", "spread").await;
    let by_id = DescribePlacementGroupsRequest {
        group_ids: vec![near.group_id.clone().unwrap()],
        ..Default::default()
    };
    assert_eq!(described(&region, by_id).await, std::slice::from_ref(&near));
    let spread = DescribePlacementGroupsRequest {
        filters: vec![filter("strategy", &["spread"])],
        ..Default::default()
    };
    let apart = described(&region, spread).await.remove(0);
    assert_eq!(apart.spread_level.as_deref(), Some("rack"));
    assert_eq!((apart.state.as_deref(), apart.partition_count), (Some("available"), None));
    let again = CreatePlacementGroupRequest { group_name: text("near"), ..Default::default() };
    let code = region.code::<CreatePlacementGroup>(again).await;
    assert_eq!(code, "InvalidPlacementGroup.Duplicate");
    region.call::<DeletePlacementGroup>(delete("near")).await;
    let code = region.code::<DeletePlacementGroup>(delete("near")).await;
    assert_eq!(code, "InvalidPlacementGroup.Unknown");
    assert_eq!(region.code::<RunInstances>(into("near", 1)).await, "InvalidPlacementGroup.Unknown");
}

#[tokio::test(start_paused = true)]
async fn what_a_strategy_does_not_have_is_refused() {
    let region = region();
    let wanted = |strategy: &str| CreatePlacementGroupRequest {
        group_name: text("x"),
        strategy: text(strategy),
        ..Default::default()
    };
    for (request, code) in [
        (wanted("circle"), "InvalidParameterValue"),
        (
            CreatePlacementGroupRequest { partition_count: Some(8), ..wanted("partition") },
            "InvalidParameterValue",
        ),
        (
            CreatePlacementGroupRequest { partition_count: Some(2), ..wanted("spread") },
            "InvalidParameterCombination",
        ),
        (
            CreatePlacementGroupRequest { spread_level: text("host"), ..wanted("spread") },
            "UnsupportedOperation",
        ),
    ] {
        assert_eq!(region.code::<CreatePlacementGroup>(request).await, code);
    }
    make(&region, "near", "cluster").await;
    let burstable = RunInstancesRequest { instance_type: text("t3.micro"), ..into("near", 1) };
    let fault = region.refused::<RunInstances>(burstable).await;
    assert_eq!(fault.code, "InvalidParameterCombination");
    assert!(fault.message.contains("'t3.micro'"), "{}", fault.message);
    let mut numbered = into("near", 1);
    numbered.placement.as_mut().unwrap().partition_number = Some(1);
    assert_eq!(region.code::<RunInstances>(numbered).await, "InvalidParameterCombination");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_in_one_zone() {
    let region = region();
    let group = make(&region, "near", "cluster").await;
    let first = region.run(in_zone("near", "us-east-1b")).await.remove(0);
    assert_eq!(placed(&first).group_name.as_deref(), Some("near"));
    assert_eq!(placed(&first).group_id, group.group_id);
    let elsewhere = in_zone("near", "us-east-1a");
    assert_eq!(region.code::<RunInstances>(elsewhere).await, "InsufficientInstanceCapacity");
    region.run(in_zone("near", "us-east-1b")).await;
}

#[tokio::test(start_paused = true)]
async fn seven_of_a_spread_run_in_a_zone_and_no_more() {
    let region = with_capacity(20);
    make(&region, "apart", "spread").await;
    let seven = region.run(into("apart", 7)).await;
    let fault = region.refused::<RunInstances>(into("apart", 1)).await;
    assert_eq!(fault.code, "InsufficientInstanceCapacity");
    assert!(fault.message.contains("up to seven"), "{}", fault.message);
    region.run(in_zone("apart", "us-east-1b")).await;
    // One that is stopped makes room, and finds none when it starts again.
    let first = id(&seven[0]);
    region.report(&first, &HostReport::Started);
    let request = StopInstancesRequest { instance_ids: vec![first.clone()], ..Default::default() };
    region.call::<StopInstances>(request).await;
    region.report(&first, &HostReport::Stopped);
    region.run(into("apart", 1)).await;
    let request = StartInstancesRequest { instance_ids: vec![first], ..Default::default() };
    assert_eq!(region.code::<StartInstances>(request).await, "InsufficientInstanceCapacity");
}

#[tokio::test(start_paused = true)]
async fn partitions_are_filled_evenly_unless_one_is_named() {
    let region = with_capacity(20);
    let request = CreatePlacementGroupRequest {
        group_name: text("parts"),
        strategy: text("partition"),
        partition_count: Some(3),
        ..Default::default()
    };
    region.call::<CreatePlacementGroup>(request).await;
    let numbers = |found: &[Instance]| -> Vec<i64> {
        let mut all: Vec<i64> = found.iter().filter_map(|it| placed(it).partition_number).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(numbers(&region.run(into("parts", 4)).await), [1, 1, 2, 3]);
    let mut third = into("parts", 1);
    third.placement.as_mut().unwrap().partition_number = Some(3);
    assert_eq!(numbers(&region.run(third.clone()).await), [3]);
    third.placement.as_mut().unwrap().partition_number = Some(4);
    assert_eq!(region.code::<RunInstances>(third).await, "InvalidParameterValue");
    let request = DescribeInstancesRequest {
        filters: vec![
            filter("placement-group-name", &["parts"]),
            filter("placement-partition-number", &["3"]),
        ],
        ..Default::default()
    };
    let found = region.call::<DescribeInstances>(request).await.reservations;
    assert_eq!(found.iter().map(|it| it.instances.len()).sum::<usize>(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_group_stays_while_it_has_instances() {
    let region = region();
    make(&region, "near", "cluster").await;
    let instance = id(&region.run(into("near", 1)).await[0]);
    let fault = region.refused::<DeletePlacementGroup>(delete("near")).await;
    assert_eq!(fault.code, "InvalidPlacementGroup.InUse");
    let request =
        TerminateInstancesRequest { instance_ids: vec![instance.clone()], ..Default::default() };
    region.call::<TerminateInstances>(request).await;
    region.report(&instance, &HostReport::Terminated);
    region.call::<DeletePlacementGroup>(delete("near")).await;
}

#[tokio::test(start_paused = true)]
async fn templates_and_the_overrides_of_fleets_name_a_group() {
    let region = region();
    make(&region, "near", "cluster").await;
    let named = LaunchTemplatePlacementRequest { group_name: text("near"), ..Default::default() };
    for (name, placement) in [("with", Some(named)), ("without", None)] {
        let request = CreateLaunchTemplateRequest {
            launch_template_name: name.to_owned(),
            launch_template_data: RequestLaunchTemplateData {
                image_id: Some(image_id()),
                instance_type: text("m5.large"),
                placement,
                ..Default::default()
            },
            ..Default::default()
        };
        region.call::<CreateLaunchTemplate>(request).await;
    }
    let fleet = |template: &str, placement: Option<PlacementInput>| CreateFleetRequest {
        r#type: text("instant"),
        launch_template_configs: vec![FleetLaunchTemplateConfigRequest {
            launch_template_specification: Some(LaunchTemplateSpecification {
                launch_template_name: text(template),
                version: text("1"),
                ..Default::default()
            }),
            overrides: vec![FleetLaunchTemplateOverridesRequest {
                placement,
                ..Default::default()
            }],
        }],
        target_capacity_specification: Some(TargetCapacitySpecificationRequest {
            total_target_capacity: 1,
            ..Default::default()
        }),
        ..Default::default()
    };
    let overridden = PlacementInput { group_name: text("near"), ..Default::default() };
    for request in [fleet("with", None), fleet("without", Some(overridden))] {
        let made = region.call::<CreateFleet>(request).await;
        assert!(made.errors.is_empty(), "{:?}", made.errors);
        let request = DescribeInstancesRequest {
            instance_ids: made.instances[0].instance_ids.clone(),
            ..Default::default()
        };
        let found = region.call::<DescribeInstances>(request).await.reservations.remove(0);
        assert_eq!(placed(&found.instances[0]).group_name.as_deref(), Some("near"));
    }
}
