//! How launch templates look to clients: what was sent, under the names of answers.

use aws_ec2::{
    common::Tag,
    launch_template::{self, LaunchTemplateVersion},
    launch_template_data as data, launch_template_request as sent,
    launch_template_request::RequestLaunchTemplateData,
    network_interface::PrivateIpAddressSpecification,
};
use aws_wire::Fault;
use serde_json::Value;

use crate::{
    names,
    records::{LaunchTemplate, TemplateVersion},
    tagging,
};

/// Builds a shape from another one's fields of the same names.
macro_rules! same {
    ($shape:ty, $source:expr, [$($field:ident),* $(,)?] $(, $other:ident: $value:expr)*) => {{
        let source = $source;
        <$shape>::from({
            let mut made = <$shape>::default();
            $(made.$field = source.$field.clone();)*
            $(made.$other = $value;)*
            made
        })
    }};
}

pub(super) fn template(template: &LaunchTemplate) -> launch_template::LaunchTemplate {
    launch_template::LaunchTemplate {
        launch_template_id: Some(template.id.clone()),
        launch_template_name: Some(template.name.clone()),
        create_time: Some(names::date(template.created_at)),
        created_by: Some(template.created_by.clone()),
        default_version_number: Some(template.default_version),
        latest_version_number: template.versions.keys().next_back().copied(),
        tags: tagging::answer(&template.tags),
    }
}

pub(super) fn version(
    template: &LaunchTemplate,
    number: i64,
    version: &TemplateVersion,
) -> LaunchTemplateVersion {
    LaunchTemplateVersion {
        launch_template_id: Some(template.id.clone()),
        launch_template_name: Some(template.name.clone()),
        version_number: Some(number),
        version_description: version.description.clone(),
        create_time: Some(names::date(version.created_at)),
        created_by: Some(version.created_by.clone()),
        default_version: Some(template.default_version == number),
        launch_template_data: Some(answer(&version.data)),
    }
}

/// A version made from another: fields that are sent replace those of the source.
pub(super) fn merge(
    source: &RequestLaunchTemplateData,
    sent: &RequestLaunchTemplateData,
) -> Result<RequestLaunchTemplateData, Fault> {
    let tree = |it| serde_json::to_value(it).map_err(|it| Fault::internal(it.to_string()));
    let (mut merged, sent) = (tree(source)?, tree(sent)?);
    if let (Value::Object(merged), Value::Object(sent)) = (&mut merged, sent) {
        merged.extend(sent);
    }
    serde_json::from_value(merged).map_err(|it| Fault::internal(it.to_string()))
}

fn answer(sent: &RequestLaunchTemplateData) -> data::ResponseLaunchTemplateData {
    same!(
        data::ResponseLaunchTemplateData,
        sent,
        [
            kernel_id,
            ebs_optimized,
            image_id,
            instance_type,
            key_name,
            ram_disk_id,
            disable_api_termination,
            instance_initiated_shutdown_behavior,
            user_data,
            security_group_ids,
            security_groups,
            disable_api_stop,
        ],
        iam_instance_profile: sent.iam_instance_profile.as_ref().map(|it| same!(
            data::LaunchTemplateIamInstanceProfileSpecification,
            it,
            [arn, name]
        )),
        block_device_mappings: sent.block_device_mappings.iter().map(block_device).collect(),
        network_interfaces: sent.network_interfaces.iter().map(interface).collect(),
        monitoring: sent.monitoring.as_ref().map(|it| same!(
            data::LaunchTemplatesMonitoring,
            it,
            [enabled]
        )),
        placement: sent.placement.as_ref().map(|it| same!(
            data::LaunchTemplatePlacement,
            it,
            [availability_zone, group_name, tenancy, affinity, host_id, partition_number]
        )),
        tag_specifications: sent.tag_specifications.iter().map(tags).collect(),
        instance_market_options: sent.instance_market_options.as_ref().map(market),
        metadata_options: sent.metadata_options.as_ref().map(|it| same!(
            data::LaunchTemplateInstanceMetadataOptions,
            it,
            [
                http_tokens,
                http_put_response_hop_limit,
                http_endpoint,
                http_protocol_ipv6,
                instance_metadata_tags,
            ],
            state: Some("applied".to_owned())
        ))
    )
}

fn market(
    sent: &sent::LaunchTemplateInstanceMarketOptionsRequest,
) -> data::LaunchTemplateInstanceMarketOptions {
    let spot = sent.spot_options.as_ref().map(|it| {
        same!(
            data::LaunchTemplateSpotMarketOptions,
            it,
            [max_price, spot_instance_type, valid_until, instance_interruption_behavior]
        )
    });
    same!(
        data::LaunchTemplateInstanceMarketOptions,
        sent,
        [market_type],
        spot_options: spot
    )
}

fn block_device(
    sent: &sent::LaunchTemplateBlockDeviceMappingRequest,
) -> data::LaunchTemplateBlockDeviceMapping {
    let ebs = sent.ebs.as_ref().map(|it| {
        same!(
            data::LaunchTemplateEbsBlockDevice,
            it,
            [
                encrypted,
                delete_on_termination,
                iops,
                snapshot_id,
                volume_size,
                volume_type,
                throughput,
            ]
        )
    });
    same!(
        data::LaunchTemplateBlockDeviceMapping,
        sent,
        [device_name, virtual_name, no_device],
        ebs: ebs
    )
}

fn interface(
    sent: &sent::LaunchTemplateInstanceNetworkInterfaceSpecificationRequest,
) -> data::LaunchTemplateInstanceNetworkInterfaceSpecification {
    let addresses = sent
        .private_ip_addresses
        .iter()
        .map(|it| same!(PrivateIpAddressSpecification, it, [primary, private_ip_address]));
    same!(
        data::LaunchTemplateInstanceNetworkInterfaceSpecification,
        sent,
        [
            associate_public_ip_address,
            delete_on_termination,
            description,
            device_index,
            groups,
            interface_type,
            network_interface_id,
            private_ip_address,
            secondary_private_ip_address_count,
            subnet_id,
            network_card_index,
            ipv4_prefix_count,
        ],
        private_ip_addresses: addresses.collect()
    )
}

fn tags(
    sent: &sent::LaunchTemplateTagSpecificationRequest,
) -> data::LaunchTemplateTagSpecification {
    let tags = sent.tags.iter().map(|it| same!(Tag, it, [key, value])).collect();
    same!(
        data::LaunchTemplateTagSpecification,
        sent,
        [resource_type],
        tags: tags
    )
}
