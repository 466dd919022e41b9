//! What IAM decides on: groups with their tags, and what a group makes EC2 do.
//!
//! Groups launch as a service, for which no policy is asked. So whoever gives a group its launch
//! template must be allowed to launch from it themselves: AWS makes a dry run of `RunInstances`
//! with the caller's rights, and here EC2 is asked what it would decide on ([`LaunchRights`]).
//!
//! Source: Service Authorization Reference, "Amazon EC2 Auto Scaling"; user guide, "Control Amazon
//! EC2 launch template usage".

use std::iter;

use aws_autoscaling::{
    group::{
        CreateAutoScalingGroupRequest, LaunchTemplateOverrides, LaunchTemplateSpecification,
        MixedInstancesPolicy, UpdateAutoScalingGroupRequest,
    },
    instance_refresh::StartInstanceRefreshRequest,
    lifecycle_hook::PutLifecycleHookRequest,
    policy::{DeletePolicyRequest, ExecutePolicyRequest},
    scheduled_action::PutScheduledUpdateGroupActionRequest,
    tag::{CreateOrUpdateTagsRequest, DeleteTagsRequest, Tag},
};
use aws_ec2::run_instances::{
    LaunchTemplateSpecification as Named, RunInstances, RunInstancesRequest,
};
use region_gateway::{Caller, Handle, Target};

use crate::{AutoScaling, records::Group, template::MOST_OVERRIDES};

const SERVICE: &str = "autoscaling.amazonaws.com";

/// What EC2 decides on before it launches instances for a caller.
pub trait LaunchRights: Send + Sync + 'static {
    fn launch_targets(&self, caller: &Caller, request: &RunInstancesRequest) -> Vec<Target>;
}

impl<H: Handle<RunInstances>> LaunchRights for H {
    fn launch_targets(&self, caller: &Caller, request: &RunInstancesRequest) -> Vec<Target> {
        Handle::<RunInstances>::targets(self, caller, request)
    }
}

/// The group of that name; one that does not exist has neither id nor tags.
pub(crate) fn group(service: &AutoScaling, name: &str) -> Target {
    match service.group(name) {
        Ok(group) => of_group(&group),
        Err(_) => Target::resource(arn(service, name)),
    }
}

/// The group of a member.
pub(crate) fn group_of(service: &AutoScaling, instance_id: &str) -> Target {
    match service.group_of(instance_id) {
        Ok(group) => of_group(&group),
        Err(_) => Target::resource(arn(service, "*")),
    }
}

fn arn(service: &AutoScaling, name: &str) -> String {
    let config = service.config();
    format!(
        "arn:aws:autoscaling:{}:{}:autoScalingGroup:*:autoScalingGroupName/{name}",
        config.region, config.account
    )
}

fn of_group(group: &Group) -> Target {
    let tags = || group.tags.iter().map(|(key, tag)| (key.as_str(), tag.value.as_str()));
    Target::resource(&group.arn)
        .with_tags("aws:ResourceTag", tags())
        .with_tags("autoscaling:ResourceTag", tags())
}

fn requested<'a>(tags: impl IntoIterator<Item = &'a Tag>) -> Vec<(&'a str, &'a str)> {
    let pair = |it: &'a Tag| (it.key.as_str(), it.value.as_deref().unwrap_or_default());
    tags.into_iter().map(pair).collect()
}

pub(crate) fn create(
    service: &AutoScaling,
    caller: &Caller,
    request: &CreateAutoScalingGroupRequest,
) -> Vec<Target> {
    let wish = Wish {
        template: request.launch_template.as_ref(),
        policy: request.mixed_instances_policy.as_ref(),
        subnets: request.vpc_zone_identifier.as_deref(),
        min: Some(request.min_size),
        max: Some(request.max_size),
    };
    let name = &request.auto_scaling_group_name;
    let made =
        Target::resource(arn(service, name)).with_tags("aws:RequestTag", requested(&request.tags));
    let hooks = request.lifecycle_hook_specification_list.iter();
    let roles = hooks.filter_map(|it| it.role_arn.as_deref());
    let roles = roles.chain(request.service_linked_role_arn.as_deref());
    iter::once(wish.on(made))
        .chain(roles.map(|it| Target::pass_role(it, SERVICE)))
        .chain(wish.launches(service, caller))
        .collect()
}

