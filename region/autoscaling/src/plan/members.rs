//! Each member's next state, by what EC2 says and how long its hooks have held it.

use jiff::{SignedDuration, Timestamp};

use super::{Observed, Plan};
use crate::records::{ActivityStatus, HookResult, MemberState, Transition, Unhealthy};

/// Moves every member as far as it can go now.
pub(super) fn advance(plan: &mut Plan, observed: &Observed, now: Timestamp) {
    let ids: Vec<String> = plan.group.members.keys().cloned().collect();
    for id in ids {
        let Some(ec2) = observed.of(&id) else { continue };
        let is_gone = ec2.is_none_or(|it| it == "terminated" || it == "shutting-down");
        if is_gone && lost(plan, &id, ec2, now) {
            continue;
        }
        launched(plan, &id, ec2, now);
        held(plan, &id, now);
        check_health(plan, &id, ec2, observed.impaired.contains(&id), now);
    }
}

/// Handles an instance that is going or gone. Says whether nothing is left to do for it.
fn lost(plan: &mut Plan, id: &str, ec2: Option<&str>, now: Timestamp) -> bool {
    let is_over = ec2.is_none_or(|it| it == "terminated");
    let Some(member) = plan.group.members.get(id) else { return true };
    if member.state.is_terminating() {
        if is_over {
            let activity = member.activity.clone();
            plan.group.members.remove(id);
            plan.end(activity, ActivityStatus::Successful, None);
        }
        return is_over;
    }
    if plan.group.is_suspended("HealthCheck") && !plan.group.is_deleting {
        return true;
    }
    // Nobody can drain what is gone: no hook holds it.
    plan.terminate(id, cause(Unhealthy::State), now);
    plan.group.unreplaced += 1;
    if let Some(member) = plan.group.members.get_mut(id) {
        member.is_healthy = false;
        member.waits.clear();
        member.state = MemberState::TerminatingProceed;
    }
    if is_over {
        return lost(plan, id, ec2, now);
    }
    true
}

/// A pending instance that runs is held by the launch hooks or comes into service.
fn launched(plan: &mut Plan, id: &str, ec2: Option<&str>, now: Timestamp) {
    let waits = plan.group.waits(Transition::Launching, now);
    let Some(member) = plan.group.members.get_mut(id) else { return };
    if member.state != MemberState::Pending || ec2 != Some("running") {
        return;
    }
    if waits.is_empty() {
        in_service(plan, id);
        return;
    }
    member.waits = waits;
    member.state = MemberState::PendingWait;
    let activity = member.activity.clone();
    plan.end(activity, ActivityStatus::WaitingForLifecycleHook, None);
}

fn in_service(plan: &mut Plan, id: &str) {
    let protects = plan.group.protects_new_instances;
    let Some(member) = plan.group.members.get_mut(id) else { return };
    member.state = MemberState::InService;
    member.is_protected = protects;
    let activity = member.activity.take();
    plan.end(activity, ActivityStatus::Successful, None);
}

/// Lets go of hooks that ran out, and of members that no hook holds.
fn held(plan: &mut Plan, id: &str, now: Timestamp) {
    let Some(member) = plan.group.members.get_mut(id) else { return };
    let state = member.state;
    if !matches!(state, MemberState::PendingWait | MemberState::TerminatingWait) {
        return;
    }
    let ran_out = |it: &&crate::records::Wait| it.deadline <= now;
    let abandons =
        member.waits.values().filter(ran_out).any(|it| it.default_result == HookResult::Abandon);
    member.waits.retain(|_, it| it.deadline > now);
    match state {
        MemberState::PendingWait if abandons => abandon(plan, id, now),
        MemberState::PendingWait if member.waits.is_empty() => in_service(plan, id),
        // Abandoning a termination ends it at once, without the other hooks.
        MemberState::TerminatingWait if abandons || member.waits.is_empty() => {
            member.waits.clear();
            member.state = MemberState::TerminatingProceed;
        }
        _ => {}
    }
}

/// A launch that a hook abandoned: the instance goes, and is replaced.
fn abandon(plan: &mut Plan, id: &str, now: Timestamp) {
    let launch = plan.group.members.get(id).and_then(|it| it.activity.clone());
    plan.terminate(id, "a lifecycle hook was abandoned or timed out.", now);
    plan.endings.retain(|it| Some(&it.activity) != launch.as_ref());
    let message = "Instance failed to complete user's Lifecycle Action: Lifecycle Action was \
                   abandoned: Heartbeat Timeout";
    plan.end(launch, ActivityStatus::Cancelled, Some(message.to_owned()));
    if let Some(member) = plan.group.members.get_mut(id) {
        member.waits.clear();
        member.state = MemberState::TerminatingProceed;
    }
}

/// EC2's own view of health: what is stopped is not healthy, and, once the grace period of a young
/// instance is over, neither is what fails its status checks. One that merely boots is no failure.
fn check_health(plan: &mut Plan, id: &str, ec2: Option<&str>, is_impaired: bool, now: Timestamp) {
    if plan.group.is_suspended("HealthCheck") {
        return;
    }
    let grace = SignedDuration::from_secs(plan.group.health_check_grace_period);
    let Some(member) = plan.group.members.get_mut(id) else { return };
    // One that was stopped before it came into service never will.
    let is_stopped = matches!(ec2, Some("stopping" | "stopped"));
    let is_impaired = is_impaired && now.duration_since(member.launched_at) >= grace;
    if member.is_healthy && !member.state.is_terminating() && (is_stopped || is_impaired) {
        member.is_healthy = false;
        member.unhealthy_by = if is_stopped { Unhealthy::State } else { Unhealthy::StatusCheck };
    }
}

pub(super) fn replace_unhealthy(plan: &mut Plan, now: Timestamp) {
    if plan.group.is_suspended("ReplaceUnhealthy") || plan.group.is_suspended("Terminate") {
        return;
    }
    let unhealthy = plan.group.active().filter(|it| !it.is_healthy);
    let unhealthy: Vec<_> = unhealthy.map(|it| (it.instance_id.clone(), it.unhealthy_by)).collect();
    for (id, by) in unhealthy {
        plan.terminate(&id, cause(by), now);
        plan.group.unreplaced += 1;
    }
}

/// In EC2 Auto Scaling's words.
fn cause(by: Unhealthy) -> &'static str {
    match by {
        Unhealthy::State => {
            "an instance was taken out of service in response to an EC2 health check indicating it \
             has been terminated or stopped."
        }
        Unhealthy::StatusCheck => {
            "an instance was taken out of service in response to an EC2 instance status checks \
             failure."
        }
        Unhealthy::User => {
            "an instance was taken out of service in response to a user health-check."
        }
    }
}
