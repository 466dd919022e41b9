//! `DescribeVolumes`: the volumes that instances were launched with.
//!
//! Deviation: there are no other volumes; they cannot be created, attached or detached alone.

use aws_ec2::volume::{DescribeVolumesRequest, DescribeVolumesResponse, Volume, VolumeAttachment};
use aws_wire::Fault;

use crate::{
    Call, names,
    query::{self, Values, one},
    records::{BlockDevice, Instance, InstanceState},
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
        ..Default::default()
    }
}
