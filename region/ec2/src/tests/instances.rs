//! The life of instances, and how they are found.

use std::time::Duration;

use aws_ec2::{
    common::{AttributeBooleanValueInput, TagInput, TagSpecification},
    instance::{DescribeInstances, DescribeInstancesRequest, Instance},
    instance_attribute::{ModifyInstanceAttribute, ModifyInstanceAttributeRequest},
    instance_state::{
        DescribeInstanceStatus, DescribeInstanceStatusRequest, GetConsoleOutput,
        GetConsoleOutputRequest, RebootInstances, RebootInstancesRequest, StartInstances,
        StartInstancesRequest, StopInstances, StopInstancesRequest, TerminateInstances,
        TerminateInstancesRequest,
    },
    network_interface::{DescribeNetworkInterfaces, DescribeNetworkInterfacesRequest},
    run_instances::{IamInstanceProfileSpecification, RunInstances, RunInstancesRequest},
};

use super::support::*;
use crate::records::HostReport;

async fn describe(region: &Region, request: DescribeInstancesRequest) -> Vec<Instance> {
    let found = region.call::<DescribeInstances>(request).await;
    found.reservations.into_iter().flat_map(|it| it.instances).collect()
}

async fn one(region: &Region, id: &str) -> Instance {
    let request =
        DescribeInstancesRequest { instance_ids: vec![id.to_owned()], ..Default::default() };
    describe(region, request).await.remove(0)
}

fn state(instance: &Instance) -> &str {
    instance.state.as_ref().and_then(|it| it.name.as_deref()).unwrap()
}

fn id(instance: &Instance) -> String {
    instance.instance_id.clone().unwrap()
}

