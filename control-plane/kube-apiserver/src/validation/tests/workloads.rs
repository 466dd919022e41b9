//! What must hold of the validation of what makes pods, and of what is in front of them.

use serde_json::{Value, json};

use super::{changes, faults, template};

fn workload(change: Value) -> Value {
    let mut spec = json!({
        "selector": { "matchLabels": { "a": "b" } }, "template": template(json!({ "a": "b" })),
    });
    spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    json!({ "metadata": { "name": "w", "uid": "u" }, "spec": spec })
}

#[test]
fn what_rolls_goes_on_in_some_direction() {
    let rolling = |plural: &str, field: &str, rolling: Value| {
        let strategy = json!({ "type": "RollingUpdate", "rollingUpdate": rolling });
        faults("apps", plural, workload(json!({ field: strategy })))
    };
    let still = json!({ "maxUnavailable": 0, "maxSurge": "0%" });
    assert_eq!(
        rolling("deployments", "strategy", still.clone()),
        [
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"
        ]
    );
    assert_eq!(
        rolling("deployments", "strategy", json!({ "maxUnavailable": "101%" })),
        [
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%"
        ]
    );
    assert_eq!(
        rolling("daemonsets", "updateStrategy", still),
        [
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"
        ]
    );
    assert_eq!(
        rolling("daemonsets", "updateStrategy", json!({ "maxUnavailable": 1, "maxSurge": 1 })),
        [
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"
        ]
    );
    assert_eq!(
        rolling("statefulsets", "updateStrategy", json!({ "maxUnavailable": 0 })),
        ["spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0"]
    );
}

#[test]
fn a_stateful_sets_pods_may_mount_what_its_claims_become() {
    let mut set = workload(json!({ "ordinals": { "start": -1 } }));
    set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{ "name": "data", "mountPath": "/data" }]);
    assert_eq!(
        faults("apps", "statefulsets", set),
        ["spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0"]
    );
}

#[test]
fn labels_of_a_template_are_told_as_its_own() {
    let mut deployment = workload(json!({}));
    deployment["spec"]["template"]["metadata"]["labels"]["x"] = "a b".into();
    let found = faults("apps", "deployments", deployment);
    assert!(found[0].starts_with("spec.template.labels: Invalid value: \"a b\""), "{found:?}");
}

fn job(change: Value) -> Value {
    let mut job = workload(change);
    if job["spec"]["template"]["spec"]["restartPolicy"].is_null() {
        job["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
    }
    job["spec"].as_object_mut().unwrap().remove("selector");
    crate::jobs::generate_selector(&mut job);
    job
}

#[test]
fn a_jobs_pods_end() {
    let of = |policy: &str| {
        let mut job = job(json!({}));
        job["spec"]["template"]["spec"]["restartPolicy"] = policy.into();
        faults("batch", "jobs", job)
    };
    assert_eq!(of("OnFailure"), [""; 0]);
    assert_eq!(
        of("Always"),
        [
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
        ]
    );
}

#[test]
fn what_a_job_says_of_itself_is_what_the_server_would() {
    let mut mine = workload(json!({}));
    mine["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
    mine["spec"].as_object_mut().unwrap().remove("selector");
    mine["spec"]["template"]["metadata"]["labels"]["job-name"] = "other".into();
    crate::jobs::generate_selector(&mut mine);
    let found = faults("batch", "jobs", mine);
    assert!(found[0].starts_with("spec.template.metadata.labels[job-name]: Invalid value"));
    assert!(found[0].ends_with("must be 'w'"), "{found:?}");
}

#[test]
fn an_indexed_job_counts_and_others_do_not() {
    let of = |change: Value| faults("batch", "jobs", job(change));
    assert_eq!(
        of(json!({ "backoffLimitPerIndex": 1 })),
        ["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"]
    );
    let indexed = |more: Value| {
        let mut change = json!({ "completionMode": "Indexed", "completions": 3 });
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of(change)
    };
    assert_eq!(
        indexed(json!({ "parallelism": 100_001 })),
        [
            "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed"
        ]
    );
    assert_eq!(
        indexed(json!({ "successPolicy": { "rules": [{ "succeededIndexes": "0-3" }] } })),
        [
            "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"0-3\": error parsing succeededIndexes: too large index: \"3\""
        ]
    );
    let rule =
        json!({ "action": "FailJob", "onExitCodes": { "operator": "In", "values": [2, 0] } });
    let found = of(json!({ "podFailurePolicy": { "rules": [rule] } }));
    let at = "spec.podFailurePolicy.rules[0].onExitCodes.values";
    assert_eq!(
        found,
        [
            format!("{at}[1]: Invalid value: 0: must not be 0 for the In operator"),
            format!("{at}: Invalid value: [2,0]: must be ordered"),
        ]
    );
    let (old, mut new) = (job(json!({})), job(json!({})));
    new["spec"]["podFailurePolicy"] = json!({ "rules": [] });
    let found = changes("batch", "jobs", old, new);
    assert!(found.iter().any(|it| it.starts_with("spec.podFailurePolicy: Invalid value")));
}

#[test]
fn a_suspended_jobs_pods_may_still_be_placed_and_sized() {
    let suspended = |change: Value| {
        let mut job = job(json!({ "suspend": true }));
        let spec = job["spec"]["template"]["spec"].as_object_mut().unwrap();
        spec.extend(change.as_object().unwrap().clone());
        job
    };
    let of = |change: Value| changes("batch", "jobs", suspended(json!({})), suspended(change));
    assert_eq!(of(json!({ "nodeSelector": { "a": "b" } })), [""; 0]);
    let sized = json!([{ "name": "a", "image": "x", "resources": { "requests": { "cpu": "2" } } }]);
    assert_eq!(of(json!({ "containers": sized })), [""; 0]);
    let found = of(json!({ "hostname": "other" }));
    assert!(found[0].starts_with("spec.template: Invalid value"), "{found:?}");
}

#[test]
fn an_autoscalers_metrics_are_of_the_kind_that_they_say() {
    let scaler = |change: Value| {
        let mut spec = json!({
            "maxReplicas": 2, "scaleTargetRef": { "kind": "Deployment", "name": "d" },
        });
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        faults(
            "autoscaling",
            "horizontalpodautoscalers",
            json!({ "metadata": { "name": "h" }, "spec": spec }),
        )
    };
    assert_eq!(scaler(json!({})), [""; 0]);
    let target = json!({ "type": "Utilization", "averageUtilization": 0 });
    let metric = json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } });
    assert_eq!(
        scaler(json!({ "metrics": [metric] })),
        [
            "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0"
        ]
    );
    let other = json!({ "type": "Pods", "resource": metric["resource"] });
    let found = scaler(json!({ "metrics": [other] }));
    assert!(found.contains(
        &"spec.metrics[0].pods: Required value: must populate information for the given metric source".to_owned()
    ));
    assert_eq!(
        scaler(json!({ "behavior": { "scaleUp": { "stabilizationWindowSeconds": 3601,
            "policies": [{ "type": "Pods", "value": 1, "periodSeconds": 1801 }] } } })),
        [
            "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
            "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
        ]
    );
}

