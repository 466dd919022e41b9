//! kube-scheduler of upstream, as `system:kube-scheduler`.

use super::*;

const PODS: &str = "/api/v1/namespaces/default/pods";
const TRUST: &str = "extension-apiserver-authentication";
const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";

/// What its plug-ins and its queue follow; a finished pod is not among the pods.
const FOLLOWED: &[&str] = &[
    "/api/v1/pods?fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed",
    "/api/v1/nodes",
    "/api/v1/namespaces",
    "/api/v1/services",
    "/api/v1/replicationcontrollers",
    "/api/v1/persistentvolumeclaims",
    "/api/v1/persistentvolumes",
    "/apis/apps/v1/replicasets",
    "/apis/apps/v1/statefulsets",
    "/apis/policy/v1/poddisruptionbudgets",
    "/apis/storage.k8s.io/v1/storageclasses",
    "/apis/storage.k8s.io/v1/csinodes",
    "/apis/storage.k8s.io/v1/csidrivers",
    "/apis/storage.k8s.io/v1/csistoragecapacities",
    "/apis/storage.k8s.io/v1/volumeattachments",
    "/apis/resource.k8s.io/v1/resourceclaims",
    "/apis/resource.k8s.io/v1/resourceslices",
    "/apis/resource.k8s.io/v1/deviceclasses",
    "/api/v1/namespaces/kube-system/configmaps?\
     fieldSelector=metadata.name%3Dextension-apiserver-authentication",
];

#[tokio::test(start_paused = true)]
async fn the_scheduler_of_upstream_lists_and_watches_all_it_needs_as_itself() {
    let cluster = cluster().await.with_default_account().await;
    cluster.with_node("n1").await;
    cluster.made(PODS, pod("waiting")).await;
    cluster.made(PODS, pod("over")).await;
    let over = json!({"status": {"phase": "Succeeded"}});
    let (code, _) = cluster.patch(&format!("{PODS}/over/status"), "merge-patch+json", over).await;
    assert_eq!(code, 200);
    let scheduler = Component::new(&cluster, "system:kube-scheduler");
    for path in FOLLOWED {
        let found = scheduler.follow(path).await;
        if path.starts_with("/api/v1/pods") {
            assert_eq!((found.len(), &found[0]["metadata"]["name"]), (1, &json!("waiting")));
        }
    }
    let (code, refused) = scheduler.ask("GET", "/api/v1/secrets").await;
    assert_eq!((code, &refused["reason"]), (403, &json!("Forbidden")));
}

#[tokio::test]
async fn the_scheduler_of_upstream_binds_one_pod_and_says_why_another_waits() {
    let cluster = cluster().await.with_default_account().await;
    cluster.with_node("n1").await;
    let made = cluster.made(PODS, pod("a")).await;
    let uid = &made["metadata"]["uid"];
    let scheduler = Component::new(&cluster, "system:kube-scheduler");
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"namespace": "default", "name": "a", "uid": uid},
        "target": {"kind": "Node", "name": "n1"},
    });
    let (code, status) = scheduler.write("POST", &format!("{PODS}/a/binding"), &binding).await;
    assert_eq!((code, &status["status"]), (201, &json!("Success")));
    let bound = done(scheduler.ask("GET", &format!("{PODS}/a")).await);
    assert_eq!(bound["spec"]["nodeName"], "n1");
    let (code, status) = scheduler.write("POST", &format!("{PODS}/a/binding"), &binding).await;
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")));

    let made = cluster.made(PODS, pod("b")).await;
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available", "lastProbeTime": null, "observedGeneration": 1,
        "lastTransitionTime": "2026-11-30T12:00:00Z",
    });
    let patch = json!({"metadata": {"uid": made["metadata"]["uid"]}, "status": {
        "$setElementOrder/conditions": [{"type": "PodScheduled"}],
        "conditions": [condition], "nominatedNodeName": "n1",
    }});
    let path = format!("{PODS}/b/status");
    let told = done(scheduler.patch(&path, STRATEGIC, &patch).await);
    assert_eq!(told["status"]["conditions"][0]["message"], "0/1 nodes are available");
    assert_eq!(told["status"]["nominatedNodeName"], "n1");
    let gone = json!({"metadata": {"uid": uid}, "status": {"nominatedNodeName": null}});
    let (code, refused) = scheduler.patch(&path, STRATEGIC, &gone).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")), "it is another pod");
}

