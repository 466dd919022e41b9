//! Groups: creation, change, deletion, description.

use std::collections::{BTreeMap, BTreeSet};

use aws_autoscaling::group::{
    AutoScalingGroup, CreateAutoScalingGroupRequest, CreateAutoScalingGroupResponse,
    DeleteAutoScalingGroupRequest, DeleteAutoScalingGroupResponse,
    DescribeAutoScalingGroupsRequest, DescribeAutoScalingGroupsResponse,
    UpdateAutoScalingGroupRequest, UpdateAutoScalingGroupResponse,
};
use aws_wire::Fault;

use crate::{
    AutoScaling, Call, faults, hooks,
    plan::{seconds, victim},
    records::Group,
    settings,
    shape::{self, page},
    tags, template,
};

/// API reference of `CreateAutoScalingGroup`: ASCII 33 to 126, no colon.
fn is_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.chars().all(|it| it.is_ascii_graphic() && it != ':')
}

pub(crate) async fn create(
    service: &AutoScaling,
    call: Call<'_>,
    request: CreateAutoScalingGroupRequest,
) -> Result<CreateAutoScalingGroupResponse, Fault> {
    if request.launch_configuration_name.is_some() || request.instance_id.is_some() {
        return Err(faults::unsupported("Launch configurations"));
    }
    if !request.load_balancer_names.is_empty() || !request.target_group_ar_ns.is_empty() {
        return Err(faults::unsupported("Load balancers and target groups"));
    }
    settings::of_creation(&request)?;
    let name = request.auto_scaling_group_name;
    if !is_name(&name) {
        return Err(faults::validation(format!(
            "Value '{name}' at 'autoScalingGroupName' failed to satisfy constraint: printable ASCII \
             without spaces and colons, 1 to 255 characters"
        )));
    }
    let ec2 = service.ec2()?;
    let source =
        template::source(ec2, request.launch_template, request.mixed_instances_policy).await?;
    let zones = &request.availability_zones;
    let subnets = template::subnets(ec2, request.vpc_zone_identifier.as_deref(), zones).await?;
    let (region, account) = (&call.config.region, &call.config.account);
    let arn = format!(
        "arn:aws:autoscaling:{region}:{account}:autoScalingGroup:{}:autoScalingGroupName/{name}",
        entropy::uuid()
    );
    let role = format!(
        "arn:aws:iam::{account}:role/aws-service-role/autoscaling.amazonaws.com/\
         AWSServiceRoleForAutoScaling"
    );
    let mut group = Group {
        arn,
        created_at: call.now,
        source,
        min: request.min_size,
        max: request.max_size,
        desired: request.desired_capacity.unwrap_or(request.min_size),
        default_cooldown: request.default_cooldown.unwrap_or(300),
        subnets,
        health_check_type: request.health_check_type.unwrap_or("EC2".to_owned()),
        health_check_grace_period: request.health_check_grace_period.unwrap_or(0),
        termination_policies: policies(request.termination_policies)?,
        protects_new_instances: request.new_instances_protected_from_scale_in.unwrap_or(false),
        capacity_rebalance: request.capacity_rebalance.unwrap_or(false),
        suspended: BTreeSet::new(),
        metrics: BTreeSet::new(),
        service_linked_role_arn: request.service_linked_role_arn.unwrap_or(role),
        context: request.context,
        deletion_protection: request.deletion_protection,
        max_instance_lifetime: request.max_instance_lifetime,
        default_instance_warmup: request.default_instance_warmup.filter(|it| *it != -1),
        healthy_percentages: request.instance_maintenance_policy.map(|it| {
            (it.min_healthy_percentage.unwrap_or(-1), it.max_healthy_percentage.unwrap_or(-1))
        }),
        tags: BTreeMap::new(),
        hooks: BTreeMap::new(),
        members: BTreeMap::new(),
        launches: BTreeMap::new(),
        last_change: String::new(),
        held_change: None,
        unreplaced: 0,
        retry: None,
        failed_zones: BTreeSet::new(),
        is_deleting: false,
        warm_pool: None,
        refreshes: Vec::new(),
        scheduled: BTreeMap::new(),
        policies: BTreeMap::new(),
        cools_until: None,
        name,
    };
    check_sizes(&group)?;
    check_ranges(&group)?;
    for tag in request.tags {
        tags::set(&call, &mut group, &tag)?;
    }
    for specification in request.lifecycle_hook_specification_list {
        let hook = hooks::of_specification(specification)?;
        group.hooks.insert(hook.name.clone(), hook);
    }
    group.last_change = change(&call, "created", &group, 0);
    service.insert(group)?;
    Ok(CreateAutoScalingGroupResponse {})
}

