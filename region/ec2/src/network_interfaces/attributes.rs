//! Attributes of an interface, one or a few per call.

use aws_ec2::{
    common::{AttributeBooleanValue, AttributeValue},
    network_interface::{
        DescribeNetworkInterfaceAttributeRequest, DescribeNetworkInterfaceAttributeResponse,
        ModifyNetworkInterfaceAttributeRequest, ModifyNetworkInterfaceAttributeResponse,
    },
};
use aws_wire::Fault;

use super::{groups_for, refuse_foreign, shape};
use crate::{Call, faults, state::State};

pub(crate) fn modify_attribute(
    call: &Call<'_>,
    state: &mut State,
    request: ModifyNetworkInterfaceAttributeRequest,
) -> Result<ModifyNetworkInterfaceAttributeResponse, Fault> {
    let id = &request.network_interface_id;
    let interface = state.network_interfaces.find(id)?;
    refuse_foreign(call, interface)?;
    let groups = match request.groups.as_slice() {
        [] => None,
        asked => Some(groups_for(state, state.subnets.find(&interface.subnet_id)?, asked)?),
    };
    let tracking = super::tracking::of(request.connection_tracking_specification)?;
    let interface = state.network_interfaces.edit(id)?;
    if let Some(tracking) = tracking {
        // What is not said stays.
        let before = interface.tracking.unwrap_or_default();
        interface.tracking = Some(tracking.over(before));
    }
    if let Some(groups) = groups {
        interface.security_groups = groups;
    }
    if let Some(value) = request.description.and_then(|it| it.value) {
        interface.description = value;
    }
    if let Some(value) = request.source_dest_check.and_then(|it| it.value) {
        interface.source_dest_check = value;
    }
    if let Some(changes) = request.attachment {
        let attachment = interface.attachment.as_mut();
        let attachment = attachment.filter(|it| Some(&it.id) == changes.attachment_id.as_ref());
        let attachment = attachment.ok_or_else(|| {
            Fault::new(
                "InvalidAttachmentID.NotFound",
                format!(
                    "The networkInterface attachment ID '{}' does not exist",
                    changes.attachment_id.clone().unwrap_or_default()
                ),
            )
        })?;
        if let Some(value) = changes.delete_on_termination {
            attachment.delete_on_termination = value;
        }
    }
    Ok(ModifyNetworkInterfaceAttributeResponse {})
}

pub(crate) fn describe_attribute(
    call: &Call<'_>,
    state: &State,
    request: DescribeNetworkInterfaceAttributeRequest,
) -> Result<DescribeNetworkInterfaceAttributeResponse, Fault> {
    let interface = state.network_interfaces.find(&request.network_interface_id)?;
    let mut response = DescribeNetworkInterfaceAttributeResponse {
        network_interface_id: Some(interface.id.clone()),
        ..Default::default()
    };
    match request.attribute.as_deref().unwrap_or_default() {
        "description" => {
            let value = Some(interface.description.clone());
            response.description = Some(AttributeValue { value });
        }
        "groupSet" => response.groups = shape::groups(state, interface),
        "sourceDestCheck" => {
            let value = Some(interface.source_dest_check);
            response.source_dest_check = Some(AttributeBooleanValue { value });
        }
        "attachment" => response.attachment = shape::attachment(call, interface),
        other => return Err(faults::invalid_value("attribute", other)),
    }
    Ok(response)
}
