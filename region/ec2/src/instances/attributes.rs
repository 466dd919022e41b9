//! Attributes of an instance, one or a few per call.

use aws_ec2::{
    common::{AttributeBooleanValue, AttributeValue},
    instance_attribute::{
        DescribeInstanceAttributeRequest, DescribeInstanceAttributeResponse,
        ModifyInstanceAttributeRequest, ModifyInstanceAttributeResponse,
        ModifyInstanceMetadataOptionsRequest, ModifyInstanceMetadataOptionsResponse,
    },
};
use aws_wire::Fault;
use instance_types::Arch;

use super::{run::check_user_data, shape};
use crate::{
    Call, faults, network_interfaces,
    records::{Instance, InstanceState},
    state::State,
};

pub(crate) fn describe(
    _call: &Call<'_>,
    state: &State,
    request: DescribeInstanceAttributeRequest,
) -> Result<DescribeInstanceAttributeResponse, Fault> {
    let instance = state.instances.find(&request.instance_id)?;
    let flag = |it| Some(AttributeBooleanValue { value: Some(it) });
    let text = |it: &str| Some(AttributeValue { value: Some(it.to_owned()) });
    let primary = state.interfaces_of(&instance.id).first().copied().cloned();
    let mut response = DescribeInstanceAttributeResponse {
        instance_id: Some(instance.id.clone()),
        ..Default::default()
    };
    match request.attribute.as_str() {
        "instanceType" => response.instance_type = text(&instance.instance_type),
        "userData" => {
            response.user_data = Some(AttributeValue { value: instance.user_data.clone() });
        }
        "disableApiTermination" => {
            response.disable_api_termination = flag(instance.disable_api_termination);
        }
        "disableApiStop" => response.disable_api_stop = flag(instance.disable_api_stop),
        "instanceInitiatedShutdownBehavior" => {
            response.instance_initiated_shutdown_behavior = text(&instance.shutdown_behavior);
        }
        "rootDeviceName" => {
            let image = state.images.get(&instance.image_id);
            response.root_device_name = image.and_then(|it| text(&it.root_device_name));
        }
        "blockDeviceMapping" => response.block_device_mappings = shape::block_devices(instance),
        "sourceDestCheck" => {
            response.source_dest_check = primary.and_then(|it| flag(it.source_dest_check));
        }
        "groupSet" => {
            response.groups =
                primary.map(|it| network_interfaces::groups(state, &it)).unwrap_or_default();
        }
        "ebsOptimized" => response.ebs_optimized = flag(instance.is_ebs_optimized),
        "enaSupport" => response.ena_support = flag(true),
        "sriovNetSupport" => response.sriov_net_support = text("simple"),
        "kernel" | "ramdisk" => {}
        other => return Err(faults::invalid_value("attribute", other)),
    }
    Ok(response)
}

pub(crate) fn modify(
    _call: &Call<'_>,
    state: &mut State,
    request: ModifyInstanceAttributeRequest,
) -> Result<ModifyInstanceAttributeResponse, Fault> {
    let id = request.instance_id.clone();
    state.instances.find(&id)?;
    modify_network(state, &id, &request)?;
    let instance = state.instances.edit(&id)?;
    let named = request.attribute.as_deref().zip(request.value.as_deref());
    let named = |name: &str| named.filter(|(it, _)| *it == name).map(|(_, value)| value);
    let flag = |value: Option<Option<bool>>, name| match value.flatten() {
        Some(value) => Some(value),
        None => named(name).map(|it| it == "true"),
    };
    let text = |value: Option<Option<String>>, name| match value.flatten() {
        Some(value) => Some(value),
        None => named(name).map(str::to_owned),
    };
    let termination = request.disable_api_termination.map(|it| it.value);
    if let Some(value) = flag(termination, "disableApiTermination") {
        instance.disable_api_termination = value;
    }
    if let Some(value) = flag(request.disable_api_stop.map(|it| it.value), "disableApiStop") {
        instance.disable_api_stop = value;
    }
    if let Some(value) = flag(request.ebs_optimized.map(|it| it.value), "ebsOptimized") {
        instance.is_ebs_optimized = value;
    }
    let behavior = request.instance_initiated_shutdown_behavior.map(|it| it.value);
    if let Some(value) = text(behavior, "instanceInitiatedShutdownBehavior") {
        if !["stop", "terminate"].contains(&value.as_str()) {
            return Err(faults::invalid_value("instanceInitiatedShutdownBehavior", value));
        }
        instance.shutdown_behavior = value;
    }
    if let Some(value) = text(request.instance_type.map(|it| it.value), "instanceType") {
        change_type(instance, &value)?;
    }
    if let Some(value) = text(request.user_data.map(|it| it.value), "userData") {
        require_stopped(instance)?;
        check_user_data(Some(&value))?;
        instance.user_data = Some(value);
    }
    Ok(ModifyInstanceAttributeResponse {})
}

