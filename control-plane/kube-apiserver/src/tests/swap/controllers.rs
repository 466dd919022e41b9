//! The controllers of upstream, each with its own service account: what they write.

use super::*;

const PODS: &str = "/api/v1/namespaces/default/pods";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn workload(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": name, "namespace": "default", "labels": {"a": "b"}},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "x"}]},
            },
        },
    })
}

fn owner(kind: &str, object: &Value) -> Value {
    json!([{
        "apiVersion": "apps/v1", "kind": kind, "name": object["metadata"]["name"],
        "uid": object["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
    }])
}

#[tokio::test]
async fn the_controllers_of_upstream_make_a_deployments_pods_and_take_them_away() {
    let cluster = cluster().await.with_default_account().await;
    let made = cluster.made(DEPLOYMENTS, workload("Deployment", "web")).await;
    let deployments = Component::controller(&cluster, "deployment-controller");
    let mut set = workload("ReplicaSet", "web-1");
    set["metadata"]["ownerReferences"] = owner("Deployment", &made);
    let set = done(deployments.write("POST", SETS, &set).await);
    let mut changed = done(deployments.ask("GET", &format!("{DEPLOYMENTS}/web")).await);
    changed["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "1"});
    let mut changed = done(deployments.write("PUT", &format!("{DEPLOYMENTS}/web"), &changed).await);
    changed["status"] = json!({"observedGeneration": 1, "replicas": 1, "unavailableReplicas": 1,
        "conditions": [{"type": "Progressing", "status": "True", "reason": "R", "message": "m",
            "lastUpdateTime": "2026-11-30T12:00:00Z", "lastTransitionTime": "2026-11-30T12:00:00Z"}]});
    done(deployments.write("PUT", &format!("{DEPLOYMENTS}/web/status"), &changed).await);

    let sets = Component::controller(&cluster, "replicaset-controller");
    let mut wanted = pod("");
    wanted["metadata"] = json!({"generateName": "web-1-", "namespace": "default",
        "labels": {"a": "b"}, "ownerReferences": owner("ReplicaSet", &set)});
    let made = done(sets.write("POST", PODS, &wanted).await);
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-1-") && name.len() > "web-1-".len());
    let mut told = set.clone();
    told["status"] = json!({"replicas": 1, "fullyLabeledReplicas": 1, "observedGeneration": 1});
    done(sets.write("PUT", &format!("{SETS}/web-1/status"), &told).await);
    let adopted = json!({"metadata": {"uid": made["metadata"]["uid"],
        "ownerReferences": owner("ReplicaSet", &set), "finalizers": []}});
    let path = format!("{PODS}/{name}");
    done(sets.patch(&path, STRATEGIC, &adopted).await);
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    done(sets.write("DELETE", &path, &options).await);
    let options = json!({"apiVersion": "apps/v1", "kind": "DeleteOptions"});
    done(deployments.write("DELETE", &format!("{SETS}/web-1"), &options).await);
}

#[tokio::test]
async fn the_garbage_collector_of_upstream_deletes_what_it_looked_at_and_frees_who_waits() {
    let cluster = cluster().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({"metadata": {"name": "m", "finalizers": ["orphan", "example.com/a"]}});
    let made = cluster.made(maps, map).await;
    let collector = Component::controller(&cluster, "generic-garbage-collector");
    let path = format!("{maps}/m");
    let (head, body) = collector.send("GET", &path, &[(ACCEPT, METADATA)], "").await;
    let (_, seen) = read(&path, &head, &body);
    assert_eq!(
        (&seen["kind"], &seen["metadata"]["uid"]),
        (&json!("PartialObjectMetadata"), &made["metadata"]["uid"])
    );
    let patch = json!({"metadata": {"uid": made["metadata"]["uid"],
        "resourceVersion": made["metadata"]["resourceVersion"], "finalizers": ["example.com/a"]}});
    let headers = [(CONTENT_TYPE, "application/merge-patch+json"), (ACCEPT, METADATA)];
    let (head, body) = collector.send("PATCH", &path, &headers, patch.to_string()).await;
    let freed = done(read(&path, &head, &body));
    assert_eq!(freed["metadata"]["finalizers"], json!(["example.com/a"]));
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1",
        "propagationPolicy": "Background", "preconditions": {"uid": "another",
        "resourceVersion": freed["metadata"]["resourceVersion"]}});
    let headers = [(CONTENT_TYPE, "application/json"), (ACCEPT, ACCEPTED)];
    let (head, body) = collector.send("DELETE", &path, &headers, options.to_string()).await;
    assert_eq!(read(&path, &head, &body).0, 409);
    let mut options = options;
    options["preconditions"]["uid"] = made["metadata"]["uid"].clone();
    let (head, body) = collector.send("DELETE", &path, &headers, options.to_string()).await;
    done(read(&path, &head, &body));
}

