//! What the plan decides, case by case.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use super::*;
use crate::records::{Hook, HookResult, Member, Source, TemplateRef, Transition, Unhealthy};

mod leaving;
mod refreshes;

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn minutes(n: i64) -> Timestamp {
    START + SignedDuration::from_mins(n)
}

fn template(version: &str) -> TemplateRef {
    TemplateRef { id: "lt-1".into(), name: "nodes".into(), version: version.into() }
}

fn group(desired: i64) -> Group {
    let subnets = [("subnet-a", "a"), ("subnet-b", "b"), ("subnet-c", "c")];
    Group {
        name: "nodes".into(),
        arn: String::new(),
        created_at: START,
        source: Source::Template(template("$Default")),
        min: 0,
        max: 10,
        desired,
        default_cooldown: 300,
        subnets: subnets.map(|(id, zone)| (id.to_owned(), zone.to_owned())).into(),
        health_check_type: "EC2".into(),
        health_check_grace_period: 0,
        termination_policies: vec!["Default".into()],
        protects_new_instances: false,
        capacity_rebalance: false,
        suspended: BTreeSet::new(),
        metrics: BTreeSet::new(),
        service_linked_role_arn: String::new(),
        context: None,
        deletion_protection: None,
        max_instance_lifetime: None,
        default_instance_warmup: None,
        healthy_percentages: None,
        tags: BTreeMap::new(),
        hooks: BTreeMap::new(),
        members: BTreeMap::new(),
        launches: BTreeMap::new(),
        last_change: String::new(),
        held_change: None,
        unreplaced: 0,
        retry: None,
        failed_zones: BTreeSet::new(),
        is_deleting: false,
        warm_pool: None,
        refreshes: Vec::new(),
        scheduled: BTreeMap::new(),
        policies: BTreeMap::new(),
        cools_until: None,
    }
}

/// Adds a member in service.
fn with(mut group: Group, id: &str, zone: &str, version: &str) -> Group {
    let member = Member {
        instance_id: id.into(),
        instance_type: "m5.large".into(),
        zone: zone.into(),
        state: MemberState::InService,
        is_healthy: true,
        unhealthy_by: Unhealthy::State,
        is_protected: false,
        is_spot: false,
        template: template(version),
        launched_at: minutes(i64::try_from(group.members.len()).unwrap()),
        activity: None,
        waits: BTreeMap::new(),
        weight: 1,
        is_from_pool: false,
        is_returning: false,
        leaves: None,
    };
    group.members.insert(id.into(), member);
    group
}

fn hook(mut group: Group, transition: Transition, default_result: HookResult) -> Group {
    let hook = Hook {
        name: "drain".into(),
        transition,
        heartbeat_timeout: 600,
        default_result,
        notification_target_arn: None,
        role_arn: None,
        notification_metadata: None,
    };
    group.hooks.insert(hook.name.clone(), hook);
    group
}

fn observed(states: &[(&str, &str)]) -> Observed {
    let states: BTreeMap<String, String> =
        states.iter().map(|(id, state)| ((*id).to_owned(), (*state).to_owned())).collect();
    Observed { asked: states.keys().cloned().collect(), states, ..Observed::default() }
}

/// Everyone runs.
fn running(group: &Group) -> Observed {
    let ids: Vec<(&str, &str)> = group.members.keys().map(|it| (it.as_str(), "running")).collect();
    observed(&ids)
}

fn zones(group: &Group) -> Vec<&str> {
    let mut zones: Vec<&str> = group.launches.values().map(|it| it.zone.as_str()).collect();
    zones.sort_unstable();
    zones
}

fn terminating(group: &Group) -> Vec<&str> {
    let found = group.members.values().filter(|it| it.state.is_terminating());
    found.map(|it| it.instance_id.as_str()).collect()
}

#[test]
fn launches_are_spread_over_the_zones() {
    for (desired, expected) in
        [(1, vec!["a"]), (3, vec!["a", "b", "c"]), (4, vec!["a", "a", "b", "c"])]
    {
        let plan = plan(&group(desired), &Observed::default(), START);
        assert_eq!(zones(&plan.group), expected);
        assert_eq!(plan.activities.len(), expected.len());
        assert_eq!(calls(&plan.group, &Observed::default(), START).len(), expected.len());
    }
}

#[test]
fn a_group_of_millions_is_launched_in_parts() {
    let mut huge = group(2_000_000_000);
    let pool = crate::records::WarmPool {
        min: 2_000_000_000,
        max_prepared: None,
        runs: true,
        hibernates: false,
        reuses: None,
    };
    huge.warm_pool = Some(pool);
    let plan = plan(&huge, &Observed::default(), START);
    assert_eq!(plan.group.launches.len(), balance::MOST_LAUNCHES);
}

