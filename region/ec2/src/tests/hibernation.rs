//! What can hibernate, does, and goes on.

use aws_ec2::{
    instance::{DescribeInstances, DescribeInstancesRequest, Instance},
    instance_attribute::{ModifyInstanceAttribute, ModifyInstanceAttributeRequest},
    instance_state::{StartInstances, StartInstancesRequest, StopInstances, StopInstancesRequest},
    instance_type::{DescribeInstanceTypes, DescribeInstanceTypesRequest},
    launch_template::{CreateLaunchTemplate, CreateLaunchTemplateRequest},
    launch_template_request::{LaunchTemplateHibernationOptionsRequest, RequestLaunchTemplateData},
    run_instances::{
        BlockDeviceMappingInput, EbsBlockDeviceInput, HibernationOptionsRequest,
        InstanceMarketOptionsRequest, LaunchTemplateSpecification, RunInstances,
        RunInstancesRequest,
    },
};

use super::support::*;
use crate::records::HostReport;

const REFUSED: &str = "UnsupportedHibernationConfiguration";

fn root(size: i64, is_encrypted: bool) -> Vec<BlockDeviceMappingInput> {
    let ebs = EbsBlockDeviceInput {
        encrypted: Some(is_encrypted),
        volume_size: Some(size),
        ..Default::default()
    };
    vec![BlockDeviceMappingInput {
        device_name: text("/dev/xvda"),
        ebs: Some(ebs),
        ..Default::default()
    }]
}

/// An m5.large, which has 8 GiB of memory.
fn configured() -> RunInstancesRequest {
    RunInstancesRequest {
        hibernation_options: Some(HibernationOptionsRequest { configured: Some(true) }),
        block_device_mappings: root(20, true),
        ..launch()
    }
}

async fn described(region: &Region, id: &str) -> Instance {
    let request = DescribeInstancesRequest {
        instance_ids: vec![id.to_owned()],
        filters: vec![filter("hibernation-options.configured", &["true"])],
        ..Default::default()
    };
    let found = region.call::<DescribeInstances>(request).await.reservations;
    found.into_iter().flat_map(|it| it.instances).next().unwrap()
}

fn hibernate(id: &str) -> StopInstancesRequest {
    StopInstancesRequest {
        instance_ids: vec![id.to_owned()],
        hibernate: Some(true),
        ..Default::default()
    }
}

fn start(id: &str) -> StartInstancesRequest {
    StartInstancesRequest { instance_ids: vec![id.to_owned()], ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn an_instance_hibernates_and_goes_on_in_the_same_boot() {
    let region = region();
    let id = region.run(configured()).await[0].instance_id.clone().unwrap();
    region.report(&id, &HostReport::Started);
    region.call::<StopInstances>(hibernate(&id)).await;
    assert!(region.ec2.view().instances.get(&id).unwrap().is_hibernated);
    region.report(&id, &HostReport::Stopped);
    let stopped = described(&region, &id).await;
    assert_eq!(stopped.hibernation_options.unwrap().configured, Some(true));
    assert_eq!(
        stopped.state_reason.unwrap().code.as_deref(),
        Some("Client.UserInitiatedHibernate")
    );
    let reason = stopped.state_transition_reason.unwrap();
    assert!(reason.starts_with("User initiated hibernate ("), "{reason}");
    let another = ModifyInstanceAttributeRequest {
        instance_id: id.clone(),
        attribute: text("instanceType"),
        value: text("m5.xlarge"),
        ..Default::default()
    };
    assert_eq!(region.code::<ModifyInstanceAttribute>(another).await, "UnsupportedOperation");
    region.call::<StartInstances>(start(&id)).await;
    let instance = region.ec2.view().instances.get(&id).unwrap().clone();
    assert_eq!((instance.boot, instance.is_hibernated), (1, false));

    // An ordinary stop forgets.
    region.report(&id, &HostReport::Started);
    region.call::<StopInstances>(StopInstancesRequest { hibernate: None, ..hibernate(&id) }).await;
    region.report(&id, &HostReport::Stopped);
    region.call::<StartInstances>(start(&id)).await;
    assert_eq!(region.ec2.view().instances.get(&id).unwrap().boot, 2);
}

#[tokio::test(start_paused = true)]
async fn one_whose_host_cannot_hibernate_is_shut_down() {
    let region = region();
    let id = region.run(configured()).await[0].instance_id.clone().unwrap();
    region.report(&id, &HostReport::Started);
    region.call::<StopInstances>(hibernate(&id)).await;
    region.report(&id, &HostReport::NotHibernated);
    assert!(!region.ec2.view().instances.get(&id).unwrap().is_hibernated);
    region.report(&id, &HostReport::Stopped);
    region.call::<StartInstances>(start(&id)).await;
    assert_eq!(region.ec2.view().instances.get(&id).unwrap().boot, 2);
}

#[tokio::test(start_paused = true)]
async fn only_what_was_launched_for_it_hibernates() {
    let region = region();
    let id = region.run(launch()).await[0].instance_id.clone().unwrap();
    region.report(&id, &HostReport::Started);
    let fault = region.refused::<StopInstances>(hibernate(&id)).await;
    assert_eq!(fault.code, REFUSED);
    assert!(fault.message.contains("not configured at launch for hibernation"), "{fault}");
}

#[tokio::test(start_paused = true)]
async fn a_launch_for_hibernation_takes_an_encrypted_root_with_room_for_the_memory() {
    let region = region();
    let spot = InstanceMarketOptionsRequest { market_type: text("spot"), ..Default::default() };
    let of_type = |name: &str| RunInstancesRequest { instance_type: text(name), ..configured() };
    for request in [
        RunInstancesRequest { block_device_mappings: root(20, false), ..configured() },
        RunInstancesRequest { block_device_mappings: Vec::new(), ..configured() },
        RunInstancesRequest { block_device_mappings: root(8, true), ..configured() },
        RunInstancesRequest { instance_market_options: Some(spot), ..configured() },
        of_type("m5.metal"),
        of_type("g4dn.xlarge"),
        // 192 GiB.
        RunInstancesRequest { block_device_mappings: root(500, true), ..of_type("m5.12xlarge") },
    ] {
        assert_eq!(region.code::<RunInstances>(request.clone()).await, REFUSED, "{request:?}");
    }
    let found = DescribeInstanceTypesRequest {
        instance_types: vec!["m5.large".to_owned(), "m5.metal".to_owned()],
        filters: vec![filter("hibernation-supported", &["true"])],
        ..Default::default()
    };
    let found = region.call::<DescribeInstanceTypes>(found).await.instance_types;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].hibernation_supported, Some(true));
}

#[tokio::test(start_paused = true)]
async fn a_launch_template_can_ask_for_it() {
    let region = region();
    let options = LaunchTemplateHibernationOptionsRequest { configured: Some(true) };
    let template = CreateLaunchTemplateRequest {
        launch_template_name: "warm".to_owned(),
        launch_template_data: RequestLaunchTemplateData {
            hibernation_options: Some(options),
            ..Default::default()
        },
        ..Default::default()
    };
    region.call::<CreateLaunchTemplate>(template).await;
    let request = RunInstancesRequest {
        hibernation_options: None,
        launch_template: Some(LaunchTemplateSpecification {
            launch_template_name: text("warm"),
            ..Default::default()
        }),
        ..configured()
    };
    let id = region.run(request).await[0].instance_id.clone().unwrap();
    assert_eq!(described(&region, &id).await.instance_id, Some(id));
}
