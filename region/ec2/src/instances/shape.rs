//! How an instance looks to clients, and by what it can be filtered.

use std::collections::BTreeSet;

use aws_ec2::{
    capacity_reservation::{
        CapacityReservationSpecificationResponse, CapacityReservationTargetResponse,
    },
    common::GroupIdentifier,
    instance::{
        self, CpuOptions, EbsInstanceBlockDevice, HibernationOptions, IamInstanceProfile,
        InstanceBlockDeviceMapping, InstanceIpv4Prefix, InstanceIpv6Address, InstanceIpv6Prefix,
        InstanceMetadataOptionsResponse, InstanceNetworkInterface,
        InstanceNetworkInterfaceAssociation, InstanceNetworkInterfaceAttachment,
        InstancePrivateIpAddress, Monitoring, PrivateDnsNameOptionsResponse, Reservation,
    },
    run_instances::Placement,
};

use crate::{
    Call, names,
    network_interfaces::{association, groups, tracking_answer},
    query::{Values, many, maybe, one},
    records::{Cpus, Instance, InstanceState, MetadataOptions, NetworkInterface, Preference},
    state::{Attached, State},
    tagging,
};

pub(crate) fn reservation(
    call: &Call<'_>,
    state: &State,
    id: &str,
    instances: &[&Instance],
    attached: &Attached<'_>,
) -> Reservation {
    let shown = |it: &&Instance| {
        let interfaces = attached.get(it.id.as_str()).map(Vec::as_slice);
        answer(call, state, it, interfaces.unwrap_or_default())
    };
    Reservation {
        reservation_id: Some(id.to_owned()),
        owner_id: Some(call.config.account.clone()),
        requester_id: instances.first().and_then(|it| it.requester.clone()),
        groups: Vec::new(),
        instances: instances.iter().map(shown).collect(),
    }
}

pub(crate) fn instance_state(state: InstanceState) -> instance::InstanceState {
    instance::InstanceState { code: Some(state.code()), name: Some(state.name().to_owned()) }
}

/// With its interfaces, in the order of their devices.
fn answer(
    call: &Call<'_>,
    state: &State,
    instance: &Instance,
    interfaces: &[&NetworkInterface],
) -> instance::Instance {
    let primary = interfaces.first().copied();
    let region = &call.config.region;
    let public = primary.and_then(NetworkInterface::public_address);
    let facts = instance_types::find(&instance.instance_type);
    let image = state.images.get(&instance.image_id);
    let text = |it: &str| Some(it.to_owned());
    instance::Instance {
        architecture: image.map(|it| it.architecture.clone()),
        block_device_mappings: block_devices(instance),
        client_token: Some(instance.client_token.clone().unwrap_or_default()),
        ebs_optimized: Some(instance.is_ebs_optimized),
        ena_support: Some(true),
        hypervisor: text("xen"),
        iam_instance_profile: instance
            .profile
            .as_ref()
            .map(|it| IamInstanceProfile { arn: Some(it.arn.clone()), id: Some(it.id.clone()) }),
        capacity_reservation_id: instance.capacity_reservation.clone(),
        capacity_reservation_specification: Some(specification(&instance.capacity_preference)),
        instance_lifecycle: instance.is_spot.then(|| "spot".to_owned()),
        network_interfaces: interfaces.iter().map(|it| interface(call, state, it)).collect(),
        root_device_name: image.map(|it| it.root_device_name.clone()),
        root_device_type: text("ebs"),
        security_groups: primary.map(|it| groups(state, it)).unwrap_or_default(),
        source_dest_check: primary.map(|it| it.source_dest_check),
        state_reason: instance.state_reason.as_ref().map(|it| instance::StateReason {
            code: Some(it.code.clone()),
            message: Some(it.message.clone()),
        }),
        tags: tagging::answer(&instance.tags),
        virtualization_type: text("hvm"),
        cpu_options: facts.map(|it| cpu(instance.cpus(it))),
        metadata_options: Some(metadata(&instance.metadata)),
        hibernation_options: Some(HibernationOptions { configured: Some(instance.can_hibernate) }),
        platform_details: text("Linux/UNIX"),
        usage_operation: text("RunInstances"),
        usage_operation_update_time: Some(names::date(instance.launched_at)),
        private_dns_name_options: Some(PrivateDnsNameOptionsResponse {
            hostname_type: text("ip-name"),
            enable_resource_name_dns_a_record: Some(false),
            enable_resource_name_dns_aaaa_record: Some(false),
        }),
        instance_id: Some(instance.id.clone()),
        image_id: Some(instance.image_id.clone()),
        state: Some(instance_state(instance.state)),
        private_dns_name: Some(
            primary.map(|it| names::private_dns(region, it.primary_address)).unwrap_or_default(),
        ),
        public_dns_name: Some(public.map(|it| names::public_dns(region, it)).unwrap_or_default()),
        state_transition_reason: Some(instance.transition_reason.clone()),
        key_name: instance.key_name.clone(),
        ami_launch_index: Some(instance.launch_index),
        instance_type: Some(instance.instance_type.clone()),
        launch_time: Some(names::date(instance.launched_at)),
        placement: Some(placement(call, instance)),
        monitoring: Some(Monitoring {
            state: text(if instance.is_monitored { "enabled" } else { "disabled" }),
        }),
        subnet_id: primary.map(|_| instance.subnet_id.clone()),
        vpc_id: primary.map(|_| instance.vpc_id.clone()),
        private_ip_address: primary.map(|it| it.primary_address.to_string()),
        ipv6_address: primary
            .and_then(|it| it.ipv6_addresses.first())
            .map(std::net::Ipv6Addr::to_string),
        public_ip_address: public.map(|it| it.to_string()),
        ..Default::default()
    }
}

