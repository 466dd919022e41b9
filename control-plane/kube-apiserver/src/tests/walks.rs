//! What upstream's tests of single APIs ask for beyond what all resources share.
//!
//! Upstream: test/e2e/network/{ingress,service}.go, test/e2e/storage/{csistoragecapacity,
//! persistent_volumes,volume_attachment}.go, test/e2e/scheduling/{limit_range,preemption}.go,
//! test/e2e/apps.

use serde_json::{Value, json};

use super::{Cluster, watches::Stream};

const MERGE: &str = "merge-patch+json";
const STRATEGIC: &str = "strategic-merge-patch+json";

/// Creates it and gives its path and what was made.
async fn create(cluster: &Cluster, collection: &str, object: Value) -> (String, Value) {
    let (code, made) = cluster.post(collection, object).await;
    assert_eq!(code, 201, "{made}");
    let name = made["metadata"]["name"].as_str().unwrap();
    (format!("{collection}/{name}"), made)
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn ingresses_are_watched_patched_with_their_status_and_deleted_together() {
    let cluster = Cluster::start().await;
    const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let backend = |name: &str| json!({"service": {"name": name, "port": {"number": 8080}}});
    let mut paths = Vec::new();
    for host in ["host1.bar.com", "host2.bar.com", "host3.bar.com"] {
        let rule = json!({"host": host, "http": {"paths": [
            {"path": "/", "pathType": "ImplementationSpecific", "backend": backend("test")}]}});
        let ingress = json!({
            "metadata": {"generateName": "e2e-example-ing", "labels": {"special": "x"}},
            "spec": {"defaultBackend": backend("default-backend"), "rules": [rule]},
            "status": {"loadBalancer": {}},
        });
        paths.push(create(&cluster, INGRESSES, ingress).await);
    }
    let (path, made) = paths.pop().unwrap();
    let selected = format!("{INGRESSES}?labelSelector=special%3Dx");
    let list = cluster.get(&selected).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 3);
    let since = list["metadata"]["resourceVersion"].as_str().unwrap();
    let query = format!("{selected}&watch=true&resourceVersion={since}");
    let mut watch = Stream::follow(&cluster, &query).await;
    let noted = |name: &str| json!({"metadata": {"annotations": {name: "true"}}});
    let (_, patched) = cluster.patch(&path, MERGE, noted("patched")).await;
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true");
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "MODIFIED");
    assert_eq!(event["object"]["metadata"]["annotations"]["patched"], "true");

    let mut status = noted("patchedstatus");
    status["status"] = json!({"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}});
    let (code, patched) = cluster.patch(&format!("{path}/status"), MERGE, status.clone()).await;
    assert_eq!(code, 200, "{patched}");
    assert_eq!(patched["status"], status["status"]);
    assert_eq!(patched["metadata"]["annotations"]["patchedstatus"], "true");
    let mut next = cluster.get(&path).await;
    next["status"]["loadBalancer"]["ingress"][0]["ip"] = "169.1.1.2".into();
    next["spec"]["rules"] = Value::Null;
    let (code, updated) = cluster.put(&format!("{path}/status"), next).await;
    assert_eq!(code, 200, "{updated}");
    assert_eq!(updated["status"]["loadBalancer"]["ingress"], json!([{"ip": "169.1.1.2"}]));
    assert_eq!(updated["spec"], made["spec"], "a status write changes no spec");
    let shown = cluster.get(&format!("{path}/status")).await;
    assert_eq!(shown["metadata"]["uid"], made["metadata"]["uid"]);

    cluster.delete(&path).await;
    assert_eq!(cluster.get(&path).await["code"], 404);
    let (code, _) = cluster.delete(&selected).await;
    assert_eq!((code.as_u16(), cluster.get(&selected).await["items"].clone()), (200, json!([])));
}

#[tokio::test]
async fn a_service_for_a_load_balancer_lives_through_its_status() {
    let cluster = Cluster::start().await;
    const SERVICES: &str = "/api/v1/namespaces/default/services";
    let service = json!({
        "metadata": {"name": "svc", "labels": {"test": "true"}},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/internal-vip",
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 80}]},
    });
    let (path, made) = create(&cluster, SERVICES, service).await;
    assert_eq!(made["status"], json!({"loadBalancer": {}}));
    let watched = format!("{SERVICES}?watch=true&labelSelector=test%3Dtrue&resourceVersion=0");
    let mut watch = Stream::follow(&cluster, &watched).await;
    assert_eq!(watch.next().await.unwrap()["type"], "ADDED");
    let change = json!({"metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}});
    let (code, patched) = cluster.patch(&format!("{path}/status"), MERGE, change).await;
    assert_eq!(code, 200, "{patched}");
    // It says how the address behaves, as upstream's defaults do.
    let ingress = json!([{"ip": "203.0.113.1", "ipMode": "VIP"}]);
    assert_eq!(patched["status"]["loadBalancer"]["ingress"], ingress);
    assert_eq!(patched["metadata"]["annotations"]["patchedstatus"], "true");
    let mut next = patched;
    next["status"]["conditions"] = json!([{"type": "StatusUpdate", "status": "True",
        "reason": "E2E", "message": "Set from e2e test",
        "lastTransitionTime": "2026-11-23T12:00:00Z"}]);
    let (code, updated) = cluster.put(&format!("{path}/status"), next).await;
    assert_eq!(code, 200, "{updated}");
    assert_eq!(updated["status"]["conditions"][0]["reason"], "E2E");
    assert_eq!(updated["status"]["loadBalancer"]["ingress"], ingress);
    let label = json!({"metadata": {"labels": {"test-service": "patched"}}});
    let (_, patched) = cluster.patch(&path, STRATEGIC, label).await;
    assert_eq!(patched["metadata"]["labels"], json!({"test": "true", "test-service": "patched"}));
    for _ in 0..3 {
        assert_eq!(watch.next().await.unwrap()["type"], "MODIFIED");
    }
    cluster.delete(&path).await;
    assert_eq!(watch.next().await.unwrap()["type"], "DELETED");
}

#[tokio::test]
async fn services_go_together_by_their_label_and_the_others_stay() {
    let cluster = Cluster::start().await;
    const SERVICES: &str = "/api/v1/namespaces/default/services";
    for (name, kind) in [("a", "ClusterIP"), ("b", "ExternalName"), ("c", "NodePort")] {
        let mut service = json!({"metadata": {"name": name, "labels": {"e2e": "x"}},
            "spec": {"type": kind, "ports": [{"port": 80}]}});
        if kind == "ExternalName" {
            service["spec"]["externalName"] = "example.com".into();
        }
        create(&cluster, SERVICES, service).await;
    }
    let other = json!({"metadata": {"name": "d"}, "spec": {"ports": [{"port": 80}]}});
    create(&cluster, SERVICES, other).await;
    let (code, gone) = cluster.delete(&format!("{SERVICES}?labelSelector=e2e%3Dx")).await;
    assert_eq!(code, 200, "{gone}");
    let left = cluster.get(SERVICES).await;
    let names: Vec<_> =
        left["items"].as_array().unwrap().iter().map(|it| &it["metadata"]["name"]).collect();
    assert_eq!(names, ["d", "kubernetes"]);
}

#[tokio::test]
async fn a_storage_capacity_needs_nothing_but_its_class() {
    let cluster = Cluster::start().await;
    const CAPACITIES: &str = "/apis/storage.k8s.io/v1/namespaces/default/csistoragecapacities";
    let capacity = json!({"metadata": {"name": "csc1", "labels": {"test": "x"}},
        "storageClassName": "e2e.example.com"});
    let (path, made) = create(&cluster, CAPACITIES, capacity.clone()).await;
    assert_eq!(made.get("nodeTopology"), None, "{made}");
    let (code, again) = cluster.post(CAPACITIES, capacity).await;
    assert_eq!((code.as_u16(), &again["reason"]), (409, &json!("AlreadyExists")));
    let note = json!({"metadata": {"annotations": {"patched": "true"}}});
    let (_, patched) = cluster.patch(&path, MERGE, note).await;
    assert!(version(&patched) > version(&made));
    let mut other = patched;
    other["storageClassName"] = "another".into();
    let (code, refused) = cluster.put(&path, other).await;
    assert_eq!(code, 422, "{refused}");
}

#[tokio::test]
async fn an_attachment_gets_its_own_uid_and_its_status_by_itself() {
    let cluster = Cluster::start().await;
    const ATTACHMENTS: &str = "/apis/storage.k8s.io/v1/volumeattachments";
    let attachment = json!({"metadata": {"name": "va-1", "uid": "va-1"},
        "spec": {"attacher": "e2e-test.storage.k8s.io", "nodeName": "n",
            "source": {"persistentVolumeName": "pv-1"}},
        "status": {"attached": true}});
    let (path, made) = create(&cluster, ATTACHMENTS, attachment).await;
    assert_ne!(made["metadata"]["uid"], "va-1");
    assert_eq!(made["status"], json!({"attached": false}));
    let label = json!({"metadata": {"labels": {"va-1": "patched"}}});
    let (_, patched) = cluster.patch(&path, MERGE, label).await;
    assert_eq!(patched["metadata"]["labels"]["va-1"], "patched");
    let status = format!("{path}/status");
    assert_eq!(cluster.get(&status).await["status"]["attached"], false);
    let (_, patched) = cluster.patch(&status, MERGE, json!({"status": {"attached": true}})).await;
    assert_eq!(patched["status"]["attached"], true);
    let mut next = patched;
    next["status"]["attached"] = false.into();
    let (_, updated) = cluster.put(&status, next).await;
    assert_eq!(updated["status"]["attached"], false);
    assert_eq!(updated["metadata"]["labels"]["va-1"], "patched");
}

#[tokio::test]
async fn the_status_of_a_volume_and_of_its_claim_is_patched_and_updated() {
    let cluster = Cluster::start().await;
    let volume = json!({"metadata": {"generateName": "ns-", "labels": {"e2e": "x"}}, "spec": {
        "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"],
        "storageClassName": "ns", "persistentVolumeReclaimPolicy": "",
        "csi": {"driver": "e2e-driver", "volumeHandle": "e2e-status-conformance"}}});
    let (volume, made) = create(&cluster, "/api/v1/persistentvolumes", volume).await;
    assert_eq!(made["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    let claim = json!({"metadata": {"generateName": "pvc-"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "ns",
        "resources": {"requests": {"storage": "2Gi"}}}});
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let (claim, _) = create(&cluster, claims, claim).await;
    for (path, phase) in [(&volume, "Pending"), (&claim, "Pending")] {
        let shown = cluster.get(&format!("{path}/status")).await;
        assert_eq!(shown["status"]["phase"], phase);
    }
    let told = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "Set from e2e test"});
    let change = json!({"status": {"conditions": [told("StatusPatched", "E2E patchedStatus")]}});
    let (code, patched) = cluster.patch(&format!("{claim}/status"), MERGE, change).await;
    assert_eq!(code, 200, "{patched}");
    let mut next = cluster.get(&claim).await;
    let conditions = next["status"]["conditions"].as_array_mut().unwrap();
    conditions.push(told("StatusUpdated", "E2E updateStatus"));
    let (code, updated) = cluster.put(&format!("{claim}/status"), next).await;
    assert_eq!(code, 200, "{updated}");
    let kinds: Vec<_> = updated["status"]["conditions"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&kinds[0]["type"], &kinds[1]["type"]),
        (&json!("StatusPatched"), &json!("StatusUpdated"))
    );
    let change = json!({"status": {"message": "StatusPatched", "reason": "E2E patchStatus"}});
    let (_, patched) = cluster.patch(&format!("{volume}/status"), MERGE, change).await;
    assert_eq!(patched["status"]["reason"], "E2E patchStatus");
    let mut next = patched;
    next["status"]["reason"] = "E2E updateStatus".into();
    let (_, updated) = cluster.put(&format!("{volume}/status"), next).await;
    assert_eq!(updated["status"]["reason"], "E2E updateStatus");
}

