//! Scale, eviction, approval, finalize, and what Services are given.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::Cluster;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const REQUEST: &str = include_str!("every_resource/request.txt");
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

fn deployment() -> Value {
    json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}})
}

#[tokio::test]
async fn scale_shows_and_sets_one_number() {
    let cluster = Cluster::start().await;
    cluster.post(DEPLOYMENTS, deployment()).await;
    let scale = cluster.get(&format!("{DEPLOYMENTS}/d/scale")).await;
    assert_eq!(scale["spec"]["replicas"], 1);
    assert_eq!(scale["status"]["selector"], "a=b");
    let patch = json!({"spec": {"replicas": 4}});
    let (code, scale) =
        cluster.patch(&format!("{DEPLOYMENTS}/d/scale"), "merge-patch+json", patch).await;
    assert_eq!((code.as_u16(), &scale["spec"]["replicas"]), (200, &json!(4)));
    let object = cluster.get(&format!("{DEPLOYMENTS}/d")).await;
    assert_eq!(
        (&object["spec"]["replicas"], &object["metadata"]["generation"]),
        (&json!(4), &json!(2))
    );
    let patch = json!({"spec": {"replicas": -1}});
    let (code, _) =
        cluster.patch(&format!("{DEPLOYMENTS}/d/scale"), "merge-patch+json", patch).await;
    assert_eq!(code, 422);
}

async fn ready_pod(cluster: &Cluster, name: &str) {
    let pod = json!({"metadata": {"name": name, "labels": {"a": "b"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "x"}]}});
    let (code, made) = cluster.post(PODS, pod).await;
    assert_eq!(code, 201, "{made}");
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    cluster.patch(&format!("{PODS}/{name}/status"), "merge-patch+json", status).await;
}

#[tokio::test]
async fn an_eviction_spends_the_budget_and_then_is_refused() {
    let cluster = Cluster::start().await.with_default_account().await;
    ready_pod(&cluster, "p").await;
    ready_pod(&cluster, "q").await;
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
    cluster.post(BUDGETS, budget).await;
    let evict = |name: &str| {
        let path = format!("{PODS}/{name}/eviction");
        let body =
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        let cluster = &cluster;
        async move { cluster.post(&path, body).await }
    };
    // The budget's controller has not spoken yet.
    assert_eq!(evict("p").await.0, 429);
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2,
        "desiredHealthy": 1, "expectedPods": 2}});
    cluster.patch(&format!("{BUDGETS}/b/status"), "merge-patch+json", status).await;
    let (code, answer) = evict("p").await;
    assert_eq!((code.as_u16(), answer["status"].as_str()), (201, Some("Success")), "{answer}");
    let pod = cluster.get(&format!("{PODS}/p")).await;
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    assert!(pod["status"]["conditions"].to_string().contains("EvictionByEvictionAPI"));
    let (code, refused) = evict("q").await;
    assert_eq!(code, 429);
    assert_eq!(refused["details"]["causes"][0]["reason"], "DisruptionBudget");
    let budget = cluster.get(&format!("{BUDGETS}/b")).await;
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert!(budget["status"]["disruptedPods"]["p"].is_string());
}

