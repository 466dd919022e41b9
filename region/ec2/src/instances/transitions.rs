//! Terminate, stop, start, reboot: what an instance shall become.
//!
//! A call names several instances and changes all of them or none.

use aws_ec2::instance_state::{
    InstanceStateChange, RebootInstancesRequest, RebootInstancesResponse, StartInstancesRequest,
    StartInstancesResponse, StopInstancesRequest, StopInstancesResponse, TerminateInstancesRequest,
    TerminateInstancesResponse,
};
use aws_wire::Fault;

use super::{hibernation, interfaces, quota::Capacity, reports::transition_reason, shape};
use crate::{
    Call, faults, placement_groups,
    records::{Instance, InstanceState, StateReason, StatusCheck},
    state::State,
};

pub(crate) fn terminate(
    call: &Call<'_>,
    state: &mut State,
    request: TerminateInstancesRequest,
) -> Result<TerminateInstancesResponse, Fault> {
    let terminating_instances = each(state, &request.instance_ids, |instance| {
        // It is the user's word against a user's mistake: Auto Scaling terminates all the same.
        let is_protected = instance.disable_api_termination && !call.caller.is_service();
        if is_protected && !instance.state.is_ending() {
            return Err(Fault::new(
                "OperationNotPermitted",
                format!(
                    "The instance '{}' may not be terminated. Modify its 'disableApiTermination' \
                     instance attribute and try again.",
                    instance.id
                ),
            ));
        }
        if !instance.state.is_ending() {
            user_initiated(call, instance);
            instance.state = InstanceState::ShuttingDown;
        }
        Ok(())
    })?;
    Ok(TerminateInstancesResponse { terminating_instances })
}

pub(crate) fn stop(
    call: &Call<'_>,
    state: &mut State,
    request: StopInstancesRequest,
) -> Result<StopInstancesResponse, Fault> {
    let hibernates = request.hibernate == Some(true);
    let stopping_instances = each(state, &request.instance_ids, |instance| {
        if instance.disable_api_stop {
            return Err(Fault::new(
                "OperationNotPermitted",
                format!(
                    "The instance '{}' may not be stopped. Modify its 'disableApiStop' instance \
                     attribute and try again.",
                    instance.id
                ),
            ));
        }
        if hibernates {
            hibernation::check_configured(instance)?;
        }
        match instance.state {
            InstanceState::Running => {
                user_initiated(call, instance);
                instance.state = InstanceState::Stopping;
                if hibernates {
                    hibernation::begin(call, instance);
                }
                Ok(())
            }
            InstanceState::Stopping | InstanceState::Stopped => Ok(()),
            InstanceState::Pending | InstanceState::ShuttingDown | InstanceState::Terminated => {
                Err(faults::incorrect_state(format!(
                    "This instance '{}' is not in a state from which it can be stopped.",
                    instance.id
                )))
            }
        }
    })?;
    Ok(StopInstancesResponse { stopping_instances })
}

pub(crate) fn start(
    call: &Call<'_>,
    state: &mut State,
    request: StartInstancesRequest,
) -> Result<StartInstancesResponse, Fault> {
    if request.instance_ids.is_empty() {
        return Err(faults::missing("InstanceId"));
    }
    let (mut started, mut starting_instances) = (Vec::new(), Vec::new());
    for id in &request.instance_ids {
        let before = state.instances.find(id)?.state;
        match before {
            InstanceState::Pending | InstanceState::Running => {}
            InstanceState::Stopped => {
                boot(call, state, id)?;
                started.push((id.clone(), state.instances.find(id)?.subnet_id.clone()));
            }
            _ => {
                return Err(faults::incorrect_state(format!(
                    "The instance '{id}' is not in a state from which it can be started."
                )));
            }
        }
        starting_instances.push(changed(before, state.instances.find(id)?));
    }
    for (id, subnet) in started {
        let primary = state.interfaces_of(&id).first().map(|it| it.id.clone());
        let is_public = state.subnets.get(&subnet).is_some_and(|it| it.map_public_ip_on_launch);
        if let Some(primary) = primary.filter(|_| is_public) {
            interfaces::give_public_address(state, &primary)?;
        }
    }
    Ok(StartInstancesResponse { starting_instances })
}

/// Starts one, in whichever room there is for it now.
fn boot(call: &Call<'_>, state: &mut State, id: &str) -> Result<(), Fault> {
    let instance = state.instances.find(id)?;
    if let Some(placed) = &instance.placed {
        let group = state.placement_groups.find(&placed.group_id)?;
        placement_groups::check_room(state, group, &instance.instance_type, &instance.zone)?;
    }
    let reservation = match instance_types::find(&instance.instance_type) {
        None => None,
        Some(facts) => {
            let preference = &instance.capacity_preference;
            let capacity = Capacity { is_spot: instance.is_spot, preference };
            capacity.grant(call, state, facts, &instance.zone)?
        }
    };
    let instance = state.instances.edit(id)?;
    instance.state = InstanceState::Pending;
    // One that hibernates goes on in the boot that it is in.
    instance.boot += u64::from(!instance.is_hibernated);
    instance.is_hibernated = false;
    instance.check = StatusCheck::Ok;
    instance.launched_at = call.now;
    instance.state_reason = None;
    // It was stopped before its time.
    instance.interruption = None;
    instance.transition_reason = String::new();
    instance.capacity_reservation = reservation;
    Ok(())
}

pub(crate) fn reboot(
    _call: &Call<'_>,
    state: &mut State,
    request: RebootInstancesRequest,
) -> Result<RebootInstancesResponse, Fault> {
    each(state, &request.instance_ids, |instance| match instance.state {
        InstanceState::Pending | InstanceState::Running => {
            instance.boot += 1;
            if instance.state == InstanceState::Running && instance.check == StatusCheck::Ok {
                instance.check = StatusCheck::Initializing;
            }
            Ok(())
        }
        _ => Err(faults::incorrect_state(format!(
            "The instance '{}' is not in a state from which it can be rebooted.",
            instance.id
        ))),
    })?;
    Ok(RebootInstancesResponse {})
}

fn user_initiated(call: &Call<'_>, instance: &mut Instance) {
    instance.transition_reason = transition_reason(call, "User initiated");
    instance.state_reason = Some(StateReason {
        code: "Client.UserInitiatedShutdown".to_owned(),
        message: "Client.UserInitiatedShutdown: User initiated shutdown".to_owned(),
    });
}

/// Changes each named instance; the copy of the state makes it all or none.
fn each(
    state: &mut State,
    ids: &[String],
    mut change: impl FnMut(&mut Instance) -> Result<(), Fault>,
) -> Result<Vec<InstanceStateChange>, Fault> {
    if ids.is_empty() {
        return Err(faults::missing("InstanceId"));
    }
    let mut changes = Vec::new();
    for id in ids {
        let instance = state.instances.edit(id)?;
        let before = instance.state;
        change(instance)?;
        changes.push(changed(before, instance));
    }
    Ok(changes)
}

fn changed(before: InstanceState, instance: &Instance) -> InstanceStateChange {
    InstanceStateChange {
        instance_id: Some(instance.id.clone()),
        previous_state: Some(shape::instance_state(before)),
        current_state: Some(shape::instance_state(instance.state)),
    }
}
