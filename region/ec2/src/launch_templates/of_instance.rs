//! A launch template's data for another instance like one that there is.

use aws_ec2::{
    launch_template::{GetLaunchTemplateDataRequest, GetLaunchTemplateDataResponse},
    launch_template_data::{
        CreditSpecification, LaunchTemplateBlockDeviceMapping, LaunchTemplateEbsBlockDevice,
        LaunchTemplateHibernationOptions, LaunchTemplateIamInstanceProfileSpecification,
        LaunchTemplateInstanceMetadataOptions, LaunchTemplateInstanceNetworkInterfaceSpecification,
        LaunchTemplatePlacement, LaunchTemplateTagSpecification, LaunchTemplatesMonitoring,
        ResponseLaunchTemplateData,
    },
};
use aws_wire::Fault;

use crate::{
    Call,
    instances::shape::cpu,
    network_interfaces::tracking_answer,
    records::{BlockDevice, NetworkInterface},
    state::State,
    tagging,
};

pub(crate) fn of_instance(
    _call: &Call<'_>,
    state: &State,
    request: GetLaunchTemplateDataRequest,
) -> Result<GetLaunchTemplateDataResponse, Fault> {
    let instance = state.instances.find(&request.instance_id)?;
    let text = |it: &str| Some(it.to_owned());
    let tags = tagging::answer(&instance.tags);
    let tag_specifications = match tags.is_empty() {
        true => Vec::new(),
        false => vec![LaunchTemplateTagSpecification { resource_type: text("instance"), tags }],
    };
    let profile = instance
        .profile
        .as_ref()
        .map(|it| LaunchTemplateIamInstanceProfileSpecification { arn: text(&it.arn), name: None });
    let metadata = &instance.metadata;
    let launch_template_data = ResponseLaunchTemplateData {
        image_id: text(&instance.image_id),
        instance_type: text(&instance.instance_type),
        key_name: instance.key_name.clone(),
        user_data: instance.user_data.clone(),
        ebs_optimized: Some(instance.is_ebs_optimized),
        disable_api_termination: Some(instance.disable_api_termination),
        disable_api_stop: Some(instance.disable_api_stop),
        instance_initiated_shutdown_behavior: text(&instance.shutdown_behavior),
        iam_instance_profile: profile,
        monitoring: Some(LaunchTemplatesMonitoring { enabled: Some(instance.is_monitored) }),
        placement: Some(LaunchTemplatePlacement {
            availability_zone: text(&instance.zone),
            tenancy: text("default"),
            group_name: instance.placed.as_ref().map(|it| it.group_name.clone()),
            partition_number: instance.placed.as_ref().and_then(|it| it.partition).map(i64::from),
            ..Default::default()
        }),
        block_device_mappings: instance.block_devices.iter().map(device).collect(),
        network_interfaces: state.interfaces_of(&instance.id).into_iter().map(interface).collect(),
        metadata_options: Some(LaunchTemplateInstanceMetadataOptions {
            http_tokens: text(&metadata.http_tokens),
            http_put_response_hop_limit: Some(metadata.http_put_response_hop_limit),
            http_endpoint: text(&metadata.http_endpoint),
            http_protocol_ipv6: text(&metadata.http_protocol_ipv6),
            instance_metadata_tags: text(&metadata.instance_metadata_tags),
            ..Default::default()
        }),
        hibernation_options: instance
            .can_hibernate
            .then_some(LaunchTemplateHibernationOptions { configured: Some(true) }),
        credit_specification: instance
            .cpu_credits
            .clone()
            .map(|it| CreditSpecification { cpu_credits: Some(it) }),
        cpu_options: instance.cpu_options.map(cpu),
        tag_specifications,
        ..Default::default()
    };
    Ok(GetLaunchTemplateDataResponse { launch_template_data: Some(launch_template_data) })
}

fn device(device: &BlockDevice) -> LaunchTemplateBlockDeviceMapping {
    LaunchTemplateBlockDeviceMapping {
        device_name: Some(device.device_name.clone()),
        ebs: Some(LaunchTemplateEbsBlockDevice {
            encrypted: Some(device.is_encrypted),
            delete_on_termination: Some(device.delete_on_termination),
            iops: device.iops,
            kms_key_id: device.kms_key.clone(),
            throughput: device.throughput,
            volume_size: Some(device.size_gib),
            volume_type: Some(device.volume_type.clone()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Addresses are the instance's own: another one cannot have them.
fn interface(interface: &NetworkInterface) -> LaunchTemplateInstanceNetworkInterfaceSpecification {
    let attachment = interface.attachment.as_ref();
    LaunchTemplateInstanceNetworkInterfaceSpecification {
        device_index: attachment.map(|it| it.device_index.into()),
        network_card_index: attachment.map(|it| it.network_card_index.into()),
        delete_on_termination: attachment.map(|it| it.delete_on_termination),
        associate_public_ip_address: interface.public_address().map(|_| true),
        description: Some(interface.description.clone()),
        groups: interface.security_groups.iter().cloned().collect(),
        interface_type: Some(interface.interface_type.clone()),
        subnet_id: Some(interface.subnet_id.clone()),
        connection_tracking_specification: tracking_answer(interface),
        ..Default::default()
    }
}
