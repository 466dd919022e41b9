//! Where daemon pods come and go, and how an update replaces them.

use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn set(rolling: Value) -> DaemonSet {
    serde_json::from_value(json!({
        "metadata": { "name": "ds", "namespace": "default", "uid": "u" },
        "spec": { "selector": {}, "template": { "spec": { "containers": [] } },
            "updateStrategy": rolling },
    }))
    .unwrap()
}

fn nodes(names: &[&str]) -> Vec<Arc<Node>> {
    let node = |name: &&str| {
        Arc::new(
            serde_json::from_value(json!({ "metadata": { "name": name }, "spec": {} })).unwrap(),
        )
    };
    names.iter().map(node).collect()
}

fn pod(node: &str, hash: &str, ready: bool) -> Arc<Pod> {
    let status = if ready { "True" } else { "False" };
    let value = json!({
        "metadata": { "name": format!("{node}-{hash}"), "uid": format!("{node}-{hash}"),
            "labels": { HASH_LABEL: hash } },
        "spec": { "containers": [], "nodeName": node },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": status,
            "lastTransitionTime": "1970-01-01T00:00:00Z" }] },
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
    pods.iter().map(|it| it.metadata.name.as_deref().unwrap()).collect()
}

fn run(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Plan {
    Observed::new(set, nodes, pods, "new", NOW).plan()
}

#[test]
fn every_node_gets_one_pod_and_surplus_goes() {
    let set = set(json!({ "type": "OnDelete" }));
    let plan = run(&set, &nodes(&["a", "b"]), &[pod("a", "new", true), pod("a", "old", true)]);
    assert_eq!(plan.create, ["b"]);
    assert_eq!(plan.delete.len(), 1);
    let gone = run(&set, &nodes(&["a"]), &[pod("a", "new", true), pod("z", "new", true)]);
    assert_eq!(gone, Plan::default(), "pods of a node that is gone are somebody else's");
}

#[test]
fn a_failed_pod_is_replaced_after_it_is_gone() {
    let set = set(json!({ "type": "RollingUpdate" }));
    let mut failed = (*pod("a", "new", false)).clone();
    failed.status.as_mut().unwrap().phase = Some("Failed".into());
    let plan = run(&set, &nodes(&["a"]), &[failed.into()]);
    assert_eq!((plan.create.len(), names(&plan.delete)), (0, vec!["a-new"]));
    assert_eq!(plan.failed.len(), 1);
}

#[test]
fn an_update_takes_down_what_does_not_serve_and_as_many_more_as_allowed() {
    let rolling = |count: i32| {
        set(json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": count } }))
    };
    let nodes = nodes(&["a", "b", "c", "d"]);
    let all_serve = ["a", "b", "c", "d"].map(|it| pod(it, "old", true));
    assert_eq!(names(&run(&rolling(2), &nodes, &all_serve).delete), ["a-old", "b-old"]);
    let one_broken = [
        pod("a", "old", true),
        pod("b", "old", false),
        pod("c", "old", true),
        pod("d", "new", true),
    ];
    assert_eq!(names(&run(&rolling(1), &nodes, &one_broken).delete), ["b-old"]);
    let one_coming = [
        pod("a", "new", false),
        pod("b", "old", true),
        pod("c", "old", true),
        pod("d", "old", true),
    ];
    assert_eq!(names(&run(&rolling(1), &nodes, &one_coming).delete), [] as [&str; 0]);
    assert_eq!(names(&run(&rolling(2), &nodes, &one_coming).delete), ["b-old"]);
}

#[test]
fn with_a_surge_the_new_pod_comes_first_and_the_old_one_goes_when_it_serves() {
    let set = set(json!({ "type": "RollingUpdate",
        "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } }));
    let nodes = nodes(&["a", "b"]);
    let start = run(&set, &nodes, &[pod("a", "old", true), pod("b", "old", true)]);
    assert_eq!((start.create, start.delete.len()), (vec!["a".to_owned()], 0));
    let coming = [pod("a", "old", true), pod("a", "new", false), pod("b", "old", true)];
    assert_eq!(run(&set, &nodes, &coming), Plan::default());
    let serving = [pod("a", "old", true), pod("a", "new", true), pod("b", "old", true)];
    assert_eq!(names(&run(&set, &nodes, &serving).delete), ["a-old"]);
}
