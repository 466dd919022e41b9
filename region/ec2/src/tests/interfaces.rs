//! Interfaces: limits, addresses, attachments, and whose they are.

use aws_ec2::{
    network_interface::{
        AttachNetworkInterface, AttachNetworkInterfaceRequest, CreateNetworkInterface,
        CreateNetworkInterfaceRequest, DeleteNetworkInterface, DeleteNetworkInterfaceRequest,
        DescribeNetworkInterfaces, DescribeNetworkInterfacesRequest, DetachNetworkInterface,
        DetachNetworkInterfaceRequest, ModifyNetworkInterfaceAttribute,
        ModifyNetworkInterfaceAttributeRequest, NetworkInterface,
        NetworkInterfaceAttachmentChanges,
    },
    private_addresses::{
        AssignPrivateIpAddresses, AssignPrivateIpAddressesRequest, UnassignPrivateIpAddresses,
        UnassignPrivateIpAddressesRequest,
    },
    run_instances::RunInstancesRequest,
    subnet::{CreateSubnet, CreateSubnetRequest},
    vpc::{CreateVpc, CreateVpcRequest},
};

use clock::Clock;
use latency::Latency;
use region_store::Store;

use super::support::*;

async fn create(region: &Region, request: CreateNetworkInterfaceRequest) -> NetworkInterface {
    region.call::<CreateNetworkInterface>(request).await.network_interface.unwrap()
}

async fn in_default_subnet(region: &Region) -> CreateNetworkInterfaceRequest {
    let subnet_id = region.subnets().await[0].subnet_id.clone().unwrap();
    CreateNetworkInterfaceRequest { subnet_id, ..Default::default() }
}

fn eni_id(interface: &NetworkInterface) -> String {
    interface.network_interface_id.clone().unwrap()
}

async fn one(region: &Region, id: &str) -> NetworkInterface {
    let request = DescribeNetworkInterfacesRequest {
        network_interface_ids: vec![id.to_owned()],
        ..Default::default()
    };
    region.call::<DescribeNetworkInterfaces>(request).await.network_interfaces.remove(0)
}

fn attach(interface: &str, instance: &str, index: i64) -> AttachNetworkInterfaceRequest {
    AttachNetworkInterfaceRequest {
        network_interface_id: interface.to_owned(),
        instance_id: instance.to_owned(),
        device_index: index,
        ..Default::default()
    }
}

fn assign(id: &str, count: i64) -> AssignPrivateIpAddressesRequest {
    AssignPrivateIpAddressesRequest {
        network_interface_id: id.to_owned(),
        secondary_private_ip_address_count: Some(count),
        ..Default::default()
    }
}