#[tokio::test]
async fn the_value_of_a_priority_class_stays_and_its_description_may_change() {
    let cluster = Cluster::start().await;
    const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = json!({"metadata": {"name": "p1", "labels": {"e2e": "x"}}, "value": 1});
    let (path, made) = create(&cluster, CLASSES, class).await;
    let (code, refused) = cluster.patch(&path, STRATEGIC, json!({"value": 10})).await;
    assert_eq!(code, 422, "{refused}");
    let mut next = made.clone();
    next["value"] = 10.into();
    let (code, refused) = cluster.put(&path, next).await;
    assert_eq!(code, 422, "{refused}");
    let words = json!({"description": "updated description"});
    let (code, patched) = cluster.patch(&path, STRATEGIC, words).await;
    assert_eq!((code.as_u16(), &patched["description"]), (200, &json!("updated description")));
    assert!(version(&patched) > version(&made));
    let (code, _) = cluster.delete(&format!("{CLASSES}?labelSelector=e2e%3Dx")).await;
    assert_eq!(code, 200);
    let left = cluster.get(CLASSES).await;
    assert_eq!(left["items"].as_array().unwrap().len(), 2, "the system's are there: {left}");
}

#[tokio::test]
async fn a_limit_range_fills_in_and_bounds_what_pods_ask_for_as_long_as_it_is_there() {
    let cluster = Cluster::start().await.with_default_account().await;
    const RANGES: &str = "/api/v1/namespaces/default/limitranges";
    const PODS: &str = "/api/v1/namespaces/default/pods";
    let list = |cpu: &str, memory: &str, disk: &str| {
        let all = [("cpu", cpu), ("memory", memory), ("ephemeral-storage", disk)];
        let all = all.into_iter().filter(|it| !it.1.is_empty());
        Value::Object(all.map(|(name, it)| (name.to_owned(), it.into())).collect())
    };
    let (most, least) = (list("500m", "500Mi", "500Gi"), list("50m", "100Mi", "100Gi"));
    let usual = list("100m", "200Mi", "200Gi");
    let range = json!({"metadata": {"name": "limit-range"}, "spec": {"limits": [{
        "type": "Container", "min": least, "max": most, "default": most,
        "defaultRequest": usual, "maxLimitRequestRatio": {}}]}});
    let (path, made) = create(&cluster, RANGES, range).await;
    assert_eq!(made["spec"]["limits"][0]["defaultRequest"], usual);
    let pod = |name: &str, requests: Value, limits: Value| {
        json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "pause",
            "image": "pause", "resources": {"requests": requests, "limits": limits}}]}})
    };
    let asked = |made: &Value| made["spec"]["containers"][0]["resources"].clone();
    let (_, made) = create(&cluster, PODS, pod("none", json!({}), json!({}))).await;
    assert_eq!(asked(&made), json!({"requests": usual, "limits": most}));
    let partial = pod("some", list("", "150Mi", "150Gi"), list("300m", "", ""));
    let (_, made) = create(&cluster, PODS, partial).await;
    // A limit without a request is the request, too.
    let expected = json!({"requests": list("300m", "150Mi", "150Gi"),
        "limits": list("300m", "500Mi", "500Gi")});
    assert_eq!(asked(&made), expected);
    let little = || pod("little", list("10m", "50Mi", "50Gi"), json!({}));
    let much = || pod("much", list("600m", "600Mi", "600Gi"), json!({}));
    // The limit that it is given is less than what it asks for, and no pod can be so.
    for (pod, expected) in [(little(), (403, "Forbidden")), (much(), (422, "Invalid"))] {
        let (code, refused) = cluster.post(PODS, pod).await;
        let found = (code.as_u16(), refused["reason"].as_str().unwrap());
        assert_eq!(found, expected, "{refused}");
    }
    let mut next = cluster.get(&path).await;
    next["spec"]["limits"][0]["min"] = list("9m", "49Mi", "49Gi");
    let (code, updated) = cluster.put(&path, next).await;
    assert_eq!(code, 200, "{updated}");
    create(&cluster, PODS, little()).await;
    assert_eq!(cluster.post(PODS, much()).await.0, 422);
    let (code, _) = cluster.delete(&path).await;
    assert_eq!(code, 200);
    create(&cluster, PODS, much()).await;
}