#[tokio::test]
async fn the_namespace_controller_of_upstream_empties_a_namespace_and_lets_it_go() {
    let cluster = cluster().await;
    cluster.made("/api/v1/namespaces", json!({"metadata": {"name": "gone"}})).await;
    let maps = "/api/v1/namespaces/gone/configmaps";
    cluster.made(maps, json!({"metadata": {"name": "m"}})).await;
    cluster.delete("/api/v1/namespaces/gone").await;
    let controller = Component::controller(&cluster, "namespace-controller");
    let mut space = done(controller.ask("GET", "/api/v1/namespaces/gone").await);
    assert_eq!(space["status"]["phase"], "Terminating");
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1",
        "propagationPolicy": "Background"});
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (ACCEPT, "application/vnd.kubernetes.protobuf,application/json"),
    ];
    let (head, _) = controller.send("DELETE", maps, &headers, options.to_string()).await;
    assert_eq!(head.status, 200);
    let (head, body) = controller.send("GET", maps, &[(ACCEPT, METADATA_LIST)], "").await;
    assert!(done(read(maps, &head, &body))["items"].as_array().is_none_or(Vec::is_empty));
    let at = "2026-11-30T12:00:00Z";
    space["status"]["conditions"] = json!([{"type": "NamespaceContentRemaining", "status": "False",
        "reason": "ContentRemoved", "message": "m", "lastTransitionTime": at}]);
    let mut space = done(controller.write("PUT", "/api/v1/namespaces/gone/status", &space).await);
    space["spec"] = json!({});
    done(controller.write("PUT", "/api/v1/namespaces/gone/finalize", &space).await);
    assert_eq!(cluster.get("/api/v1/namespaces/gone").await["code"], 404);
}

#[tokio::test]
async fn the_controllers_of_upstream_apply_what_they_say_of_others_objects() {
    let cluster = cluster().await.with_default_account().await;
    let mut wanted = pod("p");
    wanted["spec"]["resourceClaims"] = json!([{"name": "gpu", "resourceClaimTemplateName": "gpu"}]);
    let made = cluster.made(PODS, wanted).await;
    let apply = "application/apply-patch+yaml";
    let of = |kind: &str, version: &str, name: &str, status: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "status": status});
    let ranges = Component::controller(&cluster, "service-cidrs-controller");
    let ready = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "",
        "message": "Kubernetes Service CIDR is ready", "lastTransitionTime": "2026-11-30T12:00:00Z"}]});
    let body = of("ServiceCIDR", "networking.k8s.io/v1", "kubernetes", ready);
    let path = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes/status\
                ?fieldManager=service-cidr-controller&force=true";
    done(ranges.patch(path, apply, &body).await);
    let claims = Component::controller(&cluster, "resource-claim-controller");
    let body = of(
        "Pod",
        "v1",
        "p",
        json!({"resourceClaimStatuses": [
            {"name": "gpu", "resourceClaimName": "p-gpu-1"},
        ]}),
    );
    let path = format!("{PODS}/p/status?fieldManager=ResourceClaimController&force=true");
    let told = done(claims.patch(&path, apply, &body).await);
    assert_eq!(told["status"]["resourceClaimStatuses"][0]["resourceClaimName"], "p-gpu-1");
    assert_eq!(told["metadata"]["uid"], made["metadata"]["uid"]);
}

