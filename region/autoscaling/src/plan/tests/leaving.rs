//! Who stays until somebody serves in their place.

use super::*;

fn three() -> Group {
    let mut group = group(3);
    for (id, zone) in [("i-1", "a"), ("i-2", "b"), ("i-3", "c")] {
        group = with(group, id, zone, "1");
    }
    group
}

#[test]
fn a_spot_instance_at_risk_is_replaced_before_it_goes_where_that_is_asked_for() {
    let mut group = three();
    group.max = 3;
    group.members.get_mut("i-2").unwrap().is_spot = true;
    let observed =
        |group: &Group| Observed { at_risk: ["i-2".to_owned()].into(), ..running(group) };
    let ignored = plan(&group, &observed(&group), minutes(10)).group;
    assert_eq!(kinds(&ignored), (0, 0), "nobody has asked for it");
    group.capacity_rebalance = true;
    let first = plan(&group, &observed(&group), minutes(10)).group;
    assert_eq!(kinds(&first), (1, 0), "one more, a tenth beyond the group's most");
    let again = plan(&first, &observed(&first), minutes(10)).group;
    assert_eq!(again, first);
    let followed = follow(first, minutes(11));
    let second = plan(&followed, &observed(&followed), minutes(12));
    assert_eq!(terminating(&second.group), ["i-2"]);
    assert!(second.activities[0].cause.contains("rebalance recommendation"));
    assert_eq!(kinds(&second.group), (0, 1), "and nobody else is launched");
}

#[test]
fn a_maintenance_policy_that_lets_nobody_be_missed_has_others_launched_first() {
    let mut group = three();
    group.healthy_percentages = Some((100, 110));
    let ill = group.members.get_mut("i-1").unwrap();
    (ill.is_healthy, ill.unhealthy_by) = (false, Unhealthy::User);
    let first = plan(&group, &running(&group), minutes(10)).group;
    assert_eq!(kinds(&first), (1, 0));
    let followed = follow(first, minutes(11));
    assert_eq!(terminating(&plan(&followed, &running(&followed), minutes(12)).group), ["i-1"]);

    // What has stopped serves nobody while it is waited for.
    let stopped = observed(&[("i-1", "stopped"), ("i-2", "running"), ("i-3", "running")]);
    let mut group = three();
    group.healthy_percentages = Some((100, 110));
    assert_eq!(kinds(&plan(&group, &stopped, minutes(10)).group), (1, 1));

    let mut group = three();
    group.healthy_percentages = Some((100, 110));
    group.max_instance_lifetime = Some(86_400);
    let late = START + SignedDuration::from_hours(25);
    let first = plan(&group, &running(&group), late).group;
    assert_eq!(kinds(&first), (1, 0));
    let followed = follow(first, late);
    assert_eq!(terminating(&plan(&followed, &running(&followed), late).group), ["i-1"]);
}
