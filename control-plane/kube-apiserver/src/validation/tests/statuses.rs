//! What must hold of statuses, and of how they change.

use serde_json::{Value, json};

use super::resource;
use crate::{strategy::Part, validation::update};

fn told(group: &str, plural: &str, old: &Value, new: &Value) -> Vec<String> {
    let found = update(&resource(group, plural), Part::Status, old, new).0;
    found.iter().map(ToString::to_string).collect()
}

fn of(status: Value) -> Value {
    json!({ "metadata": { "name": "a" }, "spec": {}, "status": status })
}

#[test]
fn a_container_that_ended_and_does_not_restart_stays_ended() {
    let pod = |policy: &str, state: Value| {
        let statuses = json!([{ "name": "c", "state": state }]);
        json!({
            "metadata": { "name": "p" }, "status": { "containerStatuses": statuses },
            "spec": { "restartPolicy": policy, "containers": [{ "name": "c" }] },
        })
    };
    let (ended, runs) = (json!({ "terminated": { "exitCode": 0 } }), json!({ "running": {} }));
    let of =
        |policy: &str| told("", "pods", &pod(policy, ended.clone()), &pod(policy, runs.clone()));
    let why = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state";
    assert_eq!(of("Always"), [""; 0]);
    assert_eq!(of("Never"), [why]);
    assert_eq!(of("OnFailure"), [why]);
}

#[test]
fn a_pods_addresses_are_one_of_each_family() {
    let pod = |ips: Value, host: &str| {
        of(json!({ "podIPs": ips, "hostIP": host, "hostIPs": [{ "ip": "10.0.0.1" }] }))
    };
    let of = |ips: Value, host: &str| told("", "pods", &of(json!({})), &pod(ips, host));
    let two = json!([{ "ip": "10.0.0.2" }, { "ip": "2001:db8::2" }]);
    assert_eq!(of(two, "10.0.0.1"), [""; 0]);
    let found = of(json!([{ "ip": "10.0.0.2" }, { "ip": "10.0.0.3" }]), "10.0.0.1");
    assert!(found[0].ends_with("may specify no more than one IP for each IP family"), "{found:?}");
    assert_eq!(
        of(json!([]), "10.0.0.9"),
        ["status.hostIPs[0].ip: Invalid value: \"10.0.0.1\": must be equal to `hostIP`"]
    );
}

#[test]
fn no_more_replicas_are_ready_than_there_are() {
    let found = told(
        "apps",
        "deployments",
        &of(json!({ "collisionCount": 2 })),
        &of(
            json!({ "replicas": 1, "readyReplicas": 2, "availableReplicas": -1, "collisionCount": 1 }),
        ),
    );
    assert_eq!(
        found,
        [
            "status.availableReplicas: Invalid value: -1: must be greater than or equal to 0",
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.collisionCount: Invalid value: 1: cannot be decremented",
        ]
    );
}

#[test]
fn the_time_of_a_job_begins_anew_only_when_it_goes_on() {
    let job = |start: &str, suspended: &str| {
        let condition = json!({ "type": "Suspended", "status": suspended });
        of(json!({ "startTime": start, "conditions": [condition] }))
    };
    let (first, second) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
    let told = |old: &Value, new: &Value| told("batch", "jobs", old, new);
    assert_eq!(told(&job(first, "True"), &job(second, "False")), [""; 0]);
    assert_eq!(
        told(&job(first, "False"), &job(second, "False")),
        ["status.startTime: Required value: startTime cannot be removed for unsuspended job"]
    );
}

#[test]
fn a_job_ends_once_with_its_reason_first() {
    let job = |conditions: &[&str], more: Value| {
        let all: Vec<_> =
            conditions.iter().map(|it| json!({ "type": it, "status": "True" })).collect();
        let mut status = json!({ "conditions": all, "startTime": "2026-01-01T00:00:00Z" });
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of(status)
    };
    let done = json!({ "completionTime": "2026-01-01T00:00:01Z" });
    let told = |old: &Value, new: &Value| told("batch", "jobs", old, new);
    let runs = job(&[], json!({}));
    let met = job(&["SuccessCriteriaMet"], json!({}));
    let complete = job(&["SuccessCriteriaMet", "Complete"], done.clone());
    assert_eq!(told(&runs, &met), [""; 0]);
    assert_eq!(told(&met, &complete), [""; 0]);
    let at = "status.conditions: Invalid value";
    assert_eq!(
        told(&runs, &job(&["Complete"], done.clone())),
        [format!(
            "{at}: cannot set Complete=True condition without the SuccessCriteriaMet=true condition"
        )]
    );
    assert_eq!(
        told(&runs, &job(&["Failed"], json!({}))),
        [format!(
            "{at}: cannot set Failed=True condition without the FailureTarget=true condition"
        )]
    );
    let found = told(&complete, &met);
    assert!(found.contains(&format!("{at}: cannot disable the terminal Complete=True condition")));
    let mut busy = done;
    busy["active"] = 1.into();
    assert_eq!(
        told(&met, &job(&["SuccessCriteriaMet", "Complete"], busy)),
        ["status.active: Invalid value: 1: active>0 is invalid for finished job"]
    );
}

#[test]
fn a_namespaces_phase_is_that_of_its_deletion() {
    let found = told("", "namespaces", &of(json!({})), &of(json!({ "phase": "Terminating" })));
    assert_eq!(
        found,
        [
            "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
        ]
    );
}

#[test]
fn only_a_load_balancer_is_reached_at_an_address_of_its_own() {
    let service = |kind: &str, ingress: Value| {
        json!({
            "metadata": { "name": "s" }, "spec": { "type": kind },
            "status": { "loadBalancer": { "ingress": [ingress] } },
        })
    };
    let of =
        |kind: &str, ingress: Value| told("", "services", &of(json!({})), &service(kind, ingress));
    assert_eq!(of("LoadBalancer", json!({ "ip": "1.2.3.4", "ipMode": "VIP" })), [""; 0]);
    assert_eq!(of("LoadBalancer", json!({ "hostname": "a.example.com" })), [""; 0]);
    assert_eq!(
        of("LoadBalancer", json!({ "ip": "1.2.3.4" })),
        [
            "status.loadBalancer.ingress[0].ipMode: Required value: must be specified when `ip` is set"
        ]
    );
    assert_eq!(
        of("ClusterIP", json!({ "ip": "1.2.3.4" })),
        [
            "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
        ]
    );
}