#[tokio::test]
async fn the_job_controller_of_upstream_lets_a_finished_pod_go() {
    let cluster = cluster().await.with_default_account().await;
    let mut tracked = pod("p");
    tracked["metadata"]["finalizers"] = json!(["batch.kubernetes.io/job-tracking"]);
    let made = cluster.made(PODS, tracked).await;
    let jobs = Component::controller(&cluster, "job-controller");
    let patch = json!({"metadata": {"uid": made["metadata"]["uid"],
        "$deleteFromPrimitiveList/finalizers": ["batch.kubernetes.io/job-tracking"]}});
    let freed = done(jobs.patch(&format!("{PODS}/p"), STRATEGIC, &patch).await);
    assert!(freed["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty));
}

/// Who may do what, as the code of each controller needs it, and as its role has always had to give it.
const NEEDED: &[(&str, &str, &str, &str)] = &[
    ("attachdetach-controller", "create", "storage.k8s.io", "volumeattachments"),
    ("attachdetach-controller", "patch", "", "nodes/status"),
    (
        "certificate-controller",
        "update",
        "certificates.k8s.io",
        "certificatesigningrequests/approval",
    ),
    ("cronjob-controller", "create", "batch", "jobs"),
    ("daemon-set-controller", "create", "apps", "controllerrevisions"),
    ("daemon-set-controller", "create", "", "pods"),
    ("device-taint-eviction-controller", "delete", "", "pods"),
    ("device-taint-eviction-controller", "watch", "resource.k8s.io", "resourceslices"),
    ("disruption-controller", "get", "apps", "deployments/scale"),
    ("disruption-controller", "update", "policy", "poddisruptionbudgets/status"),
    ("endpoint-controller", "watch", "", "endpoints"),
    ("endpointslice-controller", "create", "discovery.k8s.io", "endpointslices"),
    ("endpointslicemirroring-controller", "delete", "discovery.k8s.io", "endpointslices"),
    ("ephemeral-volume-controller", "create", "", "persistentvolumeclaims"),
    ("expand-controller", "patch", "", "persistentvolumeclaims/status"),
    ("horizontal-pod-autoscaler", "list", "metrics.k8s.io", "pods"),
    ("horizontal-pod-autoscaler", "update", "apps", "deployments/scale"),
    ("job-controller", "patch", "", "pods"),
    ("legacy-service-account-token-cleaner", "patch", "", "secrets"),
    ("node-controller", "patch", "", "nodes"),
    ("persistent-volume-binder", "watch", "", "nodes"),
    ("persistent-volume-binder", "watch", "", "events"),
    ("pod-garbage-collector", "watch", "", "nodes"),
    ("pvc-protection-controller", "update", "", "persistentvolumeclaims/status"),
    ("resource-claim-controller", "update", "resource.k8s.io", "resourceclaims/binding"),
    ("resource-claim-controller", "create", "resource.k8s.io", "resourceclaims"),
    ("resourcequota-controller", "update", "", "resourcequotas/status"),
    ("root-ca-cert-publisher", "update", "", "configmaps"),
    ("service-account-controller", "create", "", "serviceaccounts"),
    ("service-cidrs-controller", "patch", "networking.k8s.io", "servicecidrs/status"),
    ("statefulset-controller", "update", "", "pods/finalizers"),
    ("ttl-after-finished-controller", "delete", "batch", "jobs"),
    ("ttl-controller", "patch", "", "nodes"),
    (
        "volumeattributesclass-protection-controller",
        "update",
        "storage.k8s.io",
        "volumeattributesclasses",
    ),
];

async fn may(cluster: &Cluster, name: &str, verb: &str, group: &str, resource: &str) -> bool {
    let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({"spec": {
        "user": format!("system:serviceaccount:kube-system:{name}"),
        "groups": ["system:serviceaccounts", "system:authenticated"],
        "resourceAttributes": {"verb": verb, "group": group, "resource": resource,
            "subresource": part, "namespace": "default"},
    }});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    cluster.made(path, review).await["status"]["allowed"] == true
}

#[tokio::test]
async fn each_controller_of_upstream_may_do_its_own_work_and_not_anothers() {
    let cluster = cluster().await;
    for (name, verb, group, resource) in NEEDED {
        assert!(may(&cluster, name, verb, group, resource).await, "{name} {verb} {resource}");
    }
    for (name, verb, group, resource) in [
        ("replicaset-controller", "patch", "apps", "replicasets/status"),
        ("deployment-controller", "create", "", "secrets"),
        ("endpoint-controller", "patch", "", "endpoints"),
        ("job-controller", "create", "storage.k8s.io", "storageclasses"),
    ] {
        assert!(!may(&cluster, name, verb, group, resource).await, "{name} {verb} {resource}");
    }
}
