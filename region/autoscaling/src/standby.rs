//! Instances that rest: out of service, and back.

use std::collections::BTreeSet;

use aws_autoscaling::standby::{EnterStandbyRequest, ExitStandbyRequest, StandbyResponse};
use aws_wire::Fault;

use crate::{
    AutoScaling, Call, faults,
    plan::seconds,
    records::{Activity, ActivityStatus, Group, MemberState},
    shape,
};

pub(crate) async fn enter(
    service: &AutoScaling,
    call: Call<'_>,
    request: EnterStandbyRequest,
) -> Result<StandbyResponse, Fault> {
    let decrements = request.should_decrement_desired_capacity;
    // Each once.
    let ids = BTreeSet::from_iter(request.instance_ids);
    let activities = service.update(&request.auto_scaling_group_name, |group, history| {
        let count = i64::try_from(ids.len()).unwrap_or(i64::MAX);
        for id in &ids {
            let member = group.members.get(id).ok_or_else(|| faults::no_such_member(id))?;
            if member.state != MemberState::InService {
                return Err(not_in_state(id, "InService"));
            }
        }
        if decrements && group.desired - count < group.min {
            return Err(faults::validation(format!(
                "AutoScalingGroup {} has min size of {}. Cannot decrement desired capacity below it.",
                group.name, group.min
            )));
        }
        let mut activities = Vec::new();
        for id in &ids {
            let mut cause = format!("instance {id} was moved to standby in response to a user request");
            if decrements {
                cause += &format!(
                    ", shrinking the capacity from {} to {}",
                    group.desired,
                    group.desired - 1
                );
                group.desired -= 1;
            }
            if let Some(member) = group.members.get_mut(id) {
                member.state = MemberState::Standby;
            }
            let description = format!("Moving EC2 instance to Standby: {id}");
            activities.push(activity(&call, group, id, description, &cause));
        }
        for activity in &activities {
            history.add(activity.clone());
        }
        Ok(activities.iter().map(|it| shape::activity(it, Some(&group.arn))).collect())
    })?;
    Ok(StandbyResponse { activities })
}

/// They pass through `Pending` and the hooks of launches once more.
pub(crate) async fn exit(
    service: &AutoScaling,
    call: Call<'_>,
    request: ExitStandbyRequest,
) -> Result<StandbyResponse, Fault> {
    let ids = BTreeSet::from_iter(request.instance_ids);
    let activities = service.update(&request.auto_scaling_group_name, |group, history| {
        let count = i64::try_from(ids.len()).unwrap_or(i64::MAX);
        for id in &ids {
            let member = group.members.get(id).ok_or_else(|| faults::no_such_member(id))?;
            if member.state != MemberState::Standby {
                return Err(not_in_state(id, "Standby"));
            }
        }
        if group.desired.saturating_add(count) > group.max {
            return Err(faults::validation(format!(
                "AutoScalingGroup {} has max size of {}. Cannot increment desired capacity above it.",
                group.name, group.max
            )));
        }
        let mut activities = Vec::new();
        for id in &ids {
            let cause = format!(
                "instance {id} was moved out of standby in response to a user request, increasing \
                 the capacity from {} to {}",
                group.desired,
                group.desired + 1
            );
            group.desired += 1;
            if let Some(member) = group.members.get_mut(id) {
                member.state = MemberState::Pending;
            }
            let description = format!("Moving EC2 instance out of Standby: {id}");
            activities.push(activity(&call, group, id, description, &cause));
        }
        for activity in &activities {
            history.add(activity.clone());
        }
        Ok(activities.iter().map(|it| shape::activity(it, Some(&group.arn))).collect())
    })?;
    Ok(StandbyResponse { activities })
}

fn not_in_state(id: &str, state: &str) -> Fault {
    faults::validation(format!("The instance {id} is not in {state} state."))
}

fn activity(
    call: &Call<'_>,
    group: &Group,
    id: &str,
    description: String,
    cause: &str,
) -> Activity {
    Activity {
        id: entropy::uuid(),
        group: group.name.clone(),
        description,
        cause: format!("At {} {cause}.", seconds(call.now)),
        started_at: call.now,
        ended_at: Some(call.now),
        status: ActivityStatus::Successful,
        message: None,
        zone: group.members.get(id).map(|it| it.zone.clone()).unwrap_or_default(),
        subnet: None,
    }
}