/// A subnet with exactly eleven addresses.
async fn small_subnet(region: &Region) -> String {
    let vpc = CreateVpcRequest { cidr_block: text("10.0.0.0/24"), ..Default::default() };
    let vpc_id = region.call::<CreateVpc>(vpc).await.vpc.unwrap().vpc_id.unwrap();
    let request =
        CreateSubnetRequest { vpc_id, cidr_block: text("10.0.0.0/28"), ..Default::default() };
    region.call::<CreateSubnet>(request).await.subnet.unwrap().subnet_id.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_type_limits_interfaces_and_addresses() {
    let region = region();
    let instance = region.run(launch()).await.remove(0).instance_id.unwrap();
    let request = in_default_subnet(&region).await;
    for index in 1..=2 {
        let interface = create(&region, request.clone()).await;
        region.call::<AttachNetworkInterface>(attach(&eni_id(&interface), &instance, index)).await;
    }
    let third = eni_id(&create(&region, request.clone()).await);
    let code = region.code::<AttachNetworkInterface>(attach(&third, &instance, 3)).await;
    assert_eq!(code, "AttachmentLimitExceeded");

    // An m5.large holds 10 addresses per interface, the primary one included.
    let primary = region.ec2.view().interfaces_of(&instance)[0].id.clone();
    let assigned = region.call::<AssignPrivateIpAddresses>(assign(&primary, 9)).await;
    assert_eq!(assigned.assigned_private_ip_addresses.len(), 9);
    let code = region.code::<AssignPrivateIpAddresses>(assign(&primary, 1)).await;
    assert_eq!(code, "PrivateIpAddressLimitExceeded");
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_subnet_gives_all_or_nothing() {
    let region = region();
    let subnet_id = small_subnet(&region).await;
    let request = CreateNetworkInterfaceRequest {
        subnet_id,
        secondary_private_ip_address_count: Some(7),
        ..Default::default()
    };
    let interface = create(&region, request.clone()).await;
    assert_eq!(interface.private_ip_addresses.len(), 8);
    // Three addresses are left.
    let code = region.code::<CreateNetworkInterface>(request.clone()).await;
    assert_eq!(code, "InsufficientFreeAddressesInSubnet");
    let id = eni_id(&interface);
    let code = region.code::<AssignPrivateIpAddresses>(assign(&id, 4)).await;
    assert_eq!(code, "InsufficientFreeAddressesInSubnet");
    assert_eq!(one(&region, &id).await.private_ip_addresses.len(), 8);
    region.call::<AssignPrivateIpAddresses>(assign(&id, 3)).await;

    let addresses: Vec<String> = one(&region, &id).await.private_ip_addresses[1..]
        .iter()
        .filter_map(|it| it.private_ip_address.clone())
        .collect();
    let request = UnassignPrivateIpAddressesRequest {
        network_interface_id: id.clone(),
        private_ip_addresses: addresses,
        ..Default::default()
    };
    region.call::<UnassignPrivateIpAddresses>(request.clone()).await;
    assert_eq!(one(&region, &id).await.private_ip_addresses.len(), 1);
    assert_eq!(region.code::<UnassignPrivateIpAddresses>(request).await, "InvalidParameterValue");
}

#[tokio::test(start_paused = true)]
async fn prefixes_take_the_place_of_addresses() {
    let region = region();
    let instance = region.run(launch()).await.remove(0).instance_id.unwrap();
    let primary = region.ec2.view().interfaces_of(&instance)[0].id.clone();
    let prefixes = |count| AssignPrivateIpAddressesRequest {
        network_interface_id: primary.clone(),
        ipv4_prefix_count: Some(count),
        ..Default::default()
    };
    let assigned = region.call::<AssignPrivateIpAddresses>(prefixes(9)).await;
    assert_eq!(assigned.assigned_ipv4_prefixes.len(), 9);
    assert_eq!(assigned.assigned_ipv4_prefixes[0].ipv4_prefix.as_deref(), Some("192.168.0.16/28"));
    let code = region.code::<AssignPrivateIpAddresses>(prefixes(1)).await;
    assert_eq!(code, "PrivateIpAddressLimitExceeded");
    assert_eq!(region.subnets().await[0].available_ip_address_count, Some(8187 - 1 - 9 * 16));
}

#[tokio::test(start_paused = true)]
async fn an_attached_interface_is_not_deleted_and_the_first_is_not_detached() {
    let region = region();
    let instance = region.run(launch()).await.remove(0).instance_id.unwrap();
    let interface = eni_id(&create(&region, in_default_subnet(&region).await).await);
    let attached = region.call::<AttachNetworkInterface>(attach(&interface, &instance, 1)).await;
    let delete = || DeleteNetworkInterfaceRequest {
        network_interface_id: interface.clone(),
        ..Default::default()
    };
    let code = region.code::<DeleteNetworkInterface>(delete()).await;
    assert_eq!(code, "InvalidNetworkInterface.InUse");

    let first = region.ec2.view().interfaces_of(&instance)[0].attachment.clone().unwrap().id;
    let detach =
        |attachment_id| DetachNetworkInterfaceRequest { attachment_id, ..Default::default() };
    assert_eq!(region.code::<DetachNetworkInterface>(detach(first)).await, "OperationNotPermitted");
    let attachment_id = attached.attachment_id.unwrap();
    let changes = NetworkInterfaceAttachmentChanges {
        attachment_id: Some(attachment_id.clone()),
        delete_on_termination: Some(true),
    };
    let modify = ModifyNetworkInterfaceAttributeRequest {
        network_interface_id: interface.clone(),
        attachment: Some(changes),
        ..Default::default()
    };
    region.call::<ModifyNetworkInterfaceAttribute>(modify).await;
    let shown = one(&region, &interface).await.attachment.unwrap();
    assert_eq!(shown.delete_on_termination, Some(true));
    region.call::<DetachNetworkInterface>(detach(attachment_id)).await;
    region.call::<DeleteNetworkInterface>(delete()).await;
}

#[tokio::test(start_paused = true)]
async fn only_services_touch_what_a_service_made() {
    let region = region();
    let eks = region.gateway.client_as("eks.amazonaws.com");
    let made = eks.call::<CreateNetworkInterface>(in_default_subnet(&region).await).await.unwrap();
    let made = made.network_interface.unwrap();
    assert_eq!(made.requester_managed, Some(true));
    assert_eq!(made.status.as_deref(), Some("in-use"));
    let delete =
        DeleteNetworkInterfaceRequest { network_interface_id: eni_id(&made), ..Default::default() };
    assert_eq!(
        region.code::<DeleteNetworkInterface>(delete.clone()).await,
        "OperationNotPermitted"
    );
    let detach = DetachNetworkInterfaceRequest {
        attachment_id: made.attachment.unwrap().attachment_id.unwrap(),
        ..Default::default()
    };
    assert_eq!(region.code::<DetachNetworkInterface>(detach).await, "OperationNotPermitted");
    eks.call::<DeleteNetworkInterface>(delete).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn instances_are_launched_as_far_as_addresses_last() {
    let region = region();
    let subnet_id = Some(small_subnet(&region).await);
    let request = RunInstancesRequest { subnet_id, min_count: 2, max_count: 20, ..launch() };
    assert_eq!(region.run(request.clone()).await.len(), 11);
    let code = region.code::<aws_ec2::run_instances::RunInstances>(request).await;
    assert_eq!(code, "InsufficientFreeAddressesInSubnet");
}

#[tokio::test(start_paused = true)]
async fn interfaces_come_and_go_as_slowly_as_the_region_is_told() {
    let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
    let region = with(Store::in_memory(), clock, Latency::AWS);
    let instance = region.run(launch()).await.remove(0).instance_id.unwrap();
    let id = eni_id(&create(&region, in_default_subnet(&region).await).await);
    let attached = region.call::<AttachNetworkInterface>(attach(&id, &instance, 1)).await;
    let status = async || one(&region, &id).await.attachment.and_then(|it| it.status);
    let due = region.ec2.settle().unwrap().unwrap();
    assert_eq!(clock.until(due), Latency::AWS.attach);
    assert_eq!(status().await.as_deref(), Some("attaching"));
    let state = region.ec2.view();
    let primary = state.interfaces_of(&instance)[0].attachment.as_ref().unwrap();
    assert!(primary.is_in_place(), "it came with the instance");

    tokio::time::advance(Latency::AWS.attach).await;
    assert_eq!(region.ec2.settle().unwrap(), None);
    assert_eq!(status().await.as_deref(), Some("attached"));

    let detach = DetachNetworkInterfaceRequest {
        attachment_id: attached.attachment_id.unwrap(),
        ..Default::default()
    };
    region.call::<DetachNetworkInterface>(detach).await;
    assert_eq!(status().await.as_deref(), Some("detaching"));
    let delete = DeleteNetworkInterfaceRequest { network_interface_id: id.clone(), dry_run: None };
    let code = region.code::<DeleteNetworkInterface>(delete.clone()).await;
    assert_eq!(code, "InvalidNetworkInterface.InUse");
    tokio::time::advance(Latency::AWS.detach).await;
    region.ec2.settle().unwrap();
    region.call::<DeleteNetworkInterface>(delete).await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_client_token_makes_no_second_interface() {
    let region = region();
    let request = CreateNetworkInterfaceRequest {
        client_token: text("once"),
        ..in_default_subnet(&region).await
    };
    let first = region.call::<CreateNetworkInterface>(request.clone()).await;
    assert_eq!(first.client_token, text("once"));
    let first = eni_id(&first.network_interface.unwrap());
    let assigned = region.call::<AssignPrivateIpAddresses>(assign(&first, 1)).await;
    assert_eq!(assigned.assigned_private_ip_addresses.len(), 1);
    let after = over(region.store.clone(), region.clock);
    for region in [&region, &after] {
        let again = create(region, request.clone()).await;
        assert_eq!((eni_id(&again), again.private_ip_addresses.len()), (first.clone(), 2));
    }
    let other = CreateNetworkInterfaceRequest { description: text("another"), ..request.clone() };
    let code = region.code::<CreateNetworkInterface>(other).await;
    assert_eq!(code, "IdempotentParameterMismatch");
    let long = CreateNetworkInterfaceRequest { client_token: Some("x".repeat(65)), ..request };
    assert_eq!(region.code::<CreateNetworkInterface>(long).await, "InvalidParameterValue");
    assert_eq!(region.ec2.view().network_interfaces.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_refused_uses_no_client_token_up() {
    let region = region();
    let right = CreateNetworkInterfaceRequest {
        client_token: text("once"),
        ..in_default_subnet(&region).await
    };
    let wrong = CreateNetworkInterfaceRequest {
        groups: vec!["sg-0123456789abcdef0".to_owned()],
        ..right.clone()
    };
    let code = region.code::<CreateNetworkInterface>(wrong).await;
    assert_eq!(code, "InvalidGroup.NotFound");
    create(&region, right).await;
}
