//! How groups, members and activities look to clients.

use aws_autoscaling::{
    activity::Activity,
    group::{
        AutoScalingGroup, EnabledMetric, Instance, InstanceMaintenancePolicy,
        LaunchTemplateSpecification, SuspendedProcess,
    },
    warm_pool::{InstanceReusePolicy, WarmPoolConfiguration},
};
use aws_wire::Fault;
use jiff::Timestamp;

use crate::{
    Config,
    records::{self, Group, Member, Source, TemplateRef, WarmPool},
    tags,
};

pub(crate) fn date(at: Timestamp) -> String {
    format!("{at:.3}")
}

pub(crate) fn template(template: &TemplateRef) -> LaunchTemplateSpecification {
    LaunchTemplateSpecification {
        launch_template_id: Some(template.id.clone()),
        launch_template_name: Some(template.name.clone()),
        version: Some(template.version.clone()),
    }
}

pub(crate) fn group(config: &Config, group: &Group) -> AutoScalingGroup {
    let (launch_template, mixed_instances_policy) = match &group.source {
        Source::Template(it) => (Some(template(it)), None),
        Source::Mixed { template: named, policy } => {
            let mut policy = (**policy).clone();
            if let Some(it) = &mut policy.launch_template {
                it.launch_template_specification = Some(template(named));
            }
            (None, Some(policy))
        }
    };
    let subnets: Vec<&str> = group.subnets.keys().map(String::as_str).collect();
    let suspended = |it: &String| SuspendedProcess {
        process_name: Some(it.clone()),
        suspension_reason: Some("User suspended".to_owned()),
    };
    let metric = |it: &String| EnabledMetric {
        metric: Some(it.clone()),
        granularity: Some("1Minute".to_owned()),
    };
    // Those of the warm pool are described with it.
    let unwarmed = group.members.values().filter(|it| !it.state.is_warmed());
    let count = group.members.values().filter(|it| it.state.is_warmed()).count();
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    AutoScalingGroup {
        auto_scaling_group_name: Some(group.name.clone()),
        auto_scaling_group_arn: Some(group.arn.clone()),
        launch_template,
        mixed_instances_policy,
        min_size: Some(group.min),
        max_size: Some(group.max),
        desired_capacity: Some(group.desired),
        default_cooldown: Some(group.default_cooldown),
        availability_zones: group.zones().into_iter().map(str::to_owned).collect(),
        health_check_type: Some(group.health_check_type.clone()),
        health_check_grace_period: Some(group.health_check_grace_period),
        instances: unwarmed.map(member).collect(),
        warm_pool_configuration: group.warm_pool.as_ref().map(warm_pool),
        warm_pool_size: group.warm_pool.as_ref().map(|_| count),
        created_time: Some(date(group.created_at)),
        suspended_processes: group.suspended.iter().map(suspended).collect(),
        vpc_zone_identifier: Some(subnets.join(",")),
        enabled_metrics: group.metrics.iter().map(metric).collect(),
        status: group.is_deleting.then(|| "Delete in progress".to_owned()),
        tags: tags::answer(config, group),
        termination_policies: group.termination_policies.clone(),
        new_instances_protected_from_scale_in: Some(group.protects_new_instances),
        service_linked_role_arn: Some(group.service_linked_role_arn.clone()),
        max_instance_lifetime: group.max_instance_lifetime,
        capacity_rebalance: Some(group.capacity_rebalance),
        context: group.context.clone(),
        deletion_protection: group.deletion_protection.clone(),
        default_instance_warmup: group.default_instance_warmup,
        instance_maintenance_policy: group.healthy_percentages.map(|(min, max)| {
            InstanceMaintenancePolicy {
                min_healthy_percentage: Some(min),
                max_healthy_percentage: Some(max),
            }
        }),
        ..Default::default()
    }
}

pub(crate) fn health(member: &Member) -> &'static str {
    if member.is_healthy { "Healthy" } else { "Unhealthy" }
}

pub(crate) fn warm_pool(pool: &WarmPool) -> WarmPoolConfiguration {
    WarmPoolConfiguration {
        max_group_prepared_capacity: pool.max_prepared,
        min_size: Some(pool.min),
        // `Warmed:Running`.
        pool_state: pool.rest().name().split(':').nth(1).map(str::to_owned),
        instance_reuse_policy: pool
            .reuses
            .map(|it| InstanceReusePolicy { reuse_on_scale_in: Some(it) }),
        ..Default::default()
    }
}

pub(crate) fn member(member: &Member) -> Instance {
    Instance {
        instance_id: Some(member.instance_id.clone()),
        instance_type: Some(member.instance_type.clone()),
        availability_zone: Some(member.zone.clone()),
        lifecycle_state: Some(member.state.name().to_owned()),
        health_status: Some(health(member).to_owned()),
        launch_template: Some(template(&member.template)),
        protected_from_scale_in: Some(member.is_protected),
        weighted_capacity: (member.weight != 1).then(|| member.weight.to_string()),
        ..Default::default()
    }
}

pub(crate) fn activity(activity: &records::Activity, group_arn: Option<&str>) -> Activity {
    let details = match &activity.subnet {
        Some(subnet) => {
            format!("{{\"Subnet ID\":\"{subnet}\",\"Availability Zone\":\"{}\"}}", activity.zone)
        }
        None if activity.zone.is_empty() => "{}".to_owned(),
        None => format!("{{\"Availability Zone\":\"{}\"}}", activity.zone),
    };
    Activity {
        activity_id: Some(activity.id.clone()),
        auto_scaling_group_name: Some(activity.group.clone()),
        description: Some(activity.description.clone()),
        cause: Some(activity.cause.clone()),
        start_time: Some(date(activity.started_at)),
        end_time: activity.ended_at.map(date),
        status_code: Some(activity.status.name().to_owned()),
        status_message: activity.message.clone(),
        progress: Some(if activity.status.is_over() { 100 } else { 50 }),
        details: Some(details),
        auto_scaling_group_arn: group_arn.map(str::to_owned),
        ..Default::default()
    }
}

/// One page of `items`, which are ordered by `key`; a token is the last key given.
pub(crate) fn page<T>(
    items: Vec<T>,
    max: Option<i64>,
    token: Option<&str>,
    key: impl Fn(&T) -> String,
) -> Result<(Vec<T>, Option<String>), Fault> {
    let limit = usize::try_from(max.unwrap_or(100)).unwrap_or(0);
    if !(1..=100).contains(&limit) {
        return Err(crate::faults::validation("MaxRecords must be 1 to 100."));
    }
    let mut rest: Vec<T> =
        items.into_iter().filter(|it| token.is_none_or(|token| key(it).as_str() > token)).collect();
    if rest.len() <= limit {
        return Ok((rest, None));
    }
    rest.truncate(limit);
    let token = rest.last().map(key);
    Ok((rest, token))
}