#[test]
fn planning_twice_changes_nothing_the_second_time() {
    let group = with(with(group(4), "i-1", "a", "1"), "i-2", "a", "1");
    let observed = observed(&[("i-1", "running"), ("i-2", "stopped")]);
    let once = plan(&group, &observed, minutes(5));
    let twice = plan(&once.group, &observed, minutes(5));
    assert_eq!(once.group, twice.group);
    assert!(twice.activities.is_empty());
}

#[test]
fn what_is_too_much_goes_from_the_fullest_zone_and_the_oldest_template_first() {
    let mut group = group(2);
    for (id, zone, version) in
        [("i-1", "a", "2"), ("i-2", "a", "1"), ("i-3", "b", "1"), ("i-4", "a", "2")]
    {
        group = with(group, id, zone, version);
    }
    let plan = plan(&group, &running(&group), minutes(9));
    assert_eq!(terminating(&plan.group), ["i-1", "i-2"]);
}

#[test]
fn a_protected_instance_is_not_scaled_in() {
    let mut group = with(with(group(1), "i-1", "a", "1"), "i-2", "a", "1");
    group.members.get_mut("i-1").unwrap().is_protected = true;
    let plan = plan(&group, &running(&group), minutes(9));
    assert_eq!(terminating(&plan.group), ["i-2"]);
}

#[test]
fn the_history_says_once_that_all_that_is_left_is_protected() {
    let mut group = with(with(with(group(1), "i-1", "a", "1"), "i-2", "a", "1"), "i-3", "b", "1");
    for id in ["i-1", "i-2"] {
        group.members.get_mut(id).unwrap().is_protected = true;
    }
    group.last_change = "At 1970 a user request changed it from 3 to 1.".into();
    let first = plan(&group, &running(&group), minutes(9));
    assert_eq!(terminating(&first.group), ["i-3"]);
    let (told, words): (Vec<_>, Vec<_>) =
        first.activities.iter().map(|it| (it.status, it.description.as_str())).unzip();
    assert_eq!(told, [ActivityStatus::InProgress, ActivityStatus::Cancelled]);
    assert!(words[1].ends_with("all remaining instances are protected from scale-in."));
    let held = &first.activities[1];
    assert!(
        held.cause.ends_with("from 3 to 1. At 1970-01-01T00:09:00Z group reached equilibrium.")
    );
    assert!(held.ended_at.is_some());

    let again = plan(&first.group, &running(&first.group), minutes(10));
    assert!(again.activities.is_empty(), "{:?}", again.activities);
    let mut next = again.group;
    (next.desired, next.last_change) = (0, "At 1970 a user request changed it from 1 to 0.".into());
    assert_eq!(plan(&next, &running(&next), minutes(11)).activities.len(), 1, "of a new change");
}

#[test]
fn protected_instances_that_are_all_wanted_keep_nobody() {
    let mut group = with(with(group(2), "i-1", "a", "1"), "i-2", "b", "1");
    group.members.values_mut().for_each(|it| it.is_protected = true);
    assert!(plan(&group, &running(&group), minutes(9)).activities.is_empty());
}

#[test]
fn an_instance_that_is_gone_is_replaced_at_once() {
    let group = with(with(group(2), "i-1", "a", "1"), "i-2", "b", "1");
    let gone = Observed {
        asked: ["i-1".to_owned(), "i-2".to_owned()].into(),
        states: [("i-2".to_owned(), "running".to_owned())].into(),
        ..Observed::default()
    };
    let plan = plan(&group, &gone, minutes(1));
    assert!(!plan.group.members.contains_key("i-1"));
    assert_eq!(plan.group.launches.len(), 1);
    assert!(plan.activities[0].cause.contains("EC2 health check"));
}