fn specification(of: &Preference) -> CapacityReservationSpecificationResponse {
    let (preference, target) = match of {
        Preference::Open => (Some("open"), None),
        Preference::None => (Some("none"), None),
        Preference::Only => (Some("capacity-reservations-only"), None),
        Preference::Target(id) => (None, Some(id.clone())),
    };
    CapacityReservationSpecificationResponse {
        capacity_reservation_preference: preference.map(str::to_owned),
        capacity_reservation_target: target.map(|id| CapacityReservationTargetResponse {
            capacity_reservation_id: Some(id),
            capacity_reservation_resource_group_arn: None,
        }),
    }
}

pub(crate) fn cpu(cpus: Cpus) -> CpuOptions {
    CpuOptions {
        core_count: Some(cpus.cores.into()),
        threads_per_core: Some(cpus.threads_per_core.into()),
        ..Default::default()
    }
}

fn placement(call: &Call<'_>, instance: &Instance) -> Placement {
    let placed = instance.placed.as_ref();
    Placement {
        availability_zone: Some(instance.zone.clone()),
        availability_zone_id: call.config.zone_id(&instance.zone).map(str::to_owned),
        group_name: Some(placed.map(|it| it.group_name.clone()).unwrap_or_default()),
        group_id: placed.map(|it| it.group_id.clone()),
        partition_number: placed.and_then(|it| it.partition).map(i64::from),
        tenancy: Some("default".to_owned()),
        ..Default::default()
    }
}

pub(crate) fn metadata(options: &MetadataOptions) -> InstanceMetadataOptionsResponse {
    InstanceMetadataOptionsResponse {
        state: Some("applied".to_owned()),
        http_tokens: Some(options.http_tokens.clone()),
        http_put_response_hop_limit: Some(options.http_put_response_hop_limit),
        http_endpoint: Some(options.http_endpoint.clone()),
        http_protocol_ipv6: Some(options.http_protocol_ipv6.clone()),
        instance_metadata_tags: Some(options.instance_metadata_tags.clone()),
    }
}

pub(crate) fn block_devices(instance: &Instance) -> Vec<InstanceBlockDeviceMapping> {
    if instance.state == InstanceState::Terminated {
        return Vec::new();
    }
    let one = |it: &crate::records::BlockDevice| InstanceBlockDeviceMapping {
        device_name: Some(it.device_name.clone()),
        ebs: Some(EbsInstanceBlockDevice {
            attach_time: Some(names::date(instance.launched_at)),
            delete_on_termination: Some(it.delete_on_termination),
            status: Some("attached".to_owned()),
            volume_id: Some(it.volume_id.clone()),
            ..Default::default()
        }),
    };
    instance.block_devices.iter().map(one).collect()
}

