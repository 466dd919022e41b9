//! Machine images: Amazon's EKS-optimized ones, and those that users register.
//!
//! A user's image is registered from a snapshot of its root volume ([`crate::snapshots`]).
//! Deviation: images from S3 (`ImageLocation`) and images with further volumes are refused. Whoever may
//! not delete a snapshot that is to go with its image is denied; EC2 deregisters the image, keeps the
//! snapshot, and says so in `deleteSnapshotResults`.

use aws_ec2::{
    common::AttributeValue,
    image::{
        self, DeregisterImageRequest, DeregisterImageResponse, DescribeImagesRequest,
        DescribeImagesResponse, RegisterImageRequest, RegisterImageResponse,
    },
    image_attribute::{
        DescribeImageAttributeRequest, DescribeImageAttributeResponse, LaunchPermission,
    },
    run_instances::{BlockDeviceMapping, BlockDeviceMappingInput, EbsBlockDevice},
};
use aws_wire::Fault;
use region_gateway::{Caller, Target};

use crate::{
    Call, Ec2, faults, names,
    query::{self, Values, maybe, one},
    records::Image,
    state::State,
    tagging, targets,
};

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeImagesRequest,
) -> Result<DescribeImagesResponse, Fault> {
    let named = state.images.named(&request.image_ids)?;
    let owned = named.into_iter().filter(|it| {
        request.owners.is_empty() || request.owners.iter().any(|owner| is_owner(call, it, owner))
    });
    let executable = owned.filter(|it| {
        request.executable_users.is_empty()
            || request.executable_users.iter().any(|user| match user.as_str() {
                "all" => it.is_public,
                _ => it.owner_id == call.config.account,
            })
    });
    let found = query::select(executable.collect(), &request.filters, |it| &it.tags, attribute)?;
    let (found, next_token) =
        query::page(found, request.max_results, request.next_token.as_deref(), |it| &it.id)?;
    Ok(DescribeImagesResponse { next_token, images: found.into_iter().map(answer).collect() })
}

fn is_owner(call: &Call<'_>, image: &Image, owner: &str) -> bool {
    match owner {
        "self" => image.owner_id == call.config.account,
        _ => image.owner_id == owner || image.owner_alias.as_deref() == Some(owner),
    }
}

fn attribute(image: &Image, name: &str) -> Values {
    match name {
        "image-id" => one(&image.id),
        "name" => one(&image.name),
        "description" => one(&image.description),
        "architecture" => one(&image.architecture),
        "owner-id" => one(&image.owner_id),
        "owner-alias" => maybe(image.owner_alias.as_ref()),
        "is-public" => one(image.is_public),
        "state" => one("available"),
        "creation-date" => one(names::date(image.created_at)),
        "root-device-name" => one(&image.root_device_name),
        "root-device-type" => one("ebs"),
        "virtualization-type" => one("hvm"),
        "hypervisor" => one("xen"),
        "image-type" => one("machine"),
        "ena-support" => one(true),
        "manifest-location" => one(location(image)),
        "block-device-mapping.snapshot-id" => maybe(image.snapshot.as_ref()),
        "block-device-mapping.device-name" => one(&image.root_device_name),
        "block-device-mapping.volume-size" => one(image.root_size_gib),
        "block-device-mapping.volume-type" => one("gp3"),
        "block-device-mapping.delete-on-termination" => one(true),
        "block-device-mapping.encrypted" => one(false),
        "platform" | "product-code" | "kernel-id" | "ramdisk-id" => Some(Vec::new()),
        _ => None,
    }
}

fn location(image: &Image) -> String {
    format!("{}/{}", image.owner_alias.as_deref().unwrap_or(&image.owner_id), image.name)
}

