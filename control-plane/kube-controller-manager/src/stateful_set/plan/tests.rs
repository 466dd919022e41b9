//! The order in which members come, go and are replaced.

use serde_json::{Value, json};

use super::*;

fn set(replicas: i32, extra: Value) -> StatefulSet {
    let mut spec = json!({ "replicas": replicas, "serviceName": "db", "selector": {},
        "template": { "spec": { "containers": [{ "name": "c", "image": "new" }] } } });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({ "metadata": { "name": "db", "uid": "u" }, "spec": spec,
        "status": { "replicas": 0, "currentRevision": "db-old", "currentReplicas": 0 } }))
    .unwrap()
}

fn revision(name: &str) -> Arc<ControllerRevision> {
    let data = json!({ "spec": { "template": { "$patch": "replace",
        "spec": { "containers": [{ "name": "c", "image": name }] } } } });
    let value =
        json!({ "metadata": { "name": format!("db-{name}") }, "revision": 1, "data": data });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn history() -> History {
    History { current: revision("new"), hash: "new".into(), old: vec![revision("old")] }
}

fn member(ordinal: i32, revision: &str, state: &str) -> Arc<Pod> {
    let ready = if state == "ready" { "True" } else { "False" };
    let phase = if state == "failed" { "Failed" } else { "Running" };
    let deleted = (state == "leaving").then_some("2026-01-01T00:00:00Z");
    let value = json!({
        "metadata": { "name": format!("db-{ordinal}"), "deletionTimestamp": deleted,
            "labels": { HASH_LABEL: format!("db-{revision}") } },
        "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] },
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

/// What happens, as `+ordinal` and `-ordinal`.
fn steps(set: &StatefulSet, members: &[Arc<Pod>]) -> String {
    let plan = Observed::new(set, &history(), members, Timestamp::UNIX_EPOCH).plan();
    let created = plan.create.iter().map(|it| format!("+{it}"));
    let deleted = plan.delete.iter().map(|it| format!("-{}", pod::ordinal(set, it).unwrap()));
    created.chain(deleted).collect::<Vec<_>>().join(" ")
}

#[test]
fn members_come_in_order_and_go_in_reverse() {
    let ordered = set(3, json!({}));
    let ready = |ordinal| member(ordinal, "new", "ready");
    for (what, members, expected) in [
        ("none", vec![], "+0"),
        ("the first is coming", vec![member(0, "new", "coming")], ""),
        ("the first serves", vec![ready(0)], "+1"),
        ("the first fell ill", vec![member(0, "new", "coming"), ready(1)], ""),
        ("one failed", vec![ready(0), member(1, "new", "failed"), ready(2)], "-1"),
        ("one is leaving", vec![ready(0), member(1, "new", "leaving"), ready(2)], ""),
        ("all serve", vec![ready(0), ready(1), ready(2)], ""),
        ("two too many", vec![ready(0), ready(1), ready(2), ready(3), ready(4)], "-4"),
        (
            "one is going",
            vec![ready(0), ready(1), ready(2), ready(3), member(4, "new", "leaving")],
            "",
        ),
    ] {
        assert_eq!(steps(&ordered, &members), expected, "{what}");
    }
}

#[test]
fn in_parallel_all_come_and_go_at_once() {
    let parallel = set(3, json!({ "podManagementPolicy": "Parallel" }));
    assert_eq!(steps(&parallel, &[member(1, "new", "coming")]), "+0 +2");
    let five: Vec<_> = (0..5).map(|it| member(it, "new", "ready")).collect();
    assert_eq!(steps(&parallel, &five), "-4 -3");
}

#[test]
fn an_update_goes_down_to_the_partition_one_by_one() {
    let old = |ordinal| member(ordinal, "old", "ready");
    let new = |ordinal| member(ordinal, "new", "ready");
    let rolling = set(3, json!({}));
    assert_eq!(steps(&rolling, &[old(0), old(1), old(2)]), "-2");
    assert_eq!(steps(&rolling, &[old(0), old(1), member(2, "new", "coming")]), "");
    assert_eq!(steps(&rolling, &[old(0), old(1), new(2)]), "-1");
    assert_eq!(steps(&rolling, &[new(0), new(1), new(2)]), "");
    let partition = json!({ "updateStrategy": { "type": "RollingUpdate",
        "rollingUpdate": { "partition": 2 } } });
    let partitioned = set(3, partition);
    assert_eq!(steps(&partitioned, &[old(0), old(1), new(2)]), "");
    let by_hand = set(3, json!({ "updateStrategy": { "type": "OnDelete" } }));
    assert_eq!(steps(&by_hand, &[old(0), old(1), old(2)]), "");
}

#[test]
fn below_the_partition_a_member_comes_back_as_it_was() {
    let partition = json!({ "updateStrategy": { "type": "RollingUpdate",
        "rollingUpdate": { "partition": 2 } } });
    let set = set(3, partition);
    let observed = Observed::new(&set, &history(), &[], Timestamp::UNIX_EPOCH);
    let image = |ordinal| {
        let (template, revision) = observed.version_of(ordinal);
        (template.spec.unwrap().containers[0].image.clone().unwrap(), revision.to_owned())
    };
    assert_eq!(image(1), ("old".to_owned(), "db-old".to_owned()));
    assert_eq!(image(2), ("new".to_owned(), "db-new".to_owned()));
}

#[test]
fn ordinals_may_begin_anywhere() {
    let set = set(2, json!({ "ordinals": { "start": 5 } }));
    assert_eq!(steps(&set, &[]), "+5");
    assert_eq!(
        steps(
            &set,
            &[member(5, "new", "ready"), member(6, "new", "ready"), member(0, "new", "ready")]
        ),
        "-0"
    );
}

#[test]
fn a_set_shrinks_past_no_member_that_is_not_well_but_the_first_of_those() {
    let none = set(0, json!({}));
    let all = |states: [&str; 3]| -> Vec<_> {
        (0..).zip(states).map(|(ordinal, state)| member(ordinal, "new", state)).collect()
    };
    assert_eq!(steps(&none, &all(["ready", "ready", "ready"])), "-2");
    assert_eq!(steps(&none, &all(["unready", "unready", "unready"])), "");
    assert_eq!(steps(&none, &all(["ready", "ready", "unready"])), "-2");
    assert_eq!(steps(&none, &all(["ready", "unready", "ready"])), "-2");
    let parallel = set(0, json!({ "podManagementPolicy": "Parallel" }));
    assert_eq!(steps(&parallel, &all(["unready", "unready", "unready"])), "-2 -1 -0");
}

#[test]
fn max_unavailable_does_not_make_an_update_faster() {
    let update = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 2 } });
    for policy in ["OrderedReady", "Parallel"] {
        let set = set(4, json!({ "podManagementPolicy": policy, "updateStrategy": update }));
        let old = |ordinal| member(ordinal, "old", "ready");
        assert_eq!(steps(&set, &[old(0), old(1), old(2), old(3)]), "-3", "{policy}");
        let coming = member(3, "new", "coming");
        assert_eq!(steps(&set, &[old(0), old(1), old(2), coming]), "", "{policy}");
    }
}
