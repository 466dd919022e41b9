//! The group's size, and its balance over the zones.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Plan, seconds};
use crate::records::{Activity, ActivityStatus, Group, Launch, Member, MemberState, Source};

/// Terminates what is too much: the fullest zone first, then by the termination policy.
pub(super) fn scale_in(plan: &mut Plan, now: Timestamp) {
    if plan.group.is_suspended("Terminate") {
        return;
    }
    if plan.group.is_deleting {
        plan.group.launches.retain(|_, it| it.request.is_some());
        let all: Vec<String> = plan.group.active().map(|it| it.instance_id.clone()).collect();
        for id in all {
            plan.terminate(&id, "the group was deleted.", now);
        }
        return;
    }
    let desired = usize::try_from(plan.group.desired).unwrap_or(0);
    drop_launches(plan, desired);
    loop {
        let in_service =
            plan.group.active().filter(|it| it.state == MemberState::InService).count();
        if in_service <= desired {
            return;
        }
        let Some(victim) = victim(&plan.group).map(|it| it.instance_id.clone()) else { return };
        let before = plan.group.active().count();
        let cause = format!(
            "an instance was taken out of service in response to a difference between desired and \
             actual capacity, shrinking the capacity from {before} to {}.",
            before - 1
        );
        let cause = with_change(&plan.group, &cause, now);
        plan.terminate_for(&victim, cause, now);
    }
}

/// Launches that were decided, not tried, and are no longer wanted.
fn drop_launches(plan: &mut Plan, desired: usize) {
    let surplus = (plan.group.active().count() + plan.group.launches.len()).saturating_sub(desired);
    if surplus == 0 || is_rebalancing(plan) {
        return;
    }
    let untried = plan.group.launches.values().filter(|it| it.request.is_none());
    let dropped: Vec<String> = untried.take(surplus).map(|it| it.activity.clone()).collect();
    for activity in dropped {
        plan.group.launches.remove(&activity);
        plan.end(Some(activity), ActivityStatus::Cancelled, None);
    }
}

/// One launch more than desired stands while the zones are being evened out.
fn is_rebalancing(plan: &Plan) -> bool {
    let group = &plan.group;
    let planned = group.active().count() + group.launches.len();
    i64::try_from(planned).is_ok_and(|it| it == group.desired + 1)
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
    let is_whole = group.launches.is_empty()
        && group.members.values().all(|it| it.state == MemberState::InService)
        && i64::try_from(group.members.len()).is_ok_and(|it| it == group.desired);
    if is_whole {
        group.last_change.clear();
        group.unreplaced = 0;
    }
}

/// Who goes first.
fn victim(group: &Group) -> Option<&Member> {
    let counts = counts(group);
    let candidates =
        group.active().filter(|it| it.state == MemberState::InService && !it.is_protected);
    let in_fullest = |it: &&Member| {
        let most = group
            .active()
            .filter(|it| it.state == MemberState::InService && !it.is_protected)
            .filter_map(|it| counts.get(it.zone.as_str()))
            .max();
        counts.get(it.zone.as_str()) == most
    };
    let candidates = candidates.filter(in_fullest);
    match group.termination_policies.first().map(String::as_str) {
        Some("NewestInstance") => candidates.max_by_key(|it| it.launched_at),
        Some("OldestInstance") => candidates.min_by_key(|it| it.launched_at),
        _ => candidates.min_by_key(|it| (version(it), it.launched_at)),
    }
}

/// Older versions of the launch template go first.
fn version(member: &Member) -> i64 {
    member.template.version.parse().unwrap_or(0)
}

/// Members and launches per zone; a zone without any counts as zero.
fn counts(group: &Group) -> BTreeMap<&str, usize> {
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
        let planned = plan.group.active().count() + plan.group.launches.len();
        let planned = i64::try_from(planned).unwrap_or(i64::MAX);
        if planned >= plan.group.desired {
            break;
        }
        let Some(subnet) = emptiest(&plan.group) else { return };
        if let Some(left) = plan.group.unreplaced.checked_sub(1) {
            plan.group.unreplaced = left;
            let cause = "an instance was launched in response to an unhealthy instance needing to be \
                 replaced.";
            launch(plan, &subnet, format!("At {} {cause}", seconds(now)), now);
            continue;
        }
        let cause = format!(
            "an instance was started in response to a difference between desired and actual \
             capacity, increasing the capacity from {planned} to {}.",
            planned + 1
        );
        let cause = with_change(&plan.group, &cause, now);
        launch(plan, &subnet, cause, now);
    }
    rebalance(plan, now);
}

/// Two instances more in one zone than in another: one more is launched where there are few, and
/// the size is put right again, from the fullest zone, once it is in service.
fn rebalance(plan: &mut Plan, now: Timestamp) {
    let group = &plan.group;
    let is_settled = group.launches.is_empty()
        && group.retry.is_none()
        && group.members.values().all(|it| it.state == MemberState::InService)
        && i64::try_from(group.members.len()).is_ok_and(|it| it == group.desired);
    if !is_settled || group.is_suspended("AZRebalance") {
        return;
    }
    let Some(zone) = lean_zone(group) else { return };
    let subnet = group.subnets.iter().find(|(_, it)| **it == zone).map(|(id, _)| id.clone());
    let Some(subnet) = subnet else { return };
    let cause = "an instance was launched to aid in balancing the group's zones.";
    launch(plan, &subnet, format!("At {} {cause}", seconds(now)), now);
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
fn emptiest(group: &Group) -> Option<String> {
    let counts = counts(group);
    let rank = |zone: &String| {
        let count = counts.get(zone.as_str()).copied().unwrap_or(0);
        (group.failed_zones.contains(zone), count, zone.clone())
    };
    group.subnets.iter().min_by_key(|(_, zone)| rank(zone)).map(|(subnet, _)| subnet.clone())
}

fn launch(plan: &mut Plan, subnet: &str, cause: String, now: Timestamp) {
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
    let is_spot = is_next_spot(&plan.group);
    let launch = Launch {
        activity: id.clone(),
        subnet: subnet.to_owned(),
        zone,
        is_spot,
        request: None,
        decided_at: now,
    };
    plan.group.launches.insert(id, launch);
}

/// Whether the next instance is Spot: a base On-Demand, then a share of what is above it.
fn is_next_spot(group: &Group) -> bool {
    let Source::Mixed { policy, .. } = &group.source else { return false };
    let Some(distribution) = &policy.instances_distribution else { return false };
    let base = distribution.on_demand_base_capacity.unwrap_or(0);
    let share = distribution.on_demand_percentage_above_base_capacity.unwrap_or(100);
    let spot = group.active().filter(|it| it.is_spot).count()
        + group.launches.values().filter(|it| it.is_spot).count();
    let all = group.active().count() + group.launches.len();
    let (spot, all) = (i64::try_from(spot).unwrap_or(0), i64::try_from(all).unwrap_or(0));
    // After this launch, rounded up in favour of On-Demand.
    let above = (all + 1 - base).max(0);
    let on_demand = base + (above * share + 99) / 100;
    all - spot >= on_demand
}
