//! What instances' states say to the account's event bus.

use aws_ec2::instance_state::{
    StartInstances, StartInstancesRequest, StopInstances, StopInstancesRequest, TerminateInstances,
    TerminateInstancesRequest,
};

use super::support::*;
use crate::records::HostReport;

fn told(region: &Region) -> Vec<String> {
    let events = region.ec2.unpublished().into_iter().map(|(_, it)| it.event.clone());
    events.map(|it| it.detail["state"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn every_state_of_an_instance_is_told_once_and_in_order() {
    let region = region();
    let id = region.run(launch()).await.remove(0).instance_id.unwrap();
    region.report(&id, &HostReport::Started);
    region.report(&id, &HostReport::Started);
    let ids = || vec![id.clone()];
    let stop = StopInstancesRequest { instance_ids: ids(), ..Default::default() };
    region.call::<StopInstances>(stop).await;
    region.report(&id, &HostReport::Stopped);
    let start = StartInstancesRequest { instance_ids: ids(), ..Default::default() };
    region.call::<StartInstances>(start).await;
    region.report(&id, &HostReport::Started);
    let terminate = TerminateInstancesRequest { instance_ids: ids(), ..Default::default() };
    region.call::<TerminateInstances>(terminate).await;
    region.report(&id, &HostReport::Terminated);
    let wanted = [
        "pending",
        "running",
        "stopping",
        "stopped",
        "pending",
        "running",
        "shutting-down",
        "terminated",
    ];
    assert_eq!(told(&region), wanted);
    let first = region.ec2.unpublished().remove(0).1;
    assert_eq!(first.event.source, "aws.ec2");
    assert_eq!(first.event.detail_type, "EC2 Instance State-change Notification");
    assert_eq!(first.event.detail["instance-id"], *id);
    let arn = format!("arn:aws:ec2:us-east-1:{ACCOUNT}:instance/{id}");
    assert_eq!(first.event.resources, [arn]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_on_the_bus_yet_is_told_after_a_restart() {
    let first = region();
    first.run(launch()).await;
    let Region { store, clock, .. } = first;
    assert_eq!(told(&over(store, clock)), ["pending"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_tells_nothing() {
    let region = region();
    let request = TerminateInstancesRequest {
        instance_ids: vec!["i-0123456789abcdef0".to_owned()],
        ..Default::default()
    };
    region.refused::<TerminateInstances>(request).await;
    assert!(told(&region).is_empty());
}