#[test]
fn a_replacement_names_what_it_replaces_and_no_request_of_long_ago() {
    let running = |ids: &[&str]| Observed {
        asked: ids.iter().map(|it| (*it).to_owned()).collect(),
        states: ids.iter().map(|it| ((*it).to_owned(), "running".to_owned())).collect(),
        ..Observed::default()
    };
    let mut group = with(with(group(2), "i-1", "a", "1"), "i-2", "b", "1");
    group.last_change = "At 1970-01-01T00:00:00Z a user request created it.".to_owned();
    let both = running(&["i-1", "i-2"]);
    let mut group = plan(&group, &both, minutes(1)).group;
    group.members.get_mut("i-1").unwrap().is_healthy = false;
    group.members.get_mut("i-1").unwrap().unhealthy_by = Unhealthy::User;
    let unhealthy = plan(&group, &both, minutes(2));
    let causes: Vec<_> = unhealthy.activities.iter().map(|it| it.cause.as_str()).collect();
    assert_eq!(
        causes,
        [
            "At 1970-01-01T00:02:00Z an instance was taken out of service in response to a user \
             health-check.",
            "At 1970-01-01T00:02:00Z an instance was launched in response to an unhealthy instance \
             needing to be replaced.",
        ]
    );
    // One that fails its status checks is told apart from one that was stopped.
    let failing = Observed { impaired: ["i-2".to_owned()].into(), ..both };
    let failing = plan(&group, &failing, minutes(3));
    let causes = failing.activities.iter().map(|it| it.cause.as_str());
    let named = causes.filter(|it| it.contains("EC2 instance status checks failure")).count();
    assert_eq!(named, 1);
}

#[test]
fn a_cause_begins_with_the_request_that_changed_the_size() {
    let mut group = with(group(2), "i-1", "a", "1");
    group.last_change = "At 1970-01-01T00:00:30Z a user request set it.".to_owned();
    let plan = plan(&group, &Observed::default(), minutes(1));
    let cause = &plan.activities[0].cause;
    let expected = "At 1970-01-01T00:00:30Z a user request set it. At 1970-01-01T00:01:00Z an \
                    instance was started in response to a difference between desired and actual \
                    capacity, increasing the capacity from 1 to 2.";
    assert_eq!(cause, expected);
}

#[test]
fn a_member_newer_than_the_question_is_not_taken_for_gone() {
    let group = with(group(1), "i-new", "a", "1");
    let plan = plan(&group, &Observed::default(), minutes(1));
    assert_eq!(plan.group, group);
}

#[test]
fn a_stopped_instance_is_replaced_unless_that_is_suspended() {
    let mut group = with(group(1), "i-1", "a", "1");
    let stopped = observed(&[("i-1", "stopped")]);
    let replaced = plan(&group, &stopped, minutes(1));
    assert_eq!(terminating(&replaced.group), ["i-1"]);
    assert_eq!(replaced.group.launches.len(), 1);
    group.suspended.insert("ReplaceUnhealthy".into());
    let kept = plan(&group, &stopped, minutes(1));
    assert!(terminating(&kept.group).is_empty());
    assert!(!kept.group.members["i-1"].is_healthy);
}

#[test]
fn an_instance_that_boots_is_left_alone_and_one_that_fails_its_checks_is_replaced() {
    let mut group = with(group(1), "i-1", "a", "1");
    group.health_check_grace_period = 300;
    // EC2 calls an instance running while it boots again.
    assert!(terminating(&plan(&group, &running(&group), minutes(60)).group).is_empty());
    let impaired = Observed { impaired: ["i-1".to_owned()].into(), ..running(&group) };
    assert!(terminating(&plan(&group, &impaired, minutes(4)).group).is_empty(), "its grace period");
    assert_eq!(terminating(&plan(&group, &impaired, minutes(5)).group), ["i-1"]);
}

#[test]
fn an_instance_that_was_stopped_before_it_came_into_service_goes() {
    let mut group = with(group(0), "i-1", "a", "1");
    group.members.get_mut("i-1").unwrap().state = MemberState::Pending;
    let plan = plan(&group, &observed(&[("i-1", "stopped")]), minutes(1));
    assert_eq!(terminating(&plan.group), ["i-1"]);
}

#[test]
fn a_launch_hook_holds_an_instance_until_it_runs_out_and_then_replaces_it() {
    let mut group =
        hook(with(group(1), "i-1", "a", "1"), Transition::Launching, HookResult::Abandon);
    group.members.get_mut("i-1").unwrap().state = MemberState::Pending;
    group.members.get_mut("i-1").unwrap().activity = Some("launch".into());
    let running = running(&group);
    let held = plan(&group, &running, START);
    assert_eq!(held.group.members["i-1"].state, MemberState::PendingWait);
    assert_eq!(held.wake_at, Some(minutes(10)));

    let still = plan(&held.group, &running, minutes(10) - SignedDuration::from_nanos(1));
    assert_eq!(still.group, held.group);
    let out = plan(&held.group, &running, minutes(10));
    assert_eq!(out.group.members["i-1"].state, MemberState::TerminatingProceed);
    assert_eq!(out.group.launches.len(), 1);
    let launch = out.endings.iter().find(|it| it.activity == "launch").unwrap();
    assert_eq!(launch.status, ActivityStatus::Cancelled);
}