fn policies(given: Vec<String>) -> Result<Vec<String>, Fault> {
    if given.iter().any(|it| it.starts_with("arn:aws:lambda:")) {
        return Err(faults::unsupported("Custom termination policies"));
    }
    if let Some(unknown) = given.iter().find(|it| !victim::POLICIES.contains(&it.as_str())) {
        return Err(faults::validation(format!("Invalid termination policy: {unknown}")));
    }
    Ok(if given.is_empty() { vec!["Default".to_owned()] } else { given })
}

/// Times and shares. Whoever takes a setting back says -1.
fn check_ranges(group: &Group) -> Result<(), Fault> {
    let sizes = 0..=MOST;
    let seconds = [
        ("DefaultCooldown", Some(group.default_cooldown)),
        ("HealthCheckGracePeriod", Some(group.health_check_grace_period)),
        ("DefaultInstanceWarmup", group.default_instance_warmup.filter(|it| *it != -1)),
    ];
    for (name, value) in seconds {
        if value.is_some_and(|it| !sizes.contains(&it)) {
            return Err(faults::validation(format!("{name} must be 0 to {MOST} seconds.")));
        }
    }
    // A day at least, a year at most; zero is none.
    if !matches!(group.max_instance_lifetime, None | Some(0 | 86_400..=31_536_000)) {
        return Err(faults::validation(
            "MaxInstanceLifetime must be between 86400 and 31536000 seconds, or 0.",
        ));
    }
    let Some((least, most)) = group.healthy_percentages else { return Ok(()) };
    let is_good = match (least, most) {
        (-1, -1) => true,
        _ => (0..=100).contains(&least) && (100..=200).contains(&most) && most - least <= 100,
    };
    match is_good {
        true => Ok(()),
        false => Err(faults::validation(
            "MinHealthyPercentage must be 0 to 100, MaxHealthyPercentage 100 to 200, and their \
             difference 100 at most; both are given, or both are -1.",
        )),
    }
}

/// How a change of the size is told in the causes of activities.
fn change(call: &Call<'_>, verb: &str, group: &Group, before: i64) -> String {
    format!(
        "At {} a user request {verb} an AutoScalingGroup changing the desired capacity from \
         {before} to {}.",
        seconds(call.now),
        group.desired
    )
}

/// Sizes are integers of 32 bits.
pub(crate) const MOST: i64 = 2_147_483_647;

fn check_sizes(group: &Group) -> Result<(), Fault> {
    let (min, max, desired) = (group.min, group.max, group.desired);
    if min < 0 || max < 0 {
        return Err(faults::validation("MinSize and MaxSize must not be negative."));
    }
    if max > MOST {
        return Err(faults::validation(format!("MaxSize must not be greater than {MOST}.")));
    }
    if min > max {
        return Err(faults::validation(format!(
            "Max bound, {max}, must be greater than or equal to min bound, {min}"
        )));
    }
    if desired < min {
        return Err(faults::validation(format!(
            "Desired capacity:{desired} must be between the specified min size:{min} and max \
             size:{max}"
        )));
    }
    if desired > max {
        return Err(faults::validation(format!(
            "Desired capacity:{desired} must be between the specified min size:{min} and max \
             size:{max}"
        )));
    }
    Ok(())
}

pub(crate) async fn update(
    service: &AutoScaling,
    call: Call<'_>,
    request: UpdateAutoScalingGroupRequest,
) -> Result<UpdateAutoScalingGroupResponse, Fault> {
    if request.launch_configuration_name.is_some() {
        return Err(faults::unsupported("Launch configurations"));
    }
    let name = request.auto_scaling_group_name.clone();
    service.group(&name)?;
    settings::of_update(&request)?;
    let ec2 = service.ec2()?;
    let (given, policy) = (request.launch_template.clone(), request.mixed_instances_policy.clone());
    let source = match (&given, &policy) {
        (None, None) => None,
        _ => Some(template::source(ec2, given, policy).await?),
    };
    let (identifier, zones) = (request.vpc_zone_identifier.as_deref(), &request.availability_zones);
    let subnets = match (identifier, zones.is_empty()) {
        (None, true) => None,
        _ => Some(template::subnets(ec2, identifier, zones).await?),
    };
    service.update(&name, |group, _| {
        if group.is_deleting {
            return Err(being_deleted(&group.name));
        }
        if let Some(source) = source {
            group.source = source;
        }
        if let Some(subnets) = subnets {
            group.subnets = subnets;
        }
        apply(&call, group, request)
    })?;
    Ok(UpdateAutoScalingGroupResponse {})
}