/// What upstream's tests do to the status of each kind of workload.
#[tokio::test]
async fn the_status_of_workloads_is_updated_patched_and_told_to_who_watches() {
    let cluster = Cluster::start().await;
    let template = json!({"metadata": {"labels": {"app": "w"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let selector = json!({"matchLabels": {"app": "w"}});
    let mut claims = template.clone();
    claims["spec"]["restartPolicy"] = "Never".into();
    let kinds = [
        ("apps", "deployments", json!({"selector": selector, "template": template})),
        ("apps", "replicasets", json!({"selector": selector, "template": template})),
        ("apps", "daemonsets", json!({"selector": selector, "template": template})),
        (
            "apps",
            "statefulsets",
            json!({"selector": selector, "template": template, "serviceName": "s"}),
        ),
        ("", "replicationcontrollers", json!({"template": template})),
        ("batch", "jobs", json!({"template": claims, "suspend": true})),
    ];
    for (group, plural, spec) in kinds {
        let root = if group.is_empty() { "/api/v1".into() } else { format!("/apis/{group}/v1") };
        let collection = format!("{root}/namespaces/default/{plural}");
        let object = json!({"metadata": {"name": "w", "labels": {"app": "w"}}, "spec": spec});
        let (path, made) = create(&cluster, &collection, object).await;
        let status = format!("{path}/status");
        let since = version(&made);
        let query = format!("{collection}?watch=true&resourceVersion={since}");
        let mut watch = Stream::follow(&cluster, &query).await;
        let mut next = cluster.get(&status).await;
        next["status"]["conditions"] = json!([{"type": "StatusUpdate", "status": "True",
            "reason": "E2E", "message": "Set from e2e test", "lastTransitionTime": null}]);
        let (code, updated) = cluster.put(&status, next).await;
        assert_eq!(code, 200, "{plural}: {updated}");
        let told = watch.next().await.unwrap();
        assert_eq!(told["object"]["status"]["conditions"][0]["reason"], "E2E", "{plural}");
        let only = json!({"status": {"conditions": [
            {"type": "StatusPatched", "status": "True"}]}});
        let (code, patched) = cluster.patch(&status, MERGE, only).await;
        assert_eq!(code, 200, "{plural}: {patched}");
        let told = watch.next().await.unwrap();
        let conditions = told["object"]["status"]["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 1, "{plural}");
        assert_eq!(conditions[0]["type"], "StatusPatched", "{plural}");
        assert_eq!(told["object"]["spec"], made["spec"], "{plural}");
        assert_eq!(told["object"]["metadata"]["generation"], 1, "{plural}");
    }
}

#[tokio::test]
async fn a_scale_is_updated_and_patched_of_each_kind_that_has_one() {
    let cluster = Cluster::start().await;
    let template = json!({"metadata": {"labels": {"app": "w"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let selector = json!({"matchLabels": {"app": "w"}});
    let apps = "/apis/apps/v1/namespaces/default";
    for (collection, spec) in [
        (format!("{apps}/deployments"), json!({"selector": selector, "template": template})),
        (format!("{apps}/replicasets"), json!({"selector": selector, "template": template})),
        (
            format!("{apps}/statefulsets"),
            json!({"selector": selector, "template": template, "serviceName": "s"}),
        ),
        ("/api/v1/namespaces/default/replicationcontrollers".into(), json!({"template": template})),
    ] {
        let object = json!({"metadata": {"name": "w"}, "spec": spec});
        let (path, made) = create(&cluster, &collection, object).await;
        let scale = format!("{path}/scale");
        let mut next = cluster.get(&scale).await;
        assert_eq!(next["apiVersion"], "autoscaling/v1", "{collection}");
        assert_eq!(next["metadata"]["uid"], made["metadata"]["uid"], "{collection}");
        // A Go client names no version where it means any.
        next["metadata"]["resourceVersion"] = "".into();
        next["spec"]["replicas"] = 2.into();
        let (code, updated) = cluster.put(&scale, next).await;
        assert_eq!((code.as_u16(), &updated["spec"]["replicas"]), (200, &json!(2)), "{updated}");
        let four = json!({"spec": {"replicas": 4}});
        let (code, patched) = cluster.patch(&scale, STRATEGIC, four).await;
        assert_eq!((code.as_u16(), &patched["spec"]["replicas"]), (200, &json!(4)), "{patched}");
        assert_eq!(cluster.get(&path).await["spec"]["replicas"], 4, "{collection}");
    }
}

#[tokio::test]
async fn a_namespace_has_the_finalizers_and_the_conditions_that_it_is_given() {
    let cluster = Cluster::start().await;
    let namespace = json!({"metadata": {"name": "ns"}});
    let (path, made) = create(&cluster, "/api/v1/namespaces", namespace).await;
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "ns");
    let with = |finalizers: Value| {
        let mut next = made.clone();
        next["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        next["spec"]["finalizers"] = finalizers;
        next
    };
    let finalize = format!("{path}/finalize");
    let both = json!(["kubernetes", "e2e.example.com/fakeFinalizer"]);
    let (code, updated) = cluster.put(&finalize, with(both.clone())).await;
    assert_eq!((code.as_u16(), &updated["spec"]["finalizers"]), (200, &both), "{updated}");
    let (_, updated) = cluster.put(&finalize, with(json!(["kubernetes"]))).await;
    assert_eq!(updated["spec"]["finalizers"], json!(["kubernetes"]));

    let told = |kind: &str| json!({"type": kind, "status": "True", "reason": "E2E", "message": "by an e2e test"});
    let change = json!({"metadata": {"annotations": {"e2e-patched-ns-status": "ns"}},
        "status": {"conditions": [told("StatusPatch")]}});
    let (code, patched) = cluster.patch(&format!("{path}/status"), MERGE, change).await;
    assert_eq!(code, 200, "{patched}");
    assert_eq!(patched["metadata"]["annotations"]["e2e-patched-ns-status"], "ns");
    let mut next = patched;
    next["status"]["conditions"].as_array_mut().unwrap().push(told("StatusUpdate"));
    let (code, updated) = cluster.put(&format!("{path}/status"), next).await;
    assert_eq!(code, 200, "{updated}");
    let conditions = updated["status"]["conditions"].as_array().unwrap();
    assert_eq!((conditions.len(), &updated["status"]["phase"]), (2, &json!("Active")));
    let label = json!({"metadata": {"labels": {"ns-test": "updated"}}});
    let (_, patched) = cluster.patch(&path, STRATEGIC, label).await;
    assert_eq!(patched["status"], updated["status"], "only the labels change");
}

#[tokio::test]
async fn a_pods_generation_counts_from_one_and_its_status_is_patched() {
    let cluster = Cluster::start().await.with_default_account().await;
    const PODS: &str = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p", "generation": 100},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    let (path, made) = create(&cluster, PODS, pod).await;
    assert_eq!(made["metadata"]["generation"], 1);
    let words = json!({"status": {"message": "Patched by e2e test", "reason": "E2E"}});
    let (code, patched) = cluster.patch(&format!("{path}/status"), STRATEGIC, words).await;
    assert_eq!(code, 200, "{patched}");
    assert_eq!(patched["status"]["reason"], "E2E");
    assert_eq!(patched["metadata"]["generation"], 1, "a status is no new generation");
    let image = json!({"spec": {"containers": [{"name": "c", "image": "another"}]}});
    let (_, patched) = cluster.patch(&path, STRATEGIC, image).await;
    assert_eq!(patched["metadata"]["generation"], 2);
    let tolerated = json!([{"op": "add", "path": "/spec/tolerations/-",
        "value": {"key": "a", "operator": "Exists"}}]);
    let (code, patched) = cluster.patch(&path, "json-patch+json", tolerated).await;
    assert_eq!((code.as_u16(), &patched["metadata"]["generation"]), (200, &json!(3)), "{patched}");
    let (_, going) = cluster.delete(&path).await;
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30, "{going}");
    assert_eq!(going["metadata"]["generation"], 4, "so is its end");
}

#[tokio::test]
async fn a_budgets_status_names_pods_that_are_being_disrupted_until_it_does_not() {
    let cluster = Cluster::start().await;
    const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1,
        "selector": {"matchLabels": {"a": "b"}}}});
    let (path, made) = create(&cluster, BUDGETS, budget).await;
    let mut next = made;
    next["status"]["disruptedPods"] = json!({"p": "2026-11-23T12:00:00Z"});
    let (code, updated) = cluster.put(&format!("{path}/status"), next).await;
    assert_eq!(code, 200, "{updated}");
    assert_eq!(updated["status"]["disruptedPods"]["p"], "2026-11-23T12:00:00Z");
    let change = json!({"status": {"disruptedPods": null}});
    let (code, patched) = cluster.patch(&format!("{path}/status"), MERGE, change).await;
    assert_eq!(code, 200, "{patched}");
    assert_eq!(patched["status"].get("disruptedPods"), None, "{patched}");
    let (_, patched) = cluster.patch(&path, MERGE, json!({"spec": {"minAvailable": "50%"}})).await;
    assert_eq!(patched["metadata"]["generation"], 2, "{patched}");
}