fn modify_network(
    state: &mut State,
    id: &str,
    request: &ModifyInstanceAttributeRequest,
) -> Result<(), Fault> {
    let check = request.source_dest_check.as_ref().and_then(|it| it.value);
    if check.is_none() && request.groups.is_empty() {
        return Ok(());
    }
    let interfaces = state.interfaces_of(id);
    let [only] = interfaces.as_slice() else {
        return Err(Fault::new(
            "InvalidInstanceID",
            format!(
                "There are multiple interfaces attached to instance '{id}'. Please specify an \
                 interface ID for the operation instead."
            ),
        ));
    };
    let (interface_id, subnet) = (only.id.clone(), state.subnets.find(&only.subnet_id)?);
    let groups = match request.groups.as_slice() {
        [] => None,
        asked => Some(network_interfaces::groups_for(state, subnet, asked)?),
    };
    let interface = state.network_interfaces.edit(&interface_id)?;
    if let Some(value) = check {
        interface.source_dest_check = value;
    }
    if let Some(groups) = groups {
        interface.security_groups = groups;
    }
    Ok(())
}

fn require_stopped(instance: &Instance) -> Result<(), Fault> {
    match instance.state {
        InstanceState::Stopped => Ok(()),
        _ => Err(faults::incorrect_state(format!(
            "The instance '{}' is not in the 'stopped' state.",
            instance.id
        ))),
    }
}

fn change_type(instance: &mut Instance, name: &str) -> Result<(), Fault> {
    require_stopped(instance)?;
    if instance.is_hibernated {
        return Err(faults::unsupported(format!(
            "The instance type of the hibernated instance '{}' cannot be changed.",
            instance.id
        )));
    }
    let facts = instance_types::find(name)
        .filter(|it| it.arch == Arch::X86_64)
        .ok_or_else(|| faults::invalid(format!("Invalid value '{name}' for InstanceType.")))?;
    instance.instance_type = facts.name.to_owned();
    // They are those of the type, unless it is launched anew.
    instance.cpu_options = None;
    Ok(())
}

pub(crate) fn modify_metadata(
    _call: &Call<'_>,
    state: &mut State,
    request: ModifyInstanceMetadataOptionsRequest,
) -> Result<ModifyInstanceMetadataOptionsResponse, Fault> {
    let instance = state.instances.edit(&request.instance_id)?;
    let options = &mut instance.metadata;
    let limit = request.http_put_response_hop_limit;
    if let Some(limit) = limit {
        if !(1..=64).contains(&limit) {
            return Err(faults::invalid_value("HttpPutResponseHopLimit", limit));
        }
        options.http_put_response_hop_limit = limit;
    }
    for (field, value, allowed) in [
        (&mut options.http_tokens, request.http_tokens, ["optional", "required"]),
        (&mut options.http_endpoint, request.http_endpoint, ["enabled", "disabled"]),
        (&mut options.http_protocol_ipv6, request.http_protocol_ipv6, ["enabled", "disabled"]),
        (
            &mut options.instance_metadata_tags,
            request.instance_metadata_tags,
            ["enabled", "disabled"],
        ),
    ] {
        let Some(value) = value else { continue };
        if !allowed.contains(&value.as_str()) {
            return Err(faults::invalid_value("InstanceMetadataOptions", value));
        }
        *field = value;
    }
    Ok(ModifyInstanceMetadataOptionsResponse {
        instance_id: Some(instance.id.clone()),
        instance_metadata_options: Some(shape::metadata(&instance.metadata)),
    })
}
