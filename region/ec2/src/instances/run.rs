//! `RunInstances`.
//!
//! A call launches as many instances as it can between its two counts, or none. With a client
//! token a repeated call is answered with what the first one made.

use aws_ec2::{instance::Reservation, run_instances::RunInstancesRequest};
use aws_wire::Fault;
use base64::{Engine, prelude::BASE64_STANDARD};
use instance_types::{Arch, InstanceType};
use region_gateway::CallerKind;

use super::{cpu, hibernation, interfaces, launch::Launch, quota::Capacity, reports, shape};
use crate::{
    Call, client_tokens, faults, key_pairs, launch_templates, placement_groups,
    records::{BlockDevice, Cpus, Image, Instance, InstanceState, Profile, StatusCheck, Tags},
    service::ProfileInfo,
    state::State,
};

/// User data is limited in its raw form.
const USER_DATA_LIMIT: usize = 16 * 1024;

pub(crate) fn run(
    call: &Call<'_>,
    state: &mut State,
    request: RunInstancesRequest,
) -> Result<Reservation, Fault> {
    let token = request.client_token.clone();
    let token = token.as_deref();
    let made = client_tokens::once(call, state, "RunInstances", token, request, |state, it| {
        launch_all(call, state, &it)
    });
    reservation(call, state, &made?)
}

/// Launches as many instances as there is room for, and says their reservation.
fn launch_all(
    call: &Call<'_>,
    state: &mut State,
    request: &RunInstancesRequest,
) -> Result<String, Fault> {
    refuse_unsupported(request)?;
    let (min, max) = counts(request)?;
    let launch = merged(call, state, request)?;
    let plan = Plan::check(call, state, request, launch)?;
    if max > 1 && plan.launch.is_for_one() {
        return Err(faults::combination(
            "A private address or network interface can be given for one instance only.",
        ));
    }
    reports::forget_terminated(call, state)?;
    let reservation_id = entropy::aws_id("r");
    for index in 0..max {
        let mut attempt = state.clone();
        match plan.make(call, &mut attempt, &reservation_id, index) {
            Ok(()) => *state = attempt,
            Err(_) if index >= min => break,
            Err(fault) => return Err(fault),
        }
    }
    Ok(reservation_id)
}

/// Where a fleet's override wants its instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) subnet_id: Option<String>,
    pub(crate) zone: Option<String>,
}

/// Launches one instance in a place of its own choosing, whichever of its parts the template's
/// subnet is in. Returns its id.
pub(crate) fn run_in(
    call: &Call<'_>,
    state: &mut State,
    request: &RunInstancesRequest,
    place: &Place,
) -> Result<String, Fault> {
    let launch = merged_in(call, state, request, place)?;
    let plan = Plan::check(call, state, request, launch)?;
    reports::forget_terminated(call, state)?;
    let reservation_id = entropy::aws_id("r");
    plan.make(call, state, &reservation_id, 0)?;
    let made = state.instances.iter().find(|it| it.reservation_id == reservation_id);
    made.map(|it| it.id.clone()).ok_or_else(|| Fault::internal("the instance is not there"))
}

/// What would change the instance and cannot be had here.
fn refuse_unsupported(request: &RunInstancesRequest) -> Result<(), Fault> {
    let placement = request.placement.as_ref();
    let tenancy = placement.and_then(|it| it.tenancy.as_deref());
    let has_host =
        placement.is_some_and(|it| it.host_id.is_some() || it.host_resource_group_arn.is_some());
    if has_host || tenancy.is_some_and(|it| it != "default") {
        return Err(faults::unsupported("Dedicated hosts are not supported in this region."));
    }
    Ok(())
}

fn counts(request: &RunInstancesRequest) -> Result<(i64, i64), Fault> {
    let (min, max) = (request.min_count, request.max_count);
    if min < 1 || max < min {
        return Err(faults::invalid(format!(
            "Value ({min}, {max}) for parameters minCount and maxCount is invalid."
        )));
    }
    Ok((min, max))
}

/// Template and request as one.
fn merged(call: &Call<'_>, state: &State, request: &RunInstancesRequest) -> Result<Launch, Fault> {
    let base = match &request.launch_template {
        None => Launch::default(),
        Some(named) => {
            let (_, version) = launch_templates::resolve(
                state,
                named.launch_template_id.as_deref(),
                named.launch_template_name.as_deref(),
                named.version.as_deref(),
            )?;
            Launch::from_template(call, &version.data)?
        }
    };
    base.with_request(call, request)
}

/// Template and request as one, in a place of the fleet's choosing.
pub(crate) fn merged_in(
    call: &Call<'_>,
    state: &State,
    request: &RunInstancesRequest,
    place: &Place,
) -> Result<Launch, Fault> {
    let mut launch = merged(call, state, request)?;
    if place.subnet_id.is_some() {
        match launch.interfaces.iter_mut().find(|it| it.device_index == 0) {
            Some(primary) => primary.subnet_id.clone_from(&place.subnet_id),
            None => launch.subnet_id.clone_from(&place.subnet_id),
        }
    }
    if place.zone.is_some() {
        launch.zone.clone_from(&place.zone);
    }
    Ok(launch)
}

