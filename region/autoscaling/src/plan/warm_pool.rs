//! The warm pool: kept at its size, and taken from before anything is launched.
//!
//! With an instance reuse policy, what leaves the group as it shrinks comes back here, through the hooks
//! of terminations, as long as the pool wants instances.
//!
//! Source: user guide, "Decrease latency for applications with long boot times using warm pools", "Warm
//! pool example events and patterns".

use jiff::Timestamp;

use super::{
    Plan,
    balance::{MOST_LAUNCHES, emptiest, launch},
    members, seconds,
};
use crate::records::{Activity, ActivityStatus, Group, MemberState};

/// How many instances the pool shall have: what is missing to the prepared capacity (the group's most,
/// unless said otherwise), and its own least.
fn wanted(group: &Group) -> i64 {
    let Some(pool) = group.warm_pool.as_ref().filter(|_| !group.is_deleting) else { return 0 };
    let prepared = pool.max_prepared.unwrap_or(group.max);
    (prepared - group.desired).max(pool.min).max(0)
}

/// In the pool, and on their way into it.
fn size(group: &Group) -> i64 {
    let in_pool = group.members.values().filter(|it| it.state.is_warmed()).count();
    let coming = group.launches.values().filter(|it| it.is_warm).count();
    i64::try_from(in_pool + coming).unwrap_or(i64::MAX)
}

/// Whether what leaves the group for its size comes back to the pool.
pub(super) fn takes_back(group: &Group) -> bool {
    let reuses = group.warm_pool.as_ref().is_some_and(|it| it.reuses == Some(true));
    reuses && size(group) < wanted(group)
}

/// Takes a member out of service and into the pool, and begins a line of history with it.
pub(super) fn take_back(plan: &mut Plan, id: &str, cause: String, now: Timestamp) {
    let Some(member) = plan.group.members.get_mut(id) else { return };
    let activity = Activity {
        id: entropy::uuid(),
        group: plan.group.name.clone(),
        description: format!("Returning EC2 instance to warm pool: {id}"),
        cause,
        started_at: now,
        ended_at: None,
        status: ActivityStatus::InProgress,
        message: None,
        zone: member.zone.clone(),
        subnet: None,
    };
    member.state = MemberState::WarmedPending;
    member.is_returning = true;
    member.activity = Some(activity.id.clone());
    plan.activities.push(activity);
    // It is in service: it runs.
    members::launched(plan, id, Some("running"), now);
}

/// Launches what the pool lacks, and ends what it has too much.
pub(super) fn fill(plan: &mut Plan, now: Timestamp) {
    let has = size(&plan.group);
    let wanted = wanted(&plan.group);
    let is_due = plan.group.retry.is_none_or(|(at, _)| at <= now);
    if has < wanted && is_due && !plan.group.is_suspended("Launch") {
        for size in has..wanted {
            if plan.group.launches.len() >= MOST_LAUNCHES {
                return;
            }
            let Some(subnet) = emptiest(&plan.group) else { return };
            let cause = format!(
                "At {} an instance was started in response to a difference between desired and \
                 actual capacity, increasing the warm pool capacity from {size} to {}.",
                seconds(now),
                size + 1
            );
            launch(plan, &subnet, cause, true, now);
        }
    }
    let surplus = usize::try_from(has - wanted).unwrap_or(0);
    if surplus > 0 && !plan.group.is_suspended("Terminate") {
        let warmed = plan.group.members.values().filter(|it| it.state.is_warmed());
        let ids: Vec<String> = warmed.take(surplus).map(|it| it.instance_id.clone()).collect();
        for id in ids {
            plan.terminate(&id, "the warm pool has become smaller.", now);
        }
    }
}

/// Moves one instance of the pool into the group, if there is one.
pub(super) fn take(plan: &mut Plan, now: Timestamp) -> bool {
    let is_ready = |it: MemberState| {
        it.is_warmed() && !matches!(it, MemberState::WarmedPending | MemberState::WarmedPendingWait)
    };
    let found = plan.group.members.values().find(|it| is_ready(it.state));
    let Some((id, zone)) = found.map(|it| (it.instance_id.clone(), it.zone.clone())) else {
        return false;
    };
    let before = plan.group.units();
    let activity = Activity {
        id: entropy::uuid(),
        group: plan.group.name.clone(),
        description: format!("Launching a new EC2 instance from warm pool: {id}"),
        cause: format!(
            "At {} an instance was started in response to a difference between desired and actual \
             capacity, increasing the capacity from {before} to {}.",
            seconds(now),
            before + 1
        ),
        started_at: now,
        ended_at: None,
        status: ActivityStatus::PreInService,
        message: None,
        zone,
        subnet: None,
    };
    if let Some(member) = plan.group.members.get_mut(&id) {
        member.state = MemberState::Pending;
        member.is_from_pool = true;
        member.activity = Some(activity.id.clone());
    }
    plan.activities.push(activity);
    true
}