#[test]
fn a_completed_launch_hook_lets_the_instance_into_service() {
    let mut group =
        hook(with(group(1), "i-1", "a", "1"), Transition::Launching, HookResult::Abandon);
    group.members.get_mut("i-1").unwrap().state = MemberState::PendingWait;
    let plan = plan(&group, &running(&group), START);
    assert_eq!(plan.group.members["i-1"].state, MemberState::InService);
}

#[test]
fn a_termination_hook_holds_the_instance_before_ec2_is_told() {
    let group =
        hook(with(group(0), "i-1", "a", "1"), Transition::Terminating, HookResult::Continue);
    let running = running(&group);
    let held = plan(&group, &running, START);
    assert_eq!(held.group.members["i-1"].state, MemberState::TerminatingWait);
    assert!(calls(&held.group, &running, START).is_empty());

    let out = plan(&held.group, &running, minutes(10));
    assert_eq!(calls(&out.group, &running, minutes(10)), [Ec2Call::Terminate("i-1".to_owned())]);
    let going = observed(&[("i-1", "shutting-down")]);
    assert!(calls(&out.group, &going, minutes(11)).is_empty());
    let gone = plan(&out.group, &observed(&[("i-1", "terminated")]), minutes(12));
    assert!(gone.group.members.is_empty());
    assert_eq!(gone.endings[0].status, ActivityStatus::Successful);
}

#[test]
fn uneven_zones_are_evened_out_by_launching_before_terminating() {
    let mut group = group(3);
    for id in ["i-1", "i-2", "i-3"] {
        group = with(group, id, "a", "1");
    }
    let first = plan(&group, &running(&group), minutes(9));
    assert_eq!(zones(&first.group), ["b"]);
    assert!(terminating(&first.group).is_empty());

    // The new one is in service: the fullest zone gives one up.
    let mut grown = with(first.group, "i-4", "b", "1");
    grown.launches.clear();
    let second = plan(&grown, &running(&grown), minutes(10));
    assert_eq!(terminating(&second.group), ["i-1"]);
    assert!(second.group.launches.is_empty());
}

#[test]
fn a_suspended_rebalance_leaves_the_zones_uneven() {
    let mut group = group(3);
    for id in ["i-1", "i-2", "i-3"] {
        group = with(group, id, "a", "1");
    }
    group.suspended.insert("AZRebalance".into());
    let plan = plan(&group, &running(&group), minutes(9));
    assert!(plan.group.launches.is_empty());
}

#[test]
fn a_zone_in_which_a_launch_failed_is_tried_last_and_after_a_pause() {
    let mut group = group(1);
    group.failed_zones.insert("a".into());
    group.retry = Some((minutes(1), 2));
    let waiting = plan(&group, &Observed::default(), START);
    assert_eq!(waiting.group, group);
    assert_eq!(waiting.wake_at, Some(minutes(1)));
    let due = plan(&group, &Observed::default(), minutes(1));
    assert_eq!(zones(&due.group), ["b"]);
    assert_eq!(calls(&due.group, &Observed::default(), minutes(1)).len(), 1);
}

#[test]
fn the_pause_between_failing_launches_doubles_up_to_two_minutes() {
    let pauses: Vec<i64> =
        (1..=7).map(|failures| retry_at(START, failures).duration_since(START).as_secs()).collect();
    assert_eq!(pauses, [5, 10, 20, 40, 80, 120, 120]);
}

#[test]
fn a_deleted_group_lets_everyone_go_and_launches_nobody() {
    let mut group = with(group(0), "i-1", "a", "1");
    group.is_deleting = true;
    group.desired = 3;
    group.members.get_mut("i-1").unwrap().is_protected = true;
    let plan = plan(&group, &running(&group), START);
    assert_eq!(terminating(&plan.group), ["i-1"]);
    assert!(plan.group.launches.is_empty());
}

// === standby, policies, weights, refreshes ===

fn kinds(group: &Group) -> (usize, usize) {
    (group.launches.len(), terminating(group).len())
}

/// What was decided is done: the launched serve, the terminating are gone.
fn follow(mut group: Group, now: Timestamp) -> Group {
    let launches = std::mem::take(&mut group.launches);
    for launch in launches.into_values() {
        let id = format!("i-{}", &launch.activity[..8]);
        let zone = launch.zone.clone();
        group = with(group, &id, &zone, "2");
        let member = group.members.get_mut(&id).unwrap();
        (member.launched_at, member.weight, member.is_spot) = (now, launch.weight, launch.is_spot);
    }
    group.members.retain(|_, it| !it.state.is_terminating());
    group
}