/// Everything about a launch that is the same for all of its instances, checked.
struct Plan {
    launch: Launch,
    image: Image,
    public_key: Option<String>,
    facts: &'static InstanceType,
    cpus: Option<Cpus>,
    profile: Option<ProfileInfo>,
    template: Option<(String, i64)>,
    client_token: Option<String>,
}

impl Plan {
    fn check(
        call: &Call<'_>,
        state: &State,
        request: &RunInstancesRequest,
        launch: Launch,
    ) -> Result<Self, Fault> {
        let image_id = launch.image_id.as_deref().ok_or_else(|| faults::missing("ImageId"))?;
        let image = state.images.find(image_id)?.clone();
        let facts = instance_type(launch.instance_type.as_deref().unwrap_or("m1.small"), &image)?;
        let cpus = cpu::wanted(facts, launch.cpu_options.as_ref())?;
        check_keys(&launch)?;
        placement_groups::group_of(state, &launch.group)?;
        let public_key = match &launch.key_name {
            None => None,
            Some(name) => Some(key_pairs::by_name(state, name)?.public_key.clone()),
        };
        check_user_data(launch.user_data.as_deref())?;
        hibernation::check(&launch, facts, &image, &block_devices(&launch, &image))?;
        let profile = launch.profile.as_deref().map(|it| find_profile(call, it)).transpose()?;
        let template = match &request.launch_template {
            None => None,
            Some(it) => Some(launch_templates::resolve(
                state,
                it.launch_template_id.as_deref(),
                it.launch_template_name.as_deref(),
                it.version.as_deref(),
            )?),
        };
        let template = template.map(|(template, version)| {
            let numbered = template.versions.iter().find(|(_, it)| *it == version);
            (template.id.clone(), numbered.map_or(template.latest_version, |(number, _)| *number))
        });
        let client_token = request.client_token.clone();
        Ok(Self { launch, image, public_key, facts, cpus, profile, template, client_token })
    }

    fn make(
        &self,
        call: &Call<'_>,
        state: &mut State,
        reservation_id: &str,
        index: i64,
    ) -> Result<(), Fault> {
        let launch = &self.launch;
        // Each is in the state before the next is checked.
        let subnet = interfaces::subnet_for(state, launch)?;
        let placed = placement_groups::place(state, &launch.group, self.facts, &subnet.zone)?;
        let capacity = Capacity { is_spot: launch.is_spot, preference: &launch.capacity };
        let reservation = capacity.grant(call, state, self.facts, &subnet.zone)?;
        let id = entropy::aws_id("i");
        let profile = self.profile.as_ref().map(|it| Profile {
            association_id: entropy::aws_id("iip-assoc"),
            arn: it.arn.clone(),
            id: it.id.clone(),
        });
        state.instances.insert(Instance {
            id: id.clone(),
            reservation_id: reservation_id.to_owned(),
            requester: match &call.caller.kind {
                CallerKind::Service(name) => Some(name.clone()),
                _ => None,
            },
            image_id: self.image.id.clone(),
            instance_type: self.facts.name.to_owned(),
            state: InstanceState::Pending,
            boot: 1,
            check: StatusCheck::Ok,
            state_reason: None,
            transition_reason: String::new(),
            launched_at: call.now,
            terminated_at: None,
            launch_index: index,
            key_name: launch.key_name.clone(),
            root_snapshot: self.image.snapshot.clone(),
            public_key: self.public_key.clone(),
            user_data: launch.user_data.clone(),
            profile,
            metadata: launch.metadata.clone(),
            zone: subnet.zone.clone(),
            vpc_id: subnet.vpc_id.clone(),
            subnet_id: subnet.id.clone(),
            is_monitored: launch.is_monitored,
            is_ebs_optimized: launch.is_ebs_optimized,
            disable_api_termination: launch.disable_api_termination,
            disable_api_stop: launch.disable_api_stop,
            can_hibernate: launch.can_hibernate,
            is_hibernated: false,
            shutdown_behavior: launch.shutdown_behavior.clone().unwrap_or("stop".to_owned()),
            is_spot: launch.is_spot,
            capacity_preference: launch.capacity.clone(),
            capacity_reservation: reservation,
            interruption: None,
            cpu_credits: launch.cpu_credits.clone(),
            cpu_options: self.cpus,
            placed,
            client_token: self.client_token.clone(),
            launch_template: self.template.clone(),
            block_devices: block_devices(launch, &self.image),
            tags: self.tags(),
        });
        interfaces::attach_all(call, state, &id, &subnet, launch)
    }
}

