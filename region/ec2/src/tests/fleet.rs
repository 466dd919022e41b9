//! Instant fleets: whichever of the overrides can be had, and why the others cannot.

use aws_ec2::{
    fleet::{
        CreateFleet, CreateFleetRequest, CreateFleetResult, FleetLaunchTemplateConfigRequest,
        FleetLaunchTemplateOverridesRequest, OnDemandOptionsRequest,
        TargetCapacitySpecificationRequest,
    },
    instance::{DescribeInstances, DescribeInstancesRequest, Instance},
    launch_template::{CreateLaunchTemplate, CreateLaunchTemplateRequest},
    launch_template_request::RequestLaunchTemplateData,
    run_instances::LaunchTemplateSpecification,
};

use super::support::*;

async fn fleet(region: &Region, overrides: &[(&str, &str)], count: i64) -> CreateFleetRequest {
    let request = CreateLaunchTemplateRequest {
        launch_template_name: "nodes".to_owned(),
        launch_template_data: RequestLaunchTemplateData {
            image_id: Some(image_id()),
            ..Default::default()
        },
        ..Default::default()
    };
    let made = region.call::<CreateLaunchTemplate>(request).await.launch_template.unwrap();
    let overrides = overrides.iter().enumerate().map(|(at, (kind, subnet))| {
        FleetLaunchTemplateOverridesRequest {
            instance_type: Some((*kind).to_owned()),
            subnet_id: Some((*subnet).to_owned()),
            priority: Some(f64::from(u32::try_from(at).unwrap())),
            ..Default::default()
        }
    });
    CreateFleetRequest {
        r#type: Some("instant".to_owned()),
        launch_template_configs: vec![FleetLaunchTemplateConfigRequest {
            launch_template_specification: Some(LaunchTemplateSpecification {
                launch_template_id: made.launch_template_id,
                ..Default::default()
            }),
            overrides: overrides.collect(),
        }],
        target_capacity_specification: Some(TargetCapacitySpecificationRequest {
            total_target_capacity: count,
            default_target_capacity_type: Some("on-demand".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn instances(region: &Region, result: &CreateFleetResult) -> Vec<Instance> {
    let instance_ids = result.instances.iter().flat_map(|it| it.instance_ids.clone()).collect();
    let request = DescribeInstancesRequest { instance_ids, ..Default::default() };
    let found = region.call::<DescribeInstances>(request).await;
    found.reservations.into_iter().flat_map(|it| it.instances).collect()
}

#[tokio::test(start_paused = true)]
async fn the_cheapest_override_is_launched_in_its_subnet() {
    let region = region();
    let subnet = region.subnets().await[1].clone();
    let subnet_id = subnet.subnet_id.clone().unwrap();
    let request = fleet(&region, &[("m5.xlarge", &subnet_id), ("m5.large", &subnet_id)], 2).await;
    let result = region.call::<CreateFleet>(request).await;
    assert!(result.errors.is_empty() && result.fleet_id.unwrap().starts_with("fleet-"));
    assert_eq!(result.instances.len(), 1);
    let launched = &result.instances[0];
    assert_eq!(launched.instance_ids.len(), 2);
    assert_eq!(launched.instance_type.as_deref(), Some("m5.large"));
    let with = launched.launch_template_and_overrides.clone().unwrap().overrides.unwrap();
    assert_eq!(with.availability_zone, subnet.availability_zone);
    let result = CreateFleetResult { instances: vec![launched.clone()], ..Default::default() };
    for instance in instances(&region, &result).await {
        assert_eq!(instance.instance_type.as_deref(), Some("m5.large"));
        assert_eq!(instance.subnet_id.as_deref(), Some(subnet_id.as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn priorities_count_where_the_strategy_says_so() {
    let region = region();
    let subnet = region.subnets().await[0].subnet_id.clone().unwrap();
    let mut request = fleet(&region, &[("m5.xlarge", &subnet), ("m5.large", &subnet)], 1).await;
    request.on_demand_options = Some(OnDemandOptionsRequest {
        allocation_strategy: Some("prioritized".to_owned()),
        ..Default::default()
    });
    let result = region.call::<CreateFleet>(request).await;
    assert_eq!(result.instances[0].instance_type.as_deref(), Some("m5.xlarge"));
}

#[tokio::test(start_paused = true)]
async fn an_override_that_cannot_be_had_is_an_error_of_the_answer_and_the_next_is_taken() {
    let region = region();
    let subnet = region.subnets().await[0].subnet_id.clone().unwrap();
    let request = fleet(&region, &[("m6g.medium", &subnet), ("m5.large", &subnet)], 1).await;
    let result = region.call::<CreateFleet>(request).await;
    let codes: Vec<_> = result.errors.iter().filter_map(|it| it.error_code.as_deref()).collect();
    assert_eq!(codes, ["Unsupported"]);
    let failed = result.errors[0].launch_template_and_overrides.clone().unwrap().overrides.unwrap();
    assert_eq!(failed.instance_type.as_deref(), Some("m6g.medium"));
    assert_eq!(result.instances[0].instance_type.as_deref(), Some("m5.large"));
}

#[tokio::test(start_paused = true)]
async fn a_full_machine_answers_with_errors_and_no_instance() {
    let region = with_capacity(1);
    let subnet = region.subnets().await[0].subnet_id.clone().unwrap();
    let request = fleet(&region, &[("m5.large", &subnet)], 2).await;
    let result = region.call::<CreateFleet>(request).await;
    assert_eq!(result.instances[0].instance_ids.len(), 1);
    assert_eq!(result.errors[0].error_code.as_deref(), Some("InsufficientInstanceCapacity"));
}

#[tokio::test(start_paused = true)]
async fn a_call_with_the_same_token_launches_nothing_more() {
    let region = region();
    let subnet = region.subnets().await[0].subnet_id.clone().unwrap();
    let request = fleet(&region, &[("m5.large", &subnet)], 1).await;
    let request = CreateFleetRequest { client_token: Some("once".to_owned()), ..request };
    let first = region.call::<CreateFleet>(request.clone()).await;
    assert_eq!(region.call::<CreateFleet>(request.clone()).await, first);
    let all = region.call::<DescribeInstances>(DescribeInstancesRequest::default()).await;
    assert_eq!(all.reservations.len(), 1);
    let other = CreateFleetRequest { context: Some("x".to_owned()), ..request };
    assert_eq!(region.code::<CreateFleet>(other).await, "IdempotentParameterMismatch");
}

#[tokio::test(start_paused = true)]
async fn what_this_region_has_not_is_refused() {
    let region = region();
    let subnet = region.subnets().await[0].subnet_id.clone().unwrap();
    let request = fleet(&region, &[("m5.large", &subnet)], 1).await;
    let lasting = CreateFleetRequest { r#type: Some("maintain".to_owned()), ..request.clone() };
    assert_eq!(region.code::<CreateFleet>(lasting).await, "UnsupportedOperation");
    let least = OnDemandOptionsRequest { min_target_capacity: Some(1), ..Default::default() };
    let least = CreateFleetRequest { on_demand_options: Some(least), ..request.clone() };
    assert_eq!(region.code::<CreateFleet>(least).await, "UnsupportedOperation");
    let mut cheap = request.clone();
    cheap.launch_template_configs[0].overrides[0].max_price = Some("0.01".to_owned());
    assert_eq!(region.code::<CreateFleet>(cheap).await, "UnsupportedOperation");
    let dry = CreateFleetRequest { dry_run: Some(true), ..request };
    assert_eq!(region.code::<CreateFleet>(dry).await, "DryRunOperation");
}

#[tokio::test(start_paused = true)]
async fn capacity_that_is_not_sold_here_is_refused_and_not_sold_as_another() {
    let region = region();
    let subnet = region.subnets().await[0].subnet_id.clone().unwrap();
    let wanted = fleet(&region, &[("m5.large", &subnet)], 1).await;
    for (kind, code) in [
        ("capacity-block", "UnsupportedOperation"),
        ("reserved-capacity", "UnsupportedOperation"),
        ("cheap", "InvalidParameterValue"),
    ] {
        let mut request = wanted.clone();
        let target = request.target_capacity_specification.as_mut().unwrap();
        target.default_target_capacity_type = Some(kind.to_owned());
        assert_eq!(region.code::<CreateFleet>(request).await, code, "{kind}");
    }
}
