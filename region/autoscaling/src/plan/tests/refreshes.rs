//! Instance refreshes: how many are replaced at once, and which are passed over.

use super::*;

fn refresh(group: &mut Group, least: i64, skips: bool) {
    use aws_autoscaling::instance_refresh::RefreshPreferences;
    let preferences = RefreshPreferences {
        min_healthy_percentage: Some(least),
        max_healthy_percentage: Some(if least == 100 { 150 } else { 100 }),
        instance_warmup: Some(60),
        skip_matching: Some(skips),
        ..Default::default()
    };
    group.refreshes.push(crate::records::Refresh {
        id: "r".into(),
        status: crate::records::RefreshStatus::Pending,
        reason: None,
        started_at: START,
        ended_at: None,
        preferences,
        desired: None,
        wanted: template("2"),
        previous: None,
        total: 0,
        left: BTreeSet::new(),
        surplus: 0,
        warm_at: None,
        is_waiting: false,
        blocked_since: None,
        passed: 0,
        resumes_at: None,
    });
}

/// Lets a refresh run; the fewest and the most that served, and who is left.
fn refreshed(mut group: Group) -> (usize, usize, Group) {
    let (mut fewest, mut most) = (usize::MAX, 0);
    for minute in 10..60 {
        group = plan(&group, &running(&group), minutes(minute)).group;
        let serving = group.active().count();
        (fewest, most) = (fewest.min(serving), most.max(serving));
        group = follow(group, minutes(minute));
        if group.refresh().is_none() {
            return (fewest, most, group);
        }
    }
    panic!("it does not end: {group:?}");
}

fn four() -> Group {
    let mut four = group(4);
    for (id, zone) in [("i-1", "a"), ("i-2", "b"), ("i-3", "c"), ("i-4", "a")] {
        four = with(four, id, zone, "1");
    }
    four
}

#[test]
fn a_refresh_replaces_as_many_at_once_as_it_may() {
    let mut group = four();
    refresh(&mut group, 50, false);
    let (fewest, most, group) = refreshed(group);
    assert_eq!((fewest, most), (2, 4));
    assert!(group.members.values().all(|it| it.template.version == "2"), "{group:?}");
    assert_eq!(group.refreshes[0].status.name(), "Successful");
    assert_eq!(group.members.len(), 4);
}

#[test]
fn a_refresh_that_may_miss_nobody_launches_first() {
    let mut group = four();
    refresh(&mut group, 100, false);
    let (fewest, _, group) = refreshed(group);
    assert_eq!(fewest, 4);
    assert_eq!(group.members.len(), 4);
    assert!(group.members.values().all(|it| it.template.version == "2"));
}

#[test]
fn a_refresh_can_be_called_off_while_its_instances_cannot_be_launched() {
    let mut group = four();
    refresh(&mut group, 50, false);
    let mut begun = plan(&group, &running(&group), minutes(10)).group;
    assert!(begun.refresh().is_some() && !begun.is_settled());
    begun.refreshes[0].status = crate::records::RefreshStatus::Cancelling;
    let called_off = plan(&begun, &running(&begun), minutes(11)).group;
    assert_eq!(called_off.refreshes[0].status.name(), "Cancelled");
}

#[test]
fn a_refresh_may_pass_over_what_is_as_wanted() {
    let mut group = four();
    group.members.get_mut("i-1").unwrap().template = template("2");
    refresh(&mut group, 0, true);
    let (_, _, group) = refreshed(group);
    assert!(group.members.contains_key("i-1") && group.members.len() == 4);
}

fn protected(preference: &str) -> Group {
    let mut group = four();
    group.members.get_mut("i-1").unwrap().is_protected = true;
    refresh(&mut group, 0, false);
    group.refreshes[0].preferences.scale_in_protected_instances = Some(preference.to_owned());
    group
}

#[test]
fn a_rollback_that_cannot_go_on_has_failed_as_a_rollback() {
    let mut group = protected("Wait");
    let refresh = &mut group.refreshes[0];
    refresh.status = crate::records::RefreshStatus::RollbackInProgress;
    (refresh.left, refresh.total) = (BTreeSet::from(["i-1".to_owned()]), 1);
    group = plan(&group, &running(&group), minutes(10)).group;
    assert!(group.refresh().is_some());
    group = plan(&group, &running(&group), minutes(71)).group;
    assert_eq!(group.refreshes[0].status.name(), "RollbackFailed");
    assert!(group.refresh().is_none() && group.refreshes[0].reason.is_some());
}

#[test]
fn a_refresh_waits_an_hour_for_a_protected_instance_and_then_fails() {
    let mut group = protected("Wait");
    let mut ended = None;
    for minute in 10..100 {
        let planned = plan(&group, &running(&group), minutes(minute));
        group = follow(planned.group, minutes(minute));
        match group.refreshes[0].blocked_since {
            Some(since) if group.refresh().is_some() => {
                assert_eq!(planned.wake_at, Some(since + SignedDuration::from_hours(1)));
            }
            _ => {}
        }
        if group.refresh().is_none() {
            ended = Some(minutes(minute));
            break;
        }
    }
    let refresh = &group.refreshes[0];
    assert_eq!(refresh.status.name(), "Failed");
    assert!(refresh.reason.as_ref().unwrap().contains("protected from scale in"));
    let waited = ended.unwrap().duration_since(refresh.blocked_since.unwrap());
    assert_eq!(waited, SignedDuration::from_hours(1));
    assert!(group.members.contains_key("i-1"));
    let replaced = group.members.values().filter(|it| it.template.version == "2").count();
    assert_eq!(replaced, 3, "the others did not wait");
}

