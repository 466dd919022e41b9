//! The interfaces that an instance is launched with, and its public address.

use aws_wire::Fault;

use super::launch::{InterfaceSpec, Launch};
use crate::{
    Call, addressing, faults,
    network_interfaces::{self, Wanted, interface_type, parse_address},
    records::{PublicAddress, Subnet},
    state::State,
};

/// The subnet of the first interface: as asked, or the default one (of the zone asked for).
pub(crate) fn subnet_for(state: &State, launch: &Launch) -> Result<Subnet, Fault> {
    let primary = launch.interfaces.iter().find(|it| it.device_index == 0);
    if let Some(id) = primary.and_then(|it| it.network_interface_id.as_ref()) {
        let interface = state.network_interfaces.find(id)?;
        return state.subnets.find(&interface.subnet_id).cloned();
    }
    let asked = primary.and_then(|it| it.subnet_id.as_ref()).or(launch.subnet_id.as_ref());
    let subnet = match asked {
        Some(id) => state.subnets.find(id)?,
        None => state
            .subnets
            .iter()
            .filter(|it| it.is_default_for_zone)
            .filter(|it| launch.zone.as_ref().is_none_or(|zone| it.zone == *zone))
            .min_by(|a, b| a.zone.cmp(&b.zone))
            .ok_or_else(|| {
                Fault::new(
                    "MissingInput",
                    "No subnets found for the default VPC. Please specify a subnet.",
                )
            })?,
    };
    match &launch.zone {
        Some(zone) if *zone != subnet.zone => Err(faults::invalid(format!(
            "Value ({zone}) for parameter availabilityZone is invalid. The subnet '{}' is in the \
             availability zone {}",
            subnet.id, subnet.zone
        ))),
        _ => Ok(subnet.clone()),
    }
}

/// Makes or takes each interface and attaches it.
pub(crate) fn attach_all(
    call: &Call<'_>,
    state: &mut State,
    instance_id: &str,
    subnet: &Subnet,
    launch: &Launch,
) -> Result<(), Fault> {
    let mut specs = launch.interfaces.clone();
    if !specs.is_empty()
        && (!launch.security_group_ids.is_empty() || !launch.security_group_names.is_empty())
        && specs.iter().any(|it| it.network_interface_id.is_some() || !it.groups.is_empty())
    {
        return Err(faults::combination(
            "Network interfaces and an instance-level security groups may not be specified on the \
             same request",
        ));
    }
    if !specs.iter().any(|it| it.device_index == 0) {
        specs.insert(0, InterfaceSpec::default());
    }
    if launch.ipv6_count.is_some() || !launch.ipv6_addresses.is_empty() {
        let primary = specs.iter_mut().find(|it| it.device_index == 0);
        if let Some(primary) = primary.filter(|it| it.network_interface_id.is_none()) {
            primary.ipv6.count = launch.ipv6_count;
            primary.ipv6.addresses.clone_from(&launch.ipv6_addresses);
        }
    }
    let groups = groups_of(state, subnet, launch)?;
    for spec in specs {
        attach_one(call, state, instance_id, subnet, launch, &groups, spec)?;
    }
    Ok(())
}

fn attach_one(
    call: &Call<'_>,
    state: &mut State,
    instance_id: &str,
    subnet: &Subnet,
    launch: &Launch,
    groups: &[String],
    spec: InterfaceSpec,
) -> Result<(), Fault> {
    let index = u32::try_from(spec.device_index)
        .map_err(|_| faults::invalid_value("deviceIndex", spec.device_index))?;
    if spec.network_card_index != 0 {
        return Err(Fault::new(
            "Unsupported",
            format!(
                "The network card index {} is not supported for the instance type '{}'.",
                spec.network_card_index,
                state.instances.find(instance_id)?.instance_type
            ),
        ));
    }
    let is_new = spec.network_interface_id.is_none();
    let id = match spec.network_interface_id {
        Some(id) => id,
        None => {
            let of_instance = launch.private_address.as_deref().filter(|_| index == 0);
            let primary = match spec.primary {
                Some(it) => Some(it),
                None => of_instance.map(parse_address).transpose()?,
            };
            let wanted = Wanted {
                primary,
                secondary: spec.secondary,
                secondary_count: spec.secondary_count,
                prefixes: spec.prefixes,
                prefix_count: spec.prefix_count,
                ipv6: spec.ipv6,
                security_groups: if spec.groups.is_empty() { groups.to_vec() } else { spec.groups },
                description: spec.description.unwrap_or_default(),
                requester: None,
                interface_type: interface_type(spec.interface_type.as_deref())?,
                tracking: spec.tracking,
                tags: launch.tags_for("network-interface"),
            };
            let subnet_id = spec.subnet_id.as_ref().unwrap_or(&subnet.id);
            network_interfaces::make(state, subnet_id, wanted)?.id
        }
    };
    network_interfaces::attach_checked(call, state, &id, instance_id, index)?;
    let interface = state.network_interfaces.edit(&id)?;
    if let Some(attachment) = &mut interface.attachment {
        attachment.delete_on_termination = spec.delete_on_termination.unwrap_or(is_new);
    }
    let is_public = spec.associate_public_address.unwrap_or(subnet.map_public_ip_on_launch);
    if index == 0 && is_new && is_public {
        give_public_address(state, &id)?;
    }
    Ok(())
}

/// The groups of the instance, by id or name, or none for the VPC's default.
pub(crate) fn groups_of(
    state: &State,
    subnet: &Subnet,
    launch: &Launch,
) -> Result<Vec<String>, Fault> {
    let mut groups = launch.security_group_ids.clone();
    for name in &launch.security_group_names {
        let in_vpc = state.security_groups.iter().filter(|it| it.vpc_id == subnet.vpc_id);
        let found = in_vpc.into_iter().find(|it| it.name == *name || it.id == *name);
        let found = found.ok_or_else(|| {
            Fault::new(
                "InvalidGroup.NotFound",
                format!("The security group '{name}' does not exist in VPC '{}'", subnet.vpc_id),
            )
        })?;
        groups.push(found.id.clone());
    }
    Ok(groups)
}

/// Gives the primary address a public one, unless it has one.
pub(crate) fn give_public_address(state: &mut State, interface_id: &str) -> Result<(), Fault> {
    if state.network_interfaces.find(interface_id)?.public_address().is_some() {
        return Ok(());
    }
    let public = addressing::take_public(state)?;
    let interface = state.network_interfaces.edit(interface_id)?;
    let private = interface.primary_address;
    interface.public_addresses.push(PublicAddress {
        private,
        public,
        allocation_id: None,
        association_id: None,
    });
    Ok(())
}
