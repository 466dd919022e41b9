//! The size of a group, and what is done to single members.

use aws_autoscaling::{
    activity::ActivityType,
    capacity::{
        SetDesiredCapacityRequest, SetDesiredCapacityResponse, SetInstanceHealthRequest,
        SetInstanceHealthResponse, SetInstanceProtectionRequest, SetInstanceProtectionResponse,
        TerminateInstanceInAutoScalingGroupRequest,
    },
};
use aws_wire::Fault;

use crate::{
    AutoScaling, Call, faults, groups,
    plan::seconds,
    records::{Activity, ActivityStatus, MemberState, Unhealthy},
    shape,
};

pub(crate) async fn set_desired(
    service: &AutoScaling,
    call: Call<'_>,
    request: SetDesiredCapacityRequest,
) -> Result<SetDesiredCapacityResponse, Fault> {
    service.update(&request.auto_scaling_group_name, |group, _| {
        if group.is_deleting {
            return Err(groups::being_deleted(&group.name));
        }
        let desired = request.desired_capacity;
        if desired > group.max {
            return Err(faults::validation(format!(
                "New SetDesiredCapacity value {desired} is above max value {} for the \
                 AutoScalingGroup.",
                group.max
            )));
        }
        if desired < group.min {
            return Err(faults::validation(format!(
                "New SetDesiredCapacity value {desired} is below min value {} for the \
                 AutoScalingGroup.",
                group.min
            )));
        }
        if desired != group.desired {
            group.last_change = format!(
                "At {} a user request explicitly set group desired capacity changing the desired \
                 capacity from {} to {desired}.",
                seconds(call.now),
                group.desired
            );
            group.desired = desired;
            group.retry = None;
        }
        Ok(())
    })?;
    Ok(SetDesiredCapacityResponse {})
}

pub(crate) async fn terminate(
    service: &AutoScaling,
    call: Call<'_>,
    request: TerminateInstanceInAutoScalingGroupRequest,
) -> Result<ActivityType, Fault> {
    let id = &request.instance_id;
    let name = service.group_of(id)?.name.clone();
    let decrements = request.should_decrement_desired_capacity;
    let activity = service.update(&name, |group, history| {
        let member = group.members.get(id).ok_or_else(|| faults::no_such_member(id))?;
        if let Some(known) = member.activity.as_ref().filter(|_| member.state.is_terminating()) {
            return Ok(history.get(known).map(|it| Activity::clone(&it)));
        }
        if member.state.is_warmed() {
            return Err(in_warm_pool(id));
        }
        // What rests is no part of the desired capacity: without it that is as it was.
        let decrements = decrements && !member.rests();
        if decrements && group.desired <= group.min {
            return Err(faults::validation(
                "Currently, desiredSize equals minSize. Terminating instance without replacement \
                 will violate group's min size constraint. Either set shouldDecrementDesiredCapacity \
                 flag to false or lower group's min size.",
            ));
        }
        let mut cause =
            format!("At {} instance {id} was taken out of service in response to a user request", seconds(call.now));
        if decrements {
            let (from, to) = (group.desired, group.desired - 1);
            cause += &format!(", shrinking the capacity from {from} to {to}");
            group.desired = to;
        }
        let activity = Activity {
            id: entropy::uuid(),
            group: group.name.clone(),
            description: format!("Terminating EC2 instance: {id}"),
            cause: format!("{cause}."),
            started_at: call.now,
            ended_at: None,
            status: ActivityStatus::InProgress,
            message: None,
            zone: member.zone.clone(),
            subnet: None,
        };
        group.begin_termination(id, &activity.id, call.now);
        history.add(activity.clone());
        Ok(Some(activity))
    })?;
    Ok(ActivityType { activity: activity.map(|it| shape::activity(&it, None)) })
}

/// What is done to members is for those of the group itself.
pub(crate) fn in_warm_pool(id: &str) -> Fault {
    faults::validation(format!(
        "The instance {id} is in the warm pool. This operation is not supported for it."
    ))
}

pub(crate) async fn set_health(
    service: &AutoScaling,
    call: Call<'_>,
    request: SetInstanceHealthRequest,
) -> Result<SetInstanceHealthResponse, Fault> {
    let is_healthy = match request.health_status.as_str() {
        "Healthy" => true,
        "Unhealthy" => false,
        other => return Err(faults::validation(format!("Invalid HealthStatus '{other}'"))),
    };
    let id = &request.instance_id;
    let name = service.group_of(id)?.name.clone();
    service.update(&name, |group, _| {
        let grace = jiff::SignedDuration::from_secs(group.health_check_grace_period);
        let member = group.members.get_mut(id).ok_or_else(|| faults::no_such_member(id))?;
        let is_young = call.now.duration_since(member.launched_at) < grace;
        // Who is young is given the benefit of the doubt, unless the caller says otherwise.
        if !is_healthy && is_young && request.should_respect_grace_period != Some(false) {
            return Ok(());
        }
        member.is_healthy = is_healthy;
        member.unhealthy_by = Unhealthy::User;
        Ok(())
    })?;
    Ok(SetInstanceHealthResponse {})
}

pub(crate) async fn set_protection(
    service: &AutoScaling,
    _call: Call<'_>,
    request: SetInstanceProtectionRequest,
) -> Result<SetInstanceProtectionResponse, Fault> {
    service.update(&request.auto_scaling_group_name, |group, _| {
        for id in &request.instance_ids {
            let member = group.members.get_mut(id);
            let member = member.filter(|it| it.state == MemberState::InService);
            let member = member.ok_or_else(|| {
                faults::validation(format!("The instance {id} is not in InService state."))
            })?;
            member.is_protected = request.protected_from_scale_in;
        }
        Ok(())
    })?;
    Ok(SetInstanceProtectionResponse {})
}