#[tokio::test]
async fn admission_is_asked_about_an_eviction_and_not_about_the_deletion_that_it_is() {
    let cluster = Cluster::start().await.with_default_account().await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let never = |operation: &str, resources: Value| {
        json!({"metadata": {"name": operation.to_lowercase()}, "spec": {
            "matchConstraints": {"resourceRules": [{"operations": [operation], "apiGroups": ["*"],
                "apiVersions": ["*"], "resources": resources}]},
            "validations": [{"expression": "false", "message": format!("no {operation}")}]}})
    };
    let deny = async |operation: &str, resources: Value| {
        let path = format!("{group}/validatingadmissionpolicies");
        assert_eq!(cluster.post(&path, never(operation, resources)).await.0, 201);
        let name = operation.to_lowercase();
        let binding = json!({"metadata": {"name": name}, "spec": {
            "policyName": name, "validationActions": ["Deny"]}});
        let path = format!("{group}/validatingadmissionpolicybindings");
        assert_eq!(cluster.post(&path, binding).await.0, 201);
    };
    let evict = async |name: &str| {
        let body =
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        cluster.post(&format!("{PODS}/{name}/eviction"), body).await
    };
    ready_pod(&cluster, "p").await;
    ready_pod(&cluster, "q").await;
    deny("DELETE", json!(["pods", "pods/eviction"])).await;
    assert_eq!(cluster.delete(&format!("{PODS}/p")).await.0, 422);
    assert_eq!(evict("p").await.0, 201);
    let nameless = json!({"apiVersion": "policy/v1", "kind": "Eviction"});
    assert_eq!(cluster.post(&format!("{PODS}/q/eviction"), nameless).await.0, 400);
    deny("CREATE", json!(["pods/eviction"])).await;
    let (code, refused) = evict("q").await;
    assert_eq!(code, 422, "{refused}");
    assert!(refused["message"].as_str().unwrap().ends_with("no CREATE"), "{refused}");
}

#[tokio::test]
async fn an_eviction_of_another_pod_of_that_name_is_refused_before_it_costs_anything() {
    let cluster = Cluster::start().await.with_default_account().await;
    ready_pod(&cluster, "p").await;
    let uid = cluster.get(&format!("{PODS}/p")).await["metadata"]["uid"].clone();
    let version = cluster.get(&format!("{PODS}/p")).await["metadata"]["resourceVersion"].clone();
    let evict = |preconditions: Value| {
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"},
            "deleteOptions": {"preconditions": preconditions}});
        let cluster = &cluster;
        async move { cluster.post(&format!("{PODS}/p/eviction"), body).await }
    };
    for other in [json!({"uid": "other"}), json!({"uid": uid, "resourceVersion": "1"})] {
        let (code, refused) = evict(other).await;
        assert_eq!(
            (code.as_u16(), refused["reason"].as_str()),
            (409, Some("Conflict")),
            "{refused}"
        );
    }
    let pod = cluster.get(&format!("{PODS}/p")).await;
    assert_eq!(pod["metadata"]["resourceVersion"], version, "it is as it was");
    let (code, answer) = evict(json!({"uid": uid, "resourceVersion": version})).await;
    assert_eq!(code, 201, "{answer}");
    assert!(cluster.get(&format!("{PODS}/p")).await["metadata"]["deletionTimestamp"].is_string());
}

/// kubectl's `--dry-run=server` is in the body's DeleteOptions, for `drain` as for `delete`.
#[tokio::test]
async fn a_dry_run_asked_for_in_the_body_deletes_nothing_and_still_asks_the_budgets() {
    let cluster = Cluster::start().await.with_default_account().await;
    ready_pod(&cluster, "p").await;
    let dry = json!({"dryRun": ["All"]});
    let path = format!("{PODS}/p");
    let (head, answer) = cluster.send("DELETE", &path, &[], dry.to_string()).await;
    assert_eq!(head.status, 200, "{answer}");
    let evict = || async {
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"},
            "deleteOptions": dry});
        cluster.post(&format!("{PODS}/p/eviction"), body).await
    };
    assert_eq!(evict().await.0, 201);
    let pod = cluster.get(&path).await;
    assert!(pod["metadata"]["deletionTimestamp"].is_null(), "{pod}");
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
    cluster.post(BUDGETS, budget).await;
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1,
        "desiredHealthy": 1, "expectedPods": 1}});
    cluster.patch(&format!("{BUDGETS}/b/status"), "merge-patch+json", status).await;
    assert_eq!(evict().await.0, 429, "a dry run says what the eviction would");
    let (head, _) =
        cluster.send("DELETE", &path, &[], json!({"dryRun": ["Some"]}).to_string()).await;
    assert_eq!(head.status, 422);
    let both = json!({"orphanDependents": true, "propagationPolicy": "Orphan"}).to_string();
    assert_eq!(cluster.send("DELETE", &path, &[], both).await.0.status, 422);
}