#[test]
fn a_protected_instance_is_passed_over_or_replaced_where_that_is_asked_for() {
    let (_, _, group) = refreshed(protected("Ignore"));
    assert_eq!(group.refreshes[0].status.name(), "Successful");
    assert!(group.members.contains_key("i-1"));
    let (_, _, group) = refreshed(protected("Refresh"));
    assert_eq!(group.refreshes[0].status.name(), "Successful");
    assert!(!group.members.contains_key("i-1"));
}

#[test]
fn one_that_is_protected_while_a_refresh_runs_does_not_hold_it_up_where_it_is_to_be_ignored() {
    let mut group = four();
    refresh(&mut group, 90, false);
    group.refreshes[0].preferences.scale_in_protected_instances = Some("Ignore".to_owned());
    group = follow(plan(&group, &running(&group), minutes(10)).group, minutes(10));
    let left = group.refreshes[0].left.iter().last().unwrap().clone();
    group.members.get_mut(&left).unwrap().is_protected = true;
    let (_, _, group) = refreshed(group);
    assert_eq!(group.refreshes[0].status.name(), "Successful");
    assert!(group.members.contains_key(&left));
}

/// One pass at that minute, with what it decided done.
fn pass(group: Group, minute: i64) -> Group {
    follow(plan(&group, &running(&group), minutes(minute)).group, minutes(minute))
}

fn old(group: &Group) -> usize {
    group.members.values().filter(|it| it.template.version == "1").count()
}

fn status(group: &Group) -> &'static str {
    group.refreshes.last().unwrap().status.name()
}

#[test]
fn a_refresh_rests_at_its_checkpoints_and_leaves_what_is_beyond_the_last() {
    let mut group = four();
    refresh(&mut group, 50, false);
    let preferences = &mut group.refreshes[0].preferences;
    preferences.checkpoint_percentages = vec![25, 75];
    preferences.checkpoint_delay = Some(600);
    for minute in 10..15 {
        group = pass(group, minute);
    }
    assert_eq!(old(&group), 3, "a quarter, though half might go at once");
    let resumes_at = group.refreshes[0].resumes_at.unwrap();
    assert_eq!(plan(&group, &running(&group), minutes(15)).wake_at, Some(resumes_at));
    for minute in 15..20 {
        group = pass(group, minute);
    }
    assert_eq!(old(&group), 3, "it rests for ten minutes");
    for minute in 20..40 {
        group = pass(group, minute);
    }
    assert_eq!((old(&group), status(&group)), (1, "Successful"));
}

#[test]
fn a_refresh_bakes_before_it_is_over_and_can_be_taken_back_until_then() {
    let mut group = four();
    refresh(&mut group, 0, false);
    group.refreshes[0].started_at = minutes(10);
    group.refreshes[0].preferences.bake_time = Some(1800);
    group.refreshes[0].previous = Some(Source::Template(template("1")));
    for minute in 10..20 {
        group = pass(group, minute);
    }
    assert_eq!((old(&group), status(&group)), (0, "Baking"));
    let mut taken_back = group.clone();
    let mut refresh = taken_back.refreshes.pop().unwrap();
    assert!(refresh.roll_back(&mut taken_back));
    assert_eq!(refresh.left.len(), 4);
    for minute in 20..60 {
        group = pass(group, minute);
    }
    assert_eq!(status(&group), "Successful");
}

#[test]
fn a_refresh_that_fails_goes_back_by_itself_where_that_is_asked_for() {
    for goes_back in [false, true] {
        let mut group = four();
        group.members.get_mut("i-4").unwrap().is_protected = true;
        refresh(&mut group, 50, false);
        group.refreshes[0].started_at = minutes(10);
        group.refreshes[0].preferences.auto_rollback = Some(goes_back);
        group.refreshes[0].previous = Some(Source::Template(template("1")));
        group.source = Source::Template(template("2"));
        for minute in 10..60 {
            group = pass(group, minute);
        }
        assert_eq!((old(&group), status(&group)), (1, "InProgress"), "it waits for an hour");
        for minute in 60..100 {
            group = pass(group, minute);
        }
        let expected = if goes_back { "RollbackSuccessful" } else { "Failed" };
        assert_eq!(status(&group), expected);
        let version = group.source.template().version.clone();
        assert_eq!(version, if goes_back { "1" } else { "2" });
    }
}

#[test]
fn instances_in_standby_are_waited_for_ignored_or_terminated() {
    for (preference, expected) in
        [("Wait", "Failed"), ("Ignore", "Successful"), ("Terminate", "Successful")]
    {
        let mut group = with(four(), "i-5", "b", "1");
        group.members.get_mut("i-5").unwrap().state = MemberState::Standby;
        refresh(&mut group, 0, false);
        group.refreshes[0].preferences.standby_instances = Some(preference.to_owned());
        for minute in 10..90 {
            group = pass(group, minute);
        }
        assert_eq!(status(&group), expected, "{preference}");
        assert_eq!(group.members.contains_key("i-5"), preference != "Terminate");
    }
}
