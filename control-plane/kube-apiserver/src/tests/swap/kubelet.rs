//! kubelet of upstream, as `system:node:…` under the Node authorizer and NodeRestriction.

use super::*;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
            "node.kubernetes.io/instance-type": "m5.large",
        }, "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
        "spec": {"providerID": "aws:///us-east-1a/i-1"},
        "status": {
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "20Gi"},
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "machineID": "m", "systemUUID": "s", "bootID": "b", "kernelVersion": "6.1",
                "osImage": "Debian", "containerRuntimeVersion": "containerd://1.6.20",
                "kubeletVersion": "v1.36.0", "kubeProxyVersion": "", "operatingSystem": "linux",
                "architecture": "amd64", "swap": {"capacity": 0},
            },
            "runtimeHandlers": [{"name": "runc", "features": {"recursiveReadOnlyMounts": true}}],
            "features": {"supplementalGroupsPolicy": false},
        },
    })
}

#[tokio::test(start_paused = true)]
async fn the_kubelet_of_upstream_registers_and_keeps_its_node() {
    let cluster = cluster().await;
    let kubelet = Component::node(&cluster, "n1");
    done(kubelet.write("POST", "/api/v1/nodes", &node("n1")).await);
    let (code, status) = kubelet.write("POST", "/api/v1/nodes", &node("n1")).await;
    assert_eq!((code, &status["reason"]), (409, &json!("AlreadyExists")));
    let known = done(kubelet.ask("GET", "/api/v1/nodes/n1?resourceVersion=0&timeout=10s").await);
    assert_eq!(known["status"]["features"]["supplementalGroupsPolicy"], false);
    let label = json!({"metadata": {"labels": {"kubernetes.io/arch": "arm64"}}});
    done(kubelet.patch("/api/v1/nodes/n1", STRATEGIC, &label).await);
    let beat = "2026-11-30T12:00:00Z";
    let patch = json!({"status": {
        "$setElementOrder/conditions": [{"type": "MemoryPressure"}, {"type": "Ready"}],
        "$setElementOrder/addresses": [{"type": "InternalIP"}, {"type": "Hostname"}],
        "addresses": [{"address": "n1", "type": "Hostname"}],
        "conditions": [
            {"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": beat,
             "lastTransitionTime": beat, "reason": "R", "message": "m"},
            {"type": "Ready", "status": "True", "lastHeartbeatTime": beat,
             "lastTransitionTime": beat, "reason": "KubeletReady", "message": "ready"},
        ],
        "images": [{"names": ["a@sha256:1", "a:1"], "sizeBytes": 5}],
    }});
    let told = done(kubelet.patch("/api/v1/nodes/n1/status", STRATEGIC, &patch).await);
    assert_eq!(told["status"]["conditions"][1]["type"], "Ready");
    assert_eq!(told["status"]["addresses"].as_array().unwrap().len(), 2);
    let own = kubelet.follow("/api/v1/nodes?fieldSelector=metadata.name%3Dn1").await;
    assert_eq!(own.len(), 1);
    let (code, _) = kubelet.ask("GET", "/api/v1/nodes?limit=500&resourceVersion=0").await;
    assert_eq!(code, 403, "those of others are not its own");

    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n1",
        "uid": known["metadata"]["uid"]});
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "n1", "namespace": "kube-node-lease", "ownerReferences": [owner]},
        "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 40,
            "renewTime": "2026-11-30T12:00:00.000001Z"},
    });
    let path = format!("{leases}/n1");
    assert_eq!(kubelet.ask("GET", &path).await.0, 404);
    let mut lease = done(kubelet.write("POST", leases, &lease).await);
    lease["spec"]["renewTime"] = "2026-11-30T12:00:10.000001Z".into();
    done(kubelet.write("PUT", &path, &lease).await);

    let drivers = "/apis/storage.k8s.io/v1/csinodes";
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n1",
        "uid": known["metadata"]["uid"]});
    let csi = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
        "metadata": {"name": "n1", "ownerReferences": [owner],
            "annotations": {"storage.alpha.kubernetes.io/migrated-plugins": "kubernetes.io/a"}},
        "spec": {"drivers": []},
    });
    let mut csi = done(kubelet.write("POST", drivers, &csi).await);
    csi["spec"]["drivers"] = json!([{"name": "ebs.csi.aws.com", "nodeID": "i-1",
        "topologyKeys": ["topology.ebs.csi.aws.com/zone"], "allocatable": {"count": 25}}]);
    done(kubelet.write("PUT", &format!("{drivers}/n1"), &csi).await);
    let wiped = "/apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.nodeName%3Dn1";
    let options = json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeleteOptions"});
    done(kubelet.write("DELETE", wiped, &options).await);
}

