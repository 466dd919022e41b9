//! Each member's next state, by what EC2 says and how long its hooks have held it.

use jiff::{SignedDuration, Timestamp};

use super::{Observed, Plan, leaving};
use crate::records::{ActivityStatus, HookResult, MemberState, Transition, Unhealthy, WarmPool};

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
    let is_in_use = member.state != MemberState::Standby && !member.state.is_warmed();
    plan.terminate(id, cause(Unhealthy::State), now);
    plan.group.unreplaced += u64::from(is_in_use);
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

/// A pending instance that runs is held by the launch hooks or comes into service; one that comes back
/// to the warm pool is held by those of terminations.
pub(super) fn launched(plan: &mut Plan, id: &str, ec2: Option<&str>, now: Timestamp) {
    let is_returning = plan.group.members.get(id).is_some_and(|it| it.is_returning);
    let transition = if is_returning { Transition::Terminating } else { Transition::Launching };
    let waits = plan.group.waits(transition, now);
    let Some(member) = plan.group.members.get_mut(id) else { return };
    let waiting = match member.state {
        MemberState::Pending => MemberState::PendingWait,
        MemberState::WarmedPending => MemberState::WarmedPendingWait,
        _ => return,
    };
    if ec2 != Some("running") {
        return;
    }
    if waits.is_empty() {
        arrived(plan, id);
        return;
    }
    member.waits = waits;
    member.state = waiting;
    let activity = member.activity.clone();
    plan.end(activity, ActivityStatus::WaitingForLifecycleHook, None);
}

/// In service, or in the warm pool.
fn arrived(plan: &mut Plan, id: &str) {
    let protects = plan.group.protects_new_instances;
    let pooled = plan.group.warm_pool.as_ref().map_or(MemberState::WarmedStopped, WarmPool::rest);
    let Some(member) = plan.group.members.get_mut(id) else { return };
    if member.state.is_warmed() {
        member.state = pooled;
        member.is_returning = false;
    } else {
        member.state = MemberState::InService;
        member.is_protected = protects;
        member.is_from_pool = false;
    }
    let activity = member.activity.take();
    plan.end(activity, ActivityStatus::Successful, None);
}

/// Lets go of hooks that ran out, and of members that no hook holds.
fn held(plan: &mut Plan, id: &str, now: Timestamp) {
    let Some(member) = plan.group.members.get_mut(id) else { return };
    let state = member.state;
    let is_pending = matches!(state, MemberState::PendingWait | MemberState::WarmedPendingWait);
    if !is_pending && state != MemberState::TerminatingWait {
        return;
    }
    let ran_out = |it: &&crate::records::Wait| it.deadline <= now;
    let abandons =
        member.waits.values().filter(ran_out).any(|it| it.default_result == HookResult::Abandon);
    member.waits.retain(|_, it| it.deadline > now);
    match state {
        _ if is_pending && abandons => abandon(plan, id, now),
        _ if is_pending && member.waits.is_empty() => arrived(plan, id),
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
    // A hook can say no on the way into the pool too: then the instance goes, and so it goes without.
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
    // What is stopped in a pool, or was just taken from it, is so for a reason.
    if member.state == MemberState::Standby || member.state.is_warmed() || member.is_from_pool {
        return;
    }
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
    let stays = leaving::launches_first(&plan.group);
    for (id, by) in unhealthy {
        match plan.group.members.get_mut(&id) {
            // What does not run serves nobody while it is waited for.
            Some(member)
                if stays && by != Unhealthy::State && member.state == MemberState::InService =>
            {
                if member.leaves.is_some() {
                    continue;
                }
                member.leaves = Some(cause(by).to_owned());
            }
            _ => plan.terminate(&id, cause(by), now),
        }
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
