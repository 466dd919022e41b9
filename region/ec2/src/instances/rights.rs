//! What a caller must be allowed before `RunInstances` runs.
//!
//! A launch is decided on for everything that takes part in it: the instance, its image, subnet,
//! security groups, interfaces, volumes, key pair and launch template; and it implies tagging what
//! is made, and handing over the role.
//!
//! Source: EC2 user guide, "Example policies … RunInstances"; Service Authorization Reference.

use aws_ec2::run_instances::RunInstancesRequest;
use region_gateway::{Caller, Target};

use super::{
    interfaces::{self, groups_of},
    launch::Launch,
    run::{Place, merged_in},
};
use crate::{
    Call, Ec2, launch_templates, placement_groups,
    records::{Preference, Subnet, Tags},
    state::State,
    targets::{of_id, tagging_of},
};

const ACTION: &str = "RunInstances";

pub(crate) fn targets(ec2: &Ec2, caller: &Caller, request: &RunInstancesRequest) -> Vec<Target> {
    targets_in(ec2, caller, request, &Place::default())
}

/// The same for a launch in a place of a fleet's choosing.
///
/// Nothing is known of a launch that cannot be merged; the call itself will say why.
pub(crate) fn targets_in(
    ec2: &Ec2,
    caller: &Caller,
    request: &RunInstancesRequest,
    place: &Place,
) -> Vec<Target> {
    let (view, call) = (ec2.view(), ec2.call(caller));
    match merged_in(&call, &view, request, place) {
        Ok(launch) => Asked::new(&call, &view, request, &launch, place).targets(),
        Err(_) => vec![Target::any()],
    }
}

/// A launch, and where its parts come from.
struct Asked<'a> {
    call: &'a Call<'a>,
    state: &'a State,
    request: &'a RunInstancesRequest,
    launch: &'a Launch,
    /// ARN of the launch template.
    template: Option<String>,
    subnet: Option<Subnet>,
    /// The subnet is a fleet's choice, not the template's.
    is_placed: bool,
}

impl<'a> Asked<'a> {
    fn new(
        call: &'a Call<'a>,
        state: &'a State,
        request: &'a RunInstancesRequest,
        launch: &'a Launch,
        place: &Place,
    ) -> Self {
        let named = request.launch_template.as_ref().and_then(|it| {
            let (id, name) = (it.launch_template_id.as_deref(), it.launch_template_name.as_deref());
            launch_templates::resolve(state, id, name, it.version.as_deref()).ok()
        });
        let template = named.map(|(it, _)| call.config.arn("launch-template", &it.id));
        let subnet = interfaces::subnet_for(state, launch).ok();
        Self {
            call,
            state,
            request,
            launch,
            template,
            subnet,
            is_placed: place.subnet_id.is_some(),
        }
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets = vec![self.instance(), self.volume()];
        targets.extend(self.network());
        let request = self.request;
        let image = self.launch.image_id.iter().map(|id| {
            self.sourced(request.image_id.is_some(), of_image(self.call, self.state, id))
        });
        targets.extend(image);
        if let Some(name) = &self.launch.key_name {
            targets.push(self.sourced(request.key_name.is_some(), self.key_pair(name)));
        }
        if let Some(id) = self.template.as_deref().and_then(|it| it.rsplit('/').next()) {
            targets.push(self.sourced(false, of_id(self.call.config, self.state, id)));
        }
        if let Preference::Target(id) = &self.launch.capacity {
            let is_overridden = request.capacity_reservation_specification.is_some();
            targets.push(self.sourced(is_overridden, of_id(self.call.config, self.state, id)));
        }
        if let Ok(Some(group)) = placement_groups::group_of(self.state, &self.launch.group) {
            let placement = request.placement.as_ref();
            let is_overridden =
                placement.is_some_and(|it| it.group_id.is_some() || it.group_name.is_some());
            let target = of_id(self.call.config, self.state, &group.id);
            targets.push(self.sourced(is_overridden, target));
        }
        targets.extend(self.tagging());
        targets.extend(self.role());
        targets
    }

    /// Says whether a resource is as the launch template has it.
    fn sourced(&self, is_overridden: bool, target: Target) -> Target {
        let Some(template) = &self.template else {
            return target.with("ec2:IsLaunchTemplateResource", ["false".to_owned()]);
        };
        target
            .with("ec2:LaunchTemplate", [template.clone()])
            .with("ec2:IsLaunchTemplateResource", [(!is_overridden).to_string()])
    }

    fn arn(&self, kind: &str) -> String {
        self.call.config.arn(kind, "*")
    }

    fn instance(&self) -> Target {
        let (launch, request) = (self.launch, self.request);
        let is_overridden = request.instance_type.is_some()
            || request.iam_instance_profile.is_some()
            || request.user_data.is_some()
            || request.metadata_options.is_some();
        let metadata = &launch.metadata;
        let market = if launch.is_spot { "spot" } else { "on-demand" };
        let mut target = Target::resource(self.arn("instance"))
            .with("ec2:InstanceType", [launch.instance_type.clone().unwrap_or_default()])
            .with("ec2:InstanceMarketType", [market.to_owned()])
            .with("ec2:Tenancy", ["default".to_owned()])
            .with("ec2:RootDeviceType", ["ebs".to_owned()])
            .with("ec2:EbsOptimized", [launch.is_ebs_optimized.to_string()])
            .with("ec2:MetadataHttpTokens", [metadata.http_tokens.clone()])
            .with("ec2:MetadataHttpEndpoint", [metadata.http_endpoint.clone()])
            .with(
                "ec2:MetadataHttpPutResponseHopLimit",
                [metadata.http_put_response_hop_limit.to_string()],
            );
        if let Some(subnet) = &self.subnet {
            target = target.with("ec2:AvailabilityZone", [subnet.zone.clone()]);
        }
        if let Some(profile) = self.profile() {
            target = target.with("ec2:InstanceProfile", [profile.arn]);
        }
        self.sourced(is_overridden, self.requested(target, "instance"))
    }