#[tokio::test(start_paused = true)]
async fn the_kubelet_of_upstream_follows_what_its_pods_need_and_no_more() {
    let cluster = cluster().await.with_default_account().await;
    cluster.with_node("n1").await;
    for kind in ["secrets", "configmaps"] {
        for name in ["own", "another"] {
            let path = format!("/api/v1/namespaces/default/{kind}");
            cluster.made(&path, json!({"metadata": {"name": name}})).await;
        }
    }
    let mut own = pod("a");
    own["spec"]["nodeName"] = "n1".into();
    own["spec"]["volumes"] = json!([
        {"name": "s", "secret": {"secretName": "own"}},
        {"name": "c", "configMap": {"name": "own"}},
    ]);
    cluster.made(PODS, own).await;
    cluster.made(PODS, pod("b")).await;
    let kubelet = Component::node(&cluster, "n1");
    for path in [
        "/api/v1/services",
        "/apis/storage.k8s.io/v1/csidrivers",
        "/apis/node.k8s.io/v1/runtimeclasses",
        "/apis/certificates.k8s.io/v1beta1/clustertrustbundles",
    ] {
        kubelet.follow(path).await;
    }
    let pods = kubelet.follow("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await;
    assert_eq!((pods.len(), &pods[0]["metadata"]["name"]), (1, &json!("a")));
    for kind in ["secrets", "configmaps"] {
        let of = |name: &str| {
            let path = format!("/api/v1/namespaces/default/{kind}");
            format!("{path}?fieldSelector=metadata.name%3D{name}")
        };
        assert_eq!(kubelet.follow(&of("own")).await.len(), 1, "{kind}");
        assert_eq!(kubelet.ask("GET", &of("another")).await.0, 403, "{kind}");
    }
    assert_eq!(kubelet.ask("GET", "/api/v1/pods").await.0, 403);
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    done(kubelet.ask("GET", account).await);
}

#[tokio::test]
async fn the_kubelet_of_upstream_tells_how_its_pods_are_and_gets_tokens_for_them() {
    let cluster = cluster().await.with_default_account().await;
    cluster.with_node("n1").await;
    let mut own = pod("a");
    own["spec"]["nodeName"] = "n1".into();
    let made = cluster.made(PODS, own).await;
    let uid = &made["metadata"]["uid"];
    let kubelet = Component::node(&cluster, "n1");
    let at = "2026-11-30T12:00:00Z";
    let patch = json!({"metadata": {"uid": uid}, "status": {
        "$setElementOrder/conditions": [{"type": "Ready"}, {"type": "PodScheduled"}],
        "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": null,
            "lastTransitionTime": at, "observedGeneration": 1}],
        "containerStatuses": [{
            "name": "c", "image": "x", "imageID": "x@sha256:1", "containerID": "containerd://1",
            "ready": true, "started": true, "restartCount": 0, "lastState": {},
            "state": {"running": {"startedAt": at}}, "allocatedResources": {"cpu": "1"},
            "resources": {"requests": {"cpu": "1"}},
            "user": {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}},
        }],
        "hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.1"}], "phase": "Running",
        "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}], "startTime": at,
        "observedGeneration": 1,
    }});
    let told = done(kubelet.patch(&format!("{PODS}/a/status"), STRATEGIC, &patch).await);
    assert_eq!(
        (&told["status"]["phase"], &told["status"]["podIPs"][0]["ip"]),
        (&json!("Running"), &json!("10.1.0.1"))
    );

    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
        "spec": {"expirationSeconds": 3607,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": uid}},
    });
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let answer = done(kubelet.write("POST", path, &request).await);
    assert!(!answer["status"]["token"].as_str().unwrap().is_empty());
    assert!(answer["status"]["expirationTimestamp"].is_string());

    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a.1", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "a", "uid": uid,
            "apiVersion": "v1", "fieldPath": "spec.containers{c}"},
        "reason": "Started", "message": "Container started", "type": "Normal", "count": 1,
        "source": {"component": "kubelet", "host": "n1"}, "firstTimestamp": at,
        "lastTimestamp": at, "reportingComponent": "kubelet", "reportingInstance": "n1",
    });
    done(kubelet.write("POST", "/api/v1/namespaces/default/events", &event).await);

    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
        "preconditions": {"uid": uid}});
    done(kubelet.write("DELETE", &format!("{PODS}/a"), &options).await);
    assert_eq!(cluster.get(&format!("{PODS}/a")).await["code"], 404);
}

#[tokio::test]
async fn the_kubelet_of_upstream_mirrors_its_static_pods() {
    let cluster = cluster().await.with_default_account().await;
    cluster.with_node("n1").await;
    let node = cluster.get("/api/v1/nodes/n1").await;
    let kubelet = Component::node(&cluster, "n1");
    let mut mirror = pod("static-n1");
    mirror["metadata"]["annotations"] = json!({
        "kubernetes.io/config.hash": "h", "kubernetes.io/config.mirror": "h",
        "kubernetes.io/config.seen": "2026-11-30T12:00:00Z", "kubernetes.io/config.source": "file",
    });
    mirror["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": node["metadata"]["uid"],
        "controller": true,
    }]);
    mirror["spec"]["nodeName"] = "n1".into();
    mirror["spec"]["tolerations"] = json!([{"operator": "Exists", "effect": "NoExecute"}]);
    mirror["spec"]["enableServiceLinks"] = true.into();
    done(kubelet.write("POST", PODS, &mirror).await);
    let mut foreign = mirror.clone();
    foreign["metadata"]["name"] = "static-n2".into();
    foreign["spec"]["nodeName"] = "n2".into();
    assert_eq!(kubelet.write("POST", PODS, &foreign).await.0, 403);
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    done(kubelet.write("DELETE", &format!("{PODS}/static-n1"), &options).await);
}

#[tokio::test]
async fn the_kubelet_of_upstream_asks_who_calls_it_and_whether_that_is_allowed() {
    let cluster = cluster().await;
    let kubelet = Component::node(&cluster, "n1");
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
        "spec": {"token": "nobody's", "audiences": ["https://kubernetes.default.svc"]},
    });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    assert_ne!(done(kubelet.write("POST", path, &review).await)["status"]["authenticated"], true);
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    for (group, allowed) in [("system:masters", true), ("nobody", false)] {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {"user": "u", "groups": [group], "resourceAttributes": {
                "verb": "get", "version": "v1", "resource": "nodes", "subresource": "metrics",
                "name": "n1",
            }},
        });
        let answer = done(kubelet.write("POST", path, &review).await);
        assert_eq!(answer["status"]["allowed"], allowed, "{group}");
    }
}
