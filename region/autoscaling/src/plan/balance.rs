//! The group's size, and its balance over the zones.
//!
//! Deviation: with which status the history says that protected instances keep the group from shrinking is
//! documented nowhere; it is `Cancelled` here, once for each change of the size.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Plan, mixed, seconds, victim, warm_pool};
use crate::records::{Activity, ActivityStatus, Group, Launch, Member, MemberState};

/// The most launches that are under way at once; what else is wanted follows when these are done.
pub(super) const MOST_LAUNCHES: usize = 1000;

const ALL_PROTECTED: &str = "Could not scale to desired capacity because all remaining instances are \
                             protected from scale-in.";

/// Terminates what is too much: the fullest zone first, then by the termination policy.
pub(super) fn scale_in(plan: &mut Plan, now: Timestamp) {
    if plan.group.is_suspended("Terminate") {
        return;
    }
    if plan.group.is_deleting {
        plan.group.launches.retain(|_, it| it.request.is_some());
        let staying = plan.group.members.values().filter(|it| !it.state.is_terminating());
        let all: Vec<String> = staying.map(|it| it.instance_id.clone()).collect();
        for id in all {
            plan.terminate(&id, "the group was deleted.", now);
        }
        return;
    }
    drop_launches(plan);
    loop {
        let target = plan.group.target();
        let in_service = plan.group.active().filter(|it| it.state == MemberState::InService);
        let in_service: i64 = in_service.map(|it| it.weight).sum();
        let Some(victim) = victim::of(&plan.group, now) else { return hold(plan, now) };
        // Of weighted instances none goes that is partly needed.
        if in_service - victim.weight < target {
            return;
        }
        let victim = victim.instance_id.clone();
        let before = plan.group.active().count();
        let cause = format!(
            "an instance was taken out of service in response to a difference between desired and \
             actual capacity, shrinking the capacity from {before} to {}.",
            before - 1
        );
        let cause = with_change(&plan.group, &cause, now);
        match warm_pool::takes_back(&plan.group) {
            true => warm_pool::take_back(plan, &victim, cause, now),
            false => plan.terminate_for(&victim, cause, now),
        }
    }
}

/// The history says once for each change why it is not followed.
fn hold(plan: &mut Plan, now: Timestamp) {
    let group = &plan.group;
    let members = || group.active();
    let is_held = |it: &Member| it.state == MemberState::InService && it.is_protected;
    let Some(least) = members().map(|it| it.weight).min().filter(|_| members().all(is_held)) else {
        return;
    };
    let is_too_much = group.units() - least >= group.target();
    if !is_too_much || group.held_change.as_ref() == Some(&group.last_change) {
        return;
    }
    plan.activities.push(Activity {
        id: entropy::uuid(),
        group: group.name.clone(),
        description: ALL_PROTECTED.to_owned(),
        cause: with_change(group, "group reached equilibrium.", now),
        started_at: now,
        ended_at: Some(now),
        status: ActivityStatus::Cancelled,
        message: None,
        zone: String::new(),
        subnet: None,
    });
    plan.group.held_change = Some(plan.group.last_change.clone());
}

/// Launches that were decided, not tried, and are no longer wanted.
fn drop_launches(plan: &mut Plan) {
    let surplus = usize::try_from(plan.group.units() - plan.group.target()).unwrap_or(0);
    if surplus == 0 || is_rebalancing(plan) {
        return;
    }
    let untried = plan.group.launches.values().filter(|it| it.request.is_none() && !it.is_warm);
    let dropped: Vec<String> = untried.take(surplus).map(|it| it.activity.clone()).collect();
    for activity in dropped {
        plan.group.launches.remove(&activity);
        plan.end(Some(activity), ActivityStatus::Cancelled, None);
    }
}

/// One launch more than desired stands while the zones are being evened out.
fn is_rebalancing(plan: &Plan) -> bool {
    let group = &plan.group;
    group.units() == group.target() + 1
        && lean_zone(group).is_some()
        && !group.is_suspended("AZRebalance")
}

/// The cause with its date, behind what made it one.
fn with_change(group: &Group, cause: &str, now: Timestamp) -> String {
    let cause = format!("At {} {cause}", seconds(now));
    match group.last_change.is_empty() {
        true => cause,
        false => format!("{} {cause}", group.last_change),
    }
}

/// What the group has followed is the cause of nothing any more.
pub(super) fn forget_change(group: &mut Group) {
    let is_whole = group.is_settled() && group.units() == group.target();
    if is_whole {
        group.last_change.clear();
        group.held_change = None;
        group.unreplaced = 0;
    }
}

