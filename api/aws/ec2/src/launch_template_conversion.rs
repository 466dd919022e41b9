//! A launch template's data as it is sent and as it is answered: one from the other.
//!
//! EC2 keeps what was sent and answers it under other names; whoever makes a template of another one
//! sends what was answered. Each pair of shapes is listed once and for both directions, and a field
//! that is in neither list does not compile.

use crate::{
    capacity_reservation::{
        CapacityReservationSpecification, CapacityReservationSpecificationResponse,
        CapacityReservationTarget, CapacityReservationTargetResponse,
    },
    common::{Tag, TagInput},
    instance::{CpuOptions, InstanceIpv6Address},
    launch_template_data as answered, launch_template_request as sent,
    network_interface::{
        ConnectionTrackingSpecification, ConnectionTrackingSpecificationRequest,
        InstanceIpv6AddressInput, Ipv4PrefixSpecification, Ipv4PrefixSpecificationRequest,
        Ipv6PrefixSpecification, Ipv6PrefixSpecificationRequest, PrivateIpAddressSpecification,
        PrivateIpAddressSpecificationInput,
    },
    run_instances::{CpuOptionsRequest, CreditSpecificationRequest},
};

/// Both directions of a pair: fields that are the same, structures, lists of structures, and those
/// that only answers have.
macro_rules! pair {
    (
        $sent:ty, $answered:ty,
        same [$($same:ident),* $(,)?]
        $(, one [$($one:ident),* $(,)?])?
        $(, many [$($many:ident),* $(,)?])?
        $(, answered only [$($answered_only:ident),*])? $(,)?
    ) => {
        impl From<$sent> for $answered {
            fn from(it: $sent) -> Self {
                Self {
                    $($same: it.$same,)*
                    $($($one: it.$one.map(Into::into),)*)?
                    $($($many: it.$many.into_iter().map(Into::into).collect(),)*)?
                    $($($answered_only: Default::default(),)*)?
                }
            }
        }

        impl From<$answered> for $sent {
            fn from(it: $answered) -> Self {
                Self {
                    $($same: it.$same,)*
                    $($($one: it.$one.map(Into::into),)*)?
                    $($($many: it.$many.into_iter().map(Into::into).collect(),)*)?
                }
            }
        }
    };
}