#[tokio::test]
async fn the_scheduler_of_upstream_preempts_a_pod() {
    let cluster = cluster().await.with_default_account().await;
    let made = cluster.made(PODS, pod("victim")).await;
    let scheduler = Component::new(&cluster, "system:kube-scheduler");
    let patch = json!({"metadata": {"uid": made["metadata"]["uid"]}, "status": {"conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": "default-scheduler: preempting to accommodate a higher priority pod",
        "lastProbeTime": null, "lastTransitionTime": "2026-11-30T12:00:00Z",
    }]}});
    done(scheduler.patch(&format!("{PODS}/victim/status"), STRATEGIC, &patch).await);
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions",
        "preconditions": {"uid": made["metadata"]["uid"]}});
    done(scheduler.write("DELETE", &format!("{PODS}/victim"), &options).await);
    assert_eq!(cluster.get(&format!("{PODS}/victim")).await["code"], 404);
}

#[tokio::test]
async fn the_scheduler_of_upstream_is_elected_by_its_lease() {
    let cluster = cluster().await;
    let scheduler = Component::new(&cluster, "system:kube-scheduler");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    let own = format!("{leases}/kube-scheduler");
    let (code, status) = scheduler.ask("GET", &own).await;
    assert_eq!((code, &status["reason"]), (404, &json!("NotFound")));
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "kube-scheduler", "namespace": "kube-system"},
        "spec": {
            "holderIdentity": "host_1", "leaseDurationSeconds": 15, "leaseTransitions": 0,
            "acquireTime": "2026-11-30T12:00:00.000001Z",
            "renewTime": "2026-11-30T12:00:00.000001Z",
        },
    });
    let made = done(scheduler.write("POST", leases, &lease).await);
    lease["metadata"] = made["metadata"].clone();
    lease["spec"]["renewTime"] = "2026-11-30T12:00:02.000002Z".into();
    let renewed = done(scheduler.write("PUT", &own, &lease).await);
    assert_eq!(renewed["spec"]["renewTime"], "2026-11-30T12:00:02.000002Z");
    let (code, status) = scheduler.write("PUT", &own, &lease).await;
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")));
    let of_a_node = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1";
    assert_eq!(scheduler.ask("GET", of_a_node).await.0, 403);
}

#[tokio::test]
async fn the_scheduler_of_upstream_allocates_a_claim_and_keeps_it_for_a_pod() {
    let cluster = cluster().await;
    let made = cluster
        .made(
            CLAIMS,
            json!({"metadata": {"name": "gpu"}, "spec": {"devices": {"requests": [
                {"name": "r", "exactly": {"deviceClassName": "gpu"}},
            ]}}}),
        )
        .await;
    let scheduler = Component::new(&cluster, "system:kube-scheduler");
    let mut claim = made.clone();
    claim["apiVersion"] = "resource.k8s.io/v1".into();
    claim["kind"] = "ResourceClaim".into();
    claim["metadata"]["finalizers"] = json!(["resource.kubernetes.io/delete-protection"]);
    let mut claim = done(scheduler.write("PUT", &format!("{CLAIMS}/gpu"), &claim).await);
    claim["status"] = json!({
        "allocation": {
            "devices": {"results": [
                {"request": "r", "driver": "gpu.example.com", "pool": "n1", "device": "gpu-0"},
            ]},
            "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": ["n1"]},
            ]}]},
        },
        "reservedFor": [{"resource": "pods", "name": "a", "uid": "1"}],
    });
    let kept = done(scheduler.write("PUT", &format!("{CLAIMS}/gpu/status"), &claim).await);
    assert_eq!(kept["status"]["allocation"]["devices"]["results"][0]["device"], "gpu-0");
    assert_eq!(kept["status"]["reservedFor"][0]["name"], "a");
}

#[tokio::test(start_paused = true)]
async fn the_scheduler_and_the_controller_manager_of_upstream_ask_who_scrapes_them() {
    let cluster = cluster().await;
    for name in ["system:kube-scheduler", "system:kube-controller-manager"] {
        asks_who_scrapes_it(&Component::new(&cluster, name)).await;
    }
}

/// Whose token it is, whether they may, and whose certificates are good.
async fn asks_who_scrapes_it(component: &Component<'_>) {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
        "spec": {"token": "nobody's"},
    });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let answer = done(component.write("POST", path, &review).await);
    assert_ne!(answer["status"]["authenticated"], true);
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
        "spec": {
            "user": "prometheus", "groups": ["system:monitoring"], "uid": "1",
            "extra": {"example.com/a": ["b"]},
            "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
        },
    });
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let answer = done(component.write("POST", path, &review).await);
    assert_eq!(answer["status"]["allowed"], true);
    let all = "/api/v1/namespaces/kube-system/configmaps";
    let trust = done(component.ask("GET", &format!("{all}/{TRUST}")).await);
    assert!(trust["data"]["client-ca-file"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    let own = format!("{all}?fieldSelector=metadata.name%3D{TRUST}");
    assert_eq!(component.follow(&own).await.len(), 1);
}