    fn volume(&self) -> Target {
        let root = self.launch.block_devices.first();
        let size = root.and_then(|it| it.size_gib).map(|it| it.to_string());
        let kind = root.and_then(|it| it.volume_type.clone()).unwrap_or("gp3".to_owned());
        let is_encrypted = root.and_then(|it| it.is_encrypted).unwrap_or(false);
        let mut target = Target::resource(self.arn("volume"))
            .with("ec2:VolumeType", [kind])
            .with("ec2:Encrypted", [is_encrypted.to_string()]);
        if let Some(size) = size {
            target = target.with("ec2:VolumeSize", [size]);
        }
        let is_overridden = !self.request.block_device_mappings.is_empty();
        self.sourced(is_overridden, self.requested(target, "volume"))
    }

    fn requested(&self, target: Target, kind: &str) -> Target {
        let tags = self.launch.tags_for(kind);
        target.with_tags("aws:RequestTag", pairs(&tags))
    }

    /// Interfaces, the subnets they are in and the groups they get.
    fn network(&self) -> Vec<Target> {
        let config = self.call.config;
        let request = self.request;
        let has_interfaces = !request.network_interfaces.is_empty();
        let mut targets = Vec::new();
        let mut made_in = Vec::new();
        let mut groups = self.groups();
        for spec in &self.launch.interfaces {
            groups.extend(spec.groups.iter().cloned());
            made_in.extend(spec.subnet_id.clone());
            if let Some(id) = &spec.network_interface_id {
                targets.push(self.sourced(has_interfaces, of_id(config, self.state, id)));
            }
        }
        made_in.extend(self.subnet.iter().map(|it| it.id.clone()));
        made_in.sort();
        made_in.dedup();
        groups.sort();
        groups.dedup();
        for id in &made_in {
            let is_overridden = has_interfaces || request.subnet_id.is_some() || self.is_placed;
            let subnet = of_id(config, self.state, id);
            let mut interface = Target::resource(self.arn("network-interface"))
                .with("ec2:Subnet", [config.arn("subnet", id)]);
            for key in ["ec2:Vpc", "ec2:AvailabilityZone"] {
                if let Some(values) = subnet.context.get(key) {
                    interface = interface.with(key, values.clone());
                }
            }
            let first = self.launch.interfaces.iter().find(|it| it.device_index == 0);
            if let Some(is_public) = first.and_then(|it| it.associate_public_address) {
                interface = interface.with("ec2:AssociatePublicIpAddress", [is_public.to_string()]);
            }
            let interface = self.requested(interface, "network-interface");
            targets.push(self.sourced(has_interfaces, interface));
            targets.push(self.sourced(is_overridden, subnet));
        }
        let is_overridden = has_interfaces
            || !request.security_group_ids.is_empty()
            || !request.security_groups.is_empty();
        let group = |id: &String| self.sourced(is_overridden, of_id(config, self.state, id));
        targets.extend(groups.iter().map(group));
        targets
    }

    /// The groups of the instance; without any, the VPC's default one.
    fn groups(&self) -> Vec<String> {
        let Some(subnet) = &self.subnet else { return self.launch.security_group_ids.clone() };
        let named = groups_of(self.state, subnet, self.launch).unwrap_or_default();
        let has_own = self.launch.interfaces.iter().any(|it| {
            it.device_index == 0 && (!it.groups.is_empty() || it.network_interface_id.is_some())
        });
        if !named.is_empty() || has_own {
            return named;
        }
        let in_vpc = self.state.security_groups.iter().filter(|it| it.vpc_id == subnet.vpc_id);
        in_vpc.filter(|it| it.name == "default").map(|it| it.id.clone()).collect()
    }

    fn key_pair(&self, name: &str) -> Target {
        match self.state.key_pairs.iter().find(|it| it.name == name) {
            Some(pair) => of_id(self.call.config, self.state, &pair.id),
            None => Target::resource(self.call.config.arn("key-pair", name)),
        }
    }

    fn tagging(&self) -> impl Iterator<Item = Target> {
        ["instance", "volume", "network-interface"].into_iter().filter_map(|kind| {
            let tags = self.launch.tags_for(kind);
            tagging_of(&self.arn(kind), ACTION, pairs(&tags).collect())
        })
    }

    fn profile(&self) -> Option<crate::ProfileInfo> {
        self.call.environment.instance_profile(self.launch.profile.as_deref()?)
    }

    fn role(&self) -> Option<Target> {
        let role = self.profile()?.role_arn?;
        Some(Target::pass_role(&role, "ec2.amazonaws.com"))
    }
}

fn pairs(tags: &Tags) -> impl Iterator<Item = (&str, &str)> {
    tags.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

fn of_image(call: &Call<'_>, state: &State, id: &str) -> Target {
    let target = match state.images.get(id) {
        Some(_) => of_id(call.config, state, id),
        None => Target::resource(format!("arn:aws:ec2:{}::image/{id}", call.config.region)),
    };
    let Some(image) = state.images.get(id) else { return target };
    target
        .with("ec2:ImageID", [id.to_owned()])
        .with("ec2:Public", [image.is_public.to_string()])
        .with("ec2:Owner", [image.owner_alias.clone().unwrap_or(image.owner_id.clone())])
}