fn interface(
    call: &Call<'_>,
    state: &State,
    interface: &NetworkInterface,
) -> InstanceNetworkInterface {
    let public = |private| {
        association(call, interface, private).map(|it| InstanceNetworkInterfaceAssociation {
            ip_owner_id: it.ip_owner_id,
            public_dns_name: it.public_dns_name,
            public_ip: it.public_ip,
        })
    };
    let dns = |it| Some(names::private_dns(&call.config.region, it));
    let attachment = interface.attachment.as_ref().map(|it| InstanceNetworkInterfaceAttachment {
        attach_time: Some(names::date(it.attached_at)),
        attachment_id: Some(it.id.clone()),
        delete_on_termination: Some(it.delete_on_termination),
        device_index: Some(it.device_index.into()),
        status: Some(it.status().to_owned()),
        network_card_index: Some(it.network_card_index.into()),
    });
    let address = |it| InstancePrivateIpAddress {
        association: public(it),
        primary: Some(it == interface.primary_address),
        private_dns_name: dns(it),
        private_ip_address: Some(it.to_string()),
    };
    let prefix = |it: &ipnet::Ipv4Net| InstanceIpv4Prefix { ipv4_prefix: Some(it.to_string()) };
    let ipv6_address = |it: &std::net::Ipv6Addr| InstanceIpv6Address {
        ipv6_address: Some(it.to_string()),
        is_primary_ipv6: Some(false),
    };
    let ipv6_prefix =
        |it: &ipnet::Ipv6Net| InstanceIpv6Prefix { ipv6_prefix: Some(it.to_string()) };
    InstanceNetworkInterface {
        association: public(interface.primary_address),
        attachment,
        description: Some(interface.description.clone()),
        groups: groups(state, interface),
        mac_address: Some(interface.mac.clone()),
        network_interface_id: Some(interface.id.clone()),
        owner_id: Some(call.config.account.clone()),
        private_dns_name: dns(interface.primary_address),
        private_ip_address: Some(interface.primary_address.to_string()),
        private_ip_addresses: interface.addresses().map(address).collect(),
        source_dest_check: Some(interface.source_dest_check),
        status: Some("in-use".to_owned()),
        subnet_id: Some(interface.subnet_id.clone()),
        vpc_id: Some(interface.vpc_id.clone()),
        interface_type: Some(interface.interface_type.clone()),
        connection_tracking_configuration: tracking_answer(interface),
        ipv4_prefixes: interface.prefixes.iter().map(prefix).collect(),
        ipv6_addresses: interface.ipv6_addresses.iter().map(ipv6_address).collect(),
        ipv6_prefixes: interface.ipv6_prefixes.iter().map(ipv6_prefix).collect(),
    }
}

