//! What must hold of `table`.

use super::*;
use crate::resources::Catalog;

fn row(group: &str, plural: &str, object: Value) -> Vec<Value> {
    let catalog = Catalog::builtin();
    let resource = catalog.all().iter().find(|it| it.is(group, plural)).unwrap().clone();
    let now = Timestamp::UNIX_EPOCH + std::time::Duration::from_secs(3600);
    let printer = printer(&resource.group, &resource.plural);
    let cells = (printer.cells)(&object, now);
    assert_eq!(cells.len(), printer.columns.len());
    cells
}

fn pod(status: Value) -> Value {
    json!({"metadata": {"name": "p", "creationTimestamp": "1970-01-01T00:00:00Z"},
           "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]},
           "status": status})
}

#[test]
fn a_pods_status_is_what_its_containers_are_at() {
    let init_failed = json!({"phase": "Pending", "initContainerStatuses": [
        {"name": "i", "state": {"terminated": {"exitCode": 3}}}]});
    let crashing = json!({"phase": "Running", "containerStatuses": [
        {"name": "a", "ready": true, "state": {"running": {}}},
        {"name": "b", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
         "lastState": {"terminated": {"finishedAt": "1970-01-01T00:59:00Z"}}}]});
    let cases = [
        (json!({"phase": "Pending"}), "0/2", "Pending", "0"),
        (json!({"phase": "Failed", "reason": "Evicted"}), "0/2", "Evicted", "0"),
        (init_failed, "0/2", "Init:ExitCode:3", "0"),
        (
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {}}]}),
            "0/2",
            "Init:0/1",
            "0",
        ),
        (crashing, "1/2", "CrashLoopBackOff", "2 (60s ago)"),
    ];
    for (status, ready, reason, restarts) in cases {
        let cells = row("", "pods", pod(status.clone()));
        assert_eq!(cells[1..4], [json!(ready), json!(reason), json!(restarts)], "{status}");
        assert_eq!(cells[4], "60m");
    }
    let mut going = pod(json!({"phase": "Running"}));
    going["metadata"]["deletionTimestamp"] = "1970-01-01T00:00:00Z".into();
    assert_eq!(row("", "pods", going)[2], "Terminating");
}

#[test]
fn a_trust_bundle_is_told_with_its_signer_and_without_an_age() {
    let bundle = |spec: Value| json!({ "metadata": { "name": "b" }, "spec": spec });
    let told = |spec: Value| row("certificates.k8s.io", "clustertrustbundles", bundle(spec));
    assert_eq!(told(json!({})), ["b", "<none>"]);
    assert_eq!(told(json!({ "signerName": "example.com/s" })), ["b", "example.com/s"]);
}

#[test]
fn durations_are_told_in_two_units_while_they_are_short() {
    for (seconds, expected) in [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (601, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (47 * 3600, "47h"),
        (49 * 3600, "2d1h"),
        (9 * 86400, "9d"),
        (800 * 86400, "2y70d"),
    ] {
        assert_eq!(text::duration(seconds), expected);
    }
}

#[test]
fn nodes_and_services_show_what_people_look_for() {
    let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": ""}},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}],
                   "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
    let cells = row("", "nodes", node);
    assert_eq!(cells[1..3], [json!("Ready,SchedulingDisabled"), json!("worker")]);
    assert_eq!(cells[5..7], [json!("10.0.0.1"), json!("<none>")]);
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "clusterIP": "10.100.0.2",
        "ports": [{"port": 80, "nodePort": 30001, "protocol": "TCP"}], "selector": {"a": "b"}}});
    let cells = row("", "services", service);
    assert_eq!(cells[3..5], [json!("<pending>"), json!("80:30001/TCP")]);
    assert_eq!(cells[6], "a=b");
}

#[test]
fn printer_columns_follow_their_paths() {
    let object = json!({"spec": {"a.b": 1}, "status": {"conditions": [
        {"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]}});
    assert_eq!(custom::find(&object, r".spec.a\.b"), 1);
    assert_eq!(custom::find(&object, r#".status.conditions[?(@.type=="Ready")].status"#), "True");
    assert_eq!(custom::find(&object, ".status.conditions[0].type"), "Other");
    assert_eq!(custom::find(&object, ".spec.missing.deep"), Value::Null);
}
