//! CPU options, keys of volumes, and what interfaces are launched with.

use aws_ec2::{
    common::AttributeValueInput,
    instance::{CpuOptions, DescribeInstances, DescribeInstancesRequest, Instance},
    instance_type::{DescribeInstanceTypes, DescribeInstanceTypesRequest},
    launch_template::{
        CreateLaunchTemplate, CreateLaunchTemplateRequest, DescribeLaunchTemplateVersions,
        DescribeLaunchTemplateVersionsRequest,
    },
    launch_template_request::RequestLaunchTemplateData,
    network_interface::{
        ConnectionTrackingSpecification, ConnectionTrackingSpecificationRequest,
        CreateNetworkInterface, CreateNetworkInterfaceRequest, DescribeNetworkInterfaces,
        DescribeNetworkInterfacesRequest, ModifyNetworkInterfaceAttribute,
        ModifyNetworkInterfaceAttributeRequest,
    },
    run_instances::{
        BlockDeviceMappingInput, CpuOptionsRequest, EbsBlockDeviceInput,
        InstanceNetworkInterfaceSpecification, LaunchTemplateSpecification, RunInstances,
        RunInstancesRequest,
    },
    volume::{DescribeVolumes, DescribeVolumesRequest},
};

use super::support::*;
use crate::records::HostReport;

async fn one(region: &Region, id: &str) -> Instance {
    let request =
        DescribeInstancesRequest { instance_ids: vec![id.to_owned()], ..Default::default() };
    region.call::<DescribeInstances>(request).await.reservations.remove(0).instances.remove(0)
}

fn cores(count: Option<i64>, threads: Option<i64>) -> CpuOptionsRequest {
    CpuOptionsRequest { core_count: count, threads_per_core: threads, ..Default::default() }
}

