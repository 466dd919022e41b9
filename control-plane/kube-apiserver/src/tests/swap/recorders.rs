//! Recorders of events, of both groups.

use super::*;

const NEW: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const OLD: &str = "/api/v1/namespaces/default/events";

#[tokio::test]
async fn a_recorder_of_the_newer_group_finds_it_and_counts_by_a_series() {
    let cluster = cluster().await;
    let scheduler = Component::new(&cluster, "system:kube-scheduler");
    let found = done(scheduler.ask("GET", "/apis/events.k8s.io/v1").await);
    assert_eq!(
        (&found["kind"], &found["resources"][0]["name"]),
        (&json!("APIResourceList"), &json!("events"))
    );
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "p.17b", "namespace": "default"},
        "eventTime": "2026-11-30T12:00:00.123456Z", "type": "Warning",
        "reason": "FailedScheduling", "action": "Scheduling", "note": "0/3 nodes are available",
        "reportingController": "default-scheduler",
        "reportingInstance": "default-scheduler-host",
        "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "p"},
    });
    done(scheduler.write("POST", NEW, &event).await);
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-11-30T12:01:00.000001Z"}});
    let path = format!("{NEW}/p.17b");
    let counted = done(scheduler.patch(&path, STRATEGIC, &series).await);
    assert_eq!(counted["series"], series["series"]);
    let shown = cluster.get(&format!("{OLD}/p.17b")).await;
    assert_eq!((&shown["message"], &shown["series"]["count"]), (&event["note"], &json!(2)));
}

#[tokio::test]
async fn a_recorder_of_the_core_group_counts_by_a_patch() {
    let cluster = cluster().await;
    let manager = Component::controller(&cluster, "replicaset-controller");
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "rs.17c", "namespace": "default"},
        "involvedObject": {"apiVersion": "apps/v1", "kind": "ReplicaSet", "namespace": "default",
            "name": "rs"},
        "reason": "SuccessfulCreate", "message": "Created pod: rs-1", "type": "Normal", "count": 1,
        "source": {"component": "replicaset-controller"},
        "firstTimestamp": "2026-11-30T12:00:00Z", "lastTimestamp": "2026-11-30T12:00:00Z",
        "eventTime": null, "reportingComponent": "replicaset-controller", "reportingInstance": "",
    });
    done(manager.write("POST", OLD, &event).await);
    let patch = json!({"count": 2, "lastTimestamp": "2026-11-30T12:00:09Z"});
    let counted = done(manager.patch(&format!("{OLD}/rs.17c"), STRATEGIC, &patch).await);
    assert_eq!(
        (&counted["count"], &counted["lastTimestamp"]),
        (&json!(2), &patch["lastTimestamp"])
    );
}
