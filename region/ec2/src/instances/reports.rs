//! What the hosts report, turned into states.
//!
//! Reports may be late, early or repeated: each is judged by the state that it finds.

use std::time::Duration;

use aws_wire::Fault;
use jiff::Timestamp;

use crate::{
    Call, network_interfaces,
    records::{HostReport, Instance, InstanceState, StateReason, StatusCheck},
    state::State,
};

/// How long a terminated instance is still described (EC2 user guide: "about an hour").
const REMEMBERED: Duration = Duration::from_secs(3600);

pub(crate) fn apply(
    call: &Call<'_>,
    state: &mut State,
    id: &str,
    report: &HostReport,
) -> Result<(), Fault> {
    let Some(instance) = state.instances.get(id) else { return Ok(()) };
    match (report, instance.state) {
        (HostReport::Started, InstanceState::Pending) => {
            let instance = state.instances.edit(id)?;
            instance.state = InstanceState::Running;
            instance.check = StatusCheck::Ok;
        }
        (HostReport::Started, InstanceState::Running) if instance.check != StatusCheck::Ok => {
            state.instances.edit(id)?.check = StatusCheck::Ok;
        }
        (HostReport::PowerLost, InstanceState::Running) => power_lost(state, id)?,
        (HostReport::PoweringOff, InstanceState::Running) => powering_off(call, state, id)?,
        (HostReport::Unbootable, InstanceState::Running) => unbootable(call, state, id)?,
        (HostReport::Stopped | HostReport::PowerLost, InstanceState::Stopping) => {
            stopped(state, id)?;
        }
        (HostReport::Stopped, InstanceState::Pending | InstanceState::Running) => {
            powered_off(call, state, id)?;
        }
        // It is shut down instead, as on AWS.
        (HostReport::NotHibernated, InstanceState::Stopping) => {
            state.instances.edit(id)?.is_hibernated = false;
        }
        (HostReport::Stopped, InstanceState::ShuttingDown) => {}
        (HostReport::Terminated, InstanceState::Terminated) => {}
        (HostReport::Terminated, InstanceState::ShuttingDown) => terminated(call, state, id)?,
        (HostReport::Terminated, _) => {
            let message = "Server.HostLost: the host under the instance is gone";
            state.instances.edit(id)?.state_reason = Some(StateReason {
                code: "Server.HostLost".to_owned(),
                message: message.to_owned(),
            });
            terminated(call, state, id)?;
        }
        (HostReport::Failed(reason), current) if !current.is_ending() => {
            let instance = state.instances.edit(id)?;
            instance.state_reason = Some(StateReason {
                code: "Server.InternalError".to_owned(),
                message: format!("Server.InternalError: {reason}"),
            });
            instance.transition_reason = "Server.InternalError".to_owned();
            // What of it exists is taken down by the same path as any termination.
            instance.state = InstanceState::ShuttingDown;
        }
        _ => {}
    }
    Ok(())
}

/// As after a loss of power under it: it keeps all that it has, and boots again.
fn power_lost(state: &mut State, id: &str) -> Result<(), Fault> {
    let instance = state.instances.edit(id)?;
    instance.boot += 1;
    if instance.check == StatusCheck::Ok {
        instance.check = StatusCheck::Initializing;
    }
    Ok(())
}

/// The first failure is what counts.
fn unbootable(call: &Call<'_>, state: &mut State, id: &str) -> Result<(), Fault> {
    let is_known = |it: &Instance| it.id == id && matches!(it.check, StatusCheck::Failing { .. });
    if !state.instances.iter().any(is_known) {
        state.instances.edit(id)?.check = StatusCheck::Failing { since: call.now };
    }
    Ok(())
}

/// The instance switches itself off: that stops or terminates it, as it was launched to.
fn powering_off(call: &Call<'_>, state: &mut State, id: &str) -> Result<(), Fault> {
    let instance = state.instances.edit(id)?;
    let what = "Instance initiated shutdown";
    instance.state_reason = Some(StateReason {
        code: "Client.InstanceInitiatedShutdown".to_owned(),
        message: format!("Client.InstanceInitiatedShutdown: {what}"),
    });
    instance.transition_reason = transition_reason(call, "Instance initiated");
    instance.state = match instance.shutdown_behavior.as_str() {
        "terminate" => InstanceState::ShuttingDown,
        _ => InstanceState::Stopping,
    };
    Ok(())
}

/// It is off, and nobody has seen it begin.
fn powered_off(call: &Call<'_>, state: &mut State, id: &str) -> Result<(), Fault> {
    powering_off(call, state, id)?;
    match state.instances.find(id)?.state {
        InstanceState::Stopping => stopped(state, id),
        _ => Ok(()),
    }
}

/// `User initiated (2026-11-23 16:00:00 GMT)`.
pub(crate) fn transition_reason(call: &Call<'_>, who: &str) -> String {
    format!("{who} ({} GMT)", call.now.strftime("%Y-%m-%d %H:%M:%S"))
}

/// A stopped instance keeps its interfaces but not its public address, unless it is elastic.
fn stopped(state: &mut State, id: &str) -> Result<(), Fault> {
    let instance = state.instances.edit(id)?;
    instance.state = InstanceState::Stopped;
    instance.check = StatusCheck::Ok;
    let interfaces: Vec<String> =
        state.interfaces_of(id).into_iter().map(|it| it.id.clone()).collect();
    for interface in interfaces {
        let interface = state.network_interfaces.edit(&interface)?;
        interface.public_addresses.retain(|it| it.allocation_id.is_some());
    }
    Ok(())
}

/// Interfaces that were to go with the instance go; the others are free again.
fn terminated(call: &Call<'_>, state: &mut State, id: &str) -> Result<(), Fault> {
    let attached: Vec<(String, bool)> = state
        .interfaces_of(id)
        .into_iter()
        .map(|it| {
            let goes = it.attachment.as_ref().is_some_and(|it| it.delete_on_termination);
            (it.id.clone(), goes)
        })
        .collect();
    for (interface, goes) in attached {
        if goes {
            network_interfaces::remove(state, &interface)?;
        } else {
            network_interfaces::release_branches(state, &interface)?;
            let interface = state.network_interfaces.edit(&interface)?;
            interface.attachment = None;
            interface.public_addresses.retain(|it| it.allocation_id.is_some());
        }
    }
    let instance = state.instances.edit(id)?;
    instance.state = InstanceState::Terminated;
    instance.terminated_at = Some(call.now);
    Ok(())
}

/// Drops instances that were terminated long enough ago, and old client tokens. Says when the next
/// instance will be.
pub(crate) fn forget_terminated(
    call: &Call<'_>,
    state: &mut State,
) -> Result<Option<Timestamp>, Fault> {
    let is_old = |at: Timestamp| at + REMEMBERED <= call.now;
    let instances: Vec<String> = state
        .instances
        .iter()
        .filter(|it| it.terminated_at.is_some_and(is_old))
        .map(|it| it.id.clone())
        .collect();
    for id in instances {
        state.instances.remove(&id)?;
    }
    let still_there = |made: &str| state.instances.iter().any(|it| it.reservation_id == made);
    let tokens: Vec<String> = state
        .tokens
        .iter()
        .filter(|it| is_old(it.at) && !still_there(&it.made))
        .map(|it| it.id.clone())
        .collect();
    for id in tokens {
        state.tokens.remove(&id)?;
    }
    Ok(state.instances.iter().filter_map(|it| it.terminated_at).min().map(|it| it + REMEMBERED))
}
