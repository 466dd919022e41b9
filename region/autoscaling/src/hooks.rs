//! Lifecycle hooks, and the actions that end their hold on an instance.

use aws_autoscaling::lifecycle_hook::{
    CompleteLifecycleActionRequest, CompleteLifecycleActionResponse, DeleteLifecycleHookRequest,
    DeleteLifecycleHookResponse, DescribeLifecycleHooksRequest, DescribeLifecycleHooksResponse,
    LifecycleHook, LifecycleHookSpecification, PutLifecycleHookRequest, PutLifecycleHookResponse,
    RecordLifecycleActionHeartbeatRequest, RecordLifecycleActionHeartbeatResponse,
};
use aws_wire::Fault;
use jiff::{SignedDuration, Timestamp};

use crate::{
    AutoScaling, Call, faults,
    records::{Group, Hook, HookResult, Member, Transition, Wait},
};

pub(crate) const LAUNCHING: &str = "autoscaling:EC2_INSTANCE_LAUNCHING";
pub(crate) const TERMINATING: &str = "autoscaling:EC2_INSTANCE_TERMINATING";

fn transition(name: &str) -> Result<Transition, Fault> {
    match name {
        LAUNCHING => Ok(Transition::Launching),
        TERMINATING => Ok(Transition::Terminating),
        _ => Err(faults::validation(format!("Invalid Lifecycle Transition '{name}'"))),
    }
}

fn result(name: Option<&str>) -> Result<HookResult, Fault> {
    match name {
        Some("CONTINUE") => Ok(HookResult::Continue),
        None | Some("ABANDON") => Ok(HookResult::Abandon),
        Some(other) => Err(faults::validation(format!("Invalid lifecycle result '{other}'"))),
    }
}

fn timeout(seconds: Option<i64>) -> Result<i64, Fault> {
    let seconds = seconds.unwrap_or(3600);
    match (30..=7200).contains(&seconds) {
        true => Ok(seconds),
        false => Err(faults::validation("HeartbeatTimeout must be between 30 and 7200 seconds.")),
    }
}

pub(crate) fn of_specification(given: LifecycleHookSpecification) -> Result<Hook, Fault> {
    Ok(Hook {
        name: given.lifecycle_hook_name,
        transition: transition(&given.lifecycle_transition)?,
        heartbeat_timeout: timeout(given.heartbeat_timeout)?,
        default_result: result(given.default_result.as_deref())?,
        notification_target_arn: given.notification_target_arn,
        role_arn: given.role_arn,
        notification_metadata: given.notification_metadata,
    })
}

pub(crate) async fn put(
    service: &AutoScaling,
    _call: Call<'_>,
    request: PutLifecycleHookRequest,
) -> Result<PutLifecycleHookResponse, Fault> {
    service.update(&request.auto_scaling_group_name, |group, _| {
        let known = group.hooks.get(&request.lifecycle_hook_name);
        let named = request.lifecycle_transition.as_deref();
        let transition = match (named, known) {
            (Some(name), _) => transition(name)?,
            (None, Some(known)) => known.transition,
            (None, None) => {
                return Err(faults::validation("LifecycleTransition is required for a new hook."));
            }
        };
        let heartbeat_timeout =
            timeout(request.heartbeat_timeout.or(known.map(|it| it.heartbeat_timeout)))?;
        let default_result = match (request.default_result.as_deref(), known) {
            (None, Some(known)) => known.default_result,
            (given, _) => result(given)?,
        };
        let hook = Hook {
            name: request.lifecycle_hook_name.clone(),
            transition,
            heartbeat_timeout,
            default_result,
            notification_target_arn: request.notification_target_arn.clone(),
            role_arn: request.role_arn.clone(),
            notification_metadata: request.notification_metadata.clone(),
        };
        group.hooks.insert(hook.name.clone(), hook);
        Ok(())
    })?;
    Ok(PutLifecycleHookResponse {})
}

/// What the hook holds is let go, as if it had continued.
pub(crate) async fn delete(
    service: &AutoScaling,
    _call: Call<'_>,
    request: DeleteLifecycleHookRequest,
) -> Result<DeleteLifecycleHookResponse, Fault> {
    let name = &request.lifecycle_hook_name;
    service.update(&request.auto_scaling_group_name, |group, _| {
        group.hooks.remove(name).ok_or_else(|| no_such_hook(name))?;
        for member in group.members.values_mut() {
            member.waits.remove(name);
        }
        Ok(())
    })?;
    Ok(DeleteLifecycleHookResponse {})
}