fn answer(image: &Image) -> image::Image {
    let text = |it: &str| Some(it.to_owned());
    let root = BlockDeviceMapping {
        device_name: Some(image.root_device_name.clone()),
        ebs: Some(EbsBlockDevice {
            delete_on_termination: Some(true),
            volume_size: Some(image.root_size_gib),
            snapshot_id: image.snapshot.clone(),
            volume_type: text("gp3"),
            encrypted: Some(false),
            ..Default::default()
        }),
        ..Default::default()
    };
    image::Image {
        platform_details: text("Linux/UNIX"),
        usage_operation: text("RunInstances"),
        block_device_mappings: vec![root],
        description: Some(image.description.clone()),
        ena_support: Some(true),
        hypervisor: text("xen"),
        image_owner_alias: image.owner_alias.clone(),
        name: Some(image.name.clone()),
        root_device_name: Some(image.root_device_name.clone()),
        root_device_type: text("ebs"),
        sriov_net_support: text("simple"),
        tags: tagging::answer(&image.tags),
        virtualization_type: text("hvm"),
        image_id: Some(image.id.clone()),
        image_location: Some(location(image)),
        state: text("available"),
        owner_id: Some(image.owner_id.clone()),
        creation_date: Some(names::date(image.created_at)),
        public: Some(image.is_public),
        architecture: Some(image.architecture.clone()),
        image_type: text("machine"),
        ..Default::default()
    }
}

/// Public images may be launched by everybody; others by their owner, whom nobody lists.
pub(crate) fn describe_attribute(
    _call: &Call<'_>,
    state: &State,
    request: DescribeImageAttributeRequest,
) -> Result<DescribeImageAttributeResponse, Fault> {
    let image = state.images.find(&request.image_id)?;
    let text = |it: &str| Some(AttributeValue { value: Some(it.to_owned()) });
    let mut response =
        DescribeImageAttributeResponse { image_id: Some(image.id.clone()), ..Default::default() };
    match request.attribute.as_str() {
        "description" => response.description = text(&image.description),
        "launchPermission" => {
            let everybody = LaunchPermission { group: Some("all".to_owned()), user_id: None };
            response.launch_permissions =
                image.is_public.then_some(everybody).into_iter().collect();
        }
        "blockDeviceMapping" => {
            response.block_device_mappings = answer(image).block_device_mappings;
        }
        "sriovNetSupport" => response.sriov_net_support = text("simple"),
        "kernel"
        | "ramdisk"
        | "productCodes"
        | "bootMode"
        | "tpmSupport"
        | "uefiData"
        | "imdsSupport"
        | "lastLaunchedTime"
        | "deregistrationProtection" => {}
        other => return Err(faults::invalid_value("attribute", other)),
    }
    Ok(response)
}

/// Making an image, of the snapshot that it is made of.
pub(crate) fn targets(ec2: &Ec2, caller: &Caller, request: &RegisterImageRequest) -> Vec<Target> {
    let tags = &request.tag_specifications;
    let mut targets = targets::of_creation(ec2, "RegisterImage", "image", tags);
    let devices = request.block_device_mappings.iter().filter_map(|it| it.ebs.as_ref());
    let snapshots: Vec<&String> = devices.filter_map(|it| it.snapshot_id.as_ref()).collect();
    if !snapshots.is_empty() {
        targets.extend(targets::of_ids(ec2, caller, &snapshots));
    }
    targets
}