pair!(
    sent::RequestLaunchTemplateData,
    answered::ResponseLaunchTemplateData,
    same [
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
    one [
        iam_instance_profile,
        monitoring,
        placement,
        instance_market_options,
        credit_specification,
        cpu_options,
        capacity_reservation_specification,
        metadata_options,
        hibernation_options,
    ],
    many [block_device_mappings, network_interfaces, tag_specifications],
);

pair!(
    CapacityReservationSpecification,
    CapacityReservationSpecificationResponse,
    same[capacity_reservation_preference],
    one[capacity_reservation_target],
);

pair!(
    CapacityReservationTarget,
    CapacityReservationTargetResponse,
    same [capacity_reservation_id, capacity_reservation_resource_group_arn],
);

pair!(
    sent::LaunchTemplateHibernationOptionsRequest,
    answered::LaunchTemplateHibernationOptions,
    same[configured],
);

pair!(
    sent::LaunchTemplateIamInstanceProfileSpecificationRequest,
    answered::LaunchTemplateIamInstanceProfileSpecification,
    same [arn, name],
);

pair!(
    sent::LaunchTemplateBlockDeviceMappingRequest,
    answered::LaunchTemplateBlockDeviceMapping,
    same [device_name, virtual_name, no_device],
    one [ebs],
);

pair!(
    sent::LaunchTemplateEbsBlockDeviceRequest,
    answered::LaunchTemplateEbsBlockDevice,
    same [
        encrypted,
        delete_on_termination,
        iops,
        kms_key_id,
        snapshot_id,
        volume_size,
        volume_type,
        throughput,
        volume_initialization_rate,
        ebs_card_index,
    ],
);

pair!(
    sent::LaunchTemplateInstanceNetworkInterfaceSpecificationRequest,
    answered::LaunchTemplateInstanceNetworkInterfaceSpecification,
    same [
        associate_public_ip_address,
        delete_on_termination,
        description,
        device_index,
        groups,
        interface_type,
        ipv6_address_count,
        network_interface_id,
        private_ip_address,
        secondary_private_ip_address_count,
        subnet_id,
        network_card_index,
        ipv4_prefix_count,
        ipv6_prefix_count,
        primary_ipv6,
    ],
    one [connection_tracking_specification],
    many [private_ip_addresses, ipv4_prefixes, ipv6_addresses, ipv6_prefixes],
);

pair!(
    ConnectionTrackingSpecificationRequest,
    ConnectionTrackingSpecification,
    same [tcp_established_timeout, udp_stream_timeout, udp_timeout],
);

pair!(
    CpuOptionsRequest,
    CpuOptions,
    same [core_count, threads_per_core, amd_sev_snp, nested_virtualization],
);

pair!(
    PrivateIpAddressSpecificationInput,
    PrivateIpAddressSpecification,
    same [primary, private_ip_address],
);

pair!(Ipv4PrefixSpecificationRequest, Ipv4PrefixSpecification, same[ipv4_prefix],);

pair!(Ipv6PrefixSpecificationRequest, Ipv6PrefixSpecification, same[ipv6_prefix],);

impl From<InstanceIpv6AddressInput> for InstanceIpv6Address {
    fn from(it: InstanceIpv6AddressInput) -> Self {
        Self { ipv6_address: it.ipv6_address, is_primary_ipv6: None }
    }
}

impl From<InstanceIpv6Address> for InstanceIpv6AddressInput {
    fn from(it: InstanceIpv6Address) -> Self {
        Self { ipv6_address: it.ipv6_address }
    }
}

pair!(sent::LaunchTemplatesMonitoringRequest, answered::LaunchTemplatesMonitoring, same[enabled],);

pair!(
    sent::LaunchTemplatePlacementRequest,
    answered::LaunchTemplatePlacement,
    same [
        availability_zone,
        availability_zone_id,
        affinity,
        group_name,
        host_id,
        tenancy,
        spread_domain,
        host_resource_group_arn,
        partition_number,
        group_id,
    ],
);

pair!(
    sent::LaunchTemplateTagSpecificationRequest,
    answered::LaunchTemplateTagSpecification,
    same[resource_type],
    many[tags],
);

pair!(TagInput, Tag, same [key, value]);

pair!(
    sent::LaunchTemplateInstanceMarketOptionsRequest,
    answered::LaunchTemplateInstanceMarketOptions,
    same[market_type],
    one[spot_options],
);

pair!(
    sent::LaunchTemplateSpotMarketOptionsRequest,
    answered::LaunchTemplateSpotMarketOptions,
    same [
        max_price,
        spot_instance_type,
        block_duration_minutes,
        valid_until,
        instance_interruption_behavior,
    ],
);

pair!(
    sent::LaunchTemplateInstanceMetadataOptionsRequest,
    answered::LaunchTemplateInstanceMetadataOptions,
    same [
        http_tokens,
        http_put_response_hop_limit,
        http_endpoint,
        http_protocol_ipv6,
        instance_metadata_tags,
    ],
    answered only [state],
);

impl From<CreditSpecificationRequest> for answered::CreditSpecification {
    fn from(it: CreditSpecificationRequest) -> Self {
        Self { cpu_credits: Some(it.cpu_credits) }
    }
}

impl From<answered::CreditSpecification> for CreditSpecificationRequest {
    fn from(it: answered::CreditSpecification) -> Self {
        Self { cpu_credits: it.cpu_credits.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_answered_and_can_be_sent_again() {
        let sent = sent::RequestLaunchTemplateData {
            image_id: Some("ami-1".to_owned()),
            credit_specification: Some(CreditSpecificationRequest {
                cpu_credits: "unlimited".to_owned(),
            }),
            network_interfaces: vec![
                sent::LaunchTemplateInstanceNetworkInterfaceSpecificationRequest {
                    primary_ipv6: Some(true),
                    private_ip_addresses: vec![PrivateIpAddressSpecificationInput {
                        primary: Some(true),
                        private_ip_address: Some("192.168.0.9".to_owned()),
                    }],
                    ..Default::default()
                },
            ],
            instance_market_options: Some(sent::LaunchTemplateInstanceMarketOptionsRequest {
                market_type: Some("spot".to_owned()),
                spot_options: Some(sent::LaunchTemplateSpotMarketOptionsRequest {
                    max_price: Some("0.1".to_owned()),
                    ..Default::default()
                }),
            }),
            tag_specifications: vec![sent::LaunchTemplateTagSpecificationRequest {
                resource_type: Some("instance".to_owned()),
                tags: vec![TagInput { key: Some("a".to_owned()), value: Some("b".to_owned()) }],
            }],
            ..Default::default()
        };
        let answered = answered::ResponseLaunchTemplateData::from(sent.clone());
        let credits = answered.credit_specification.as_ref().and_then(|it| it.cpu_credits.clone());
        assert_eq!(credits.as_deref(), Some("unlimited"));
        assert_eq!(sent::RequestLaunchTemplateData::from(answered), sent);
    }
}