impl Plan {
    /// An instance carries the name of the template that it came from.
    fn tags(&self) -> Tags {
        let mut tags = self.launch.tags_for("instance");
        if let Some((id, version)) = &self.template {
            tags.insert("aws:ec2launchtemplate:id".to_owned(), id.clone());
            tags.insert("aws:ec2launchtemplate:version".to_owned(), version.to_string());
        }
        tags
    }
}

impl Launch {
    /// Whether something in it can be had by one instance only.
    fn is_for_one(&self) -> bool {
        let single = |it: &super::launch::InterfaceSpec| {
            it.network_interface_id.is_some() || it.primary.is_some() || !it.secondary.is_empty()
        };
        self.private_address.is_some() || self.interfaces.iter().any(single)
    }
}

/// The type's facts, when this region can run it and the image fits.
fn instance_type(name: &str, image: &Image) -> Result<&'static InstanceType, Fault> {
    let facts = instance_types::find(name)
        .ok_or_else(|| faults::invalid(format!("Invalid value '{name}' for InstanceType.")))?;
    if facts.arch != Arch::X86_64 {
        return Err(Fault::new(
            "Unsupported",
            format!(
                "The instance type '{name}' ({}) cannot be run by this region's hosts.",
                facts.arch.as_str()
            ),
        ));
    }
    if image.architecture != facts.arch.as_str() {
        return Err(faults::invalid(format!(
            "The architecture '{}' of the specified instance type does not match the architecture \
             '{}' of the specified AMI. Specify an instance type and an AMI that have matching \
             architectures, and try again.",
            facts.arch.as_str(),
            image.architecture
        )));
    }
    Ok(facts)
}

pub(crate) fn check_user_data(user_data: Option<&str>) -> Result<(), Fault> {
    let Some(encoded) = user_data else { return Ok(()) };
    let raw = BASE64_STANDARD
        .decode(encoded.as_bytes())
        .map_err(|_| faults::invalid("Invalid BASE64 encoding of user data."))?;
    if raw.len() > USER_DATA_LIMIT {
        return Err(faults::invalid(format!("User data is limited to {USER_DATA_LIMIT} bytes")));
    }
    Ok(())
}

pub(crate) fn find_profile(call: &Call<'_>, name_or_arn: &str) -> Result<ProfileInfo, Fault> {
    call.environment.instance_profile(name_or_arn).ok_or_else(|| {
        let (field, what) = match name_or_arn.starts_with("arn:") {
            true => ("arn", "ARN"),
            false => ("name", "name"),
        };
        faults::invalid(format!(
            "Value ({name_or_arn}) for parameter iamInstanceProfile.{field} is invalid. Invalid \
             IAM Instance Profile {what}"
        ))
    })
}

/// A key is asked for only when the volume is made: see [`super::volumes::settle`].
fn check_keys(launch: &Launch) -> Result<(), Fault> {
    let is_odd = |it: &&super::launch::BlockDeviceSpec| {
        it.kms_key.is_some() && it.is_encrypted != Some(true)
    };
    match launch.block_devices.iter().find(is_odd) {
        None => Ok(()),
        Some(_) => Err(Fault::new(
            "InvalidParameterDependency",
            "The parameter KmsKeyId requires the parameter Encrypted to be set.",
        )),
    }
}

fn block_devices(launch: &Launch, image: &Image) -> Vec<BlockDevice> {
    let named = |name: &str| launch.block_devices.iter().find(|it| it.device_name == name);
    let mut names: Vec<&str> = vec![&image.root_device_name];
    names.extend(
        launch
            .block_devices
            .iter()
            .map(|it| it.device_name.as_str())
            .filter(|it| *it != image.root_device_name),
    );
    let kept = names.into_iter().filter(|it| !named(it).is_some_and(|it| it.is_removed));
    kept.map(|name| {
        let spec = named(name).cloned().unwrap_or_default();
        BlockDevice {
            device_name: name.to_owned(),
            volume_id: entropy::aws_id("vol"),
            size_gib: spec.size_gib.unwrap_or(image.root_size_gib),
            volume_type: spec.volume_type.unwrap_or("gp3".to_owned()),
            iops: spec.iops.or(Some(3000)),
            throughput: spec.throughput.or(Some(125)),
            is_encrypted: spec.is_encrypted.unwrap_or(false),
            kms_key: spec.kms_key,
            delete_on_termination: spec.delete_on_termination.unwrap_or(true),
        }
    })
    .collect()
}

/// The reservation as it is now.
fn reservation(call: &Call<'_>, state: &State, reservation_id: &str) -> Result<Reservation, Fault> {
    let instances: Vec<&Instance> =
        state.instances.iter().filter(|it| it.reservation_id == reservation_id).collect();
    Ok(shape::reservation(call, state, reservation_id, &instances, &state.attached_interfaces()))
}