#[tokio::test]
async fn approval_changes_conditions_and_issuing_changes_the_rest() {
    let cluster = Cluster::start().await;
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let request = json!({"metadata": {"name": "r"}, "spec": {"request": REQUEST,
        "usages": ["client auth"], "signerName": "example.com/x", "username": "forged"}});
    let (_, made) = cluster.post(path, request).await;
    assert_eq!(made["spec"]["username"], "admin");
    let mut approved = made.clone();
    approved["status"]["conditions"] =
        json!([{"type": "Approved", "status": "True", "reason": "R"}]);
    let certificate = BASE64_STANDARD.encode(pki::Ca::new("a").unwrap().certificate_pem());
    approved["status"]["certificate"] = certificate.clone().into();
    let (code, approved) = cluster.put(&format!("{path}/r/approval"), approved).await;
    assert_eq!(code, 200, "{approved}");
    assert!(approved["status"].get("certificate").is_none());
    let condition = &approved["status"]["conditions"][0];
    assert!(condition["lastTransitionTime"].is_string());
    let status = format!("{path}/r/status");
    let patch =
        |change: Value| cluster.patch(&status, "merge-patch+json", json!({"status": change}));
    assert_eq!(patch(json!({"certificate": certificate, "conditions": null})).await.0, 422);
    assert_eq!(patch(json!({"certificate": "c29tZQ=="})).await.0, 422);
    let (code, issued) = patch(json!({"certificate": certificate})).await;
    assert_eq!(code, 200, "{issued}");
    assert_eq!(issued["status"]["certificate"], certificate.as_str());
    assert_eq!(issued["status"]["conditions"][0]["type"], "Approved");
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_finalized() {
    let cluster = Cluster::start().await;
    cluster.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await;
    let (_, going) = cluster.delete("/api/v1/namespaces/n").await;
    assert_eq!(going["status"]["phase"], "Terminating");
    let refused =
        cluster.post("/api/v1/namespaces/n/configmaps", json!({"metadata": {"name": "c"}})).await;
    assert_eq!(refused.0, 403);
    let mut finished = going;
    finished["spec"]["finalizers"] = json!([]);
    cluster.put("/api/v1/namespaces/n/finalize", finished).await;
    assert_eq!(cluster.get("/api/v1/namespaces/n").await["code"], 404);
}

#[tokio::test]
async fn a_cluster_begins_with_its_own_service_and_namespaces() {
    let cluster = Cluster::start().await;
    let service = cluster.get(&format!("{SERVICES}/kubernetes")).await;
    assert_eq!(service["spec"]["clusterIP"], "10.100.0.1");
    cluster.api.set_endpoints(&["192.168.0.9".parse().unwrap()]).await.unwrap();
    let endpoints = cluster.get("/api/v1/namespaces/default/endpoints/kubernetes").await;
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "192.168.0.9");
    let (code, clash) = cluster
        .post(SERVICES, json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.100.0.1", "ports": [{"port": 1}]}}))
        .await;
    assert_eq!(code, 422);
    assert!(clash["message"].as_str().unwrap().contains("provided IP is already allocated"));
    assert_eq!(
        cluster.get("/api/v1/namespaces/kube-node-lease").await["status"]["phase"],
        "Active"
    );
}

/// As a version leaves it that knows of no claims: a Service that goes without its address.
#[tokio::test]
async fn maintenance_frees_an_address_whose_service_is_gone() {
    let cluster = Cluster::start().await;
    let service = |name: &str| json!({"metadata": {"name": name, "uid": name}, "spec": {"clusterIP": "10.100.9.9", "ports": [{"port": 1}]}});
    let (store, key) = (&cluster.api.server.store, "core/services/default/old");
    store.commit(mvcc::Txn::put(key, service("old").to_string())).await.unwrap();
    crate::bootstrap::ensure(&cluster.api.server).await.unwrap();
    let ops = vec![mvcc::Op::Delete(key.into())];
    store.commit(mvcc::Txn { guards: Vec::new(), ops }).await.unwrap();
    assert_eq!(cluster.post(SERVICES, service("new")).await.0, 422, "still claimed");
    crate::bootstrap::ensure(&cluster.api.server).await.unwrap();
    let (code, made) = cluster.post(SERVICES, service("new")).await;
    assert_eq!(code, 201, "{made}");
}

#[tokio::test]
async fn default_roles_of_an_older_version_are_brought_up_to_date() {
    let store = mvcc::Store::memory();
    let cluster = Cluster::over(store.clone()).await;
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node-proxier";
    let now = cluster.get(path).await;
    let mut older = now.clone();
    older["rules"] = json!([]);
    cluster.put(path, older).await;
    crate::bootstrap::ensure(&cluster.api.server).await.unwrap();
    assert_eq!(cluster.get(path).await["rules"], json!([]), "only a start does it");
    let cluster = Cluster::over(store).await;
    assert_eq!(cluster.get(path).await["rules"], now["rules"]);
}

#[tokio::test]
async fn addresses_are_free_again_when_a_service_is_gone_and_survive_a_restart() {
    let store = mvcc::Store::memory();
    let start = || Cluster::over(store.clone());
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": "10.100.9.9", "ports": [{"port": 1}]}});
    let cluster = start().await;
    assert_eq!(cluster.post(SERVICES, service("a")).await.0, 201);
    let cluster = start().await;
    assert_eq!(cluster.post(SERVICES, service("b")).await.0, 422);
    cluster.delete(&format!("{SERVICES}/a")).await;
    assert_eq!(cluster.post(SERVICES, service("b")).await.0, 201);
}

#[tokio::test]
async fn a_whole_collection_goes_by_selector() {
    let cluster = Cluster::start().await.with_default_account().await;
    for name in ["p", "q", "r"] {
        let labels = json!({"keep": if name == "r" { "yes" } else { "no" }});
        let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
        cluster.post(PODS, pod).await;
    }
    let (code, gone) = cluster.delete(&format!("{PODS}?labelSelector=keep%3Dno")).await;
    assert_eq!((code.as_u16(), gone["items"].as_array().unwrap().len()), (200, 2));
    assert_eq!(cluster.get(PODS).await["items"][0]["metadata"]["name"], "r");
}

#[tokio::test]
async fn a_resize_neither_renames_nor_reorders_containers_and_adds_none() {
    let cluster = Cluster::start().await.with_default_account().await;
    let sized = |name: &str, cpu: &str| json!({"name": name, "image": "x", "resources": {"requests": {"cpu": cpu}}});
    let of = |all: &[Value]| json!({"metadata": {"name": "p"}, "spec": {"containers": all}});
    cluster.post(PODS, of(&[sized("c1", "1"), sized("c2", "1")])).await;
    let path = format!("{PODS}/p/resize");
    let strategic = "strategic-merge-patch+json";
    let short = |name: &str| json!({"name": name, "resources": {"requests": {"cpu": "2"}}});
    let reorder = json!({"spec": {"containers": [short("c2"), short("c1")]}});
    let (code, refused) = cluster.patch(&path, strategic, reorder).await;
    let moved = "containers may not be renamed or reordered on resize";
    let both = format!(
        "spec.containers[0].name: Forbidden: {moved}, spec.containers[1].name: Forbidden: {moved}"
    );
    let said = refused["message"].as_str().unwrap_or_default();
    assert!(code == 422 && said.contains(&both), "{code} {said}");
    let with = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut all = vec![sized("c1", "1"), sized("c2", "1")];
        change(&mut all);
        of(&all)
    };
    for (wrong, why) in [
        (
            with(&|it| it[1]["name"] = "new".into()),
            format!("spec.containers[1].name: Forbidden: {moved}"),
        ),
        (
            with(&|it| drop(it.pop())),
            "spec.containers: Forbidden: containers may not be added or removed on resize"
                .to_owned(),
        ),
    ] {
        let (code, refused) = cluster.put(&path, wrong).await;
        let said = refused["message"].as_str().unwrap_or_default();
        assert!(code == 422 && said.contains(&why), "{code} {said}");
    }
    let (code, resized) = cluster.put(&path, of(&[sized("c1", "2"), sized("c2", "1")])).await;
    assert_eq!(
        (code.as_u16(), &resized["spec"]["containers"][0]["resources"]["requests"]["cpu"]),
        (200, &json!("2"))
    );
}