fn terminate(id: &str) -> TerminateInstancesRequest {
    TerminateInstancesRequest { instance_ids: vec![id.to_owned()], ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn an_instance_lives_from_pending_to_terminated_and_frees_its_address() {
    let region = region();
    let instance = region.run(launch()).await.remove(0);
    let id = id(&instance);
    assert_eq!(state(&instance), "pending");
    assert_eq!(instance.private_dns_name.as_deref(), Some("ip-192-168-0-4.ec2.internal"));
    assert_eq!(instance.public_ip_address.as_deref(), Some("203.0.113.2"));
    region.report(&id, &HostReport::Started);
    assert_eq!(state(&one(&region, &id).await), "running");

    region.call::<TerminateInstances>(terminate(&id)).await;
    assert_eq!(state(&one(&region, &id).await), "shutting-down");
    region.report(&id, &HostReport::Started);
    assert_eq!(state(&one(&region, &id).await), "shutting-down");
    region.report(&id, &HostReport::Terminated);
    let gone = one(&region, &id).await;
    assert_eq!((state(&gone), gone.private_ip_address.as_deref()), ("terminated", None));
    let left =
        region.call::<DescribeNetworkInterfaces>(DescribeNetworkInterfacesRequest::default()).await;
    assert!(left.network_interfaces.is_empty());
    assert_eq!(region.subnets().await[0].available_ip_address_count, Some(8187));

    tokio::time::advance(Duration::from_secs(3700)).await;
    region.run(launch()).await;
    let request = DescribeInstancesRequest { instance_ids: vec![id], ..Default::default() };
    assert_eq!(region.code::<DescribeInstances>(request).await, "InvalidInstanceID.NotFound");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_client_token_launches_nothing_new() {
    let region = region();
    let request = RunInstancesRequest { client_token: text("once"), ..launch() };
    let first = region.run(request.clone()).await;
    let again = region.run(request.clone()).await;
    assert_eq!(id(&first[0]), id(&again[0]));
    let other = RunInstancesRequest { max_count: 2, ..request };
    assert_eq!(region.code::<RunInstances>(other).await, "IdempotentParameterMismatch");
}

#[tokio::test(start_paused = true)]
async fn a_launch_is_refused_for_what_is_not_there() {
    let region = region();
    let profile = IamInstanceProfileSpecification { name: text("nobody"), arn: None };
    for (request, code) in [
        (
            RunInstancesRequest { image_id: text("ami-0123456789abcdef0"), ..launch() },
            "InvalidAMIID.NotFound",
        ),
        (RunInstancesRequest { image_id: text("nonsense"), ..launch() }, "InvalidAMIID.Malformed"),
        (
            RunInstancesRequest { instance_type: text("m5.huge"), ..launch() },
            "InvalidParameterValue",
        ),
        (RunInstancesRequest { instance_type: text("m7g.large"), ..launch() }, "Unsupported"),
        (RunInstancesRequest { key_name: text("lost"), ..launch() }, "InvalidKeyPair.NotFound"),
        (RunInstancesRequest { user_data: text("%%%"), ..launch() }, "InvalidParameterValue"),
        (
            RunInstancesRequest { iam_instance_profile: Some(profile), ..launch() },
            "InvalidParameterValue",
        ),
        (
            RunInstancesRequest { subnet_id: text("subnet-0123456789abcdef0"), ..launch() },
            "InvalidSubnetID.NotFound",
        ),
        (RunInstancesRequest { min_count: 3, max_count: 2, ..launch() }, "InvalidParameterValue"),
        (RunInstancesRequest { dry_run: Some(true), ..launch() }, "DryRunOperation"),
    ] {
        assert_eq!(region.code::<RunInstances>(request.clone()).await, code, "{request:?}");
    }
    assert!(describe(&region, DescribeInstancesRequest::default()).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn handing_over_a_role_needs_the_right_to() {
    let region = region();
    let nobody = client(&region.gateway, region.clock, "nobody");
    let profile = IamInstanceProfileSpecification { name: text("node"), arn: None };
    let request = RunInstancesRequest { iam_instance_profile: Some(profile), ..launch() };
    let error = nobody.call::<RunInstances>(request.clone()).await.unwrap_err();
    assert!(error.is("UnauthorizedOperation"), "{error}");
    let instance = region.run(request).await.remove(0);
    assert!(instance.iam_instance_profile.unwrap().arn.unwrap().ends_with("/node"));
}

#[tokio::test(start_paused = true)]
async fn stopping_keeps_the_address_and_gives_back_the_public_one() {
    let region = region();
    let id = id(&region.run(launch()).await[0]);
    region.report(&id, &HostReport::Started);
    let before = one(&region, &id).await;
    let ids = vec![id.clone()];
    region
        .call::<StopInstances>(StopInstancesRequest {
            instance_ids: ids.clone(),
            ..Default::default()
        })
        .await;
    region.report(&id, &HostReport::Stopped);
    let stopped = one(&region, &id).await;
    assert_eq!(state(&stopped), "stopped");
    assert_eq!(stopped.private_ip_address, before.private_ip_address);
    assert_eq!(stopped.public_ip_address, None);
    let reboot = RebootInstancesRequest { instance_ids: ids.clone(), dry_run: None };
    assert_eq!(region.code::<RebootInstances>(reboot).await, "IncorrectInstanceState");
    region
        .call::<StartInstances>(StartInstancesRequest { instance_ids: ids, ..Default::default() })
        .await;
    let started = one(&region, &id).await;
    assert_eq!(state(&started), "pending");
    assert!(started.public_ip_address.is_some());
    assert_eq!(region.ec2.view().instances.get(&id).unwrap().boot, 2);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_fails_to_start_ends_the_instance_with_its_reason() {
    let region = region();
    let id = id(&region.run(launch()).await[0]);
    region.report(&id, &HostReport::Failed("no containerd".to_owned()));
    let failed = one(&region, &id).await;
    assert_eq!(state(&failed), "shutting-down");
    let reason = failed.state_reason.unwrap();
    assert_eq!(reason.code.as_deref(), Some("Server.InternalError"));
    assert!(reason.message.unwrap().contains("no containerd"));
}

#[tokio::test(start_paused = true)]
async fn protected_instances_are_not_terminated_not_even_beside_others() {
    let region = region();
    let instances = region.run(RunInstancesRequest { max_count: 2, ..launch() }).await;
    let ids: Vec<String> = instances.iter().map(id).collect();
    let modify = ModifyInstanceAttributeRequest {
        instance_id: ids[1].clone(),
        disable_api_termination: Some(AttributeBooleanValueInput { value: Some(true) }),
        ..Default::default()
    };
    region.call::<ModifyInstanceAttribute>(modify).await;
    let request = TerminateInstancesRequest { instance_ids: ids.clone(), ..Default::default() };
    assert_eq!(region.code::<TerminateInstances>(request).await, "OperationNotPermitted");
    assert_eq!(state(&one(&region, &ids[0]).await), "pending");
}

#[tokio::test(start_paused = true)]
async fn instances_are_found_by_filters_and_in_pages() {
    let region = region();
    let tags = TagSpecification {
        resource_type: text("instance"),
        tags: vec![TagInput { key: text("team"), value: text("blue") }],
    };
    let tagged = RunInstancesRequest { tag_specifications: vec![tags], ..launch() };
    let blue = id(&region.run(tagged).await[0]);
    region.run(RunInstancesRequest { min_count: 4, max_count: 4, ..launch() }).await;

    let by = |filters| DescribeInstancesRequest { filters, ..Default::default() };
    let found = describe(&region, by(vec![filter("tag:team", &["b*"])])).await;
    assert_eq!(found.iter().map(id).collect::<Vec<_>>(), [blue]);
    let found = describe(
        &region,
        by(vec![filter("tag:team", &["b*"]), filter("instance-state-name", &["running"])]),
    )
    .await;
    assert!(found.is_empty());
    let fault = region.refused::<DescribeInstances>(by(vec![filter("mood", &["x"])])).await;
    assert_eq!(
        (&*fault.code, fault.message.as_str()),
        ("InvalidParameterValue", "The filter 'mood' is invalid")
    );

    let mut seen = Vec::new();
    let mut next_token = None;
    loop {
        let request =
            DescribeInstancesRequest { max_results: Some(2), next_token, ..Default::default() };
        let page = region.call::<DescribeInstances>(request).await;
        let instances = page.reservations.iter().flat_map(|it| &it.instances);
        seen.extend(instances.map(id));
        next_token = page.next_token;
        if next_token.is_none() {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_is_there_after_a_restart() {
    let region = region();
    let id = id(&region.run(launch()).await[0]);
    let again = over(region.store.clone(), region.clock);
    assert_eq!(state(&one(&again, &id).await), "pending");
    assert_eq!(again.ec2.view().vpcs.len(), 1);
    let request = GetConsoleOutputRequest { instance_id: id, ..Default::default() };
    let console = again.call::<GetConsoleOutput>(request).await;
    assert_eq!(console.output.as_deref(), Some("Ym9vdGluZw=="));
}

#[tokio::test(start_paused = true)]
async fn no_more_vcpus_run_than_the_quota_allows() {
    let region = region();
    // 1152 vCPUs are twelve of these.
    let many = |min, max| RunInstancesRequest {
        min_count: min,
        max_count: max,
        instance_type: text("m5.24xlarge"),
        ..launch()
    };
    let fault = region.refused::<RunInstances>(many(13, 7000)).await;
    assert_eq!(fault.code, "VcpuLimitExceeded");
    assert!(region.ec2.view().instances.is_empty());
    assert_eq!(region.run(many(1, 7000)).await.len(), 12);
    assert_eq!(region.code::<RunInstances>(launch()).await, "VcpuLimitExceeded");
}

#[tokio::test(start_paused = true)]
async fn no_more_instances_run_than_the_machine_can_hold() {
    let region = with_capacity(2);
    let many = |min, max| RunInstancesRequest { min_count: min, max_count: max, ..launch() };
    let fault = region.refused::<RunInstances>(many(3, 1000)).await;
    assert_eq!(fault.code, "InsufficientInstanceCapacity");
    assert!(fault.message.contains("m5.large") && fault.message.contains("us-east-1"), "{fault}");
    assert_eq!(region.run(many(1, 1000)).await.len(), 2);
    // A dry run says what the caller may do, not what there is room for.
    let dry = RunInstancesRequest { dry_run: Some(true), ..launch() };
    assert_eq!(region.code::<RunInstances>(dry).await, "DryRunOperation");
    assert_eq!(region.ec2.view().instances.iter().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn instances_that_are_started_together_have_to_fit_together() {
    let region = with_capacity(2);
    let two = RunInstancesRequest { min_count: 2, max_count: 2, ..launch() };
    let ids: Vec<_> = region.run(two).await.iter().map(id).collect();
    ids.iter().for_each(|it| region.report(it, &HostReport::Started));
    let stop = StopInstancesRequest { instance_ids: ids.clone(), ..Default::default() };
    region.call::<StopInstances>(stop).await;
    ids.iter().for_each(|it| region.report(it, &HostReport::Stopped));
    region.run(launch()).await;
    let start =
        |ids: &[String]| StartInstancesRequest { instance_ids: ids.to_vec(), ..Default::default() };
    let fault = region.refused::<StartInstances>(start(&ids)).await;
    assert_eq!(fault.code, "InsufficientInstanceCapacity");
    region.call::<StartInstances>(start(&ids[..1])).await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_switches_itself_off_stops_or_goes_as_it_was_launched_to() {
    let region = region();
    let stops = id(&region.run(launch()).await[0]);
    let goes =
        RunInstancesRequest { instance_initiated_shutdown_behavior: text("terminate"), ..launch() };
    let goes = id(&region.run(goes).await[0]);
    for (id, leaving) in [(&stops, "stopping"), (&goes, "shutting-down")] {
        region.report(id, &HostReport::Started);
        region.report(id, &HostReport::PoweringOff);
        let leaves = one(&region, id).await;
        assert_eq!(state(&leaves), leaving, "while it shuts down");
        let reason = leaves.state_reason.unwrap().code.unwrap();
        assert_eq!(reason, "Client.InstanceInitiatedShutdown");
    }
    region.report(&stops, &HostReport::Stopped);
    region.report(&goes, &HostReport::Terminated);
    assert_eq!(state(&one(&region, &stops).await), "stopped");
    assert_eq!(state(&one(&region, &goes).await), "terminated");
}

async fn health(region: &Region) -> Vec<String> {
    let request = DescribeInstanceStatusRequest::default();
    let found = region.call::<DescribeInstanceStatus>(request).await.instance_statuses;
    found.into_iter().filter_map(|it| it.instance_status?.status).collect()
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_lost_its_power_keeps_what_it_has_and_boots_again() {
    let region = region();
    let id = id(&region.run(launch()).await[0]);
    region.report(&id, &HostReport::Started);
    let before = one(&region, &id).await;
    assert_eq!(health(&region).await, ["ok"]);

    region.report(&id, &HostReport::PowerLost);
    assert_eq!(one(&region, &id).await, before, "running, with the same addresses");
    assert_eq!(health(&region).await, ["initializing"]);
    assert_eq!(region.ec2.view().instances.get(&id).unwrap().boot, 2, "a boot is wanted");
    region.report(&id, &HostReport::Started);
    assert_eq!(health(&region).await, ["ok"]);

    // A check fails for a minute before it counts, and passes again at once.
    region.report(&id, &HostReport::PowerLost);
    region.report(&id, &HostReport::Unbootable);
    tokio::time::advance(Duration::from_secs(59)).await;
    region.report(&id, &HostReport::Unbootable);
    assert_eq!(health(&region).await, ["initializing"]);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(health(&region).await, ["impaired"]);
    let request = DescribeInstanceStatusRequest {
        filters: vec![filter("instance-status.status", &["impaired"])],
        ..Default::default()
    };
    let found = region.call::<DescribeInstanceStatus>(request).await.instance_statuses;
    let details = &found[0].instance_status.as_ref().unwrap().details[0];
    assert_eq!(details.status.as_deref(), Some("failed"));
    assert!(details.impaired_since.is_some());
    region.report(&id, &HostReport::Started);
    assert_eq!(health(&region).await, ["ok"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_terminates_what_users_are_kept_from_terminating() {
    let region = region();
    let request = RunInstancesRequest { disable_api_termination: Some(true), ..launch() };
    let id = id(&region.run(request).await[0]);
    assert_eq!(region.code::<TerminateInstances>(terminate(&id)).await, "OperationNotPermitted");
    let service = region.gateway.client_as("autoscaling.amazonaws.com");
    service.call::<TerminateInstances>(terminate(&id)).await.unwrap();
    assert_eq!(state(&one(&region, &id).await), "shutting-down");
}

#[tokio::test(start_paused = true)]
async fn a_terminated_instance_is_described_for_an_hour() {
    let region = region();
    let id = id(&region.run(launch()).await[0]);
    let request =
        TerminateInstancesRequest { instance_ids: vec![id.clone()], ..Default::default() };
    region.call::<TerminateInstances>(request).await;
    region.report(&id, &HostReport::Terminated);
    let due = region.ec2.settle().unwrap().unwrap();
    assert_eq!(region.clock.until(due), Duration::from_secs(3600));
    assert_eq!(state(&one(&region, &id).await), "terminated");
    tokio::time::sleep(region.clock.until(due)).await;
    assert_eq!(region.ec2.settle().unwrap(), None);
    assert!(region.ec2.view().instances.is_empty());
}