/// Members and launches per zone; a zone without any counts as zero.
pub(super) fn counts(group: &Group) -> BTreeMap<&str, usize> {
    let mut counts: BTreeMap<&str, usize> = group.zones().into_iter().map(|it| (it, 0)).collect();
    for member in group.active() {
        *counts.entry(&member.zone).or_default() += 1;
    }
    for launch in group.launches.values() {
        *counts.entry(&launch.zone).or_default() += 1;
    }
    counts
}

/// Launches what is missing, each in the emptiest zone.
pub(super) fn scale_out(plan: &mut Plan, now: Timestamp) {
    if plan.group.is_deleting || plan.group.is_suspended("Launch") || plan.group.subnets.is_empty()
    {
        return;
    }
    // After a failure the next try waits, and is decided upon only then.
    if plan.group.retry.is_some_and(|(at, _)| at > now) {
        return;
    }
    loop {
        let planned = plan.group.units();
        if planned >= plan.group.target() || plan.group.launches.len() >= MOST_LAUNCHES {
            break;
        }
        if warm_pool::take(plan, now) {
            continue;
        }
        let Some(subnet) = emptiest(&plan.group) else { return };
        if let Some(left) = plan.group.unreplaced.checked_sub(1) {
            plan.group.unreplaced = left;
            let cause = "an instance was launched in response to an unhealthy instance needing to be \
                 replaced.";
            launch(plan, &subnet, format!("At {} {cause}", seconds(now)), false, now);
            continue;
        }
        let cause = format!(
            "an instance was started in response to a difference between desired and actual \
             capacity, increasing the capacity from {planned} to {}.",
            planned + 1
        );
        let cause = with_change(&plan.group, &cause, now);
        launch(plan, &subnet, cause, false, now);
    }
    rebalance(plan, now);
}

/// Two instances more in one zone than in another: one more is launched where there are few, and
/// the size is put right again, from the fullest zone, once it is in service.
fn rebalance(plan: &mut Plan, now: Timestamp) {
    let group = &plan.group;
    let is_settled = group.is_settled()
        && group.retry.is_none()
        && group.units() == group.target()
        && group.refresh().is_none();
    if !is_settled || group.is_suspended("AZRebalance") {
        return;
    }
    let Some(zone) = lean_zone(group) else { return };
    let subnet = group.subnets.iter().find(|(_, it)| **it == zone).map(|(id, _)| id.clone());
    let Some(subnet) = subnet else { return };
    let cause = "an instance was launched to aid in balancing the group's zones.";
    launch(plan, &subnet, format!("At {} {cause}", seconds(now)), false, now);
}

/// The emptiest zone, when another one has at least two more.
fn lean_zone(group: &Group) -> Option<String> {
    let members = group.active().filter(|it| it.state == MemberState::InService);
    let mut counts: BTreeMap<&str, usize> = group.zones().into_iter().map(|it| (it, 0)).collect();
    for member in members {
        *counts.entry(&member.zone).or_default() += 1;
    }
    let in_group = group.zones();
    let most = counts.values().max()?;
    let (zone, least) = counts
        .iter()
        .filter(|(zone, _)| in_group.contains(*zone) && !group.failed_zones.contains(**zone))
        .min_by_key(|(_, count)| **count)?;
    (most - least >= 2).then(|| (*zone).to_owned())
}

/// A subnet of the emptiest zone; zones in which a launch just failed come last.
pub(super) fn emptiest(group: &Group) -> Option<String> {
    let counts = counts(group);
    let rank = |zone: &String| {
        let count = counts.get(zone.as_str()).copied().unwrap_or(0);
        (group.failed_zones.contains(zone), count, zone.clone())
    };
    group.subnets.iter().min_by_key(|(_, zone)| rank(zone)).map(|(subnet, _)| subnet.clone())
}

pub(super) fn launch(plan: &mut Plan, subnet: &str, cause: String, is_warm: bool, now: Timestamp) {
    let zone = plan.group.subnets.get(subnet).cloned().unwrap_or_default();
    let id = entropy::uuid();
    plan.activities.push(Activity {
        id: id.clone(),
        group: plan.group.name.clone(),
        description: "Launching a new EC2 instance".to_owned(),
        cause,
        started_at: now,
        ended_at: None,
        status: ActivityStatus::PreInService,
        message: None,
        zone: zone.clone(),
        subnet: Some(subnet.to_owned()),
    });
    let is_spot = mixed::is_next_spot(&plan.group);
    let weight = mixed::alternatives(&plan.group, is_spot).first().map_or(1, |it| it.weight);
    let launch = Launch {
        activity: id.clone(),
        subnet: subnet.to_owned(),
        zone,
        is_spot,
        request: None,
        decided_at: now,
        weight,
        is_warm,
    };
    plan.group.launches.insert(id, launch);
}
