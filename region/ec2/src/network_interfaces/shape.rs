//! How an interface looks to clients, and by what it can be filtered.

use std::net::{Ipv4Addr, Ipv6Addr};

use aws_ec2::{
    common::GroupIdentifier,
    network_interface::{
        self, Ipv4PrefixSpecification, Ipv6PrefixSpecification, NetworkInterfaceAssociation,
        NetworkInterfaceAttachment, NetworkInterfaceIpv6Address, NetworkInterfacePrivateIpAddress,
    },
};

use crate::{
    Call, names,
    query::{Values, many, maybe, one},
    records::NetworkInterface,
    state::State,
    tagging,
};

pub(crate) fn answer(
    call: &Call<'_>,
    state: &State,
    interface: &NetworkInterface,
) -> network_interface::NetworkInterface {
    let address = |it: Ipv4Addr| NetworkInterfacePrivateIpAddress {
        association: association(call, interface, it),
        primary: Some(it == interface.primary_address),
        private_dns_name: Some(names::private_dns(&call.config.region, it)),
        private_ip_address: Some(it.to_string()),
    };
    let prefix =
        |it: &ipnet::Ipv4Net| Ipv4PrefixSpecification { ipv4_prefix: Some(it.to_string()) };
    let ipv6_address = |it: &Ipv6Addr| NetworkInterfaceIpv6Address {
        ipv6_address: Some(it.to_string()),
        is_primary_ipv6: Some(false),
    };
    let ipv6_prefix =
        |it: &ipnet::Ipv6Net| Ipv6PrefixSpecification { ipv6_prefix: Some(it.to_string()) };
    network_interface::NetworkInterface {
        association: association(call, interface, interface.primary_address),
        attachment: attachment(call, interface),
        availability_zone: Some(interface.zone.clone()),
        availability_zone_id: call.config.zone_id(&interface.zone).map(str::to_owned),
        description: Some(interface.description.clone()),
        groups: groups(state, interface),
        interface_type: Some(interface.shown_type().to_owned()),
        connection_tracking_configuration: super::tracking::answer(interface),
        mac_address: Some(interface.mac.clone()),
        network_interface_id: Some(interface.id.clone()),
        owner_id: Some(call.config.account.clone()),
        private_dns_name: Some(names::private_dns(&call.config.region, interface.primary_address)),
        public_dns_name: interface
            .public_address()
            .map(|it| names::public_dns(&call.config.region, it)),
        private_ip_address: Some(interface.primary_address.to_string()),
        private_ip_addresses: interface.addresses().map(address).collect(),
        ipv4_prefixes: interface.prefixes.iter().map(prefix).collect(),
        ipv6_address: interface.ipv6_addresses.first().map(Ipv6Addr::to_string),
        ipv6_addresses: interface.ipv6_addresses.iter().map(ipv6_address).collect(),
        ipv6_prefixes: interface.ipv6_prefixes.iter().map(ipv6_prefix).collect(),
        requester_id: interface.requester.clone(),
        requester_managed: Some(interface.requester.is_some()),
        source_dest_check: Some(interface.source_dest_check),
        status: Some(status(interface).to_owned()),
        subnet_id: Some(interface.subnet_id.clone()),
        tag_set: tagging::answer(&interface.tags),
        vpc_id: Some(interface.vpc_id.clone()),
        ..Default::default()
    }
}

fn status(interface: &NetworkInterface) -> &'static str {
    if interface.is_in_use() { "in-use" } else { "available" }
}

pub(crate) fn association(
    call: &Call<'_>,
    interface: &NetworkInterface,
    private: Ipv4Addr,
) -> Option<NetworkInterfaceAssociation> {
    let public = interface.public_of(private)?;
    let owner = match public.allocation_id {
        Some(_) => call.config.account.clone(),
        None => "amazon".to_owned(),
    };
    Some(NetworkInterfaceAssociation {
        allocation_id: public.allocation_id.clone(),
        association_id: public.association_id.clone(),
        ip_owner_id: Some(owner),
        public_dns_name: Some(names::public_dns(&call.config.region, public.public)),
        public_ip: Some(public.public.to_string()),
    })
}