pub(crate) fn update(
    service: &AutoScaling,
    caller: &Caller,
    request: &UpdateAutoScalingGroupRequest,
) -> Vec<Target> {
    let wish = Wish {
        template: request.launch_template.as_ref(),
        policy: request.mixed_instances_policy.as_ref(),
        subnets: request.vpc_zone_identifier.as_deref(),
        min: request.min_size,
        max: request.max_size,
    };
    let role = request.service_linked_role_arn.as_deref();
    iter::once(wish.on(group(service, &request.auto_scaling_group_name)))
        .chain(role.map(|it| Target::pass_role(it, SERVICE)))
        .chain(wish.launches(service, caller))
        .collect()
}

/// A new configuration is launched from like a group's own.
pub(crate) fn start_refresh(
    service: &AutoScaling,
    caller: &Caller,
    request: &StartInstanceRefreshRequest,
) -> Vec<Target> {
    let desired = request.desired_configuration.as_ref();
    let wish = Wish {
        template: desired.and_then(|it| it.launch_template.as_ref()),
        policy: desired.and_then(|it| it.mixed_instances_policy.as_ref()),
        subnets: None,
        min: None,
        max: None,
    };
    iter::once(wish.on(group(service, &request.auto_scaling_group_name)))
        .chain(wish.launches(service, caller))
        .collect()
}

pub(crate) fn put_scheduled(
    service: &AutoScaling,
    _: &Caller,
    request: &PutScheduledUpdateGroupActionRequest,
) -> Vec<Target> {
    let mut target = group(service, &request.auto_scaling_group_name);
    for (key, size) in
        [("autoscaling:MinSize", request.min_size), ("autoscaling:MaxSize", request.max_size)]
    {
        if let Some(size) = size {
            target = target.with(key, [size.to_string()]);
        }
    }
    vec![target]
}

pub(crate) fn delete_policy(
    service: &AutoScaling,
    _: &Caller,
    request: &DeletePolicyRequest,
) -> Vec<Target> {
    vec![of_policy(service, request.auto_scaling_group_name.as_deref(), &request.policy_name)]
}

pub(crate) fn execute_policy(
    service: &AutoScaling,
    _: &Caller,
    request: &ExecutePolicyRequest,
) -> Vec<Target> {
    vec![of_policy(service, request.auto_scaling_group_name.as_deref(), &request.policy_name)]
}

/// The group of a policy, which its ARN alone may name.
fn of_policy(service: &AutoScaling, name: Option<&str>, policy: &str) -> Target {
    let has = |it: &Group| it.policies.values().any(|it| it.arn == policy);
    match (name, service.groups().into_iter().find(|it| has(it))) {
        (Some(name), _) => group(service, name),
        (None, Some(found)) => of_group(&found),
        (None, None) => Target::resource(arn(service, "*")),
    }
}

pub(crate) fn put_hook(
    service: &AutoScaling,
    _: &Caller,
    request: &PutLifecycleHookRequest,
) -> Vec<Target> {
    let role = request.role_arn.as_deref().map(|it| Target::pass_role(it, SERVICE));
    iter::once(group(service, &request.auto_scaling_group_name)).chain(role).collect()
}

pub(crate) fn create_tags(
    service: &AutoScaling,
    _: &Caller,
    request: &CreateOrUpdateTagsRequest,
) -> Vec<Target> {
    tagged(service, &request.tags)
}

pub(crate) fn delete_tags(
    service: &AutoScaling,
    _: &Caller,
    request: &DeleteTagsRequest,
) -> Vec<Target> {
    tagged(service, &request.tags)
}

/// Each group once, with all tags of the request that are for it.
fn tagged(service: &AutoScaling, tags: &[Tag]) -> Vec<Target> {
    let mut names: Vec<&str> = tags.iter().filter_map(|it| it.resource_id.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    let target = |name: &str| {
        let its = tags.iter().filter(|it| it.resource_id.as_deref() == Some(name));
        group(service, name).with_tags("aws:RequestTag", requested(its))
    };
    match names.is_empty() {
        true => vec![Target::resource(arn(service, "*"))],
        false => names.into_iter().map(target).collect(),
    }
}

/// What a request wants a group to launch, and how much of it.
struct Wish<'a> {
    template: Option<&'a LaunchTemplateSpecification>,
    policy: Option<&'a MixedInstancesPolicy>,
    /// Separated by commas.
    subnets: Option<&'a str>,
    min: Option<i64>,
    max: Option<i64>,
}