#[test]
fn an_instance_in_standby_is_neither_counted_nor_replaced() {
    let mut group = with(with(group(1), "i-1", "a", "1"), "i-2", "b", "1");
    group.members.get_mut("i-2").unwrap().state = MemberState::Standby;
    let observed = observed(&[("i-1", "running"), ("i-2", "stopped")]);
    let plan = plan(&group, &observed, minutes(9));
    assert_eq!(kinds(&plan.group), (0, 0));
    assert!(plan.group.members["i-2"].is_healthy);
    assert_eq!(kinds(&super::plan(&plan.group, &observed, minutes(9)).group), (0, 0));
}

#[test]
fn termination_policies_are_asked_one_after_another() {
    let mut group = group(2);
    for (id, version) in [("i-1", "2"), ("i-2", "1"), ("i-3", "1")] {
        group = with(group, id, "a", version);
    }
    group.subnets = [("subnet-a".to_owned(), "a".to_owned())].into();
    for (policies, expected) in [
        (&["OldestInstance"][..], "i-1"),
        (&["NewestInstance"], "i-3"),
        (&["OldestLaunchTemplate", "NewestInstance"], "i-3"),
        (&["OldestLaunchTemplate", "OldestInstance"], "i-2"),
        (&["OldestLaunchConfiguration", "OldestInstance"], "i-1"),
        // Launched in minutes 0, 1 and 2: after 59, the first is nearest to its full hour.
        (&["ClosestToNextInstanceHour"], "i-1"),
        (&["Default"], "i-2"),
    ] {
        group.termination_policies = policies.iter().map(|it| (*it).to_owned()).collect();
        let plan = plan(&group, &running(&group), minutes(59));
        assert_eq!(terminating(&plan.group), [expected], "{policies:?}");
    }
}

fn mixed(types: &[(&str, &str)], base: i64, share: i64) -> Source {
    use aws_autoscaling::group::{
        InstancesDistribution, LaunchTemplate, LaunchTemplateOverrides, MixedInstancesPolicy,
    };
    let overrides = types.iter().map(|(name, weight)| LaunchTemplateOverrides {
        instance_type: Some((*name).to_owned()),
        weighted_capacity: Some((*weight).to_owned()),
        ..Default::default()
    });
    let policy = MixedInstancesPolicy {
        launch_template: Some(LaunchTemplate {
            overrides: overrides.collect(),
            ..Default::default()
        }),
        instances_distribution: Some(InstancesDistribution {
            on_demand_base_capacity: Some(base),
            on_demand_percentage_above_base_capacity: Some(share),
            ..Default::default()
        }),
    };
    Source::Mixed { template: template("$Default"), policy: Box::new(policy) }
}

#[test]
fn weights_count_as_capacity_and_spot_takes_the_cheapest_unit() {
    let mut group = group(6);
    // The smaller one is first, and dearer per unit.
    group.source = mixed(&[("m5.large", "1"), ("c5.xlarge", "4")], 2, 0);
    let on_demand = mixed::alternatives(&group, false);
    assert_eq!(on_demand[0].instance_type.as_deref(), Some("m5.large"));
    let spot = mixed::alternatives(&group, true);
    assert_eq!(spot[0].instance_type.as_deref(), Some("c5.xlarge"));
    let planned = plan(&group, &Observed::default(), START).group;
    let mut launched: Vec<_> =
        planned.launches.values().map(|it| (it.is_spot, it.weight)).collect();
    launched.sort_unstable();
    assert_eq!(launched, [(false, 1), (false, 1), (true, 4)]);
    let whole = follow(planned, START);
    let mut smaller = whole.clone();
    smaller.desired = 3;
    let kept = plan(&smaller, &running(&smaller), minutes(5)).group;
    // Without the four units too little would be left; without a single one there is enough.
    assert!(kept.units() >= 3, "{kept:?}");
}

#[test]
fn what_lives_for_too_long_is_replaced_one_at_a_time() {
    let mut group = with(with(group(2), "i-1", "a", "1"), "i-2", "b", "1");
    group.max_instance_lifetime = Some(86_400);
    let day = START + SignedDuration::from_hours(24);
    assert_eq!(plan(&group, &running(&group), minutes(5)).wake_at, Some(day));
    let late = day + SignedDuration::from_mins(5);
    let planned = plan(&group, &running(&group), late).group;
    assert_eq!(terminating(&planned), ["i-1"]);
    let next = plan(&planned, &running(&planned), late).group;
    assert_eq!(kinds(&next), (1, 1), "its successor comes before the other goes");
}