fn with_cpu(options: CpuOptionsRequest) -> RunInstancesRequest {
    RunInstancesRequest {
        instance_type: text("m5.2xlarge"),
        cpu_options: Some(options),
        ..launch()
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_has_the_cores_and_threads_that_its_launch_or_its_template_says() {
    let region = region();
    let expected = |cores, threads| CpuOptions {
        core_count: Some(cores),
        threads_per_core: Some(threads),
        ..Default::default()
    };
    let plain = RunInstancesRequest { instance_type: text("m5.2xlarge"), ..launch() };
    assert_eq!(region.run(plain).await[0].cpu_options, Some(expected(4, 2)));
    let asked = with_cpu(cores(Some(2), Some(1)));
    assert_eq!(region.run(asked).await[0].cpu_options, Some(expected(2, 1)));
    let request = CreateLaunchTemplateRequest {
        launch_template_name: "few".to_owned(),
        launch_template_data: RequestLaunchTemplateData {
            cpu_options: Some(cores(Some(4), Some(1))),
            ..Default::default()
        },
        ..Default::default()
    };
    region.call::<CreateLaunchTemplate>(request).await;
    let request = DescribeLaunchTemplateVersionsRequest {
        launch_template_name: text("few"),
        ..Default::default()
    };
    let kept = region.call::<DescribeLaunchTemplateVersions>(request).await;
    let kept = kept.launch_template_versions[0].launch_template_data.clone().unwrap();
    assert_eq!(kept.cpu_options, Some(expected(4, 1)));
    let template =
        LaunchTemplateSpecification { launch_template_name: text("few"), ..Default::default() };
    let of_template = RunInstancesRequest {
        instance_type: text("m5.2xlarge"),
        launch_template: Some(template),
        ..launch()
    };
    assert_eq!(region.run(of_template).await[0].cpu_options, Some(expected(4, 1)));
    let view = region.ec2.view();
    let kind = instance_types::find("m5.2xlarge").unwrap();
    let mut counts: Vec<u32> = view.instances.iter().map(|it| it.cpus(kind).count()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 4, 8], "what the hosts are made with");
}

#[tokio::test(start_paused = true)]
async fn cpu_options_that_a_type_does_not_allow_are_refused() {
    let region = region();
    let sev = CpuOptionsRequest { amd_sev_snp: text("enabled"), ..Default::default() };
    let nested = CpuOptionsRequest { nested_virtualization: text("enabled"), ..Default::default() };
    for (request, code) in [
        (with_cpu(cores(Some(2), None)), "MissingParameter"),
        (with_cpu(cores(Some(3), Some(2))), "InvalidParameterValue"),
        (with_cpu(cores(Some(6), Some(1))), "InvalidParameterValue"),
        (with_cpu(cores(Some(4), Some(3))), "InvalidParameterValue"),
        (with_cpu(sev), "Unsupported"),
        (with_cpu(nested), "Unsupported"),
        (
            RunInstancesRequest {
                instance_type: text("t2.medium"),
                ..with_cpu(cores(Some(1), Some(1)))
            },
            "InvalidParameterCombination",
        ),
    ] {
        assert_eq!(region.code::<RunInstances>(request).await, code);
    }
    let off = CpuOptionsRequest { nested_virtualization: text("disabled"), ..Default::default() };
    region.run(with_cpu(off)).await;
    let request = DescribeInstanceTypesRequest {
        instance_types: vec!["m5.2xlarge".to_owned()],
        ..Default::default()
    };
    let kind = region.call::<DescribeInstanceTypes>(request).await.instance_types.remove(0);
    let cpus = kind.v_cpu_info.unwrap();
    assert_eq!((cpus.valid_cores, cpus.valid_threads_per_core), (vec![2, 4], vec![1, 2]));
}

fn encrypted(key: Option<&str>, is_encrypted: Option<bool>) -> RunInstancesRequest {
    let ebs = EbsBlockDeviceInput {
        encrypted: is_encrypted,
        kms_key_id: key.map(str::to_owned),
        volume_size: Some(20),
        ..Default::default()
    };
    let mapping = BlockDeviceMappingInput {
        device_name: text("/dev/xvda"),
        ebs: Some(ebs),
        ..Default::default()
    };
    RunInstancesRequest { block_device_mappings: vec![mapping], ..launch() }
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_key_cannot_be_used_ends_before_it_runs() {
    let region = region();
    let code = region.code::<RunInstances>(encrypted(Some("alias/mine"), None)).await;
    assert_eq!(code, "InvalidParameterDependency");
    let plain = region.run(encrypted(None, Some(true))).await.remove(0).instance_id.unwrap();
    let started = region.run(encrypted(Some("alias/mine"), Some(true))).await.remove(0);
    assert_eq!(started.state.unwrap().name.as_deref(), Some("pending"));
    let id = started.instance_id.unwrap();
    let volumes = region.call::<DescribeVolumes>(DescribeVolumesRequest::default()).await.volumes;
    let mut keys: Vec<_> = volumes.into_iter().map(|it| it.kms_key_id).collect();
    keys.sort();
    assert_eq!(keys, [None, text("alias/mine")]);
    region.ec2.settle().unwrap();
    let ending = one(&region, &id).await;
    assert_eq!(ending.state.unwrap().name.as_deref(), Some("shutting-down"));
    let reason = ending.state_reason.unwrap();
    assert_eq!(reason.code.as_deref(), Some("Client.InvalidKMSKey.InvalidState"));
    region.report(&id, &HostReport::Terminated);
    assert_eq!(one(&region, &id).await.state.unwrap().name.as_deref(), Some("terminated"));
    assert_eq!(one(&region, &plain).await.state.unwrap().name.as_deref(), Some("pending"));
}

fn timeouts(tcp: i64, udp: i64) -> ConnectionTrackingSpecificationRequest {
    ConnectionTrackingSpecificationRequest {
        tcp_established_timeout: Some(tcp),
        udp_stream_timeout: None,
        udp_timeout: Some(udp),
    }
}

fn with_interface(spec: InstanceNetworkInterfaceSpecification) -> RunInstancesRequest {
    RunInstancesRequest { network_interfaces: vec![spec], ..launch() }
}

#[tokio::test(start_paused = true)]
async fn interfaces_have_timeouts_within_ec2s_bounds() {
    let region = region();
    let spec = InstanceNetworkInterfaceSpecification {
        device_index: Some(0),
        connection_tracking_specification: Some(timeouts(350, 45)),
        ..Default::default()
    };
    let instance = region.run(with_interface(spec.clone())).await.remove(0);
    let expected = ConnectionTrackingSpecification {
        tcp_established_timeout: Some(350),
        udp_stream_timeout: None,
        udp_timeout: Some(45),
    };
    let shown = &instance.network_interfaces[0];
    assert_eq!(shown.connection_tracking_configuration, Some(expected));
    let id = shown.network_interface_id.clone().unwrap();
    let change = ConnectionTrackingSpecificationRequest {
        udp_stream_timeout: Some(60),
        ..Default::default()
    };
    let request = ModifyNetworkInterfaceAttributeRequest {
        network_interface_id: id.clone(),
        connection_tracking_specification: Some(change),
        description: Some(AttributeValueInput { value: text("timed") }),
        ..Default::default()
    };
    region.call::<ModifyNetworkInterfaceAttribute>(request).await;
    let request =
        DescribeNetworkInterfacesRequest { network_interface_ids: vec![id], ..Default::default() };
    let found = region.call::<DescribeNetworkInterfaces>(request).await.network_interfaces;
    let expected = ConnectionTrackingSpecification { udp_stream_timeout: Some(60), ..expected };
    assert_eq!(found[0].connection_tracking_configuration, Some(expected));
    for (tcp, udp) in [(59, 30), (432_001, 30), (60, 29), (60, 61)] {
        let spec = InstanceNetworkInterfaceSpecification {
            connection_tracking_specification: Some(timeouts(tcp, udp)),
            ..spec.clone()
        };
        let code = region.code::<RunInstances>(with_interface(spec)).await;
        assert_eq!(code, "InvalidParameterValue", "{tcp} {udp}");
    }
    let request = CreateNetworkInterfaceRequest {
        subnet_id: region.subnets().await[0].subnet_id.clone().unwrap(),
        connection_tracking_specification: Some(timeouts(60, 30)),
        ..Default::default()
    };
    let made = region.call::<CreateNetworkInterface>(request).await.network_interface.unwrap();
    let made = made.connection_tracking_configuration.unwrap();
    assert_eq!(made.tcp_established_timeout, Some(60));
}

#[tokio::test(start_paused = true)]
async fn interfaces_that_no_type_here_has_are_refused_and_several_plain_ones_are_not() {
    let region = region();
    let spec = |device, card, kind: &str| InstanceNetworkInterfaceSpecification {
        device_index: Some(device),
        network_card_index: Some(card),
        interface_type: text(kind),
        ..Default::default()
    };
    for (other, code) in [
        (spec(1, 0, "efa-only"), "UnsupportedOperation"),
        (spec(1, 0, "efa"), "UnsupportedOperation"),
        (spec(1, 1, "interface"), "Unsupported"),
        (spec(1, 0, "carrier"), "InvalidParameterValue"),
    ] {
        let request = RunInstancesRequest {
            network_interfaces: vec![spec(0, 0, "interface"), other],
            ..launch()
        };
        assert_eq!(region.code::<RunInstances>(request).await, code);
    }
    let three = (0..3).map(|device| spec(device, 0, "interface")).collect();
    let request = RunInstancesRequest { network_interfaces: three, ..launch() };
    let made = region.run(request).await.remove(0);
    assert_eq!(made.network_interfaces.len(), 3);
    let four = (0..4).map(|device| spec(device, 0, "interface")).collect();
    let request = RunInstancesRequest { network_interfaces: four, ..launch() };
    assert_eq!(region.code::<RunInstances>(request).await, "AttachmentLimitExceeded");
}
