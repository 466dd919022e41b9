//! `DescribeVolumes`: the volumes that instances were launched with.
//!
//! A volume's key is looked up when the volume is made, after the launch has been answered: an instance
//! whose key cannot be used ends before it runs.
//!
//! Source: CreateVolume ("EBS authenticates the KMS key asynchronously"); EC2 user guide, "Instance
//! terminates immediately".
//! Deviation: there is no KMS here, and so no key but the account's own. There are no other volumes; they cannot be created, attached or detached alone.

use aws_ec2::volume::{DescribeVolumesRequest, DescribeVolumesResponse, Volume, VolumeAttachment};
use aws_wire::Fault;

use super::reports::transition_reason;
use crate::{
    Call, names,
    query::{self, Values, one},
    records::{BlockDevice, Instance, InstanceState, StateReason},
    state::State,
};

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeVolumesRequest,
) -> Result<DescribeVolumesResponse, Fault> {
    let mut all: Vec<(&Instance, &BlockDevice)> = state
        .instances
        .iter()
        .filter(|it| it.state != InstanceState::Terminated)
        .flat_map(|instance| instance.block_devices.iter().map(move |it| (instance, it)))
        .collect();
    all.sort_by_key(|(_, it)| &it.volume_id);
    for id in &request.volume_ids {
        if !all.iter().any(|(_, it)| it.volume_id == *id) {
            return Err(Fault::new(
                "InvalidVolume.NotFound",
                format!("The volume '{id}' does not exist."),
            ));
        }
    }
    query::check(&request.filters, |name| {
        attribute(&Instance::default(), &BlockDevice::default(), name)
    })?;
    let mut found = Vec::new();
    for (instance, device) in all {
        let is_named =
            request.volume_ids.is_empty() || request.volume_ids.contains(&device.volume_id);
        let passes = query::passes(&request.filters, query::no_tags(), |name| {
            attribute(instance, device, name)
        })?;
        if is_named && passes {
            found.push((instance, device));
        }
    }
    let (found, next_token) =
        query::page(found, request.max_results, request.next_token.as_deref(), |(_, it)| {
            &it.volume_id
        })?;
    let volumes = found.into_iter().map(|(instance, it)| answer(call, instance, it)).collect();
    Ok(DescribeVolumesResponse { next_token, volumes })
}

/// Ends the launches whose volumes cannot be encrypted as they are to be.
pub(crate) fn settle(call: &Call<'_>, state: &mut State) -> Result<(), Fault> {
    let is_stuck = |it: &&Instance| {
        it.state == InstanceState::Pending && it.block_devices.iter().any(|it| it.kms_key.is_some())
    };
    let stuck: Vec<String> =
        state.instances.iter().filter(is_stuck).map(|it| it.id.clone()).collect();
    for id in stuck {
        let instance = state.instances.edit(&id)?;
        let code = "Client.InvalidKMSKey.InvalidState";
        instance.state_reason = Some(StateReason {
            code: code.to_owned(),
            message: format!("{code}: The KMS key provided is in an incorrect state"),
        });
        instance.transition_reason = transition_reason(call, "Server.InternalError");
        instance.state = InstanceState::ShuttingDown;
    }
    Ok(())
}

fn attribute(instance: &Instance, device: &BlockDevice, name: &str) -> Values {
    match name {
        "volume-id" => one(&device.volume_id),
        "attachment.instance-id" => one(&instance.id),
        "attachment.device" => one(&device.device_name),
        "attachment.status" => one("attached"),
        "attachment.delete-on-termination" => one(device.delete_on_termination),
        "availability-zone" => one(&instance.zone),
        "encrypted" => one(device.is_encrypted),
        "size" => one(device.size_gib),
        "status" => one("in-use"),
        "volume-type" => one(&device.volume_type),
        _ => None,
    }
}

fn answer(call: &Call<'_>, instance: &Instance, device: &BlockDevice) -> Volume {
    let at = names::date(instance.launched_at);
    let attachment = VolumeAttachment {
        delete_on_termination: Some(device.delete_on_termination),
        volume_id: Some(device.volume_id.clone()),
        instance_id: Some(instance.id.clone()),
        device: Some(device.device_name.clone()),
        state: Some("attached".to_owned()),
        attach_time: Some(at.clone()),
        ..Default::default()
    };
    Volume {
        availability_zone_id: call.config.zone_id(&instance.zone).map(str::to_owned),
        iops: device.iops,
        volume_type: Some(device.volume_type.clone()),
        multi_attach_enabled: Some(false),
        throughput: device.throughput,
        volume_id: Some(device.volume_id.clone()),
        size: Some(device.size_gib),
        availability_zone: Some(instance.zone.clone()),
        state: Some("in-use".to_owned()),
        create_time: Some(at),
        attachments: vec![attachment],
        encrypted: Some(device.is_encrypted),
        kms_key_id: device.kms_key.clone(),
        ..Default::default()
    }
}
