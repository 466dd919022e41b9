//! Attaching interfaces to instances, within the limits of the instance type.

use aws_ec2::network_interface::{
    AttachNetworkInterfaceRequest, AttachNetworkInterfaceResponse, DetachNetworkInterfaceRequest,
    DetachNetworkInterfaceResponse,
};
use aws_wire::Fault;
use jiff::Timestamp;

use super::{address_limit, refuse_foreign, trunks};
use crate::{
    Call, faults,
    records::{Attachment, InstanceState},
    state::State,
};

pub(crate) fn attach(
    call: &Call<'_>,
    state: &mut State,
    request: AttachNetworkInterfaceRequest,
) -> Result<AttachNetworkInterfaceResponse, Fault> {
    refuse_foreign(call, state.network_interfaces.find(&request.network_interface_id)?)?;
    let index = u32::try_from(request.device_index)
        .map_err(|_| faults::invalid_value("deviceIndex", request.device_index))?;
    if request.network_card_index.is_some_and(|it| it != 0) {
        return Err(faults::unsupported("Only network card 0 is supported in this region."));
    }
    let instance = state.instances.find(&request.instance_id)?;
    if instance.state.is_ending() || instance.state == InstanceState::Stopping {
        return Err(faults::incorrect_state(format!(
            "The instance '{}' is not in a valid state for this operation.",
            instance.id
        )));
    }
    let attachment =
        attach_checked(call, state, &request.network_interface_id, &request.instance_id, index)?;
    Ok(AttachNetworkInterfaceResponse {
        attachment_id: Some(attachment.id),
        network_card_index: Some(0),
    })
}

/// Attaches with all of the type's limits kept. New attachments outlive the instance.
pub(crate) fn attach_checked(
    call: &Call<'_>,
    state: &mut State,
    interface_id: &str,
    instance_id: &str,
    device_index: u32,
) -> Result<Attachment, Fault> {
    let instance = state.instances.find(instance_id)?;
    let interface = state.network_interfaces.find(interface_id)?;
    if interface.attachment.is_some() || interface.trunk.is_some() {
        return Err(trunks::in_use(interface_id));
    }
    if interface.zone != instance.zone || interface.vpc_id != instance.vpc_id {
        return Err(faults::combination(format!(
            "You may not attach a network interface to an instance if they are not in the same \
             availability zone and VPC: {interface_id} and {instance_id}"
        )));
    }
    let facts = instance_types::find(&instance.instance_type)
        .ok_or_else(|| faults::invalid_value("instanceType", &instance.instance_type))?;
    let attached = state.interfaces_of(instance_id);
    if attached.len() >= usize::try_from(facts.enis).unwrap_or(usize::MAX) {
        return Err(Fault::new(
            "AttachmentLimitExceeded",
            format!(
                "Interface count {} exceeds the limit for {}",
                attached.len() + 1,
                instance.instance_type
            ),
        ));
    }
    let at_index = |it: &Attachment| it.device_index == device_index;
    if attached.iter().filter_map(|it| it.attachment.as_ref()).any(at_index) {
        return Err(faults::invalid(format!(
            "Instance '{instance_id}' already has an interface attached at device index '{device_index}'."
        )));
    }
    let limit = usize::try_from(facts.ipv4_per_eni).unwrap_or(usize::MAX);
    let slots = interface.slots().max(interface.ipv6_slots());
    if slots > limit {
        return Err(address_limit(slots, limit, Some(&instance.instance_type)));
    }
    trunks::check_attachment(state, interface, &attached, facts)?;
    let attachment = Attachment {
        id: entropy::aws_id("eni-attach"),
        instance_id: instance_id.to_owned(),
        device_index,
        network_card_index: 0,
        delete_on_termination: false,
        attached_at: call.now,
        // The interface that an instance is launched with comes with its power.
        is_attached: device_index == 0 || call.config.latency.attach.is_zero(),
        detaching_since: None,
    };
    state.network_interfaces.edit(interface_id)?.attachment = Some(attachment.clone());
    Ok(attachment)
}

pub(crate) fn detach(
    call: &Call<'_>,
    state: &mut State,
    request: DetachNetworkInterfaceRequest,
) -> Result<DetachNetworkInterfaceResponse, Fault> {
    let id = &request.attachment_id;
    if id.starts_with("ela-attach-") {
        return Err(Fault::new(
            "OperationNotPermitted",
            "You are not allowed to manage 'ela-attach' attachments.",
        ));
    }
    let found = state.network_interfaces.iter().find_map(|interface| {
        let attachment = interface.attachment.as_ref().filter(|it| it.id == *id)?;
        Some((interface.clone(), attachment.device_index))
    });
    let Some((interface, device_index)) = found else {
        return Err(Fault::new(
            "InvalidAttachmentID.NotFound",
            format!("The networkInterface attachment ID '{id}' does not exist"),
        ));
    };
    refuse_foreign(call, &interface)?;
    if device_index == 0 {
        return Err(Fault::new(
            "OperationNotPermitted",
            "The network interface at device index 0 cannot be detached.",
        ));
    }
    trunks::refuse_with_branches(state, &interface.id)?;
    let interface = state.network_interfaces.edit(&interface.id)?;
    match &mut interface.attachment {
        Some(attachment) if !call.config.latency.detach.is_zero() => {
            attachment.detaching_since.get_or_insert(call.now);
        }
        attachment => *attachment = None,
    }
    Ok(DetachNetworkInterfaceResponse {})
}

/// Attaches and detaches what has had its time, and says when the next interface will have.
pub(crate) fn settle(call: &Call<'_>, state: &mut State) -> Result<Option<Timestamp>, Fault> {
    let latency = &call.config.latency;
    let mut next = None;
    let moving = state.network_interfaces.iter().filter_map(|interface| {
        let attachment = interface.attachment.as_ref()?;
        let due = match attachment.detaching_since {
            Some(since) => since + latency.detach,
            None if attachment.is_attached => return None,
            None => attachment.attached_at + latency.attach,
        };
        Some((interface.id.clone(), due))
    });
    for (id, due) in moving.collect::<Vec<_>>() {
        if due > call.now {
            next = next.into_iter().chain([due]).min();
            continue;
        }
        let interface = state.network_interfaces.edit(&id)?;
        match &mut interface.attachment {
            Some(attachment) if attachment.detaching_since.is_none() => {
                attachment.is_attached = true;
            }
            attachment => *attachment = None,
        }
    }
    Ok(next)
}