#[test]
fn an_ingress_has_hosts_paths_and_somewhere_to_go() {
    let of = |spec: Value| {
        faults(
            "networking.k8s.io",
            "ingresses",
            json!({ "metadata": { "name": "i" }, "spec": spec }),
        )
    };
    let backend = json!({ "service": { "name": "s", "port": { "number": 80 } } });
    let rule = |host: &str, path: &str| {
        let path = json!({ "path": path, "pathType": "Prefix", "backend": backend });
        of(json!({ "rules": [{ "host": host, "http": { "paths": [path] } }] }))
    };
    assert_eq!(rule("*.example.com", "/a"), [""; 0]);
    assert_eq!(
        rule("10.0.0.1", "/a"),
        ["spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address"]
    );
    assert_eq!(
        rule("a", "/a//b/.."),
        [
            "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b/..\": must not contain '//'",
            "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b/..\": cannot end with '/..'",
        ]
    );
    assert_eq!(
        of(json!({ "defaultBackend": {} })),
        ["spec.defaultBackend: Invalid value: \"\": resource or service backend is required"]
    );
}

#[test]
fn a_slice_has_addresses_that_others_can_reach() {
    let of = |endpoint: Value| {
        let slice = json!({
            "metadata": { "name": "s" }, "addressType": "IPv4", "endpoints": [endpoint],
        });
        faults("discovery.k8s.io", "endpointslices", slice)
    };
    assert_eq!(of(json!({ "addresses": ["10.0.0.1"] })), [""; 0]);
    assert_eq!(
        of(json!({ "addresses": ["127.0.0.1"], "nodeName": "A" })).len(),
        2,
        "a loopback address, and a name that is none"
    );
    let zones: Vec<_> = (0..9).map(|it| json!({ "name": format!("z{it}") })).collect();
    assert_eq!(
        of(json!({ "addresses": ["10.0.0.1"], "hints": { "forZones": zones } })),
        ["endpoints[0].hints.forZones: Too many: 9: must have at most 8 items"]
    );
}

#[test]
fn owners_are_told_without_their_place() {
    let owner = |kind: &str, name: &str| json!({ "apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": true });
    let map = json!({ "metadata": { "name": "c", "ownerReferences": [
        owner("Pod", "a"), owner("Node", "b"), { "apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u" },
    ] } });
    let found = faults("", "configmaps", map);
    assert!(found[0].ends_with(
        "Only one reference can have Controller set to true. Found \"true\" in references for Pod/a and Node/b"
    ), "{found:?}");
    assert!(found[1].ends_with("/v1, Kind=Event is disallowed from being an owner"), "{found:?}");
    let found =
        faults("", "configmaps", json!({ "metadata": { "name": "c", "finalizers": ["mine"] } }));
    assert_eq!(
        found,
        [
            "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified"
        ]
    );
    let found =
        faults("", "configmaps", json!({ "metadata": { "name": "a1", "generateName": "AB-" } }));
    assert!(found[0].starts_with("metadata.generateName: Invalid value: \"AB-\""), "{found:?}");
}
