//! Members as such: description, attaching, detaching; processes and metrics of their group.

use aws_autoscaling::{
    instance::{
        AttachInstancesRequest, AttachInstancesResponse, AutoScalingInstanceDetails,
        DescribeAutoScalingInstancesRequest, DescribeAutoScalingInstancesResponse,
        DetachInstancesRequest, DetachInstancesResponse,
    },
    process::{
        DisableMetricsCollectionRequest, DisableMetricsCollectionResponse,
        EnableMetricsCollectionRequest, EnableMetricsCollectionResponse, ResumeProcessesResponse,
        SuspendProcessesRequest, SuspendProcessesResponse,
    },
};
use aws_ec2::instance::{DescribeInstances, DescribeInstancesRequest};
use aws_wire::Fault;

use crate::{
    AutoScaling, Call, capacity, faults,
    plan::seconds,
    records::{Activity, ActivityStatus, Group, Member, MemberState, TemplateRef},
    shape::{self, health, page},
};

pub(crate) const PROCESSES: [&str; 9] = [
    "AddToLoadBalancer",
    "AlarmNotification",
    "AZRebalance",
    "HealthCheck",
    "InstanceRefresh",
    "Launch",
    "ReplaceUnhealthy",
    "ScheduledActions",
    "Terminate",
];

pub(crate) const METRICS: [&str; 8] = [
    "GroupMinSize",
    "GroupMaxSize",
    "GroupDesiredCapacity",
    "GroupInServiceInstances",
    "GroupPendingInstances",
    "GroupStandbyInstances",
    "GroupTerminatingInstances",
    "GroupTotalInstances",
];

pub(crate) async fn describe(
    service: &AutoScaling,
    _call: Call<'_>,
    request: DescribeAutoScalingInstancesRequest,
) -> Result<DescribeAutoScalingInstancesResponse, Fault> {
    let wanted = &request.instance_ids;
    let groups = service.groups();
    let mut found: Vec<(&Group, &Member)> = groups
        .iter()
        .flat_map(|group| group.members.values().map(move |it| (&**group, it)))
        .filter(|(_, it)| wanted.is_empty() || wanted.contains(&it.instance_id))
        .collect();
    found.sort_by_key(|(_, it)| &it.instance_id);
    let max = request.max_records.or(Some(50));
    let (found, next_token) =
        page(found, max, request.next_token.as_deref(), |(_, it)| it.instance_id.clone())?;
    let answer = |(group, member): (&Group, &Member)| AutoScalingInstanceDetails {
        instance_id: Some(member.instance_id.clone()),
        instance_type: Some(member.instance_type.clone()),
        auto_scaling_group_name: Some(group.name.clone()),
        availability_zone: Some(member.zone.clone()),
        lifecycle_state: Some(member.state.name().to_owned()),
        health_status: Some(health(member).to_uppercase()),
        launch_template: Some(shape::template(&member.template)),
        protected_from_scale_in: Some(member.is_protected),
        ..Default::default()
    };
    let auto_scaling_instances = found.into_iter().map(answer).collect();
    Ok(DescribeAutoScalingInstancesResponse { auto_scaling_instances, next_token })
}

/// Running instances join, and the desired capacity grows by as many.
pub(crate) async fn attach(
    service: &AutoScaling,
    call: Call<'_>,
    request: AttachInstancesRequest,
) -> Result<AttachInstancesResponse, Fault> {
    let described = DescribeInstancesRequest {
        instance_ids: request.instance_ids.clone(),
        ..Default::default()
    };
    let found = service.ec2()?.call::<DescribeInstances>(described).await;
    let found = found.map_err(|it| faults::of_call(&it))?;
    let instances: Vec<_> = found.reservations.into_iter().flat_map(|it| it.instances).collect();
    for instance in &instances {
        let id = instance.instance_id.as_deref().unwrap_or_default();
        if instance.state.as_ref().and_then(|it| it.name.as_deref()) != Some("running") {
            return Err(faults::validation(format!("Instance {id} is not in running state.")));
        }
        if service.group_of(id).is_ok() {
            return Err(faults::validation(format!("Instance {id} is already part of a group.")));
        }
    }
    service.update(&request.auto_scaling_group_name, |group, history| {
        let added = i64::try_from(instances.len()).unwrap_or(i64::MAX);
        if group.desired.saturating_add(added) > group.max {
            return Err(faults::validation(
                "Attaching the instances would exceed the group's maximum size.",
            ));
        }
        group.desired += added;
        for instance in &instances {
            let id = instance.instance_id.clone().unwrap_or_default();
            let placement = instance.placement.as_ref();
            let zone = placement.and_then(|it| it.availability_zone.clone()).unwrap_or_default();
            history.add(done(
                &call,
                group,
                &format!("Attaching an existing EC2 instance: {id}"),
                &zone,
            ));
            let member = Member {
                instance_id: id.clone(),
                instance_type: instance.instance_type.clone().unwrap_or_default(),
                zone,
                state: MemberState::InService,
                is_healthy: true,
                unhealthy_by: Default::default(),
                is_protected: group.protects_new_instances,
                is_spot: instance.instance_lifecycle.as_deref() == Some("spot"),
                template: TemplateRef { version: String::new(), ..group.source.template().clone() },
                launched_at: call.now,
                activity: None,
                waits: Default::default(),
                weight: 1,
                is_from_pool: false,
                is_returning: false,
                leaves: None,
            };
            group.members.insert(id, member);
        }
        Ok(())
    })?;
    Ok(AttachInstancesResponse {})
}