fn no_such_hook(name: &str) -> Fault {
    faults::validation(format!("No Lifecycle Hook found with name: {name}"))
}

pub(crate) async fn describe(
    service: &AutoScaling,
    _call: Call<'_>,
    request: DescribeLifecycleHooksRequest,
) -> Result<DescribeLifecycleHooksResponse, Fault> {
    let group = service.group(&request.auto_scaling_group_name)?;
    let names = &request.lifecycle_hook_names;
    let found = group.hooks.values().filter(|it| names.is_empty() || names.contains(&it.name));
    Ok(DescribeLifecycleHooksResponse {
        lifecycle_hooks: found.map(|it| answer(&group, it)).collect(),
    })
}

fn answer(group: &Group, hook: &Hook) -> LifecycleHook {
    LifecycleHook {
        lifecycle_hook_name: Some(hook.name.clone()),
        auto_scaling_group_name: Some(group.name.clone()),
        lifecycle_transition: Some(
            match hook.transition {
                Transition::Launching => LAUNCHING,
                Transition::Terminating => TERMINATING,
            }
            .to_owned(),
        ),
        notification_target_arn: hook.notification_target_arn.clone(),
        role_arn: hook.role_arn.clone(),
        notification_metadata: hook.notification_metadata.clone(),
        heartbeat_timeout: Some(hook.heartbeat_timeout),
        global_timeout: Some(hook.heartbeat_timeout.saturating_mul(100).min(172_800)),
        default_result: Some(
            match hook.default_result {
                HookResult::Continue => "CONTINUE",
                HookResult::Abandon => "ABANDON",
            }
            .to_owned(),
        ),
    }
}

/// Ends one hook's hold: by the instance or by the token.
pub(crate) async fn complete(
    service: &AutoScaling,
    call: Call<'_>,
    request: CompleteLifecycleActionRequest,
) -> Result<CompleteLifecycleActionResponse, Fault> {
    let result = match request.lifecycle_action_result.as_str() {
        it @ ("CONTINUE" | "ABANDON") => result(Some(it))?,
        other => return Err(faults::validation(format!("Invalid lifecycle result '{other}'"))),
    };
    let hook = &request.lifecycle_hook_name;
    service.update(&request.auto_scaling_group_name, |group, _| {
        let (instance, token) =
            (request.instance_id.as_deref(), request.lifecycle_action_token.as_deref());
        let member = held(group, hook, instance, token)?;
        match result {
            HookResult::Continue => drop(member.waits.remove(hook)),
            HookResult::Abandon => {
                // The same as a hold that ran out with this result.
                if let Some(wait) = member.waits.get_mut(hook) {
                    wait.default_result = HookResult::Abandon;
                    wait.deadline = call.now;
                }
            }
        }
        Ok(())
    })?;
    Ok(CompleteLifecycleActionResponse {})
}

pub(crate) async fn heartbeat(
    service: &AutoScaling,
    call: Call<'_>,
    request: RecordLifecycleActionHeartbeatRequest,
) -> Result<RecordLifecycleActionHeartbeatResponse, Fault> {
    let hook = &request.lifecycle_hook_name;
    service.update(&request.auto_scaling_group_name, |group, _| {
        let (instance, token) =
            (request.instance_id.as_deref(), request.lifecycle_action_token.as_deref());
        let member = held(group, hook, instance, token)?;
        if let Some(wait) = member.waits.get_mut(hook) {
            wait.deadline = extended(wait, call.now);
        }
        Ok(())
    })?;
    Ok(RecordLifecycleActionHeartbeatResponse {})
}

fn extended(wait: &Wait, now: Timestamp) -> Timestamp {
    (now + SignedDuration::from_secs(wait.heartbeat_timeout)).min(wait.last_deadline)
}

/// The member that the hook holds.
fn held<'a>(
    group: &'a mut Group,
    hook: &str,
    instance: Option<&str>,
    token: Option<&str>,
) -> Result<&'a mut Member, Fault> {
    if !group.hooks.contains_key(hook) {
        return Err(no_such_hook(hook));
    }
    let matches = |it: &&mut Member| {
        it.waits.get(hook).is_some_and(|wait| {
            instance.is_none_or(|id| it.instance_id == id)
                && token.is_none_or(|token| wait.token == token)
                && (instance.is_some() || token.is_some())
        })
    };
    group.members.values_mut().find(matches).ok_or_else(|| {
        let what = instance.map_or_else(
            || format!("token: {}", token.unwrap_or_default()),
            |id| format!("instance ID: {id}"),
        );
        faults::validation(format!("No active Lifecycle Action found with {what}"))
    })
}