pub(crate) fn being_deleted(name: &str) -> Fault {
    faults::validation(format!(
        "AutoScalingGroup name not found - AutoScalingGroup '{name}' is pending delete"
    ))
}

/// A change of the bounds pulls the desired capacity with it, unless that is given too.
fn apply(
    call: &Call<'_>,
    group: &mut Group,
    request: UpdateAutoScalingGroupRequest,
) -> Result<(), Fault> {
    let before = group.desired;
    group.min = request.min_size.unwrap_or(group.min);
    group.max = request.max_size.unwrap_or(group.max);
    let pulled = group.desired.clamp(group.min.min(group.max), group.max);
    group.desired = request.desired_capacity.unwrap_or(pulled);
    check_sizes(group)?;
    if group.desired != before {
        group.last_change = change(call, "update of", group, before);
        group.retry = None;
    }
    set(&mut group.default_cooldown, request.default_cooldown);
    set(&mut group.health_check_type, request.health_check_type);
    set(&mut group.health_check_grace_period, request.health_check_grace_period);
    set(&mut group.protects_new_instances, request.new_instances_protected_from_scale_in);
    set(&mut group.capacity_rebalance, request.capacity_rebalance);
    set(&mut group.service_linked_role_arn, request.service_linked_role_arn);
    if !request.termination_policies.is_empty() {
        group.termination_policies = policies(request.termination_policies)?;
    }
    group.context = request.context.or(group.context.take());
    group.deletion_protection = request.deletion_protection.or(group.deletion_protection.take());
    group.max_instance_lifetime = request.max_instance_lifetime.or(group.max_instance_lifetime);
    if let Some(warmup) = request.default_instance_warmup {
        group.default_instance_warmup = (warmup != -1).then_some(warmup);
    }
    if let Some(policy) = request.instance_maintenance_policy {
        group.healthy_percentages = Some((
            policy.min_healthy_percentage.unwrap_or(-1),
            policy.max_healthy_percentage.unwrap_or(-1),
        ));
    }
    check_ranges(group)
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// Without force, a group with instances stays.
pub(crate) async fn delete(
    service: &AutoScaling,
    _call: Call<'_>,
    request: DeleteAutoScalingGroupRequest,
) -> Result<DeleteAutoScalingGroupResponse, Fault> {
    let name = request.auto_scaling_group_name;
    let is_empty = service.update(&name, |group, _| {
        let is_forced = request.force_delete == Some(true);
        settings::may_go(group.deletion_protection.as_deref(), is_forced)?;
        let is_empty = group.members.is_empty() && group.launches.is_empty();
        if !is_empty && !is_forced {
            return Err(Fault::new(
                "ResourceInUse",
                "You cannot delete an AutoScalingGroup while there are instances or pending Spot \
                 instance request(s) still in the group.",
            ));
        }
        (group.min, group.max, group.desired) = (0, 0, 0);
        group.is_deleting = true;
        // Nobody waits for a group that is forced away.
        group.hooks.clear();
        for member in group.members.values_mut() {
            member.waits.clear();
        }
        Ok(is_empty)
    })?;
    if is_empty {
        service.remove(&name)?;
    }
    Ok(DeleteAutoScalingGroupResponse {})
}

pub(crate) async fn describe(
    service: &AutoScaling,
    call: Call<'_>,
    request: DescribeAutoScalingGroupsRequest,
) -> Result<DescribeAutoScalingGroupsResponse, Fault> {
    let names = &request.auto_scaling_group_names;
    let mut found = Vec::new();
    for group in service.groups() {
        let is_named = names.is_empty() || names.contains(&group.name);
        if is_named && tags::passes(&request.filters, &group)? {
            found.push(group);
        }
    }
    let (found, next_token) =
        page(found, request.max_records, request.next_token.as_deref(), |it| it.name.clone())?;
    let described = found.iter().map(|it| shape::group(call.config, it));
    let auto_scaling_groups = match request.include_instances {
        Some(false) => {
            described.map(|it| AutoScalingGroup { instances: Vec::new(), ..it }).collect()
        }
        _ => described.collect(),
    };
    Ok(DescribeAutoScalingGroupsResponse { auto_scaling_groups, next_token })
}