pub(crate) async fn detach(
    service: &AutoScaling,
    call: Call<'_>,
    request: DetachInstancesRequest,
) -> Result<DetachInstancesResponse, Fault> {
    let activities = service.update(&request.auto_scaling_group_name, |group, history| {
        let mut activities = Vec::new();
        for id in &request.instance_ids {
            let member = group.members.get(id).ok_or_else(|| faults::no_such_member(id))?;
            if member.state.is_warmed() {
                return Err(capacity::in_warm_pool(id));
            }
            if !matches!(member.state, MemberState::InService | MemberState::Standby) {
                return Err(faults::validation(format!(
                    "The instance {id} is not in InService or Standby state."
                )));
            }
            let (decrements, zone) = (!member.rests(), member.zone.clone());
            group.members.remove(id);
            if request.should_decrement_desired_capacity && decrements {
                if group.desired <= group.min {
                    return Err(faults::validation(
                        "Currently, desiredSize equals minSize. Detaching would violate the \
                         group's min size constraint.",
                    ));
                }
                group.desired -= 1;
            }
            let activity = done(&call, group, &format!("Detaching EC2 instance: {id}"), &zone);
            activities.push(shape::activity(&activity, Some(&group.arn)));
            history.add(activity);
        }
        Ok(activities)
    })?;
    Ok(DetachInstancesResponse { activities })
}

fn done(call: &Call<'_>, group: &Group, description: &str, zone: &str) -> Activity {
    Activity {
        id: entropy::uuid(),
        group: group.name.clone(),
        description: description.to_owned(),
        cause: format!("At {} in response to a user request.", seconds(call.now)),
        started_at: call.now,
        ended_at: Some(call.now),
        status: ActivityStatus::Successful,
        message: None,
        zone: zone.to_owned(),
        subnet: None,
    }
}

// === Processes and metrics ===

fn processes(named: &[String]) -> Result<Vec<String>, Fault> {
    if let Some(unknown) = named.iter().find(|it| !PROCESSES.contains(&it.as_str())) {
        return Err(faults::validation(format!("Invalid process type: {unknown}")));
    }
    match named.is_empty() {
        true => Ok(PROCESSES.map(str::to_owned).to_vec()),
        false => Ok(named.to_vec()),
    }
}

pub(crate) async fn suspend(
    service: &AutoScaling,
    _call: Call<'_>,
    request: SuspendProcessesRequest,
) -> Result<SuspendProcessesResponse, Fault> {
    let named = processes(&request.scaling_processes)?;
    service.update(&request.auto_scaling_group_name, |group, _| {
        group.suspended.extend(named);
        Ok(())
    })?;
    Ok(SuspendProcessesResponse {})
}

pub(crate) async fn resume(
    service: &AutoScaling,
    _call: Call<'_>,
    request: SuspendProcessesRequest,
) -> Result<ResumeProcessesResponse, Fault> {
    let named = processes(&request.scaling_processes)?;
    service.update(&request.auto_scaling_group_name, |group, _| {
        group.suspended.retain(|it| !named.contains(it));
        Ok(())
    })?;
    Ok(ResumeProcessesResponse {})
}

fn metrics(named: &[String]) -> Result<Vec<String>, Fault> {
    if let Some(unknown) = named.iter().find(|it| !METRICS.contains(&it.as_str())) {
        return Err(faults::validation(format!("Invalid metric: {unknown}")));
    }
    match named.is_empty() {
        true => Ok(METRICS.map(str::to_owned).to_vec()),
        false => Ok(named.to_vec()),
    }
}

pub(crate) async fn enable_metrics(
    service: &AutoScaling,
    _call: Call<'_>,
    request: EnableMetricsCollectionRequest,
) -> Result<EnableMetricsCollectionResponse, Fault> {
    let named = metrics(&request.metrics)?;
    service.update(&request.auto_scaling_group_name, |group, _| {
        group.metrics.extend(named);
        Ok(())
    })?;
    Ok(EnableMetricsCollectionResponse {})
}

pub(crate) async fn disable_metrics(
    service: &AutoScaling,
    _call: Call<'_>,
    request: DisableMetricsCollectionRequest,
) -> Result<DisableMetricsCollectionResponse, Fault> {
    let named = metrics(&request.metrics)?;
    service.update(&request.auto_scaling_group_name, |group, _| {
        group.metrics.retain(|it| !named.contains(it));
        Ok(())
    })?;
    Ok(DisableMetricsCollectionResponse {})
}