pub(crate) fn attachment(
    call: &Call<'_>,
    interface: &NetworkInterface,
) -> Option<NetworkInterfaceAttachment> {
    if let Some(it) = &interface.attachment {
        return Some(NetworkInterfaceAttachment {
            attach_time: Some(names::date(it.attached_at)),
            attachment_id: Some(it.id.clone()),
            delete_on_termination: Some(it.delete_on_termination),
            device_index: Some(it.device_index.into()),
            network_card_index: Some(it.network_card_index.into()),
            instance_id: Some(it.instance_id.clone()),
            instance_owner_id: Some(call.config.account.clone()),
            status: Some(it.status().to_owned()),
        });
    }
    // A service's interface hangs on something of the service's own, which nobody can see; but a
    // branch on its trunk.
    let requester = interface.requester.as_ref().filter(|_| interface.trunk.is_none())?;
    Some(NetworkInterfaceAttachment {
        attachment_id: Some(interface.id.replacen("eni-", "ela-attach-", 1)),
        delete_on_termination: Some(false),
        device_index: Some(1),
        instance_owner_id: Some(requester.clone()),
        status: Some("attached".to_owned()),
        ..Default::default()
    })
}

pub(crate) fn groups(state: &State, interface: &NetworkInterface) -> Vec<GroupIdentifier> {
    let named = |id: &String| GroupIdentifier {
        group_id: Some(id.clone()),
        group_name: state.security_groups.get(id).map(|it| it.name.clone()),
    };
    interface.security_groups.iter().map(named).collect()
}

pub(super) fn attribute(
    call: &Call<'_>,
    state: &State,
    interface: &NetworkInterface,
    name: &str,
) -> Values {
    let attached = interface.attachment.as_ref();
    let public = || interface.public_addresses.iter();
    match name {
        "network-interface-id" => one(&interface.id),
        "subnet-id" => one(&interface.subnet_id),
        "vpc-id" => one(&interface.vpc_id),
        "availability-zone" => one(&interface.zone),
        "description" => one(&interface.description),
        "group-id" => many(&interface.security_groups),
        "group-name" => many(groups(state, interface).into_iter().filter_map(|it| it.group_name)),
        "interface-type" => one(interface.shown_type()),
        "mac-address" => one(&interface.mac),
        "owner-id" => one(&call.config.account),
        "private-ip-address" => one(interface.primary_address),
        "private-dns-name" => {
            one(names::private_dns(&call.config.region, interface.primary_address))
        }
        "addresses.private-ip-address" => many(interface.addresses()),
        "addresses.primary" => {
            many(interface.addresses().map(|it| it == interface.primary_address))
        }
        "addresses.association.public-ip" | "association.public-ip" => {
            many(public().map(|it| it.public))
        }
        "association.allocation-id" => many(public().filter_map(|it| it.allocation_id.as_ref())),
        "association.association-id" => many(public().filter_map(|it| it.association_id.as_ref())),
        "association.public-dns-name" => {
            many(public().map(|it| names::public_dns(&call.config.region, it.public)))
        }
        "attachment.instance-id" => maybe(attached.map(|it| &it.instance_id)),
        "attachment.attachment-id" => {
            maybe(attachment(call, interface).and_then(|it| it.attachment_id))
        }
        "attachment.instance-owner-id" => {
            maybe(attachment(call, interface).and_then(|it| it.instance_owner_id))
        }
        "attachment.delete-on-termination" => maybe(attached.map(|it| it.delete_on_termination)),
        "attachment.device-index" => maybe(attached.map(|it| it.device_index)),
        "attachment.status" => maybe(attachment(call, interface).and_then(|it| it.status)),
        "attachment.attach-time" => maybe(attached.map(|it| names::date(it.attached_at))),
        "ipv4-prefixes.ipv4-prefix" | "ipv4-prefix.ipv4-prefix" => many(&interface.prefixes),
        "requester-id" => maybe(interface.requester.as_ref()),
        "requester-managed" => one(interface.requester.is_some()),
        "source-dest-check" => one(interface.source_dest_check),
        "status" => one(status(interface)),
        "ipv6-addresses.ipv6-address" => many(&interface.ipv6_addresses),
        "ipv6-prefixes.ipv6-prefix" => many(&interface.ipv6_prefixes),
        _ => None,
    }
}