impl<'a> Wish<'a> {
    /// The service's own condition keys.
    fn on(&self, mut target: Target) -> Target {
        for (key, size) in [("autoscaling:MinSize", self.min), ("autoscaling:MaxSize", self.max)] {
            if let Some(size) = size {
                target = target.with(key, [size.to_string()]);
            }
        }
        if let Some(named) = self.named() {
            let is_numbered = named.version.as_deref().is_some_and(|it| it.parse::<u64>().is_ok());
            target = target
                .with("autoscaling:LaunchTemplateVersionSpecified", [is_numbered.to_string()]);
        }
        let types = self.overrides().filter_map(|it| it.instance_type.clone());
        let types: Vec<String> = types.collect();
        if !types.is_empty() {
            target = target.with("autoscaling:InstanceTypes", types);
        }
        match self.subnets {
            None => target,
            Some(_) => target.with("autoscaling:VPCZoneIdentifiers", self.subnet_ids()),
        }
    }

    fn named(&self) -> Option<&'a LaunchTemplateSpecification> {
        let of_policy = || {
            let template = self.policy?.launch_template.as_ref()?;
            template.launch_template_specification.as_ref()
        };
        self.template.or_else(of_policy)
    }

    fn overrides(&self) -> impl Iterator<Item = &'a LaunchTemplateOverrides> {
        let template = self.policy.and_then(|it| it.launch_template.as_ref());
        template.into_iter().flat_map(|it| &it.overrides)
    }

    fn subnet_ids(&self) -> Vec<String> {
        let given = self.subnets.unwrap_or_default().split(',');
        given.map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect()
    }

    /// EC2's targets for one instance of each type in each subnet; nothing without a template.
    fn launches(&self, service: &AutoScaling, caller: &Caller) -> Vec<Target> {
        let Some(named) = self.named() else { return Vec::new() };
        let name = named.launch_template_id.as_deref().or(named.launch_template_name.as_deref());
        let refusal =
            format!("You are not authorized to use launch template: {}", name.unwrap_or_default());
        let requests = self.requests(named);
        let targets: Vec<Target> = match service.launch_rights() {
            Some(rights) => {
                requests.iter().flat_map(|it| rights.launch_targets(caller, it)).collect()
            }
            None => vec![Target::any()],
        };
        let mut distinct: Vec<Target> = Vec::new();
        for mut target in targets {
            target.action.get_or_insert_with(|| "ec2:RunInstances".to_owned());
            if !distinct.contains(&target) {
                distinct.push(target);
            }
        }
        distinct.into_iter().map(|it| it.refused_as(&refusal)).collect()
    }

    /// Each override may be launched, in each subnet.
    fn requests(&self, named: &LaunchTemplateSpecification) -> Vec<RunInstancesRequest> {
        let of = |overridden: Option<&LaunchTemplateOverrides>| RunInstancesRequest {
            min_count: 1,
            max_count: 1,
            instance_type: overridden.and_then(|it| it.instance_type.clone()),
            image_id: overridden.and_then(|it| it.image_id.clone()),
            launch_template: Some(Named {
                launch_template_id: named.launch_template_id.clone(),
                launch_template_name: match named.launch_template_id {
                    Some(_) => None,
                    None => named.launch_template_name.clone(),
                },
                version: named.version.clone(),
            }),
            ..Default::default()
        };
        // A policy with more is refused.
        let overrides = self.overrides().take(MOST_OVERRIDES);
        let mut of_types: Vec<RunInstancesRequest> = overrides.map(|it| of(Some(it))).collect();
        if of_types.is_empty() {
            of_types.push(of(None));
        }
        let ids = self.subnet_ids();
        if ids.is_empty() {
            return of_types;
        }
        let mut requests = Vec::new();
        for request in &of_types {
            for id in &ids {
                let subnet_id = Some(id.clone());
                requests.push(RunInstancesRequest { subnet_id, ..request.clone() });
            }
        }
        requests
    }
}