/// An attribute to filter instances by.
pub(crate) fn attribute(call: &Call<'_>, state: &State, instance: &Instance, name: &str) -> Values {
    let interfaces = || state.interfaces_of(&instance.id);
    let primary = || interfaces().first().copied().cloned();
    let region = &call.config.region;
    if let Some(name) = name.strip_prefix("network-interface.") {
        return interface_attribute(call, &interfaces(), name);
    }
    match name {
        "instance-id" => one(&instance.id),
        "instance-state-name" => one(instance.state.name()),
        "instance-state-code" => one(instance.state.code()),
        "instance-type" => one(&instance.instance_type),
        "instance-lifecycle" => maybe(instance.is_spot.then_some("spot")),
        "image-id" => one(&instance.image_id),
        "capacity-reservation-id" => maybe(instance.capacity_reservation.as_ref()),
        "key-name" => maybe(instance.key_name.as_ref()),
        "client-token" => maybe(instance.client_token.as_ref()),
        "launch-time" => one(names::date(instance.launched_at)),
        "launch-index" => one(instance.launch_index),
        "reservation-id" => one(&instance.reservation_id),
        "owner-id" => one(&call.config.account),
        "requester-id" => maybe(instance.requester.as_ref()),
        "availability-zone" => one(&instance.zone),
        "availability-zone-id" => maybe(call.config.zone_id(&instance.zone)),
        "vpc-id" => maybe(primary().map(|it| it.vpc_id)),
        "subnet-id" => maybe(primary().map(|it| it.subnet_id)),
        "private-ip-address" => maybe(primary().map(|it| it.primary_address)),
        "private-dns-name" => {
            maybe(primary().map(|it| names::private_dns(region, it.primary_address)))
        }
        "ipv6-address" => many(interfaces().into_iter().flat_map(|it| it.ipv6_addresses.clone())),
        "ip-address" => maybe(primary().and_then(|it| it.public_address())),
        "dns-name" => maybe(
            primary().and_then(|it| it.public_address()).map(|it| names::public_dns(region, it)),
        ),
        "instance.group-id" | "group-id" => many(group_ids(&interfaces())),
        "instance.group-name" | "group-name" => {
            let found = interfaces();
            many(
                found
                    .iter()
                    .flat_map(|it| groups(state, it))
                    .filter_map(|it: GroupIdentifier| it.group_name),
            )
        }
        "iam-instance-profile.arn" => maybe(instance.profile.as_ref().map(|it| &it.arn)),
        "iam-instance-profile.id" => maybe(instance.profile.as_ref().map(|it| &it.id)),
        "metadata-options.http-tokens" => one(&instance.metadata.http_tokens),
        "metadata-options.http-endpoint" => one(&instance.metadata.http_endpoint),
        "metadata-options.http-put-response-hop-limit" => {
            one(instance.metadata.http_put_response_hop_limit)
        }
        "metadata-options.instance-metadata-tags" => one(&instance.metadata.instance_metadata_tags),
        "hibernation-options.configured" => one(instance.can_hibernate),
        "monitoring-state" => one(if instance.is_monitored { "enabled" } else { "disabled" }),
        "state-reason-code" => maybe(instance.state_reason.as_ref().map(|it| &it.code)),
        "reason" => one(&instance.transition_reason),
        "architecture" => maybe(state.images.get(&instance.image_id).map(|it| &it.architecture)),
        "block-device-mapping.device-name" => {
            many(instance.block_devices.iter().map(|it| &it.device_name))
        }
        "block-device-mapping.volume-id" => {
            many(instance.block_devices.iter().map(|it| &it.volume_id))
        }
        "root-device-type" => one("ebs"),
        "virtualization-type" => one("hvm"),
        "hypervisor" => one("xen"),
        "tenancy" => one("default"),
        "platform-details" => one("Linux/UNIX"),
        "source-dest-check" => maybe(primary().map(|it| it.source_dest_check)),
        "placement-group-name" => maybe(instance.placed.as_ref().map(|it| &it.group_name)),
        "placement-partition-number" => maybe(instance.placed.as_ref().and_then(|it| it.partition)),
        "platform" | "host-id" | "affinity" => Some(Vec::new()),
        _ => None,
    }
}

fn group_ids(interfaces: &[&NetworkInterface]) -> BTreeSet<String> {
    interfaces.iter().flat_map(|it| it.security_groups.iter().cloned()).collect()
}

fn interface_attribute(call: &Call<'_>, interfaces: &[&NetworkInterface], name: &str) -> Values {
    let each = interfaces.iter();
    match name {
        "network-interface-id" => many(each.map(|it| &it.id)),
        "subnet-id" => many(each.map(|it| &it.subnet_id)),
        "vpc-id" => many(each.map(|it| &it.vpc_id)),
        "description" => many(each.map(|it| &it.description)),
        "group-id" => many(group_ids(interfaces)),
        "mac-address" => many(each.map(|it| &it.mac)),
        "owner-id" => many(each.map(|_| &call.config.account)),
        "availability-zone" => many(each.map(|it| &it.zone)),
        "private-dns-name" => {
            many(each.map(|it| names::private_dns(&call.config.region, it.primary_address)))
        }
        "private-ip-address" => many(each.map(|it| it.primary_address)),
        "ipv6-addresses.ipv6-address" => {
            many(each.flat_map(|it| it.ipv6_addresses.iter().copied()))
        }
        "addresses.private-ip-address" => many(each.flat_map(|it| it.addresses())),
        "association.public-ip" | "addresses.association.public-ip" => {
            many(each.flat_map(|it| it.public_addresses.iter().map(|it| it.public)))
        }
        "source-dest-check" => many(each.map(|it| it.source_dest_check)),
        "status" => many(each.map(|_| "in-use")),
        "attachment.attachment-id" => {
            many(each.filter_map(|it| it.attachment.as_ref().map(|it| it.id.clone())))
        }
        "attachment.instance-id" => {
            many(each.filter_map(|it| it.attachment.as_ref().map(|it| it.instance_id.clone())))
        }
        "attachment.device-index" => {
            many(each.filter_map(|it| it.attachment.as_ref().map(|it| it.device_index)))
        }
        _ => None,
    }
}