pub(crate) fn register(
    call: &Call<'_>,
    state: &mut State,
    request: RegisterImageRequest,
) -> Result<RegisterImageResponse, Fault> {
    if request.image_location.is_some() {
        return Err(faults::unsupported(
            "Images from S3 (ImageLocation) are not supported in this region: import a root file \
             system with `nodestead image import` and name its snapshot.",
        ));
    }
    let architecture = request.architecture.clone().unwrap_or("x86_64".to_owned());
    if architecture != "x86_64" {
        return Err(faults::unsupported("Only images for x86_64 can be run in this region."));
    }
    let root_device_name = request.root_device_name.clone().unwrap_or("/dev/xvda".to_owned());
    let (snapshot, root_size_gib) = root(state, &request, &root_device_name)?;
    let owned = |it: &Image| it.owner_id == call.config.account && it.name == request.name;
    if let Some(known) = state.images.iter().find(|it| owned(it)) {
        return Err(Fault::new(
            "InvalidAMIName.Duplicate",
            format!("AMI name {} is already in use by AMI {}", request.name, known.id),
        ));
    }
    let tags = tagging::of_specifications(call, &request.tag_specifications, "image", &["image"])?;
    let image = Image {
        id: entropy::aws_id("ami"),
        name: request.name,
        description: request.description.unwrap_or_default(),
        architecture,
        owner_id: call.config.account.clone(),
        owner_alias: None,
        is_public: false,
        created_at: call.now,
        root_device_name,
        root_size_gib,
        snapshot: Some(snapshot),
        tags,
    };
    let image_id = Some(image.id.clone());
    state.images.insert(image);
    Ok(RegisterImageResponse { image_id })
}

/// The snapshot of the root volume, and the volume's size.
fn root(
    state: &State,
    request: &RegisterImageRequest,
    device: &str,
) -> Result<(String, i64), Fault> {
    let bad = |text: String| Fault::new("InvalidBlockDeviceMapping", text);
    let is_root = |it: &&BlockDeviceMappingInput| it.device_name.as_deref() == Some(device);
    let mapping = request.block_device_mappings.iter().find(is_root);
    let ebs = mapping.and_then(|it| it.ebs.as_ref());
    let Some(id) = ebs.and_then(|it| it.snapshot_id.as_ref()) else {
        return Err(bad(format!("The root device {device} is not mapped to a snapshot")));
    };
    let others = request.block_device_mappings.iter().filter(|it| !is_root(it));
    if others.filter_map(|it| it.ebs.as_ref()).any(|it| it.snapshot_id.is_some()) {
        return Err(faults::unsupported(
            "Snapshots of further volumes are not supported in this region.",
        ));
    }
    let snapshot = state.snapshots.find(id)?;
    if !snapshot.is_completed {
        return Err(Fault::new("IncorrectState", format!("Snapshot is in invalid state: {id}")));
    }
    let size = ebs.and_then(|it| it.volume_size).unwrap_or(snapshot.size_gib);
    if size < snapshot.size_gib {
        return Err(bad(format!(
            "Volume of size {size}GB is smaller than snapshot '{id}', expect size>= {}GB",
            snapshot.size_gib
        )));
    }
    Ok((id.clone(), size))
}

/// The image, and the snapshot that goes with it.
pub(crate) fn deregister_targets(
    ec2: &Ec2,
    _: &Caller,
    request: &DeregisterImageRequest,
) -> Vec<Target> {
    let view = ec2.view();
    let mut targets = vec![targets::of_id(ec2.config(), &view, &request.image_id)];
    if request.delete_associated_snapshots == Some(true)
        && let Some(snapshot) =
            view.images.get(&request.image_id).and_then(|it| it.snapshot.clone())
    {
        let action = Some("ec2:DeleteSnapshot".to_owned());
        targets.push(Target { action, ..targets::of_id(ec2.config(), &view, &snapshot) });
    }
    targets
}

pub(crate) fn deregister(
    call: &Call<'_>,
    state: &mut State,
    request: DeregisterImageRequest,
) -> Result<DeregisterImageResponse, Fault> {
    let image = state.images.find(&request.image_id)?;
    if image.owner_id != call.config.account {
        return Err(Fault::new(
            "AuthFailure",
            format!("Not authorized for image:{}", request.image_id),
        ));
    }
    let image = state.images.remove(&request.image_id)?;
    if request.delete_associated_snapshots == Some(true)
        && let Some(snapshot) = &image.snapshot
        // One that another image needs stays.
        && !state.images.iter().any(|it| it.snapshot.as_ref() == Some(snapshot))
        && state.snapshots.get(snapshot).is_some()
    {
        state.snapshots.remove(snapshot)?;
    }
    Ok(DeregisterImageResponse { r#return: Some(true) })
}
